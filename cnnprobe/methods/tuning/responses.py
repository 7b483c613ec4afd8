"""One response for every unit and manufactured stimulus, of any layers in one pass.

Which neuron of a unit answers, by reading:
    centre  to what fills the image (gratings): the neuron whose theoretical field lies nearest the middle of the image,
            so that a phase means the same for all; to a small thing in the middle: the largest of the neurons whose
            fields have their centres on it (of a bar or a corner its middle half: their ends are not asked about)
    max     the largest of the whole map, to everything; phases then mean nothing
"""

import math
from collections.abc import Generator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.network.activations import tap, warn_of_nan
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.store.tables import Advance, Table
from cnnprobe.store.unfinished import Unfinished, put

Reading = Literal["centre", "max"]


class Site:
    """The neurons of a layer that are read.

    Args:
        layer: whose units.
        units: (n,) channels.
        size: (channel, y, x) of the images.
        reading: see above.

    Raises:
        UserError: reading=centre of a layer whose positions are no places (y, x): tokens, for instance.
    """

    def __init__(self, layer: Layer, units: np.ndarray, size: tuple[int, ...], reading: Reading):
        self.layer, self.size = layer, size
        self.units = torch.from_numpy(units)
        axes = len(layer.map_size)
        if reading == "centre" and axes not in (0, 2):
            raise UserError(f"reading=centre needs a map (y, x), {layer.name} has one of {axes} axis: say reading=max")
        if reading == "centre" and layer.field.along:
            raise UserError(
                f"reading=centre needs a map (y, x); how that of {layer.name} lies over the image is not known "
                f"({layer.note or 'its axes are others'}): say reading=max"
            )
        self.whole = reading == "max" or axes != 2

    @property
    def position(self) -> list[int]:
        """The place (y, x) on the map of the neuron that answers to gratings; [] where it is no certain one."""
        return [] if self.whole else [places.start for places in self.middle(0.0)]

    def middle(self, reach: float) -> tuple[slice, ...]:
        """Return the slices (y, x) of the neurons whose fields have their centres within a share of the image's side.

        The neuron nearest the middle is always among them, and for a reach of 0 the only one.
        """
        return tuple(_places(self.layer, axis, side, reach) for axis, side in enumerate(self.size[1:]))

    def read(self, activation: Tensor, reaches: np.ndarray) -> np.ndarray:
        """Return (image, unit) float32 from (image, channel, *map); `reaches` is the share for each image."""
        chosen = activation.index_select(1, self.units.to(activation.device))
        if self.whole:
            return chosen.reshape(*chosen.shape[:2], -1).amax(-1).float().cpu().numpy()
        found = np.zeros(chosen.shape[:2], np.float32)
        for reach in np.unique(reaches):
            rows = np.flatnonzero(reaches == reach)
            part = chosen[(slice(None), slice(None), *self.middle(reach))]
            found[rows] = part[torch.from_numpy(rows).to(part.device)].amax((-2, -1)).float().cpu().numpy()
        return found


def _places(layer: Layer, axis: int, side: int, reach: float) -> slice:
    """Return along one axis the positions whose field has its centre within a share of the image about its middle."""
    span, count = layer.field.spans[axis], layer.map_size[axis]
    if not span.stride:
        return slice((count - 1) // 2, (count - 1) // 2 + 1) if reach == 0 else slice(0, count)
    middle = ((side - 1) / 2 - sum(span.region(0)) / 2) / span.stride
    nearest = int(np.clip(math.ceil(middle - 0.5), 0, count - 1))
    half = reach * side / 2 / abs(span.stride)
    first, last = math.ceil(middle - half), math.floor(middle + half)
    return slice(max(0, min(first, nearest)), min(count, max(last, nearest) + 1))


def missing(table: Table[Any], finished: dict[str, frozenset[int]]) -> list[int]:
    """Return the first rows of the batches of a table that are not there yet."""
    there = finished.get(table.name, frozenset())
    return [start for start in range(0, table.rows, table.batch) if start not in there]


def respond(
    model: nn.Module,
    sites: dict[str, Site],
    loaded: Source,
    reaches: np.ndarray,
    unfinished: Unfinished | None = None,
) -> Generator[Advance, None, dict[str, np.ndarray]]:
    """Show every stimulus once; returns by layer's name (unit, stimulus) float32.

    Args:
        model: any network; it is given back as it was.
        sites: by layer's name.
        loaded: the stimuli, see `images.passes.passing`.
        reaches: (stimulus,) share of the image within which neurons are read; 0: the one in the middle.
        unfinished: keeps the responses so far.
    """
    found: dict[str, np.ndarray] = {
        name: np.zeros((len(site.units), len(reaches)), np.float32) for name, site in sites.items()
    }
    shown: dict[str, Any] = {}

    def receive(layer: Layer, activation: Tensor) -> None:
        rows = shown["indices"]
        answers = sites[layer.name].read(activation, reaches[rows])
        warn_of_nan(layer.name, torch.from_numpy(answers), rows)
        found[layer.name][:, rows] = answers.T

    with torch.inference_mode(), tap(model, [site.layer for site in sites.values()], receive) as run:

        def show(part: Batch) -> None:
            shown["indices"] = part.indices
            run(part.images)

        how: dict[str, Any] = {"take": lambda: found, "restore": lambda state: put(found, state)}
        how["unfinished"] = unfinished
        yield from passing("responses", len(reaches), loaded, show, lambda part, answer: None, **how)
    return found
