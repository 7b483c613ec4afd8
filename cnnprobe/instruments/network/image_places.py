"""Places of images in one value of a pass: along which axis, and whether each is processed as if it were alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Handing = Literal["together", "one by one", "restored"]
"""How images pass: together, one by one, or together with the axis given back that one image alone loses."""
ONE_BY_ONE = "images pass one by one (a batch of n takes n passes)"
SEVERAL = 3
"""Images in the second pass; the one that was alone stands in the middle."""
SAMPLE = 256
"""Values of a tensor that are compared, about."""
AGREE = 1e-4
"""Largest difference by rounding between an image's values alone and among others, as a share of the largest."""
AGREE_LOW = 0.03
"""The same of 16-bit values, and of float32 on a GPU, whose products may have 10 bits."""


@dataclass(frozen=True)
class Place:
    """Where images are in one value of a pass.

    Args:
        handing: how images must be handed over for this value to be right, see `Handing`.
        axis: of the images.
        problem: why the value cannot be had for each image, "" where it can.
        told: what is to be said of it where it can, "" for nothing.
    """

    handing: Handing = "together"
    axis: int = 0
    problem: str = ""
    told: str = ""

    def restored(self, value: Any, images: int) -> Any:
        """Return a value with the axis of the images, where one image alone has lost it."""
        lost = self.handing == "restored" and images == 1 and isinstance(value, Tensor)
        return value.unsqueeze(self.axis) if lost else value


@dataclass(frozen=True)
class Seen:
    """A tensor of a pass: its shape, some of its values, and by axis that may be the images' some of one of them."""

    shape: tuple[int, ...]
    whole: Tensor
    samples: dict[int, Tensor]
    agree: float


def sample(values: Tensor) -> Tensor:
    """Return some values, spread evenly, as float64 on the CPU."""
    values = values.detach()
    flat = (torch.view_as_real(values) if values.is_complex() else values).reshape(-1)
    return flat[:: max(1, len(flat) // SAMPLE)].to("cpu", torch.float64, copy=True)


def only_alone(seen: Seen, words: str) -> Place:
    """Return where the image is in what a network returned that takes one only."""
    if 1 in seen.shape:
        return Place("one by one", seen.shape.index(1), told=words)
    return Place(problem=f"it has no axis for images ({sides(seen.shape)} for one image)")


def place_of(one: Seen, many: Seen | None) -> Place:
    """Return where the images are in a value, from its shapes with one image and with several."""
    if many is None:
        return only_alone(one, f"what the network does depends on the number of images: {ONE_BY_ONE}")
    if one.shape == many.shape and alike(one.whole, many.whole, one.agree):
        return Place()  # a constant
    shapes = f"{sides(one.shape)} for one image, {sides(many.shape)} for {SEVERAL}"
    axis = axis_of(one.shape, many.shape)
    if axis is not None and len(one.shape) == len(many.shape):
        if alike(one.whole, many.samples[axis], one.agree):
            return Place(axis=axis)
        return Place(
            "one by one",
            axis,
            told="the response to an image depends on the other images of its batch (statistics of the batch?): "
            f"{ONE_BY_ONE}",
        )
    if axis is not None:
        if alike(one.whole, many.samples[axis], one.agree):
            return Place("restored", axis)
        return Place(
            problem=f"it drops the axis of a batch of one image ({shapes}), and responds differently to one alone"
        )
    if one.shape[:1] == (1,):
        return Place("one by one", 0, told=f"images have no axis of their own ({shapes}): {ONE_BY_ONE}")
    return Place(problem=f"it has no axis for images ({shapes}): views or parts of an image are folded into one")


def axis_of(one: tuple[int, ...], many: tuple[int, ...]) -> int | None:
    """Return the axis of the images among the axes of the larger batch, None where there is none of their own."""
    if len(one) == len(many):
        changed = [axis for axis, sides in enumerate(zip(one, many)) if sides[0] != sides[1]]
        return changed[0] if [(one[axis], many[axis]) for axis in changed] == [(1, SEVERAL)] else None
    places = [axis for axis, side in enumerate(many) if side == SEVERAL and (*many[:axis], *many[axis + 1 :]) == one]
    return places[0] if places else None


def alike(one: Tensor, other: Tensor, agree: float) -> bool:
    """Say whether values are the same but for rounding; what is not a number counts as 0."""
    if one.shape != other.shape:
        return False
    one, other = (values.nan_to_num(0, 0, 0) for values in (one, other))
    scale = max(float(one.abs().max()), float(other.abs().max())) if len(one) else 0.0
    return not len(one) or float((one - other).abs().max()) <= agree * scale


def sides(shape: Iterable[int]) -> str:
    """Return the sides of a tensor for people, "3x8x8"."""
    return "x".join(map(str, shape)) or "a single number"
