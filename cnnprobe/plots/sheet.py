"""Sheets of small images: what a dataset looks like, and the images each unit responds to most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from cnnprobe.plots import style
from cnnprobe.plots.canvas import Cell, empty, show, wrapped

GAP = 2
"""White px between two images of a unit."""
MARGIN = 10
"""White px between two pictures with captions."""
LEAST = 94
"""Px of the figure that a picture with its caption takes at least."""
EDGE = 0.5
"""Of an outline, both sides together, points."""
LINE_SPACING = 1.2
"""Of the lines of a caption, in heights of a letter."""


@dataclass(frozen=True)
class Outlined:
    """Maps of classes, drawn over images as lines between pixels of different classes.

    Args:
        maps: (image, y, x) of the images' size, any integers.
        colour, around: of the line, and of the thin edges by which it is seen on any image.
        width: of the line without them, points; a thinner one leaves that below it to be seen.
        words: what it is, for the legend.
    """

    maps: np.ndarray
    colour: str
    around: str
    width: float
    words: str


def rgb(images: np.ndarray) -> np.ndarray:
    """Turn (…, channel, y, x) uint8 or float 0 to 1 into (…, y, x, 3) float 0 to 1; grey is repeated, more than 3 cut.

    Example:
        (9, 1, 64, 64) becomes (9, 64, 64, 3).
    """
    values = images.astype(np.float32) / 255 if images.dtype == np.uint8 else np.asarray(images, np.float32)
    values = np.moveaxis(values, -3, -1)
    return np.repeat(values[..., :1], 3, -1) if values.shape[-1] < 3 else values[..., :3]


def contact_sheet(
    images: np.ndarray,
    captions: Sequence[str],
    wrong: np.ndarray | Sequence[bool] = (),
    title: str = "",
    columns: int = 8,
    outlined: Sequence[Outlined] = (),
) -> Figure:
    """Show images in reading order with a caption above each.

    Args:
        images: (image, channel, y, x), uint8 or float 0 to 1.
        captions: one per image; lines may be broken.
        wrong: images to frame, e.g. those that were misclassified.
        title: of the figure.
        columns: images in a row.
        outlined: maps over them, the first at the bottom.
    """
    columns = max(1, min(columns, len(images)))
    side = 150 if outlined else 94
    made, ax, cells, lines = _captioned(images.shape[-2:], captions, columns, side, 6.0, title)
    for place, (image, cell) in enumerate(zip(images, cells)):
        framed = bool(len(wrong)) and bool(wrong[place])
        if framed:
            ax.add_patch(cell.rectangle(fill=False, edgecolor=style.ACCENT, linewidth=2, zorder=2))
        _picture(ax, image, cell, lines[place], 6.0, style.ACCENT if framed else "black")
        for one in outlined:
            _outline(ax, one, borders(one.maps[place]), cell)
    if outlined:
        ax.legend(handles=[_legend(one) for one in outlined], fontsize=7, frameon=False, ncols=len(outlined),
                  loc="upper center", bbox_to_anchor=(0.5, 0.0))  # fmt: skip
    return made


def borders(classes: np.ndarray) -> np.ndarray:
    """Return the edges between pixels of different classes: (segment, 2 ends, yx), px of the map from its corner.

    Args:
        classes: (y, x), any integers; what lies beyond the map has no edge.
    """
    y, x = np.nonzero(classes[1:] != classes[:-1])  # between rows
    across = np.stack([np.stack([y + 1, x], 1), np.stack([y + 1, x + 1], 1)], 1)
    y, x = np.nonzero(classes[:, 1:] != classes[:, :-1])
    down = np.stack([np.stack([y, x + 1], 1), np.stack([y + 1, x + 1], 1)], 1)
    return np.concatenate([across, down])


def _outline(ax: Axes, one: Outlined, edges: np.ndarray, cell: Cell) -> None:
    """Draw edges in px of a map over its picture."""
    scale = np.array([cell.high, cell.wide]) / one.maps.shape[1:]
    lines = (edges * scale + (cell.top, cell.left))[..., ::-1]
    for colour, width in ((one.around, one.width + EDGE), (one.colour, one.width)):
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting", zorder=2))


def _legend(one: Outlined) -> Line2D:
    edge = [withStroke(linewidth=one.width + EDGE, foreground=one.around)]
    return Line2D([], [], color=one.colour, linewidth=one.width, path_effects=edge, label=one.words)


def _captioned(
    shape: tuple[int, ...], captions: Sequence[str], columns: int, side: float, size: float, title: str
) -> tuple[Figure, Axes, list[Cell], list[str]]:
    """Make one axes for pictures of (y, x) px in reading order; returns their places, and captions that fit above."""
    wide, high = (side * length / max(shape) for length in (shape[1], shape[0]))
    step = max(wide, LEAST) + MARGIN
    lines = [[row for line in text.split("\n") for row in wrapped(line, step - MARGIN, size, 2)] for text in captions]
    head = size / 72 * style.DPI * LINE_SPACING * max(map(len, lines), default=1) + 4
    rows = max(1, math.ceil(len(captions) / columns))
    extent = columns * step, rows * (high + head + MARGIN)
    made = style.figure(max(extent[0] / style.DPI + 0.1, 4.5), extent[1] / style.DPI + 0.2, title)
    places = [divmod(place, columns) for place in range(len(captions))]
    left, down = (step - wide) / 2, high + head + MARGIN
    cells = [Cell(column * step + left, row * down + head, wide, high) for row, column in places]
    return made, empty(made, extent), cells, ["\n".join(one) for one in lines]


def _picture(ax: Axes, picture: np.ndarray, cell: Cell, caption: str, size: float, colour: str = "black") -> None:
    """Put a picture (channel, y, x) in its place, and its caption above."""
    show(ax, rgb(picture), cell).set_interpolation("nearest")
    look = {"fontsize": size, "color": colour, "linespacing": LINE_SPACING}
    ax.text(cell.left + cell.wide / 2, cell.top - 3, caption, ha="center", va="bottom", **look)


def unit_sheet(
    pictures: np.ndarray,
    names: Sequence[str],
    outlines: np.ndarray | None,
    title: str,
    side: int = 0,
) -> Figure:
    """Show one row of images per unit, best first, with a rectangle in each.

    Args:
        pictures: (unit, k, channel, y, x), uint8; a picture of nothing is all 255.
        names: what to write in front of each row: "5\\n3.2".
        outlines: (unit, k, 4) top, left, bottom, right edges in px of the picture, NaN for none; or None.
        title: of the figure; say layer, network, dataset, criterion and what the rectangles are.
        side: px of the figure per image; 0 chooses by the number of units.
    """
    units, k, _, height, width = pictures.shape
    side = side or _side(units, max(height, width))
    step = max(1, math.ceil(max(height, width) / side)) if max(height, width) > side * 2 else 1
    shown = rgb(pictures[..., ::step, ::step])
    high, wide = shown.shape[2:4]
    columns = _columns(units, k * wide, high)
    rows = math.ceil(units / columns)
    label = max(wide, int(0.45 * style.DPI * wide / side))
    block = label + k * (wide + GAP)
    canvas = np.ones((rows * (high + GAP), columns * block, 3), np.float32)
    scale = side / wide
    wanted = max(columns * block * scale / style.DPI, 4.5)  # in: room for the title beside a narrow sheet
    made = style.figure(wanted, rows * (high + GAP) * scale / style.DPI, title)
    ax = made.subplots()
    segments = []
    for unit in range(units):
        row, column = unit % rows, unit // rows
        top, left = row * (high + GAP), column * block + label
        for place in range(k):
            x = left + place * (wide + GAP)
            canvas[top : top + high, x : x + wide] = shown[unit, place]
            if outlines is not None and np.isfinite(outlines[unit, place]).all():
                segments.append(_rectangle(outlines[unit, place] / step, top, x, high, wide))
        ax.text(left - 3, top + high / 2, names[unit], fontsize=min(7.0, side / 8), ha="right", va="center")
    ax.imshow(canvas, interpolation="nearest", aspect="equal", vmin=0, vmax=1)
    ax.add_collection(LineCollection(segments, colors=style.ACCENT, linewidths=0.8 if side > 30 else 0.5))
    ax.set_axis_off()
    return made


def _side(units: int, largest: int) -> int:
    """Choose the px of the figure per image: large for a few units, small for hundreds."""
    wanted = 96 if units <= 16 else 64 if units <= 64 else 44 if units <= 160 else 32
    return min(wanted, max(largest * 3, 24))


def _columns(units: int, wide: int, high: int) -> int:
    """Choose how many units stand side by side, so that the sheet is about as wide as high."""
    return max(1, min(units, round(math.sqrt(units * high / (wide + high)))))


def _rectangle(edges: np.ndarray, top: int, left: int, high: int, wide: int) -> np.ndarray:
    """Return the closed line of a rectangle on the canvas, cut at the border of its image."""
    y0, x0, y1, x1 = edges
    y0, y1 = (min(max(value, 0), high) - 0.5 + top for value in (y0, y1))
    x0, x1 = (min(max(value, 0), wide) - 0.5 + left for value in (x0, x1))
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def outlines(positions: np.ndarray, picture: tuple[int, ...], attributes: dict[str, Any]) -> np.ndarray:
    """Return the theoretical fields of positions as edges on pictures.

    Args:
        positions: (unit, k, map axis) on the layer's map, -1 for none.
        picture: (y, x) px of the pictures.
        attributes: of the layer's table: field_start, field_stride, field_size, image_size, map_size; field_axes where
            the axes of the map are others than those of the image.

    Returns:
        (unit, k, 4) top, left, bottom, right in px of the picture; NaN for none, or for a layer without a map.
    """
    edges = np.full((*positions.shape[:2], 4), np.nan)
    axes = np.array(attributes.get("field_axes", (0, 1)))
    if len(axes) != 2 or not (axes.min() >= 0 and axes.max() < positions.shape[-1]):
        return edges
    if "field_axes" not in attributes and positions.shape[-1] != 2:
        return edges
    scale = np.array(picture) / np.array(attributes["image_size"][1:])
    start, stride, size = (np.array(attributes[f"field_{name}"], float) for name in ("start", "stride", "size"))
    first = start + positions[..., axes] * stride
    edges[..., :2], edges[..., 2:] = first * scale, (first + size) * scale
    edges[positions[..., 0] < 0] = np.nan
    return edges


def unit_page(pictures: np.ndarray, captions: Sequence[str], edges: np.ndarray | None, title: str) -> Figure:
    """Show the images of one unit, large, with what they are and how much it answers.

    Args:
        pictures: (k, channel, y, x), uint8.
        captions: one per image; lines may be broken.
        edges: (k, 4) top, left, bottom, right in px of the picture, or None.
        title: of the figure.
    """
    columns = math.ceil(len(pictures) / max(1, math.ceil(len(pictures) / 5)))
    shape = pictures.shape[-2:]
    made, ax, cells, lines = _captioned(shape, captions, max(1, columns), 170, 7.0, title)
    for place, (picture, cell) in enumerate(zip(pictures, cells)):
        if not captions[place]:
            continue
        _picture(ax, picture, cell, lines[place], 7.0)
        if edges is not None and np.isfinite(edges[place]).all():
            ax.plot(*cell.line(list(edges[place]), shape).T, color=style.ACCENT, linewidth=1.2)
    return made
