"""Conditions as points in a plane, as far apart as their patterns are dissimilar: metric scaling (SMACOF).

Borg, Groenen 2005, Modern Multidimensional Scaling, chapter 8 (majorisation) and section 12.1 (classical scaling, from
which it starts). Majorisation finds the valley and then creeps: where it would be stopped depends on the last digits of
what is placed. So its points are brought down to the minimum itself, by quasi-Newton steps (L-BFGS).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

STEPS = 300
TOLERANCE = 1e-6
"""Share of the stress by which a step must lower it for another one."""
FLAT = 1e-10
"""Largest slope at the minimum, as a share of the summed squared dissimilarities per unit of the largest one."""


@dataclass(frozen=True)
class Embedding:
    """Points in a plane.

    Args:
        points: (condition, xy) float64, around 0; NaN for a condition without known dissimilarities.
        stress: root of the summed squared misfit over the summed squared dissimilarities: 0 = distances as given.
    """

    points: np.ndarray
    stress: float


def embed(dissimilarities: np.ndarray, like: np.ndarray | None = None) -> Embedding:
    """Place conditions in a plane.

    Args:
        dissimilarities: (condition, condition), symmetric; below 0 (crossnobis) counts as 0. A condition that is NaN
            with others is left out.
        like: (condition, xy) points of another embedding; this one is turned, and mirrored, to lie like it.

    Returns:
        points and stress; NaN throughout where fewer than 3 conditions are known or all are alike.
    """
    kept = _complete(dissimilarities)
    points = np.full((len(dissimilarities), 2), np.nan)
    target = np.maximum(dissimilarities[np.ix_(kept, kept)], 0)
    if len(kept) < 3 or not target.any():
        return Embedding(points, np.nan)
    found = classical(target)
    stress = _misfit(target, found)
    for _ in range(STEPS):
        found = _step(target, found)
        now = _misfit(target, found)
        done = stress - now <= TOLERANCE * stress
        stress = now
        if done:
            break
    found = _lowest(target, found)
    stress = _misfit(target, found)
    points[kept] = _upright(found)
    if like is not None:
        points = turned(points, like)
    return Embedding(points, float(np.sqrt(stress / np.square(target).sum())))


def classical(dissimilarities: np.ndarray) -> np.ndarray:
    """Return the two main axes of the doubly centred squared dissimilarities, (condition, xy)."""
    squares = np.square(dissimilarities)
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    power, axes = np.linalg.eigh(-centred / 2)
    return axes[:, :-3:-1] * np.sqrt(np.maximum(power[:-3:-1], 1e-12 * power[-1]))


def turned(points: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return points turned, and mirrored where that helps, so that they lie nearest to others (Procrustes)."""
    both = np.isfinite(points).all(1) & np.isfinite(like).all(1)
    if both.sum() < 2:
        return points
    left, _, right = np.linalg.svd(points[both].T @ like[both])
    return points @ (left @ right)


def _complete(matrix: np.ndarray) -> np.ndarray:
    """Return conditions whose dissimilarities to one another are all known; the worst are left out first."""
    kept = np.arange(len(matrix))
    while len(kept):
        missing = (~np.isfinite(matrix[np.ix_(kept, kept)])).sum(1)
        if not missing.any():
            break
        kept = np.delete(kept, missing.argmax())
    return kept


def _distances(points: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(points[:, None] - points).sum(-1))


def _misfit(target: np.ndarray, points: np.ndarray) -> float:
    return float(np.square(target - _distances(points)).sum())


def _step(target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the points after a Guttman transform, which never raises the misfit."""
    apart = _distances(points)
    ratio = np.divide(target, apart, out=np.zeros_like(target), where=apart > 0)
    return (ratio.sum(1)[:, None] * points - ratio @ points) / len(points)


def _lowest(target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the points at the minimum of the misfit below these."""

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        placed = flat.reshape(points.shape)
        apart = _distances(placed)
        pull = np.divide(apart - target, apart, out=np.zeros_like(target), where=apart > 0)
        down = 4 * (pull.sum(1)[:, None] * placed - pull @ placed)
        return float(np.square(apart - target).sum()), down.ravel()

    flat = FLAT * np.square(target).sum() / target.max()
    found = minimize(slope, points.ravel(), jac=True, method="L-BFGS-B",
                     options={"maxiter": STEPS, "maxcor": 20, "ftol": 0, "gtol": flat})  # fmt: skip
    return found.x.reshape(points.shape)


def _upright(points: np.ndarray) -> np.ndarray:
    """Return points about their mean with their longest axis level, mirrored so that the skew of each is positive."""
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ axes.T
    return along * np.where((along**3).sum(0) < 0, -1, 1)
