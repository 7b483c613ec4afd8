"""What can be read of an image from the responses to it: ridge regression to numbers and classes, on images held out.

Every number is predicted from all responses, from their first principal components, or from some of them. Penalty and
components come from the images that are not predicted, the penalty from folds of these. What is held out is predicted
once:

    R² = 1 - sum over images of (y - ŷ)² / sum of (y - ȳ)², with ȳ the mean of the images that are learned from
    accuracy = share of images whose own class has the largest prediction, of one regression to 0 or 1 for each class

The interval of 95 % is a percentile bootstrap over images, the regressions being left as they are.
"""

from dataclasses import dataclass, replace

import numpy as np

from cnnprobe.instruments.statistics.ridge import coordinates, errors_within, path

PENALTIES = np.logspace(-6, 2, 33)
"""Tried, as shares of the largest squared singular value of the responses."""
FOLDS = 5
LEAST = 4 * FOLDS
"""Images that decoding takes at least."""
CHUNK = 2**22
"""Numbers that the bootstrap holds at once, about."""


@dataclass(frozen=True)
class Score:
    """How well something is read out.

    Args:
        value: R² or accuracy; NaN where there are too few images, or nothing varies.
        low, high: ends of its interval.
        chance: 0 of R²; of accuracy the share of the largest class.
        images: how many were predicted.
        few: there is none because images with such a number are too few.
    """

    value: float
    low: float
    high: float
    chance: float
    images: int
    few: bool = False


NONE = Score(np.nan, np.nan, np.nan, np.nan, 0)


def r2(features: np.ndarray, values: np.ndarray, groups: np.ndarray, how: "Reading") -> dict[int, Score]:
    """Read a number from responses, in each group of images by itself.

    Args:
        features: (image, f), or by group where each has responses of its own.
        values: (image,) NaN where an image has no such number: it is left out.
        groups: (image,) index of the group, each with a regression of its own.
        how: components, draws and seed.

    Returns:
        by group; and -1: the mean over those that have a score, its interval from images drawn anew in each.
    """
    found: dict[int, Score] = {}
    drawn = []
    for group in np.unique(groups):
        rows = np.flatnonzero((groups == group) & np.isfinite(values))
        parts = _errors(features[rows], values[rows], how)
        if parts is None:
            found[int(group)] = replace(NONE, few=0 < len(rows) < LEAST)
            continue
        errors, spread = parts
        score = 1 - errors.sum() / spread.sum()
        samples = how.bootstrap(np.stack([errors, spread], 1))
        own = 1 - samples[:, 0] / np.maximum(samples[:, 1], np.finfo(float).tiny)
        drawn.append(own)
        found[int(group)] = Score(float(score), *_ends(own), 0.0, len(rows))
    known = [score for score in found.values() if score.images]
    if not known:
        return found | {-1: NONE}
    mean = float(np.mean([score.value for score in known]))
    images = sum(score.images for score in known)
    return found | {-1: Score(mean, *_ends(np.mean(drawn, 0)), 0.0, images)}


def accuracy(features: np.ndarray, labels: np.ndarray, how: "Reading") -> dict[int, Score]:
    """Read the class of images from responses.

    Args:
        features: (image, f).
        labels: (image,) class, below 0: unknown, left out.
        how: components, draws and seed.

    Returns:
        by class the share of its images; and -1: that of all.
    """
    rows = np.flatnonzero(labels >= 0)
    classes, own = np.unique(labels[rows], return_inverse=True)
    if len(rows) < LEAST or len(classes) < 2 or not _vary(features[rows]):
        return dict.fromkeys([-1, *map(int, classes)], NONE)
    predicted, _ = held_out(features[rows], np.eye(len(classes))[own], how)
    right, sizes = (predicted.argmax(1) == own).astype(float), np.bincount(own)
    found = {}
    for label, part in [(-1, right), *((int(label), right[own == place]) for place, label in enumerate(classes))]:
        samples = how.bootstrap(part[:, None])[:, 0] / len(part)
        found[label] = Score(float(part.mean()), *_ends(samples), float(sizes.max() / len(rows)), len(part))
    return found


@dataclass(frozen=True)
class Reading:
    """How responses are read.

    Args:
        components: principal components that are read; None: all responses.
        draws: of the bootstrap.
        seed: of the folds and the draws.
    """

    components: int | None = None
    draws: int = 1000
    seed: int = 0

    def bootstrap(self, terms: np.ndarray) -> np.ndarray:
        """Return sums (draw, term) of terms (image, term) over images drawn with replacement."""
        random, images = np.random.default_rng(self.seed), len(terms)
        some = max(1, CHUNK // images)
        sums = []
        for start in range(0, self.draws, some):
            counts = random.multinomial(images, np.full(images, 1 / images), min(some, self.draws - start))
            sums.append(counts @ terms)
        return np.concatenate(sums)


def held_out(features: np.ndarray, values: np.ndarray, how: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Predict every image once, from those of the other folds.

    Args:
        features: (image, f).
        values: (image, number).
        how: components and seed.

    Returns:
        predictions, and means over the images of the other folds, both (image, number).
    """
    features = coordinates(features)[0]
    order = np.random.default_rng(how.seed).permutation(len(features))
    predicted, means = np.zeros((2, *values.shape))
    for part in np.array_split(order, FOLDS):
        others = order[~np.isin(order, part)]
        known, new = features[others], features[part]
        if how.components is not None and how.components < features.shape[1]:
            centre = known.mean(0)
            axes = np.linalg.svd(known - centre, full_matrices=False)[2][: how.components].T
            known, new = (known - centre) @ axes, (new - centre) @ axes
        best = errors_within(known, values[others], PENALTIES).sum(1).argmin()
        (predicted[part],) = path(known, values[others], new, PENALTIES[[best]])
        means[part] = values[others].mean(0)
    return predicted, means


def _errors(features: np.ndarray, values: np.ndarray, how: Reading) -> tuple[np.ndarray, np.ndarray] | None:
    """Return squared errors of the prediction and of the mean (image,); None where nothing can be said."""
    if len(values) < LEAST or not _vary(features) or np.ptp(values) == 0:
        return None
    predicted, mean = held_out(features, values[:, None], how)
    return (values - predicted[:, 0]) ** 2, (values - mean[:, 0]) ** 2


def _vary(features: np.ndarray) -> bool:
    return bool(np.isfinite(features).all() and features.size and np.ptp(features, axis=0).max() > 0)


def _ends(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)
