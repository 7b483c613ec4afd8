"""`run.json`: what a run says about itself, read as something that anyone may have written.

Every field has a type; a value of another type counts as absent, so that whoever reads a field gets what they expect or
nothing.
"""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError
from cnnprobe.machine import files
from cnnprobe.store.kinds import fits

NAME = "run.json"
LARGEST = 2**26
"""Bytes; a run over a million images that lists all it left out has less."""
STATES = ("running", "complete", "interrupted", "failed")
IMAGES = {"name": str, "images": int, "fingerprint": str, "size?": [int], "sample?": str}
"""Of a set of images."""
FIELDS: dict[str, Any] = {
    "command": str,
    "overrides": [str],
    "status": STATES,
    "started": datetime,
    "ended": datetime,
    "seconds": float,
    "resumed": int,
    "sweep": str,
    "seed": int,
    "device": str,
    "threads": int,
    "weights": {"label?": str, "sha256?": str, "moments?": {str: str}},
    "dataset": IMAGES,
    "held_out": IMAGES,
    "batch_size": int,
    "built_from": [str],
    "identity": {str: str},
    "run_later": {str: str},
    "working_directory": str,
    "place": str,
    "versions": {str: str},
    "environment": {str: str},
    "commit": str,
    "commits": [str],
    "code": str,
    "machine": {str: str},
    "process": int,
    "kept": str,
    "headline": {str: (str, float, bool, None)},
    "files": {str: str},
    "warnings": [str],
    "skipped": [str],
    "error": str,
    "peak_memory_bytes": int,
    "facts": {
        "epochs?": [{"seconds": float, "images_per_second": float}],
        "batch?": (int, {str: int}),
        "chosen?": [int],
        "ranked?": {str: [int]},
        "skipped?": {int: [int]},
        "judged?": {int: {int: {str: [float]}}},
    },
}
"""Kind of each field, see `kinds.fits`."""


def read(folder: Path) -> dict[str, Any]:
    """Return what the `run.json` of a folder says; {} where there is none, or none that can be read."""
    found = as_written(folder)
    return {key: value for key, value in found.items() if value is not None and _is_known(key, value)}


def strange(folder: Path) -> list[str]:
    """Name the fields whose value is none they can have."""
    return [key for key, value in as_written(folder).items() if not _is_known(key, value)]


def as_written(folder: Path) -> dict[str, Any]:
    """Return the fields of the `run.json` of a folder whatever their values are."""
    path = folder / NAME
    try:
        found = json.loads(files.read(path, LARGEST).decode())
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_known(key: str, value: Any) -> bool:
    """Tell whether a field is what it should be, or not known here (of a newer version); null is absent."""
    return value is None or key not in FIELDS or fits(value, FIELDS[key])


def home(folder: Path) -> Path | None:
    """Return the working directory that the relative paths of a run mean, where that is another one than this."""
    said = working_directory_of(folder)
    return said if said is not None and said.is_dir() and said.resolve() != Path.cwd() else None


def working_directory_of(folder: Path) -> Path | None:
    """Return the working directory that a run was made in; None where that is not known, or the run was moved."""
    said, place = (read(folder).get(key) for key in ("working_directory", "place"))
    if said is None or place is None or "\0" in said + place:
        return None
    home = Path(os.path.expanduser(said))  # noqa: PTH111 (never raises)
    return home if Path(os.path.normpath(home / place)) == folder.resolve() else None


def here() -> str:
    """Return this working directory, for `run.json`: nothing of where the home folder of its user is."""
    own = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111
    place = Path.cwd()
    return str(Path("~") / place.relative_to(own)) if place.is_relative_to(own) else str(place)
