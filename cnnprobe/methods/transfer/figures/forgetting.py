"""Forgetting in a network: layers by depth, selectivity before and after, which units were overwritten."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from cnnprobe.methods.transfer.comparison.columns import SIDES, LayerColumn, UnitColumn, unit_column
from cnnprobe.methods.transfer.figures.changed_units import before_and_after
from cnnprobe.plots import style
from cnnprobe.plots.canvas import footer

KEPT = LinearSegmentedColormap.from_list("kept", [style.ACCENT, "#f4d6da", "#dfe8f0", "#1b6ca8"])
"""Of a unit's correlation: 0 and less, overwritten, is red; 1, kept, is blue."""
NAMED = 4
"""Units named at the end of a layer's strip at most."""
TEXTS = (1.01, 1.09, 1.19)
"""Where the words beside a strip begin, in lengths of it."""
MOVED = 0.9
"""Correlation below which they are."""
PANELS = 30
"""Layers that have a panel of their own at most."""
Units = Mapping[str, Mapping[UnitColumn, np.ndarray]]
"""Columns of `/forgetting/<layer>` by name of layer."""


def figures(
    units: Units,
    layers: Mapping[LayerColumn, np.ndarray],
    changed: Mapping[UnitColumn, np.ndarray] | None,
    about: Mapping[str, Any],
    title: str,
) -> Iterator[tuple[str, Figure]]:
    """Draw everything, from columns by name.

    Args:
        units: of `/forgetting/<layer>`, by name of layer in order.
        layers: columns of `/layers`.
        changed: columns of `/changed`, or None.
        about: attributes of `/changed`: `layers`, `field_sizes` (px; of images), and `classes`, a list of names.
        title: says which network learned what, and on which images it is looked at.
    """
    units = {name: own for name, own in units.items() if len(own["unit"])}  # the others are yet to be compared
    yield "forgetting", layer_curves(layers, {name: own["correlation"] for name, own in units.items()}, title)
    if about.get("classes") != []:
        yield "selectivity", selectivity_scatter(units, title)
    yield "overwritten", overwritten_units(units, title)
    if changed is not None:
        there = np.flatnonzero(changed["unit"] >= 0)
        some = {name: values[there] for name, values in changed.items()}
        sizes = np.array(about.get("field_sizes", np.zeros((len(about["layers"]), 2))), float)
        names = [_described(some, row, about) for row in range(len(there))]
        words = "the units that changed most: first those that were forgotten, then by r"
        yield "changed_units", before_and_after(some, names, sizes[some["layer"]], f"{title}\n{words}")


def _described(changed: Mapping[UnitColumn, np.ndarray], row: int, about: Mapping[str, Any]) -> str:
    """Say which unit it is and how far it changed."""
    one = {name: values[row] for name, values in changed.items()}
    lines = [f"{about['layers'][one['layer']]}, unit {one['unit']}" + (" (forgotten)" if one["forgotten"] else "")]
    lines += [f"r {_number(one['correlation'])}", f"top images shared {_number(one['overlap'])}"]
    lines.append(f"selectivity {_number(one['selectivity_before'])} → {_number(one['selectivity_after'])}")
    classes = about["classes"]
    short = style.apart(classes, 16)
    named = [short[one[key]] if one[key] >= 0 else "none" for key in ("class_before", "class_after")]
    return "\n".join([*lines, f"{named[0]} → {named[1]}"] if classes else lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def layer_curves(
    layers: Mapping[LayerColumn, np.ndarray], correlations: Mapping[str, np.ndarray], title: str
) -> Figure:
    """Draw how alike each layer is before and after: CKA, drift of its dissimilarities, correlation of its units.

    Args:
        layers: (layer,) columns `name`, `cka`, `cka_biased`, `rdm_drift`, `compared`; NaN where there is no value.
        correlations: (unit,) by name of layer.
        title: of the figure.
    """
    names = [str(name) for name in layers["name"]]
    if not names:
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    made = style.figure(min(14.0, max(5.5, 0.4 * len(names) + 1.6)), 6.2, title)
    whole, drift, single = made.subplots(3, 1, sharex=True)
    places = np.arange(len(names))
    whole.plot(places, layers["cka_biased"], "o--", color="0.65", markersize=3, linewidth=1, label="plain (biased)")
    whole.plot(places, layers["cka"], "o-", color=style.SERIES[0], markersize=5, label="debiased")
    whole.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    drift.plot(places, layers["rdm_drift"], "s-", color=style.SERIES[1], markersize=5)
    _spread(single, places, [np.asarray(correlations[name], float) for name in names])
    _from_zero(whole, layers["cka"], 1.03)
    _from_zero(drift, layers["rdm_drift"], max(0.1, 1.08 * _most(layers["rdm_drift"])))
    _from_zero(single, np.concatenate(list(correlations.values())), 1.03)
    for ax, label in ((whole, "CKA"), (drift, "RDM drift\n(1 - Spearman)"), (single, "r of units")):
        ax.set_ylabel(label, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.92", linewidth=0.6)
    single.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
    _name_layers(single, names, made.get_figwidth())
    images = int(np.max(layers["compared"], initial=0))
    remarks = [
        f"layers before and after compared on {images} images",
        "r: Pearson's, over images, of each unit's maxima",
    ]
    footer(made, [*remarks, "line: median over units, bar: quartiles"])
    return made


def _most(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _from_zero(ax: Axes, values: np.ndarray, top: float) -> None:
    """Show from 0, or from below where a value is negative."""
    low = float(np.min(values, initial=0.0, where=np.isfinite(values)))
    ax.set_ylim(low - 0.03 * (top - low), top)


def _spread(ax: Axes, places: np.ndarray, values: Sequence[np.ndarray]) -> None:
    """Draw single units as light points, and the median with its quartiles."""
    middle = np.full((3, len(places)), np.nan)
    for place, one in zip(places, values):
        known = one[np.isfinite(one)]
        if len(known):
            middle[:, place] = np.percentile(known, (25, 50, 75))
        spread = (np.arange(len(known)) * 0.618034 % 1 - 0.5) * 0.4  # golden ratio: even, and the same each time
        light = min(0.6, max(0.25, 12 / max(1, len(known))))
        ax.plot(place + spread, known, ".", color=style.SERIES[2], markersize=3, alpha=light, markeredgewidth=0)
    ax.vlines(places, middle[0], middle[2], color=style.SERIES[2], linewidth=2.5)
    ax.plot(places, middle[1], "D-", color=style.SERIES[2], markersize=4.5, linewidth=1, markeredgecolor="white")


def _name_layers(ax: Axes, names: Sequence[str], wide: float) -> None:
    shorter = [style.plain(name, most=24) for name in names]
    upright = max(map(len, shorter)) + 1 > (wide - 0.8) / len(names) / 0.065
    ax.set_xticks(range(len(names)), shorter, rotation=90 if upright else 0, fontsize=7)
    ax.set_xlim(-0.6, len(names) - 0.4)


def selectivity_scatter(units: Units, title: str) -> Figure:
    """Draw the class selectivity of every unit after against that before, a panel for each layer.

    Args:
        units: by layer, columns `selectivity_before`, `selectivity_after` (unit,), NaN for none, and `forgotten`.
        title: of the figure.
    """
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    kept = np.unique(np.linspace(0, len(units) - 1, min(len(units), PANELS)).round().astype(int))
    shown = [list(units.items())[place] for place in kept]
    columns = min(len(shown), 5 if len(shown) > 8 else 4)
    rows = math.ceil(len(shown) / columns)
    made = style.figure(max(4.6, 1.75 * columns + 0.4), 1.9 * rows, title)
    panels = made.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    values = [own[unit_column("selectivity", side)] for _, own in shown for side in SIDES]
    low = min(0.0, *(float(np.min(one, initial=0.0, where=np.isfinite(one))) for one in values))
    for (name, own), ax in zip(shown, panels.flat):
        _selectivity(ax, name, own, low)
    for place, ax in enumerate(panels.flat):
        if place >= len(shown):
            ax.set_axis_off()
        elif place + columns >= len(shown):  # nothing below it
            ax.tick_params(labelbottom=True)
    made.supxlabel("class selectivity before", fontsize=8)
    made.supylabel("class selectivity after", fontsize=8)
    some = [f"{len(shown)} of {len(units)} layers, evenly"] * (len(shown) < len(units))
    words = "red: forgotten (selective before, r of its responses below 0.2; cross: silent now)"
    _remark(made, [*some, words, "line: unchanged"])
    return made


def _selectivity(ax: Axes, name: str, own: Mapping[UnitColumn, np.ndarray], low: float) -> None:
    before, after = own["selectivity_before"], own["selectivity_after"]
    known, lost = np.isfinite(before) & np.isfinite(after), np.asarray(own["forgotten"], bool)
    ax.plot([low, 1], [low, 1], color="0.6", linewidth=0.8, linestyle=":")
    light = min(0.8, max(0.25, 30 / max(1, len(before))))
    silent = lost & ~np.isfinite(after)
    series = ((known & ~lost, after, "o", style.SERIES[0]), (known & lost, after, "o", style.ACCENT))
    for some, values, marker, colour in (*series, (silent, np.full(len(after), low), "x", style.ACCENT)):
        if some.any():  # the place that nothing takes is unknown to the layout
            look = {"color": colour, "markersize": 4, "alpha": light, "zorder": 3, "clip_on": False}
            ax.plot(before[some], values[some], marker, markeredgewidth=float(marker == "x"), **look)
    counted = f"{int(known.sum())} units" + (f", {int(lost.sum())} forgotten" if lost.any() else "")
    ax.set_title(f"{style.plain(name, 20)}\n{counted}", fontsize=7, pad=3)
    ax.set(xlim=(low - 0.02, 1.02), ylim=(low - 0.02, 1.02), aspect="equal")
    ax.tick_params(labelsize=6)
    ax.spines[["top", "right"]].set_visible(False)
    if not known.any():
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, fontsize=7, ha="center", va="center")


def _remark(made: Figure, words: Sequence[str]) -> None:
    """Add a line to the title: below stands the name of the axis."""
    title = made.get_suptitle()
    letters = max(30, int(made.get_figwidth() * style.LETTERS_PER_INCH))
    lines = textwrap.wrap("; ".join(words), letters)
    made.set_figheight(made.get_figheight() + 0.17 * len(lines))
    made.suptitle("\n".join([title, *lines]), fontsize=style.TITLE_SIZE)


def overwritten_units(units: Units, title: str) -> Figure:
    """Draw a strip for each layer: its units in their order, coloured by how well their responses were kept.

    Args:
        units: by layer, columns `unit`, `correlation` (NaN: silent before or after), `dead_after`, `forgotten` (unit,).
        title: of the figure.
    """
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    made = style.figure(8.4, 0.3 * len(units) + 1.9, title)
    ax = made.subplots()
    for row, own in enumerate(units.values()):
        r = np.asarray(own["correlation"], float)
        colours = KEPT(np.clip(np.nan_to_num(r), 0, 1))
        colours[~np.isfinite(r)] = (0.93, 0.93, 0.93, 1)
        ax.imshow(colours[None], extent=(0, 1, row + 0.4, row - 0.4), aspect="auto", interpolation="nearest")
        marks = (np.flatnonzero(own["forgotten"]) + 0.5) / len(r)
        ax.plot(marks, np.full(len(marks), row + 0.45), "^", color="black", markersize=3, markeredgewidth=0)
        for x, words in zip(TEXTS, _summary(own, r)):
            ax.text(x, row, words, fontsize=6.5, va="center", ha="left")
    ax.set(xlim=(0, 1), ylim=(len(units) - 0.4, -0.6), xticks=[])
    ax.set_xlabel("units of the layer, in their order", fontsize=8)
    ax.set_yticks(range(len(units)), [f"{style.plain(name, 22)} ({len(own['unit'])})" for name, own in units.items()])
    ax.tick_params(labelsize=7, length=0)
    ax.spines[:].set_visible(False)
    for x, words in zip(TEXTS, ("median r", "forgotten", "lowest r: units")):
        ax.text(x, -0.6, words, fontsize=6.5, va="bottom", ha="left")
    bar = made.colorbar(
        ScalarMappable(Normalize(0, 1), KEPT), ax=ax, location="bottom", shrink=0.4, aspect=40, pad=0.02
    )
    bar.set_label("r of responses before and after (0 or less: red)", fontsize=6.5)
    bar.ax.tick_params(labelsize=6)
    footer(
        made,
        ["triangle: forgotten (selective before, r below 0.2, or silent now)", "grey: no r, silent in one network"],
    )
    return made


def _summary(own: Mapping[UnitColumn, np.ndarray], r: np.ndarray) -> tuple[str, str, str]:
    """Return median r, how many are forgotten, and the units that changed most."""
    known = np.flatnonzero(np.isfinite(r))
    order = [row for row in known[np.argsort(r[known], kind="stable")][:NAMED] if r[row] < MOVED]
    units = ", ".join(str(int(own["unit"][row])) for row in order)
    median = f"{np.median(r[known]):.2f}" if len(known) else "-"
    none = f"none below {MOVED}" if len(known) else "none responds in both"
    return median, f"{int(np.sum(own['forgotten']))} of {len(r)}", units or none
