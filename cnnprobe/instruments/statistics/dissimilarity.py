"""Dissimilarity matrices of the patterns that conditions evoke, from the inner products of the patterns.

A pattern is what all features (units at all positions) of a system answer to one condition. The inner products of the
patterns are all that correlation, cosine and Euclidean distance need to know, and they add up over features: a layer of
a million features is taken in pieces, and what is kept of it has the size of its dissimilarity matrix.
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Metric = Literal["correlation", "spearman", "euclidean", "cosine"]
METRICS = get_args(Metric)
ELEMENTS = 2**24
"""Numbers that are brought to double precision at once."""
RESOLUTION = 1e-12
"""A pattern whose variance is less than this share of its mean square is constant: single precision shows no less."""


class Products:
    """Sums over features of the products of patterns, gathered piece by piece.

    The sums depend on the order of the features, not on how they are cut into pieces, provided that each piece but the
    last has a multiple of `step(conditions)` features.

    Attributes:
        inner: (…, condition, condition) float64, inner products.
        total: (…, condition) float64, sums.
        features: how many were added.
    """

    def __init__(self) -> None:
        self.inner: Tensor | None = None
        self.total: Tensor | None = None
        self.features = 0

    @property
    def sums(self) -> tuple[Tensor, Tensor]:
        """`inner` and `total`, of features that were added."""
        assert self.inner is not None and self.total is not None
        return self.inner, self.total

    def add(self, patterns: Tensor | np.ndarray) -> "Products":
        """Add features.

        Args:
            patterns: (…, condition, feature), any number format.

        Returns:
            this object.
        """
        given = torch.as_tensor(patterns)
        if self.inner is None:
            made = {"dtype": torch.float64, "device": given.device}
            self.inner = torch.zeros(*given.shape[:-1], given.shape[-2], **made)
            self.total = torch.zeros(given.shape[:-1], **made)
        for piece in given.split(step(given.shape[:-1].numel()), -1):
            piece = piece.double()
            self.inner += piece @ piece.mT
            self.total += piece.sum(-1)
        self.features += given.shape[-1]
        return self

    def restore(self, state: dict, device: str) -> None:
        """Go on from the attributes of other products."""
        given = (state["inner"], state["total"])
        self.inner, self.total = (None if one is None else torch.as_tensor(one, device=device) for one in given)
        self.features = state["features"]

    def means(self, groups: np.ndarray) -> "Products":
        """Return the products of the mean patterns of groups of conditions.

        Patterns that are not finite do not count; those of a group without any other are NaN.

        Args:
            groups: (condition,) index of the group, -1 for none.
        """
        made = Products()
        inner, total = self.sums
        known = total.isfinite() & inner.diagonal(dim1=-2, dim2=-1).isfinite()
        share = membership(groups, inner.device) * known[..., None, :]
        share = share / share.sum(-1, keepdim=True)  # NaN for an empty group
        inner = inner.where(known[..., :, None] & known[..., None, :], 0.0)
        made.inner = share @ inner @ share.mT
        made.total = (share @ total.where(known, 0.0)[..., None])[..., 0]
        made.features = self.features
        return made

    def centred(self) -> Tensor:
        """Return the inner products of the patterns less their means over features, (…, condition, condition)."""
        inner, total = self.sums
        return inner - total[..., :, None] * total[..., None, :] / self.features


def step(conditions: int) -> int:
    """Return how many features are added at once, for so many conditions."""
    return max(256, ELEMENTS // max(1, conditions) // 256 * 256)


def membership(groups: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Return (group, condition) float64: 1 where a condition belongs to a group.

    Args:
        groups: (condition,) index, -1 for none.
    """
    numbers = np.arange(int(groups.max(initial=-1)) + 1)
    return torch.from_numpy((groups == numbers[:, None]).astype(np.float64)).to(device)


def dissimilarity(products: Products, metric: Metric) -> Tensor:
    """Return a dissimilarity matrix from the products of patterns (of their `ranks`, for "spearman").

    correlation: 1 - Pearson's r over features. spearman: the same of ranks. cosine: 1 - cosine of the angle.
    euclidean: root of the summed squared differences (no division by the number of features).

    Args:
        products: see `Products`.
        metric: of the four.

    Returns:
        (…, condition, condition) float64, symmetric, 0 on the diagonal. NaN in row and column of a pattern that is not
        finite or for which the metric has no meaning: a constant one for the correlations, a zero one for the cosine.
    """
    uncentred, _ = products.sums
    inner = uncentred if metric in ("euclidean", "cosine") else products.centred()
    square = inner.diagonal(dim1=-2, dim2=-1)
    if metric == "euclidean":
        sums = square[..., :, None] + square[..., None, :]
        found = sums - 2 * inner
        found = found.where(found > RESOLUTION / 10 * sums, found * 0).sqrt()  # keeps NaN
    else:
        floor = RESOLUTION * uncentred.diagonal(dim1=-2, dim2=-1)
        norm = square.where(square > floor, torch.nan).sqrt()
        found = 1 - (inner / norm[..., :, None] / norm[..., None, :]).clamp(-1, 1)
        found = found.where(~(found < RESOLUTION), 0.0)  # equal patterns
    found = found.where(found.isfinite(), torch.nan)
    found = (found + found.mT) / 2
    itself = torch.eye(found.shape[-1], dtype=torch.bool, device=found.device)
    return torch.where(itself & found.isfinite(), 0.0, found)


def dissimilarity_matrix(patterns: Tensor | np.ndarray, metric: Metric = "correlation") -> Tensor:
    """Return the dissimilarity matrix of patterns (see `dissimilarity`).

    Args:
        patterns: (…, condition, feature); leading axes are other systems (subjects, time points).
        metric: "correlation", "spearman", "euclidean" or "cosine".

    Returns:
        (…, condition, condition) float64.
    """
    given = torch.as_tensor(patterns)
    return dissimilarity(Products().add(ranks(given) if metric == "spearman" else given), metric)


def ranks(values: Tensor) -> Tensor:
    """Return the ranks along the last axis from 1, equal values sharing their mean rank; float64, NaN where one is."""
    given = values.contiguous()
    ordered = given.sort(-1).values
    below, upto = (torch.searchsorted(ordered, given, right=right) for right in (False, True))
    found = (below + upto + 1).double() / 2
    return found.where(given.isfinite().all(-1, keepdim=True), torch.nan)


def single(values: np.ndarray) -> np.ndarray:
    """Return values rounded to the 24 bits of single precision, in which matrices are stored, at any magnitude.

    Dissimilarities that are equal but for the rounding of sums, as those of a picture that is there twice, are equal
    afterwards, and share their rank.
    """
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, 24)), exponent - 24)


def upper(matrices: Tensor | np.ndarray) -> np.ndarray:
    """Return the upper triangles of square matrices row by row, (…, pair) float64, as NumPy and SciPy order them."""
    given = np.asarray(torch.as_tensor(matrices).detach().cpu(), np.float64)
    return given[(..., *np.triu_indices(given.shape[-1], 1))]


def square(pairs: np.ndarray, diagonal: float = 0.0) -> np.ndarray:
    """Return the symmetric matrices (…, n, n) whose upper triangles are (…, pair)."""
    count = conditions_of(pairs.shape[-1])
    if count is None:
        raise ValueError(f"{pairs.shape[-1]} values are no upper triangle")
    made = np.full((*pairs.shape[:-1], count, count), diagonal, pairs.dtype)
    first, second = np.triu_indices(count, 1)
    made[..., first, second] = made[..., second, first] = pairs
    return made


def conditions_of(pairs: int) -> int | None:
    """Return of how many conditions there are so many pairs; None where of none."""
    count = round((1 + (1 + 8 * pairs) ** 0.5) / 2)
    return count if count * (count - 1) // 2 == pairs else None
