"""The images a network is trained on, held in memory or loaded anew; their order is a function of seed and epoch.

Which images can be read is known only once they were: an order is one of all images, and those that cannot be read are
left out of the batch that they would be in. So nothing depends on whether images are held.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import NOT_COUNTED
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.machine.memory import free_memory

READING = 256  # images decoded at a time while filling the memory


class Supply:
    """Batches of a dataset in any order, as they lie before or after fitting them to the network.

    Args:
        dataset: an image set (datasets/base/imageset.py).
        device: where the images shall be.
        workers: loader processes.
        preload: hold all decoded images in memory; "auto": where they take at most half of what is free.
        source: give the images before fitting, where all share a size; `fit` is then left to the caller. Not where
            maps lie beside the images: they are of the size at which these enter.
    """

    def __init__(
        self, dataset: ImageSet, *, device: torch.device, workers: int, preload: bool | str, source: bool = False
    ):
        self.source = source and dataset.source_size is not None and dataset.target.kind != "map"
        self.dataset = _before_fitting(dataset) if self.source else dataset
        self.device, self.workers, self.preload = device, workers, preload
        self.readable = np.ones(len(dataset), dtype=bool)  # of the images that are held
        everything = np.arange(len(dataset))
        self.beside = not dataset.target.alone
        """Whether targets are loaded with each image; those of a few numbers are held."""
        self.targets = None if self.beside else dataset.targets(everything)[0].to(device)
        self.held: Tensor | None = None

    def fill(self, should_stop: Callable[[], bool]) -> bool:
        """Read all images into memory where that is requested and fits; return False where that was stopped.

        Bytes stay bytes: a quarter of the memory, and divided by 255 they are the same numbers as ever.
        """
        samples = [self.dataset.load(np.array([0]))[0], *([self.dataset.targets([0])[0]] if self.beside else [])]
        count, needed = len(self.dataset), len(self.dataset) * sum(one.nbytes for one in samples)
        if not (needed <= free_memory(self.device) / 2 if self.preload == "auto" else self.preload):
            return True
        held, *targets = (torch.empty((count, *one.shape[1:]), dtype=one.dtype, device=self.device) for one in samples)
        readable = np.zeros(count, dtype=bool)
        for batch in batches(self.dataset, batch_size=READING, workers=self.workers, targets=self.beside):
            own = slice(batch.indices[0], batch.indices[-1] + 1)
            held[own] = batch.images if held.is_floating_point() else batch.images.mul_(255).round_().to(torch.uint8)
            readable[batch.indices] = batch.readable
            if targets:
                targets[0][own] = batch.targets
            if should_stop():
                return False
        self.held, self.readable, self.targets = held, readable, targets[0] if targets else self.targets
        return True

    def pixels(self) -> np.ndarray:
        """Return (class,) counts of the pixels of all maps, those that count."""
        classes = len(self.dataset.target.names)
        counts = np.zeros(NOT_COUNTED + 1, np.int64)
        for start in range(0, len(self.dataset), READING):
            chosen = np.flatnonzero(self.readable[start : start + READING]) + start
            known = np.ones(len(chosen), bool)
            if self.targets is not None:
                maps = self.targets[torch.from_numpy(chosen).to(self.device)]
            else:
                maps, known = self.dataset.targets(chosen)
            pixels = maps[torch.from_numpy(known).to(maps.device)].flatten().long()
            counts += torch.bincount(pixels, minlength=len(counts)).cpu().numpy()
        return counts[:classes]

    def shown(
        self, order: np.ndarray, parts: list[tuple[int, int]], batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give images, uint8 or float 0 to 1, their targets and their indices, all on the device.

        Of each batch those that can be read: it may be smaller than its part of the order, or empty.

        Args:
            order: (image,) indices in the dataset.
            parts: (start, stop) in `order` of each batch, as `parted` makes them, from any batch on.
            batch_size: what they were made with.
        """
        if self.held is not None and self.targets is not None:
            kept = self.readable[order]
            indices, places = torch.from_numpy(order[kept]).to(self.device), np.concatenate([[0], kept.cumsum()])
            for start, stop in parts:
                chosen = indices[places[start] : places[stop]]
                yield self.held.index_select(0, chosen), self.targets.index_select(0, chosen), chosen
        elif parts:
            yield from self._loaded(order, parts, batch_size)

    def _loaded(self, order: np.ndarray, parts: list[tuple[int, int]], batch_size: int) -> Iterator[tuple]:
        source = batches(
            self.dataset,
            batch_size=batch_size,
            device=self.device,
            workers=self.workers,
            indices=order,
            start=parts[0][0],
            targets=self.beside,
        )
        for start, stop in parts:
            arrived = [next(source) for _ in range(start, stop, batch_size)]  # two where the last one was alone
            indices = torch.from_numpy(np.concatenate([batch.indices for batch in arrived]))
            images = torch.cat([batch.images for batch in arrived]) if len(arrived) > 1 else arrived[0].images
            readable = np.concatenate([batch.readable for batch in arrived])
            if not readable.all():
                kept = torch.from_numpy(np.flatnonzero(readable))
                indices, images = indices[kept], images[kept.to(self.device)]
            indices = indices.to(self.device)
            yield images, self._beside(arrived, readable) if self.targets is None else self.targets[indices], indices

    def _beside(self, arrived: list[Batch], readable: np.ndarray) -> Tensor:
        """Return the targets that came with images, of those that can be read."""
        targets = torch.cat([batch.targets for batch in arrived if batch.targets is not None])
        return targets[torch.from_numpy(readable).to(targets.device)]


def _before_fitting(dataset: ImageSet) -> ImageSet:
    """Return the same dataset with its images as they are before `fit`."""
    view: Any = copy.copy(dataset)  # two of its methods are replaced
    view.load, view.fit = dataset.load_source, _as_it_is
    return view


def _as_it_is(images: Tensor) -> Tensor:
    return images


def parted(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut `count` images into batches; one left over joins the batch before it, as BatchNorm needs more than one."""
    starts = list(range(0, count, batch_size))
    if count % batch_size == 1 and len(starts) > 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count]))


def order_of(count: int, seed: int, epoch: int, odds: np.ndarray | None = None) -> np.ndarray:
    """Return the images of one epoch in the order they are shown; a function of its arguments alone.

    Args:
        count: how many images there are.
        odds: (image,) how often each is shown relative to others, drawn with replacement; None: once.
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
    if odds is None:
        return generator.permutation(count)
    return generator.choice(count, size=count, p=odds / odds.sum())
