"""Class activation maps over their images: the predictions of an image, the images of a class, class means, hits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.methods.cam.columns import Measure
from cnnprobe.plots import signed, style
from cnnprobe.plots.canvas import GAP, LINE, Cell, empty, footer, largest, letter_size, show, wrapped
from cnnprobe.plots.sheet import rgb

CELL = 150
"""Longer side of a picture, px of the figure."""
SHEET = 1150
"""Width of a sheet, px of the figure."""
FRONT = 116
"""Room in front of a row, px of the figure."""
SPEAKS, AGAINST = np.array([0.80, 0.09, 0.09]), np.array([0.09, 0.30, 0.75])
"""Colours of evidence for a class and against it."""
COVER = 0.75
"""Opacity of the colour at the limit."""
OWN = style.SERIES[2]


@dataclass(frozen=True)
class Prediction:
    """One image and the maps of some classes.

    Attributes:
        name: stands in front; lines may be broken.
        picture: (channel, y, x) uint8.
        maps: (k, y, x) signed, of any resolution; NaN where it is not known.
        captions: (k,) stand under the maps.
        own: (k,) bool, the class of the image's label.
        truth: (y, x) bool at the size of the picture, outlined; or None.
    """

    name: str
    picture: np.ndarray
    maps: np.ndarray
    captions: Sequence[str]
    own: np.ndarray
    truth: np.ndarray | None = None


def stretched(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a map (y, x) at another size: bilinear, each value in the middle of its share of the picture."""
    for axis, length in enumerate(size):
        own = values.shape[axis]
        places = np.clip((np.arange(length) + 0.5) * own / length - 0.5, 0, own - 1)
        low = places.astype(int)
        part = (places - low).reshape((-1, 1) if axis == 0 else (1, -1))
        values = np.take(values, low, axis) * (1 - part) + np.take(values, np.minimum(low + 1, own - 1), axis) * part
    return values


def overlay(picture: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Lay a map over its image: grey where nothing is said, red for the class, blue against it.

    The opacity of the colour is 0.75 × |map| / limit, so that the image stays in sight.

    Args:
        picture: (channel, y, x) uint8 or float 0 to 1.
        values: (y, x) signed, of any resolution.
        limit: |map| with the full colour.

    Returns:
        (y, x, 3) float 0 to 1.
    """
    colours = rgb(picture)
    grey = 0.2 + 0.75 * (colours @ np.array([0.299, 0.587, 0.114]))[..., None]
    with np.errstate(invalid="ignore"):
        large = np.nan_to_num(stretched(np.where(np.isfinite(values), values, 0.0), colours.shape[:2]))
    share = np.clip(np.abs(large) / limit, 0, 1)[..., None] * COVER if limit > 0 else np.zeros_like(grey)
    return np.clip(grey * (1 - share) + np.where(large[..., None] > 0, SPEAKS, AGAINST) * share, 0, 1)


def prediction_rows(rows: Sequence[Prediction], title: str) -> Figure:
    """Show each image, and beside it the map of each of its classes; the maps of an image have one limit.

    Args:
        rows: one per image.
        title: of the figure; say kind of map, layer, network and dataset.
    """
    if not rows:
        return style.figure(4.5, 0.3, f"{title}\nno images")
    most, high = max(len(row.maps) for row in rows), CELL + 3.6 * LINE
    extent = FRONT + (most + 1) * (CELL + GAP), len(rows) * high + LINE * 3
    made = style.figure(max(extent[0] / style.DPI + 0.2, 4.5), extent[1] / style.DPI + 0.3, title)
    ax = empty(made, extent)
    for place, row in enumerate(rows):
        top, limit = place * high + GAP, largest(row.maps)
        said = f"{row.name}\nlimit {style.number(limit)}"
        _written(ax, said, (FRONT - 8, top + CELL / 2), FRONT - 10, 6.5, ha="right", va="center", most=6)
        cell = Cell(FRONT, top, CELL, CELL).fitted(row.picture.shape[-2:])
        show(ax, rgb(row.picture), cell)
        _outlined(ax, row.truth, cell)
        for number, (values, caption) in enumerate(zip(row.maps, row.captions)):
            cell = Cell(FRONT + (number + 1) * (CELL + GAP), top, CELL, CELL).fitted(row.picture.shape[-2:])
            _map(ax, row.picture, values, cell, limit)
            _outlined(ax, row.truth, cell)
            if len(row.own) and row.own[number]:
                ax.add_patch(cell.rectangle(fill=False, edgecolor=OWN, linewidth=1.6, zorder=5))
            below = cell.left + cell.wide / 2, top + CELL + 2
            _written(ax, caption, below, CELL + GAP, 6, ha="center", va="top")
    _scale(ax, FRONT, extent[1] - 2 * LINE, "-limit", "limit")
    marks = [
        "colours: red is evidence for the class, blue against it; full colour: limit, the largest |value| of the "
        "image's maps, written in front of it",
        "green frame: the image's own class" if any(np.any(row.own) for row in rows) else "",
        *_remarks(rows, [row.maps for row in rows]),
    ]
    footer(made, marks)
    return made


def guided_rows(rows: Sequence[Prediction], maps: Sequence[np.ndarray], title: str) -> Figure:
    """Show each image and beside it the guided map of each of its classes, in colour.

    Args:
        rows: as of `prediction_rows`.
        maps: one per row, (k, channel, y, x) signed.
        title: of the figure.
    """
    if not rows:
        return style.figure(4.5, 0.3, f"{title}\nno images")
    most, high = max(len(one) for one in maps), CELL + 3.6 * LINE
    extent = FRONT + (most + 1) * (CELL + GAP), len(rows) * high + LINE
    made = style.figure(max(extent[0] / style.DPI + 0.2, 4.5), extent[1] / style.DPI + 0.3, title)
    ax = empty(made, extent)
    for place, (row, values) in enumerate(zip(rows, maps)):
        top = place * high + GAP
        limit = signed.limit_of([values], "clipped")
        said = f"{row.name}\nlimit {style.number(limit)}"
        _written(ax, said, (FRONT - 8, top + CELL / 2), FRONT - 10, 6.5, ha="right", va="center", most=6)
        show(ax, rgb(row.picture), Cell(FRONT, top, CELL, CELL).fitted(row.picture.shape[-2:]))
        for number, (one, caption) in enumerate(zip(values, row.captions)):
            cell = Cell(FRONT + (number + 1) * (CELL + GAP), top, CELL, CELL).fitted(one.shape[-2:])
            signed.draw(ax, one, cell, limit, "clipped", "no map")
            below = cell.left + cell.wide / 2, top + CELL + 2
            _written(ax, caption, below, CELL + GAP, 6, ha="center", va="top")
    channels = maps[0].shape[1] if len(maps[0]) else 3
    footer(made, [signed.words("clipped", channels, "each image's own, written in front:"), *signed.hatching(maps)])
    return made


def class_sheet(
    pictures: np.ndarray,
    maps: np.ndarray,
    captions: Sequence[str],
    wrong: np.ndarray,
    title: str,
    truths: np.ndarray | None = None,
) -> Figure:
    """Show many images with the map of one class, in the order given; all maps have one limit, which 1 % exceed.

    Args:
        pictures: (image, channel, y, x) uint8.
        maps: (image, y, x) signed, of any resolution.
        captions: one per image.
        wrong: (image,) bool, framed.
        title: of the figure; say kind of map, class, layer, network, dataset and order.
        truths: (image, y, x) bool at the size of the pictures, outlined; or None.
    """
    if not len(pictures):
        return style.figure(4.5, 0.3, f"{title}\nno images")
    columns = min(len(pictures), 8)
    side = min(200, SHEET // columns - GAP)
    high = side + 3 * LINE
    extent = max(columns * (side + GAP), 620), math.ceil(len(pictures) / columns) * high + LINE * 4
    made = style.figure(extent[0] / style.DPI + 0.1, extent[1] / style.DPI + 0.3, title)
    ax = empty(made, extent)
    limit = signed.limit_of([maps], "clipped")
    for place, (picture, values, caption) in enumerate(zip(pictures, maps, captions)):
        row, column = divmod(place, columns)
        cell = Cell(column * (side + GAP) + GAP / 2, row * high + GAP, side, side).fitted(picture.shape[-2:])
        _map(ax, picture, values, cell, limit)
        _outlined(ax, None if truths is None else truths[place], cell)
        if wrong[place]:
            ax.add_patch(cell.rectangle(fill=False, edgecolor=style.ACCENT, linewidth=2, zorder=5))
        below = cell.left + cell.wide / 2, row * high + GAP + side + 4
        colour = style.ACCENT if wrong[place] else "black"
        _written(ax, caption, below, side + GAP, letter_size(side), ha="center", va="top", color=colour)
    said = style.number(limit)
    _scale(ax, GAP, extent[1] - 2 * LINE, f"-{said}", said)
    words = (
        "colours: red is evidence for the class, blue against it; full colour: 99th percentile of |value| of all "
        "these maps"
    )
    outlined = "thin line: the object" if truths is not None and truths.any() else ""
    footer(made, [words, outlined, *signed.hatching([maps])])
    return made


def mean_figure(maps: np.ndarray, names: Sequence[str], heads: Sequence[str], title: str) -> Figure:
    """Show several mean maps of each class; each has its own limit, written below.

    Args:
        maps: (class, kind, y, x) signed; NaN where it is not known.
        names: one per class.
        heads: one per kind.
        title: of the figure.
    """
    if not len(maps):
        return style.figure(4.5, 0.3, f"{title}\nno classes")
    high = CELL + 2 * LINE
    extent = FRONT + len(heads) * (CELL + GAP), len(maps) * high + 2.5 * LINE
    made = style.figure(extent[0] / style.DPI + 0.2, extent[1] / style.DPI + 0.3, title)
    ax = empty(made, extent)
    for column, head in enumerate(heads):
        where = FRONT + column * (CELL + GAP) + CELL / 2, 2 * LINE
        _written(ax, head, where, CELL, 7, ha="center", va="bottom")
    for row, (kinds, name) in enumerate(zip(maps, names)):
        top = row * high + 2.3 * LINE
        _written(ax, name, (FRONT - 8, top + CELL / 2), FRONT - 10, 6.5, ha="right", va="center", most=5)
        for column, values in enumerate(kinds):
            cell = Cell(FRONT + column * (CELL + GAP), top, CELL, CELL).fitted(values.shape)
            limit = largest(values)
            _backed(ax, values, cell)
            if np.isfinite(values).any():
                show(ax, np.where(np.isfinite(values), values, np.nan), cell, limit or 1.0)
            said = f"limit {style.number(limit)}" if np.isfinite(values).any() else "not known"
            below = cell.left + cell.wide / 2, cell.top + cell.high + 3
            _written(ax, said, below, CELL, 6, ha="center", va="top")
    words = "colours: -limit blue, 0 white, limit red; limit: the largest |value| of each map"
    footer(made, [words, *signed.hatching([maps])])
    return made


def localisation_points(measures: dict[Measure, np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Show how maps of each class point, overlap and lie on the object, with 95 % intervals, and what chance gives.

    Args:
        measures: by name (class, 4): mean, lower end, upper end, chance; NaN where it is not known.
        names: one per class.
        title: of the figure.
    """
    if not len(names):
        return style.figure(4.5, 0.3, f"{title}\nno classes")
    heads = {"pointing": "pointing game: share of hits", "iou": "20 % box: intersection / union",
             "energy": "share of positive map on the object"}  # fmt: skip
    made = style.figure(7.5, 0.9 + 0.24 * len(names), title)
    axes = made.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for ax, (name, values) in zip(axes, measures.items()):
        ax.hlines(places, values[:, 1], values[:, 2], color=style.SERIES[0], linewidth=1.5)
        ax.plot(values[:, 0], places, "o", color=style.SERIES[0], markersize=4, label="mean, 95 % interval")
        ax.plot(values[:, 3], places, "|", color=style.ACCENT, markersize=9, markeredgewidth=1.8, label="chance")
        ax.set(xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
        ax.set_xlabel(heads.get(name, name), fontsize=7)
        ax.tick_params(labelsize=6)
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, style.apart(names, 28), fontsize=6.5)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return made


# ---- parts -----------------------------------------------------------------------------------------------------------


def _map(ax: Axes, picture: np.ndarray, values: np.ndarray, cell: Cell, limit: float) -> None:
    """Draw a map over its image; hatched where nothing is known, a word where all values are equal."""
    known = np.isfinite(values)
    if known.any():
        show(ax, overlay(picture, values, limit), cell)
    if not known.all():
        _backed(ax, values, cell)
    said = "no map" if not known.any() else f"all {style.number(values.flat[0])}" if np.ptp(values[known]) == 0 else ""
    if said:
        middle = cell.left + cell.wide / 2, cell.top + cell.high / 2
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*middle, said, fontsize=letter_size(cell.wide), ha="center", va="center", bbox=behind, zorder=4)


def _backed(ax: Axes, values: np.ndarray, cell: Cell) -> None:
    """Hatch what is not known of a map, px by px."""
    unknown = ~np.isfinite(values)
    look = {"facecolor": "0.94", "edgecolor": "0.6", "hatch": "////", "linewidth": 0, "zorder": 2}
    if unknown.all():
        ax.add_patch(cell.rectangle(**look))
        return
    for y, x in np.argwhere(unknown):
        ax.add_patch(cell.part((y, x, y + 1, x + 1), values.shape).rectangle(**look))


def _outlined(ax: Axes, truth: np.ndarray | None, cell: Cell) -> None:
    """Draw a thin line around the object."""
    if truth is None or not truth.any() or truth.all():
        return
    high, wide = truth.shape
    x = cell.left + (np.arange(wide) + 0.5) * cell.wide / wide
    y = cell.top + (np.arange(high) + 0.5) * cell.high / high
    if min(truth.shape) > 1:
        ax.contour(x, y, truth.astype(float), [0.5], colors=["black"], linewidths=0.5, zorder=3)
        ax.set_autoscale_on(False)


def _scale(ax: Axes, left: float, top: float, low: str, high: str) -> None:
    """Draw what the colours mean over a grey image, from -limit to limit."""
    ramp = np.repeat(np.linspace(-1, 1, 121)[None], 2, 0)
    shown = overlay(np.full((1, 2, 121), 0.5), ramp, 1.0)
    cell = Cell(left + 50, top, 200, LINE * 0.8)
    show(ax, shown, cell)
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.5", linewidth=0.5, zorder=3))
    middle = top + cell.high / 2
    ax.text(cell.left - 5, middle, low, fontsize=6, ha="right", va="center")
    ax.text(cell.left + cell.wide + 5, middle, high, fontsize=6, ha="left", va="center")
    ax.text(cell.left + cell.wide / 2, top + cell.high + 3, "0", fontsize=6, ha="center", va="top")


def _remarks(rows: Sequence[Prediction], maps: Sequence[np.ndarray]) -> list[str]:
    outlined = any(row.truth is not None and row.truth.any() for row in rows)
    return ["thin line: the object" if outlined else "", *signed.hatching(maps)]


def _written(
    ax: Axes, text: str, place: tuple[float, float], wide: float, size: float, most: int = 3, **look: object
) -> None:
    ax.text(*place, "\n".join(wrapped(text, wide, size, most)), fontsize=size, **look)
