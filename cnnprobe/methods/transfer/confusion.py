"""Summaries of a confusion matrix: accuracy with its interval, by class, and beyond chance."""

import math
from dataclasses import dataclass

import numpy as np

from cnnprobe.instruments.statistics.mean_interval import share_interval


@dataclass(frozen=True)
class Confusion:
    """Counts of images by class.

    Args:
        matrix: (true, predicted) images.
    """

    matrix: np.ndarray

    @property
    def images(self) -> int:
        """How many images there are."""
        return int(self.matrix.sum())

    @property
    def accuracy(self) -> float:
        """Share of images answered right; NaN without images."""
        return float(np.trace(self.matrix)) / self.images if self.images else math.nan

    @property
    def standard_error(self) -> float:
        """Of the accuracy, of independent images."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images) if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Clopper, Pearson 1934); (NaN, NaN) without images."""
        return share_interval(int(np.trace(self.matrix)), self.images)

    @property
    def recall(self) -> np.ndarray:
        """(true,) share of each class's images answered right; NaN without images."""
        return _shares(np.diag(self.matrix), self.matrix.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """(predicted,) share of the answers of each class that are right; NaN where there are none."""
        return _shares(np.diag(self.matrix), self.matrix.sum(0))

    @property
    def kappa(self) -> float:
        """Accuracy above that of independent answers, as a share of what is possible (Cohen 1960); NaN if none is."""
        if not self.images:
            return math.nan
        chance = float(self.matrix.sum(0) @ self.matrix.sum(1)) / self.images**2
        return (self.accuracy - chance) / (1 - chance) if chance < 1 else math.nan


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
