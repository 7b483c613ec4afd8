"""The columns of preferred images: laid out, filled and drawn in several files, named in this one."""

from typing import Literal

PreferredColumn = Literal[
    "unit", "name", "members", "image", "objective", "response", "response_transformed", "best_natural", "gain",
    "trace", "best_step", "restarts", "state", "start", "brain_response", "brain_best_natural", "stretch_gain",
    "one_hot", "one_hot_natural", "mapping_r2", "constant", "natural_image", "natural_response", "picture", "variants",
    "variant_response", "learned_image", "learned_response", "learned_final", "learned_centroid",
]  # fmt: skip
"""Columns of the tables "units/<layer>"."""
