"""One response for every unit and manufactured stimulus, of any layers in one pass.

Which neuron of a unit answers, by reading:
    centre  to what fills the image (gratings): the neuron whose theoretical field lies nearest the middle of the image,
            so that a phase means the same for all; to a small thing in the middle: the largest of the neurons whose
            fields have their centres on it
    max     the largest of the whole map, to everything; phases then mean nothing
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.engine.layers import Layer
from cnnprobe.engine.loading import Batch
from cnnprobe.engine.recording import tap
from cnnprobe.errors import UserError
from cnnprobe.records import Advance

Reading = Literal["centre", "max"]


class Site:
    """The neurons of a layer that are read.

    Args:
        layer: whose units.
        units: (n,) channels.
        size: (channel, y, x) of the images.
        extent: of the small stimuli in the middle, as a share of the image's side.
        reading: see above.

    Attributes:
        centre: (y, x) of the neuron nearest the middle; () for a layer without a map.
        middle: slices (y, x) of those within the extent, that one always among them.

    Raises:
        UserError: reading=centre of a layer whose positions are no places (y, x): tokens, for instance.
    """

    def __init__(self, layer: Layer, units: np.ndarray, size: tuple[int, ...], extent: float, reading: Reading):
        self.layer, self.reading = layer, reading
        self.units = torch.from_numpy(units)
        axes = len(layer.map_size)
        if reading == "centre" and axes not in (0, 2):
            raise UserError(f"reading=centre needs a map (y, x), {layer.name} has one of {axes} axis: say reading=max")
        self.centre: tuple[int, ...] = ()
        self.middle: tuple[slice, ...] = ()
        for axis in range(axes if axes == 2 else 0):
            nearest, first, stop = _places(layer, axis, size[1 + axis], extent)
            self.centre += (nearest,)
            self.middle += (slice(first, stop),)

    def read(self, activation: Tensor, local: np.ndarray) -> np.ndarray:
        """Return (image, unit) float32 from (image, channel, *map); `local` tells which images show small things."""
        chosen = activation.index_select(1, self.units.to(activation.device))
        flat = chosen.reshape(*chosen.shape[:2], -1)
        if self.reading == "max" or not self.centre:
            return flat.amax(-1).float().cpu().numpy()
        found = chosen[(..., *self.centre)].float().cpu().numpy()
        if local.any():
            small = chosen[torch.from_numpy(np.flatnonzero(local)).to(chosen.device)]
            found[local] = small[(..., *self.middle)].amax((-2, -1)).float().cpu().numpy()
        return found


def _places(layer: Layer, axis: int, side: int, extent: float) -> tuple[int, int, int]:
    """Return along one axis the position nearest the middle, and the first and stop of those on a thing there."""
    span, count = layer.field.spans[axis], layer.map_size[axis]
    if span.stride <= 0:
        return (count - 1) // 2, 0, count
    zero = sum(span.region(0)) / 2
    middle = ((side - 1) / 2 - zero) / span.stride
    nearest = int(np.clip(math.ceil(middle - 0.5), 0, count - 1))
    reach = extent * side / 2 / span.stride
    first, last = math.ceil(middle - reach), math.floor(middle + reach)
    return nearest, max(0, min(first, nearest)), min(count, max(last, nearest) + 1)


def respond(model: nn.Module, sites: dict[str, Site], loaded: Iterable[Batch], local: np.ndarray) -> Iterator[Advance]:
    """Show every stimulus once; returns by layer's name (unit, stimulus) float32.

    Args:
        model: any network; it is given back as it was.
        sites: by layer's name.
        loaded: batches of stimuli, from the first on.
        local: (stimulus,) bool, which ones are small.
    """
    found = {name: np.zeros((len(site.units), len(local)), np.float32) for name, site in sites.items()}
    shown: dict[str, Any] = {}

    def receive(layer: Layer, activation: Tensor) -> None:
        rows = shown["indices"]
        found[layer.name][:, rows] = sites[layer.name].read(activation, local[rows]).T

    with torch.inference_mode(), tap(model, [site.layer for site in sites.values()], receive) as run:
        for batch in loaded:
            shown["indices"] = batch.indices
            run(batch.images)
            yield Advance(len(batch))
    return found
