"""Average precision of classes of which an image may have several: how far up its scores the images of a class stand.

Images are ordered by their score, and precision (share of the images so far that have the class) is averaged over those
that have it: the area under precision against recall as a staircase, without interpolation. Images of equal score come
together.
"""

import numpy as np


def average_precision(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return (class,) average precisions; NaN for a class that no image has.

    Args:
        scores: (image, class), larger where the class is thought to be there.
        present: (image, class), 1 where it is.
    """
    return np.array([_of_one(own, there) for own, there in zip(scores.T, present.T.astype(bool))])


def _of_one(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the average precision of one class from (image,) scores."""
    if not present.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, present = scores[order], present[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of images of equal score
    hits, shown = np.cumsum(present)[last], np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / shown).sum() / present.sum())


def all_present(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return (image,) bool: the k classes that an image has are the k of the highest scores; of none, true.

    Of equal scores the class of the lower index counts as the higher, as where one class is chosen.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    there = np.take_along_axis(present.astype(bool), order, axis=1)
    return there.cumsum(1)[:, -1] == (there & (np.arange(there.shape[1]) < there.sum(1)[:, None])).sum(1)
