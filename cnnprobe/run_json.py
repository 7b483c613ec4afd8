"""`run.json`: what a run says of itself, read as something that anyone may have written.

Every field has a type; a value of another type counts as absent, so that whoever reads a field gets what they expect or
nothing.
"""

import json
import math
from pathlib import Path
from typing import Any

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
    "started": str,
    "ended": str,
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
    "named_files": {str: str},
    "working_directory": str,
    "place": str,
    "versions": {str: str},
    "commit": str,
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
"""Kind of each field: a type; several kinds or texts; [kind of every item]; {type of every key: kind of every value};
or {name: kind}, where names with "?" may be missing."""


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
        if not path.is_file() or path.stat().st_size > LARGEST:  # a pipe would be waited for
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_known(key: str, value: Any) -> bool:
    """Tell whether a field is what it should be, or not known here (of a newer version); null is absent."""
    return value is None or key not in FIELDS or fits(value, FIELDS[key])


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value of JSON is of a kind, see `FIELDS`; an int is a float, a bool is neither."""
    if isinstance(kind, tuple):
        return any(value == one if isinstance(one, str | None) else fits(value, one) for one in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and _fits_names(value, kind)
    if kind in (bool, str):
        return isinstance(value, kind)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= 2**53:
        return False
    return isinstance(value, int) or (kind is float and math.isfinite(value))


def _fits_names(value: dict[str, Any], kind: dict[Any, Any]) -> bool:
    ((first, inner), *_) = kind.items()
    if isinstance(first, str):
        for name, inner in kind.items():
            own = name.removesuffix("?")
            if own not in value:
                if own == name:
                    return False
            elif not fits(value[own], inner):
                return False
        return True
    return all((first is str or _is_number(key)) and fits(item, inner) for key, item in value.items())


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 16
