"""Gradient maps: from a unit's images to its mean map, and the mean maps of all units of a layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from cnnprobe.plots import style
from cnnprobe.plots.canvas import (
    GAP,
    LINE,
    Cell,
    about_middle,
    box_words,
    empty,
    footer,
    letter_size,
    scale_bar,
    show,
    wrapped,
)
from cnnprobe.plots.sheet import rgb
from cnnprobe.plots.signed import LIMITED, Display, draw, hatching, limit_of, words

SHEET = 1100
"""Width that a sheet is given, px of the figure; hundreds of units may need more."""
CELL = 108
"""Longer side of a picture or map in a row, px of the figure."""
MEAN = 2 * CELL + GAP
"""Longer side of the mean map in a row, px of the figure."""
MAPS = 6
"""Images of a unit in a row at most."""
BEST, WORST = style.SERIES[2], style.ACCENT


@dataclass(frozen=True)
class GradientRow:
    """What is shown of one unit.

    Attributes:
        name: stands in front; lines may be broken, e.g. "5\\nresponse 3.2\\nconsistency 0.41".
        pictures: (k, channel, y, x) uint8, the unit's images or what is cut out of them, best first; a picture of
            nothing is all 255. The first 6 are shown.
        outlines: (k, 4) top, left, bottom, right edges of the theoretical field in px of each picture, NaN for none.
        maps: (k, channel, y, x) signed, of the same part of the image as the pictures; NaN outside the image.
        captions: (k,) stand under the maps.
        mean: (channel, y, x) mean map, NaN where too few images cover it.
        coverage: (y, x) how many maps stand behind each px of the mean.
        box: (y, x) px of the theoretical field, about the middle of the mean map; or None.
    """

    name: str
    pictures: np.ndarray
    outlines: np.ndarray
    maps: np.ndarray
    captions: Sequence[str]
    mean: np.ndarray
    coverage: np.ndarray
    box: tuple[float, float] | None


def gradient_rows(
    rows: Sequence[GradientRow], title: str, *, shared: bool = False, display: Display = "signed"
) -> Figure:
    """Show how the mean map of each unit comes about: its images, the map of each, their mean in colour and in grey.

    The maps of a unit's images have one limit, its mean has another; both are written beside them.

    Args:
        rows: one per unit.
        title: of the figure; say layer, network, dataset and rule.
        shared: one limit for the maps of all units and one for all means; otherwise each unit has its own two.
        display: of maps and mean, see `plots.signed.picture`.
    """
    if not rows:
        return style.figure(4.5, 0.3, f"{title}\nno units")
    maps = max(1, min(MAPS, max(len(row.maps) for row in rows)))
    front, height = 120, MEAN + 4 * LINE
    lefts = (front, front + maps * (CELL + GAP) + 2 * GAP, front + maps * (CELL + GAP) + 4 * GAP + MEAN)
    extent = lefts[2] + MEAN, len(rows) * height + LINE
    made = style.figure(extent[0] / style.DPI + 0.2, extent[1] / style.DPI + 0.45, title)
    ax = empty(made, extent)
    heads = ("strongest images, and the map of each", "mean map", "mean map, without signs")
    for head, left, wide in zip(heads, lefts, (maps * (CELL + GAP), MEAN, MEAN)):
        ax.text(left + wide / 2, LINE, "\n".join(wrapped(head, wide, 7)), fontsize=7, ha="center", va="bottom")
    seen = [[row.maps[:maps] for row in rows], [row.mean for row in rows]]
    limits = [[limit_of([values], display) for values in kind] for kind in seen]
    if shared:
        limits = [[limit_of(kind, display)] * len(rows) for kind in seen]
    for place, row in enumerate(rows):
        top = 1.5 * LINE + place * height
        _unit(ax, row, maps, top, lefts, (limits[0][place], limits[1][place]), display)
    limit = "written beside the maps, " + ("all units'" if shared else "each unit's own")
    channels = rows[0].mean.shape[0]
    remarks = dict.fromkeys((words(display, channels, limit), words("grey", channels)))
    boxed = any(row.box is not None or np.isfinite(row.outlines).any() for row in rows)
    footer(made, [*remarks, "boxes: theoretical field" if boxed else "", *hatching([*seen[0], *seen[1]])])
    return made


def _unit(
    ax: Axes, row: GradientRow, maps: int, top: float, lefts: tuple, limits: tuple[float, float], display: Display
) -> None:
    """Draw one unit: its images, their maps below, the mean and its grey display at the right."""
    front, left, grey = lefts
    ax.text(front - 8, top + CELL / 2, _fitting(row.name, front, 7), fontsize=7, ha="right", va="center")
    for place, (image, edges) in enumerate(zip(row.pictures[:maps], row.outlines)):
        cell = Cell(front + place * (CELL + GAP), top, CELL, CELL).fitted(image.shape[-2:])
        show(ax, rgb(image), cell)
        if np.isfinite(edges).all():
            ax.plot(*cell.line(edges, image.shape[-2:]).T, color=style.ACCENT, linewidth=1.0)
    second = top + CELL + GAP
    for place, (values, caption) in enumerate(zip(row.maps[:maps], row.captions)):
        cell = Cell(front + place * (CELL + GAP), second, CELL, CELL).fitted(values.shape[-2:])
        draw(ax, values, cell, limits[0], display, "no map")
        below = cell.left + cell.wide / 2, cell.top + cell.high + 3
        ax.text(*below, _fitting(caption, CELL + GAP, 6), fontsize=6, ha="center", va="top")
    if display in LIMITED and len(row.maps):
        said = f"limit\n{style.number(limits[0])}"
        ax.text(front - 8, second + CELL / 2, said, fontsize=6, ha="right", va="center", color="0.3")
    shape = row.mean.shape[-2:]
    for start, look in ((left, display), (grey, "grey")):
        cell = Cell(start, top, MEAN, MEAN).fitted(shape)
        draw(ax, row.mean, cell, limits[1], look, "dead")
        if row.box is not None:
            ax.plot(*cell.line(about_middle(row.box, shape), shape).T, color=style.ACCENT, linewidth=0.7)
    cell = Cell(left, top, MEAN, MEAN).fitted(shape)
    under = top + MEAN + GAP
    scale_bar(ax, cell.left, under, cell.wide / shape[1], cell.wide)
    limit = [f"limit {style.number(limits[1])}"] if display in LIMITED else []
    remark = "; ".join([*limit, _covered(row.coverage)])
    ax.text(cell.left, under + LINE / 2, remark, fontsize=6, ha="left", va="top")


def _covered(coverage: np.ndarray) -> str:
    """Say how many maps stand behind the px of a mean."""
    counts = np.asarray(coverage, float)
    counts = counts[np.isfinite(counts)]
    if not counts.size:
        return ""
    low, high = f"{counts.min():.0f}", f"{counts.max():.0f}"
    return f"mean of {high} maps" if low == high else f"mean of {low} to {high} maps"


def mean_sheet(
    maps: np.ndarray,
    names: Sequence[str],
    title: str,
    box: tuple[float, float] | None = None,
    *,
    captions: Sequence[str] = (),
    best: Sequence[int] = (),
    worst: Sequence[int] = (),
    shared: bool = False,
    display: Display = "signed",
    side: int = 0,
) -> Figure:
    """Show the mean map of every unit of a layer.

    Args:
        maps: (unit, channel, y, x) signed; NaN where too few images cover it (hatched), all NaN for a dead unit.
        names: one per unit, above each map.
        title: of the figure; say layer, network, dataset and rule.
        box: (y, x) px of the theoretical field, drawn about the middle of each map; or None.
        captions: one per unit, beside its name, e.g. its consistency; or none at all.
        best: places along the first axis to frame as best.
        worst: places to frame as worst.
        shared: one limit for all units, so that weak ones look weak; otherwise each unit has its own.
        display: see `plots.signed.picture`.
        side: px of the figure for the longer side of a map; 0 chooses by the number of units.
    """
    units, channels = maps.shape[:2]
    shape = maps.shape[2:]
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno units")
    columns = units if units <= 4 else min(units, math.ceil(math.sqrt(1.3 * units * shape[0] / shape[1])))
    side = side or min(280, max(40, SHEET // columns - GAP) * max(shape) / shape[1])
    wide, high = (side * length / max(shape) for length in (shape[1], shape[0]))
    size = letter_size(side)
    heads = [f"{name}\n{caption}" for name, caption in zip(names, captions)] if len(captions) else names
    lines = [wrapped(head, wide + GAP, size) for head in heads]
    head = size / 72 * style.DPI * 1.25 * max(map(len, lines)) + 3
    extent = columns * (wide + GAP), math.ceil(units / columns) * (high + head + GAP) + 2 * LINE
    made = style.figure(max(extent[0] / style.DPI + 0.1, 4.5), extent[1] / style.DPI + 0.3, title)
    ax = empty(made, extent)
    limit = limit_of([maps], display) if shared else None
    boxes = []
    for place, values in enumerate(maps):
        row, column = divmod(place, columns)
        cell = Cell(column * (wide + GAP) + GAP / 2, row * (high + head + GAP) + head, wide, high)
        draw(ax, values, cell, limit, display, "dead")
        ax.text(cell.left + wide / 2, cell.top - 3, "\n".join(lines[place]), fontsize=size, ha="center", va="bottom")
        if box is not None:
            boxes.append(cell.line(about_middle(box, shape), shape))
        for places, look in ((best, {"edgecolor": BEST}), (worst, {"edgecolor": WORST, "linestyle": (0, (3, 1.5))})):
            if place in places:
                ax.add_patch(cell.rectangle(fill=False, linewidth=1.8, zorder=4, **look))
    ax.add_collection(LineCollection(boxes, colors=style.ACCENT, linewidths=0.6 if side > 60 else 0.4, zorder=3))
    scale_bar(ax, GAP / 2, extent[1] - 1.5 * LINE, wide / shape[1], wide)
    whose = f"{style.number(limit)}, all units'" if limit is not None else "each unit's own"
    frames = ["best (green)"] * bool(len(best)) + ["worst (red, broken)"] * bool(len(worst))
    marks = f"frames: {', '.join(frames)}" if frames else ""
    footer(made, [words(display, channels, whose), box_words(box, shape), marks, *hatching([maps])])
    return made


def _fitting(text: str, wide: float, size: float) -> str:
    return "\n".join(wrapped(text, wide, size, 5 if size > 6 else 2))
