"""Trajectories of a population through time, how much of them is linear dynamics, and how much of that is rotation.

With x_c(t) the activity of all units in condition c, less its mean over conditions at each step, on its first k
principal components over conditions and steps (Churchland et al. 2012, Nature 487:51, there k = 6):

    x_c(t + 1) - x_c(t) = M x_c(t)      by least squares over all c and t
    R² = 1 - sum |x_c(t + 1) - x_c(t) - M x_c(t)|² / sum |x_c(t + 1) - x_c(t)|²

once for any M, once for the best M = -M', which can do nothing but turn (jPCA). The planes of that M are those of its
pairs of eigenvectors.

Any smooth activity looks somewhat like this, and a few conditions are soon fitted. So the same is done to activity in
which conditions do not belong together any more: each component is given its courses in another order of conditions,
and the smallest linear change restores the covariance of the components (after the covariance-matched permutations of
Michaels, Dann, Scherberger 2016, PLoS Comput Biol 12:e1005175, who reorder the courses of each neuron). Components are
uncorrelated and keep the speed of their own courses, so that p is uniform where they do not depend on each other. With
reordered neurons, which have much in common, and the same linear change it is not.
"""

from dataclasses import dataclass

import numpy as np

MOST = 6
"""Principal components that dynamics are fitted to."""
SHOWN = 3
"""Principal components of the mean over conditions."""
LEAST_CONDITIONS = 3
"""Of two, less their mean, one is the negative of the other, in every order."""
NOTHING = 1e-10
"""Share of squares below which nothing is left: what differs is rounding."""
SMALL = 1e-9
"""Share of the variance below which a component is rounding."""
AT_REST = 1e-6
"""Radians a step below which a plane does not turn."""


@dataclass(frozen=True)
class Trajectories:
    """Activity of a population, on principal components; n is how many there are, at most 6 or 3.

    Args:
        components: (condition, time, n) of the activity less the mean over conditions; n = 0 where nothing is left.
        variance: (n,) share of each in the variance that is left.
        mean: (time, n) the mean over conditions, less its mean over time, on components of its own.
        mean_variance: (n,) share of each in the variance of that mean.
        share: of the variance of the units that depends on the condition; NaN where nothing varies.
    """

    components: np.ndarray
    variance: np.ndarray
    mean: np.ndarray
    mean_variance: np.ndarray
    share: float


@dataclass(frozen=True)
class Dynamics:
    """Linear dynamics of trajectories.

    Args:
        r2: of any matrix; NaN where nothing changes.
        skew_r2: of the best skew-symmetric one.
        skew: (component, component) that one, per step.
    """

    r2: float
    skew_r2: float
    skew: np.ndarray

    @property
    def ratio(self) -> float:
        """Share of what linear dynamics explain that rotation alone explains; 0 where they explain nothing."""
        return self.skew_r2 / self.r2 if self.r2 > 0 else 0.0 * self.r2


@dataclass(frozen=True)
class Plane:
    """A plane in which trajectories turn.

    Args:
        activity: (condition, time, 2) in it, the first axis that of the larger variance; turning counter-clockwise.
        r2: its part of the R² of the skew-symmetric matrix; those of all planes add up to it.
        variance: its share of the variance of all components.
        angle: by which the activity turns from one step to the next, radians: of the sum of conj(z(t)) z(t + 1).
    """

    activity: np.ndarray
    r2: float
    variance: float
    angle: float


def trajectories(activity: np.ndarray) -> Trajectories:
    """Return the activity of a population on its principal components.

    Args:
        activity: (condition, time, unit), finite.
    """
    activity = np.asarray(activity, np.float64)
    mean = activity.mean(0)
    left, own, nothing = activity - mean, mean - mean.mean(0), NOTHING * np.square(activity).sum()
    squares, of_mean = (one if one > nothing else 0.0 for one in (np.square(left).sum(), len(left) * (own**2).sum()))
    components, variance = _principal(left, MOST if squares else 0)
    shown, mean_variance = _principal(own, SHOWN if of_mean else 0)
    share = squares / (squares + of_mean) if squares + of_mean > 0 else np.nan
    return Trajectories(components, variance, shown, mean_variance, float(share))


def _principal(values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first principal components of (…, unit), and the share of each; the largest value is positive."""
    if not most:
        return np.zeros((*values.shape[:-1], 0)), np.zeros(0)
    flat = values.reshape(-1, values.shape[-1])
    squares, axes = np.linalg.eigh(flat.T @ flat)
    squares, axes = squares[::-1][:most], axes[:, ::-1][:, :most]
    total = np.square(flat).sum()
    kept = squares > SMALL * total
    found = flat @ axes[:, kept]
    largest = found[np.abs(found).argmax(0), np.arange(found.shape[1])]
    return (found * np.sign(largest)).reshape(*values.shape[:-1], -1), squares[kept] / total


def dynamics(components: np.ndarray) -> Dynamics:
    """Fit linear dynamics.

    The skew-symmetric B that minimises |D - X B|², with X (row, component) and D the changes, solves
    G B + B G = H - H' with G = X'X, H = X'D: entry by entry on the eigenvectors of G.

    Args:
        components: (condition, time, component).
    """
    count, change = components.shape[-1], np.diff(components, axis=1)
    total = np.square(change).sum()
    if not count or total <= NOTHING * np.square(components).sum():
        return Dynamics(np.nan, np.nan, np.zeros((count, count)))
    before, change = components[:, :-1].reshape(-1, count), change.reshape(-1, count)
    free = np.linalg.lstsq(before, change, rcond=None)[0]
    sizes, axes = np.linalg.eigh(before.T @ before)
    crossed = before.T @ change
    turned = axes.T @ (crossed - crossed.T) @ axes
    sums = sizes[:, None] + sizes
    small = sums <= np.finfo(float).eps * count * sizes[-1]
    skew = axes @ np.divide(turned, sums, out=np.zeros_like(turned), where=~small) @ axes.T
    skew = (skew - skew.T) / 2
    r2, skew_r2 = (1 - np.square(change - before @ one).sum() / total for one in (free, skew))
    return Dynamics(float(r2), float(skew_r2), skew.T)


def planes(components: np.ndarray, found: Dynamics) -> list[Plane]:
    """Return the planes in which trajectories turn, the one that explains most first; those at rest are left out."""
    change, before = np.diff(components, axis=1), components[:, :-1]
    total, variance = np.square(change).sum(), np.square(components).sum()
    speeds, vectors = np.linalg.eigh(1j * found.skew)
    made = []
    for speed, vector in zip(speeds, vectors.T):
        if speed < AT_REST:  # the other one of a pair, or none
            continue
        axes = np.sqrt(2) * np.stack([vector.real, vector.imag], 1)
        flat, moved, said = components @ axes, change @ axes, before @ found.skew.T @ axes
        explained = (said * (2 * moved - said)).sum()
        flat = flat @ np.linalg.eigh(np.einsum("cti,ctj->ij", flat, flat))[1][:, ::-1]
        z = flat[..., 0] + 1j * flat[..., 1]
        turn = (z[:, :-1].conj() * z[:, 1:]).sum()
        sign = np.sign(flat[..., 0].flat[np.abs(flat[..., 0]).argmax()])
        flat = flat * sign * (1.0, 1.0 if turn.imag >= 0 else -1.0)
        share = float(np.square(flat).sum() / variance)
        made.append(Plane(flat, float(explained / total), share, float(abs(np.angle(turn)))))
    return sorted(made, key=lambda one: -one.r2)


def permuted(components: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return components each with its courses in another order of conditions, their covariance restored.

    Args:
        components: (condition, time, component), uncorrelated.
        random: says in which order.
    """
    shape = components.shape
    order = random.permuted(np.tile(np.arange(shape[0])[:, None], (1, shape[2])), axis=0)
    moved = np.take_along_axis(components, order[:, None, :], 0).reshape(-1, shape[2])
    deviations = np.sqrt(np.square(moved).sum(0))
    left, sizes, right = np.linalg.svd(moved, full_matrices=False)
    kept = sizes > SMALL * sizes[0]
    first, _, last = np.linalg.svd(sizes[kept, None] * right[kept] * deviations, full_matrices=False)
    return (left[:, kept] @ (first @ last) * deviations).reshape(shape)


def p_of(value: float, permutations: np.ndarray) -> float:
    """Return the share of permutations, and of the value itself, that are at least as large; NaN where it is none.

    Args:
        value: an R², or a ratio of two.
        permutations: of the same; what is smaller by rounding alone is as large.
    """
    if np.isnan(value):
        return np.nan
    return float((1 + (permutations >= value - SMALL).sum()) / (1 + len(permutations)))
