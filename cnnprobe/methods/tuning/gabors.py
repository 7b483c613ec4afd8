"""Gabor functions fitted to the filters of a first layer, and the plane of their shapes (Ringach 2002).

    g(x, y) = A exp(-x'^2 / 2 s_x^2 - y'^2 / 2 s_y^2) cos(2 pi f x' + phi)

x' runs along the modulation, y' along the bars, both from the middle of the envelope (x0, y0). The shape of a Gabor
without its size is n_x = s_x f and n_y = s_y f (Ringach 2002, J Neurophysiol 88:455): how many cycles wide and high the
envelope is. Angles: 0 is a modulation to the right (upright bars), 90 downwards, as for gratings.

A filter of k x k px has k^2 numbers. From k = 7 all eight parameters are free; for k = 5 and 6 the envelope is round
and the phase even or odd, whichever is better; smaller ones are refused.

An edge, odd with n_x near 0, is the limit of a Gabor in which f and n_x are small as can be: its orientation and
symmetry are sure, its frequency is not.
"""

from dataclasses import dataclass, fields

import numpy as np

from cnnprobe.methods.tuning.curves import within

LEAST, FREE = 5, 7
"""Smallest side that is fitted, and from which all parameters are free, px."""
POLISHED = 8
"""Starts that are followed to the end: the best of all those tried."""
PADDED = 64
"""Side of the transform from which frequency and orientation start."""
ACCEPTED = 0.8
"""Explained variance from which a filter counts as a Gabor."""
BLOB, LOBE = 0.15, 0.05
"""A filter of n_x below the one, whose lobes of the rarer sign hold less than the other of its energy, is a lump.

A lump without noise has n_x near 0; one with noise of 5 % of its peak has been seen to reach 0.10."""
CHROMATIC = 0.5
"""Share of a filter's energy in colour from which it is called a colour filter."""


@dataclass(frozen=True)
class Gabors:
    """Fits by filter. Angles in degrees, lengths in px, places in px from the middle of the filter.

    Args:
        amplitude: A, above 0.
        x, y: of the middle of the envelope.
        sigma_x, sigma_y: of the envelope along the modulation and along the bars.
        frequency: cycles per px.
        orientation: of the modulation, 0 to 180; NaN for a blob, which has none.
        phase: at the middle of the envelope, above -180 to 180.
        symmetry: the phase folded to 0 (even) to 90 (odd).
        n_x, n_y: shape.
        explained: 1 - sum (w - g)^2 / sum (w - mean w)^2.
        kind: "gabor", "blob" (one round or oval lump), or "other" (explained below 0.8).
        fit: (filter, y, x).
    """

    amplitude: np.ndarray
    x: np.ndarray
    y: np.ndarray
    sigma_x: np.ndarray
    sigma_y: np.ndarray
    frequency: np.ndarray
    orientation: np.ndarray
    phase: np.ndarray
    symmetry: np.ndarray
    n_x: np.ndarray
    n_y: np.ndarray
    explained: np.ndarray
    kind: np.ndarray
    fit: np.ndarray


def gabor(
    side: int, *, amplitude: float = 1.0, x: float = 0.0, y: float = 0.0, sigma_x: float, sigma_y: float,
    frequency: float, orientation: float, phase: float,
) -> np.ndarray:  # fmt: skip
    """Return a Gabor function, (y, x) float64. See `Gabors` for the arguments."""
    turn, shift = np.radians(orientation), np.radians(phase)
    free = (amplitude * np.cos(shift), amplitude * np.sin(shift), x, y, np.log(sigma_x), np.log(sigma_y))
    return _wave(_points(side), np.array([*free, frequency, turn]))[0].reshape(side, side)


def plane(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring filters (filter, colour, y, x) to one plane: their first principal component over colours.

    The component is the weighting of colours that keeps most of a filter's energy (for a grey filter all colours
    alike), of length 1 and with the sign that makes the sum of its weights positive.

    Returns:
        (filter, y, x); and (filter,) the share of the energy that is colour: what differs from the mean of the colours.
    """
    flat = filters.reshape(*filters.shape[:2], -1).astype(float)
    energy = (flat**2).sum((1, 2))
    grey = (flat.mean(1) ** 2).sum(-1) * flat.shape[1]
    chromatic = 1 - np.divide(grey, energy, out=np.full(len(flat), np.nan), where=energy > 0)
    vectors = np.linalg.eigh(flat @ flat.transpose(0, 2, 1))[1][..., -1]  # (filter, colour)
    sums = vectors.sum(1)
    sums = np.where(np.abs(sums) > 1e-9, sums, vectors[:, 0])
    vectors = vectors * np.where(sums < 0, -1.0, 1.0)[:, None]
    return (vectors[:, None] @ flat)[:, 0].reshape(len(flat), *filters.shape[2:]), chromatic


def fit_gabors(filters: np.ndarray) -> Gabors:
    """Fit a Gabor to each filter by bounded least squares from many starts.

    Frequency and orientation start at the two largest peaks of the padded transform of the filter less its mean, and
    at 0.7 of their frequency; s_x and s_y at k/8, k/4 and k/2 each; the envelope in the middle of the filter and of its
    energy. Of each start amplitude and phase follow by linear least squares; the best few are followed to the end.
    What is fitted is the filter itself, its mean included.

    Args:
        filters: (filter, y, x), square. A filter of one value, or with NaN, has NaN everywhere and is "other".

    Raises:
        ValueError: they are not square, or smaller than 5 px.
    """
    count, height, width = filters.shape
    if height != width or height < LEAST:
        raise ValueError(f"Gabors are fitted to square filters of {LEAST} px and more, got {height} x {width}")
    rows = [fit_gabor(one) for one in np.asarray(filters, float)]
    values = {
        field.name: np.array([row[field.name] for row in rows]).reshape(
            count, *((height, width) * (field.name == "fit"))
        )
        for field in fields(Gabors)
    }
    return Gabors(**values)


def fit_gabor(one: np.ndarray) -> dict[str, np.ndarray | float | str]:
    """Fit one filter (y, x); returns the columns of `Gabors` for it."""
    from scipy.optimize import least_squares

    side = len(one)
    total = ((one - one.mean()) ** 2).sum()
    scale = np.abs(one).max()
    if not np.isfinite(total) or total <= 1e-12 * side**2 * scale**2:
        empty: dict[str, np.ndarray | float | str] = {field.name: np.nan for field in fields(Gabors)}
        return empty | {"kind": "other", "fit": np.full_like(one, np.nan)}
    points, target = _points(side), one.ravel() / scale
    low, high = _limits(side)
    best = None
    for expand, starts in _free_parameters(side, _starts(one / scale, points)):
        for start in starts:
            keep = expand.kept
            inside = np.clip(start, low, high)[keep]
            found = least_squares(
                lambda p, expand=expand: _wave(points, expand(p))[0] - target,
                inside,
                jac=lambda p, expand=expand: expand.gradient(_wave(points, expand(p))[1]),
                bounds=(low[keep], high[keep]),
                xtol=1e-12, ftol=1e-12, gtol=1e-12, max_nfev=200,
            )  # fmt: skip
            if best is None or found.cost < best[0] * (1 - 1e-9):
                best = (found.cost, expand(found.x))
            if best[0] < 1e-20 * target.size:
                break
    assert best is not None  # a filter that is not flat has a peak to start from
    return _described(best[1], scale, one, total)


class _Free:
    """Which of the eight parameters (a, b, x0, y0, ln s_x, ln s_y, f, theta) are free; a = A cos phi, b = A sin phi.

    Args:
        fixed: one that is 0 (of a and b), or None; then the envelope is round as well: s_y = s_x.
    """

    def __init__(self, fixed: int | None = None):
        self.round = fixed is not None
        self.kept = [place for place in range(8) if place != fixed and not (self.round and place == 5)]

    def __call__(self, free: np.ndarray) -> np.ndarray:
        whole = np.zeros(8)
        whole[self.kept] = free
        if self.round:
            whole[5] = whole[4]
        return whole

    def gradient(self, columns: np.ndarray) -> np.ndarray:
        """Return the derivatives (point, free) from those of all eight (point, 8)."""
        if self.round:
            columns = columns.copy()
            columns[:, 4] += columns[:, 5]
        return columns[:, self.kept]


def _free_parameters(side: int, starts: np.ndarray) -> list[tuple[_Free, np.ndarray]]:
    return [(_Free(), starts)] if side >= FREE else [(_Free(0), starts), (_Free(1), starts)]


def _points(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the px, (point,) each, from the middle of the filter."""
    place = np.arange(side) - (side - 1) / 2
    return np.tile(place, side), np.repeat(place, side)


def _limits(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of the eight parameters; frequencies up to that of a checkerboard."""
    low = np.array([-1e3, -1e3, -side / 2, -side / 2, np.log(0.4), np.log(0.4), 0, -1e3])
    high = np.array([1e3, 1e3, side / 2, side / 2, np.log(4 * side), np.log(4 * side), np.sqrt(0.5), 1e3])
    return low, high


def _wave(points: tuple[np.ndarray, np.ndarray], p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the function (point,) and its derivatives (point, 8) by a, b, x0, y0, ln s_x, ln s_y, f, theta."""
    a, b, x0, y0, wide, high, f, turn = p
    x, y = points[0] - x0, points[1] - y0
    cos, sin = np.cos(turn), np.sin(turn)
    across, along = cos * x + sin * y, cos * y - sin * x
    u, v = across**2 * np.exp(-2 * wide), along**2 * np.exp(-2 * high)
    envelope = np.exp(-(u + v) / 2)
    even, odd = envelope * np.cos(2 * np.pi * f * across), envelope * np.sin(2 * np.pi * f * across)
    g, slope = a * even - b * odd, -(a * odd + b * even) * 2 * np.pi
    by_across = slope * f - across * np.exp(-2 * wide) * g
    by_along = -along * np.exp(-2 * high) * g
    columns = (
        even, -odd, -cos * by_across + sin * by_along, -sin * by_across - cos * by_along, u * g, v * g, slope * across,
        along * by_across - across * by_along,
    )  # fmt: skip
    return g, np.stack(columns, 1)


def _starts(one: np.ndarray, points: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the best starts of one filter (start, 8), best first."""
    side, target = len(one), one.ravel()
    energy = (target - target.mean()) ** 2
    centres = [(0.0, 0.0), tuple(float((energy * axis).sum() / energy.sum()) for axis in points)]
    widths = np.log([side / 8, side / 4, side / 2])
    tried: list[tuple[float, int, list[float]]] = []
    for frequency, turn in _peaks(one):
        for f in (frequency, 0.7 * frequency):
            for x0, y0 in centres:
                for wide in widths:
                    for high in widths:
                        pair = _wave(points, np.array([0, 0, x0, y0, wide, high, f, turn]))[1][:, :2]
                        (a, b), *_ = np.linalg.lstsq(pair, target, rcond=None)
                        cost = ((pair @ (a, b) - target) ** 2).sum()
                        tried.append((cost, len(tried), [a, b, x0, y0, wide, high, f, turn]))
    return np.array([start for *_, start in sorted(tried)[:POLISHED]])


def _peaks(one: np.ndarray) -> list[tuple[float, float]]:
    """Return frequency and direction of the two largest local peaks of the padded amplitude spectrum."""
    spectrum = np.abs(np.fft.fft2(one - one.mean(), (PADDED, PADDED)))
    around = [np.roll(spectrum, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    peaks = spectrum * (spectrum >= np.max(around, axis=0))
    peaks[:, PADDED // 2 + 1 :] = 0  # the other half says the same
    frequency = np.fft.fftfreq(PADDED)
    found: list[tuple[float, float]] = []
    for flat in np.argsort(-peaks, axis=None, kind="stable")[:6]:
        row, column = divmod(int(flat), PADDED)
        fy, fx = frequency[row], frequency[column]
        direction = np.arctan2(fy, fx)
        same = [abs(np.hypot(fx, fy) - f) < 1e-9 and abs(np.sin(direction - turn)) < 1e-9 for f, turn in found]
        if np.hypot(fx, fy) > 0 and not any(same):
            found.append((float(np.hypot(fx, fy)), float(direction)))
    return found[:2]


def _described(p: np.ndarray, scale: float, one: np.ndarray, total: float) -> dict[str, np.ndarray | float | str]:
    """Return the columns of `Gabors` from the eight parameters."""
    a, b, x0, y0, wide, high, f, turn = p
    fit = scale * _wave(_points(len(one)), p)[0].reshape(one.shape)
    phase, turns = np.arctan2(b, a), within(np.degrees(turn), 360)
    if np.float32(turns) >= 180:  # seen from the other side
        phase, turns = -phase, np.maximum(turns - 180, 0)
    phase = np.degrees(phase)
    symmetry = min(abs(phase), 180 - abs(phase))
    explained = 1 - ((one - fit) ** 2).sum() / total
    sigma_x, sigma_y = np.exp(wide), np.exp(high)
    lobe = min((np.maximum(sign * fit, 0) ** 2).sum() for sign in (1, -1)) / (fit**2).sum()
    lump = sigma_x * f < BLOB and lobe < LOBE
    kind = "other" if explained < ACCEPTED else "blob" if lump else "gabor"
    return {
        "amplitude": scale * np.hypot(a, b), "x": x0, "y": y0, "sigma_x": sigma_x, "sigma_y": sigma_y, "frequency": f,
        "orientation": np.nan if kind == "blob" else turns, "phase": phase, "symmetry": symmetry,
        "n_x": sigma_x * f, "n_y": sigma_y * f, "explained": explained, "kind": kind, "fit": fit,
    }  # fmt: skip
