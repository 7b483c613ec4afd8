"""The area criterion: the share of a unit's map above the level that it exceeds at few of all positions.

Bau, Zhou, Khosla, Oliva, Torralba (2017, Network Dissection, section 3.1) take the level that a unit exceeds at 0.5 %
of all positions of all images. Of every unit the largest values are kept, as many as the level needs, each with its
image: one pass gives the level, a quantile as that of `numpy.quantile`, and the areas, both exact however images are
batched.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.ranking.top_k import Maps
from cnnprobe.machine.memory import free_memory
from cnnprobe.store.unfinished import put

State = tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray, np.ndarray]
BYTES = 20
"""That a kept value takes at most: as float32 with its image and unit, as much again until the least are dropped."""
FEW = 2**20
"""Values that are not worth dropping any."""


class Largest:
    """The largest values of every unit over all images, and what follows from them.

    Args:
        units: how many.
        images: how many there will be, at most.
        positions: of a map.
        quantile: from 0 to 1.

    Attributes:
        cut: (unit,) float32; as many values as are kept are as large or larger.
    """

    def __init__(self, units: int, images: int, positions: int, quantile: float):
        self.positions, self.quantile = positions, quantile
        every = images * positions
        self.kept = every - math.floor(quantile * (every - 1))  # down to the lower neighbour of the quantile
        self.seen = np.zeros(images, bool)
        self.cut = np.full(units, -np.inf, np.float32)
        kind = np.uint16 if units < 2**16 else np.int64  # short numbers are sorted by digits
        self.pieces = [(np.zeros(0, kind), np.zeros(0, np.int32), np.zeros(0, np.float32))]
        self.most = max(2 * self.kept * units, FEW)

    def add(self, maps: Tensor, indices: np.ndarray, fit: np.ndarray, axis: int = 2) -> None:
        """Look at some images.

        Args:
            maps: (image, unit, position) float32, or (image, position, unit).
            indices: (image,) of the images.
            fit: (image,) bool; others are not looked at.
            axis: of the positions.
        """
        cut = torch.from_numpy(self.cut).to(maps.device).unsqueeze(0).unsqueeze(axis)
        above = (maps > cut) & torch.from_numpy(fit).to(maps.device)[:, None, None]
        places, values = above.nonzero().cpu().numpy().T, maps[above].cpu().numpy()
        units, images = places[3 - axis].astype(self.pieces[0][0].dtype), indices[places[0]].astype(np.int32)
        self.seen[indices[fit]] = True
        self.pieces.append((units, images, values))
        if sum(len(piece[2]) for piece in self.pieces) > self.most:
            self._drop()

    def state(self) -> State:
        """Return what is known so far, for `restore`."""
        return list(self.pieces), self.cut.copy(), self.seen.copy()

    def restore(self, state: State) -> None:
        """Go back to a state: a pass through the network failed on its way."""
        self.pieces, self.cut, self.seen = state

    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where each unit begins, (unit + 1,), and the images and values by unit."""
        units, images, values = (np.concatenate(part) for part in zip(*self.pieces))
        order = np.argsort(units, kind="stable")
        starts = np.searchsorted(units[order], np.arange(len(self.cut) + 1))
        return starts, images[order], values[order]

    def _drop(self) -> None:
        """Drop what is no longer among the largest; of equal ones the cut stands for all."""
        starts, images, values = self._sorted()
        keep = np.ones(len(values), bool)
        for unit, (start, end) in enumerate(pairwise(starts)):
            own, rest = values[start:end], end - start - self.kept
            if rest >= 0:
                self.cut[unit] = np.partition(own, rest)[rest]
                keep[start:end] = own > self.cut[unit]
        units = np.repeat(np.arange(len(self.cut)), np.diff(starts)).astype(self.pieces[0][0].dtype)
        self.pieces = [(units[keep], images[keep], values[keep])]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of each map above its unit's level, (image, unit), NaN where not seen; the level (unit,)."""
        count = int(self.seen.sum()) * self.positions
        shares = np.full((len(self.seen), len(self.cut)), np.nan, np.float32)
        levels = np.full(len(self.cut), np.nan, np.float32)
        if not count:
            return shares, levels
        place = self.quantile * (count - 1)
        from_top = count - 1 - math.ceil(place), count - 1 - math.floor(place)
        starts, images, values = self._sorted()
        for unit, (start, end) in enumerate(pairwise(starts)):
            largest = -np.sort(-values[start:end])
            upper, lower = (largest[rank] if rank < len(largest) else self.cut[unit] for rank in from_top)
            levels[unit] = lower + (upper - lower) * np.float32(place - math.floor(place))
            above = images[start:end][values[start:end] > levels[unit]]
            shares[:, unit] = np.bincount(above, minlength=len(self.seen)) / np.float32(self.positions)
        shares[~self.seen] = np.nan
        return shares, levels


class Areas:
    """Measures the areas of all units of several layers in one pass; `begin`, `receive` and `forget` as of `Ranker`.

    Args:
        layers: whose activations it will receive.
        units: channels by name of layer; those of others stay unknown.
        images: how many there are.
        quantile: the level is this quantile of all positions of all images.

    Raises:
        UserError: what has to be kept does not fit into memory.
    """

    def __init__(self, layers: Iterable[Layer], units: dict[str, np.ndarray], images: int, quantile: float):
        self.layers = {layer.name: layer for layer in layers}
        self.units, self.images, self.quantile = units, images, quantile
        self.largest = {
            name: Largest(len(units[name]), images, math.prod(layer.map_size), quantile)
            for name, layer in self.layers.items()
        }
        self.places = {name: np.zeros((images, len(units[name])), np.int32) for name in self.layers}
        self.before: dict[str, State] = {}
        self._check_room()

    def _check_room(self) -> None:
        needed = sum(BYTES * one.kept * len(one.cut) + 8 * self.places[name].size for name, one in self.largest.items())
        free = free_memory("cpu")
        if needed > free / 2:
            raise UserError(
                f"criterion=area keeps {100 * (1 - self.quantile):.3g} % of all activations of {self.images} images: "
                f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; fewer layers, units= or limit="
            )

    def begin(self, indices: np.ndarray, readable: np.ndarray) -> None:
        """Say which images come next, and whether each could be read."""
        self.before = {name: one.state() for name, one in self.largest.items()}
        self.indices, self.readable = np.asarray(indices, np.int64), np.asarray(readable, bool)

    def forget(self) -> None:
        """Take back what was received since `begin`."""
        for name, state in self.before.items():
            self.largest[name].restore(state)

    def state(self) -> dict[str, Any]:
        """Return all there is so far, for `restore`."""
        return {name: [one.state(), self.places[name]] for name, one in self.largest.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state, of the same layers, units and images.

        Raises:
            ValueError: it is of others.
        """
        for name, (largest, places) in state.items():
            put({"places": self.places[name]}, {"places": places})
            self.largest[name].restore(largest)

    @torch.inference_mode()
    def receive(self, layer: Layer, activation: Tensor) -> None:
        """Take the activation (image, channel, *map) of the images announced by `begin`."""
        units, largest = self.units[layer.name], self.largest[layer.name]
        if len(units) != activation.shape[1]:
            activation = activation[:, torch.from_numpy(units).to(activation.device)]
        maps, start = Maps(activation), 0
        for chunk in maps.chunks():
            chunk = chunk.float()
            part = slice(start, start := start + len(chunk))
            low, high = (end.isfinite().cpu().numpy() for end in chunk.flatten(1).aminmax(dim=1))
            largest.add(chunk, self.indices[part], low & high & self.readable[part], maps.axis)
            self.places[layer.name][self.indices[part]] = chunk.argmax(maps.axis).cpu().numpy()

    def result(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of a layer's channels the areas (image, channel), places (image, channel) and levels (channel,)."""
        channels, units = self.layers[name].channels, self.units[name]
        places = np.zeros((self.images, channels), np.int64)
        shares, levels = np.full(places.shape, np.nan, np.float32), np.full(channels, np.nan, np.float32)
        shares[:] = np.where(self.largest[name].seen, 0, np.nan)[:, None]
        shares[:, units], levels[units] = self.largest[name].result()
        places[:, units] = self.places[name]
        return shares, places, levels
