"""Dissimilarity matrices on one scale, with the stimuli along their edges, and their similarity to references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cnnprobe.plots import style
from cnnprobe.plots.sheet import rgb

COLOURS = "viridis"
UNKNOWN = "0.85"
"""Colour of pairs without a dissimilarity."""
COLUMNS = 7
PANEL = 5.4
"""Side of a large matrix with its stimuli, inches."""
SMALLEST = 0.16
"""Side of a stimulus along an edge, inches; where it would be smaller there are none."""
ROWS = 6
"""Rows of stimuli along an edge at most."""


def percentiles(matrix: np.ndarray) -> np.ndarray:
    """Return the rank of each dissimilarity among all of its matrix, from 0 to 100 %; NaN stays."""
    found = np.full(matrix.shape, np.nan)
    apart = ~np.eye(len(matrix), dtype=bool) & np.isfinite(matrix)
    values = matrix[apart]
    if len(values):
        ordered = np.sort(values)
        below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        found[apart] = 100 * (below + upto - 1) / 2 / max(1, len(values) - 1)
    found[np.eye(len(matrix), dtype=bool) & np.isfinite(matrix)] = 0
    return found


def matrix_grid(matrices: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Show matrices beside one another, each as ranks of its own dissimilarities: one scale for all metrics.

    Args:
        matrices: (matrix, condition, condition); NaN: not known.
        names: above each; lines may be broken.
        title: of the figure.
    """
    columns = min(COLUMNS, max(3, math.ceil(math.sqrt(1.4 * len(matrices)))))
    rows = math.ceil(len(matrices) / columns)
    made = style.figure(columns * 1.35 + 0.9, max(2.6, rows * 1.5), title)  # high enough for the words of the scale
    axes = made.subplots(rows, columns, squeeze=False)
    for place, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if place < len(matrices):
            _show(ax, matrices[place])
            ax.set_title("\n".join(style.plain(line, 24) for line in names[place].split("\n")), fontsize=6.5, pad=2)
    _scale(made, list(axes.flat), shrink=min(1.0, 2.5 / max(2.6, rows * 1.5)))
    return made


def matrix_pair(
    matrices: Sequence[np.ndarray], names: Sequence[str], pictures: np.ndarray | None, title: str
) -> Figure:
    """Show a few matrices large, with the stimuli along their edges.

    Args:
        matrices: of (condition, condition).
        names: above each.
        pictures: (condition, channel, y, x) uint8, or None.
        title: of the figure.
    """
    made = style.figure(PANEL * len(matrices) + 0.7, PANEL + 0.3, title)
    axes = made.subplots(1, len(matrices), squeeze=False)[0]
    count = len(matrices[0])
    deep = 0 if pictures is None or len(pictures) < count else edge_rows(count)
    for ax, matrix, name in zip(axes, matrices, names):
        _show(ax, matrix)
        if pictures is not None and deep:
            side = rgb(pictures[:count])
            for upright in (False, True):
                picture, extent = edge(side, deep, upright)
                ax.imshow(picture, extent=extent, interpolation="antialiased", zorder=2)
        room = deep * deep + (deep > 0)
        end = count + deep / 2  # the last picture is wider than its row
        ax.set(xlim=(-room, end), ylim=(end, -room), aspect="equal")
        ax.set_axis_off()
        ax.set_title(style.plain(name, 70), fontsize=8, pad=3)
    _scale(made, list(axes), shrink=0.5)
    return made


def edge_rows(count: int) -> int:
    """Return in how many rows stimuli stand along an edge so that they can be seen, 0 if they cannot."""
    for rows in range(1, ROWS + 1):
        if rows * PANEL / (count + rows * rows) >= SMALLEST:
            return rows
    return 0


def edge(pictures: np.ndarray, rows: int, upright: bool) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Put stimuli into rows, each above (upright: left of) its row of the matrix.

    Args:
        pictures: (condition, y, x, 3), 0 to 1.
        rows: how many; a picture is as wide as so many conditions.
        upright: along the left edge, else along the top.

    Returns:
        a picture (y, x, 4), clear where there is no stimulus; and left, right, bottom, top in conditions.
    """
    count, high, wide = pictures.shape[:3]
    side = max(rows, max(high, wide) // rows * rows)  # px of a picture
    step = side // rows  # px from one condition to the next
    canvas = np.zeros((rows * side, count * step + side, 4), np.float32)
    for place, picture in enumerate(pictures):
        # the first one outermost: in the corner those of both edges do not meet
        top, left = place % rows * side, place * step + step // 2
        canvas[top : top + side, left : left + side, 3] = 1
        lines, columns = (np.minimum(np.arange(side) * length // side, length - 1) for length in (high, wide))
        shown = picture[lines][:, columns]
        canvas[top : top + side, left : left + side, :3] = shown.swapaxes(0, 1) if upright else shown
    along = (-rows / 2, -rows / 2 + canvas.shape[1] / step)
    if upright:
        return canvas.swapaxes(0, 1), (-rows * rows, 0, along[1], along[0])
    return canvas, (*along, 0, -rows * rows)


def _show(ax: Axes, matrix: np.ndarray) -> None:
    count = len(matrix)
    ax.set_facecolor(UNKNOWN)
    look = {"cmap": COLOURS, "vmin": 0, "vmax": 100, "interpolation": "antialiased"}
    shown = ax.imshow(np.ma.masked_invalid(percentiles(matrix)), extent=(0, count, count, 0), zorder=1, **look)
    shown.set_cmap(shown.get_cmap().with_extremes(bad=UNKNOWN))


def _scale(made: Figure, axes: list[Axes], shrink: float) -> None:
    scale = ScalarMappable(Normalize(0, 100), COLOURS)
    bar = made.colorbar(scale, ax=axes, shrink=shrink, aspect=18, pad=0.02)
    bar.set_label("dissimilarity: rank within the matrix (%)", fontsize=7)
    bar.ax.tick_params(labelsize=7)


@dataclass(frozen=True)
class Curve:
    """Similarity of rows to one reference.

    Args:
        values: (layer,).
        low, high: (layer,) ends of the 95 % interval; NaN: not known.
        p: (layer,) corrected; NaN: not known.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class Panel:
    """What is drawn of one reference.

    Args:
        name: of the reference.
        layers: of the network.
        random: the same with random weights, or None.
        pixels: one value, or NaN.
        ceiling: lower and upper end of the noise ceiling; NaN: not known.
    """

    name: str
    layers: Curve
    random: Curve | None
    pixels: float
    ceiling: tuple[float, float]


def similarity_by_layer(
    panels: Sequence[Panel], names: Sequence[str], measure: str, title: str, sample: str = "conditions"
) -> Figure:
    """Draw how alike each layer and each reference are, with noise ceiling, controls and stars.

    Args:
        panels: one reference each.
        names: (layer,) in order of depth.
        measure: what was measured, e.g. "Spearman's ρ".
        title: of the figure.
        sample: for what others the intervals are.
    """
    made = style.figure(min(14.0, max(5.5, 0.32 * len(names) + 2.2)), 2.1 * len(panels) + 1.1, title)
    axes = made.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for ax, panel in zip(axes, panels):
        _panel(ax, panel)
        ax.set_title(style.plain(panel.name, 80), fontsize=8, loc="left", pad=10)
        ax.set_ylabel(measure, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    shown = [style.plain(name, 20) for name in names]
    upright = max(map(len, shown)) > 3 and len(names) > 6
    axes[-1].set_xticks(range(len(names)), shown, rotation=90 if upright else 0, fontsize=7)
    axes[-1].set_xlim(-0.6, len(names) - 0.4)
    _legend(made, panels, sample)
    return made


def _panel(ax: Axes, panel: Panel) -> None:
    places = np.arange(len(panel.layers.values))
    if np.isfinite(panel.ceiling).all():
        ax.axhspan(*panel.ceiling, color=style.SERIES[3], alpha=0.25, linewidth=0, zorder=0)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=1)
    if np.isfinite(panel.pixels):
        ax.axhline(panel.pixels, color=style.SERIES[2], linewidth=1.2, linestyle="--", zorder=2)
    if panel.random is not None:
        ax.fill_between(places, panel.random.low, panel.random.high, color="0.5", alpha=0.2, linewidth=0, zorder=1)
        ax.plot(places, panel.random.values, ".-", color="0.5", linewidth=1, markersize=4, zorder=3)
    own = panel.layers
    bars = np.nan_to_num(np.maximum([own.values - own.low, own.high - own.values], 0))
    look = {"color": style.SERIES[0], "markersize": 4, "linewidth": 1.4, "elinewidth": 0.8, "capsize": 2}
    ax.errorbar(places, own.values, bars, fmt="o-", zorder=4, **look)
    for place in np.flatnonzero(own.p < 0.05):
        top = own.high[place] if np.isfinite(own.high[place]) else own.values[place]
        words = stars(own.p[place])
        words = f"({words})" if own.low[place] <= 0 else words
        ax.annotate(words, (place, top), (0, 1), textcoords="offset points", ha="center", fontsize=6.5,
                    color=style.SERIES[0])  # fmt: skip
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.06 * (high - low))


def stars(p: float) -> str:
    """Return * below 0.05, ** below 0.01, *** below 0.001."""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else ""


def _ends(curves: Sequence[Curve | None]) -> bool:
    """Say whether any interval is known."""
    return any(curve is not None and bool(np.isfinite(curve.low).any()) for curve in curves)


def _legend(made: Figure, panels: Sequence[Panel], sample: str) -> None:
    """Say below everything what is what, of what is drawn."""
    own = Line2D([], [], color=style.SERIES[0], marker="o", markersize=4)
    own.set_label("layers" + (", 95 % interval" if _ends([panel.layers for panel in panels]) else ""))
    lines: list[Artist] = [own]
    if any(panel.random is not None for panel in panels):
        grey = Line2D([], [], color="0.5", marker=".", label="random weights")
        lines.append(grey)
        if _ends([panel.random for panel in panels]):
            grey.set_label("random weights, 95 % interval (grey band)")
    if any(np.isfinite(panel.pixels) for panel in panels):
        lines.append(Line2D([], [], color=style.SERIES[2], linestyle="--", label="pixels"))
    if any(np.isfinite(panel.ceiling).all() for panel in panels):
        lines.append(Patch(color=style.SERIES[3], alpha=0.25, linewidth=0, label="noise ceiling"))
    words = (
        "* p < 0.05, ** < 0.01, *** < 0.001: more similar than with permuted conditions,\n"
        f"false discovery rate over layers; in brackets where the interval (for other {sample}) holds 0"
    )
    found = made.legend(handles=lines, loc="outside lower center", ncols=2, fontsize=7, frameon=False, title=words)
    found.get_title().set_fontsize(7)
