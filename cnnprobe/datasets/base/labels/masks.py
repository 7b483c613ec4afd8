"""Masks beside the images of a folder: PNGs of the same names whose pixels are the indices of classes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.decoding import NoIndices, Unreadable, decode_indices, in_portions
from cnnprobe.datasets.base.fitting import nearest
from cnnprobe.datasets.base.image_files import FolderSet
from cnnprobe.datasets.base.imageset import sha256, shown
from cnnprobe.datasets.base.labels.class_tables import class_table
from cnnprobe.datasets.base.listing import Listing
from cnnprobe.datasets.base.targets import BACKGROUND, NOT_COUNTED, Target
from cnnprobe.errors import UserError
from cnnprobe.machine import files, signals

FOREGROUND = "foreground"


class MaskFiles(FolderSet):
    """The masks of images, whether they are there or not; their content is compared as that of images is.

    Args:
        found: listing of the folder of masks.
        images: paths of images below a folder of their own; a mask has the same one, but ends in .png.
    """

    def __init__(self, found: Listing, images: Iterable[str]):
        self.listing = found
        there = {f"{_stem(name)}.png": name for name in found.images if name.lower().endswith(".png")}
        wanted = [f"{_stem(name)}.png" for name in images]
        self.absent = {name for name in wanted if name not in there}
        paths = [there.get(name, name) for name in wanted]
        fitting: dict[str, Any] = {"size": None, "resize": None, "strict": False, "name": "masks"}
        super().__init__(Path(found.root), paths, np.full(len(paths), -1), (), **fitting)

    def path(self, index: int) -> Path:
        """Return where a mask lies.

        Raises:
            Unreadable: it was not there when the folder was listed, or is behind a link that is not followed.
        """
        if self.files[index] in self.absent:
            raise Unreadable(f"no {shown(self.files[index])} in the folder of masks")
        return super().path(index)

    def read(self, index: int) -> np.ndarray:
        """Return (y, x) uint8, the indices that a mask holds.

        Raises:
            Unreadable: it is not there, or cannot be read.
            UserError: it is another file than when its digest was taken.
        """
        try:
            return decode_indices(self.path(index))
        finally:
            self._same_as_before(index)

    def values(self) -> np.ndarray:
        """Return (256,) bool, which indices occur in the masks that can be read.

        Raises:
            UserError: there is none of them, or one holds no indices.
        """
        there = [self.path(index) for index, name in enumerate(self.files) if name not in self.absent]
        where = shown(str(self.root))
        if not there:
            wanted = shown(self.files[0])
            raise UserError(f"dataset.masks={where} has a mask for none of {len(self)} images, e.g. no {wanted}")
        used, other = _values(tuple(there), tuple(map(files.state_of, there)))
        if other:
            path, what = other
            name = shown(str(path.relative_to(self.root)))
            raise UserError(
                f"dataset.masks={where}: {name} holds {what}; a mask has the index of a class in each pixel, as grey "
                "of 8 bits or of a palette"
            )
        return used


class Masked(FolderSet):
    """Images below a folder with a mask each, whose classes are those of its pixels.

    Args:
        root, images, labels, classes: see `FolderSet`.
        masks: one per image.
        meaning: of their values.
        fitting: size, resize and strict of `FolderSet`.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[str],
        labels: Iterable[int],
        classes: Iterable[str],
        *,
        masks: MaskFiles,
        meaning: "Meaning",
        **fitting: Any,
    ):
        super().__init__(root, images, labels, classes, **fitting)
        self.masks, self.meaning = masks, meaning

    @property
    def target(self) -> Target:
        """The class of every pixel."""
        return Target("map", self.meaning.names, self.size[1:])

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Read masks and fit them to the network as the images are fitted."""
        maps = np.full((len(indices), *self.size[1:]), NOT_COUNTED, np.uint8)
        known = np.zeros(len(indices), bool)
        for row, index in enumerate(indices):
            try:
                maps[row] = self._map(int(index))
                known[row] = True
            except Unreadable as reason:
                self.unreadable(int(index), str(reason))
        return torch.from_numpy(maps), known

    def targets_digest(self) -> str:
        """sha256 (hex) of what the values mean, and of each mask's name, size and content."""
        return sha256(self.masks.fingerprint, self.meaning.index.tobytes())

    def _map(self, index: int) -> np.ndarray:
        mask, source = self.masks.read(index), self.original_size(index)
        if source is None:
            raise Unreadable(self.problems[self.names[index]])
        if mask.shape != source:
            raise Unreadable(f"its mask has {_by(mask.shape)} px, the image {_by(source)} (height x width)")
        y, x = nearest(source, self.size[1:], self.resize)
        classes = self.meaning.index[mask[y[:, None], x]]
        if (beyond := classes[classes != NOT_COUNTED]).max(initial=0) >= len(self.meaning.names):
            raise Unreadable(f"its mask holds class {beyond.max()}, of {len(self.meaning.names)}")
        return classes


@dataclass(frozen=True)
class Meaning:
    """What the values of masks mean.

    Args:
        names: of the classes.
        index: (256,) uint8, the class of each value, 255 where it does not count.
        notes: what the user should know, one line each.
    """

    names: tuple[str, ...]
    index: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, used: np.ndarray, table: str | None) -> "Meaning":
        """Find out what values mean: themselves, or where they are but 0 and 255 background and foreground.

        Args:
            used: (256,) bool, those that occur in the masks of all splits.
            table: of classes (index, name); None: they are background, "1", "2", … up to the largest value.

        Raises:
            UserError: the table names no class for a value.
        """
        index, largest = np.arange(256, dtype=np.uint8), int(np.flatnonzero(used[:NOT_COUNTED]).max(initial=0))
        said = _named(table) if table else {}
        if used[NOT_COUNTED] and not largest and set(said) in (set(), {0, 1}, {0, NOT_COUNTED}):
            index[NOT_COUNTED] = 1
            low, high = (said[0], said[max(said)]) if said else (BACKGROUND, FOREGROUND)
            return cls((low, high), index, (f"masks hold 0 and 255 alone, which are taken for {low} and {high}",))
        notes = []
        if used[NOT_COUNTED] and not largest:
            notes.append(f"masks hold 0 and 255 alone; with the {len(said)} classes of {table}, 255 does not count")
        said.pop(NOT_COUNTED, None)
        if said:
            if largest > max(said):
                raise UserError(f"dataset.classes={table} names the classes 0 to {max(said)}, but masks hold {largest}")
            return cls(tuple(said.get(i, str(i)) for i in range(max(said) + 1)), index, tuple(notes))
        there = int(used[1 : largest + 1].sum())
        if 2 * there < largest:
            notes.append(f"masks hold {there} values up to {largest} beside 0: are they shades, and not the indices of "
                         "classes? (dataset.classes=FILE names those that are meant)")  # fmt: skip
        return cls((BACKGROUND, *map(str, range(1, largest + 1))), index, tuple(notes))


def _named(table: str) -> dict[int, str]:
    """Return the name of each index of a table of classes."""
    names = class_table(table)[0]
    if len(names) > NOT_COUNTED + 1:
        raise UserError(f"dataset.classes={table} has the index {len(names) - 1}; masks hold classes 0 to 254")
    found = {i: name for i, name in enumerate(names) if name}
    if found.get(0, "").casefold() == BACKGROUND:
        found[0] = BACKGROUND
    return found


@lru_cache(maxsize=4)
def _values(paths: tuple[Path, ...], states: tuple[int, ...]) -> tuple[np.ndarray, tuple[Path, str] | None]:
    """Return which values occur in masks, and the first that holds none, with what it holds; once for all splits.

    Args:
        paths: of the masks.
        states: of the files: others are looked at again.
    """
    parts = in_portions(_values_of, paths)
    return np.logical_or.reduce([used for used, _ in parts]), next((other for _, other in parts if other), None)


def _values_of(paths: Sequence[Path]) -> tuple[np.ndarray, tuple[Path, str] | None]:
    """Return which values occur in some masks, and the first that holds none; those that cannot be read say nothing."""
    used = np.zeros(256, bool)
    for path in paths:
        signals.leave()
        try:
            used |= np.bincount(decode_indices(path).ravel(), minlength=256) > 0
        except NoIndices as what:
            return used, (path, str(what))
        except Unreadable:
            continue
    return used, None


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]  # noqa: PTH122


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
