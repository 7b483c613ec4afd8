"""The conditions whose trajectories are compared: classes, images, or the levels of a factor."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.statistics.rotations import LEAST_CONDITIONS
from cnnprobe.store.tables import Column, Table

MOST = 100
"""Conditions whose trajectories are followed; of more, so many that are evenly spaced."""
ConditionColumn = Literal["name", "images"]
"""Columns of the table "conditions"."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a dataset, in their order.

    Args:
        of: class, image, or the name of a factor.
        names: of each.
        groups: (image,) index of the condition of an image, -1 for none.
        sample: "100 of 500 images, evenly spaced"; "" where all are there.
    """

    of: str
    names: tuple[str, ...]
    groups: np.ndarray
    sample: str = ""

    def table(self) -> Table[ConditionColumn]:
        """Lay out what is stored of them; everything is known."""
        count, own = len(self.names), self.groups[self.groups >= 0]
        columns: dict[ConditionColumn, Column] = {
            "name": Column("class, image, or level of a factor", dtype="str", values=np.array(self.names, object)),
            "images": Column("images that are averaged", dtype="int64", values=np.bincount(own, minlength=count)),
        }
        about = {"of": self.of} | ({"sample": self.sample} if self.sample else {})
        return Table("conditions", "condition", count, columns, attributes=about, aside=True)


def conditions_of(dataset: ImageSet, asked: str | None, most: int = MOST) -> Conditions:
    """Return the conditions of an image set.

    Args:
        dataset: the images.
        asked: class, image, or a factor that the dataset knows of each image (`ImageSet.truth`); None: classes where 3
            to 100 of them have images, else images.
        most: how many are followed.

    Raises:
        UserError: there is no such factor, or the images have no classes.
    """
    labels = dataset.labels
    present = np.unique(labels[labels >= 0])
    if asked is None:
        asked = "class" if LEAST_CONDITIONS <= len(present) <= MOST else "image"
    if asked == "image":
        names, groups = list(dataset.names), np.arange(len(labels))
    elif asked == "class":
        if not len(present):
            raise UserError(f"conditions=class needs images with classes, {dataset.name} has none; say image")
        names = [dataset.classes[label] if label < len(dataset.classes) else str(label) for label in present]
        groups = np.where(labels >= 0, np.searchsorted(present, labels), -1)
    else:
        names, groups = _levels(dataset, asked)
    if len(names) <= most:
        return Conditions(asked, tuple(names), groups)
    chosen = np.linspace(0, len(names) - 1, most).round().astype(int)
    place = np.full(len(names), -1)
    place[chosen] = np.arange(most)
    groups = np.where(groups >= 0, place[groups], -1)
    what = {"image": "images", "class": "classes"}.get(asked, f"levels of {asked}")
    sample = f"{most} of {len(names)} {what}, evenly spaced"
    return Conditions(asked, tuple(names[one] for one in chosen), groups, sample)


def _levels(dataset: ImageSet, factor: str) -> tuple[list[str], np.ndarray]:
    """Return the levels of a factor in their order, and (image,) which of them an image has, -1 for none."""
    truths = [dataset.truth(image) for image in range(len(dataset))]
    known = {name for truth in truths for name, value in truth.items() if np.ndim(value) == 0}
    if factor not in known:
        factors = f", or a factor: {listing(sorted(known))}" if known else f" ({dataset.name} knows no factors)"
        raise UserError(f"conditions must be class, image{factors}, got {factor!r}")
    values = [np.asarray(truth[factor]).item() if factor in truth else None for truth in truths]
    levels = sorted({one for one in values if one is not None and one == one})
    place = {level: number for number, level in enumerate(levels)}
    names = [f"{one:g}" if isinstance(one, int | float) else str(one) for one in levels]
    return names, np.array([place.get(one, -1) for one in values], np.int64)
