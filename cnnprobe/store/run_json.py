"""`run.json`: what a run says about itself, read as something that anyone may have written.

Every field has a type; a value of another type counts as absent, so that whoever reads a field gets what they expect or
nothing.
"""

import json
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
