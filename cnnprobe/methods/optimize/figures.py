"""Preferred images: a layer's units on a sheet, beside the images they respond to most, and how far the ascent came."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cnnprobe.plots import canvas, style
from cnnprobe.plots.canvas import GAP, LINE, Cell, wrapped
from cnnprobe.plots.sheet import rgb

SHEET = 1000
"""Width that a sheet is given, px of the figure; hundreds of units may need more."""
LARGE, SMALL = 168, 108
"""Longer side of a preferred image and of a top image in a row, px of the figure."""
LETTERS = 6.0
"""Size of small text, points."""
NAMED = 8
"""Up to so many curves each one is named; of more, median and quartiles are drawn."""
CAPTIONED = 128
"""Up to so many units of a sheet have a caption."""
MARKED = 30
"""Up to so many units of a brain each one is named on its axis."""


def preferred_sheet(images: np.ndarray, names: Sequence[str], title: str, captions: Sequence[str] = ()) -> Figure:
    """Show the preferred image of every unit of a layer, in reading order.

    An image without any number is hatched and said to have failed; one of a single colour is said to be uniform.

    Args:
        images: (unit, channel, y, x) 0 to 1, or (unit, channel, time), drawn as curves on one scale.
        names: stand above each image.
        title: of the figure; say layer, network, objective and settings.
        captions: stand below each image of a sheet of at most 128, e.g. "4.2 / 3.1"; or none.
    """
    units = len(images)
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno units")
    shape = _shape(images)
    columns = units if units <= 4 else min(units, math.ceil(math.sqrt(units * shape[0] / shape[1])))
    own = min(max(*images.shape[2:], 44), 128 if units <= 128 else 72)
    side = min(280, max(own, (SHEET // columns - GAP) * max(shape) / shape[1]))
    wide, high = (side * length / max(shape) for length in (shape[1], shape[0]))
    above = [_lines(name, wide + GAP, 2) for name in names]
    below = [_lines(caption, wide + GAP, 3) for caption in captions] if units <= CAPTIONED else []
    head, foot = (LINE * max(map(len, lines), default=0) + 3 for lines in (above, below))
    rows = math.ceil(units / columns)
    made, ax = _canvas((columns * (wide + GAP), rows * (head + high + foot + GAP)), title)
    limits = _limits(images)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        cell = Cell(column * (wide + GAP) + GAP / 2, row * (head + high + foot + GAP) + head, wide, high)
        _show(ax, image, cell, limits)
        _write(ax, above[place], cell, below=False)
        _write(ax, below[place] if below else [], cell)
    canvas.footer(made, _remarks(images, limits))
    return made


def beside_top_images(
    preferred: np.ndarray,
    pictures: np.ndarray,
    names: Sequence[str],
    captions: Sequence[Sequence[str]],
    title: str,
    outlines: np.ndarray | None = None,
) -> Figure:
    """Show one row per unit: its preferred image, large, and the images of the dataset that it responds to most.

    Args:
        preferred: (unit, channel, y, x) 0 to 1, or (unit, channel, time).
        pictures: (unit, k, channel, y, x) uint8, best first; a picture of nothing is all 255 and has no caption.
            Of signals: (unit, k, channel, time) in the units of `preferred`.
        names: stand in front of each row; lines may be broken.
        captions: per unit 1 + k of them, below the preferred image and below each top image: the responses.
        title: of the figure.
        outlines: (unit, k, 4) top, left, bottom, right edges in px of the picture, NaN for none; or None.
    """
    if not len(preferred):
        return style.figure(4.5, 0.3, f"{title}\nno units")
    k = pictures.shape[1]
    lines = max(len(_lines(caption, SMALL, 3)) for row in captions for caption in row)
    large, small = (_sized(_shape(shown), side) for shown, side in ((preferred, LARGE), (pictures[:, 0], SMALL)))
    front, high = 110, max(large[0], small[0]) + lines * LINE + GAP
    made, ax = _canvas((front + large[1] + GAP * 2 + k * (small[1] + GAP), len(preferred) * high + 2 * LINE), title)
    middle = front + large[1] + 2 * GAP + (k * (small[1] + GAP) - GAP) / 2
    for x, word in ((front + large[1] / 2, "preferred image"), (middle, "strongest images, best first")):
        ax.text(x, LINE, word, fontsize=7, ha="center", va="center")
    limits = _limits(preferred)
    if pictures.ndim == 4:
        limits = _limits(np.concatenate([preferred[:, None], pictures], 1))
    for row, image in enumerate(preferred):
        top = row * high + 2 * LINE
        cell = Cell(front, top, large[1], large[0])
        ax.text(front - GAP, top + large[0] / 2, _label(names[row], front), fontsize=7, ha="right", va="center")
        _show(ax, image, cell, limits)
        _write(ax, _lines(captions[row][0], LARGE, 3), cell)
        for place, picture in enumerate(pictures[row]):
            words = captions[row][1 + place]
            if not words and (picture == 255).all():
                continue
            left = front + large[1] + 2 * GAP + place * (small[1] + GAP)
            cell = Cell(left, top + (large[0] - small[0]) / 2, small[1], small[0])
            _show(ax, picture, cell, limits)
            if outlines is not None and np.isfinite(outlines[row, place]).all():
                ax.plot(*cell.line(outlines[row, place], _shape(picture[None])).T, color=style.ACCENT, linewidth=0.8)
            _write(ax, _lines(words, SMALL, 3), cell)
    canvas.footer(made, _remarks(preferred, limits))
    return made


def regulariser_comparison(
    images: np.ndarray, presets: Sequence[str], columns: Sequence[str], captions: Sequence[Sequence[str]], title: str
) -> Figure:
    """Show what each way to regularise makes of the same units from the same starts.

    Args:
        images: (preset, column, channel, y, x) 0 to 1, or (preset, column, channel, time).
        presets: names of the rows.
        columns: names of the columns, e.g. "seed 1", or "unit 7, seed 1" for a few units.
        captions: (preset, column) stand below each image: the responses.
        title: of the figure.
    """
    rows, across = images.shape[:2]
    if not rows or not across:
        return style.figure(4.5, 0.3, f"{title}\nno images")
    side = min(LARGE, max(72, SHEET / across - GAP))
    high, wide = _sized(_shape(images[0]), side)
    heads = [_lines(name, wide + GAP, 3) for name in columns]
    lines = max(len(_lines(caption, wide + GAP, 3)) for row in captions for caption in row)
    front, head, step = 130, LINE * max(map(len, heads)) + 4, high + LINE * lines + GAP
    made, ax = _canvas((front + across * (wide + GAP), head + rows * step), title)
    limits = _limits(images)
    for (row, column), _ in np.ndenumerate(np.empty((rows, across))):
        cell = Cell(front + column * (wide + GAP), head + row * step, wide, high)
        _show(ax, images[row, column], cell, limits)
        _write(ax, _lines(captions[row][column], wide + GAP, 3), cell)
        if row == 0:
            _write(ax, heads[column], cell, below=False)
        if column == 0:
            ax.text(front - GAP, cell.top + high / 2, _label(presets[row], front), fontsize=7, ha="right", va="center")
    canvas.footer(made, _remarks(images.reshape(-1, *images.shape[2:]), limits))
    return made


def progress(
    traces: np.ndarray,
    names: Sequence[str],
    title: str,
    reference: np.ndarray | None = None,
    best: np.ndarray | None = None,
    quantity: str = "objective",
) -> Figure:
    """Draw the objective by step: a line per unit, and of more than a few their median and quartiles.

    Args:
        traces: (unit, step), NaN where a unit has no more steps, or failed.
        names: of the units.
        title: of the figure.
        reference: (unit,) each trace is divided by it, e.g. the response to the best natural image; a unit whose
            reference is not positive is left out, and that is said. None: nothing is divided.
        best: (unit,) steps before the image that was kept, -1 for none; ringed where units are named.
        quantity: what the traces are, in words.
    """
    values, label = np.asarray(traces, float), quantity
    if reference is not None:
        given = np.asarray(reference, float)
        values = values / np.where(np.isfinite(given) & (given > 0), given, np.nan)[:, None]
        label = f"{quantity} / best natural image's"
    values = np.where(np.isfinite(values), values, np.nan)
    living = np.flatnonzero(~np.isnan(values).all(1)) if values.size else np.zeros(0, int)
    made = style.figure(6.2, 3.4, title)
    ax = made.subplots()
    steps = np.arange(1, values.shape[1] + 1)
    few, outside = len(living) <= NAMED, 0
    for place, unit in enumerate(living.tolist()):
        colour = style.SERIES[place % len(style.SERIES)] if few else "0.6"
        style_of = "-" if place < len(style.SERIES) or not few else "--"
        look = {"label": style.plain(names[unit], 24), "linewidth": 1.1} if few else {"linewidth": 0.5, "alpha": 0.4}
        ax.plot(steps, values[unit], style_of, color=colour, **look)
        if few and best is not None and best[unit] >= 0:
            at = min(best[unit], len(steps) - 1)
            ax.plot(at + 1, values[unit, at], "o", color=colour, markersize=5, fillstyle="none")
    if not few:
        _quartiles(ax, steps, values[living])
        outside = _keep_in_view(ax, values[living])
    if reference is not None and len(living):
        ax.axhline(1, color="0.3", linewidth=1, linestyle=":", label="best natural image")
    if len(steps) > 100:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain_axes(ax, "step", label)
    if len(living):
        ax.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ringed = few and best is not None and (np.asarray(best)[living] >= 0).any()
    remarks = {"ring: the image that was kept": ringed} | {
        f"without values: {len(values) - len(living)}": len(living) < len(values),
        f"lines that leave the panel: {outside}": outside,
    }
    canvas.footer(made, [words for words, true in remarks.items() if true])
    return made


def _keep_in_view(ax: Axes, values: np.ndarray) -> int:
    """Let a few lines far from all others leave the panel, so that the others are seen; return how many do."""
    top, bottom = np.nanmax(values, 1), np.nanmin(values, 1)
    low, high = np.percentile(bottom, 5), np.percentile(top, 95)
    margin = 0.25 * (high - low) or 1.0
    low, high = max(low - margin, bottom.min()), min(high + margin, top.max())
    if low < high:
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return int(((top > high) | (bottom < low)).sum())


def _quartiles(ax: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw median and quartiles over units, of the steps that a unit reached."""
    reached = ~np.isnan(values).all(0)
    low, median, high = np.nanpercentile(values[:, reached], (25, 50, 75), axis=0)
    ax.fill_between(steps[reached], low, high, color=style.SERIES[0], alpha=0.25, linewidth=0, label="quartiles")
    ax.plot(steps[reached], median, color=style.SERIES[0], linewidth=1.6, label=f"median of {len(values)} units")


def control(
    names: Sequence[str],
    title: str,
    stretch: np.ndarray | None = None,
    one_hot: np.ndarray | None = None,
    natural: np.ndarray | None = None,
) -> Figure:
    """Draw how well units of a second network, the brain, were controlled, beside what the best natural image does.

    Args:
        names: (unit,) of the units that were to be driven.
        title: of the figure; say which two networks, and that the second one judges.
        stretch: (unit,) stretch gain, percent over the best natural image; NaN where there is none.
        one_hot: (unit,) one-hot score of the controlled image, 0 to 1.
        natural: (unit,) one-hot score of the best natural image.
    """
    asked = [kind for kind, given in (("stretch", stretch), ("one-hot", one_hot)) if given is not None]
    if not asked or not len(names):
        return style.figure(4.5, 0.3, f"{title}\nno units")
    widths = [4.4 for _ in asked] if len(names) <= MARKED else [4.6 if kind == "stretch" else 3.4 for kind in asked]
    made = style.figure(sum(widths), 3.3, title)
    panels = made.subplots(1, len(asked), width_ratios=widths, squeeze=False)[0]
    for ax, kind in zip(panels, asked):
        if kind == "stretch":
            _gains(ax, np.asarray(stretch, float), names)
        else:
            _one_hot(ax, np.asarray(one_hot, float), np.asarray(natural, float), names)
    return made


def _gains(ax: Axes, gains: np.ndarray, names: Sequence[str]) -> None:
    """Draw the gains in falling order; zero is the best natural image."""
    known = np.isfinite(gains)
    order = [unit for unit in np.argsort(-np.where(known, gains, -np.inf), kind="stable") if known[unit]]
    places = np.arange(len(order))
    ax.axhline(0, color="0.3", linewidth=1, linestyle=":")
    ax.vlines(places, 0, gains[order], color=style.SERIES[0], linewidth=0.8, alpha=0.5)
    ax.plot(places, gains[order], "o", color=style.SERIES[0], markersize=4 if len(order) <= 60 else 2)
    if 0 < len(order) <= MARKED:
        ax.set_xticks(places, [style.plain(names[unit], 14) for unit in order], rotation=90)
    else:
        ax.set_xticks([])
    _plain_axes(ax, "unit of the brain, best first", "stretch gain over the best natural image (%)")
    lost = f"; {len(gains) - len(order)} without a gain" if len(order) < len(gains) else ""
    median = f", median {style.number(np.median(gains[order]))} %" if order else ""
    ax.set_title(f"stretch: {int((gains[order] > 0).sum())} of {len(order)} beyond it{median}{lost}", fontsize=7)


def _one_hot(ax: Axes, scores: np.ndarray, natural: np.ndarray, names: Sequence[str]) -> None:
    """Draw the score of each target's controlled image beside that of the best natural image, or against it."""
    known = np.flatnonzero(np.isfinite(scores) & np.isfinite(natural))
    scores, natural, lost = scores[known], natural[known], len(scores) - len(known)
    if len(known) <= MARKED:
        order = np.argsort(-scores, kind="stable")
        places = np.arange(len(known))
        ax.vlines(places, natural[order], scores[order], color="0.6", linewidth=0.8)
        ax.plot(places, natural[order], "o", color="0.3", markersize=4, fillstyle="none", label="best natural image")
        ax.plot(places, scores[order], "o", color=style.SERIES[1], markersize=4, label="controlled image")
        ax.set_xticks(places, [style.plain(names[known[place]], 14) for place in order], rotation=90)
        ax.set_ylim(-0.02, 1.02)
        ax.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
        _plain_axes(ax, "unit of the brain, best first", "one-hot score")
    else:
        ax.plot([0, 1], [0, 1], ":", color="0.3", linewidth=1)
        ax.plot(natural, scores, "o", color=style.SERIES[1], markersize=3, alpha=0.6, clip_on=False)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        _plain_axes(ax, "best natural image's one-hot score", "controlled image's one-hot score")
    without = f"; {lost} without a score" if lost else ""
    ax.set_title(f"one-hot: {int((scores > natural).sum())} of {len(known)} better than it{without}", fontsize=7)


def _plain_axes(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _canvas(extent: tuple[float, float], title: str) -> tuple[Figure, Axes]:
    """Return a figure with axes in px of it, from the upper left, with nothing on them."""
    made = style.figure(max(extent[0] / style.DPI + 0.2, 4.5), extent[1] / style.DPI + 0.25, title)
    return made, canvas.empty(made, extent)


def _shape(images: np.ndarray) -> tuple[int, int]:
    """Return the proportions (y, x) of (image, channel, y, x); a signal is drawn half as high as wide."""
    return (1, 2) if images.ndim == 3 else images.shape[-2:]


def _sized(shape: tuple[float, float], side: float) -> tuple[float, float]:
    """Return (high, wide) with these proportions, the longer one `side`."""
    return side * shape[0] / max(shape), side * shape[1] / max(shape)


def _limits(images: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest number, the scale on which signals are drawn."""
    known = np.asarray(images, float)[np.isfinite(images)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _show(ax: Axes, image: np.ndarray, cell: Cell, limits: tuple[float, float]) -> None:
    """Draw (channel, y, x) as a picture or (channel, time) as curves, framed; hatched where there is no number."""
    known = np.isfinite(image).all(0)
    if not known.all():
        ax.add_patch(cell.rectangle(facecolor="0.94", edgecolor="0.75", hatch="////", linewidth=0, zorder=0))
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    if known.any() and image.ndim == 2:
        _curves(ax, image, known, cell, limits)
    elif known.any():
        shown = np.clip(rgb(np.where(known, image, 0).astype(image.dtype)), 0, 1)
        if not known.all():
            shown = np.concatenate([shown, known[..., None]], -1)
        canvas.show(ax, shown, cell)
    word = "failed" if not known.any() else "uniform" if np.ptp(image[:, known], axis=1).max() == 0 else ""
    if word:
        middle, behind = (cell.left + cell.wide / 2, cell.top + cell.high / 2), {"facecolor": "white", "pad": 1}
        size = canvas.letter_size(cell.wide)
        ax.text(*middle, word, fontsize=size, ha="center", va="center", bbox=behind | {"edgecolor": "none"}, zorder=3)


def _curves(ax: Axes, signal: np.ndarray, known: np.ndarray, cell: Cell, limits: tuple[float, float]) -> None:
    """Draw a curve per channel, all on the scale of the sheet, where every channel has a number."""
    low, high = limits
    x = cell.left + cell.wide * (np.arange(signal.shape[1]) + 0.5) / signal.shape[1]
    if not known.all():
        ax.fill_between(x, cell.top, cell.top + cell.high, where=known, color="white", linewidth=0, zorder=0.5)
    for channel, values in enumerate(np.where(known, signal, np.nan)):
        share = (values - low) / ((high - low) or 1.0)
        y = cell.top + cell.high * (0.96 - 0.92 * share)
        ax.plot(x, y, color=style.SERIES[channel % len(style.SERIES)], linewidth=0.8, zorder=1)


def _remarks(images: np.ndarray, limits: tuple[float, float]) -> list[str]:
    """Say what the hatching means, what is left out, and the scale of signals."""
    said = ["hatched: no value"] if not np.isfinite(images).all() else []
    channels = images.shape[1]
    if images.ndim == 3:
        low, high = (style.number(value) for value in limits)
        return [*said, f"every frame is from {low} to {high}; a colour is a channel"]
    if channels not in (1, 3):
        said.append(f"shown: the first {'3 channels' if channels > 3 else 'channel'} of {channels}")
    return said


def _lines(text: str, wide: float, most: int) -> list[str]:
    """Return a stranger's text in at most so many lines of small letters; of no text no line."""
    return wrapped(text, wide, LETTERS, most) if str(text).strip() else []


def _label(name: str, wide: float) -> str:
    """Return the name of a row, in lines that fit in front of it."""
    return "\n".join(_lines(name, (wide - GAP) * LETTERS / 7, 6))


def _write(ax: Axes, lines: Sequence[str], cell: Cell, below: bool = True) -> None:
    """Write small text below a place, or above it."""
    y, side = (cell.top + cell.high + 3, "top") if below else (cell.top - 3, "bottom")
    if lines:
        ax.text(cell.left + cell.wide / 2, y, "\n".join(lines), fontsize=LETTERS, ha="center", va=side)
