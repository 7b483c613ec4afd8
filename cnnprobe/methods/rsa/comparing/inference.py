"""Inference on comparisons of dissimilarity matrices: conditions and subjects resampled, conditions permuted.

Conditions are what is drawn, never single entries of a matrix, which depend on one another (Nili et al. 2014; Schütt,
Kipnis, Diedrichsen, Kriegeskorte 2023, eLife 12:e82566). The pairs of a drawn condition with its own copy are left out.
How sure the comparisons are that come of it: `matrix_uncertainty`.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from cnnprobe.instruments.statistics.dissimilarity import square, upper
from cnnprobe.methods.rsa.comparing.comparison import LEAST, Comparing, Comparison, compare, standard

Over = Literal["conditions", "subjects", "both"]
PIECE = 2**22
"""Numbers of permuted matrices that are held at once."""


class Stack:
    """The matrices of the subjects of several references, one below the other.

    Args:
        references: of each (subject, pair), the subjects that can be compared; there may be none.

    Attributes:
        of: (subject,) the reference of each.
    """

    def __init__(self, references: Sequence[np.ndarray]):
        self.rows = np.concatenate(references)
        self.of = np.repeat(np.arange(len(references)), [len(one) for one in references])
        self.count = len(references)

    def means(self, each: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the means over the subjects of each reference, (…, reference), of (…, subject).

        NaN for a reference without subjects, or of which one that counts has no value; the others keep theirs.
        """
        own = np.ones(len(self.of)) if weights is None else weights
        share = (self.of == np.arange(self.count)[:, None]) * own
        total, known = share.sum(1, keepdims=True), np.isfinite(each)
        means = np.where(known, each, 0.0) @ (share / np.maximum(total, 1)).T
        undefined = (~known).astype(np.float64) @ (share > 0).T.astype(np.float64) > 0
        return np.where(undefined | (total[:, 0] == 0), np.nan, means)


def similarities(models: np.ndarray, references: Sequence[np.ndarray], comparison: Comparison) -> np.ndarray:
    """Compare models with references, the mean over the subjects of each.

    Args:
        models: (model, pair).
        references: of each (subject, pair).
        comparison: see `comparison.compare`.

    Returns:
        (model, reference) float64.
    """
    stack = Stack(references)
    return stack.means(compare(models, stack.rows, comparison))


def bootstrap(
    models: np.ndarray,
    references: Sequence[np.ndarray],
    comparison: Comparison,
    *,
    draws: int,
    over: Over,
    seed: int,
    start: int = 0,
    who: Sequence[np.ndarray] | None = None,
) -> Iterator[np.ndarray]:
    """Compare models with references after drawing conditions, subjects or both again, with replacement.

    Args:
        models, references, comparison: see `similarities`.
        draws: how many.
        over: what is drawn. Subjects of a reference that has only one stay.
        seed: of the draws.
        start: first draw that is given, the others being known.
        who: of each reference (subject,) the number of the person, where the references are of the same people, as the
            moments of a recording are: who is drawn is drawn for all of them. None: each has people of its own.

    Yields:
        (model, reference) float64 for each draw; all models with the same one. NaN where too few different conditions
        were drawn, or nobody who has this reference.
    """
    stack = Stack(references)
    conditions, first, second = sides(models.shape[1])
    comparing = Comparing(models, stack.rows, comparison)
    whole = comparing() if over == "subjects" else None
    for draw in range(start, draws):
        random = np.random.default_rng([seed, draw])
        counts = drawn_conditions(conditions, random)
        weights = None if over == "conditions" else _subjects(stack, random, who)
        each = whole if whole is not None else comparing(counts[first] * counts[second])
        yield stack.means(each, weights)


def sides(pairs: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many conditions have so many pairs, and the two conditions of each pair, (pair,) each."""
    conditions = round((1 + (1 + 8 * pairs) ** 0.5) / 2)
    return conditions, *np.triu_indices(conditions, 1)


def drawn_conditions(conditions: int, random: np.random.Generator) -> np.ndarray:
    """Return how many times each condition is drawn, (condition,)."""
    return np.bincount(random.integers(conditions, size=conditions), minlength=conditions)


def _subjects(stack: Stack, random: np.random.Generator, who: Sequence[np.ndarray] | None) -> np.ndarray:
    """Return how many times each subject of each reference is drawn, (subject,); see `bootstrap`."""
    if who is not None:
        people, place = np.unique(np.concatenate(who), return_inverse=True)
        return np.bincount(random.integers(len(people), size=len(people)), minlength=len(people))[place].astype(float)
    weights = np.zeros(len(stack.of))
    for reference in range(stack.count):
        own = np.flatnonzero(stack.of == reference)
        if len(own):
            weights[own] = np.bincount(random.integers(len(own), size=len(own)), minlength=len(own))
    return weights


def permutation_p(
    models: np.ndarray, reference: np.ndarray, comparison: Comparison, *, draws: int, seed: int
) -> np.ndarray:
    """Return the p of the similarity of each model to a reference under permutations of the conditions' labels.

    One-sided, (1 + permutations at least as similar) / (1 + permutations). Rows and columns of the
    reference are permuted together, all its subjects and for all models with the same permutation. Only conditions that
    are known on both sides are permuted.

    Args:
        models: (model, pair).
        reference: (subject, pair).
        comparison: see `comparison.compare`.
        draws: permutations.
        seed: of the permutations.

    Returns:
        (model,) float64; NaN where the similarity is, without permutations or without subjects.
    """
    found = np.full(len(models), np.nan)
    if not draws or not len(reference):
        return found
    given = [square(values, diagonal=np.nan) for values in (models, reference)]
    known = [np.isfinite(matrices).any(-1) for matrices in given]
    kept = known[0] & known[1].all(0)
    for conditions in np.unique(kept, axis=0):
        rows = np.flatnonzero((kept == conditions).all(1))
        there = np.flatnonzero(conditions)
        if len(there) >= LEAST:
            one, other = (upper(matrices[..., there[:, None], there]) for matrices in (given[0][rows], given[1]))
            found[rows] = _permuted(one, other, len(there), comparison, draws, seed)
    return found


def _permuted(
    models: np.ndarray, reference: np.ndarray, conditions: int, comparison: Comparison, draws: int, seed: int
) -> np.ndarray:
    """Return p for models and a reference with the same known conditions."""
    actual = compare(models, reference, comparison).mean(1)
    first, second = np.triu_indices(conditions, 1)
    quick = comparison != "kendall" and np.isfinite(models).all() and np.isfinite(reference).all()
    if quick:  # a permuted matrix has the same ranks, mean and length
        models, reference = standard(models, comparison), standard(reference, comparison).mean(0, keepdims=True)
    matrices = square(reference, diagonal=np.nan)
    larger = np.zeros(len(models))
    most = max(1, PIECE // (reference.size + len(models)))
    for start in range(0, draws, most):
        each = range(start, min(start + most, draws))
        orders = [np.random.default_rng([seed, draw]).permutation(conditions) for draw in each]
        permuted = np.stack([matrices[:, order[first], order[second]] for order in orders])
        if quick:
            by_chance = models @ permuted[:, 0].T
        else:
            by_chance = np.stack([compare(models, one, comparison).mean(1) for one in permuted], 1)
        larger += (by_chance >= actual[:, None] - 1e-12).sum(1)
    return np.where(np.isfinite(actual), (1 + larger) / (1 + draws), np.nan)


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Return p corrected for the false discovery rate over the first axis (Benjamini, Hochberg 1995); NaN stays.

    Args:
        p: (test, …).
    """
    found = np.full(p.shape, np.nan)
    for place in np.ndindex(p.shape[1:]):
        column = p[(slice(None), *place)]
        known = np.flatnonzero(np.isfinite(column))
        order = known[np.argsort(column[known], kind="stable")]
        scaled = column[order] * len(order) / np.arange(1, len(order) + 1)
        found[(order, *place)] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return found
