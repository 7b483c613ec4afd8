"""Units that tell classes apart: d' by layer and unit for one task, and how the features of several tasks differ."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.methods.transfer.comparison.columns import FeatureColumn, Side, feature_column
from cnnprobe.plots import style
from cnnprobe.plots.canvas import footer, largest

BEST = 24
"""Units that are named with their d' for every class."""
CLASSES = 24
"""Classes shown by name at most."""
STRIPS = 24
"""Layers whose units are shown as strips at most."""
Units = Mapping[str, Mapping[FeatureColumn, np.ndarray]]
"""Columns of `/discrimination/<layer>` by name of layer."""


def task_features(units: Units, classes: Sequence[str], title: str) -> Figure:
    """Draw how well units tell the classes apart by layer, before and after, and the best units class by class.

    Args:
        units: by layer in order, columns `unit`, `best_dprime_before`, `best_dprime_after` (unit,), NaN for none, and
            `dprime_after` (unit, class).
        classes: their names.
        title: of the figure; say network, task and images.
    """
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    rows = _best(units)
    shown = min(len(classes), CLASSES)
    left, right = max(3.6, 0.28 * len(units) + 1.2), max(1.6, 0.24 * shown + 1.3)
    made = style.figure(min(15.0, left + right), max(3.6, 0.17 * len(rows) + 1.5), title)
    curve, matrix = made.subplots(1, 2, width_ratios=(left, right))
    _by_layer(curve, units)
    values = np.array([units[name]["dprime_after"][row][:shown] for name, row in rows]).reshape(len(rows), shown)
    values = values if rows else np.full((1, shown), np.nan)  # all grey
    limit = largest(values) or 1.0
    matrix.set_facecolor("0.9")
    drawn = matrix.imshow(values, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    names = [f"{style.plain(name, 18)} {int(units[name]['unit'][row])}" for name, row in rows]
    matrix.set_yticks(range(len(rows)), names, fontsize=6)
    matrix.set_xticks(range(shown), style.apart(classes, 16)[:shown], rotation=90, fontsize=6)
    matrix.tick_params(length=0)
    matrix.set_title(f"the {len(rows)} units with the largest |d'|, after" if rows else "no unit has a d'", fontsize=7)
    bar = made.colorbar(drawn, ax=matrix, fraction=0.06, pad=0.02)
    bar.set_label("d'", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    more = [f"the first {shown} of {len(classes)} classes"] * (shown < len(classes))
    footer(made, ["d': mean response to a class less that to the others, in standard deviations", *more])
    return made


def _best(units: Units) -> list[tuple[str, int]]:
    """Return layer and row of the units with the largest |d'| after, best first."""
    every = [
        (-abs(float(value)), place, name, row)
        for place, (name, own) in enumerate(units.items())
        for row, value in enumerate(own["best_dprime_after"])
        if np.isfinite(value)
    ]
    return [(name, row) for _, _, name, row in sorted(every)[:BEST]]


def _by_layer(ax: Axes, units: Units) -> None:
    """Draw median, quartiles and best unit of each layer, before and after."""
    places = np.arange(len(units))
    looks: dict[Side, tuple[str, float]] = {"before": ("0.55", -0.12), "after": (style.SERIES[0], 0.12)}
    for side, (colour, shift) in looks.items():
        found = np.full((4, len(units)), np.nan)
        for place, own in enumerate(units.values()):
            values = np.abs(own[feature_column("best_dprime", side)])
            known = values[np.isfinite(values)]
            if len(known):
                found[:, place] = np.percentile(known, (25, 50, 75, 100))
        ax.vlines(places + shift, found[0], found[2], color=colour, linewidth=2)
        ax.plot(places + shift, found[1], "o-", color=colour, markersize=4, linewidth=1, label=f"{side}: median")
        ax.plot(places + shift, found[3], "^", color=colour, markersize=4, label=f"{side}: best unit")
    ax.set_ylabel("|d'| for the best class", fontsize=8)
    ax.set_ylim(0, None if np.isfinite(ax.dataLim.ymax) and ax.dataLim.ymax > 0 else 1)
    ax.legend(fontsize=6.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    ax.set_xticks(places, [style.plain(name, 20) for name in units], rotation=90, fontsize=6.5)
    ax.set_xlim(-0.6, len(units) - 0.4)
    ax.tick_params(labelsize=6.5)
    ax.spines[["top", "right"]].set_visible(False)


def differing_features(dprime: Mapping[str, np.ndarray], tasks: Sequence[str], title: str) -> Figure:
    """Draw how far the units that tell classes apart are others in each task.

    Above: by layer, the correlation over units of their |d'| in two tasks; 1 where the same units serve both. Below: a
    strip per layer, a line a task, a column a unit, those first that serve the first task best, then the second, ….

    Args:
        dprime: by layer in order (task, unit), |d'| for the best class, NaN for none.
        tasks: their names, 2 or more.
        title: of the figure.
    """
    if not dprime or len(tasks) < 2:
        return style.figure(4.5, 0.3, f"{title}\n{'no layers' if len(tasks) > 1 else 'only one task'}")
    shown = _layers_shown(dprime)
    strip = 0.13 * len(tasks) + 0.08
    pairs = len(tasks) * (len(tasks) - 1) // 2
    heights = (2.0 + 0.15 * pairs, max(1.0, len(shown) * strip))
    made = style.figure(max(7.0, min(13.0, 0.26 * len(dprime) + 2.5)), sum(heights) + 1.2, title)
    above, below = made.subplots(2, 1, height_ratios=heights)
    _shared(above, dprime, tasks)
    limit = max((largest(dprime[name]) for name in shown), default=0) or 1.0
    below.set_facecolor("0.9")
    step = len(tasks) + 0.6
    for place, name in enumerate(shown):
        values = dprime[name][:, _order(dprime[name])]
        top = place * step
        drawn = below.imshow(
            values, extent=(0, 1, top + len(tasks), top), cmap="viridis", vmin=0, vmax=limit, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
    below.set(xlim=(0, 1), ylim=(len(shown) * step - 0.5, -0.1), xticks=[])
    names = [f"{style.plain(name, 20)} ({dprime[name].shape[1]})" for name in shown]
    below.set_yticks(np.arange(len(shown)) * step + len(tasks) / 2, names, fontsize=6.5)
    below.tick_params(length=0)
    below.spines[:].set_visible(False)
    below.set_xlabel("units, by the task they serve best and their |d'| there", fontsize=7)
    bar = made.colorbar(drawn, ax=below, fraction=0.03, pad=0.01)
    bar.set_label("|d'| for the best class", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    lines = "lines of a strip, from top to bottom: " + ", ".join(style.plain(task, 40) for task in tasks)
    more = [f"strips: the {len(shown)} of {len(dprime)} layers whose units differ most"] * (len(shown) < len(dprime))
    footer(made, [lines, *more, "grey: no d'", "with more classes the best |d'| is larger by chance"])
    return made


def _layers_shown(dprime: Mapping[str, np.ndarray]) -> list[str]:
    """Return all layers, or of too many those where units differ most between tasks, in order."""
    spread = [float(np.nanmean(np.ptp(np.nan_to_num(values), 0))) if values.size else 0.0 for values in dprime.values()]
    kept = set(np.argsort(-np.array(spread), kind="stable")[:STRIPS].tolist())
    return [name for place, name in enumerate(dprime) if place in kept]


def _order(values: np.ndarray) -> np.ndarray:
    """Return the units by the task they serve best, and there by their |d'|, largest first; (task, unit) to (unit,)."""
    known = np.nan_to_num(values, nan=-1.0)
    best = known.argmax(0)
    return np.lexsort((-known.max(0), best))


def _shared(ax: Axes, dprime: Mapping[str, np.ndarray], tasks: Sequence[str]) -> None:
    """Draw by layer how alike the |d'| of the units are in each pair of tasks."""
    places = np.arange(len(dprime))
    pairs = list(itertools.combinations(range(len(tasks)), 2))
    for number, (one, other) in enumerate(pairs):
        r = np.array([_correlation(values[one], values[other]) for values in dprime.values()])
        word = f"{style.plain(tasks[one], 24)} and {style.plain(tasks[other], 24)}"
        look = {"color": style.SERIES[number % len(style.SERIES)], "markersize": 4, "linewidth": 1.1}
        ax.plot(places, r, "osD^vP"[number % 6] + "-", label=word, **look)
    ax.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
    ax.set_ylim(-1.03, 1.03)
    ax.set_ylabel("r over units of |d'|", fontsize=8)
    ax.set_xticks(places, [style.plain(name, 20) for name in dprime], rotation=90, fontsize=6.5)
    ax.set_xlim(-0.6, len(dprime) - 0.4)
    ax.tick_params(labelsize=6.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=6.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return np.nan
    return float(np.corrcoef(one, other)[0, 1])
