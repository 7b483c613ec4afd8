"""The orientation of a map on its image, measured: a network may mirror it, exchange its axes, or move parts of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.instruments.network.untouched import untouched

BANDS = 4
"""Parts of the image, along each axis, that are replaced one at a time."""
CLEAR = 0.15
"""Least way that the change of a map moves with the part, as a share of the map's side; less says nothing."""
BACK = 0.02
"""Way back, of the same, that is chance."""


class Orientation(NamedTuple):
    """How a map has to be turned to lie as its image does.

    Args:
        exchanged: its rows are the image's columns.
        mirrored: axes of the image (y: 0, x: 1) along which it runs backwards.
    """

    exchanged: bool = False
    mirrored: tuple[int, ...] = ()

    def turned(self, maps: Tensor) -> Tensor:
        """Return maps (…, y, x) as the image lies."""
        maps = maps.transpose(-2, -1) if self.exchanged else maps
        return maps.flip([axis - 2 for axis in self.mirrored]) if self.mirrored else maps

    def __str__(self) -> str:
        words = ["with rows and columns exchanged"] * self.exchanged
        words += [f"mirrored {('top to bottom', 'left to right')[axis]}" for axis in self.mirrored]
        return " and ".join(words)


def orientation_of(
    model: nn.Module, layer: Layer, size: tuple[int, ...], of: Callable[[Tensor], Tensor]
) -> Orientation:
    """Return how a map lies over its image: where it changes as bands of a noise image are replaced one after another.

    A map in which no place belongs to a part of the image (behind attention, say) is taken to lie as the image does.

    Args:
        model: any network; it is given back as it was.
        layer: whose map.
        size: (channel, y, x) of the images.
        of: makes (image, channel, y, x) of the layer's activation.

    Raises:
        UserError: the parts of the map are in another order than those of the image.
    """
    with untouched(model), torch.inference_mode():
        clean, other = noise_image(model, size), 1 - noise_image(model, size, seed=1)
        shown = [clean, *(_replaced(clean, other, axis, band) for axis in (0, 1) for band in range(BANDS))]
        maps = torch.cat([of(activations(model, [layer], one)[layer.name]) for one in shown]).double().cpu()
    change = (maps[1:] - maps[:1]).square().sum(1).unflatten(0, (2, BANDS)).nan_to_num(0, 0, 0)
    centres = np.stack([_centres(change.sum(3).numpy()), _centres(change.sum(2).numpy())])  # (map axis, axis, band)
    ways = np.ptp(centres, axis=2)
    exchanged = bool(ways[1, 0] > max(2 * ways[0, 0], CLEAR) and ways[0, 1] > max(2 * ways[1, 1], CLEAR))
    mirrored = []
    for axis in (0, 1):
        steps = np.diff(centres[axis ^ exchanged, axis])
        if ways[axis ^ exchanged, axis] < CLEAR:
            continue
        if steps.min() < -BACK < BACK < steps.max() and lies_as_image(layer):
            continue  # fields as large as the image: which band matters most is chance
        if steps.max() <= BACK:
            mirrored.append(axis)
        elif steps.min() < -BACK:
            raise UserError(
                f"the parts of {layer.name}'s map are in another order than those of the image, over which it is to be "
                "laid; say layer=…"
            )
    return Orientation(exchanged, tuple(mirrored))


def lies_as_image(layer: Layer) -> bool:
    """Say whether the fields of a layer, which are compared with the network, move along the image as positions do."""
    field = layer.field
    same = field.along in ((), (0, 1)) and field.aligned
    return same and not layer.note and min(field.stride, default=0) > 0


def _replaced(clean: Tensor, other: Tensor, axis: int, band: int) -> Tensor:
    """Return an image of which one of the bands along an axis is taken from another one."""
    side, image = clean.shape[2 + axis], clean.clone()
    begin, end = band * side // BANDS, (band + 1) * side // BANDS
    image.narrow(2 + axis, begin, end - begin).copy_(other.narrow(2 + axis, begin, end - begin))
    return image


def _centres(profiles: np.ndarray) -> np.ndarray:
    """Return the centre of profiles (…, place), as a share of their length; the middle where they are 0."""
    places = np.linspace(0, 1, profiles.shape[-1]) if profiles.shape[-1] > 1 else np.array([0.5])
    total = profiles.sum(-1)
    return np.where(total > 0, (profiles * places).sum(-1) / np.where(total > 0, total, 1), 0.5)
