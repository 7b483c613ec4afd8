"""The curves a physiologist draws and the numbers read off them; numpy only, any number of units at once.

A response here is never negative: a firing rate. `rates` takes a unit's response, less that to a blank image if
requested, and cuts it at 0. Where a curve is 0 everywhere its numbers are NaN.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cnnprobe.store.tables import Name

Strength = Literal["mean", "max", "f1"]
"""How the answers to the phases of one grating become one number, see `strength`."""


def grid(
    factors: dict[Name, np.ndarray], names: Sequence[Name], where: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Lay stimuli out by some factors that are combined completely.

    Args:
        factors: by name (stimulus,).
        names: of the factors, one for each axis.
        where: (stimulus,) bool, those that take part.

    Returns:
        the values of each factor, ascending; and the stimulus at each combination, an int array with an axis for each
        factor.

    Raises:
        ValueError: a combination is missing or is there twice.
    """
    values, places = zip(*(np.unique(factors[name][where], return_inverse=True) for name in names))
    index = np.full([len(one) for one in values], -1)
    index[places] = np.flatnonzero(where)
    if (index < 0).any() or index.size != where.sum():
        raise ValueError(f"{int(where.sum())} stimuli are not every combination of {' and '.join(names)}, each once")
    return list(values), index


def rates(responses: np.ndarray, blank: np.ndarray | None = None) -> np.ndarray:
    """Return responses (unit, …) cut at 0, after those to a blank image (unit,) were taken off if they are given."""
    if blank is not None:
        responses = responses - blank.reshape(-1, *[1] * (responses.ndim - 1))
    return np.maximum(responses, 0)


def harmonic(responses: np.ndarray, order: int = 1) -> np.ndarray:
    """Return the complex amplitude of a harmonic over phases at equal steps, (…, phase) to (…).

    F1 = 2/n sum_k r_k exp(-i phi_k): its absolute value is the amplitude of the modulation, its angle the phase of the
    grating at which the response is largest, with the opposite sign.
    """
    turns = 2 * np.pi * np.arange(responses.shape[-1]) / responses.shape[-1]
    return 2 * (responses * np.exp(-1j * order * turns)).mean(-1)


def strength(responses: np.ndarray, kind: Strength = "mean") -> np.ndarray:
    """Reduce rates (…, phase) to one number: their mean F0, the largest, or the amplitude of the first harmonic F1.

    Drifting gratings are rows of phases. F0 suits every cell, F1 only those that answer with the phase (simple cells).
    For a half-wave rectified linear unit all three are proportional to the amplitude of the wave inside it; of n even
    phases F1 exactly, the mean within 1 - (pi / n) / tan(pi / n), 5 % of 8, the largest within 1 - cos(pi / n), 8 %.
    """
    if kind == "f1":
        return np.abs(harmonic(responses))
    return responses.mean(-1) if kind == "mean" else responses.max(-1)


def modulation_ratio(responses: np.ndarray) -> np.ndarray:
    """Return F1/F0 over phases, (…, phase) to (…): above 1 simple, below complex (Skottun et al. 1991, Vision Res 31).

    0 for a unit that answers all phases alike, pi/2 for a half-wave rectified cosine, 2 for a single phase.
    """
    mean = responses.mean(-1)
    return np.divide(np.abs(harmonic(responses)), mean, out=np.full(mean.shape, np.nan), where=mean > 0)


def vector_mean(curve: np.ndarray, angles: np.ndarray, period: float) -> np.ndarray:
    """Return sum R exp(2 pi i angle / period) / sum R, (…, angle) to complex (…); a whole turn is the period."""
    total = curve.sum(-1)
    pointing = (curve * np.exp(2j * np.pi * angles / period)).sum(-1)
    return np.divide(pointing, total, out=np.full(total.shape, np.nan + 0j), where=total > 0)


def circular_variance(curve: np.ndarray, angles: np.ndarray, period: float = 180) -> np.ndarray:
    """Return 1 - |sum R_k exp(2 i theta_k)| / sum R_k (Ringach, Shapley, Hawken 2002, J Neurosci 22:5639), 0 to 1.

    0: only one orientation is answered; 1: all alike. It uses the whole curve, and small noise changes it less than
    the indices of two points (Mazurek, Kager, Van Hooser 2014, Front Neural Circuits 8:92).

    Args:
        curve: (…, angle), 0 or more.
        angles: at equal steps over the period, degrees.
        period: 180 for orientations, 360 for directions and hues.
    """
    return 1 - np.abs(vector_mean(curve, angles, period))


def orientation_index(curve: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return (Rp - Ro) / (Rp + Ro): preferred against orthogonal orientation, (…, angle) to (…), 0 to 1.

    Rp is the largest response, Ro the one 90 degrees away, interpolated where none was shown there. Of the two points'
    contrasts in use (Mazurek, Kager, Van Hooser 2014 compare others) the one that cannot exceed 1.
    """
    best = curve.argmax(-1)
    steps = 90 / (angles[1] - angles[0])
    low = (best + int(steps)) % len(angles)
    rows = np.indices(best.shape)
    before, after = curve[(*rows, low)], curve[(*rows, (low + 1) % len(angles))]
    orthogonal = before + (steps - int(steps)) * (after - before)
    top = curve.max(-1)
    return np.divide(top - orthogonal, top + orthogonal, out=np.full(top.shape, np.nan), where=top + orthogonal > 0)


def peak(curve: np.ndarray, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return place (in steps from the first point) and height of the largest point of curves, by a parabola.

    Args:
        curve: (unit, step).
        periodic: the step behind the last is the first; otherwise the end points stand as they are.
    """
    best, rows = curve.argmax(-1), np.arange(len(curve))
    length = curve.shape[-1]
    before, after = (curve[rows, (best + shift) % length] for shift in (-1, 1))
    middle = curve[rows, best]
    bend = before - 2 * middle + after
    inside = (bend < 0) & (periodic | ((best > 0) & (best < length - 1)))
    shift = np.where(inside, (before - after) / 2 / np.where(inside, bend, 1), 0.0)
    return best + shift, middle - np.where(inside, (before - after) * shift / 4, 0.0)


def half_height(curve: np.ndarray, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how many steps below and above its peak a curve falls to half of it, linearly interpolated.

    The peak is that of `peak`; half is half of its height above 0.

    Args:
        curve: (unit, step).
        periodic: see `peak`.

    Returns:
        (unit,) and (unit,) distances in steps; NaN where a side does not fall that far.
    """
    place, height = peak(curve, periodic)
    best, length = curve.argmax(-1), curve.shape[-1]
    found = []
    for sign in (-1, 1):
        side = np.full(len(curve), np.nan)
        for unit in range(len(curve)):
            reach = length // 2 if periodic else best[unit] if sign < 0 else length - 1 - best[unit]
            steps = np.arange(reach + 1)
            walk = curve[unit, (best[unit] + sign * steps) % length]
            under = np.flatnonzero(walk < height[unit] / 2)
            if len(under) and height[unit] > 0:
                last = under[0]  # walk[0] is above the half
                part = (walk[last - 1] - height[unit] / 2) / (walk[last - 1] - walk[last])
                side[unit] = last - 1 + part + sign * (best[unit] - place[unit])
        found.append(side)
    return found[0], found[1]


def within(angles: np.ndarray, period: float) -> np.ndarray:
    """Return angles from 0 to below the period, 0 where single precision, as stored, makes the period of them."""
    found = np.asarray(angles, np.float64) % period
    return np.where(np.float32(found) >= period, 0.0, found)


def half_width(curve: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the preferred angle and the half width at half height of curves around a circle, degrees.

    Half of the distance between the two places where the curve falls to half of its peak. (Ringach, Shapley, Hawken
    2002 take 0.71 of the peak instead; for a Gaussian curve theirs is 0.71 of this.)

    Args:
        curve: (unit, angle).
        angles: at equal steps over the whole period, degrees.

    Returns:
        (unit,) preferred; (unit,) NaN for a unit whose curve does not fall to half on both sides.
    """
    step = angles[1] - angles[0]
    low, high = half_height(curve, True)
    preferred = within(angles[0] + step * peak(curve, True)[0], step * len(angles))
    known = curve.max(-1) > 0
    return np.where(known, preferred, np.nan), (low + high) / 2 * step


def octaves(curve: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the preferred frequency and the frequencies below and above it at half height.

    Args:
        curve: (unit, frequency).
        frequencies: in equal steps of the logarithm, ascending.

    Returns:
        three times (unit,), in the unit of `frequencies`; low or high is NaN where the curve does not fall to half on
        that side: low-pass and high-pass units, and those that prefer a frequency at the border of what was shown. The
        bandwidth in octaves is log2(high / low).
    """
    ratio = np.log2(frequencies[1] / frequencies[0]) if len(frequencies) > 1 else 0.0
    place = peak(curve, False)[0]
    low, high = half_height(curve, False)
    known = np.where(curve.max(-1) > 0, 0.0, np.nan)
    return tuple(frequencies[0] * 2 ** (ratio * (place + shift) + known) for shift in (0, -low, high))


def gabor_octaves(n_x: np.ndarray) -> np.ndarray:
    """Return the bandwidth in octaves of a Gabor of n_x = sigma_x f: log2((pi n + c) / (pi n - c)), c = sqrt(ln 2 / 2).

    The passband about f alone, without the one about -f; NaN below n_x = c / pi = 0.187, where it has no lower half.
    """
    c = np.sqrt(np.log(2) / 2)
    n = np.pi * np.asarray(n_x, float)
    return np.log2((n + c) / np.where(n > c, n - c, np.nan))


def sparseness(responses: np.ndarray) -> np.ndarray:
    """Return how few of the stimuli a unit answers, (…, stimulus) to (…): (1 - (mean r)^2 / mean r^2) / (1 - 1/n).

    0: all alike; 1: only one (Vinje, Gallant 2000, Science 287:1273). For letters and shapes, which lie on no circle.
    """
    count = responses.shape[-1]
    power = (responses**2).mean(-1)
    share = np.divide(responses.mean(-1) ** 2, power, out=np.full(power.shape, np.nan), where=power > 0)
    return (1 - share) / (1 - 1 / count)
