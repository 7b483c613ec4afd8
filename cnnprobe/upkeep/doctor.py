"""Is this machine fit for work? Packages, device, threads, memory, disk, the store, and figures.

Everything that a run needs is tried here once: every package against the range this cnnprobe was made for, torch and
torchvision together, the GPU where there is one, a store written, read and locked in `out`, a figure drawn. Each line
is ok, a warning or an error, and says what to do where something is wrong. Status 2 where there is an error. Nothing is
left behind.

    cnnprobe doctor
    cnnprobe doctor out=~/results
"""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, provenance, room, signals
from cnnprobe.machine.version import __version__
from cnnprobe.store import folders, locks
from cnnprobe.upkeep.findings import Finding, told

LITTLE_MEMORY = 2e9  # bytes; with less, batches of large images may have to be made smaller
LITTLE_DISK = 1e9  # bytes; maps of some thousand images take more


def run(names: list[str], out: str) -> int:
    """Look at everything, print what was found, and return 0.

    Args:
        names: must be empty.
        out: folder of all runs; made for a moment where it is not there.

    Raises:
        UserError: a word was given; or something is wrong.
    """
    if names:
        raise UserError(f"doctor takes no {names[0]!r}; options: {listing(catalogue.UPKEEP_OPTIONS)}")
    errors = told(looked(out))
    if errors:
        raise UserError(f"{errors} thing{'' if errors == 1 else 's'} wrong; see above")
    return 0


def looked(out: str) -> Iterator[Finding]:
    """Look at everything."""
    place = Path(out)
    looks = {"cnnprobe": own, "packages": packages, "device": device, "torchvision": torchvision, "memory": memory}
    yield from each(looks | {"disk": lambda: disk(place), "store": lambda: store(place), "figures": figures})


def each(looks: dict[str, Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """Look at one thing after the other, whatever is wrong with those before."""
    for subject, look in looks.items():
        signals.between_imports()
        try:
            yield from look()
        except Exception as error:  # whatever a broken installation raises, the rest is looked at all the same
            reason = " ".join(str(error).split()).removesuffix("; choose another out=") or "no reason given"
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            yield Finding("error", subject, f"{kind}{reason}", REMEDIES.get(subject, INSTALL))


INSTALL = "install cnnprobe once more into a new environment: make setup"
REMEDIES = {
    "disk": "choose another out=",
    "store": "choose another out=, on a disk of this machine",
    "torchvision": "take both from one source: pip install --upgrade torch torchvision",
}


def own() -> Iterator[Finding]:
    """Say which cnnprobe this is, under which Python."""
    commit = provenance.commit()
    found = [__version__ + (f" (commit {commit[:12]})" if commit else ""), f"Python {platform.python_version()}"]
    found.append(f"{len(catalogue.commands())} commands, configurations in {catalogue.configs_dir()}")
    yield Finding("ok", "cnnprobe", ", ".join(found))
    if sys.dont_write_bytecode:
        text = "PYTHONDONTWRITEBYTECODE is set: every start compiles everything once more"
        yield Finding("warning", "cnnprobe", text, "unset it")


def packages() -> Iterator[Finding]:
    """Compare what is installed with the ranges that this cnnprobe asks for; then the extras, which nobody needs."""
    from packaging.requirements import Requirement

    if installed("cnnprobe") is None:
        yield Finding("warning", "packages", "cnnprobe runs without being installed: its needs are not known", INSTALL)
        return
    there: list[str] = []
    extras: dict[str, list[tuple[str, str | None]]] = {}
    for requirement in map(Requirement, metadata.requires("cnnprobe") or []):
        version = installed(requirement.name)
        marked = re.search(r"""extra\s*==\s*['"](.+?)['"]""", str(requirement.marker or ""))
        if marked:
            extras.setdefault(marked[1], []).append((requirement.name, version))
        elif requirement.marker is not None and not requirement.marker.evaluate():
            continue  # of another system, or of another Python
        elif version is None:
            yield Finding("error", requirement.name, "is not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(version, prereleases=True):
            text = f"{version}, and cnnprobe was made for {requirement.specifier}"
            yield Finding("warning", requirement.name, text, f"pip install '{requirement}'")
        else:
            there.append(f"{requirement.name} {version}")
    yield Finding("ok", "packages", listing(there, 40))
    for extra, parts in extras.items():
        missing = [name for name, version in parts if version is None]
        text = f"not there: {listing(missing)} (pip install 'cnnprobe[{extra}]')" if missing else "there"
        yield Finding("ok", f"extra {extra}", text)


def installed(name: str) -> str | None:
    """Return the version of a package that is installed, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device() -> Iterator[Finding]:
    """Say where networks will run and with how many threads, and try the GPU where there is one."""
    import torch

    from cnnprobe.machine.devices import cores

    said = os.environ.get("OMP_NUM_THREADS")
    limited = f" (OMP_NUM_THREADS={said})" if said else ""
    text = f"{cores()} of {os.cpu_count()} processors{limited}; device.threads= changes it"
    yield Finding("ok", "threads", text)
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        total = torch.cuda.get_device_properties(number).total_memory
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        if (ones @ ones != 64).any():
            raise UserError(f"{torch.cuda.get_device_name(number)} computes wrong numbers")
        free = torch.cuda.mem_get_info(number)[0]
        text = f"{torch.cuda.get_device_name(number)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        yield Finding("ok", f"device cuda:{number}", text)
    if torch.cuda.is_available():
        return
    if torch.version.cuda and Path("/dev/nvidia0").exists():
        text = f"there is an NVIDIA GPU, and torch {torch.__version__} cannot use it"
        yield Finding("warning", "device", text, "the driver is older than this torch wants, or not loaded: nvidia-smi")
    else:
        yield Finding("ok", "device", f"{provenance.machine()['processor']}; no CUDA GPU")


def torchvision() -> Iterator[Finding]:
    """Load torchvision and call an operator that it compiled against torch: both must be of one build."""
    versions = f"torchvision {installed('torchvision')} with torch {installed('torch')}"
    try:
        import torch
        import torchvision.ops

        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
    except Exception as error:  # an operator that does not exist, a library that cannot be loaded, …
        reason = f"{versions} does not load ({' '.join(str(error).split())[:160]})"
        raise UserError(reason) from None
    if kept != [1, 2]:
        raise UserError(f"{versions} gives wrong results")
    yield Finding("ok", "torchvision", f"{versions} loads")


def memory() -> Iterator[Finding]:
    """Say how much memory is free, of the machine or of the container."""
    free = room.available()
    if free is None:
        yield Finding("ok", "memory", "this system does not say how much is free")
    elif free < LITTLE_MEMORY:
        text = f"{free / 1e9:.1f} GB free"
        yield Finding("warning", "memory", text, "end other programs, or take batch_size=8 device.workers=0")
    else:
        yield Finding("ok", "memory", f"{free / 1e9:.1f} GB free")


def disk(out: Path) -> Iterator[Finding]:
    """Say how much room there is for runs."""
    there = next(path for path in [out, *out.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    little = free < LITTLE_DISK
    text = f"{free / 1e9:.1f} GB free for {out}"
    yield Finding("warning" if little else "ok", "disk", text, "make room, or choose another out=" if little else "")


def store(out: Path) -> Iterator[Finding]:
    """Write, read, lock and link a small run in `out`, and take everything away again."""
    made = [path for path in [out, *out.parents] if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=out))
    except OSError as error:
        raise folders.unwritable(out, error) from None
    try:
        _write_and_read(folder / "store.h5")
        lock = locks.Lock(folder)
        held = locks.holder(folder) is not None
        lock.release()
        if not held:
            text = f"files in {out} cannot be locked: two processes could write one run"
            yield Finding("warning", "store", text, "choose another out=, on a disk of this machine")
        try:
            files.link(folder / "latest", "store.h5")
        except OSError:
            text = f"{out} takes no symbolic links: there will be no `latest`"
            yield Finding("warning", "store", text, "name runs by their numbers")
        yield Finding("ok", "store", f"written and read{', locked' if held else ''} in {out}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # somebody else has put something there meanwhile
            for path in made:
                path.rmdir()


def _write_and_read(path: Path) -> None:
    import numpy as np

    from cnnprobe.store.reader import Recording
    from cnnprobe.store.tables import Column, Rows, Table
    from cnnprobe.store.writer import Writer

    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = Table("units/probe", "unit", 4, {"response": Column("what was written", "k", (3,))}, batch=2)
    writer = Writer.create(path, [table], {"command": "doctor"})
    try:
        for start in (0, 2):
            writer.write(Rows(table.name, start, {"response": values[start : start + 2]}))
        writer.finish()
    finally:
        writer.close()
    if not np.array_equal(Recording(path)[table.name]["response"], values):
        raise UserError(f"what is written in {path.parent.parent} does not come back as it was")


def figures() -> Iterator[Finding]:
    """Draw a figure, and see whether the font has letters beyond the Latin ones."""
    from cnnprobe.plots import style

    pages = [style.png(style.figure(1, 1, title)) for title in ("one", "two", "日", "本")]
    if not all(page.startswith(b"\x89PNG") for page in pages) or pages[0] == pages[1]:
        raise UserError("figures are drawn without text")
    boxes = "; letters that the font lacks (日本) are drawn as boxes" if pages[2] == pages[3] else ""
    yield Finding("ok", "figures", f"drawn{boxes}")
