"""Quantiles of activations per unit, over positions and images, with flat memory: the threshold of the area criterion.

Bau, Zhou, Khosla, Oliva, Torralba (2017, Network Dissection, section 3.1) threshold a unit's map at the level that it
exceeds at 0.5 % of all positions of all images. Here a first look at a sample of the images gives that level. Only the
largest values of each unit are kept, as many as the quantile needs, so it is exact over the positions looked at.
"""

import math

import numpy as np
import torch
from torch import Tensor

from cnnprobe.engine.taps import Layer

POSITIONS = 16384
"""Positions looked at per unit: the share above the threshold is then right to 11 % of itself (of 0.5 %)."""


def first_look(images: int, seed: int) -> np.ndarray:
    """Draw the images of the first look: 5 % of them, but 32 to 512; sorted indices."""
    count = min(images, 512, max(32, images // 20))
    return np.sort(np.random.default_rng(seed).choice(images, count, replace=False))


class UpperQuantile:
    """A high quantile of every row of a stream of values.

    Args:
        quantile: from 0 to 1; between two values it is interpolated, as by `numpy.quantile`.
        values: most values a row will get.
    """

    def __init__(self, quantile: float, values: int):
        self.quantile = quantile
        self.kept = values - math.floor(quantile * (values - 1))  # down to the lower neighbour of the quantile
        self.count = 0
        self.largest: Tensor | None = None

    def update(self, values: Tensor) -> None:
        """Add values (row, any number)."""
        self.count += values.shape[1]
        if self.largest is not None:
            values = torch.cat([self.largest.to(values.device), values], dim=1)
        self.largest = values.topk(min(self.kept, values.shape[1]), dim=1, sorted=False).values

    def result(self) -> Tensor:
        """Return the quantile of every row, (row,); NaN where nothing was seen."""
        if not self.count:
            return torch.full((len(self.largest),) if self.largest is not None else (), math.nan)
        place = self.quantile * (self.count - 1)
        from_top = self.largest.sort(dim=1, descending=True).values
        lower = from_top[:, self.count - 1 - math.floor(place)]
        upper = from_top[:, self.count - 1 - math.ceil(place)]
        return lower + (upper - lower) * (place - math.floor(place))


class Thresholds:
    """The level each unit exceeds at a share 1 - `quantile` of positions, from a first look at some images.

    Args:
        layers: to look at.
        quantile: 0.995 is Network Dissection's.
        images: how many will be looked at.
        seed: of the random positions that are looked at, where a map has more than are needed.
    """

    def __init__(self, layers: list[Layer], quantile: float, images: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.positions: dict[str, Tensor | None] = {}
        self.quantiles: dict[str, UpperQuantile] = {}
        for layer in layers:
            every = math.prod(layer.map_size)
            wanted = min(every, math.ceil(POSITIONS / images))
            chosen = torch.randperm(every, generator=generator)[:wanted].sort().values if wanted < every else None
            self.positions[layer.name] = chosen
            self.quantiles[layer.name] = UpperQuantile(quantile, images * wanted)

    @torch.inference_mode()
    def receive(self, layer: Layer, activation: Tensor) -> None:
        """Look at an activation (image, channel, *map); an image with NaN or Inf is left out."""
        maps = activation.reshape(*activation.shape[:2], -1)
        if (chosen := self.positions[layer.name]) is not None:
            maps = maps.index_select(2, chosen.to(maps.device))
        sums = maps.sum(dim=(1, 2))
        if not sums.isfinite().all():
            maps = maps[sums.isfinite()]
        self.quantiles[layer.name].update(maps.transpose(0, 1).flatten(1).float())

    def state(self) -> dict[str, tuple[int, Tensor | None]]:
        """Return what is known so far, for `restore`."""
        return {name: (one.count, one.largest) for name, one in self.quantiles.items()}

    def restore(self, state: dict[str, tuple[int, Tensor | np.ndarray | None]]) -> None:
        """Go to a state: the pass through the network failed on its way, or another process had come so far."""
        for name, (count, largest) in state.items():
            self.quantiles[name].count = count
            self.quantiles[name].largest = torch.from_numpy(largest) if isinstance(largest, np.ndarray) else largest

    def result(self) -> dict[str, Tensor]:
        """Return the thresholds by layer, (unit,), on the CPU."""
        return {name: quantile.result().cpu() for name, quantile in self.quantiles.items()}
