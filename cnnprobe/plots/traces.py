"""Signals as stacked traces: what a dataset of recordings looks like, and the signals each unit responds to most."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from cnnprobe.plots import canvas, style
from cnnprobe.plots.canvas import Cell

UNITS = 24
"""Rows of a sheet at most; the store has all of them."""
SHOWN = 4
"""Signals beside each other at most."""
WIDE, LABEL, GAP, CAPTION = 300.0, 76.0, 14.0, 30.0  # px of the figure
LETTERS = 6.0


def unit_traces(signals: np.ndarray, names: Sequence[str], spans: np.ndarray | None, title: str) -> Figure:
    """Show one row of signals per unit, best first, with the stretch each unit sees shaded.

    Args:
        signals: (unit, k, channel, time), NaN for none.
        names: what to write in front of each row: "5\\n3.2".
        spans: (unit, k, 2) first and last edge in samples of the signal shown, NaN for none; or None.
        title: of the figure.
    """
    count = len(signals)
    signals, spans = signals[:UNITS, :SHOWN], None if spans is None else spans[:UNITS, :SHOWN]
    rows, wide, channels = len(signals), signals.shape[1], signals.shape[2]
    high = _high(channels)
    left_out = [f"the first {rows} of {count} units"] if count > rows else []
    made, ax = _empty(rows, wide, high, LABEL, 0, title)
    step = _step(signals)
    for row in range(rows):
        top = row * (high + GAP)
        ax.text(LABEL - 8, top + high / 2, names[row], fontsize=LETTERS, ha="right", va="center")
        for place in range(wide):
            cell = Cell(LABEL + place * (WIDE + GAP), top, WIDE, high)
            _draw(ax, signals[row, place], cell, step, None if spans is None else spans[row, place])
    canvas.footer(made, [*left_out, _scale(step, signals.shape[-1])])
    return made


def captioned_traces(
    signals: np.ndarray,
    captions: Sequence[str],
    spans: np.ndarray | None,
    title: str,
    wrong: np.ndarray | Sequence[bool] = (),
) -> Figure:
    """Show signals in reading order, with a caption above each.

    Args:
        signals: (signal, channel, time), NaN for none.
        captions: one per signal; of no caption no signal is shown.
        spans: (signal, 2) as of `unit_traces`, or None.
        title: of the figure.
        wrong: signals to frame, e.g. those that were misclassified.
    """
    places = [place for place, caption in enumerate(captions) if caption]
    columns = min(SHOWN, max(1, len(places)))
    rows, high = max(1, math.ceil(len(places) / columns)), _high(signals.shape[1])
    made, ax = _empty(rows, columns, high, 0, CAPTION, title)
    step = _step(signals)
    for number, place in enumerate(places):
        row, column = divmod(number, columns)
        top = row * (high + GAP + CAPTION) + CAPTION
        cell = Cell(column * (WIDE + GAP), top, WIDE, high)
        framed = bool(len(wrong)) and bool(wrong[place])
        _draw(ax, signals[place], cell, step, None if spans is None else spans[place], framed)
        words = "\n".join(style.plain(line, 46) for line in captions[place].split("\n"))
        colour = style.ACCENT if framed else "black"
        ax.text(cell.left, top - 4, words, fontsize=LETTERS, ha="left", va="bottom", color=colour)
    canvas.footer(made, [_scale(step, signals.shape[-1])])
    return made


def spans_of(positions: np.ndarray, samples: int, attributes: dict) -> np.ndarray:
    """Return the theoretical fields of positions as edges on signals shown with so many samples.

    Args:
        positions: (…, 1) on the layer's map, -1 for none.
        samples: of a signal as shown.
        attributes: of the layer's table: field_start, field_stride, field_size, image_size.

    Returns:
        (…, 2); NaN for none.
    """
    if positions.shape[-1] != 1 or not any(attributes["field_stride"]):
        return np.full((*positions.shape[:-1], 2), np.nan)
    scale = samples / attributes["image_size"][1]
    start, stride, size = (float(attributes[f"field_{name}"][0]) for name in ("start", "stride", "size"))
    first = start + positions[..., 0] * stride
    edges = np.clip(np.stack([first, first + size], -1) * scale, 0, samples)
    edges[positions[..., 0] < 0] = np.nan
    return edges


def _high(channels: int) -> float:
    """Choose the px of a signal, so that its channels can be told apart."""
    return float(np.clip(13 * channels, 48, 240))


def _empty(rows: int, columns: int, high: float, left: float, above: float, title: str) -> tuple[Figure, Axes]:
    extent = (left + columns * (WIDE + GAP), rows * (high + GAP + above))
    made = style.figure(max(extent[0] / style.DPI, 4.5), extent[1] / style.DPI + 0.2, title)
    return made, canvas.empty(made, extent)


def _step(signals: np.ndarray) -> float:
    """Choose how far apart the zeros of two channels lie, in units of the signals: few curves touch."""
    sizes = np.abs(signals[np.isfinite(signals)])
    return float(2.5 * np.quantile(sizes, 0.98)) or 1.0 if len(sizes) else 1.0


def _draw(ax: Axes, signal: np.ndarray, cell: Cell, step: float, span: np.ndarray | None, framed: bool = False) -> None:
    """Draw (channel, time) as curves, the first channel on top."""
    edge = {"edgecolor": style.ACCENT, "linewidth": 1.6} if framed else {"edgecolor": "0.75", "linewidth": 0.4}
    ax.add_patch(cell.rectangle(fill=False, zorder=3, **edge))
    if not np.isfinite(signal).any():
        return
    channels, samples = signal.shape
    if span is not None and np.isfinite(span).all():
        shade = cell.part((0, span[0], 1, span[1]), (1, samples))
        ax.add_patch(shade.rectangle(facecolor=style.ACCENT, alpha=0.16, linewidth=0, zorder=0))
    x = cell.left + cell.wide * (np.arange(samples) + 0.5) / samples
    zero = cell.top + cell.high * (np.arange(channels) + 0.5) / channels
    y = zero[:, None] - signal / step * cell.high / channels
    y = np.clip(y, cell.top, cell.top + cell.high)  # a curve stays in its frame
    lines = [np.stack([x, curve], -1) for curve in y]
    colours = [style.SERIES[0] if channel % 2 == 0 else style.SERIES[5] for channel in range(channels)]
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=0.5, zorder=1))


def _scale(step: float, samples: int) -> str:
    return f"channels from top to bottom, their zeros {style.number(step)} apart; a frame is {samples} samples"
