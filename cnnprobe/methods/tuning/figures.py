"""Tuning curves: of every unit of a layer as polar curves, of some units in full, of whole layers as histograms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator

from cnnprobe.methods.tuning.mapping import UnitColumn
from cnnprobe.plots import style
from cnnprobe.plots.canvas import empty, footer

CELL, LABEL = 78, 30
"""Side of a polar curve, and height of the two lines of letters below it, px of the figure."""


@dataclass(frozen=True)
class Panel:
    """One curve.

    Args:
        kind: line, log (logarithmic axis), polar (angles as they lie on the screen: 0 right, 90 down), words, or hues.
        x: (point,) numbers, degrees for polar and hues, or words.
        y: (point,) responses.
        title: what is varied, and in which unit.
        note: the numbers read off it.
        half: (low, high, response): ends of the half width and half of the peak, NaN where there is none.
        fit: x and y of a curve through the points.
    """

    kind: Literal["line", "log", "polar", "words", "hues"]
    x: np.ndarray
    y: np.ndarray
    title: str
    note: str = ""
    half: tuple[float, float, float] | None = None
    fit: tuple[np.ndarray, np.ndarray] | None = None


def polar_sheet(
    curves: np.ndarray, angles: np.ndarray, names: Sequence[str], captions: Sequence[str], title: str
) -> Figure:
    """Draw the orientation curve of every unit around a point, its lobes along the bars it prefers.

    Each curve is scaled to its own peak (the circle). A curve with a value that is no number is hatched, one that is 0
    everywhere is a point.

    Args:
        curves: (unit, angle), 0 or more.
        angles: degrees across the bars, at equal steps over 180.
        names, captions: one per unit: its number, and a line below it.
        title: of the figure.
    """
    count = len(curves)
    columns = max(1, min(count, max(8, round(math.sqrt(count * 1.6)))))
    rows = math.ceil(count / columns)
    extent = (max(columns * CELL, 620), rows * (CELL + LABEL))
    broken = int((~np.isfinite(curves).all(1)).sum()) if count else 0
    title += f"\n{broken} units hatched: not all responses are numbers" if broken else ""
    made = style.figure(extent[0] / style.DPI, max(extent[1], CELL) / style.DPI + 0.25, title)
    ax = empty(made, (extent[0], max(extent[1], CELL)))
    turn = np.radians(np.concatenate([angles + 90, angles + 270]))  # along the bars, and the other way
    shapes, radius = [], CELL * 0.44
    for unit, curve in enumerate(curves):
        x, y = (unit % columns + 0.5) * CELL, (unit // columns) * (CELL + LABEL) + CELL / 2
        whole = bool(np.isfinite(curve).all())
        look = {"facecolor": "none"} if whole else {"facecolor": "0.94", "hatch": "////"}
        ax.add_patch(Circle((x, y), radius, edgecolor="0.75", linewidth=0.5, **look))
        if whole and curve.max(initial=0) > 0:
            length = np.tile(curve / curve.max(), 2) * radius
            shapes.append(np.stack([x + length * np.cos(turn), y + length * np.sin(turn)], 1))
        elif whole:
            ax.plot(x, y, ".", color="0.5", markersize=3)
        ax.text(x, y + CELL / 2 + 1, f"{names[unit]}\n{captions[unit]}", fontsize=4.6, ha="center", va="top")
    ax.add_collection(PolyCollection(shapes, facecolors="#1b6ca855", edgecolors=style.SERIES[0], linewidths=0.8))
    note = "lobes lie along the bars of the grating; circle: each unit's own peak"
    footer(made, [note, "below: unit, circular variance, half width"])
    return made


def unit_curves(rows: Sequence[tuple[str, Sequence[Panel]]], title: str) -> Figure:
    """Draw the curves of some units, a unit in each row.

    Args:
        rows: name of the unit, lines may be broken; its panels, the same kinds in all rows.
        title: of the figure; say layer, network, and which neuron answers.
    """
    columns = max((len(panels) for _, panels in rows), default=1)
    widths = [2.6 if panel.kind == "words" and len(panel.x) > 12 else 1.5 for panel in (rows[0][1] if rows else ())]
    wide, high = sum(widths) + 1.55 + 0.15 * columns, 1.55 * len(rows) + 0.9
    made = style.figure(wide, max(high, 1), title)
    made.set_layout_engine("none")
    top = 1 - (made.get_figheight() - high + 0.75) / made.get_figheight()
    if rows:
        grid = made.add_gridspec(
            len(rows), columns, width_ratios=widths, left=1.45 / wide, right=1 - 0.1 / wide, top=top,
            bottom=0.4 / made.get_figheight(), wspace=0.35, hspace=0.75,
        )  # fmt: skip
    for row, (name, panels) in enumerate(rows):
        for column, panel in enumerate(panels):
            projection = "polar" if panel.kind == "polar" else None
            ax = made.add_subplot(grid[row, column], projection=projection)
            _panel(ax, panel, row == 0)
            if column == 0:
                ax.annotate(
                    name,
                    (0, 0.5),
                    (-42, 0),
                    "axes fraction",
                    "offset points",
                    fontsize=6.5,
                    ha="right",
                    va="center",
                    linespacing=1.3,
                )
    return made


def _panel(ax: Axes, panel: Panel, first: bool) -> None:
    """Draw one curve from 0 upwards; hatched where no response is a number."""
    ax.tick_params(labelsize=5, pad=1, length=2)
    known = np.isfinite(panel.y)
    infinite = int(np.isinf(panel.y).sum())
    note = panel.note + (f" ({infinite} infinite)" if infinite else "")
    ax.set_title(f"{panel.title}\n{note}" if first else note, fontsize=5.6, pad=3)
    if not known.any():
        ax.set(xticks=[], yticks=[])
        ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, facecolor="0.94", edgecolor="0.8", hatch="////"))
        words = "not shown" if not len(panel.y) else "no number"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, fontsize=6, ha="center", va="center")
        return
    values = np.where(known, panel.y, np.nan)
    if panel.kind == "polar":
        _polar(ax, panel.x, values)
        return
    ax.spines[["top", "right"]].set_visible(False)
    if panel.kind in ("words", "hues"):
        places = np.arange(len(values))
        colours: Any = style.SERIES[0]
        if panel.kind == "hues":
            colours = hue_colours(panel.x)
            ax.set_xticks(places[::3], [f"{x:.0f}" for x in panel.x[::3]])
        else:
            turned = max(map(len, panel.x)) > 2
            ax.set_xticks(places, panel.x, rotation=90 if turned else 0, fontsize=4.2)
        ax.bar(places, values, color=colours, width=0.75)
    else:
        ax.plot(panel.x, values, "o-" if panel.fit is None else "o", color=style.SERIES[0], markersize=2, linewidth=0.9)
        if panel.fit is not None:
            ax.plot(*panel.fit, color=style.ACCENT, linewidth=0.9)
        if panel.kind == "log":
            _logarithmic(ax, panel.x)
        if panel.half is not None and np.isfinite(panel.half[2]):
            _half(ax, panel, panel.half)
    low, high = min(0.0, np.nanmin(values)), np.nanmax(values)
    ax.set_ylim(low, high + 0.08 * (high - low) if high > low else low + 1)


def hue_colours(hues: np.ndarray) -> np.ndarray:
    """Return (hue, 3) the colours that the discs of those hues have, degrees."""
    return 0.5 + 0.25 * np.cos(np.radians(np.asarray(hues)[:, None] - np.array([0.0, 120.0, 240.0])))


def _polar(ax: Any, angles: np.ndarray, values: np.ndarray) -> None:
    ax.set_theta_direction(-1)
    turn = np.radians(np.append(angles, angles[0]))
    ax.plot(turn, np.append(values, values[0]), color=style.SERIES[0], linewidth=0.9)
    ax.fill(turn, np.nan_to_num(np.append(values, values[0])), color=style.SERIES[0], alpha=0.25)
    top = float(np.nanmax(values))
    ax.set_ylim(0, top if top > 0 else 1)
    ax.set_yticks([top] if top > 0 else [], [style.number(top)] if top > 0 else [], fontsize=4.5)
    ax.set_xticks(np.radians([0, 90, 180, 270]), ["0", "90", "180", "270"], fontsize=4.5)
    ax.tick_params(pad=-3)


def _logarithmic(ax: Axes, x: np.ndarray) -> None:
    ax.set_xscale("log")
    ticks = [x[0], x[len(x) // 2], x[-1]]
    ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    ax.set_xticks([], minor=True)


def _half(ax: Axes, panel: Panel, half: tuple[float, float, float]) -> None:
    """Draw the width at half height, as far as it is known."""
    low, high, level = half
    ends = [end for end in (low, high) if np.isfinite(end)]
    if len(ends) == 2 and panel.kind == "line" and (low < panel.x[0] or high > panel.x[-1]):
        period = panel.x[-1] + panel.x[1] - 2 * panel.x[0]  # around the circle
        inside = [[max(low, panel.x[0]), min(high, panel.x[-1])]]
        inside += [[low + period, panel.x[-1]]] if low < panel.x[0] else []
        inside += [[panel.x[0], high - period]] if high > panel.x[-1] else []
        for part in inside:
            ax.plot(part, [level] * 2, color=style.ACCENT, linewidth=1)
    elif len(ends) == 2:
        ax.plot(ends, [level] * 2, color=style.ACCENT, linewidth=1)
    else:
        ax.plot(ends, [level] * len(ends), "|", color=style.ACCENT)


def population(layers: dict[str, dict[UnitColumn, np.ndarray]], title: str) -> Figure:
    """Draw how the units of layers are distributed, a row of histograms for each layer.

    Args:
        layers: by name: `preferred`, `bandwidth` (degrees), `circular_variance`, `preferred_frequency` (cycles per px)
            and `f1_f0`, (unit,) each; NaN where a unit has no such number.
        title: of the figure.
    """
    known = np.concatenate([one["preferred_frequency"] for one in layers.values()] or [np.zeros(0)])
    known = known[np.isfinite(known)]
    ends: tuple[float, float] = (known.min() * 0.9, known.max() * 1.1) if len(known) else (0.01, 0.5)
    panels: dict[UnitColumn, tuple[str, np.ndarray]] = {
        "preferred": ("preferred orientation (degrees)", np.linspace(0, 180, 13)),
        "bandwidth": ("half width at half height (degrees)", np.linspace(0, 90, 19)),
        "circular_variance": ("circular variance", np.linspace(0, 1, 21)),
        "preferred_frequency": ("preferred frequency (cycles per px)", np.geomspace(*ends, 15)),
        "f1_f0": ("F1/F0 (right of the line: simple)", np.linspace(0, 2, 21)),
    }
    made = style.figure(11, max(1, 1.5 * len(layers)), title)
    if not layers:
        return made
    axes = made.subplots(len(layers), len(panels), squeeze=False)
    for place, (layer, columns) in enumerate(layers.items()):
        row = axes[place]
        for ax, (name, (label, bins)) in zip(row, panels.items()):
            values = np.asarray(columns[name], float)
            finite = values[np.isfinite(values)]
            ax.hist(np.clip(finite, bins[0], bins[-1]), bins, color=style.SERIES[0], edgecolor="white", linewidth=0.4)
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=6)
            ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            missing = len(values) - len(finite)
            ax.set_title(f"{len(finite)} units" + (f", {missing} without" if missing else ""), fontsize=6, pad=2)
            if not len(finite):
                ax.text(0.5, 0.5, "no number", transform=ax.transAxes, fontsize=7, ha="center", va="center")
                ax.set_yticks([])
            if name == "preferred_frequency":
                ax.set_xscale("log")
                ax.set_xticks([ends[0], ends[1]], [f"{end:.2g}" for end in ends])
                ax.set_xticks([], minor=True)
            if name == "f1_f0":
                ax.axvline(1, color=style.ACCENT, linewidth=0.8, linestyle="--")
            if place == len(layers) - 1:
                ax.set_xlabel(label, fontsize=7)
        row[0].set_ylabel(f"{style.plain(layer, 24)}\nunits", fontsize=7)
    return made
