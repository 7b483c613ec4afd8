"""Signed maps with colours, such as gradients, as pictures: where zero is and what a colour means."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from cnnprobe.plots import style
from cnnprobe.plots.canvas import Cell, letter_size, show, smaller

Display = Literal["signed", "clipped", "stretched", "grey"]
"""Ways to show a map, see `picture`."""
LIMITED = ("signed", "clipped")
"""Those that have a limit."""


def picture(maps: np.ndarray, limit: float | None = None, display: Display = "signed", most: float = 0) -> np.ndarray:
    """Turn a map (channel, y, x) into a picture (y, x, 4) of red, green, blue and opacity, each 0 to 1.

    signed: 0.5 + map / (2 limit). Zero is mid-grey; what should be redder is redder, and the same limit means the
        same scale.
    clipped: the same with a limit that one value in a hundred exceeds and is cut to. Gradients at single images have
        a few very large values, beside which the others would all be mid-grey.
    stretched: (map - min) / (max - min), the published colour display of guided backpropagation
        (pytorch-cnn-visualizations, misc_functions.py). Zero is another grey in each map.
    grey: the sum of |map| over colours, less its smallest value and divided by its 99th percentile so that it lies
        from 0 to 1 (same source). It has no sign.

    One channel is shown grey; of more than three, the first three are shown, of two the first.

    Args:
        maps: NaN or infinite in any colour: the px is left clear.
        limit: |map| that is shown as full colour (signed and clipped); None for the map's own, see `limit_of`.
        display: which way.
        most: px of the longer side of the picture at most; larger maps are averaged over blocks. 0 for all.
    """
    values = np.asarray(maps, np.float64)
    if display == "grey":
        values = np.abs(values).sum(0, keepdims=True)
    values = values[:3] if len(values) > 2 else values[:1]
    values = np.where(np.isfinite(values).all(0), values, np.nan)
    known = ~np.isnan(values)
    if known.any():
        values = _scaled(values, limit, display)
    if most:
        values = np.stack([smaller(channel, most) for channel in values])
        known = ~np.isnan(values)
    colours = np.nan_to_num(np.clip(values, 0, 1))
    return np.moveaxis(np.concatenate([np.broadcast_to(colours, (3, *colours.shape[1:])), known[:1]]), 0, -1)


def limit_of(shown: Sequence[np.ndarray], display: Display) -> float:
    """Return the limit of some maps together: their largest |value|, or for "clipped" its 99th percentile."""
    sizes = np.concatenate([np.abs(values[np.isfinite(values)]).ravel() for values in shown] or [np.zeros(0)])
    if display == "clipped" and sizes.size:
        return float(np.percentile(sizes, 99)) or float(sizes.max())
    return float(sizes.max(initial=0))


def _scaled(values: np.ndarray, limit: float | None, display: Display) -> np.ndarray:
    """Bring values to 0 to 1 by the rule of a display; a constant map becomes mid-grey."""
    if display in LIMITED:
        limit = limit_of([values], display) if limit is None else limit
        return 0.5 + values / limit / 2 if limit else values * 0 + 0.5
    low = np.nanmin(values)
    high = np.nanpercentile(values, 99) if display == "grey" else np.nanmax(values)
    if high <= low:
        high = np.nanmax(values)  # fewer than one px in a hundred is not at the minimum
    return (values - low) / (high - low) if high > low else values * 0 + (0.0 if display == "grey" else 0.5)


def words(display: Display, channels: int, limit: str = "") -> str:
    """Say in one clause what the colours of a map of so many channels mean.

    Args:
        display: see `picture`.
        channels: of the maps.
        limit: what full colour stands for, e.g. "each unit's own" (signed and clipped).
    """
    part = {1: "", 2: " (first of 2 channels)", 3: ""}.get(channels, f" (first 3 of {channels} channels)")
    colour = "colour" if channels > 2 else "brightness"
    if display == "grey":
        return "grey: sum of |map| over colours, from its smallest value (black) to its 99th percentile (white)"
    if display == "stretched":
        return f"{colour}: (map - min) / (max - min) of each map{part}; zero is not the same grey in all"
    rule = "largest |value|" if display == "signed" else "99th percentile of |value|"
    return f"{colour}: 0.5 + map / (2 × limit){part}, mid-grey is zero; limit: {limit}{' ' if limit else ''}{rule}"


def draw(ax: Axes, values: np.ndarray, cell: Cell, limit: float | None, display: Display, nothing: str) -> None:
    """Draw a map (channel, y, x) in a frame; hatched where there is no number, a word where there is one or none."""
    known = np.isfinite(values).all(0)
    if not known.all():
        ax.add_patch(cell.rectangle(facecolor="0.94", edgecolor="0.8", hatch="////", linewidth=0, zorder=0))
    ax.add_patch(cell.rectangle(fill=False, edgecolor="0.65", linewidth=0.4, zorder=2))
    if known.any():
        show(ax, picture(values, limit, display, 2 * max(cell.wide, cell.high)), cell)
    seen = values[:, known]
    said = nothing if not known.any() else f"all {style.number(seen.flat[0])}" if np.ptp(seen) == 0 else ""
    if said:
        middle = cell.left + cell.wide / 2, cell.top + cell.high / 2
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*middle, said, fontsize=letter_size(cell.wide), ha="center", va="center", bbox=behind, zorder=3)


def hatching(shown: Sequence[np.ndarray]) -> list[str]:
    """Say what the hatching of maps means, if there is any."""
    infinite = sum(int(np.isinf(values).sum()) for values in shown)
    missing = any(np.isnan(values).any() for values in shown)
    said = ["hatched: no value (outside the image, or from too few images)"] if missing else []
    return [*said, f"{infinite} infinite values, hatched"] if infinite else said
