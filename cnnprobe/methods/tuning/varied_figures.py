"""Figures of what a dataset varies: what is read out of layers, which unit follows which factor, curves over a grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from cnnprobe.plots.canvas import footer
from cnnprobe.plots.style import DIVERGING, SERIES, apart, figure, plain, shades

COLOURS = {"capsule": SERIES[1], "length": SERIES[3], "components": SERIES[2], "all": SERIES[0]}
LOWEST = -0.25
"""Scores below it are drawn there."""


@dataclass(frozen=True)
class Readout:
    """One score with its interval.

    Args:
        name: of layer and read-out, with how many numbers are read.
        kind: of read-out, its colour.
        factor: what is read out.
        score, low, high, chance: NaN where there is none.
        classes: (class,) the scores of each.
    """

    name: str
    kind: str
    factor: str
    score: float
    low: float
    high: float
    chance: float
    classes: np.ndarray


def decoding(rows: Sequence[Readout], title: str) -> Figure:
    """Draw scores, a panel for each factor and a line for each read-out; dots: each class by itself.

    Args:
        rows: in any order; lines come in the order of their first appearance, of the factors of numbers first.
        title: of the figure.
    """
    factors = list(dict.fromkeys(row.factor for row in rows))
    names = list(dict.fromkeys(row.name for row in sorted(rows, key=lambda row: row.factor == factors[0])))
    names.sort(key=lambda name: next(place for place, row in enumerate(rows) if _layer(row.name) == _layer(name)))
    widest = max(len(plain(name, 40)) for name in names)
    made = figure(0.062 * widest + 1.75 * len(factors) + 0.3, 0.23 * len(names) + 0.75, title)
    axes = made.subplots(1, len(factors), sharey=True, squeeze=False)[0]
    for ax, factor in zip(axes, factors):
        own = [row for row in rows if row.factor == factor]
        for row in own:
            _score(ax, names.index(row.name), row)
        ax.axvline(own[0].chance if np.isfinite(own[0].chance) else 0, color="0.3", linewidth=0.8, linestyle=":")
        ax.set_xlim(LOWEST - 0.03, 1.03)
        ax.set_title(plain(factor, 20), fontsize=8)
        ax.set_xlabel("accuracy" if factor == "class" else "R²", fontsize=7)
        ax.set_xticks([0, 0.5, 1])
        ax.tick_params(labelsize=7, length=2)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.grid(axis="y", color="0.93", linewidth=0.6)
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(names)), [plain(name, 40) for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    remarks = ["bar: 95 % interval over images", "dots: classes by themselves", "dotted: chance"]
    footer(made, remarks + (["below the left end: drawn there"] if any(row.score < LOWEST for row in rows) else []))
    return made


def _layer(name: str) -> str:
    return name.rsplit(":", 1)[0]


def _score(ax: Axes, place: int, row: Readout) -> None:
    colour = COLOURS.get(row.kind, "0.3")
    known = row.classes[np.isfinite(row.classes)]
    ax.plot(np.clip(known, LOWEST, 1), np.full(len(known), place), "o", color=colour, markersize=2.2, alpha=0.35)
    if not np.isfinite(row.score):
        ax.text(0.5, place, "none", fontsize=6, ha="center", va="center", color="0.5")
        return
    ax.plot(np.clip([row.low, row.high], LOWEST, 1), [place] * 2, "-", color=colour, linewidth=2.2, alpha=0.7)
    ax.plot(np.clip(row.score, LOWEST, 1), place, "o", color=colour, markersize=5)


def factor_maps(found: dict[str, np.ndarray], size: int, names: Sequence[str], title: str) -> Figure:
    """Draw which unit follows which factor, -1 to 1.

    Args:
        found: by factor (class, unit).
        size: numbers of a capsule: of each class its own capsule is drawn, a panel for each factor; 0: no capsules,
            the means over classes are drawn, factor by unit.
        names: of the classes.
        title: of the figure.
    """
    if size and len(names) * size == next(iter(found.values())).shape[1]:
        made = figure(max(4.5, 0.9 + len(found) * (0.13 * size + 0.25)), 0.19 * len(names) + 0.85, title)
        axes = made.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (factor, values) in zip(axes, found.items()):
            own = np.full((len(names), size), np.nan)
            for row in range(min(len(values), len(names))):
                own[row] = values[row, row * size : (row + 1) * size]
            image = _matrix(ax, own)
            ax.set_title(plain(factor, 20), fontsize=8)
            ax.set_xlabel("dimension", fontsize=7)
            ax.set_xticks([0, size - 1])
        axes[0].set_yticks(range(len(names)), apart(names, 16))
        remarks = ["each class: its own capsule"]
    else:
        with np.errstate(invalid="ignore"):
            counts = [np.isfinite(values).sum(0) for values in found.values()]
            means = [np.nansum(values, 0) / np.where(n, n, np.nan) for values, n in zip(found.values(), counts)]
        shown = np.stack(means)
        made = figure(min(12.0, max(4.5, 1.2 + 0.06 * shown.shape[1])), 0.24 * len(found) + 0.85, title)
        axes = made.subplots(1, 1, squeeze=False)[0]
        image = _matrix(axes[0], shown)
        axes[0].set_yticks(range(len(found)), [plain(name, 20) for name in found])
        axes[0].set_xlabel("unit", fontsize=7)
        remarks = ["mean over classes"]
    bar = made.colorbar(image, ax=list(axes), fraction=0.025, pad=0.02)
    bar.set_label("r", fontsize=7)
    bar.set_ticks([-1, 0, 1])
    bar.ax.tick_params(labelsize=6)
    footer(made, [*remarks, "hatched: no number"])
    return made


def _matrix(ax: Axes, values: np.ndarray) -> AxesImage:
    ax.set_facecolor("0.94")
    ax.patch.set(hatch="////", edgecolor="0.8")
    ax.tick_params(labelsize=7, length=0)
    return ax.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")


def curves(
    rows: Sequence[tuple[str, int | None, np.ndarray]],
    along: dict[str, tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw responses along every factor, a unit in each row and a line for each class.

    Args:
        rows: name of the unit, the class it belongs to (drawn bold; None: none), responses (image,).
        along: by factor with its unit: which images step through it (image,) bool, and its values (image,).
        labels: (image,) class.
        names: of the classes.
        title: of the figure.
    """
    made = figure(1.0 + 1.75 * len(along), 1.05 * len(rows) + 0.95, title)
    axes = made.subplots(len(rows), len(along), squeeze=False, sharex="col", sharey="row")
    classes = np.unique(labels)
    palette = [shades("viridis")(place / max(1, len(classes) - 1) * 0.92) for place in range(len(classes))]
    for place, (name, own, curve) in enumerate(rows):
        line = axes[place]
        for ax, (factor, (where, values)) in zip(line, along.items()):
            for colour, label in zip(palette, classes):
                part = np.flatnonzero(where & (labels == label))
                part = part[np.argsort(values[part], kind="stable")]
                mine = own is None or own == label
                look = {"linewidth": 1.6 if own == label else 0.9, "alpha": 1 if mine else 0.35}
                ax.plot(values[part], curve[part], color=colour, zorder=3 if own == label else 2, **look)
            ax.tick_params(labelsize=6, length=2)
            ax.spines[["top", "right"]].set_visible(False)
            if place == len(rows) - 1:
                ax.set_xlabel(factor, fontsize=7)
        whose = f"\n{plain(names[own], 14)}" if own is not None and own < len(names) else ""
        line[0].set_ylabel(f"{name}{whose}", fontsize=7)
    words = apart(names, 16) if len(names) else [f"class {label}" for label in classes]
    keys = [Line2D([], [], color=colour, linewidth=1.6, label=words[label] if label >= 0 else "no class")
            for colour, label in zip(palette, classes)]  # fmt: skip
    made.legend(handles=keys, fontsize=6.5, frameon=False, loc="outside lower center", ncols=min(8, len(keys)))
    return made
