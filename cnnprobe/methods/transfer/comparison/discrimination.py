"""Units that tell the classes of a task apart: d' of every unit for every class."""

import numpy as np


def class_means(responses: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean response of each unit to each class, (unit, class) float64; NaN for a class without images.

    Args:
        responses: (image, unit); rows that are not finite do not count.
        labels: (image,) class, -1 where unknown.
        classes: how many there are.
    """
    return _moments(responses, labels, classes)[1]


def discriminability(responses: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return d' of each unit for each class against all other images of a known class.

    d' = (mean of the class - mean of the rest) / sqrt((variance of the class + variance of the rest) / 2), the
    sensitivity index of signal detection (Green and Swets 1966), variances with n - 1. Its sign says whether the unit
    answers the class more or less.

    Args:
        responses: (image, unit); rows that are not finite do not count.
        labels: (image,) class, -1 where unknown.
        classes: how many there are.

    Returns:
        (unit, class) float64; NaN where the class or the rest has fewer than 2 images, or where neither varies.
    """
    count, mean, square = _moments(responses, labels, classes)
    rest = count.sum() - count
    with np.errstate(divide="ignore", invalid="ignore"):
        grand = np.nansum(mean * count, 1, keepdims=True) / count.sum()
        shifted = np.nan_to_num(mean - grand)  # about the grand mean the sums below lose no digits
        other = -shifted * count / rest  # mean of the rest
        among = (shifted**2 * count).sum(1, keepdims=True) - shifted**2 * count - rest * other**2
        spread = square.sum(1, keepdims=True) - square + among.clip(min=0)  # of the rest: within and among its classes
        variance = (square / (count - 1) + spread / (rest - 1)) / 2
        found = (shifted - other) / np.sqrt(variance)
    return np.where((count > 1) & (rest > 1) & (variance > 0), found, np.nan)


def _moments(responses: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by class: images (class,), mean (unit, class), and summed squared deviation from it (unit, class)."""
    known = np.isfinite(responses).all(1) & (labels >= 0)
    values, labels = np.asarray(responses[known], np.float64), labels[known]
    count = np.bincount(labels, minlength=classes)
    mean, square = np.full((values.shape[1], classes), np.nan), np.zeros((values.shape[1], classes))
    for one in np.flatnonzero(count):
        own = values[labels == one]
        mean[:, one] = own.mean(0)
        square[:, one] = np.where(np.ptp(own, 0) > 0, own.var(0) * len(own), 0)  # equal ones: no rounding left over
    return count, mean, square


def strongest_class(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which class has the largest |value| of each unit, and that value, from (unit, class); -1 and NaN: none."""
    known = np.isfinite(values)
    which = np.where(known, np.abs(values), -1).argmax(1) if values.shape[1] else np.zeros(len(values), np.int64)
    some = known.any(1)
    found = np.full(len(values), np.nan)
    found[some] = values[some, which[some]]
    return np.where(some, which, -1), found
