"""Work of which no row is saved yet, kept beside the store by time, so that a stop of any kind loses little of it.

A ranking has no row before its last image, and a row may take minutes. Whoever does such work begins a part of it under
a name and hands over two functions: one that returns all there is of it, one that takes that back. The runner asks for
it at the events of the measurement, every `PERIOD` seconds and when the run is stopped; a killed run has what was kept
last. What is kept is never a result: it goes when the rows that hold it are saved, and at the end of the run at last.
"""

import io
import json
import logging
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.machine import files, room
from cnnprobe.machine.version import __version__
from cnnprobe.store.containers.archives import members
from cnnprobe.store.kinds import fits
from cnnprobe.store.tables import Name

LOG = logging.getLogger("cnnprobe")
FOLDER = "unfinished"
"""Of a run folder."""
PERIOD = 20.0
"""Seconds between two moments at which everything is kept."""
SHARE = 0.02
"""Of the time of a run that keeping may take: where it takes longer, it is done less often."""
ABOUT = {"name": str, "version": str, "done": bool}
"""Kind of what stands in a file beside the state, see `kinds.fits`."""
State = dict[str, Any]
"""Arrays (of NumPy or torch), numbers, texts, and lists and dicts of these."""


@dataclass
class _Part:
    """One part of the work: how to ask for what there is of it, and whether that has been kept."""

    take: Callable[[], State | None]
    done: bool = False
    kept: bool = False


class Unfinished:
    """Keeps parts of the work of one run. Without a folder nothing is kept: in Python, a stopped loop is its caller's.

    Args:
        before: folder in which a stopped run has left something, or None.
        origin: digest of what the run's results come from, see `store.origin`; None: not known.

    Attributes:
        folder: where things are kept; set when the run has a folder.
    """

    def __init__(self, before: Path | None = None, origin: str | None = None):
        self.folder = self.before = before
        self.origin = origin
        self.parts: dict[str, _Part] = {}
        self.due = time.monotonic() + PERIOD

    def begin(self, name: str, take: Callable[[], State | None], restore: Callable[[State], None]) -> bool:
        """Begin a part of the work, or go on with what a stopped run had of it.

        Args:
            name: of the part; a slash belongs to the part before it, see `drop`.
            take: returns what there is, whenever the generator that does the work stands at a `yield`; None: not now,
                but at a later one. What it returns is written before the work goes on.
            restore: takes back what `take` had returned.

        Returns:
            whether the part was done already.

        Raises:
            UserError: what is kept is not what this part of the run would have left.
        """
        part = self.parts[name] = _Part(take)
        found = self._read(name)
        if self.before is None or found is None:
            return False
        try:
            restore(found["state"])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            path = self._path(self.before, name)
            why = f"({type(error).__name__}); delete it, and that part is done again"
            raise UserError(f"{path} is not what this run left of {name} {why}") from None
        part.kept = part.done = bool(found["done"])
        return part.done

    def end(self, name: str) -> None:
        """Say that a part is done: what it came to is kept until it is dropped, and not worked out again."""
        if self.folder is None:
            del self.parts[name]
            return
        part, state = self.parts[name], self.parts[name].take()
        part.take, part.done, part.kept = lambda: state, True, False

    def drop(self, name: str) -> None:
        """Forget a part and all that belong to it: rows that are saved hold it now."""
        for own in [one for one in self.parts if one == name or one.startswith(f"{name}/")]:
            del self.parts[own]
            if self.folder is not None:
                path = self._path(self.folder, own)
                files.still_held(path)
                path.unlink(missing_ok=True)

    def within(self, name: str) -> "Within":
        """Return what keeps things as parts of a part."""
        return Within(self, name)

    def keep_in_time(self) -> None:
        """Keep everything if it is time to."""
        if time.monotonic() >= self.due:
            self.keep()

    def keep(self) -> bool:
        """Keep everything now; returns False where a part cannot be asked for at this moment."""
        began, whole = time.monotonic(), True
        for name, part in self.parts.items():
            if self.folder is None or part.kept:
                continue
            state = part.take()
            if state is None:
                whole = False
                continue
            try:
                self.folder.mkdir(exist_ok=True)
                files.write(self._path(self.folder, name), packed(name, part.done, state, self.origin))
            except OSError as error:  # rows are what counts; what has no row yet is done again
                LOG.warning(f"what is not a row yet cannot be kept ({error.strerror}); a stop would lose it")
                self.folder = None
                return True
            part.kept = part.done
        ended = time.monotonic()
        self.due = ended + max(PERIOD, (ended - began) / SHARE)
        return whole

    def clear(self) -> None:
        """Take everything away: the run is complete."""
        self.parts.clear()
        if self.folder is not None:
            files.still_held(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, folder: Path, name: str) -> Path:
        return folder / f"{re.sub('[^A-Za-z0-9.=-]+', '_', name)[:80]}-{zlib.crc32(name.encode()):08x}.npz"

    def _read(self, name: str) -> dict[str, Any] | None:
        """Return what a stopped run has left of a part; None where that is nothing, or of another version."""
        path = None if self.before is None else self._path(self.before, name)
        if path is None or not path.is_file():
            return None
        try:
            found = unpacked(path)
        except MemoryError:
            raise
        except Exception:  # whatever reading a stranger's archive raises
            LOG.warning(f"{path.name} cannot be read; what the stopped run had of {name} is done again")
            return None
        if (found["name"], found["version"]) != (name, __version__):
            return None
        if self.origin is not None and found.get("origin") != self.origin:
            LOG.warning(f"{path.name} is of another run; what the stopped run had of {name} is done again")
            return None
        return found


@dataclass(frozen=True)
class Within:
    """Keeps what belongs to a part of the work: the names begin with that of the part.

    Args:
        whole: keeps it.
        name: of the part.
    """

    whole: Unfinished
    name: str

    def begin(self, name: str, take: Callable[[], State | None], restore: Callable[[State], None]) -> bool:
        """See `Unfinished.begin`."""
        return self.whole.begin(f"{self.name}/{name}", take, restore)

    def end(self, name: str) -> None:
        """See `Unfinished.end`."""
        self.whole.end(f"{self.name}/{name}")

    def drop(self, name: str) -> None:
        """See `Unfinished.drop`."""
        self.whole.drop(f"{self.name}/{name}")


def put(arrays: dict[Name, np.ndarray], state: State) -> None:
    """Put the values of a state into arrays (of NumPy or torch) of the same names and shapes.

    Raises:
        ValueError, RuntimeError, KeyError: they do not fit.
    """
    for name, own in arrays.items():
        if own.shape != state[name].shape:
            raise ValueError(f"{name} must be {tuple(own.shape)}, got {state[name].shape}")
        if isinstance(own, np.ndarray):
            own[...] = state[name]
        else:
            own.copy_(own.new_tensor(state[name]))


def packed(name: str, done: bool, state: State, origin: str | None = None) -> memoryview:
    """Return a state as the bytes of a file, whose parts have checksums."""
    arrays: dict[str, np.ndarray] = {}
    about = {"name": name, "version": __version__, "done": done, "state": _separate(state, arrays)}
    about |= {} if origin is None else {"origin": origin}
    parts: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays}
    target = io.BytesIO()
    np.savez(target, **parts)
    return target.getbuffer()


def unpacked(path: Path) -> dict[str, Any]:
    """Return `name`, `version`, `done` and `state`; raises one of many errors where the file is damaged.

    Raises:
        MemoryError: it does not fit; a few bytes on the disk may stand for any number of zeros.
    """
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in members(archive, path.name))
    if claimed > path.stat().st_size:
        raise ValueError("it claims more than it has: nothing that is kept is compressed")
    if claimed > (room.available() or claimed):
        raise MemoryError
    with np.load(path, allow_pickle=False) as found:
        arrays = dict(found)
    about = json.loads(arrays.pop("about").tobytes())
    if not fits(about, ABOUT):
        raise ValueError(f"it must say {', '.join(ABOUT)}")
    return about | {"state": _join(about["state"], arrays)}


def _separate(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Move arrays out of a nested value; each leaves {"array": its name}."""
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, dict):
        return {"map": [[key, _separate(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_separate(item, arrays) for item in value]}
    return value.item() if isinstance(value, np.generic) else value


def _join(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "map" in value:
        return {key: _join(item, arrays) for key, item in value["map"]}
    return [_join(item, arrays) for item in value["list"]]
