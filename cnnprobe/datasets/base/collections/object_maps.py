"""Maps of classes out of the objects in an image: of every pixel, which kind of object lies there."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.collections.collection import Collection
from cnnprobe.datasets.base.collections.objects import Objects
from cnnprobe.datasets.base.imageset import sha256
from cnnprobe.datasets.base.names import Names
from cnnprobe.datasets.base.targets import BACKGROUND, NOT_COUNTED, Target
from cnnprobe.errors import UserError


class Mapped(Collection):
    """Images of a collection, all of them, with a class for every pixel: the background or that of an object.

    Smaller objects lie on larger ones, of equal ones the one behind in the list. What a crowd covers does not count,
    with the objects in it.

    Args:
        root, files, labels, classes: see `Collection`.
        objects: with outlines or masks.
        crowds: many objects in one outline or mask each.
        sizes: (file, 2) height and width that the list gives, px.
        fitting: size, resize, strict and name of `Collection`.

    Raises:
        UserError: there are more classes than a map can hold, or no image can be read.
    """

    objects: Objects
    sizes: np.ndarray

    def __init__(
        self,
        root: Path,
        files: Names,
        labels: np.ndarray,
        classes: Iterable[str],
        *,
        objects: Objects,
        crowds: Objects,
        sizes: np.ndarray,
        **fitting: Any,
    ):
        super().__init__(root, files, labels, classes, objects=objects, sizes=sizes, **fitting)
        self.crowds = crowds
        if len(self.classes) >= NOT_COUNTED:
            raise UserError(f"{self.name} has {len(self.classes)} classes, a map holds {NOT_COUNTED - 1} at most")

    @property
    def target(self) -> Target:
        """The class of every pixel."""
        return Target("map", (BACKGROUND, *self.classes), self.size[1:])

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Draw maps of images; one that has another size than its list says cannot be read."""
        maps = np.full((len(indices), *self.size[1:]), NOT_COUNTED, np.uint8)
        known = np.zeros(len(indices), bool)
        for row, index in enumerate(map(int, indices)):
            source, said = self.original_size(index), tuple(self.sizes[index].tolist())
            if source is not None and source != said:
                (height, width), (its, own) = said, source
                self.unreadable(index, f"it has {its} x {own} px, its annotations {height} x {width} (height x width)")
            elif source is not None:
                maps[row], known[row] = self._map(index, source), True
        return torch.from_numpy(maps), known

    def targets_digest(self) -> str:
        """sha256 (hex) of where objects and crowds are, and of which class."""
        return sha256(self.objects.digest(), self.crowds.digest(), np.ascontiguousarray(self.sizes, "<i8").tobytes())

    def _map(self, image: int, source: Sequence[int]) -> np.ndarray:
        fitting = (source, self.size[1:], self.resize)
        found = np.zeros(self.size[1:], np.uint8)
        for number in self.objects.of(image):
            found[self.objects.covered([number], *fitting)] = self.objects.classes[number] + 1
        found[self.crowds.covered(self.crowds.of(image), *fitting)] = NOT_COUNTED
        return found
