"""Figures of capsules that are moved and drawn: strips of pictures, and what comes back when they are shown again."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnprobe.plots import style
from cnnprobe.plots.canvas import Cell, empty, footer, show
from cnnprobe.plots.sheet import rgb

SIDE, GAP, FRONT, HEAD = 56, 4, 120, 22
"""Side of a picture, white between two, width of the names, and height of the line above, px of the figure."""


def strips(
    pictures: np.ndarray, images: np.ndarray, offsets: np.ndarray, names: Sequence[str], title: str, along: str
) -> Figure:
    """Draw a dimension in each row: the image it starts from, then what the decoder draws from step to step.

    Args:
        pictures: (row, channel, y, x) uint8.
        images: (row, step, channel, y, x) 0 to 1.
        offsets: (step,) by which the dimension is moved.
        names: of the rows; lines may be broken.
        title: of the figure.
        along: what is moved, dimensions or components.
    """
    rows, steps = images.shape[:2]
    high, wide = (SIDE * length / max(images.shape[-2:]) for length in images.shape[-2:])
    extent = (FRONT + (steps + 1) * (wide + GAP) + 3 * GAP, HEAD + rows * (high + GAP))
    made = style.figure(extent[0] / style.DPI + 0.2, extent[1] / style.DPI + 0.25, title)
    ax = empty(made, extent)
    lefts = [FRONT, *(FRONT + 3 * GAP + (step + 1) * (wide + GAP) for step in range(steps))]
    for left, word in zip(lefts, ["image", *(f"{offset:+.2f}" if offset else "0" for offset in offsets)]):
        ax.text(left + wide / 2, HEAD - 8, word, fontsize=6, ha="center", va="center")
    for row in range(rows):
        top = HEAD + row * (high + GAP)
        ax.text(
            FRONT - 6,
            top + high / 2,
            "\n".join(style.plain(line, 24) for line in names[row].split("\n")),
            fontsize=5.5,
            ha="right",
            va="center",
        )
        for left, picture in zip(lefts, (pictures[row], *images[row])):
            cell = Cell(left, top, wide, high)
            if np.isfinite(picture).all():
                show(ax, np.clip(rgb(picture), 0, 1), cell)
            else:
                ax.add_patch(cell.rectangle(facecolor="0.94", edgecolor="0.75", hatch="////", linewidth=0))
    footer(made, ["image: longest capsule of the class", f"numbers: by how much the {along[:-1]} is moved",
                  "slope: how far it comes back, mean over images"])  # fmt: skip
    return made


def loop(change: np.ndarray, slopes: np.ndarray, marked: Sequence[int], title: str, along: str) -> Figure:
    """Draw how far every dimension comes back, over how much it changes the picture.

    Args:
        change: (dimension,) root mean square difference of the pictures, 0 to 1.
        slopes: (dimension,), 1: as far as it was moved.
        marked: dimensions that change the picture most, drawn in colour.
        title: of the figure.
        along: what is moved, dimensions or components.
    """
    made = style.figure(5.2, 3.4, title)
    ax = made.subplots()
    others = np.setdiff1d(np.arange(len(change)), marked)
    for level in (0, 1):
        ax.axhline(level, color="0.4", linewidth=0.8, linestyle=":" if level else "-")
    ax.plot(change[others], slopes[others], "o", color="0.6", markersize=3, label=f"other {along}")
    rows = list(marked)
    ax.plot(change[rows], slopes[rows], "o", color=style.SERIES[1], markersize=4, label="strongest of each class")
    ax.set_xlabel("change of the picture (root mean square, 0 to 1)", fontsize=8)
    ax.set_ylabel("slope: came back / asked for", fontsize=8)
    ax.set_xlim(left=0)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return made
