"""Small pictures of images for the figures of a run, kept on disk until they are stored."""

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BUDGET = 128 * 2**20
"""Bytes that all pictures of a run may take when their size is chosen for them."""
SMALLEST = 32


def thumbnails(images: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Shrink images by averaging areas; images that are smaller are not enlarged beyond `size`.

    Args:
        images: (image, channel, y, x) or (image, channel, time), float 0 to 1.
        size: (y, x) or (time,) of the pictures.

    Returns:
        the same axes, uint8 0 to 255.
    """
    pool = functional.adaptive_avg_pool2d if len(size) == 2 else functional.adaptive_avg_pool1d
    smaller = images if tuple(images.shape[2:]) == tuple(size) else pool(images, size)
    return smaller.clamp(0, 1).mul(255).round().byte().cpu().numpy()


def picture_size(image: tuple[int, ...], count: int, side: int | None = None) -> tuple[int, ...]:
    """Choose the size of stored pictures: as the images, or smaller where `count` of them would take too much.

    Args:
        image: (channel, y, x).
        count: how many pictures.
        side: the longer side asked for, px; None chooses.

    Returns:
        (channel, y, x).
    """
    channels, *sides = image
    longest = max(sides)
    if side is None:
        share = math.sqrt(BUDGET / max(1, count * math.prod(image)))
        side = max(min(SMALLEST, longest), int(longest * min(1.0, share)))
    scale = min(1.0, side / longest)
    return (channels, *(max(1, round(length * scale)) for length in sides))


def crop(image: Tensor, region: Sequence[tuple[float, float]]) -> Tensor:
    """Cut a region out of an image; what lies outside the image is grey.

    Args:
        image: (channel, y, x).
        region: (first, last) pixel per axis; may reach beyond the image.

    Returns:
        (channel, y, x) of the region's size.
    """
    (top, bottom), (left, right) = ((round(first), round(last)) for first, last in region)
    made = torch.full((image.shape[0], bottom - top + 1, right - left + 1), 0.5)
    y, x = slice(max(0, top), max(0, bottom + 1)), slice(max(0, left), max(0, right + 1))
    piece = image[:, y, x]
    made[:, y.start - top : y.start - top + piece.shape[1], x.start - left : x.start - left + piece.shape[2]] = piece
    return made


class Album:
    """Pictures of the images in some lists, kept in a nameless file so that memory does not grow with their number.

    Args:
        lists: by any key, (row, k) index of images, -1 for none.
        size: (channel, y, x) of a picture.
    """

    def __init__(self, lists: dict[Any, np.ndarray], size: tuple[int, ...]):
        self.lists, self.size = lists, size
        self.bytes = math.prod(size)
        starts = np.cumsum([0, *(images.size for images in lists.values())])
        self.first = dict(zip(lists, starts.tolist()))
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close(), or with the process

    def images(self) -> np.ndarray:
        """Return the images that are needed, each once, sorted."""
        every = np.unique(np.concatenate([images.ravel() for images in self.lists.values()]))
        return every[every >= 0]

    def fill(self, loaded: Iterable[Any], regions: Callable[[Any, int], Any] | None = None) -> None:
        """Make every picture, from one pass over the images that are needed.

        Args:
            loaded: batches of `images()`.
            regions: where given, the picture is what `regions(key, place)` cuts out, place counting the
                entries of that list row by row.
        """
        keys = list(self.lists)
        flat = np.concatenate([images.ravel() for images in self.lists.values()])
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.array(list(self.first.values()))
        for batch in loaded:
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

    def rows(self, key: Any, rows: slice) -> np.ndarray:
        """Return the pictures of some rows of a list, (row, k, channel, y, x); white where there is none."""
        images = self.lists[key][rows]
        start = (self.first[key] + rows.start * images.shape[1]) * self.bytes
        data = os.pread(self.file.fileno(), images.size * self.bytes, start)
        filled = np.zeros(images.size * self.bytes, np.uint8)
        filled[: len(data)] = np.frombuffer(data, np.uint8)
        pictures = filled.reshape(*images.shape, *self.size)
        pictures[images < 0] = 255
        return pictures

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()
