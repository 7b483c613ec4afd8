"""95 % intervals of means of values from 0 to 1 that hold from two values on, whatever their distribution.

A normal interval, mean ± 1.96 standard errors, holds the mean of few or skewed values far too seldom. Here the lower
end is the 2.5 % quantile of sum_i D_i x_i over the values and one more value of 0, with D uniform on the simplex
(Gaffke 2005, Math Methods Stat 14:451; Learned-Miller, Thomas 2019, arXiv:1905.06208): the sample might have missed the
smallest value there is. The upper end is the same of 1 - x. Of values that are 0 or 1 it is the exact interval of
Clopper and Pearson 1934; of others no distribution is known that it fails. It assumes independent values.
"""

import math
from collections.abc import Sequence

import numpy as np

TAIL = 0.025
"""Share of samples whose interval lies above, or below, the mean, at most."""
STEP = 0.25
_POINTS = np.exp(np.arange(-20, 20, STEP))
"""Where the characteristic function is summed; the rule converges exponentially on logarithms."""
FINE = 4096
"""Different values that are kept apart; more are rounded away from the mean of the interval."""


def share_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Clopper, Pearson 1934, Biometrika 26); (NaN, NaN) for a count of 0."""
    from scipy.stats import beta

    if not count:
        return math.nan, math.nan
    low = beta.ppf(TAIL, right, count - right + 1) if right else 0.0
    high = beta.ppf(1 - TAIL, right + 1, count - right) if right < count else 1.0
    return float(low), float(high)


def mean_interval(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over groups of the means of their values.

    The values of all groups are taken as one sample, each with the weight it has in the mean; that they were drawn
    group by group makes the mean only surer.

    Args:
        groups: of each the values, from 0 to 1; those without values are left out.

    Returns:
        lower and upper end; NaN for fewer than two values in all.
    """
    known = [np.asarray(one, np.float64) for one in groups if len(one)]
    count = sum(map(len, known))
    if count < 2:
        return math.nan, math.nan
    weight = np.concatenate([np.full(len(one), count / len(known) / len(one)) for one in known])
    values = np.concatenate(known)
    return _lower(weight * values), 1 - _lower(weight * (1 - values))


def _lower(values: np.ndarray) -> float:
    """Return the lower end for the mean of values of 0 or more."""
    from scipy.optimize import brentq

    most = float(values.max())
    if most <= 0:
        return 0.0
    places, counts = np.unique(np.append(values, 0.0), return_counts=True)
    if len(places) > FINE:
        places, which = np.unique(np.floor(places / most * FINE) * (most / FINE), return_inverse=True)
        counts = np.bincount(which, counts)
    middle = counts @ places / counts.sum()
    spread = math.sqrt(counts @ np.square(places - middle)) / counts.sum()
    ends = max(0.0, middle - 6.3 * spread), middle + 0.2 * spread  # Cantelli's inequality
    return float(brentq(lambda level: _below(places, counts, level) - TAIL, *ends, xtol=1e-8))


def _below(places: np.ndarray, counts: np.ndarray, level: float) -> float:
    """Return the probability that the weighted mean is at most `level`.

    The weights are exponential variables over their sum, so it is that of a sum of (x - level) E below 0, from its
    characteristic function (Imhof 1961, Biometrika 48:419).
    """
    distance = places - level
    scaled = (distance / np.abs(distance).max())[:, None] * _POINTS
    angle, decay = counts @ np.arctan(scaled), counts @ np.log1p(np.square(scaled)) / 2
    return float(0.5 - (np.sin(angle) * np.exp(-decay)).sum() * STEP / np.pi)
