"""Small pictures of images and signals for the figures of a run, kept on disk until they are stored."""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished

BUDGET = 128 * 2**20
"""Bytes that all pictures of a run may take when their size is chosen for them."""
SMALLEST = {2: 32, 1: 256}
"""Longer side of a picture at least: px of an image, samples of a signal."""


def picture_kind(size: tuple[int, ...]) -> tuple[str, str]:
    """Return type and unit of stored pictures of (channel, y, x), or of (channel, time), which have any values."""
    return ("uint8", "0 to 255") if len(size) == 3 else ("float32", "as in the dataset")


def thumbnails(images: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Shrink images by averaging areas; images that are smaller are not enlarged beyond `size`.

    Args:
        images: (image, channel, y, x), float 0 to 1, or signals (signal, channel, time).
        size: (y, x) or (time,) of the pictures.

    Returns:
        the same axes, uint8 0 to 255; of signals float32.
    """
    pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool1d
    smaller = images if tuple(images.shape[2:]) == tuple(size) else pool(images, size)
    if len(size) == 1:
        return smaller.float().cpu().numpy()
    return smaller.clamp(0, 1).mul(255).round().byte().cpu().numpy()


def class_thumbnails(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return maps of classes (image, y, x) as small as pictures (y, x): the class in the middle of each pixel."""
    rows, columns = ((np.arange(side) + 0.5) * whole // side for side, whole in zip(size, maps.shape[1:]))
    return maps[:, rows.astype(int)[:, None], columns.astype(int)]


def picture_size(image: tuple[int, ...], count: int, side: int | None = None) -> tuple[int, ...]:
    """Choose the size of stored pictures: as the images, or smaller where `count` of them would take too much.

    Args:
        image: (channel, y, x) or (channel, time).
        count: how many pictures.
        side: the longer side requested, px; None chooses.

    Returns:
        the same axes.
    """
    channels, *sides = image
    longest = max(sides)
    if side is None:
        whole = max(1, count * math.prod(image) * np.dtype(picture_kind(image)[0]).itemsize)
        share = (BUDGET / whole) ** (1 / len(sides))
        side = max(min(SMALLEST[len(sides)], longest), int(longest * min(1.0, share)))
    scale = min(1.0, side / longest)
    return (channels, *(max(1, round(length * scale)) for length in sides))


def crop(image: Tensor, region: Sequence[tuple[float, float]]) -> Tensor:
    """Cut a region out of an image or signal; what lies outside is grey, of a signal NaN.

    Args:
        image: (channel, y, x) or (channel, time).
        region: (first, last) pixel per axis; may reach beyond the image.

    Returns:
        the same axes, of the region's size.
    """
    ends = [(round(first), round(last)) for first, last in region]
    made = torch.full((image.shape[0], *(last - first + 1 for first, last in ends)), 0.5 if len(ends) > 1 else math.nan)
    inside = [slice(max(0, first), max(0, last + 1)) for first, last in ends]
    piece = image[:, *inside]
    starts = [part.start - first for part, (first, _) in zip(inside, ends)]
    made[:, *(slice(start, start + length) for start, length in zip(starts, piece.shape[1:]))] = piece
    return made


class Album:
    """Pictures of the images in some lists, kept in a nameless file so that memory does not grow with their number.

    Args:
        lists: by any key, (row, k) index of images, -1 for none.
        size: (channel, y, x) or (channel, time) of a picture.
    """

    def __init__(self, lists: dict[Any, np.ndarray], size: tuple[int, ...]):
        self.lists, self.size = lists, size
        self.dtype = np.dtype(picture_kind(size)[0])
        self.bytes = math.prod(size) * self.dtype.itemsize
        starts = np.cumsum([0, *(images.size for images in lists.values())])
        self.first = dict(zip(lists, starts.tolist()))
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), or with the process

    def images(self) -> np.ndarray:
        """Return the images that are needed, each once, sorted."""
        every = np.unique(np.concatenate([images.ravel() for images in self.lists.values()]))
        return every[every >= 0]

    def fill(
        self,
        loaded: Source,
        regions: Callable[[Any, int], Any] | None = None,
        unfinished: Unfinished | None = None,
    ) -> Iterator[Advance]:
        """Make every picture, from one pass over the images that are needed.

        Args:
            loaded: batches of `images()`, see `passes.passing`.
            regions: where given, the picture is what `regions(key, place)` cuts out, place counting the
                entries of that list row by row.
            unfinished: keeps the pictures so far.
        """
        keys = list(self.lists)
        flat = np.concatenate([images.ravel() for images in self.lists.values()])
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.array(list(self.first.values()))

        def use(batch: Any, _: None) -> None:
            small = thumbnails(batch.images, self.size[1:])
            for i, index in enumerate(batch.indices):
                low, high = np.searchsorted(ordered, [index, index + 1])
                for slot in order[low:high]:
                    picture = small[i]
                    if regions is not None:
                        key = keys[int(np.searchsorted(starts, slot, side="right")) - 1]
                        cut = crop(batch.images[i].cpu(), regions(key, int(slot) - self.first[key]))
                        picture = thumbnails(cut[None], self.size[1:])[0]
                    os.pwrite(self.file.fileno(), picture.tobytes(), int(slot) * self.bytes)

        how: dict[str, Any] = {"take": self._state, "restore": self._restore, "unfinished": unfinished}
        yield from passing("pictures", len(self.images()), loaded, lambda part: None, use, **how)

    def _state(self) -> State:
        """Return what is on disk."""
        return {"bytes": np.frombuffer(os.pread(self.file.fileno(), len(self) * self.bytes, 0), np.uint8)}

    def _restore(self, state: State) -> None:
        os.pwrite(self.file.fileno(), state["bytes"].tobytes(), 0)

    def __len__(self) -> int:
        """Pictures it has room for."""
        return sum(images.size for images in self.lists.values())

    def rows(self, key: Any, rows: slice) -> np.ndarray:
        """Return the pictures of some rows of a list, (row, k, channel, y, x); white, or NaN, where there is none."""
        images = self.lists[key][rows]
        start = (self.first[key] + rows.start * images.shape[1]) * self.bytes
        data = os.pread(self.file.fileno(), images.size * self.bytes, start)
        filled = np.zeros(images.size * self.bytes, np.uint8)
        filled[: len(data)] = np.frombuffer(data, np.uint8)
        pictures = filled.view(self.dtype).reshape(*images.shape, *self.size)
        pictures[images < 0] = 255 if self.dtype == np.uint8 else math.nan
        return pictures

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()
