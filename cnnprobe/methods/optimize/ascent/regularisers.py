"""Regularisers of optimised images: penalties that are climbed against, and what is done to pixels after a step.

Penalties: L2 of the difference from the mean (Simonyan, Vedaldi, Zisserman 2014); total variation, the sum over axes of
the mean squared difference of neighbours, halved (Bashivan, Kar, DiCarlo 2019). After a step (Yosinski, Clune, Nguyen,
Fuchs, Lipson 2015): decay towards the mean, Gaussian blur, and pixels of small norm or small contribution set to it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

REACH = 4
"""A Gaussian is cut off at this many standard deviations."""


@dataclass(frozen=True)
class Regularisers:
    """How much of each.

    Args:
        l2: times the sum of squared differences from the mean colour.
        tv: times the total variation.
        decay: share of the difference from the mean that each step takes away.
        blur: standard deviation of the Gaussian, px.
        blur_every: steps from one blur to the next.
        small_norm: share of the pixels, those whose colour differs least from the mean, set to it.
        small_contribution: share of the pixels, those with the least |sum of gradient times value|, set to the mean.
    """

    l2: float = 0
    tv: float = 0
    decay: float = 0
    blur: float = 0
    blur_every: int = 1
    small_norm: float = 0
    small_contribution: float = 0

    @property
    def after_steps(self) -> bool:
        """Whether pixels are changed after a step."""
        return bool(self.decay or self.blur or self.small_norm or self.small_contribution)

    def penalty(self, images: Tensor, mean: Tensor) -> Tensor:
        """Return (row,) what is taken off the objective of images (row, channel, y, x).

        Args:
            images: with their graph.
            mean: (channel,).
        """
        found = images.new_zeros(len(images))
        if self.l2:
            found = found + self.l2 * (images - mean.view(-1, *[1] * (images.dim() - 2))).square().flatten(1).sum(1)
        if self.tv:
            found = found + self.tv * total_variation(images)
        return found

    def settle(self, pixels: Tensor, gradient: Tensor, step: int) -> None:
        """Change pixels after a step, in place.

        Args:
            pixels: (row, channel, y, x), differences from the mean.
            gradient: of the objective there, before the step.
            step: its number, from 1.
        """
        if self.decay:
            pixels.mul_(1 - self.decay)
        if self.blur and step % self.blur_every == 0:
            pixels.copy_(blurred(pixels, self.blur))
        if self.small_norm:
            _clear(pixels, pixels.norm(dim=1), self.small_norm)
        if self.small_contribution:
            _clear(pixels, (gradient * pixels).sum(1).abs(), self.small_contribution)


def total_variation(images: Tensor) -> Tensor:
    """Return (row,) the sum over axes of half the mean squared difference of neighbours."""
    axes = range(2, images.dim())
    return sum(images.diff(dim=axis).square().flatten(1).mean(1) / 2 for axis in axes if images.shape[axis] > 1)


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Blur each channel with a Gaussian; the pixels of the edge go on beyond it.

    Args:
        images: (row, channel, y, x) or (row, channel, time).
        deviation: of the Gaussian, px.
    """
    reach = max(1, math.ceil(REACH * deviation))
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-places.square() / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    result = images
    for axis in range(2, images.dim()):
        lines = result.movedim(axis, -1)
        padded = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (reach, reach), mode="replicate")
        result = functional.conv1d(padded, kernel).view_as(lines).movedim(-1, axis)
    return result


def _clear(pixels: Tensor, sizes: Tensor, share: float) -> None:
    """Set the pixels whose size, (row, y, x), is under a percentile to 0."""
    flat = sizes.flatten(1)
    place = math.ceil(share * (flat.shape[1] - 1))
    bound = flat.kthvalue(place + 1, dim=1).values
    pixels.mul_((sizes >= bound.view(-1, *[1] * (sizes.dim() - 1))).unsqueeze(1))
