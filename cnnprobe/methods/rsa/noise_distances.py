"""Distances between conditions that were shown several times, in units of the noise between the repeats.

Mahalanobis distance: between the means of the repeats. Crossnobis (Walther et al. 2016, NeuroImage 137, 188-200;
Diedrichsen, Kriegeskorte 2017, PLoS Computational Biology 13:e1005508): the squared one from products of different
folds of the repeats, whose noise is independent. It is unbiased: 0 on average for equal patterns, so it can be
negative.

The noise covariance is that of the repeats about their means, shrunk towards a multiple of the identity (Ledoit, Wolf
2004, Journal of Multivariate Analysis 88, 365-411). All of it is found from the inner products of the patterns, so that
there may be many more features than patterns.
"""

import numpy as np
import torch
from torch import Tensor

from cnnprobe.instruments.statistics.dissimilarity import Products, membership

FOLDS = 5
"""Parts of the repeats at most."""
LEAST = 4
"""Repeats that crossnobis needs: one on either side of the product, and two that tell the noise."""


def mahalanobis(products: Products, groups: np.ndarray) -> Tensor:
    """Return the root of (a - b)' S^-1 (a - b) for the mean patterns a, b of conditions and the noise covariance S.

    Args:
        products: of the patterns of all repeats, (repeat, repeat).
        groups: (repeat,) index of the condition, -1 for none.

    Returns:
        (condition, condition) float64, 0 on the diagonal; NaN for a condition without a finite repeat, all of it where
        repeats do not differ.
    """
    inner, own, conditions = _known(products, groups)
    share = _means(own, np.ones(len(own), bool), conditions).to(inner.device)
    means = share @ whitened(inner, own, np.ones(len(own), bool), products.features) @ share.mT
    square = means.diagonal()
    return _closed((square[:, None] + square[None, :] - 2 * means).clamp(min=0).sqrt())


def crossnobis(products: Products, groups: np.ndarray) -> Tensor:
    """Return the crossnobis distances, (a_m - b_m)' S^-1 (a_n - b_n) over the number of features.

    The mean over all pairs of folds m, n of the repeats, at most five. The noise covariance S of a pair is that of
    the other folds: the same repeats on both sides would bring the bias back.

    Args:
        products: of the patterns of all repeats, (repeat, repeat).
        groups: (repeat,) index of the condition, -1 for none.

    Returns:
        (condition, condition) float64, 0 on the diagonal; NaN for a condition with fewer than 4 finite repeats, all of
        it where repeats do not differ.
    """
    inner, own, conditions = _known(products, groups)
    counts = np.bincount(own, minlength=conditions)
    enough = counts[counts >= LEAST]
    folds = int(min(FOLDS, enough.min(initial=FOLDS)))
    fold = _numbers(own) % folds
    found = []
    for first in range(folds):
        for second in range(first):
            noise = (fold != first) & (fold != second) & (counts[own] >= LEAST)
            white = whitened(inner, own, noise, products.features)
            one, other = (_means(own, fold == number, conditions).to(inner.device) for number in (first, second))
            cross = one @ white @ other.mT
            square = cross.diagonal()
            found.append(square[:, None] + square[None, :] - cross - cross.mT)
    mean = torch.stack(found).mean(0) / products.features
    few = torch.from_numpy(counts < LEAST).to(mean.device)
    return _closed(mean.masked_fill(few[:, None] | few[None, :], torch.nan))


def _known(products: Products, groups: np.ndarray) -> tuple[Tensor, np.ndarray, int]:
    """Return the inner products of finite patterns with a condition, their conditions, and how many there are."""
    inner = products.inner
    assert inner is not None  # patterns were added
    known = inner.diagonal().isfinite().cpu().numpy() & (groups >= 0)
    kept = torch.from_numpy(np.flatnonzero(known)).to(inner.device)
    return inner[kept][:, kept], groups[known], int(groups.max(initial=-1)) + 1


def _means(groups: np.ndarray, chosen: np.ndarray, conditions: int) -> Tensor:
    """Return (condition, pattern) float64: the share of each chosen pattern in the mean of its condition."""
    member = membership(np.where(chosen, groups, -1))
    member = torch.nn.functional.pad(member, (0, 0, 0, conditions - len(member)))
    return member / member.sum(1, keepdim=True)  # NaN where there is none


def _closed(found: Tensor) -> Tensor:
    """Return distances made symmetric to the last bit, with 0 on the diagonal where they are known."""
    found = (found + found.mT) / 2
    itself = torch.eye(len(found), dtype=torch.bool, device=found.device)
    return torch.where(itself & found.isfinite(), 0.0, found)


def whitened(inner: Tensor, groups: np.ndarray, noise: np.ndarray, features: int) -> Tensor:
    """Return the inner products of patterns after whitening by the shrunk noise covariance S: x' S^-1 y.

    Args:
        inner: (pattern, pattern) float64.
        groups: (pattern,) index of the condition.
        noise: (pattern,) bool, those whose differences from their condition's mean are the noise.
        features: of a pattern.

    Returns:
        (pattern, pattern); NaN where the repeats do not differ.
    """
    member = membership(np.where(noise, groups, -1), inner.device)
    member = member[member.sum(1) > 0]
    centring = torch.from_numpy(np.diag(noise.astype(np.float64))).to(inner.device)
    centring = (centring - member.mT @ (member / member.sum(1, keepdim=True)))[torch.from_numpy(noise)]
    residuals = centring @ inner @ centring.mT
    freedom = len(residuals) - len(member)
    scale = float(residuals.diagonal().sum()) / features
    if freedom < 1 or not scale * features > 1e-12 * float(inner.diagonal().sum()):
        return torch.full_like(inner, torch.nan)
    identity = shrinkage(residuals, features)
    level = identity * scale / freedom  # times the identity: the part of S that all directions share
    power, axes = torch.linalg.eigh(residuals)
    there = power > 1e-10 * power.max()
    along = inner @ centring.mT @ axes[:, there] / power[there].sqrt()  # patterns along the noise axes
    stretch = (1 - identity) * power[there] / freedom
    return (inner - along * (stretch / (stretch + level)) @ along.mT) / level


def shrinkage(residuals: Tensor, features: int) -> float:
    """Return which share of the covariance is replaced by a multiple of the identity (Ledoit, Wolf 2004, lemma 3.3).

    Args:
        residuals: (pattern, pattern) inner products of patterns without their mean.
        features: of a pattern.
    """
    count = len(residuals)
    covariance = float(residuals.square().sum()) / count**2  # squared Frobenius norm
    mean = float(residuals.diagonal().sum()) / count / features
    distance = covariance - mean**2 * features
    error = (float(residuals.diagonal().square().sum()) / count - covariance) / count
    return min(1.0, error / distance) if distance > 1e-12 * covariance else 1.0


def _numbers(groups: np.ndarray) -> np.ndarray:
    """Number the repeats of each condition from 0, in order."""
    found = np.zeros(len(groups), np.int64)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        found[own] = np.arange(len(own))
    return found
