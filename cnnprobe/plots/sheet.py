"""Sheets of small images: what a dataset looks like, and the images each unit responds to most."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnnprobe.plots import style

GAP = 2
"""White px between two images."""


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
) -> Figure:
    """Show images in reading order with a caption below each.

    Args:
        images: (image, channel, y, x), uint8 or float 0 to 1.
        captions: one per image; lines may be broken.
        wrong: images to frame, e.g. those that were misclassified.
        title: of the figure.
        columns: images in a row.
    """
    rows = math.ceil(len(images) / columns)
    made = style.figure(columns * 1.05, rows * 1.3, title)
    axes = made.subplots(rows, columns, squeeze=False)
    for place, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if place >= len(images):
            continue
        ax.imshow(rgb(images[place]), interpolation="nearest", vmin=0, vmax=1)
        framed = bool(len(wrong)) and bool(wrong[place])
        ax.set_title(_lines(captions[place]), fontsize=6, pad=2, color=style.ACCENT if framed else "black")
        if framed:
            height, width = images.shape[-2:]
            ax.add_patch(_frame(width, height))
    return made


def _lines(caption: str) -> str:
    return "\n".join(style.plain(line, 20) for line in caption.split("\n"))


def _frame(width: int, height: int) -> Rectangle:
    return Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=style.ACCENT, linewidth=2)


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
    rows = math.ceil(len(pictures) / 5)
    columns = math.ceil(len(pictures) / rows)
    made = style.figure(max(columns * 1.8, 5.0), rows * 2.15, title)
    axes = made.subplots(rows, columns, squeeze=False)
    high, wide = pictures.shape[-2:]
    for place, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if place >= len(pictures) or not captions[place]:
            continue
        ax.imshow(rgb(pictures[place]), interpolation="nearest", vmin=0, vmax=1)
        ax.set_title(_lines(captions[place]), fontsize=7, pad=3)
        if edges is not None and np.isfinite(edges[place]).all():
            line = _rectangle(edges[place], 0, 0, high, wide)
            ax.plot(*line.T, color=style.ACCENT, linewidth=1.2)
            ax.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))
    return made
