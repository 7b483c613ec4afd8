"""Contrast response: how a unit's response grows with contrast, and the hyperbolic ratio that describes it."""

from dataclasses import dataclass

import numpy as np

EXPONENTS, HALVES = np.geomspace(0.25, 8, 26), np.geomspace(0.01, 20, 40)
"""Where the fit starts from the best of."""
LIMITS = ((0.1, 0.005), (10.0, 50.0))
"""Smallest and largest exponent and half-saturation contrast."""
ENOUGH = 0.8
"""Explained variance from which a fit is reported."""


@dataclass(frozen=True)
class ContrastFit:
    """R(c) = R_0 + R_max c^n / (c^n + c50^n) (Naka, Rushton 1966; for cortex Albrecht, Hamilton 1982), by unit.

    Args:
        largest: (unit,) R_max, in units of the response; NaN like `half`.
        half: (unit,) c50, 0 to 1; NaN where it lies beyond the largest contrast shown: the unit does not saturate
            there, and of R_max and c50 only R_max / c50^n is known.
        exponent: (unit,) n; also of units that do not saturate: 1 for a line.
        explained: (unit,) share of the variance over contrasts; fits below 0.8 have NaN in everything else, and so
            have those that end at the border of what an exponent may be: a step between two contrasts tells no more.
    """

    largest: np.ndarray
    half: np.ndarray
    exponent: np.ndarray
    explained: np.ndarray


def fit_contrast(curves: np.ndarray, contrasts: np.ndarray, rest: np.ndarray) -> ContrastFit:
    """Fit the hyperbolic ratio to curves by least squares, with R_0 as it was measured.

    Args:
        curves: (unit, contrast).
        contrasts: (contrast,), above 0 to 1; three or more.
        rest: (unit,) R_0, the response to contrast 0.

    Returns:
        all NaN for a unit whose response does not change with contrast, or with fewer than three contrasts.
    """
    found = np.full((4, len(curves)), np.nan)
    if len(contrasts) < 3:
        return ContrastFit(*found)
    shapes = _ratio(contrasts, EXPONENTS[:, None, None], HALVES[:, None]).reshape(-1, len(contrasts))
    for unit, (curve, start) in enumerate(zip(curves.astype(float), rest)):
        total = ((curve - curve.mean()) ** 2).sum()
        if np.isfinite(total + start) and total > 1e-12 * (curve**2).sum():
            found[:, unit] = _fit(curve - start, contrasts, shapes, total)
    return ContrastFit(*found)


def _ratio(contrasts: np.ndarray, exponent: np.ndarray, half: np.ndarray) -> np.ndarray:
    return 1 / (1 + (half / contrasts) ** exponent)


def _fit(rise: np.ndarray, contrasts: np.ndarray, shapes: np.ndarray, total: float) -> tuple[float, ...]:
    """Return R_max, c50, n and explained variance of one curve above its rest."""
    from scipy.optimize import least_squares

    scale = np.abs(rise).max()
    rise = rise / scale
    gains = shapes @ rise / (shapes**2).sum(1)
    errors = ((gains[:, None] * shapes - rise) ** 2).sum(1)
    best = int(errors.argmin())
    first = (EXPONENTS[best // len(HALVES)], HALVES[best % len(HALVES)])

    def residual(logarithms: np.ndarray) -> np.ndarray:
        shape = _ratio(contrasts, *np.exp(logarithms))
        return shape @ rise / (shape @ shape) * shape - rise  # R_max follows from the other two

    fit = least_squares(residual, np.log(first), bounds=np.log(LIMITS), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    exponent, half = np.exp(fit.x)
    explained = 1 - 2 * fit.cost * scale**2 / total
    if explained < ENOUGH or not LIMITS[0][0] * 1.01 < exponent < LIMITS[1][0] * 0.99:
        return np.nan, np.nan, np.nan, explained
    shape = _ratio(contrasts, exponent, half)
    if half > contrasts.max():
        return np.nan, np.nan, exponent, explained
    return scale * (shape @ rise) / (shape @ shape), half, exponent, explained


def naka_rushton(contrast: np.ndarray, rest: float, largest: float, half: float, exponent: float) -> np.ndarray:
    """Return R_0 + R_max c^n / (c^n + c50^n)."""
    return rest + largest * contrast**exponent / (contrast**exponent + half**exponent)
