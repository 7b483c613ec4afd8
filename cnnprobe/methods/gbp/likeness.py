"""The likeness of two maps: the four measures of the sanity checks for saliency maps.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim (2018), "Sanity checks for saliency maps", NeurIPS, arXiv:1810.03292,
section 3 and appendix: rank correlation with and without signs, structural similarity, rank correlation of histograms
of oriented gradients (HOG).
"""

import math

import numpy as np

MEASURES = ("Spearman of |map|", "Spearman", "SSIM", "Spearman of HOG")
"""Names of what `likeness` measures, in its order."""

CELL, ORIENTATIONS, BLOCK = 16, 9, 3
"""Of HOG: px of a cell's side (Adebayo et al.), bins over 180 degrees and cells of a block's side (Dalal, Triggs)."""


def likeness(maps: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Measure how alike maps are to others, in four ways.

    The first, third and fourth compare the sum of |map| over channels, scaled to 0 to 1 by its smallest and largest
    value; the second compares the sum over channels with its signs.

    Args:
        maps: (n, channel, y, x), signed.
        reference: (n, channel, y, x), the map to which each is compared.

    Returns:
        (measure, n) in the order of `MEASURES`, 1 where alike. NaN where a map has a value that is not a number, and
        where the sum of |map| of one of the two is the same everywhere (a map of zeros has no likeness to anything,
        though its structural similarity to a map that is almost empty is close to 1), or the sum with signs; of
        HOG also where a side has fewer than 3 px, as signals have: nothing there has an orientation.
    """
    pair = [np.asarray(values, np.float64) for values in (maps, reference)]
    whole, whole_reference = (np.all(np.isfinite(values), (1, 2, 3)) for values in pair)
    broken = ~(whole & whole_reference)  # (n,)
    pair = [np.where(broken[:, None, None, None], 0.0, values) for values in pair]
    signed, signed_reference = (values.sum(1) for values in pair)
    grey, grey_reference = (scaled(np.abs(values).sum(1)) for values in pair)
    oriented = spearman(hog(grey), hog(grey_reference))
    if min(maps.shape[2:]) < BLOCK:
        oriented = np.full(len(maps), np.nan)
    sizes, signs = spearman(grey, grey_reference), spearman(signed, signed_reference)
    measured = [sizes, signs, ssim(grey, grey_reference), oriented]
    empty = ~(np.any(grey, (1, 2)) & np.any(grey_reference, (1, 2)))
    return np.where(broken | empty, np.nan, np.stack(measured))


def scaled(maps: np.ndarray) -> np.ndarray:
    """Bring each map (n, y, x) to 0 to 1 by its smallest and largest value; a constant one becomes 0."""
    low, high = (reduce(maps, axis=(1, 2), keepdims=True, initial=start) for reduce, start in _ENDS)
    return np.divide(maps - low, high - low, out=np.zeros(maps.shape), where=np.broadcast_to(high > low, maps.shape))


_ENDS = ((np.min, np.inf), (np.max, -np.inf))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the rank correlation (n,) of rows (n, …). Equal values share their mean rank; a constant row gives NaN."""
    a, b = (_ranks(values.reshape(len(values), math.prod(values.shape[1:]))) for values in (a, b))
    a, b = (ranks - ranks.mean(1, keepdims=True) if ranks.size else ranks for ranks in (a, b))
    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), norms, out=np.full(len(a), np.nan), where=norms > 0)


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Return the ranks of (n, value) within each row from 0, the mean rank of those that are equal."""
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, 1)
    starts = np.ones(rows.shape, bool)  # of a run of equal values
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    run = np.cumsum(starts.ravel()) - 1  # runs are counted through all rows
    places = np.broadcast_to(np.arange(rows.shape[1], dtype=np.float64), rows.shape).ravel()
    mean = np.bincount(run, places) / np.maximum(np.bincount(run), 1) if run.size else np.zeros(0)
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, mean[run].reshape(rows.shape), 1)
    return ranks


def ssim(a: np.ndarray, b: np.ndarray, sigma: float = 1.5, window: int = 11) -> np.ndarray:
    """Return the mean structural similarity of maps with values 0 to 1.

    Wang, Bovik, Sheikh, Simoncelli (2004), IEEE Trans Image Process 13(4), equation 13, with their constants K1 = 0.01,
    K2 = 0.03 and the Gaussian window; only windows that lie inside the map count.

    Args:
        a, b: (n, y, x).
        sigma: of the window, px.
        window: its side, px; in smaller maps the largest odd side that fits.

    Returns:
        (n,), at most 1.
    """
    side = min(window, *(length - 1 + length % 2 for length in a.shape[1:]))
    weights = np.exp(-0.5 * ((np.arange(side) - side // 2) / sigma) ** 2)
    weights /= weights.sum()
    mean_a, mean_b = _blurred(a, weights), _blurred(b, weights)
    variances = _blurred(a * a, weights) - mean_a**2 + _blurred(b * b, weights) - mean_b**2
    covariance = _blurred(a * b, weights) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (alike / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean((1, 2))


def _blurred(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolve (n, y, x) with the same weights along y and x, where they fit."""
    for axis in (1, 2):
        inside = maps.shape[axis] - len(weights) + 1
        maps = sum(weight * np.take(maps, range(at, at + inside), axis) for at, weight in enumerate(weights))
    return maps


def hog(maps: np.ndarray) -> np.ndarray:
    """Return histograms of oriented gradients, where the edges of a map are and how they run.

    Dalal, Triggs (2005), CVPR, section 6: magnitudes of centred differences, summed over cells in bins of unsigned
    orientation, normalised in overlapping blocks by L2-Hys. Cells of 16 px, 9 orientations, blocks of 3 x 3 cells.
    A map of fewer than 48 px along its shorter side has cells of a third of that side.

    Args:
        maps: (n, y, x).

    Returns:
        (n, feature).
    """
    shorter = min(maps.shape[1:])
    cell = max(1, min(CELL, shorter // BLOCK))
    down, across = np.zeros(maps.shape), np.zeros(maps.shape)
    down[:, 1:-1] = maps[:, 2:] - maps[:, :-2]
    across[:, :, 1:-1] = maps[:, :, 2:] - maps[:, :, :-2]
    rows, columns = (length // cell for length in maps.shape[1:])
    degrees = np.rad2deg(np.arctan2(down, across)) % 180
    bins = np.minimum(degrees // (180 / ORIENTATIONS), ORIENTATIONS - 1)
    magnitude = np.hypot(down, across)

    def cells(values: np.ndarray) -> np.ndarray:
        whole = values[:, : rows * cell, : columns * cell]
        return whole.reshape(len(values), rows, cell, columns, cell).mean((2, 4))

    histograms = np.stack([cells(magnitude * (bins == one)) for one in range(ORIENTATIONS)], -1)
    sides = min(BLOCK, rows), min(BLOCK, columns)
    blocks = np.lib.stride_tricks.sliding_window_view(histograms, sides, (1, 2))  # (n, row, column, bin, 3, 3)
    features = np.moveaxis(blocks, 3, -1).reshape(*blocks.shape[:3], ORIENTATIONS * math.prod(sides))
    features = np.minimum(_unit_length(features), 0.2)
    return _unit_length(features).reshape(len(maps), math.prod(features.shape[1:]))


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True) + 1e-10)
