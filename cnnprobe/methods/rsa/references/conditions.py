"""The conditions compared: every image by itself, or classes, whose images are repeats."""

from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet


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


def conditions_of(dataset: ImageSet, by_class: bool) -> Conditions:
    """Return the conditions of an image set: its images, or those of its classes that have images."""
    labels = dataset.labels
    if not by_class:
        return Conditions(tuple(dataset.names), np.arange(len(labels)), labels)
    present = np.unique(labels[labels >= 0])
    groups = np.where(labels >= 0, np.searchsorted(present, labels), -1)
    return Conditions(tuple(str(dataset.classes[index]) for index in present), groups, None)
