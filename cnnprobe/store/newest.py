"""The newest of some runs: which one that is, and which newer ones are passed over, and why.

All jobs of a sweep mean the same one: what ended after the sweep began is not there for them.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnprobe.store import run_json
from cnnprobe.store.kinds import fits

SAID = "sweep.json"
"""File in the folder of a sweep in which stands when it `began`, for its jobs, which may be in other processes."""
WRITTEN = run_json.NAME, "run.log", "store.h5", "weights", "unfinished"
"""What a run writes to or into until it ends."""


@dataclass(frozen=True)
class Sweep:
    """A sweep, for what is looked for in its jobs.

    Args:
        name: of its folder.
        began: when.
    """

    name: str
    began: datetime


_SWEEP: ContextVar[Sweep | None] = ContextVar("sweep", default=None)


@contextmanager
def as_of(sweep: Path) -> Iterator[None]:
    """Look for the newest runs, inside the block, as of the moment in which a sweep began."""
    said: Any = None
    with suppress(OSError, ValueError, TypeError, LookupError):
        said = json.loads((sweep / SAID).read_text(encoding="utf-8"))["began"]
    token = _SWEEP.set(Sweep(sweep.name, datetime.fromisoformat(said)) if fits(said, datetime) else None)
    try:
        yield
    finally:
        _SWEEP.reset(token)


def number(folder: Path) -> int:
    """Return 12 for v012."""
    return int(folder.name.removeprefix("v"))


def moment(about: dict[str, Any]) -> datetime:
    """Return when a run ended, else when it began; the first of all moments where its `run.json` does not say so."""
    said = about.get("ended") or about.get("started")
    return datetime.fromisoformat(said) if said else datetime.min.replace(tzinfo=UTC)


def stopped(folder: Path) -> datetime:
    """Return when a run ended; of one that was killed, which could not say so, when it last wrote something."""
    about = run_json.read(folder)
    moments = [moment(about)]
    for name in WRITTEN if about.get("status") == "running" and not about.get("ended") else ():
        with suppress(OSError):
            moments.append(datetime.fromtimestamp((folder / name).stat().st_mtime, UTC))
    return max(moments)


def are_in_order(run: Path, about: dict[Path, dict[str, Any]]) -> bool:
    """Say whether the clock did not go back between the beginnings of a run and of those of its name that came later.

    Args:
        run: its folder.
        about: of all runs, what their `run.json` says.
    """
    later = [one for one in about if one.parent == run.parent and number(one) >= number(run)]
    began: list[Any] = [about[one].get("started") for one in (run, *later)]
    return all(began) and min(map(datetime.fromisoformat, began)) == datetime.fromisoformat(began[0])


def unreadable(folder: Path) -> str:
    """Say of a folder what is damaged by which nobody knows how its run ended; "" where there is no run."""
    there = any((folder / name).is_file() for name in (run_json.NAME, "store.h5"))  # before them it is no run yet
    return "has no run.json that can be read" if there else ""


def unfit(folder: Path) -> str | None:
    """Say why a run is not to be taken: "" where that is as it should be; None where it is complete."""
    about = run_json.read(folder)
    if "status" not in about:
        return unreadable(folder)
    if about["status"] != "complete":
        return ""
    if not (folder / "store.h5").is_file():
        return "has lost its store.h5"
    sweep = _SWEEP.get()
    if sweep is not None and moment(about) > sweep.began:
        return "" if about.get("sweep") == sweep.name else "ended after this sweep began"
    return None


def newest(runs: Iterable[Path], why_not: Callable[[Path], str | None]) -> tuple[Path | None, dict[Path, str]]:
    """Find the newest of some runs: of one name that with the largest number, whatever the clock said.

    Args:
        runs: folders called v001 or the like.
        why_not: says of a run why it is not to be taken, see `unfit`.

    Returns:
        the run, None where there is none; and each newer one that had a reason to be told.
    """
    names: dict[Path, list[Path]] = {}
    for run in sorted(runs, key=number, reverse=True):
        names.setdefault(run.parent, []).append(run)
    found: list[Path] = []
    passed: dict[Path, str] = {}
    for own in names.values():
        for run in own:
            why = why_not(run)
            if why is None:
                found.append(run)
                break
            passed |= {run: why} if why else {}
    moments = {run: stopped(run) for run in found}
    taken = max(found, key=lambda path: (moments[path], path), default=None)
    if taken is None:
        return None, passed
    newer = (run for run in passed if run.parent == taken.parent or _changed(run) > moments[taken])
    return taken, {run: passed[run] for run in newer}


def _changed(folder: Path) -> datetime:
    """Return when a run ended or began; of one that cannot say so, when it was written to."""
    about = run_json.read(folder)
    written = datetime.min.replace(tzinfo=UTC)
    with suppress(OSError):
        path = folder / run_json.NAME
        written = datetime.fromtimestamp((path if path.exists() else folder).stat().st_mtime, UTC)
    return moment(about) if "ended" in about or "started" in about else written
