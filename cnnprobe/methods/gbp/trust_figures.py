"""Trust in gradient maps: reliability against the number of stimuli, likeness after randomisation."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from cnnprobe.plots import style
from cnnprobe.plots.canvas import GAP, LINE, Cell, empty, footer, show, wrapped
from cnnprobe.plots.sheet import rgb
from cnnprobe.plots.signed import Display, draw, hatching, words

CELL = 108
"""Longer side of a picture or map, px of the figure."""
STAGES = 9
"""Stages of randomisation shown as pictures at most; the curves have them all."""
FEW = 12
"""Up to so many units have a line of their own among the curves."""
MARKERS = "osD^vP"
"""Of the curves of rules, in this order, so that they can be distinguished without colours."""


def reliability_curves(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, quantity: str = "reliability"
) -> Figure:
    """Draw how reliable the mean maps of units are against the number of stimuli behind them, one panel per layer.

    Args:
        layers: by name: the numbers of stimuli (n,) and the reliability (unit, n), NaN where not known.
        title: of the figure; say how reliability is measured.
        quantity: what stands at the axis.
    """
    if not layers:
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    columns = min(3, len(layers))
    rows = math.ceil(len(layers) / columns)
    made = style.figure(max(4.5, 2.9 * columns), 2.5 * rows, title)
    panels = made.subplots(rows, columns, squeeze=False, sharey=True)
    few = False
    for (name, (counts, values)), ax in zip(layers.items(), panels.flat):
        few |= _reliability(ax, name, np.asarray(counts, float), np.asarray(values, float))
    for ax in panels[:, 0]:
        ax.set_ylabel(style.plain(quantity), fontsize=8)
    for ax in list(panels.flat)[len(layers) :]:
        ax.set_axis_off()
    footer(made, ["line: median of the units, band: their quartiles", "thin: single units" * few])
    return made


def _reliability(ax: Axes, name: str, counts: np.ndarray, values: np.ndarray) -> bool:
    """Draw one layer; return whether its units have lines of their own."""
    values = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(values).all(0) if len(values) else np.zeros(len(counts), bool)
    units = int((~np.isnan(values)).any(1).sum())
    ax.set_title(f"{style.plain(name)}: {units} unit{'s' * (units != 1)}", fontsize=8)
    ax.set_xscale("log")
    ax.set_xlabel("stimuli", fontsize=8)
    _plain_axis(ax)
    if not known.any():
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, fontsize=8, ha="center", va="center")
        ax.set(xticks=[], yticks=[])
        return False
    few = 1 < units <= FEW
    if few:
        ax.plot(counts, values.T, color="0.72", linewidth=0.6)
    low, middle, high = np.nanpercentile(values[:, known], (25, 50, 75), axis=0)
    ax.fill_between(counts[known], low, high, color=style.SERIES[0], alpha=0.2, linewidth=0)
    ax.plot(counts[known], middle, ".-", color=style.SERIES[0], markersize=5)
    ax.axhline(0, color="0.55", linewidth=0.8, linestyle=":")
    ax.set_ylim(min(-0.03, float(np.nanmin(values)) - 0.03), max(1.02, float(np.nanmax(values)) + 0.03))
    step = math.ceil(len(counts) / 7)
    ax.xaxis.set_major_locator(FixedLocator(counts[::-step][::-1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([style.number(count) for count in counts[::-step][::-1]])
    return few


def _plain_axis(ax: Axes) -> None:
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def sanity_figure(
    image: np.ndarray,
    maps: np.ndarray,
    likeness: np.ndarray,
    *,
    rules: Sequence[str],
    stages: Sequence[str],
    measures: Sequence[str],
    sentence: str,
    title: str,
    display: Display = "grey",
) -> Figure:
    """Show what is left of maps when the network they explain is randomised (after Adebayo et al. 2018, figure 2).

    Above: the maps of one image, a row for each rule, a column for each stage. Below: how alike the maps are to those
    of the untouched network, a panel for each measure. A sentence says in plain words what follows.

    Args:
        image: (channel, y, x), uint8 or 0 to 1.
        maps: (rule, stage, channel, y, x) signed; stage 0 is the untouched network. Each is shown on its own scale.
        likeness: (rule, measure, stage, image) with the map of stage 0, 1 where alike; NaN where it has no value.
        rules: names of the rows.
        stages: names of the stages, e.g. "original", "classifier.1", ….
        measures: names of the panels.
        sentence: what the figure shows, and what it does not.
        title: of the figure; say network, layer, unit and which randomisation.
        display: see `plots.signed.picture`.
    """
    if not len(rules) or not len(stages):
        return style.figure(4.5, 0.3, f"{title}\nno {'stages' if len(rules) else 'rules'}")
    chosen = np.unique(np.linspace(0, len(stages) - 1, min(len(stages), STAGES)).round().astype(int))
    front, step = 105, CELL + GAP / 2
    heads = [["image"], *([str(place), *_path(stages[place], 16)] for place in chosen)]
    head = (0.9 * max(map(len, heads)) + 0.5) * LINE
    extent = front + (len(chosen) + 1) * step, head + len(rules) * step
    wide = max(extent[0] / style.DPI + 0.2, 7.2)
    sizes = extent[1] / style.DPI + 0.3, 2.4
    made = style.figure(wide, sum(sizes) + 0.6, title)
    above, below = made.subfigures(2, 1, height_ratios=sizes)
    ax = empty(above, extent)
    for place, lines in enumerate(heads):
        ax.text(front + place * step + CELL / 2, head - 4, "\n".join(lines), fontsize=6, ha="center", va="bottom")
    for row, rule in enumerate(rules):
        top = head + row * step
        ax.text(front - 8, top + CELL / 2, "\n".join(wrapped(rule, front, 7)), fontsize=7, ha="right", va="center")
        if not row:
            show(ax, rgb(image), Cell(front, top, CELL, CELL).fitted(image.shape[-2:]))
        for column, stage in enumerate(chosen):
            cell = Cell(front + (column + 1) * step, top, CELL, CELL).fitted(maps.shape[-2:])
            draw(ax, maps[row, stage], cell, None, display, "no map")
    remarks = [words(display, maps.shape[2], "each map's own"), *hatching([maps[:, chosen]])]
    footer(above, remarks)
    _likeness(below, likeness, rules, stages, measures)
    made.supxlabel("\n".join(textwrap.wrap(style.plain(sentence, 600), int(wide * 11))), fontsize=9, weight="bold")
    return made


def _likeness(
    part: SubFigure, likeness: np.ndarray, rules: Sequence[str], stages: Sequence[str], measures: Sequence[str]
) -> None:
    """Draw the likeness (rule, measure, stage, image) to the untouched network's maps, a panel for each measure."""
    if not len(measures):
        return
    panels = part.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    values = np.where(np.isfinite(likeness), likeness, np.nan)
    size = 3.5 if len(stages) <= 12 else 2.0
    low = min(-0.05, float(np.min(values, initial=0, where=~np.isnan(values))) - 0.05)
    for place, (measure, ax) in enumerate(zip(measures, panels)):
        for rule, name in enumerate(rules):
            one = values[rule, place]  # (stage, image)
            known = np.flatnonzero(~np.isnan(one).all(-1)) if one.size else np.zeros(0, int)
            quartiles = np.full((3, len(one)), np.nan)
            quartiles[:, known] = np.nanpercentile(one[known], (25, 50, 75), axis=-1) if len(known) else np.nan
            look = {"color": style.SERIES[rule % len(style.SERIES)], "label": style.plain(name, 24)}
            marker = MARKERS[rule % len(MARKERS)]
            ax.plot(quartiles[1], marker=marker, markersize=size, linewidth=1.1, **look)
            ax.fill_between(range(len(one)), quartiles[0], quartiles[2], color=look["color"], alpha=0.15, linewidth=0)
        ax.axhline(0, color="0.55", linewidth=0.8, linestyle=":")
        ax.set_title(style.plain(measure, 40), fontsize=8)
        ax.set(xlim=(-0.3, len(stages) - 0.7 + 1e-9), ylim=(low, 1.05))
        _plain_axis(ax)
        ax.set_xlabel("block randomised", fontsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    panels[0].set_ylabel("likeness to the\nuntouched network's map", fontsize=7)
    part.legend(*panels[0].get_legend_handles_labels(), fontsize=7, frameon=False, ncols=6, loc="outside upper center")
    images = likeness.shape[-1]
    remarks = ["blocks are numbered above", *([f"median of {images} images, bands: quartiles"] if images > 1 else [])]
    nothing = np.isnan(values).all(1).sum((1, 2))  # (rule,)
    if nothing.any():
        counts = ", ".join(f"{style.plain(name, 24)} {count}" for name, count in zip(rules, nothing))
        remarks.append(f"left out, because constant maps have no likeness: {counts} (of {values[0, 0].size} each)")
    footer(part, remarks)


def _path(name: str, letters: int) -> list[str]:
    """Break the name of a module into lines after its dots, or where it must be."""
    lines = [""]
    for word in re.split(r"(?<=\.)", style.plain(name)):
        lines[-1:] = [lines[-1] + word] if len(lines[-1] + word) <= letters else [lines[-1], word]
    return [piece for line in lines for piece in textwrap.wrap(line, letters)][:3]
