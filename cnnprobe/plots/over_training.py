"""Features emerging while a network learns: strips of pictures, spatial frequencies, times at which half was done."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cnnprobe.plots import signed, style
from cnnprobe.plots.canvas import GAP, LINE, Cell, empty, footer, letter_size, show, wrapped
from cnnprobe.plots.sheet import rgb

WIDE = 1000
"""Width that the pictures of a unit are given together, px of the figure."""
MANY = 16
"""Of more units the pictures are small."""
FRONT = 90
"""Width of a unit's name, px of the figure."""
BETWEEN = 0.06
"""Room between two pictures, of their width."""
DECADE = 20
"""Epochs whose last is more than so many times the first after 0 stand on a logarithmic axis that begins with 0."""
LINEAR = 0.3
"""Length of that axis from 0 to the first epoch after it, decades."""
TICKS = 12
"""Labels on an axis of epochs at most."""


def strip(
    images: np.ndarray,
    labels: Sequence[str],
    names: Sequence[str],
    title: str,
    display: signed.Display | None = None,
    *,
    common: bool = False,
) -> Figure:
    """Show what each unit's feature was at each moment of learning: a row for each unit, a column for each moment.

    Many units stand in several blocks side by side. What is no number is hatched.

    Args:
        images: (unit, moment, channel, y, x): values to show, 0 to 1, or with a `display` signed maps. Of signals
            (unit, moment, channel, time): curves, each row on its own scale.
        labels: of the moments, e.g. "epoch=003".
        names: of the units, stand in front.
        title: of the figure; say layer, network, dataset and what the pictures are.
        display: how signed maps become colours, see `signed.picture`; None: `images` are 0 to 1.
        common: whether the moments of a unit share one limit, which shows growth; else each picture has its own, which
            shows shape.
    """
    units, moments = images.shape[:2]
    if not units or not moments:
        return style.figure(4.5, 0.3, f"{title}\nno {'moments' if units else 'units'}")
    shape = images.shape[-2:] if images.ndim == 5 else (3, 4)
    side = min(108.0 if units <= MANY else 64.0, max(40.0, WIDE / moments / (1 + BETWEEN)))
    high, wide = (side * length / max(shape) for length in shape)
    step = wide * (1 + BETWEEN)
    heads = [wrapped(_short(label), max(step, 30), 6.0) for label in labels]
    head, block = LINE * max(map(len, heads)) + 4, FRONT + moments * step + GAP
    blocks = max(1, min(units, round(math.sqrt(units * (high + 4) / block))))
    rows = math.ceil(units / blocks)
    extent = blocks * block, head + rows * (high + 4)
    made = style.figure(max(4.5, extent[0] / style.DPI + 0.2), extent[1] / style.DPI + 0.45, title)
    ax = empty(made, extent)
    for left in np.arange(blocks) * block + FRONT:
        for place, lines in enumerate(heads):
            ax.text(left + place * step + wide / 2, head - 4, "\n".join(lines), fontsize=6, ha="center", va="bottom")
    for unit, name in enumerate(names):
        column, row = divmod(unit, rows)
        cell = Cell(column * block + FRONT, head + row * (high + 4), wide, high)
        size = min(7.0, max(4.0, high / 5))
        lines = wrapped(name, FRONT - 8, size, max(1, int(high / size / 2.6)))
        ax.text(cell.left - 6, cell.top + high / 2, "\n".join(lines), fontsize=size, ha="right", va="center")
        if images.ndim == 4:
            _curves(ax, images[unit], cell, step)
        else:
            _row(ax, images[unit], cell, step, display, common)
    footer(made, _remarks(images, display, common))
    return made


def _short(label: str) -> str:
    """Return "epoch=003" as "epoch" above "3"."""
    found = re.fullmatch(r"(epoch|update)=(\d+)", label)
    return f"{found[1]}\n{int(found[2])}" if found else label


def _row(ax: Axes, images: np.ndarray, cell: Cell, step: float, display: signed.Display | None, common: bool) -> None:
    """Draw the pictures of a unit (moment, channel, y, x) beside one another, the first in its place."""
    limit = signed.limit_of(list(images), display) if common and display in signed.LIMITED else None
    for place, values in enumerate(images):
        own = Cell(cell.left + place * step, cell.top, cell.wide, cell.high)
        if display:
            signed.draw(ax, values, own, limit, display, "none")
            continue
        known = np.isfinite(values).all(0)
        ax.add_patch(own.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
        if not known.all():
            ax.add_patch(own.rectangle(facecolor="0.94", edgecolor="0.8", hatch="////", linewidth=0, zorder=0))
        if known.any():
            colours = rgb(np.clip(np.where(known, values, 0), 0, 1))
            show(ax, np.concatenate([colours, known[..., None]], -1), own)
        else:
            size = letter_size(own.wide)
            ax.text(own.left + own.wide / 2, own.top + own.high / 2, "none", fontsize=size, ha="center", va="center")


def _curves(ax: Axes, signals: np.ndarray, cell: Cell, step: float) -> None:
    """Draw the signals of a unit (moment, channel, time) beside one another on one scale, each channel a colour."""
    known = signals[np.isfinite(signals)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    for place, channels in enumerate(signals):
        own = Cell(cell.left + place * step, cell.top, cell.wide, cell.high)
        ax.add_patch(own.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
        x = own.left + (np.arange(channels.shape[-1]) + 0.5) / channels.shape[-1] * own.wide
        for channel, values in enumerate(channels):
            share = (np.where(np.isfinite(values), values, np.nan) - low) / ((high - low) or 1.0)
            y = own.top + own.high * (0.95 - 0.9 * share)
            ax.plot(x, y, color=style.SERIES[channel % len(style.SERIES)], linewidth=0.7)


def _remarks(images: np.ndarray, display: signed.Display | None, common: bool) -> list[str]:
    """Say what the colours mean, and the hatching where there is any."""
    if images.ndim == 4:
        return ["a colour for each channel; one scale in each row"]
    said = []
    if display:
        said.append(signed.words(display, images.shape[2], "each unit's own" if common else "each picture's own"))
    if not np.isfinite(images).all():
        said.append("hatched: no value")
    return said


def centroid_curves(
    epochs: np.ndarray,
    values: Sequence[np.ndarray],
    names: Sequence[str],
    title: str,
    labels: Sequence[str] = (),
    quantity: str = "spatial-frequency centroid (cycles/px)",
) -> Figure:
    """Draw a quantity of the features of each layer while the network learns: median and quartiles over units.

    Epochs stand on a logarithmic axis where they span more than a decade; 0, the untrained network, is on it.

    Args:
        epochs: (moment,) in order; where one is not known (NaN) the moments stand one behind the other.
        values: per layer (unit, moment), NaN where there is no value.
        names: of the layers, in order of depth.
        title: of the figure.
        labels: of the moments; shown where an epoch is not known.
        quantity: what stands at the axis.
    """
    epochs = np.asarray(epochs, float)
    if not len(names) or not len(epochs):
        return style.figure(4.5, 0.3, f"{title}\nno {'moments' if len(names) else 'layers'}")
    made = style.figure(7.0, 3.6, title)
    ax = made.subplots()
    ax.set_ylabel(style.plain(quantity), fontsize=8)
    _bare(ax)
    ordered = not np.isfinite(epochs).all() or len(epochs) == 1
    x = np.arange(len(epochs), dtype=float) if ordered else epochs
    shown = 0
    for place, (layer, name) in enumerate(zip(values, names)):
        layer = np.where(np.isfinite(layer), layer, np.nan)
        known = ~np.isnan(layer).all(0) if len(layer) else np.zeros(len(x), bool)
        units = int((~np.isnan(layer)).any(1).sum()) if len(layer) else 0
        colour = style.by_depth(place, len(names))
        label = f"{style.plain(name, 24)} ({units})"
        if not known.any():
            ax.plot([], [], ".-", color=colour, label=label)
            continue
        low, middle, high = np.nanpercentile(layer[:, known], (25, 50, 75), axis=0)
        if known.sum() == 1:
            ax.plot([x[known][0]] * 2, [low[0], high[0]], color=colour, linewidth=4, alpha=0.25)
        ax.fill_between(x[known], low, high, color=colour, alpha=0.9 / max(6, len(names)), linewidth=0)
        ax.plot(x[known], middle, ".-", color=colour, markersize=5, linewidth=1.2, label=label)
        shown += 1
    if ordered:
        words = [_short(label).replace("\n", " ") for label in labels] or [f"epoch {epoch:g}" for epoch in epochs]
        kept = slice(None, None, math.ceil(len(words) / TICKS))
        ax.set_xticks(x[kept], [style.plain(word, 18) for word in words[kept]], rotation=30, ha="right")
        ax.set_xlabel("moment of learning", fontsize=8)
    else:
        _over_epochs(ax.xaxis, epochs)
        ax.set_xlabel("epoch (0: untrained)", fontsize=8)
    if not shown:
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, fontsize=8, ha="center", va="center")
    if len(names) <= 30:
        look = {"fontsize": 7, "frameon": False, "title": "layer (units)", "title_fontsize": 7}
        made.legend(loc="outside right center", ncols=1 if len(names) <= 16 else 2, **look)
    remark = "line: median of the units, band: their quartiles"
    footer(made, [remark, "" if len(names) <= 30 else "dark to light: from the first layer to the last"])
    return made


def half_times(
    values: Sequence[np.ndarray], names: Sequence[str], title: str, epochs: np.ndarray | Sequence[float] = ()
) -> Figure:
    """Draw when the features of each layer had come half way to what they became, in order of depth.

    A point for each unit, a bar at the median of its layer. A light line at each moment says how finely time is known:
    between two of them it is interpolated.

    Args:
        values: per layer (unit,) epochs; NaN where a feature never came half way, or was there from the start.
        names: of the layers, in order of depth.
        title: of the figure; say what is compared.
        epochs: (moment,) at which the features were looked at.
    """
    if not len(names):
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    made = style.figure(min(14.0, max(4.5, 0.42 * len(names) + 1.6)), 3.4, title)
    ax = made.subplots()
    _bare(ax)
    moments = np.unique([epoch for epoch in np.ravel(epochs) if np.isfinite(epoch)])
    for epoch in moments:
        ax.axhline(epoch, color="0.88", linewidth=0.6, zorder=0)
    found = [np.ravel(layer)[np.isfinite(np.ravel(layer))] for layer in values]
    for place, (layer, known) in enumerate(zip(values, found)):
        spread = (np.arange(len(known)) * 0.618034 % 1 - 0.5) * 0.5  # golden ratio: even, and the same each time
        ax.plot(place + spread, known, ".", color=style.SERIES[0], markersize=6, alpha=0.5, markeredgewidth=0)
        if len(known):
            ax.plot([place - 0.36, place + 0.36], [np.median(known)] * 2, color=style.ACCENT, linewidth=2)
        count = f"{len(known)} of {np.size(layer)}"
        ax.annotate(count, (place, 1), (0, 3), ("data", "axes fraction"), "offset points", ha="center", fontsize=6)
    _over_epochs(ax.yaxis, np.concatenate([moments, *found]), moments)
    ax.set_ylabel("half-time (epoch)", fontsize=8)
    shorter = [style.plain(name, 24) for name in names]
    room = (made.get_figwidth() - 0.9) / len(names) / 0.07  # letters of 7 points beside one another
    upright = max(map(len, shorter)) + 1 > room
    ax.set_xticks(range(len(names)), shorter, rotation=90 if upright else 0, ha="center")
    ax.set_xlim(-0.6, len(names) - 0.4)
    if not any(map(len, found)):
        ax.text(0.5, 0.5, "no feature came half way", transform=ax.transAxes, fontsize=8, ha="center", va="center")
    lines = "light lines: the moments examined" if len(moments) else ""
    footer(made, ["points: units; red: median; above: units with a half-time", lines])
    return made


def _bare(ax: Axes) -> None:
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _over_epochs(axis: Axis, epochs: np.ndarray, marked: np.ndarray | None = None) -> None:
    """Lay an axis over epochs from 0 to the last: linear, or logarithmic with 0 on it where the moments are so spaced.

    Args:
        epochs: all that must be on the axis.
        marked: the moments, if they are others: they decide, and are labelled where it is logarithmic.
    """
    marked = epochs if marked is None or not len(marked) else marked
    last = float(np.max(epochs, initial=0.0)) or 1.0
    positive = marked[marked > 0]
    margin = 0.03
    if not len(positive) or positive.max() / positive.min() <= DECADE:
        axis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=last > 4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
        _limit(axis, -margin * last, (1 + margin) * last)
        return
    first = float(positive.min())
    set_scale = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    set_scale("symlog", base=10, linthresh=first, linscale=LINEAR)
    transform = SymmetricalLogTransform(10, first, LINEAR)
    end = float(transform.transform(np.array([last]))[0])
    inverse = transform.inverted()
    _limit(axis, *(float(inverse.transform(np.array([place]))[0]) for place in (-margin * end, (1 + margin) * end)))
    kept, free = [0.0], end
    for epoch in sorted(positive, reverse=True):  # from the last on, where there is room for a label
        place = float(transform.transform(np.array([epoch]))[0])
        if end / TICKS <= place <= free:
            kept, free = [*kept, float(epoch)], place - end / TICKS
    axis.set_major_locator(FixedLocator(kept))
    axis.set_major_formatter(FixedFormatter([f"{epoch:.2g}" if epoch < 1 else style.number(epoch) for epoch in kept]))
    axis.set_minor_locator(NullLocator())


def _limit(axis: Axis, low: float, high: float) -> None:
    (axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim)(low, high)
