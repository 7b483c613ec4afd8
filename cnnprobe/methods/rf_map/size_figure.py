"""The size of receptive fields from layer to layer: measured beside theoretical."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cnnprobe.plots import style

LOOK = (("o", style.SERIES[1]), ("s", style.SERIES[0]), ("^", style.SERIES[2]))
"""Marker and colour of the size at half of the peak, at a fifth, and of the effective field."""


def size_by_depth(
    names: Sequence[str],
    theoretical: np.ndarray,
    clipped: np.ndarray,
    size_half: Sequence[np.ndarray],
    size_fifth: Sequence[np.ndarray],
    effective: Sequence[np.ndarray],
    title: str,
    occluder: float | None = None,
) -> Figure:
    """Draw the size of the fields, and its ratio to the theoretical size, against depth (Zhou et al. 2015).

    Points are units; the larger marks their mean with their standard deviation (over units, not an estimate of a
    larger population). Where the theoretical field exceeds the image, a hollow mark is the mean ratio to the part
    of it that lies inside.

    Args:
        names: (layer,) in order of depth.
        theoretical: (layer,) side of the theoretical field, px of the image.
        clipped: (layer,) the same, at most the image's side.
        size_half: per layer (unit,) side of the region above half of the peak, px; NaN for a dead unit.
        size_fifth: the same above a fifth of the peak.
        effective: the same of the effective field (Luo et al. 2016), above 4.55 % of its peak; NaN if not measured.
        title: of the figure.
        occluder: its side, px: what is measured with it cannot look much smaller.
    """
    if not len(names):
        return style.figure(4.5, 0.3, f"{title}\nno layers")
    theoretical, clipped = np.asarray(theoretical, float), np.asarray(clipped, float)
    words = ("occlusion, above half of the peak", "occlusion, above a fifth", "effective, above 4.55 %")
    series = [
        (word, sizes, *look)
        for word, sizes, look in zip(words, (size_half, size_fifth, effective), LOOK)
        if any(np.isfinite(one).any() for one in sizes)
    ]
    made = style.figure(min(14.0, max(5.5, 0.34 * len(names) + 1.4)), 5.8, title)
    sizes, ratios = made.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    exceeds = theoretical > clipped
    _theory(sizes, theoretical, clipped, exceeds)
    if occluder is not None:
        sizes.axhline(occluder, color="0.3", linewidth=1, linestyle=":", label="side of the occluder")
    _shade(sizes, exceeds, "theoretical field exceeds the image")
    _shade(ratios, exceeds)
    for place, (word, values, marker, colour) in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * 0.24
        _units(sizes, values, shift, marker, colour, word)
        _units(ratios, [one / whole for one, whole in zip(values, theoretical)], shift, marker, colour)
        inside = [one / part if over else one * np.nan for one, part, over in zip(values, clipped, exceeds)]
        x, mean, _ = _summary(inside, shift)
        ratios.plot(x, mean, marker, color=colour, markersize=4, fillstyle="none", linestyle="none", zorder=4)
    ratios.axhline(1, color="0.3", linewidth=1)
    living = [int(np.isfinite(one).sum()) for one in size_half]
    shown = np.concatenate([theoretical, [occluder or np.nan], *(one for _, values, *_ in series for one in values)])
    _label(sizes, ratios, names, living, shown)
    if exceeds.any():
        sizes.plot([], [], "D", color="0.3", markersize=4, fillstyle="none", label="ratio to the part inside the image")
    told = {"title": "mean ± standard deviation over units; points: units; n: units with a field", "title_fontsize": 7}
    made.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False, **told)
    return made


def _theory(ax: Axes, theoretical: np.ndarray, clipped: np.ndarray, exceeds: np.ndarray) -> None:
    """Draw the theoretical size, and the image's side dashed over the layers whose field exceeds it."""
    places = np.arange(len(theoretical))
    ax.plot(places, theoretical, ".-", color="0.3", linewidth=1, markersize=5, label="theoretical")
    if exceeds.any():
        ends = (places[:, None] + (-0.5, 0.5)).ravel()
        side = np.repeat(np.where(exceeds, clipped, np.nan), 2)
        ax.plot(ends, side, "--", color="0.3", linewidth=1, label="side of the image")


def _shade(ax: Axes, exceeds: np.ndarray, label: str = "") -> None:
    """Shade the layers whose theoretical field exceeds the image."""
    if exceeds.any():
        over = ax.get_xaxis_transform()
        ax.bar(np.flatnonzero(exceeds), 1, 1, color="0.93", linewidth=0, transform=over, zorder=0, label=label)


def _units(ax: Axes, values: Sequence[np.ndarray], shift: float, marker: str, colour: str, label: str = "") -> None:
    """Draw each unit as a light point, spread a little, and the mean with its standard deviation before them."""
    places = np.concatenate([np.full(len(one), place) for place, one in enumerate(values)])
    light = min(0.3, max(0.06, 20 * len(values) / max(1, len(places))))
    spread = (np.arange(len(places)) * 0.618034 % 1 - 0.5) * 0.16  # golden ratio: even, and the same each time
    ax.plot(places + shift + spread, np.concatenate(values), ".", color=colour, markersize=2, alpha=light, zorder=1)
    x, mean, deviation = _summary(values, shift)
    look = {"color": colour, "markersize": 5, "linewidth": 1.2, "capsize": 2, "zorder": 3}
    ax.errorbar(x, mean, deviation, fmt=marker, markeredgecolor="white", markeredgewidth=0.5, label=label, **look)


def _summary(values: Sequence[np.ndarray], shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return place, mean and standard deviation over units, (layer,) each, where a unit has a value; NaN of one."""
    finite = [np.asarray(one, float)[np.isfinite(one)] for one in values]
    kept = [place for place, one in enumerate(finite) if len(one)]
    mean = np.array([finite[place].mean() for place in kept])
    deviation = np.array([finite[place].std(ddof=1) if len(finite[place]) > 1 else np.nan for place in kept])
    return np.array(kept) + shift, mean, deviation


def _label(sizes: Axes, ratios: Axes, names: Sequence[str], living: Sequence[int], shown: np.ndarray) -> None:
    """Name the axes and layers, and write above each layer how many of its units are behind the mean."""
    sizes.set_yscale("log", nonpositive="clip")
    positive = shown[np.isfinite(shown) & (shown > 0)]
    low, high = (positive.min() / 1.25, positive.max() * 1.25) if len(positive) else (1, 10)
    sizes.set_ylim(low, high)
    sizes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 12 * low else (1, 2, 3, 4, 5, 7)))
    sizes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value)))
    sizes.yaxis.set_minor_formatter(NullFormatter())
    sizes.set_ylabel("side of the field (px of the image)", fontsize=8)
    ratios.set_ylabel("side / theoretical side", fontsize=8)
    ratios.set_ylim(bottom=0)
    ratios.set_xlim(-0.6, len(names) - 0.4)
    shorter = [style.plain(name, most=24) for name in names]
    room = (ratios.get_figure().get_figwidth() - 0.8) / len(names) / 0.065  # letters of 7 points beside one another
    upright = max(map(len, shorter)) + 1 > room
    ratios.set_xticks(range(len(names)), shorter, rotation=90 if upright else 0, ha="center", fontsize=7)
    for ax in (sizes, ratios):
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    for place, count in enumerate(living):
        words = f"n = {count}" if place == 0 else str(count)
        sizes.annotate(words, (place, 1), (0, 2), ("data", "axes fraction"), "offset points", ha="center", fontsize=6)
