"""The conditions compared: every image by itself, or classes, whose images are repeats; and a picture of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.thumbnails import picture_size, thumbnails
from cnnprobe.store.tables import Column, Rows, Table

PICTURED = 400
"""Conditions up to which each has a picture."""
SIDE = 64
"""Longer side of the pictures, px."""
ConditionColumn = Literal["name", "label", "images"]
"""Columns of the table "conditions"."""
PictureColumn = Literal["pixels"]
"""Columns of the table "pictures"."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a dataset, in its order.

    Args:
        names: of each.
        groups: (image,) index of the condition an image belongs to, -1 for none.
        labels: (condition,) class of a stimulus, -1 where unknown; None where a condition is a class.
    """

    names: tuple[str, ...]
    groups: np.ndarray
    labels: np.ndarray | None

    @property
    def firsts(self) -> np.ndarray:
        """The first image of each condition, (condition,)."""
        return np.array([np.flatnonzero(self.groups == group)[0] for group in range(len(self.names))], np.int64)

    def table(self) -> Table[ConditionColumn]:
        """Lay out what is stored of them; everything is known."""
        count, names = len(self.names), np.array(self.names, dtype=object)
        columns: dict[ConditionColumn, Column] = {
            "name": Column("stimulus, or class", dtype="str", values=names),
            "label": Column("class of the stimulus, -1 = unknown", dtype="int64", unit="index",
                            values=np.full(count, -1) if self.labels is None else self.labels),
            "images": Column("how many", dtype="int64", values=np.bincount(self.groups[self.groups >= 0])),
        }  # fmt: skip
        return Table("conditions", "condition", count, columns, aside=True)


def conditions_of(dataset: ImageSet, by_class: bool) -> Conditions:
    """Return the conditions of an image set: its images, or those of its classes that have images."""
    labels = dataset.labels
    if not by_class:
        return Conditions(tuple(dataset.names), np.arange(len(labels)), labels)
    present = np.unique(labels[labels >= 0])
    groups = np.where(labels >= 0, np.searchsorted(present, labels), -1)
    return Conditions(tuple(str(dataset.classes[index]) for index in present), groups, None)


def pictures_table(dataset: ImageSet, conditions: Conditions) -> Table[PictureColumn]:
    """Lay out a small picture of each condition, as far as there is room."""
    shown = min(len(conditions.names), PICTURED)
    size = picture_size(dataset.size, shown, min(SIDE, max(dataset.size[1:])))
    column = Column("first image of the condition, made small", "channel y x", size, "uint8", "0 to 255")
    return Table("pictures", "condition", shown, {"pixels": column}, shown, aside=True)


def picture_rows(dataset: ImageSet, conditions: Conditions, batch: int) -> Iterator[Rows[PictureColumn]]:
    """Give the rows of the table "pictures": of each condition its first image.

    Args:
        dataset: of images.
        conditions: of it.
        batch: images that are loaded together.
    """
    table = pictures_table(dataset, conditions)
    size = table.columns["pixels"].shape
    loaded = batches(dataset, batch_size=batch, indices=conditions.firsts[: table.rows])
    yield Rows(table.name, 0, {"pixels": np.concatenate([thumbnails(one.images, size[1:]) for one in loaded])})
