"""Responses of units of several layers to images, and patterns of whole layers, from one pass over the images."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.passes import passing
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.ranking.full_sort import dead_units, ranked
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.machine.computation import Computation
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished, Within, put

BUDGET = 4 * 2**20
"""Bytes that the patterns of one layer may take: of large maps, means over blocks of positions are kept."""


@dataclass(frozen=True)
class Answers:
    """What one layer answers.

    Args:
        layer: which.
        largest: (image, unit) float32, maximum of each unit's map; NaN where an image could not be read.
        places: (image, unit) int32, where that is on the map, flat.
        patterns: (image, feature) float32 of some images: means of the maps over blocks of positions; NaN as above.
    """

    layer: Layer
    largest: np.ndarray
    places: np.ndarray
    patterns: Tensor

    @property
    def arrays(self) -> dict[str, Any]:
        """All that it is made of, by name."""
        return {"largest": self.largest, "places": self.places, "patterns": self.patterns}

    def strongest(self, k: int) -> Strongest:
        """Return the k images with the largest maxima of every unit; a dead unit has none."""
        dead = dead_units(self.largest)
        return Strongest({BEST: ranked(self.largest, self.places, self.layer.map_size, k, dead)}, dead)


def blocks(layer: Layer, images: int) -> tuple[int, ...]:
    """Return how many blocks of positions a layer's map is averaged to, along each axis; all positions if they fit."""
    most = BUDGET / (4 * max(1, images) * layer.channels)
    scale = min(1.0, (most / math.prod(layer.map_size)) ** (1 / max(1, len(layer.map_size))))
    return tuple(max(1, int(side * scale)) for side in layer.map_size)


def answers(
    model: nn.Module,
    layers: list[Layer],
    images: ImageSet,
    patterns: np.ndarray,
    computation: Computation,
    *,
    name: str = "answers",
    unfinished: Unfinished | Within | None = None,
) -> Generator[Advance, None, dict[str, Answers]]:
    """Show every image once; returns the answers by name of layer.

    Args:
        model: any network; it is given back as it was.
        layers: of it, or of a network of the same architecture.
        images: an image set.
        patterns: indices of the images whose patterns are kept, sorted.
        computation: device, loaders, batch size.
        name, unfinished: keeps the answers so far under a name, see `Unfinished.begin`.
    """
    count, kept = len(images), {layer.name: blocks(layer, len(patterns)) for layer in layers}
    made = {}
    for layer in layers:
        features = layer.channels * math.prod(kept[layer.name])
        largest = np.full((count, layer.channels), np.nan, np.float32)
        places = np.zeros((count, layer.channels), np.int32)
        made[layer.name] = Answers(layer, largest, places, torch.full((len(patterns), features), torch.nan))
    now: list[np.ndarray] = []

    def receive(layer: Layer, activation: Tensor) -> None:
        (indices,), one = now, made[layer.name]
        flat = activation.flatten(2) if activation.ndim > 2 else activation[..., None]
        largest, places = flat.max(2)
        one.largest[indices], one.places[indices] = largest.float().cpu().numpy(), places.cpu().numpy()
        rows = np.searchsorted(patterns, indices)
        some = np.flatnonzero(np.isin(indices, patterns))
        if len(some):
            shown = activation[torch.from_numpy(some).to(activation.device)].float()
            one.patterns[torch.from_numpy(rows[some])] = _averaged(shown, kept[layer.name]).flatten(1).cpu()

    def loaded(start: int) -> Iterator[Batch]:
        return batches(images, **computation.loading, start=start)

    def use(part: Batch, _: None) -> None:
        for one in made.values():
            gone = part.indices[~part.readable]
            one.largest[gone] = np.nan
            one.patterns[torch.from_numpy(np.flatnonzero(np.isin(patterns, gone)))] = torch.nan

    def take() -> State:
        return {name: one.arrays for name, one in made.items()}

    def restore(state: State) -> None:
        for name, one in made.items():
            put(one.arrays, state[name])

    with torch.inference_mode(), tap(model, layers, receive) as run:

        def show(part: Batch) -> None:
            now[:] = [part.indices]
            run(part.images)

        yield from passing(name, count, loaded, show, use, take=take, restore=restore, unfinished=unfinished)
    return made


def _averaged(maps: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Average maps (image, channel, *map) over blocks of positions."""
    if tuple(maps.shape[2:]) == sides:
        return maps
    pool = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}
    return pool[len(sides)](maps, sides)
