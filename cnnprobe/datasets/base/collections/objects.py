"""Objects in images: which class an image has, and where in the picture shown the objects of that class are."""

import hashlib
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from cnnprobe.datasets.base.collections import run_lengths
from cnnprobe.datasets.base.collections.run_lengths import Runs
from cnnprobe.datasets.base.fitting import geometry
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN


@dataclass(frozen=True)
class Outlines:
    """Polygons around objects, one behind the other.

    Args:
        owners: (polygon,) the object each belongs to, ascending.
        ends: (polygon,) where its corners end among all.
        corners: (corner, xy) float32, px of the source image.
    """

    owners: np.ndarray
    ends: np.ndarray
    corners: np.ndarray

    def of(self, number: int) -> list[np.ndarray]:
        """Return the polygons of one object, each (corner, xy)."""
        first, last = np.searchsorted(self.owners, [number, number + 1])
        return [self.corners[self.ends[i - 1] if i else 0 : self.ends[i]] for i in range(first, last)]


class Objects:
    """The objects of many images.

    Args:
        images: (object,) index of the image each lies in.
        classes: (object,) index of its class.
        boxes: (object, 4) top, left, bottom, right edges; px of the source image, or shares of its height and width.
        areas: (object,) by which the largest is found.
        shares: boxes are shares.
        outlines: of the objects, in the same order; None: only boxes are known.
        masks: of those objects that have one instead of an outline; None: none has.
    """

    def __init__(
        self,
        images: np.ndarray,
        classes: np.ndarray,
        boxes: np.ndarray,
        areas: np.ndarray,
        *,
        shares: bool = False,
        outlines: Outlines | None = None,
        masks: Runs | None = None,
    ):
        self.order = np.lexsort((-areas, images))  # by image, the largest first; of equal ones the first
        self.images = images[self.order]
        self.classes, self.boxes = classes, boxes
        self.shares = shares
        self.outlines = outlines
        self.masks = masks

    def largest(self, count: int) -> np.ndarray:
        """Return the class of the largest object of each of `count` images, (image,); -1 where there is none."""
        found = np.full(count, UNKNOWN, dtype=np.int64)
        images, first = np.unique(self.images, return_index=True)
        found[images] = self.classes[self.order[first]]
        return found

    def pairs(self) -> np.ndarray:
        """Return (2, object): the image that each object lies in, and its class."""
        return np.stack([self.images, self.classes[self.order]]).astype(np.int64)

    def digest(self) -> str:
        """Return the sha256 (hex) of all that says where objects are, and of which class."""
        known = [self.order, self.images, self.classes, self.boxes, np.array(self.shares)]
        for more in (self.outlines, self.masks):
            known += [] if more is None else [getattr(more, one.name) for one in fields(more)]
        digest = hashlib.sha256()
        for values in known:
            array = np.ascontiguousarray(values)
            digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        return digest.hexdigest()

    def renumbered(self, numbers: np.ndarray) -> Self:
        """Return the same objects, of images that have other indices; `numbers`: (image,) the new ones, ascending."""
        other = copy(self)
        other.images = numbers[self.images]
        return other

    def truth(
        self, image: int, label: int, source: Sequence[int], size: Sequence[int], resize: int | None
    ) -> dict[str, np.ndarray]:
        """Return where the objects of an image's class are, once it is scaled and cropped.

        Args:
            image: its index.
            label: the class.
            source: (height, width) of the source image, px.
            size: (height, width) as it is shown, px.
            resize: shorter side before the crop, px, or None.

        Returns:
            boxes: (object, 4) top, left, bottom, right edges, px as shown; what the crop cuts off is left out.
            cue: (y, x) bool, px whose centres lie in the objects; only where outlines are known.
        """
        scaled, start = geometry(source, size, resize)
        here = self.of(image)
        here = np.sort(here[self.classes[here] == label])
        scale = np.array(scaled) / (1 if self.shares else np.array(source))
        boxes = self.boxes[here].astype(float) * np.tile(scale, 2) - np.tile(start, 2)
        boxes = np.clip(boxes, 0, np.tile(size, 2))
        known = {"boxes": boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]}
        if self.outlines is not None:
            known["cue"] = self.covered(here, source, size, resize)
        return known

    def of(self, image: int) -> np.ndarray:
        """Return (object,) numbers of those in an image, the largest first."""
        return self.order[slice(*np.searchsorted(self.images, [image, image + 1]))]

    def covered(
        self, numbers: Iterable[int], source: Sequence[int], size: Sequence[int], resize: int | None
    ) -> np.ndarray:
        """Return (y, x) bool: the px of a picture as shown whose centre lies in one of some objects of an image.

        Args:
            numbers: of the objects, whose outlines or masks are known.
            source, size, resize: see `truth`.
        """
        scaled, start = geometry(source, size, resize)
        scale, found = np.array(scaled[::-1]) / np.array(source[::-1]), np.zeros(size, bool)
        for number in numbers:
            for polygon in self.outlines.of(number) if self.outlines else ():
                found |= filled(polygon * scale - np.array(start[::-1]), size)
            for runs in self.masks.of(number) if self.masks else ():
                found |= run_lengths.shown(runs, source, size, resize)
        return found


def filled(polygon: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return (y, x) bool of `size`: the px whose centre lies inside a polygon (corner, xy), by the even-odd rule."""
    x, y = polygon.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    centres = np.arange(size[0]) + 0.5
    edge, row = np.nonzero((y[:, None] <= centres) != (next_y[:, None] <= centres))
    part = (centres[row] - y[edge]) / (next_y[edge] - y[edge])
    crossing = x[edge] + part * (next_x[edge] - x[edge])
    turns = np.zeros((size[0], size[1] + 1), np.int32)
    np.add.at(turns, (row, np.ceil(crossing - 0.5).clip(0, size[1]).astype(int)), 1)
    return np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
