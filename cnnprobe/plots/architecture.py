"""A network drawn level by level: maps that shrink from left to right, and grow again, with what passes across."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path

from cnnprobe.plots.canvas import footer
from cnnprobe.plots.style import SERIES, figure, plain, shades

SLOT = 0.46
"""Width that a box takes with the gap behind it, inches."""
TALL = 0.95, 0.62
"""Height of the box of the largest map and of the smallest, inches."""
UNDER = 0.40
"""Height of what is written under a box, inches."""
ABOVE = 0.22
"""Room above the boxes of a level, inches."""


@dataclass(frozen=True)
class Box:
    """A layer as it is drawn.

    Args:
        name: in the box.
        units: number of channels.
        sides: of its map; () where there is none.
        level: larger is deeper; boxes of a level stand on one height.
        field: of one position, in words.
        share: of the image's side that this is, 0 to 1: the shade.
    """

    name: str
    units: int
    sides: tuple[int, ...]
    level: float
    field: str
    share: float


def architecture(boxes: Sequence[Box], edges: Sequence[tuple[int, int]], title: str) -> Figure:
    """Draw layers as boxes, as high as their maps are large and as wide as they have units, and what reads what.

    Args:
        boxes: in the order of the pass.
        edges: (read, reader), places among them.
        title: above everything.
    """
    levels = sorted({box.level for box in boxes})
    step = TALL[0] + UNDER + ABOVE
    wide, high = SLOT * (len(boxes) + 0.5), step * len(levels)
    made = figure(max(6.0, wide + 0.2), high + 0.3, title)
    ax = made.subplots()
    ax.set_axis_off()
    ax.set(xlim=(-0.5 * SLOT, wide), ylim=(high, -0.5 * ABOVE), aspect="equal", autoscale_on=False)
    largest = max(_side(box) for box in boxes)
    most = max(box.units for box in boxes)
    places = []
    for place, box in enumerate(boxes):
        tall = TALL[1] + (TALL[0] - TALL[1]) * (_side(box) / largest) ** 0.5
        thick = SLOT * (0.42 + 0.26 * (box.units / most) ** 0.5)
        middle = SLOT * (place + 0.5), ABOVE + TALL[0] / 2 + step * levels.index(box.level)
        places.append((middle, thick, tall))
        _draw(ax, box, *places[-1])
    for read, reader in edges:
        between = any(box.level == boxes[read].level for box in boxes[read + 1 : reader])
        _arrow(ax, places[read], places[reader], between and boxes[read].level == boxes[reader].level,
               boxes[reader].level - boxes[read].level, reader - read)  # fmt: skip
    said = "under each box: units, side of the map, and field of one position, px (a range where places differ)"
    footer(made, [said, "shade: field as a share of the image's side", "across: what skips the levels below"])
    return made


def _side(box: Box) -> float:
    return float(np.prod(box.sides)) ** (1 / len(box.sides)) if box.sides else 1.0


Place = tuple[tuple[float, float], float, float]
"""Middle (x, y), width and height of a box, inches from the upper left."""


def _draw(ax: Axes, box: Box, middle: tuple[float, float], wide: float, tall: float) -> None:
    x, y = middle
    share = min(1.0, box.share) if np.isfinite(box.share) else 0.0
    face = shades("Blues")(0.08 + 0.67 * share)
    ax.add_patch(Rectangle((x - wide / 2, y - tall / 2), wide, tall, facecolor=face, edgecolor="0.3", linewidth=0.6,
                           zorder=3))  # fmt: skip
    ink = "white" if share > 0.6 else "black"
    ax.text(x, y, plain(box.name, 16), fontsize=6.5, rotation=90, ha="center", va="center", color=ink, zorder=4)
    sides = [str(side) for side in box.sides]
    side = "–" if not sides else sides[0] if len(set(sides)) == 1 else "×".join(sides)
    words = f"{box.units}\n{side}\n{box.field}"
    ax.text(x, y + tall / 2 + 0.03, words, fontsize=5.5, ha="center", va="top", linespacing=1.1, zorder=4)


def _arrow(ax: Axes, source: Place, target: Place, over: bool, deeper: float, steps: int) -> None:
    """Draw from one box to another: along its level and then up or down; over boxes of the same level that lie between.

    Args:
        over: whether there are any.
        deeper: levels from one to the other.
        steps: boxes from one to the other.
    """
    (x, y), wide, tall = source
    (to_x, to_y), to_wide, to_tall = target
    left = to_x - to_wide / 2
    gap = to_x - SLOT / 2
    if over:
        top = min(y - tall / 2, to_y - to_tall / 2) - 0.09
        corners = [(x, y - tall / 2), (x, top), (to_x, top), (to_x, to_y - to_tall / 2)]
    elif deeper:
        corners = [(x + wide / 2, y), (gap, y), (gap, to_y), (left, to_y)]
    else:
        corners = [(x + wide / 2, y), (left, to_y)]
    colour = SERIES[3] if deeper > 0 else SERIES[2] if deeper < 0 else SERIES[1] if steps > 2 else "0.35"
    look = {
        "arrowstyle": "-|>",
        "mutation_scale": 6,
        "linewidth": 1.0,
        "joinstyle": "miter",
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.add_patch(FancyArrowPatch(path=Path(corners), color=colour, zorder=2, **look))
