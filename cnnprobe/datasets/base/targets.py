"""What a network is to answer for the images of a set: one class, several, a class for every pixel, or a course."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["class", "present", "map", "course"]
NOT_COUNTED = 255
"""In a map of classes: a pixel that is neither learned nor judged."""
BACKGROUND = "background"
"""Name of class 0 of a map where it stands for everything else; means over classes leave it out."""


@dataclass(frozen=True)
class Target:
    """The target of every image of a set.

    Args:
        kind: what `ImageSet.targets` gives:
            class    (image,) int64, one class per image, -1 where unknown
            present  (image, class) uint8, 1 where the image has the class: several may hold, or none
            map      (image, y, x) uint8, the class of every pixel, 255 where it does not count
            course   (image, channel, time) float32
        names: of the classes, or of the channels of a course.
        size: (y, x) of a map, (channel, time) of a course; () of the others.
        rate: of a course, samples per second; None where that is not known.
        start: time of its first sample, s.
    """

    kind: Kind
    names: tuple[str, ...]
    size: tuple[int, ...] = ()
    rate: float | None = None
    start: float = 0.0

    @property
    def alone(self) -> bool:
        """Whether a target is as small as a row of numbers, so that those of all images are held in memory."""
        return self.kind in ("class", "present")

    @property
    def judged(self) -> tuple[int, ...]:
        """Indices of the names that means are taken over: of a map all but the background."""
        first = 1 if self.kind == "map" and self.names[:1] == (BACKGROUND,) else 0
        return tuple(range(first, len(self.names)))


def groups_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the groups of channels and which belong to each: of names such as "hand/thumb", what stands before "/".

    Channels are named in groups where each name has one, and there are two or more; {} where they are not.
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name.partition("/")[0] if "/" in name.strip("/") else "", []).append(place)
    return found if len(found) > 1 and "" not in found else {}


class Present:
    """Which classes images have: several each, one, or none.

    Args:
        pairs: (2, pair) index of an image, of a class that it has; a pair may be there more than once.
        count: of all classes.
    """

    def __init__(self, pairs: np.ndarray, count: int):
        self.images, self.classes = np.unique(pairs.astype(np.int64), axis=1)  # by image, then by class
        self.count = count

    def of(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return (image, class) uint8 of some images, 1 where one has the class."""
        first, last = np.searchsorted(self.images, [np.asarray(indices), np.asarray(indices) + 1])
        found = np.zeros((len(first), self.count), np.uint8)
        for row, (start, stop) in enumerate(zip(first, last)):
            found[row, self.classes[start:stop]] = 1
        return torch.from_numpy(found)

    def alone(self, count: int) -> np.ndarray:
        """Return (image,) int64 of so many images, the class of those that have one alone; -1 of the others."""
        found = np.full(count, -1, np.int64)
        images, first, times = np.unique(self.images, return_index=True, return_counts=True)
        found[images[times == 1]] = self.classes[first[times == 1]]
        return found

    def digest(self) -> str:
        """Return the sha256 (hex) of all."""
        values = np.stack([self.images, self.classes]).astype("<i8")
        return hashlib.sha256(f"{self.count} ".encode() + values.tobytes()).hexdigest()


def middle(targets: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the middle of maps (image, y, x), as large as the output of a network without padding."""
    starts = [(whole - part) // 2 for whole, part in zip(targets.shape[-2:], size)]
    return targets[..., starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]]


def around(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (image, y, x) in the middle of larger ones (y, x), uint8, with 255 around: what `middle` undoes."""
    above, left = ((whole - part) // 2 for whole, part in zip(size, maps.shape[-2:]))
    below, right = (whole - part - before for whole, part, before in zip(size, maps.shape[-2:], (above, left)))
    return functional.pad(maps.to(torch.uint8), (left, right, above, below), value=NOT_COUNTED)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return (image, class) uint8 of the one class that each image has; a row of zeros where it is unknown."""
    found = torch.zeros(len(labels), classes, dtype=torch.uint8, device=labels.device)
    known = (labels >= 0).nonzero()[:, 0]
    found[known, labels[known]] = 1
    return found
