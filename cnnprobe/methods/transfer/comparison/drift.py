"""The drift of units, and of the dissimilarities of a layer, while a network learned something else.

Every measure compares before and after on the same images; those of units compare the same unit, by its number.
"""

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import KINDS
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import Value, trace
from cnnprobe.instruments.statistics.correlation import standard
from cnnprobe.instruments.statistics.dissimilarity import dissimilarity_matrix, ranks, upper

LOST = 0.2
"""A unit whose responses before and after correlate less than this is not the same unit any more."""
SELECTIVE = 0.5
"""Class selectivity above which a unit stood for something that can be forgotten."""


def unit_correlation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation over images of each unit's responses before and after, (unit,) float64.

    Args:
        before, after: (image, unit); an image with a response that is not finite does not count.

    Returns:
        NaN where a unit answers all images alike, before or after, or fewer than 3 images count.
    """
    finite = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    if finite.sum() < 3:
        return np.full(before.shape[1], np.nan)
    varies = [
        np.ptp(values[finite], 0) > 0 for values in (before, after)
    ]  # the deviation of equal ones may be rounding
    one, other = (torch.from_numpy(np.asarray(values[finite], np.float64)) for values in (before, after))
    found = (standard(one) * standard(other)).mean(0).clamp(-1, 1).numpy()
    return np.where(varies[0] & varies[1], found, np.nan)


def overlap(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the share of top images that are in both lists among those in either: |A and B| / |A or B|.

    Args:
        before, after: (unit, k) indices of images, -1 for none.

    Returns:
        (unit,) float64; NaN where both lists are empty.
    """
    found = np.full(len(before), np.nan)
    for unit, (one, other) in enumerate(zip(before, after)):
        first, second = set(one[one >= 0].tolist()), set(other[other >= 0].tolist())
        if first or second:
            found[unit] = len(first & second) / len(first | second)
    return found


def selectivity(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which class each unit prefers, and how selective it is for it.

    (m_max - m_rest) / (m_max + m_rest): the largest mean response to a class, and the mean of those to all other
    classes (Morcos, Barrett, Rabinowitz, Botvinick 2018, section 2.3); 0 for none, 1 for a single class.

    Args:
        means: (unit, class), see `discrimination.class_means`.

    Returns:
        class (unit,) int64, -1 where a unit answers all classes alike or classes are fewer than 2; selectivity (unit,)
        float64, NaN there, and where a mean is negative: the index is made for responses of 0 or more.
    """
    known = np.isfinite(means)
    count = known.sum(1)
    filled = np.where(known, means, 0)
    first = np.where(known, means, -np.inf).argmax(1) if means.shape[1] else np.zeros(len(means), np.int64)
    largest = filled[np.arange(len(means)), first] if means.shape[1] else np.zeros(len(means))
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (filled.sum(1) - largest) / (count - 1)
        index = (largest - rest) / (largest + rest)
    prefers = (count > 1) & (largest > rest)
    valid = (count > 1) & (filled >= 0).all(1) & (largest > 0)
    return np.where(prefers, first, -1), np.where(valid, index, np.nan)


def tuning_correlation(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation over classes of each unit's mean responses before and after, (unit,) float64.

    Args:
        before, after: (unit, class), NaN for a class without images.

    Returns:
        NaN where a unit answers all classes alike, or fewer than 3 classes have images.
    """
    return unit_correlation(before.T, after.T) if before.shape[1] else np.full(len(before), np.nan)


def weight_change(before: nn.Module, after: nn.Module, layer: Layer, size: tuple[int, ...]) -> np.ndarray:
    """Return ||w' - w|| / ||w|| of the weights that lead to each unit of a layer, (unit,) float64.

    The weights are those that a pass uses: where they are made of others (weight_norm, spectral_norm, a mask), what is
    made of these.

    Args:
        before, after: networks of one architecture.
        layer: whose module has the weights; NaN where it is no convolution or dense layer, where the weights have
            another shape afterwards, or were 0.
        size: (channel, y, x) or (channel, time) of the images.
    """
    first, second = _incoming(before, layer, size), _incoming(after, layer, size)
    if first is None or second is None or first.shape != second.shape:
        return np.full(layer.channels, np.nan)
    length = first.norm(dim=1)
    return torch.where(length > 0, (second - first).norm(dim=1) / length, torch.nan).numpy()


def _incoming(model: nn.Module, layer: Layer, size: tuple[int, ...]) -> Tensor | None:
    """Return the weights of each unit of a layer, (unit, weight) float64, or None where it has none of its own."""
    module = dict(model.named_modules()).get(layer.module)
    weight = getattr(module, "weight", None)
    calls = [call for call in trace(model, size).calls if call.module == layer.module]
    used = [call.argument("weight", 1) for call in calls if KINDS.get(call.name) in ("convolution", "linear")]
    if len(used) == 1 and isinstance(used[0], Value) and used[0].constant is not None:
        weight = used[0].constant  # the attribute may be that of the last pass, before something was learned
    if module is None or not isinstance(weight, Tensor) or weight.ndim < 2:
        return None
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    if transposed and module.groups > 1:
        return None
    weight = weight.detach().double().cpu().transpose(0, 1) if transposed else weight.detach().double().cpu()
    return weight.flatten(1) if len(weight) == layer.channels else None


def matrix_drift(before: Tensor, after: Tensor) -> float:
    """Return 1 - Spearman's correlation of two dissimilarity matrices (1 - Pearson's r of patterns) of the same images.

    Args:
        before, after: (image, feature); an image with a constant pattern has no dissimilarities, they do not count.

    Returns:
        0 where all pairs of images keep their order; NaN where fewer than 3 pairs count or all are alike.
    """
    pairs = np.stack([upper(dissimilarity_matrix(patterns)) for patterns in (before, after)])
    order = ranks(torch.from_numpy(pairs[:, np.isfinite(pairs).all(0)]))
    if order.shape[1] < 3 or bool((order == order[:, :1]).all(1).any()):
        return float("nan")
    first, second = standard(order.mT).mT
    return float(1 - (first * second).mean())


def forgotten(correlation: np.ndarray, before: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Say which units stood for a class and do no longer, (unit,) bool: r below 0.2, selectivity above 0.5 before.

    Args:
        correlation: (unit,) of responses before and after.
        before: (unit,) selectivity before.
        dead: (unit,) bool, units that no image drives afterwards: they have no correlation and are forgotten too.
    """
    return (before > SELECTIVE) & (dead | (correlation < LOST))
