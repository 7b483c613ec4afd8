"""Maps of receptive fields: a sheet of a layer's units, and from an image to the field, unit by unit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
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
    largest,
    letter_size,
    scale_bar,
    show,
    smaller,
    wrapped,
)
from cnnprobe.plots.sheet import rgb

SHEET = 1000
"""Width that a sheet is given, px of the figure; hundreds of units may need more."""
CELL = 108
"""Longer side of a picture or map in a row, px of the figure."""
BAR = 60
"""Width of a row's colour bar with its numbers, px of the figure."""
OCCLUDER = style.SERIES[3]
"""Of the line around what differs in the occluded picture."""
MAPS = 5
"""Discrepancy maps in a row at most."""
FAINT = 0.3
"""How much of its image is seen in a discrepancy map: what black takes away from the colours."""


@dataclass(frozen=True)
class UnitRow:
    """What is shown of one unit.

    Attributes:
        name: stands in front; lines may be broken.
        pictures: (k, channel, y, x) uint8, the unit's images, best first.
        outline: (4,) top, left, bottom, right edges of the theoretical field in px of the best picture, or NaN.
        occluded: (channel, y, x) uint8, the best image under one occluder.
        maps: (k, y, x) discrepancy by place of the occluder, NaN for none; the first 5 are shown.
        places: (4,) edges of the maps in px of the picture: an occluder stands for the px about its middle.
        captions: (k,) stand under the maps.
        field: (y, x) re-centred mean, NaN where too few images cover it.
        suppression: (y, x) mean of max(-d, 0), positive.
        box: (y, x) px of the theoretical field.
    """

    name: str
    pictures: np.ndarray
    outline: np.ndarray
    occluded: np.ndarray
    maps: np.ndarray
    places: Sequence[float]
    captions: Sequence[str]
    field: np.ndarray
    suppression: np.ndarray
    box: tuple[float, float]


def field_sheet(
    fields: np.ndarray,
    names: Sequence[str],
    title: str,
    box: tuple[float, float] | None,
    side: int = 0,
    *,
    normalised: bool = False,
    quantity: str = "discrepancy",
    unit: str = "activation",
) -> Figure:
    """Show the field of every unit of a layer on one colour scale, symmetric about zero, which is white.

    Args:
        fields: (unit, y, x), NaN where nothing is known (hatched); a unit without any number is dead.
        names: what to write above each; lines may be broken.
        title: of the figure; say layer, network, dataset and reading.
        box: (y, x) px of the theoretical field, drawn thin about the middle of each field; or None.
        side: px of the figure for the longer side of a field; 0 chooses by the number of units.
        normalised: divide each field by its own largest |value|, and say so; weak units are seen beside strong ones.
        quantity: what the fields are.
        unit: of the fields.
    """
    units, shape = len(fields), fields.shape[1:]
    if not units:
        return style.figure(4.5, 0.3, f"{title}\nno units")
    columns = units if units <= 4 else min(units, math.ceil(math.sqrt(units * shape[0] / shape[1])))
    side = side or min(280, max(40, SHEET // columns - GAP) * max(shape) / shape[1])
    wide, high = (side * length / max(shape) for length in (shape[1], shape[0]))
    size = letter_size(side)
    lines = [wrapped(name, wide + GAP, size) for name in names]
    head = size / 72 * style.DPI * 1.25 * max(map(len, lines)) + 3
    rows = math.ceil(units / columns)
    extent = columns * (wide + GAP), rows * (high + head + GAP) + 2 * LINE
    peaks = [largest(field) for field in fields]
    limit = 1.0 if normalised and max(peaks) else max(peaks)
    if normalised:
        title += f"\neach unit's {quantity} is divided by its own largest |{quantity}|"
    made = style.figure(max(extent[0] / style.DPI + 0.9, 4.5), extent[1] / style.DPI + 0.3, title)
    made.set_layout_engine("compressed")
    ax = empty(made, extent)
    boxes = []
    for place, (field, peak) in enumerate(zip(fields, peaks)):
        row, column = divmod(place, columns)
        cell = Cell(column * (wide + GAP) + GAP / 2, row * (high + head + GAP) + head, wide, high)
        _map(ax, field / (peak or 1.0) if normalised else field, cell, limit, "dead")
        ax.text(cell.left + wide / 2, cell.top - 3, "\n".join(lines[place]), fontsize=size, ha="center", va="bottom")
        if box is not None:
            boxes.append(cell.line(about_middle(box, shape), shape))
    ax.add_collection(LineCollection(boxes, colors="0.2", linewidths=0.6 if side > 60 else 0.4))
    scale_bar(ax, GAP / 2, extent[1] - 1.5 * LINE, wide / shape[1], wide)
    label = f"{quantity} / own largest" if normalised else f"{quantity} ({unit})"
    _colour_bar(made, ax, limit, label)
    footer(made, [box_words(box, shape), *_remarks(fields)])
    return made


def unit_rows(rows: Sequence[UnitRow], title: str) -> Figure:
    """Show how the field of each unit comes about: image, occluded image, discrepancy maps, their mean, suppression.

    The maps of a row share one colour scale, field and suppression another; both are symmetric about zero, which
    is white, and stand beside them as a bar. The suppression is drawn with its sign in the discrepancy: negative.

    Args:
        rows: one per unit.
        title: of the figure.
    """
    if not rows:
        return style.figure(4.5, 0.3, f"{title}\nno units")
    maps = max(1, min(MAPS, max(len(row.maps) for row in rows)))
    front, step, height = 120, CELL + GAP, CELL + 2 * LINE
    bars = front + (2 + maps) * step, front + (4 + maps) * step + BAR
    extent = bars[1] + BAR, len(rows) * height + 2 * LINE
    made = style.figure(extent[0] / style.DPI + 0.2, extent[1] / style.DPI + 0.45, title)
    ax = empty(made, extent)
    heads = (
        "image",
        "occluded",
        "discrepancy, best image first" if maps > 2 else "discrepancy",
        "field\n(mean)",
        "suppression\n(d < 0)",
    )
    lefts = [front, front + step, front + 2 * step, bars[0] + BAR, bars[0] + BAR + step]
    for words, left, cells in zip(heads, lefts, (1, 1, maps, 1, 1)):
        ax.text(left + (cells * step - GAP) / 2, 2 * LINE - 4, words, fontsize=7, ha="center", va="bottom")
    for place, row in enumerate(rows):
        top = 2 * LINE + place * height
        name = "\n".join(wrapped(row.name, front, 7.0, 5))
        ax.text(front - 8, top + CELL / 2, name, fontsize=7, ha="right", va="center")
        _row(ax, row, maps, [Cell(left, top, CELL, CELL) for left in lefts], bars)
    values = np.concatenate([one.ravel() for row in rows for one in (row.maps[:maps], row.field)])
    signs = "red: the response falls under the occluder, blue: it rises; discrepancies in units of activation"
    grey = "grey behind the discrepancy: its image"
    footer(made, ["boxes: theoretical field, and what is occluded", signs, grey, *_remarks(values)])
    return made


def _row(ax: Axes, row: UnitRow, maps: int, cells: list[Cell], bars: tuple[float, float]) -> None:
    """Draw one unit: pictures, maps with their bar, field and suppression with theirs."""
    image, occluded, first, field, suppression = cells
    best, shape = row.pictures[0], row.occluded.shape[-2:]
    for picture, cell in ((best, image), (row.occluded, occluded)):
        show(ax, rgb(picture), cell.fitted(shape))
    if np.isfinite(row.outline).all():
        ax.plot(*image.fitted(shape).line(list(row.outline), shape).T, color=style.ACCENT, linewidth=1.0)
    changed = np.argwhere((best != row.occluded).any(0))
    if len(changed):
        edges = [*changed.min(0), *(changed.max(0) + 1)]
        ax.plot(*occluded.fitted(shape).line(edges, shape).T, color=OCCLUDER, linewidth=0.8)
    limit = largest(row.maps[:maps])
    for place, (values, picture, caption) in enumerate(zip(row.maps[:maps], row.pictures, row.captions)):
        cell = Cell(first.left + place * (CELL + GAP), first.top, CELL, CELL).fitted(shape)
        _map(ax, values, cell, limit, "no map", cell.part(row.places, shape))
        if np.isfinite(values).any():
            dark = 1 - rgb(picture).mean(-1)
            show(ax, np.stack([np.zeros_like(dark)] * 3 + [FAINT * dark], -1), cell)
        words = "\n".join(wrapped(caption, CELL + GAP, 6.0))
        ax.text(cell.left + cell.wide / 2, cell.top + cell.high + 3, words, fontsize=6, ha="center", va="top")
    _bar(ax, Cell(bars[0], first.top, 8, CELL), limit)
    limit = max(largest(row.field), largest(row.suppression))
    for values, cell in ((row.field, field), (-row.suppression, suppression)):
        inside = cell.fitted(values.shape)
        _map(ax, values, inside, limit, "dead")
        ax.plot(*inside.line(about_middle(row.box, values.shape), values.shape).T, color="0.2", linewidth=0.6)
    inside = field.fitted(row.field.shape)
    scale_bar(ax, inside.left, field.top + CELL + 7, inside.wide / row.field.shape[1], inside.wide)
    _bar(ax, Cell(bars[1], first.top, 8, CELL), limit)


def _map(ax: Axes, values: np.ndarray, cell: Cell, limit: float, nothing: str, place: Cell | None = None) -> None:
    """Draw a signed map in a frame; hatched where there is no number, with a word where there is none at all.

    Args:
        place: of the map, where it does not fill the frame `cell`; what leaves the frame is not shown.
    """
    known = np.isfinite(values)
    values = np.where(known, values, np.nan).astype(np.float64)  # so that differences of float32 do not overflow
    if not known.all():
        ax.add_patch(cell.rectangle(facecolor="0.94", edgecolor="0.8", hatch="////", linewidth=0, zorder=0))
    frame = ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    if known.any():
        shown = show(ax, smaller(values, 2 * max(cell.wide, cell.high)), place or cell, limit or 1.0)
        shown.set_clip_path(frame)
    words = "" if known.any() else nothing
    if known.any() and np.ptp(values[known]) == 0:
        words = f"all {style.number(values[known][0])}"
    if words:
        middle = cell.left + cell.wide / 2, cell.top + cell.high / 2
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*middle, words, fontsize=letter_size(cell.wide), ha="center", va="center", bbox=behind, zorder=3)


def _colour_bar(made: Figure, ax: Axes, limit: float, label: str) -> None:
    """Put the one colour scale of a sheet beside it."""
    scale = ScalarMappable(Normalize(-(limit or 1.0), limit or 1.0), style.DIVERGING)
    high = made.get_figheight()
    bar = made.colorbar(scale, ax=ax, shrink=min(1.0, 2.4 / high), aspect=18, pad=0.02)
    bar.set_ticks(
        [-limit, 0, limit] if limit else [0], labels=[style.number(x) for x in ([-limit, 0, limit] if limit else [0])]
    )
    bar.ax.tick_params(labelsize=7)
    bar.set_label(label, fontsize=7)


def _bar(ax: Axes, cell: Cell, limit: float) -> None:
    """Draw the colour scale of a row in its place, with its numbers."""
    show(ax, np.linspace(1, -1, 101)[:, None], cell)
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    for place, value in ((0, limit), (0.5, 0.0), (1, -limit)):
        if place == 0.5 or limit:
            y = cell.top + 6 + place * (cell.high - 12)
            ax.text(cell.left + cell.wide + 3, y, style.number(value), fontsize=6, ha="left", va="center")


def _remarks(values: np.ndarray) -> list[str]:
    """Say what the hatching means, if there is any."""
    infinite = int(np.isinf(values).sum())
    said = ["hatched: no value (of a field: from fewer than half of the images)"] if np.isnan(values).any() else []
    return [*said, f"{infinite} infinite values, hatched"] if infinite else said
