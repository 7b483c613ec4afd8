"""The layout of a figure of many small pictures: positions in px, a scale bar, text that fits, a legend."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from cnnprobe.plots import style

GAP = 10
"""White px between two maps."""
LINE = 14
"""Height of a line of small text, px of the figure."""


@dataclass(frozen=True)
class Cell:
    """A place on a figure, px of the figure from the upper left."""

    left: float
    top: float
    wide: float
    high: float

    def fitted(self, shape: tuple[int, ...]) -> "Cell":
        """Return the largest place inside that has the proportions of (y, x), in the middle."""
        rows, columns = shape
        scale = min(self.wide / columns, self.high / rows)
        wide, high = columns * scale, rows * scale
        return Cell(self.left + (self.wide - wide) / 2, self.top + (self.high - high) / 2, wide, high)

    def part(self, edges: Sequence[float], shape: tuple[int, ...]) -> "Cell":
        """Return the place of top, left, bottom, right edges in px of a map of (y, x) that fills this one."""
        y0, x0, y1, x1 = np.array(edges) * np.array([self.high, self.wide] * 2) / [*shape, *shape]
        return Cell(self.left + x0, self.top + y0, x1 - x0, y1 - y0)

    def rectangle(self, **look: Any) -> Rectangle:
        """Return this place as something to draw."""
        return Rectangle((self.left, self.top), self.wide, self.high, **look)

    def line(self, edges: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
        """Return the closed line (corner, xy) of top, left, bottom, right edges in px of a map of (y, x), cut to it."""
        y0, x0, y1, x1 = np.clip(edges, 0, [*shape, *shape]) * np.array([self.high, self.wide] * 2) / [*shape, *shape]
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        return np.add(corners, (self.left, self.top))


def empty(made: Figure, extent: tuple[float, float]) -> Axes:
    """Return axes in px of the figure, from the upper left, with nothing on them."""
    ax = made.subplots()
    ax.set_axis_off()
    ax.set(xlim=(0, extent[0]), ylim=(extent[1], 0), aspect="equal", autoscale_on=False)
    return ax


def show(ax: Axes, values: np.ndarray, cell: Cell, limit: float = 1.0) -> AxesImage:
    """Put a picture (y, x, 3 or 4), or a signed map (y, x) with the colours of -limit to limit, in its place."""
    extent = (cell.left, cell.left + cell.wide, cell.top + cell.high, cell.top)
    look = {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit, "aspect": "equal", "zorder": 1}
    shown = ax.imshow(values, extent=extent, **look)
    ax.set_autoscale_on(False)
    return shown


def letter_size(wide: float) -> float:
    """Return the size of letters that suits a map, points."""
    return min(7.0, max(4.0, wide / 11))


def smaller(values: np.ndarray, most: float) -> np.ndarray:
    """Return the mean of blocks of a map of many more px than are shown, leaving out what is NaN."""
    step = int(max(values.shape) // most)
    if step < 2:
        return values
    rows, columns = (np.arange(0, length, step) for length in values.shape)

    def total(numbers: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(numbers, rows, 0), columns, 1)

    known = total((~np.isnan(values)).astype(float))
    return np.divide(total(np.nan_to_num(values)), known, out=np.full(known.shape, np.nan), where=known > 0)


def largest(values: np.ndarray) -> float:
    """Return the largest finite |value|, 0 if there is none."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))


def about_middle(box: tuple[float, float], shape: Sequence[int]) -> list[float]:
    """Return top, left, bottom, right edges of a field about the middle px of a map; of an even one, the px below."""
    first = [(length - 1) // 2 - (size - 1) // 2 for length, size in zip(shape, box)]
    return [*first, *(start + size for start, size in zip(first, box))]


def wrapped(text: str, wide: float, size: float, most: int = 3) -> list[str]:
    """Return a stranger's text in at most so many lines that fit a width in px of the figure."""
    letters = max(4, int(wide / style.DPI * 72 / (0.56 * size)))
    rows = [row for line in str(text).split("\n") for row in textwrap.wrap(style.plain(line), letters) or [""]]
    return rows[:most] if len(rows) <= most else [*rows[: most - 1], style.plain(rows[most - 1][:-1] + "…", letters)]


def scale_bar(ax: Axes, left: float, top: float, scale: float, wide: float) -> None:
    """Draw a bar of a round number of px of the image, about a third of a map long, and write how many."""
    room = max(1.0, wide / scale / 2)
    power = 10 ** int(math.log10(room))
    length = next(digit * power for digit in (5, 2, 1) if digit * power <= room)
    ax.plot([left, left + length * scale], [top, top], color="black", linewidth=1.5, solid_capstyle="butt")
    ax.text(left + length * scale + 5, top, f"{length} px", fontsize=6, ha="left", va="center")


def box_words(box: tuple[float, float] | None, shape: Sequence[int]) -> str:
    """Say what the box about the middle of maps of (y, x) px is, if there is one."""
    if box is None:
        return ""
    larger = any(size > length for size, length in zip(box, shape))
    words = f"box: theoretical field, {style.number(box[0])} × {style.number(box[1])} px (y × x)"
    return words + ", larger than the map" if larger else words


def footer(made: Figure | SubFigure, remarks: Sequence[str]) -> None:
    """Write the legend below everything, in lines that fit."""
    letters = max(40, int(made.figure.get_figwidth() * style.LETTERS_PER_INCH * 1.25))
    made.supxlabel("\n".join(textwrap.wrap("; ".join(filter(None, remarks)), letters)), fontsize=7)
