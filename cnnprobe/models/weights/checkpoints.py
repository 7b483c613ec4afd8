"""Read a file of tensors that anyone may have made: data, never code, and one line where it is something else."""

import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cnnprobe.errors import UserError
from cnnprobe.models.weights import extra_state, pickles
from cnnprobe.store.containers import archives
from cnnprobe.store.containers.pickle_steps import Oversized

LARGEST = 16 * 2**30  # bytes; the largest published classifiers have 2.6 GB
ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6: the number that begins its first pickle
PROGRAMS = ("/constants.pkl", "/archive_format", "serialized_exported_program.json")
"""Members of archives that torch.jit.save and torch.export.save write."""
SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file itself",
}
DEEPEST = 16  # dicts and lists in each other, in a .pt file
SMALL = 2**26  # bytes that extra states and their tensors may have in any file
LONGEST = 1000  # letters of the joined names of a tensor


def tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a .safetensors, .pt or .pth file; the content decides the format.

    Names are those of the file. Nested dicts and lists are opened, their keys joined by dots: "state_dict.conv.weight",
    "optimizer.state.0.exp_avg"; numbers and texts in them are left out. `matching` finds a network's weights there.

    Raises:
        UserError: the file is no checkpoint, is cut off, damaged, holds code, or claims more than it has.
    """
    head = _head(path)
    if head.startswith(ZIP):
        _check_archive(path)
    if head.startswith((ZIP, LEGACY)):
        state = _state_dict(path, _unpickled(path))
    else:
        state = _safetensors(path, head)
    for name, value in state.items():
        _check_tensor(path, name, value)
    _check_storages(path, state)
    return state


def metadata(path: Path) -> dict[str, Any]:
    """Return what cnnprobe wrote beside the tensors of a .safetensors file; {} for other files."""
    head = _head(path)
    if head.startswith((ZIP, LEGACY)):
        return {}
    with _opened(path, head) as source:
        text = (source.metadata() or {}).get("cnnprobe")
    try:
        written = json.loads(text) if text is not None else {}
        return dict(written)
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{path.name} is damaged: what was written beside its weights cannot be read") from None


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular file of a size that can be a checkpoint's."""
    if not path.is_file():
        raise UserError(f"{path} is not a file" if path.exists() else f"there is no file {path}")
    size = path.stat().st_size
    if size > LARGEST:
        raise UserError(f"{path.name} is too large ({size / 2**30:.1f} GB; limit {LARGEST >> 30} GB)")
    if size == 0:
        raise UserError(f"{path.name} is not a checkpoint (empty file)")
    try:
        with path.open("rb") as source:
            return source.read(512)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _check_archive(path: Path) -> None:
    """Check every member's checksum, and that nothing grows when it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archives.members(archive, path.name, any_case=True)
            if any(member.filename.endswith(PROGRAMS) for member in found):
                kind = "a network that was compiled (TorchScript) or exported, not weights"
                raise UserError(f"{path.name} is {kind}; save the state_dict() of the one it was made from")
            inside, size = sum(member.file_size for member in found), path.stat().st_size
            if inside > size or any(member.compress_type != zipfile.ZIP_STORED for member in found):
                shown = f"{size / 1e6:.1f} MB that unpack to {inside / 1e6:.0f} MB"
                raise UserError(f"{path.name} is compressed ({shown}); refused. Save it as .safetensors")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError):
        raise UserError(f"{path.name} is cut off or damaged: its archive cannot be read") from None
    if damaged is not None:
        raise UserError(f"{path.name} is damaged: {damaged} does not match its checksum")


def _unpickled(path: Path) -> Any:
    """Load with `weights_only`, which builds tensors and plain containers and nothing else, of a size that can be."""
    try:
        with path.open("rb") as file:
            pickles.look(file)
        known = torch.serialization.safe_globals(pickles.plain_types())
        with warnings.catch_warnings(action="ignore"), known:  # what torch warns of is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Oversized as reason:
        raise UserError(f"{path.name} is refused: {reason}. Save it as .safetensors") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)|[Uu]nsupported (?:class|type|operand) (\S+)", str(error))
        if not found:
            raise UserError(f"{path.name} is not a checkpoint, or is cut off") from None
        what = (found[1] or found[2]).replace("posix.system", "os.system").rstrip(".,")
        raise UserError(f"{path.name} holds more than tensors ({what}); refused. Save it as .safetensors") from None
    except Exception:  # what torch raises on a broken file: EOFError, KeyError, RuntimeError, OSError, …
        raise UserError(f"{path.name} is not a checkpoint, or is cut off") from None


def _state_dict(path: Path, loaded: Any) -> dict[str, Tensor]:
    """Return the tensors of nested dicts and lists by their joined names; a module's extra state as one."""
    if not isinstance(loaded, dict):
        raise UserError(f"{path.name} holds a {type(loaded).__name__}, not a state dict (names with tensors)")
    state: dict[str, Tensor] = {}
    seen: set[int] = set()  # what stands in a file twice is opened once; a circle ends

    def collect(value: Any, name: str, depth: int) -> None:
        if isinstance(value, Tensor):
            state.setdefault(name, value)
        elif name.endswith(extra_state.KEY):
            state.setdefault(name, extra_state.encoded(value, name))
        elif isinstance(value, dict | list | tuple) and id(value) not in seen and depth < DEEPEST:
            seen.add(id(value))
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                own = f"{name}.{key}" if name else str(key)
                if len(own) > LONGEST:
                    raise UserError(f"{path.name} has a name of {len(own)} letters; at most {LONGEST} are read")
                collect(item, own, depth + 1)

    collect(loaded, "", 0)
    if not state:
        raise UserError(f"{path.name} holds no tensors; a state dict is needed (names with tensors)")
    return state


def _safetensors(path: Path, head: bytes) -> dict[str, Tensor]:
    state = {}
    with _opened(path, head) as source:
        for name in source.keys():  # noqa: SIM118 - not a dict
            try:
                state[name] = source.get_tensor(name)
            except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
                kind = f"{name[:60]!r} is of a type that cannot be read ({' '.join(str(error).split())[:120]})"
                raise UserError(f"{path.name}: {kind}; save it in float32") from None
    return state


def _opened(path: Path, head: bytes) -> Any:
    """Open a .safetensors file, or say what the file seems to be."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        if len(head) > 8 and head[8:9] == b"{":
            state = "is cut off" if "incomplete" in str(error).lower() else "is cut off or damaged"
            raise UserError(f"{path.name} {state}: {' '.join(str(error).split())}") from None
        raise UserError(f"{path.name} is not a checkpoint ({_guess(head)})") from None


def _guess(head: bytes) -> str:
    """Say what a file seems to be, from its first bytes."""
    for signature, name in SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head.lstrip().startswith(b"<"):
        return "HTML page?"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "text?" if printable > 0.9 * len(head) else "neither .safetensors nor .pt, or cut off"


def _check_tensor(path: Path, name: str, value: Tensor) -> None:
    """Refuse what is not a plain tensor, or claims more elements than its storage holds (stride 0)."""
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        kind = value.layout if value.layout != torch.strided else "quantized" if value.is_quantized else value.device
        raise UserError(f"{path.name} holds {name[:60]!r} as a {kind} tensor; only plain ones may stand there")
    if value.is_floating_point() and value.element_size() < 2:  # torch stores them, and cannot compute with most
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{path.name} holds {name[:60]!r} as {kind}, of less than 16 bits; save it in float32")
    claimed = value.numel() * value.element_size()
    there = value.untyped_storage().nbytes()
    if claimed > there:
        sizes = f"claims {claimed / 1e6:.0f} MB and has {there / 1e6:.1g} MB"
        raise UserError(f"{path.name} is refused: {name[:60]!r} {sizes}")


def _check_storages(path: Path, state: dict[str, Tensor]) -> None:
    """Refuse storages that are larger together than their file: a pickle can ask for one that nothing fills."""
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in state.values()}
    held, there = path.stat().st_size, sum(storages.values())
    if there > max(held, SMALL):
        raise UserError(f"{path.name} is refused: its tensors take {there / 1e6:.3g} MB, the file {held / 1e6:.3g} MB")
