"""Discrepancy maps of one image: how much each unit's response changes with an occluder at each place."""

from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.engine.memory import Carried
from cnnprobe.engine.occluders import Grid
from cnnprobe.engine.probing import untouched
from cnnprobe.engine.readings import flat_places, read
from cnnprobe.engine.recording import tap
from cnnprobe.engine.taps import Layer


class Occlusion:
    """Measures discrepancies of the units of one layer; a context manager, in which the network is `untouched`.

    Args:
        model: any network.
        layer: whose units are measured.
        size: (channel, y, x) of the images.
        grid: places of the occluder.
        memory: bytes that occluded images may take; None: half of what is free.
        precision: float32 or bfloat16.

    Attributes:
        engine: how it is done: "windows", or "brute force: …" with the reason.
        batch: most occluded images carried at once.

    Example:
        with Occlusion(model, conv3, (3, 224, 224), Grid((224, 224), 11, 3)) as occlusion:
            maps = occlusion.discrepancies(image, fillings("zero", image, 1, mean, sd, 0), [5], [[6, 6]], "site")
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        size: tuple[int, ...],
        grid: Grid,
        *,
        memory: int | None = None,
        precision: str = "float32",
    ):
        self.model, self.layer, self.size, self.grid = model, layer, size, grid
        self.memory, self.precision = memory, precision
        self.engine = "brute force: asked for"
        self.carried = Carried(64)

    @property
    def batch(self) -> int:
        return self.carried.most

    @batch.setter
    def batch(self, most: int) -> None:
        self.carried.most = most

    def __enter__(self) -> "Occlusion":
        self.stack = ExitStack()
        self.stack.enter_context(untouched(self.model))
        return self

    def __exit__(self, *exception) -> None:
        self.stack.close()

    def discrepancies(self, image: Tensor, filled: Tensor, units, sites, reading: str) -> np.ndarray:
        """Measure one image.

        Args:
            image: (channel, y, x).
            filled: (draw, channel, y, x) what is seen through the occluder, see `occluders.fillings`.
            units: (n,) channels.
            sites: (n, map axis) positions, for the reading "site".
            reading: see `readings`.

        Returns:
            (n, draw, rows, columns) float32, clean minus occluded, in units of activation.
        """
        units = torch.as_tensor(np.asarray(units, dtype=np.int64))
        sites = torch.as_tensor(np.asarray(sites, dtype=np.int64)).reshape(len(units), -1)
        places = flat_places(sites, self.layer.map_size)
        with torch.inference_mode():
            parts = [self._brute(image, fill, units, places, reading) for fill in filled]
        return np.stack(parts, axis=1).reshape(len(units), len(filled), *self.grid.shape)

    def _brute(self, image: Tensor, fill: Tensor, units: Tensor, places: Tensor, reading: str) -> np.ndarray:
        """Run the occluded images through the network, as far as the layer: (n, occluder)."""
        got: list[Tensor] = []
        with tap(self.model, [self.layer], lambda _, maps: got.append(maps.flatten(2).clone())) as run:
            run(image[None])
            clean = got.pop()[0]
            tops, lefts = self.grid.corners
            corners = [(top, left) for top in tops.tolist() for left in lefts.tolist()]
            answers = np.empty((len(units), len(corners)), np.float32)

            def measure(some: list[tuple[int, int]]) -> Tensor:
                run(occluded_images(image, fill, some, self.grid.patch))
                return read(reading, clean, got.pop(), units, places)

            start = 0
            while start < len(corners):
                some = corners[start : start + self.carried.most]
                done = self.carried.attempt(len(some), lambda some=some: measure(some))
                if done is not None:
                    answers[:, start : start + len(some)] = done.T.float().cpu().numpy()
                    start += len(some)
        return answers


def occluded_images(image: Tensor, fill: Tensor, corners: list[tuple[int, int]], patch: int) -> Tensor:
    """Return copies of an image with the occluder at each corner, (occluder, channel, y, x)."""
    copies = image.repeat(len(corners), 1, 1, 1)
    for copy, (top, left) in zip(copies, corners):
        copy[:, top : top + patch, left : left + patch] = fill[:, top : top + patch, left : left + patch]
    return copies
