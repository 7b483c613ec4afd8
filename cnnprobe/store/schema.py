"""The kinds of the attributes of a store, whoever wrote it: checked when it is opened.

A name has one kind wherever it stands. Names that are not listed here are of a newer version, and not looked at; nor
are those that an experiment of the user's own gives its tables.
"""

import json
from collections.abc import Mapping
from typing import Any

from cnnprobe.store.kinds import fits

TEXTS = (
    "along", "axes", "channels", "checkpoint", "command", "comparison", "conditions", "config", "contrast", "criteria",
    "criterion", "dataset", "dataset_fingerprint", "description", "direction", "display", "ends", "engine",
    "families", "field_note", "filling", "fingerprint", "format", "groups", "guess", "identity", "kind", "kinds",
    "layer", "localizer", "measure", "metric", "mode", "model", "module", "noise", "objective", "of", "origin",
    "outputs", "over", "planted", "precision", "preset", "ranking", "reading", "readout", "reads", "rectifiers",
    "region", "rule", "sample", "strength", "target", "time_unit", "unit", "weights", "weights_sha256", "written",
)  # fmt: skip
LISTS = ("factor_units", "factors", "layers", "measures", "moments", "presets", "rules", "states")
"""Of texts."""
FLAGS = ("complete", "crop", "finer", "plain", "recentred", "rectified", "shared", "subtract", "timed")
COUNTS = (
    "band", "batch", "bootstrap", "capsule_size", "checksum", "draws", "first_lesion", "format_version", "images", "k",
    "macs", "order", "parameters", "patch_size", "per_image", "permutations", "randomised_with_seed", "seed", "starts",
    "steps", "stride", "top_classes", "top_images",
)  # fmt: skip
NUMBERS = (
    "chance", "deviation", "engine_error", "fraction", "level", "low", "nyquist", "quantile", "rate", "scale",
    "start", "trained",
)  # fmt: skip
ROWS = (
    "affine", "counts", "epochs", "field_axes", "field_size", "field_start", "field_stride", "fixed", "image_size",
    "input_size", "judged", "levels", "map_size", "offsets", "pages", "position", "size",
)  # fmt: skip
"""Of numbers."""
TABLES = ("field_sizes",)
"""Of rows of numbers."""
SIZES = ("image_size", "input_size")
"""Of images: (channel, y, x) or (channel, time)."""
JSON = {"classes": [str], "channels": [str], "target_names": [str]}
"""Of texts that are JSON, what that is of."""


KNOWN = frozenset((*TEXTS, *LISTS, *FLAGS, *COUNTS, *NUMBERS, *ROWS, *TABLES, *JSON))
"""All names that are listed."""
OF_THE_RUNNER = ("batch", "checksum", "written")
"""Those of a table whose experiment is the user's own."""


def wrong(attributes: Mapping[str, Any], own: bool = False) -> list[str]:
    """Name the attributes of a group or a dataset that are of another kind than they have to be.

    Args:
        attributes: by name, as plain values.
        own: it is a table of an experiment of the user's own.
    """
    named = ((name, value) for name, value in attributes.items() if not own or name in OF_THE_RUNNER)
    return [name for name, value in named if not _is_right(name, value)]


def _is_right(name: str, value: Any) -> bool:
    if name in TEXTS and not isinstance(value, str):
        return False
    if name in JSON and isinstance(value, str):
        return _is_json(value, JSON[name])
    if name in FLAGS:
        return isinstance(value, bool)
    if name in COUNTS:
        return fits(value, int)
    if name in NUMBERS:
        return _is_number(value)
    if name in ROWS:
        numbers = isinstance(value, list) and all(map(_is_number, value))
        return numbers and (name not in SIZES or (len(value) in (2, 3) and min(value) >= 1))
    if name in TABLES:
        return isinstance(value, list) and all(_is_right(ROWS[0], row) for row in value)
    return name not in LISTS or fits(value, [str])


def _is_number(value: Any) -> bool:
    """Say whether a value is a number, which may be NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_json(text: str, kind: Any) -> bool:
    try:
        return fits(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False
