"""Similarity of dissimilarity matrices: correlations of their upper triangles, pairs of conditions with weights.

Kriegeskorte, Mur, Bandettini 2008, Frontiers in Systems Neuroscience 2:4; which measure when: Nili et al. 2014, PLoS
Computational Biology 10:e1003553 (Kendall's tau-a, or rho-a, where a model predicts ties, as a categorical one does).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cnnprobe.instruments.statistics.dissimilarity import single

Comparison = Literal["spearman", "pearson", "kendall", "cosine", "rho-a"]
COMPARISONS = get_args(Comparison)
MEASURES = {"spearman": "Spearman's ρ", "pearson": "Pearson's r", "kendall": "Kendall's τa", "cosine": "cosine",
            "rho-a": "ρa"}  # fmt: skip
"""What figures call them."""
LEAST = 3
"""Pairs of conditions without which nothing is compared, and conditions likewise."""
SMALL = 1e-13
"""A variance below this share of the mean square is rounding: the values are equal."""


def compare(first: np.ndarray, second: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Compare upper triangles of dissimilarity matrices; pairs that are NaN in either are left out.

    spearman: Pearson's correlation of mean ranks. kendall: tau-a, (concordant - discordant) / all pairs of pairs; ties
    count as neither. rho-a: Spearman's with ties broken at random, on average: 12 sum r s / (m^3 - m) on centred ranks
    of m pairs. cosine: of the angle, without centring. What is equal in single precision is a tie.

    Args:
        first: (one, pair).
        second: (other, pair).
        comparison: which.

    Returns:
        (one, other) float64; NaN where either has no two values that differ, or fewer than three pairs are left.
    """
    return Comparing(first, second, comparison)()


def standard(values: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Return finite values (row, pair) in the form whose sums of products are the comparisons (not for kendall)."""
    return _Vectors(np.asarray(values, np.float64), comparison).standard(np.ones(values.shape[1]))


@dataclass(frozen=True)
class _Block:
    """Rows of either side that have the same pairs in common."""

    rows: np.ndarray
    others: np.ndarray
    pairs: np.ndarray
    one: "_Vectors"
    other: "_Vectors"


class Comparing:
    """Two stacks of upper triangles, ready to be compared again and again with other weights (see `compare`)."""

    def __init__(self, first: np.ndarray, second: np.ndarray, comparison: Comparison):
        self.shape = len(first), len(second)
        self.comparison = comparison
        self.blocks = []
        sides = [_by_known(np.asarray(side, np.float64)) for side in (first, second)]
        for rows, known, values in sides[0]:
            for others, there, further in sides[1]:
                pairs = np.flatnonzero(known & there)
                vectors = (_Vectors(part[:, pairs], comparison) for part in (values, further))
                self.blocks.append(_Block(rows, others, pairs, *vectors))

    def __call__(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Compare.

        Args:
            weights: (pair,) how many times each pair of conditions counts, whole numbers; None: once.

        Returns:
            (one, other) float64.
        """
        found = np.full(self.shape, np.nan)
        for block in self.blocks:
            own = np.ones(len(block.pairs)) if weights is None else np.asarray(weights[block.pairs], np.float64)
            if own.sum() < LEAST:
                continue
            if self.comparison == "kendall":
                values = _kendall(block.one.values, block.other.values, own.astype(np.int64))
            else:
                values = (block.one.standard(own) * own) @ block.other.standard(own).T
            found[np.ix_(block.rows, block.others)] = values
        return found


def _by_known(values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return rows that are finite in the same pairs together: their places, (pair,) bool, and the rows."""
    groups: dict[bytes, list[int]] = {}
    finite = np.isfinite(values)
    for row, known in enumerate(finite):
        groups.setdefault(known.tobytes(), []).append(row)
    return [(np.array(rows), finite[rows[0]], values[rows]) for rows in groups.values()]


class _Vectors:
    """Finite values (row, pair); of ranked ones the order is found once."""

    def __init__(self, values: np.ndarray, comparison: Comparison):
        ranked = comparison in ("spearman", "rho-a")
        self.values, self.comparison = single(values) if ranked or comparison == "kendall" else values, comparison
        self.codes = [np.unique(row, return_inverse=True)[1].ravel() for row in self.values] if ranked else None

    def standard(self, weights: np.ndarray) -> np.ndarray:
        """Return the values so that the weighted sum of products is the comparison; NaN where they do not differ."""
        values, total = self.values, weights.sum()
        if self.codes is not None:
            values = np.stack([weighted_ranks(code, weights) for code in self.codes])
        mean = values @ weights / total
        centred = values - mean[:, None]
        spread = np.square(centred) @ weights
        varies = spread > SMALL * (np.square(values) @ weights)
        if self.comparison == "cosine":
            centred, spread = values, np.square(values) @ weights
        if self.comparison == "rho-a":
            spread = np.full(len(values), (total**3 - total) / 12)
        return centred / np.sqrt(np.where(varies, spread, np.nan))[:, None]


def weighted_ranks(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return mean ranks from 1 of values that occur `weights` times each.

    Args:
        codes: (value,) place of each value among the different values, from 0.
        weights: (value,) whole numbers.
    """
    counts = np.bincount(codes, weights)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def _kendall(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return tau-a of all rows with all others, (one, other), from SciPy's tau-b."""
    from scipy.stats import kendalltau

    sides = [np.repeat(side, weights, axis=1) for side in (first, second)]
    every = sides[0].shape[1] * (sides[0].shape[1] - 1) / 2
    untied = [every - np.array([_ties(row) for row in side]) for side in sides]
    found = np.full((len(first), len(second)), np.nan)
    for one, row in enumerate(sides[0]):
        for other, column in enumerate(sides[1]):
            if untied[0][one] and untied[1][other]:
                root = np.sqrt(untied[0][one]) * np.sqrt(untied[1][other])
                found[one, other] = kendalltau(row, column).statistic * root / every
    return found


def _ties(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())
