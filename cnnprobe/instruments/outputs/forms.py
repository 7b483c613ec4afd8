"""Forms of what a network returns for an image: numbers of classes, a map of them, or courses along time."""

from typing import Any

from torch import Tensor, nn

from cnnprobe.datasets.base.targets import Kind
from cnnprobe.instruments.network.about import Output, about

AXES: dict[Output, int] = {"classes": 2, "existence": 2, "map": 4, "course": 3}
"""Of what is returned for several images."""


def form_of(model: nn.Module, returned: Any) -> Output | None:
    """Return the form of what a network returned for several images; None where it is none of them.

    The number of axes tells the form, except for existence: a network declares it (`About.output`), or its training on
    images of several classes did.
    """
    if not isinstance(returned, Tensor) or not returned.is_floating_point():
        return None
    said = about(model).output
    if said and returned.ndim == AXES[said]:
        return said
    if returned.ndim == 2:
        return "classes"
    if returned.ndim == 4 and max(returned.shape[2:]) > 1:
        return "map"
    return "course" if returned.ndim == 3 and returned.shape[2] > 1 else None


def form_for(model: nn.Module, target: Kind) -> Output:
    """Return the form that a network has to give for a target."""
    if target in ("map", "course"):
        return "map" if target == "map" else "course"
    return "existence" if about(model).output == "existence" else "classes"
