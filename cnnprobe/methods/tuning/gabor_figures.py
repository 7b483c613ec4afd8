"""Filters beside the Gabors fitted to them, and the plane of their shapes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cnnprobe.plots import signed, style
from cnnprobe.plots.canvas import Cell, empty, footer, largest, show

TILE, LABEL, GAP = 52, 26, 5
"""Side of a picture, height of the letters below it, and what is left free, px of the figure."""
FARTHEST = 1.5
"""Where the plane ends; filters beyond stand at its border."""
LOWPASS = math.sqrt(math.log(2) / 2) / math.pi
"""n_x below which a Gabor answers frequency 0 with more than half of its best."""


@dataclass(frozen=True)
class GaborRow:
    """One filter.

    Args:
        name: of the unit.
        weights: (channel, y, x).
        flat: (y, x) what was fitted.
        fit: (y, x), NaN where there is none.
        note: a line below.
    """

    name: str
    weights: np.ndarray
    flat: np.ndarray
    fit: np.ndarray
    note: str


def gabor_sheet(rows: Sequence[GaborRow], title: str) -> Figure:
    """Show filters, the plane that was fitted, the Gabor and what it leaves, each with its own limit of colours."""
    block = 4 * (TILE + GAP) + 3 * GAP
    columns = max(1, min(len(rows), round(math.sqrt(len(rows) * (TILE + LABEL) / block * 1.3))))
    high = max(1, math.ceil(len(rows) / columns)) * (TILE + LABEL)
    wide = max(columns * block, 700)
    made = style.figure(wide / style.DPI, high / style.DPI + 0.35, title)
    ax = empty(made, (wide, high))
    for place, row in enumerate(rows):
        left, top = place % columns * block, place // columns * (TILE + LABEL)
        cells = [Cell(left + step * (TILE + GAP), top, TILE, TILE).fitted(row.flat.shape) for step in range(4)]
        limit = largest(row.flat) or 1.0
        signed.draw(ax, row.weights, cells[0], None, "signed", "no number")
        flat, fit = (np.where(np.isfinite(values), values, np.nan) for values in (row.flat, row.fit))
        for cell, values in zip(cells[1:], (flat, fit, flat - fit)):
            if np.isnan(values).any():
                ax.add_patch(cell.rectangle(facecolor="0.94", edgecolor="0.8", hatch="////", linewidth=0, zorder=0))
            show(ax, values, cell, limit)
            ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
        ax.text(left, top + TILE + 2, f"{row.name}: {row.note}", fontsize=4.6, ha="left", va="top")
    legend = ["from left: weights in colour (mid-grey is zero), first component over colours, Gabor, residual"]
    broken = any(not np.isfinite(row.fit).all() or not np.isfinite(row.flat).all() for row in rows)
    footer(made, [*legend, "the last three share a limit, blue negative", "hatched: no number" if broken else ""])
    return made


def shape_plane(
    n_x: np.ndarray, n_y: np.ndarray, symmetry: np.ndarray, colour: np.ndarray, cells: np.ndarray, title: str,
    source: str = "",
) -> Figure:  # fmt: skip
    """Draw the plane of shapes (Ringach 2002): how many cycles wide and high the envelopes are.

    Args:
        n_x, n_y: (filter,) of accepted fits; NaN is counted in the legend and not drawn.
        symmetry: (filter,) 0 (even) to 90 (odd), degrees.
        colour: (filter,) bool: colour filters, drawn as open squares.
        cells: (cell, 2) n_x and n_y of recorded cells; may be empty.
        title: of the figure.
        source: where the cells come from.
    """
    made = style.figure(5.4, 4.6, title)
    ax = made.subplots()
    known = np.isfinite(n_x) & np.isfinite(n_y)
    shown = np.concatenate([np.stack([n_x[known], n_y[known]], 1), np.asarray(cells, float).reshape(-1, 2)])
    end = min(FARTHEST, max(0.8, 1.05 * float(shown.max(initial=0.0))))
    if len(cells):
        recorded = np.minimum(cells, end)
        label = f"{len(cells)} cells{f' ({style.plain(source, 30)})' if source else ''}"
        ax.plot(*recorded.T, "o", markersize=4, markerfacecolor="none", markeredgecolor="0.55", label=label)
    points = None
    for these, marker, label in ((known & ~colour, "o", "filters"), (known & colour, "s", "colour filters")):
        if these.any():
            x, y = np.minimum(n_x[these], end), np.minimum(n_y[these], end)
            look = {"cmap": "viridis", "vmin": 0, "vmax": 90, "s": 18, "marker": marker, "clip_on": False, "zorder": 3}
            edge = {"edgecolors": "black", "linewidths": 0.5} if marker == "s" else {"linewidths": 0}
            points = ax.scatter(x, y, c=symmetry[these], label=f"{these.sum()} {label}", **look, **edge)
    ax.axvline(LOWPASS, color="0.6", linewidth=0.8, linestyle=":")
    ax.text(LOWPASS, end, " low-pass to the left", fontsize=6, color="0.4", ha="left", va="top")
    ax.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    ax.set_xlabel("n_x = sigma_x f (cycles along the modulation)", fontsize=8)
    ax.set_ylabel("n_y = sigma_y f (cycles along the bars)", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    if points is not None:
        bar = made.colorbar(points, ax=ax, shrink=0.7)
        bar.set_label("symmetry (0 even, 90 odd; degrees)", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    else:
        ax.text(0.5, 0.5, "no Gabor", transform=ax.transAxes, ha="center", fontsize=9)
    if points is not None or len(cells):
        ax.legend(fontsize=6.5, frameon=False, loc="upper right", bbox_to_anchor=(1, 0.97))
    beyond = int((shown > end).any(1).sum())
    missing = int((~known).sum())
    footer(
        made, [f"{beyond} beyond the border, drawn on it" if beyond else "", f"{missing} no number" if missing else ""]
    )
    return made
