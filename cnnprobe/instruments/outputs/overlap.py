"""Overlap of predicted and true maps of classes, from one confusion matrix of pixels of all images.

Intersection over union (Jaccard 1912) of class k is C_kk / (row_k + column_k - C_kk), with C_kl the pixels of class k
that were taken for class l. A class that is neither true nor predicted anywhere has none (NaN): it is neither 0 nor 1.
"""

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.targets import NOT_COUNTED


def pixel_confusion(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return (image, true, predicted) int64 counts of pixels.

    Args:
        predicted: (image, y, x) int64.
        targets: (image, y, x) of the same size; 255 is not counted.
        classes: how many.
    """
    count = len(targets)
    targets, predicted = targets.reshape(count, -1).long(), predicted.reshape(count, -1)
    image = torch.arange(count, device=targets.device)[:, None] * classes**2
    cells = (image + targets * classes + predicted)[targets != NOT_COUNTED]
    return torch.bincount(cells, minlength=count * classes**2).view(count, classes, classes)


def overlaps(confusion: np.ndarray) -> np.ndarray:
    """Return (…, class) intersection over union from (…, true, predicted) counts; NaN where there is neither."""
    return overlaps_of(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2))


def overlaps_of(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return (…, class) intersection over union from (…, class) counts of pixels; NaN where a class has none.

    Args:
        both: of the class, and taken for it.
        true: of the class.
        predicted: taken for it.
    """
    either = true + predicted - both
    return np.divide(both, either, out=np.full(np.shape(both), np.nan), where=either > 0)


def mean_overlap(confusion: np.ndarray, judged: tuple[int, ...]) -> float:
    """Return the mean intersection over union of some classes, those that are there; NaN where none is.

    Args:
        confusion: (true, predicted) counts of pixels.
        judged: the classes, see `Target.judged`.
    """
    return float(mean_of(overlaps(confusion), judged))


def mean_of(overlap: np.ndarray, judged: tuple[int, ...] | list[int]) -> np.ndarray:
    """Return (…) means of (…, class) intersections over union over the judged classes that have one; NaN: none has."""
    some = overlap[..., list(judged)]
    known = np.isfinite(some)
    total, count = np.where(known, some, 0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def dice(overlap: np.ndarray) -> np.ndarray:
    """Return Dice's coefficient (1945), twice the intersection over the sum of both, from intersection over union."""
    return 2 * overlap / (1 + overlap)
