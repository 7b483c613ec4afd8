"""Weights in files: save, read, fit to a network, and fetch those that torchvision publishes."""

import hashlib
import importlib
import json
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from cnnprobe import files
from cnnprobe.errors import UserError
from cnnprobe.models import checkpoints, likeness, packing

PACKAGED = Path(__file__).parent / "published"
"""Trainings that come with the package, each a folder MODEL-DATASET: `weights/`, `run.json` and README.md, the card."""
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # classifiers that only the training of Inception uses; not built here


def sha256(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) of names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(path: Path, state: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors as .safetensors, whole or not at all; the same bytes for the same content.

    Args:
        path: ends in .safetensors.
        state: by name; tensors on any device.
        about: plain values written beside them (model, num_classes, classes, ...), covered by the checksum.
    """
    plain = _apart(state)
    written = {"about": about, "sha256": _checksum(plain, about)}
    files.write(path, to_safetensors(plain, {"cnnprobe": json.dumps(written, sort_keys=True)}))


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU, no two of which share memory (safetensors wants that)."""
    apart, storages = {}, set()
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if storage in storages else value
        storages.add(storage)
    return apart


def _checksum(state: Mapping[str, Tensor], about: dict[str, Any]) -> str:
    return hashlib.sha256((json.dumps(about, sort_keys=True) + sha256(state)).encode()).hexdigest()


def about(path: Path) -> dict[str, Any]:
    """Return what `save` wrote beside the weights; {} for a file of someone else."""
    found = checkpoints.metadata(path).get("about", {})
    if not isinstance(found, dict):
        raise UserError(f"{path.name} is damaged: what was written beside its weights cannot be read")
    return found


def read(path: Path, *, finite: bool = True) -> dict[str, Tensor]:
    """Read weights from a .safetensors, .pt or .pth file; code in it is never run.

    Args:
        path: of the file.
        finite: whether NaN and infinite values are refused.

    Raises:
        UserError: the file is no checkpoint, is damaged, holds more than tensors, or holds NaN.
    """
    state = checkpoints.tensors(path)
    written = checkpoints.metadata(path)
    if "sha256" in written and written["sha256"] != _checksum(state, about(path)):
        raise UserError(f"{path.name} does not match its checksum: it was changed or damaged after it was written")
    for name, value in state.items():
        if finite and value.is_floating_point() and not value.isfinite().all():
            what = "NaN" if value.isnan().any() else "infinite values"
            raise UserError(f"{path.name}: weights hold {what} in {name}")
    return state


def classes_in(state: Mapping[str, Tensor], model: nn.Module) -> int | None:
    """Return how many classes a readout has, from its weights.

    Args:
        state: weights of the same network with any number of classes.
        model: built with some number of classes.

    Returns:
        The number; None where the weights belong to another network.
    """
    own = model.state_dict()
    state = whole(state, own)
    if own.keys() != state.keys() or not own:
        return None
    other = [(state[name].shape, value.shape) for name, value in own.items() if state[name].shape != value.shape]
    if not other:
        return next((len(value) for value in reversed(own.values()) if value.dim()), None)
    heads = {(theirs[:1], ours[:1]) for theirs, ours in other if theirs[1:] == ours[1:]}
    same = len(heads) == 1 and all(theirs[1:] == ours[1:] for theirs, ours in other)
    return next(iter(heads))[0][0] if same else None


def fit(model: nn.Module, state: Mapping[str, Tensor], label: str, name: str) -> None:
    """Put weights into a network, all of them or none.

    Args:
        model: the network.
        state: the weights by name.
        label: where they come from, for the message.
        name: of the network, for the message.

    Raises:
        UserError: names or shapes differ: how many, the first of each, and the network that fits better.
    """
    own = model.state_dict()
    state = whole(state, own)
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    if not (missing or extra or shapes):
        model.load_state_dict(state)
        return
    there = classes_in(state, model)
    if there is not None:
        first = own[shapes[0]].shape[0]
        raise UserError(f"{label} is for {there} classes, {name} was asked for with {first}; leave out num_classes")
    parts = [f"{len(missing)} of {len(own)} missing (first {missing[0]})"] if missing else []
    parts += [f"{len(extra)} unknown (first {extra[0][:80]})"] if extra else []
    if shapes:
        theirs, ours = (list(tensors[shapes[0]].shape) for tensors in (state, own))
        parts.append(f"{len(shapes)} of another shape (first {shapes[0]}: {theirs}, {name} has {ours})")
    like = likeness.nearest(state, name)
    hint = f"; it looks like {like}" if like else ""
    raise UserError(f"{label} does not fit {name}: {', '.join(parts)}{hint}")


def whole(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with what files may leave out: counters of batches, and taps that do not exist.

    Args:
        state: as read from a file.
        own: the state of the network they are for.
    """
    return counters(own) | packing.unpacked(state, own)


def counters(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the counters of batches of a network: files of before 2018 lack them, and nothing depends on them."""
    return {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}


def packaged(name: str, options: dict[str, Any]) -> Path | None:
    """Return the folder of the training of a model that comes with this package; None where none does.

    Args:
        name: of the model, as in `model=`.
        options: of that model. A null means: as the weights say.

    Raises:
        UserError: there is one, of other options; the first of them is named.
    """
    for folder in sorted(PACKAGED.glob(f"{name}-*")):
        trained = about(folder / "weights" / "best.safetensors")["model"]
        differ = [
            key for key, value in options.items() if value is not None and key in trained and value != trained[key]
        ]
        differ = [key for key in differ if key not in ("name", "num_classes")]
        if not differ:
            return folder
        other, asked = (f"{differ[0]}={given[differ[0]]}" for given in (trained, options))
        raise UserError(
            f"the published weights of {name} are of {other}, asked for {asked}; weights=random, or train it"
        )
    return None


def published_on_disk(name: str, options: dict[str, Any]) -> Path | None:
    """Return the file of a model's published weights where torchvision has left it; None where it has not.

    Args:
        name: of the model, as in `model=`.
        options: of that model, without name and num_classes.

    Raises:
        UserError: these options make no network; told before its weights are looked for.
    """
    kind = importlib.import_module(f"cnnprobe.models.{name.replace('-', '_')}")
    kind.needs(**options)
    entry = _published(kind, options)
    path = _cached(entry.url) if entry is not None else None
    return path if path is not None and path.is_file() else None


def published(name: str, kind: ModuleType, options: dict[str, Any], num_classes: int | None) -> nn.Module:
    """Build a model with its published weights, fetched by torchvision's own address if they are not on disk.

    Args:
        name: of the model, as in `model=`.
        kind: its module.
        options: of the model, without name and num_classes.
        num_classes: asked for; the published readout is kept whatever it says, `transfer` replaces it.

    Returns:
        The model; its attribute `classes` holds the names of the published classes.

    Raises:
        UserError: nobody has published weights of this model, or they cannot be fetched.
    """
    entry = _published(kind, options)
    if entry is None:
        raise UserError(f"{name} has no published weights; weights=random, a run of train, or a file")
    path = _cached(entry.url)
    if not path.is_file():
        _fetch(name, entry.url, path)
    state = {key: value for key, value in read(path).items() if not key.startswith(AUXILIARY)}
    model = kind.build(num_classes=len(entry.meta["categories"]), **options)
    fit(model, _renamed(state, model), path.name, name)
    model.classes = tuple(entry.meta["categories"])
    return model


def _renamed(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give DenseNet's weights of 2017 the names of today ("norm.1" is "norm1"), as torchvision does."""
    own = model.state_dict()
    if state.keys() == own.keys() or not any(".norm.1." in key for key in state):
        return state
    return {key if key in own else _today(key): value for key, value in state.items()}


def _today(key: str) -> str:
    return key.replace("norm.", "norm").replace("conv.", "conv")


def _published(kind: ModuleType, options: dict[str, Any]) -> Any:
    """Return torchvision's entry of the weights: the first ones, which the usual 224 from 256 px belong to."""
    if not hasattr(kind, "architecture"):
        return None
    from torchvision import models

    entries = models.get_model_weights(kind.architecture(**options))
    named = {entry.name: entry for entry in entries}
    return named.get("IMAGENET1K_V1") or getattr(entries, "DEFAULT", None)


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _fetch(name: str, url: str, path: Path) -> None:
    """Download with torch's own client; the file's name ends in the first digits of its sha256, which it checks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:120]
        raise UserError(
            f"cannot fetch the published weights of {name} ({reason}); put {path.name} into {path.parent}, "
            "or take weights=random or a file"
        ) from None
