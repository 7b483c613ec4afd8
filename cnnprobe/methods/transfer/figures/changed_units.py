"""The units that changed most, before and after: strongest images, field and preferred image in two rows each."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnnprobe.methods.optimize import figures as preferred
from cnnprobe.methods.transfer.comparison.columns import SIDES, UnitColumn, UnitPart, unit_column
from cnnprobe.plots import style
from cnnprobe.plots.canvas import GAP, LINE, Cell, about_middle, empty, footer, largest, show, wrapped
from cnnprobe.plots.sheet import rgb

FRONT, WORD, CELL = 190, 44, 108
"""Width of a unit's name, of the words before and after, and longer side of a picture, px of the figure."""
SHOWN = 5
"""Strongest images in a row at most."""
PARTS: tuple[UnitPart, ...] = ("picture", "response", "field", "size", "preferred", "preferred_response")
"""What is shown of a unit in either network."""
MARGIN = 1.3
"""Side of what is shown of a field, in sides of the theoretical field."""


def before_and_after(
    changed: Mapping[UnitColumn, np.ndarray], names: Sequence[str], boxes: np.ndarray, title: str
) -> Figure:
    """Show each unit in two rows, the network before and after: its strongest images, field and preferred image.

    Both fields of a unit have one colour scale, symmetric about zero, which is white.

    Args:
        changed: columns by name, each with the ending `_before` and `_after`: `picture` (unit, k, channel, y, x) uint8
            or (unit, k, channel, time), `response` (unit, k), NaN for none, `preferred` (unit, channel, y, x) 0 to 1,
            `preferred_response` (unit,), and for images `field` (unit, y, x), `size` (unit,) px.
        names: stand in front of each unit; lines may be broken.
        boxes: (unit, 2) y x of the theoretical field, px.
        title: of the figure.
    """
    if not len(names):
        return style.figure(4.5, 0.3, f"{title}\nno unit changed")
    if changed.get("field_before") is None:
        return _signals(changed, names, title)
    k = min(SHOWN, changed["picture_before"].shape[1])
    row, head = CELL + LINE + 4, 2 * LINE
    block = 2 * row + GAP
    places = [FRONT + WORD + place * (CELL + GAP / 2) for place in range(k)]
    field = places[-1] + CELL + 2 * GAP
    extent = field + 2 * (CELL + GAP), head + len(names) * block
    made = style.figure(extent[0] / style.DPI + 0.2, extent[1] / style.DPI + 0.25, title)
    ax = empty(made, extent)
    heads = (((places[0] + places[-1] + CELL) / 2, "strongest images, best first"), (field + CELL / 2, "field"))
    for x, word in (*heads, (field + CELL + GAP + CELL / 2, "preferred image")):
        ax.text(x, LINE, word, fontsize=7, ha="center", va="center")
    for unit, name in enumerate(names):
        top = head + unit * block
        words = "\n".join(wrapped(name, FRONT - GAP, 6.5, 8))
        ax.text(FRONT - GAP, top + block / 2 - GAP, words, fontsize=6.5, ha="right", va="center", linespacing=1.3)
        if unit:
            ax.plot([0, extent[0]], [top - GAP / 2] * 2, color="0.8", linewidth=0.6)
        limit = max(largest(changed[unit_column("field", side)][unit]) for side in SIDES)
        for number, side in enumerate(SIDES):
            own = {part: changed[unit_column(part, side)][unit] for part in PARTS}
            corner = top + number * row
            ax.text(FRONT + WORD - 6, corner + CELL / 2, side, fontsize=7, ha="right", va="center")
            _row(
                ax, own, [Cell(x, corner, CELL, CELL) for x in (*places, field, field + CELL + GAP)], boxes[unit], limit
            )
    remarks = ["number below: response; below a field: side of the area above 0.2 of its peak"]
    remarks.append(
        "field: blue is negative, red positive, white 0; one scale for both fields of a unit; box: theoretical"
    )
    footer(made, [*remarks, "hatched: no value"])
    return made


def _row(ax: Axes, own: Mapping[UnitPart, Any], cells: Sequence[Cell], box: np.ndarray, limit: float) -> None:
    """Draw a unit in one of the networks."""
    *places, field, best = cells
    for place, picture, response in zip(places, own["picture"], own["response"]):
        if np.isfinite(response):
            _picture(ax, rgb(picture), place, picture.shape[-2:], style.number(response))
        else:
            _nothing(ax, place)
    if not any(np.isfinite(own["response"])):
        _word(ax, places[0], "silent")
    _field(ax, own["field"], field, box, limit, own["size"])
    if np.isfinite(own["preferred"]).all():
        shown = np.clip(rgb(own["preferred"]), 0, 1)
        _picture(ax, shown, best, shown.shape[:2], style.number(own["preferred_response"]))
    else:
        _nothing(ax, best)
        _word(ax, best, "none")


def _picture(ax: Axes, picture: np.ndarray, place: Cell, shape: tuple[int, ...], caption: str) -> None:
    cell = place.fitted(shape)
    show(ax, picture, cell)
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    ax.text(place.left + place.wide / 2, cell.top + cell.high + 2, caption, fontsize=6, ha="center", va="top")


def _nothing(ax: Axes, place: Cell) -> None:
    ax.add_patch(place.rectangle(facecolor="0.96", edgecolor="0.85", hatch="////", linewidth=0, zorder=0))


def _word(ax: Axes, place: Cell, word: str) -> None:
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    middle = place.left + place.wide / 2, place.top + place.high / 2
    ax.text(*middle, word, fontsize=6, ha="center", va="center", bbox=behind, zorder=3)


def _field(ax: Axes, field: np.ndarray, place: Cell, box: np.ndarray, limit: float, size: float) -> None:
    """Draw the middle of a field with the box of the theoretical one."""
    middle = [(side - 1) // 2 for side in field.shape]
    reach = [min(at, math.ceil(MARGIN * length / 2)) for at, length in zip(middle, box)]
    shown = field[tuple(slice(at - far, at + far + 1) for at, far in zip(middle, reach))]
    cell = place.fitted(shown.shape)
    known = np.isfinite(shown)
    if not known.all():
        ax.add_patch(cell.rectangle(facecolor="0.96", edgecolor="0.85", hatch="////", linewidth=0, zorder=0))
    if known.any():
        show(ax, shown, cell, limit or 1.0)
        caption = f"{style.number(size)} px" if np.isfinite(size) else ""
        ax.text(place.left + place.wide / 2, cell.top + cell.high + 2, caption, fontsize=6, ha="center", va="top")
    else:
        _word(ax, place, "no field")
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    if all(length <= side for length, side in zip(box, shown.shape)):
        edges = about_middle(tuple(box), shown.shape)
        ax.plot(*cell.line(edges, shown.shape).T, color="0.3", linewidth=0.6, zorder=3)


def _signals(changed: Mapping[UnitColumn, np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Show signals as rows of curves, before and after one below the other."""

    def both(part: UnitPart) -> np.ndarray:
        return np.stack([changed[unit_column(part, side)] for side in SIDES], 1)

    response, reached = both("response"), both("preferred_response")
    k = min(SHOWN, response.shape[2])
    images, pictures = (values.reshape(-1, *values.shape[2:]) for values in (both("preferred"), both("picture")))
    captions = [
        [style.number(value) if np.isfinite(value) else "" for value in (reached[at], *response[at][:k])]
        for at in np.ndindex(reached.shape)
    ]
    sided = [f"{side}\n{name.splitlines()[0]}" for name in names for side in SIDES]
    return preferred.beside_top_images(images, pictures[:, :k], sided, captions, title)
