"""The similarity of a brain to each layer: maps of layer by time and layer by region, and when each layer peaks."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.plots import style
from cnnprobe.plots.canvas import footer, largest

WRITTEN = 150
"""Up to so many cells of layer and region the number stands in each."""
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def time_map(
    curves: np.ndarray,
    times: np.ndarray,
    names: Sequence[str],
    title: str,
    measure: str,
    unit: str,
    *,
    latency: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    ceiling: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Draw similarity over time, as colours with the peak of each layer, and as curves (Cichy et al. 2016).

    Args:
        curves: (layer, time) similarity, layers in order of depth; NaN: not defined, a gap.
        times: (time,) in order.
        names: (layer,).
        title: above everything.
        measure: what was measured, e.g. "Spearman's ρ".
        unit: of the times, e.g. "ms".
        latency, low, high: (layer,) times of the peaks and ends of their 95 % intervals; NaN: not known.
        ceiling: lower and upper noise ceiling (time,).
    """
    rows = len(names)
    made = style.figure(8.2, 0.17 * rows + 4.2, title)
    above, below = made.subplots(2, 1, sharex=True, height_ratios=(0.17 * rows + 0.5, 2.6))
    edges = _edges(times)
    limit = largest(curves) or 1.0
    look = {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit, "shading": "flat"}
    shown = above.pcolormesh(edges, np.arange(rows + 1) - 0.5, curves, **look)
    bar = made.colorbar(shown, ax=above, pad=0.01, aspect=12, extend="neither")
    bar.set_label(measure, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    places = np.arange(rows)
    _intervals(above, latency, places, low, high, sideways=True)
    above.set_yticks(places, [style.plain(name, 24) for name in names])
    above.set_ylabel("layer", fontsize=8)
    if ceiling is not None:
        look = {"color": "0.85", "linewidth": 0, "label": "noise ceiling"}
        below.fill_between(times, *ceiling, **look)
    for place, (curve, name) in enumerate(zip(curves, names)):
        colour = style.by_depth(place, rows)
        below.plot(times, curve, color=colour, linewidth=1.1, label=style.plain(name, 24))
        alone = _alone(curve)
        below.plot(times[alone], curve[alone], ".", color=colour, markersize=3)
        if np.isfinite(latency[place]):
            peak = curve[np.flatnonzero(times == latency[place])]
            below.plot(latency[place], peak[0], "o", color=colour, markersize=3.5, markeredgecolor="white",
                       markeredgewidth=0.5)  # fmt: skip
    below.axhline(0, color="0.6", linewidth=0.6)
    below.set_ylabel(measure, fontsize=8)
    below.set_xlabel(f"time ({unit})", fontsize=8)
    below.set_xlim(edges[0], edges[-1])
    if edges[0] < 0 < edges[-1] and unit != "index":
        for ax in (above, below):
            ax.axvline(0, color="0.3", linewidth=0.7, linestyle=":")
    for ax in (above, below):
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    made.legend(*below.get_legend_handles_labels(), loc="outside right center", fontsize=6, frameon=False)
    gaps = "" if np.isfinite(curves).all() else "gaps: not defined"
    footer(made, ["dots: peaks", "bars: their 95 % intervals" if np.isfinite(low).any() else "", gaps])
    return made


def peak_latencies(
    latency: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    names: Sequence[str],
    title: str,
    unit: str,
    *,
    order: float,
    order_low: float,
    order_high: float,
) -> Figure:
    """Draw when each layer peaks, with its 95 % interval, against depth.

    Args:
        latency, low, high: (layer,); NaN: not known.
        names: (layer,) in order of depth.
        title: above everything.
        unit: of the latencies.
        order, order_low, order_high: Spearman's correlation of latency and depth, and the ends of its interval.
    """
    made = style.figure(max(4.5, 0.3 * len(names) + 1.5), 3.2, title)
    ax = made.subplots()
    places = np.arange(len(names))
    _intervals(ax, latency, places, low, high, sideways=False)
    shorter = [style.plain(name, 24) for name in names]
    upright = max(map(len, shorter), default=0) > 6
    ax.set_xticks(places, shorter, rotation=90 if upright else 0)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylabel(f"peak latency ({unit})", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    if np.isfinite(order):
        ends = f" (95 % interval {order_low:.2f} to {order_high:.2f})" if np.isfinite(order_low) else ""
        ax.set_title(f"latency with depth: Spearman's ρ {order:.2f}{ends}", fontsize=8)
    if not np.isfinite(latency).any():
        ax.text(0.5, 0.5, "no layer has a peak", transform=ax.transAxes, fontsize=8, ha="center", va="center")
    return made


def region_map(
    values: np.ndarray,
    names: Sequence[str],
    regions: Sequence[str],
    title: str,
    measure: str,
    p: np.ndarray | None = None,
) -> Figure:
    """Draw how alike each layer and each region are; the closest layer of a region is framed.

    Args:
        values: (layer, region) similarity; NaN: not defined.
        names: (layer,) in order of depth, the first below.
        regions: (region,).
        title: above everything.
        measure: what was measured.
        p: (layer, region), corrected; small ones get stars.
    """
    rows, columns = values.shape
    made = style.figure(max(4.0, 0.55 * columns + 2.4), 0.22 * rows + 1.3, title)
    ax = made.subplots()
    limit = largest(values) or 1.0
    look = {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    shown = ax.imshow(values, aspect="auto", origin="lower", **look)
    bar = made.colorbar(shown, ax=ax, pad=0.01, aspect=14)
    bar.set_label(measure, fontsize=7)
    bar.ax.tick_params(labelsize=6)
    for (row, column), value in np.ndenumerate(values) if values.size <= WRITTEN else ():
        stars = "" if p is None else next((mark for most, mark in STARS if p[row, column] < most), "")
        words = f"{round(value, 2) + 0.0:.2f}{stars}" if np.isfinite(value) else "–"
        ax.text(column, row, words, ha="center", va="center", fontsize=6,
                color="white" if abs(value) > 0.6 * limit else "0.15")  # fmt: skip
    for column in np.flatnonzero(np.isfinite(values).any(0)):
        frame = {"fill": False, "edgecolor": "black", "linewidth": 1.2}
        ax.add_patch(matplotlib.patches.Rectangle((column - 0.5, np.nanargmax(values[:, column]) - 0.5), 1, 1, **frame))
    shorter = [style.plain(name, 24) for name in regions]
    upright = max(map(len, shorter), default=0) > 8
    ax.set_xticks(range(columns), shorter, rotation=45 if upright else 0, ha="right" if upright else "center")
    ax.set_yticks(range(rows), [style.plain(name, 24) for name in names])
    ax.set_ylabel("layer", fontsize=8)
    ax.tick_params(labelsize=7, length=0)
    stars = "" if p is None or values.size > WRITTEN else "stars: p < 0.05, 0.01, 0.001, corrected"
    footer(made, ["framed: the closest layer in each column", stars])
    return made


def _intervals(
    ax: Axes, latency: np.ndarray, places: np.ndarray, low: np.ndarray, high: np.ndarray, *, sideways: bool
) -> None:
    """Draw points with bars from low to high, along x where sideways."""
    ends = np.stack([latency - low, high - latency])
    bars = np.where(np.isfinite(ends), np.maximum(ends, 0), 0)
    known = np.isfinite(latency)
    x, y = (latency, places) if sideways else (places, latency)
    look = {"fmt": "o", "color": "black", "markersize": 3.5, "elinewidth": 1, "capthick": 1}
    ax.errorbar(x[known], y[known], **{"xerr" if sideways else "yerr": bars[:, known]}, capsize=2.5, **look)


def _alone(curve: np.ndarray) -> np.ndarray:
    """Return where a value stands between gaps, where a line shows nothing; (time,) bool."""
    known = np.concatenate([[False], np.isfinite(curve), [False]])
    return known[1:-1] & ~known[:-2] & ~known[2:]


def _edges(times: np.ndarray) -> np.ndarray:
    """Return where the cells of points in time begin and end, (time + 1,)."""
    if len(times) < 2:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    middle = (times[1:] + times[:-1]) / 2
    return np.concatenate([[times[0] - (middle[0] - times[0])], middle, [times[-1] + (times[-1] - middle[-1])]])
