"""The columns of what is compared before and after: laid out, filled and drawn in several files, named in this one."""

from typing import Literal, get_args

Side = Literal["before", "after"]
SIDES: tuple[Side, Side] = ("before", "after")

FeatureColumn = Literal[
    "unit", "dprime_before", "dprime_after", "best_class_before", "best_class_after", "best_dprime_before",
    "best_dprime_after",
]  # fmt: skip
"""Columns of the tables "discrimination/<layer>"."""
FeaturePart = Literal["dprime", "best_class", "best_dprime"]
"""Of them, those of which there is one for either side."""

UnitColumn = Literal[
    "unit", "correlation", "overlap", "weight_change", "tuning_correlation", "changed", "forgotten", "image_before",
    "image_after", "response_before", "response_after", "dead_before", "dead_after", "class_before", "class_after",
    "selectivity_before", "selectivity_after", "tuning_before", "tuning_after", "layer", "picture_before",
    "picture_after", "preferred_before", "preferred_after", "preferred_response_before", "preferred_response_after",
    "field_before", "field_after", "size_before", "size_after",
]  # fmt: skip
"""Columns of the tables "forgetting/<layer>" and, from "layer" on with many of those before, of "changed"."""
UnitPart = Literal[
    "image", "response", "dead", "class", "selectivity", "tuning", "picture", "preferred", "preferred_response",
    "field", "size",
]  # fmt: skip
"""Of them, those of which there is one for either side."""

LayerColumn = Literal[
    "cka", "cka_biased", "rdm_drift", "compared", "features", "correlation", "selectivity_before", "selectivity_after",
    "forgotten", "dead_before", "dead_after", "name", "module",
]  # fmt: skip
"""Columns of the table "layers"."""

_FEATURES: dict[str, FeatureColumn] = {name: name for name in get_args(FeatureColumn)}
_UNITS: dict[str, UnitColumn] = {name: name for name in get_args(UnitColumn)}


def feature_column(part: FeaturePart, side: Side) -> FeatureColumn:
    """Return the name of a column of one side."""
    return _FEATURES[f"{part}_{side}"]


def unit_column(part: UnitPart, side: Side) -> UnitColumn:
    """Return the name of a column of one side."""
    return _UNITS[f"{part}_{side}"]
