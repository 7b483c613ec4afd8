"""Averages over images of the maps of one unit, and how well the images agree.

The maps lie on a canvas with the unit's field in the middle. What a unit answers to in one image may be an accident of
that image; what its images share stands in their mean. Three numbers say how far to trust it:

    consistency   mean correlation of the maps with their mean; the mean holds each map itself, so that noise alone
                  gives about 1 / sqrt(number of maps)
    pairwise      mean correlation of two maps of different images, over the pixels that all of them cover; noise gives
                  0, however many there are
    reliability   correlation of the means of two disjoint sets of n images; how the mean grows with the stimuli
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Average:
    """What the maps of one unit have in common.

    Args:
        mean, sd: (channel, y, x) float32, mean and standard deviation over images (divided by n - 1); NaN where fewer
            than half of the images cover the pixel, sd also where there is one.
        normalised: (channel, y, x) float32, the mean of maps that are each divided by their own largest |value|.
        coverage: (channel, y, x) int16, images that cover the pixel.
        consistency, pairwise: see the head of this file; NaN without two maps.
        reliability: (n,) by number of stimuli, see `counts`; NaN where there are fewer than twice as many.
    """

    mean: np.ndarray
    sd: np.ndarray
    normalised: np.ndarray
    coverage: np.ndarray
    consistency: float
    pairwise: float
    reliability: np.ndarray


def counts(k: int) -> np.ndarray:
    """Return the numbers of stimuli at which reliability is taken: 1, 2, 4, … up to half of k."""
    return 2 ** np.arange(max(1, int(np.log2(max(k, 2)))))


def average(maps: np.ndarray, covered: np.ndarray, k: int) -> Average:
    """Average the maps of one unit.

    Args:
        maps: (image, channel, y, x), signed; strongest first. 0 where not covered.
        covered: (image, y, x) bool, pixels of the canvas that lie in the image.
        k: images a unit can have, which fixes the numbers of stimuli.
    """
    images, channels = maps.shape[:2]
    count = covered.sum(0)
    enough = (count > 0) & (2 * count >= images)
    total = maps.sum(0, dtype=np.float64)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=np.broadcast_to(enough, total.shape))
    sd = np.full(total.shape, np.nan)
    squares = np.zeros(total.shape)
    for one, own in zip(maps, covered):
        squares += np.where(own, (one - np.nan_to_num(mean)) ** 2, 0.0)
    several = np.broadcast_to(enough & (count > 1), total.shape)
    np.sqrt(np.divide(squares, count - 1, out=sd, where=several), out=sd, where=several)
    peaks = np.abs(maps).reshape(images, -1).max(1, initial=0.0)
    scaled = np.einsum("i,icyx->cyx", np.divide(1.0, peaks, out=np.zeros(images), where=peaks > 0), maps)
    normalised = np.divide(scaled, count, out=np.full(total.shape, np.nan), where=np.broadcast_to(enough, total.shape))
    agreed = [_correlation(one, mean, own & enough) for one, own in zip(maps, covered)]
    two = len(maps) > 1
    return Average(
        mean.astype(np.float32),
        sd.astype(np.float32),
        normalised.astype(np.float32),
        np.repeat(count[None].astype(np.int16), channels, 0),
        float(np.nanmean(agreed)) if two and not np.isnan(agreed).all() else np.nan,
        _pairwise(maps, covered) if two else np.nan,
        np.array([_halves(maps, covered, int(n)) for n in counts(k)], np.float32),
    )


def alike_maps(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two maps (channel, y, x) over the pixels that both have; NaN if there are none."""
    return _correlation(one, other, np.isfinite(one).all(0) & np.isfinite(other).all(0))


def _correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Correlate two (channel, y, x) over the pixels of a (y, x) mask; NaN if one is constant there."""
    a, b = one[:, where].astype(np.float64).ravel(), other[:, where].astype(np.float64).ravel()
    if a.size < 2:
        return np.nan
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def _pairwise(maps: np.ndarray, covered: np.ndarray) -> float:
    """Return the mean correlation of all pairs over the pixels that every map covers."""
    common = covered.all(0)
    if common.sum() * maps.shape[1] < 2:
        return np.nan
    values = maps[:, :, common].reshape(len(maps), -1).astype(np.float64)
    values -= values.mean(1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", values, values))
    values = values[norms > 0] / norms[norms > 0, None]
    n = len(values)
    return float((np.square(values.sum(0)).sum() - n) / (n * (n - 1))) if n > 1 else np.nan


def _halves(maps: np.ndarray, covered: np.ndarray, n: int) -> float:
    """Correlate the mean of n images with that of n others: the strongest 2 n, taken in turn."""
    if len(maps) < 2 * n:
        return np.nan
    means, known = [], []
    for half in (slice(0, 2 * n, 2), slice(1, 2 * n, 2)):
        count = covered[half].sum(0)
        means.append(maps[half].sum(0, dtype=np.float64) / np.maximum(count, 1))
        known.append(count > 0)
    return _correlation(means[0], means[1], known[0] & known[1])
