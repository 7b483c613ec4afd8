"""Frequencies that units listen to: unit x frequency, channel x frequency, polar fields, and all against depth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnnprobe.methods.perturb.perturbation import Kind
from cnnprobe.plots.canvas import footer, largest
from cnnprobe.plots.style import ACCENT, DIVERGING, SERIES, figure, number, plain, shades

MOST_UNITS = 12
"""Units that are shown in full where none are requested."""
NAMED = 48
"""Up to so many units each one is numbered."""
WORDS = {"amplitude": "amplitude noise", "phase": "phase noise"}


@dataclass(frozen=True)
class Axes:
    """The bands.

    Args:
        frequency: (band,) centres.
        orientation: (band,) degrees, NaN for signals.
        edges: (band, 2) of frequency.
        unit: of frequency.
        planted: (class, channel, frequency) of what the signals hold, or ().
    """

    frequency: np.ndarray
    orientation: np.ndarray
    edges: np.ndarray
    unit: str
    planted: Sequence[Sequence[float]] = ()

    @property
    def flat(self) -> bool:
        """Whether they are of signals."""
        return bool(np.isnan(self.orientation).all())

    @property
    def rings(self) -> np.ndarray:
        """Edges of the bands of frequency, each once, (ring + 1,)."""
        low = np.unique(self.edges[:, 0])
        return np.append(low, self.edges[:, 1].max())

    def by_ring(self, values: np.ndarray) -> np.ndarray:
        """Split bands, (…, band) to (…, ring, orientation)."""
        count = len(self.rings) - 1
        return values.reshape(*values.shape[:-1], count, len(self.frequency) // count)


@dataclass(frozen=True)
class Units:
    """What is known of the units of a layer.

    Args:
        numbers: (unit,) channels.
        fields: by kind: correlations, amplitude (unit, band, channel), phase (unit, band).
        nulls: by kind: (unit,) level of chance, NaN where it was not requested.
        channels: names of the channels that were perturbed.
        pages: units to show in full.
    """

    numbers: np.ndarray
    fields: dict[Kind, np.ndarray]
    nulls: dict[Kind, np.ndarray]
    channels: Sequence[str]
    pages: Sequence[int]

    def shown(self, kind: Kind) -> list[int]:
        """Return the places of the units to show in full: those requested, else the most strongly moved."""
        asked = [place for place, unit in enumerate(self.numbers) if unit in self.pages]
        if asked:
            return asked
        size = _largest(self.fields[kind].reshape(len(self.numbers), math.prod(self.fields[kind].shape[1:])))
        order = np.argsort(-np.nan_to_num(size), kind="stable")
        return [int(place) for place in order[:MOST_UNITS] if size[place] > 0]


def _largest(values: np.ndarray) -> np.ndarray:
    """Return the largest |value| of the last axis, NaN where none is known."""
    known = np.isfinite(values)
    return np.where(known.any(-1), np.max(np.abs(values), axis=-1, initial=0.0, where=known), np.nan)


def _strongest(values: np.ndarray) -> np.ndarray:
    """Return the value with the largest modulus of the last axis, signed, NaN where none is known."""
    place = np.where(np.isfinite(values), np.abs(values), -1).argmax(-1)
    return np.take_along_axis(values, place[..., None], -1)[..., 0]


def unit_matrix(units: Units, axes: Axes, nyquist: float, title: str = "") -> Figure:
    """Draw unit x frequency, one panel a kind; units sorted by the frequency that moves them most.

    Of several channels or orientations the strongest stands there. Units whose strongest value chance exceeds stand
    below, in the order of their numbers.

    Args:
        units: of a layer.
        axes: the bands.
        nyquist: of the layer's positions, in the unit of the bands; NaN: none is drawn.
        title: above everything.
    """
    matrices = {kind: _over_frequency(values, axes) for kind, values in units.fields.items()}
    first, limited = next(iter(matrices)), bool(np.isfinite(nyquist) and nyquist < axes.rings[-1])
    order, beyond = _sorted(matrices[first], units.nulls[first])
    high = min(8.0, max(2.4, 0.9 + 0.085 * len(order)))
    made = figure(1.6 + 3.6 * len(matrices), high, title)
    panels = made.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for panel, (kind, matrix) in zip(panels, matrices.items()):
        limit = largest(matrix)
        rows = np.arange(len(order) + 1) - 0.5
        panel.set_facecolor("0.9")
        shown = panel.pcolormesh(axes.rings, rows, _masked(matrix[order]), cmap=DIVERGING,
                                 vmin=-(limit or 1), vmax=limit or 1, rasterized=True)  # fmt: skip
        _frequency(panel, axes)
        panel.set_title(WORDS[kind] + _said(matrix), fontsize=8)
        if 0 < beyond < len(order):
            panel.axhline(beyond - 0.5, color="black", linewidth=0.8)
        if limited:
            panel.axvline(nyquist, color=ACCENT, linewidth=1, linestyle="--")
        _bar(made, panel, shown, "correlation")
    panels[0].invert_yaxis()
    panels[0].set_ylabel("unit, by the frequency that moves it most", fontsize=8)
    if len(order) <= NAMED:
        panels[0].set_yticks(range(len(order)), [str(units.numbers[row]) for row in order], fontsize=5)
    remarks = [_which(units, axes)]
    remarks += [f"above the line: {beyond} of {len(order)} units with a value beyond chance"] * (
        0 < beyond < len(order)
    )
    remarks += ["dashed: Nyquist limit of the layer"] * limited
    _foot(made, remarks)
    return made


def _over_frequency(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Return (unit, ring), of channels and orientations the strongest."""
    flat = values if values.ndim == 3 else values[..., None]
    rings = axes.by_ring(np.moveaxis(flat, 1, -1))  # (unit, channel, ring, orientation)
    return _strongest(np.moveaxis(rings, 1, -1).reshape(len(values), rings.shape[2], -1 if len(values) else 1))


def _sorted(matrix: np.ndarray, nulls: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the order of units by the frequency of their strongest value, and how many of them exceed chance."""
    size = np.where(np.isfinite(matrix), np.abs(matrix), -1)
    best, largest = size.argmax(1), size.max(1)
    sure = (largest > nulls) | (np.isnan(nulls) & (largest > 0))
    key = np.where(sure, best, matrix.shape[1])
    return np.argsort(key, kind="stable"), int(sure.sum())


def channel_maps(units: Units, axes: Axes, means: tuple[np.ndarray, float], title: str = "") -> Figure:
    """Draw channel x frequency: the mean of |correlation| over units, and the units that are moved most.

    Args:
        units: of a layer.
        axes: the bands.
        means: (band, channel) mean over units, and its level of chance.
        title: above everything.
    """
    mean, null = means
    values, chosen = units.fields["amplitude"], units.shown("amplitude")
    columns = min(4, max(1, len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    tall = max(1.0, 0.4 + 0.12 * len(units.channels))
    made = figure(9, 0.9 + 1.6 * tall + rows * (tall + 0.25), title)
    grid = made.add_gridspec(1 + rows, columns, height_ratios=[1.6] + [1] * rows)
    panel = made.add_subplot(grid[0, :])
    top = largest(mean)
    shown = _map(panel, mean, axes, (0, top or 1), shades("Greys"))
    panel.set_title(f"mean of |correlation| over {len(values)} units" + _said(mean), fontsize=8)
    panel.set_ylabel("channel", fontsize=8)
    _channels(panel, units.channels)
    _frequency(panel, axes)
    if np.isfinite(null):
        _outline(panel, null < np.nan_to_num(mean).T, axes)
    for _, channel, hertz in axes.planted:
        panel.plot(hertz, channel, "o", markersize=8, markerfacecolor="none", markeredgecolor=SERIES[0], zorder=4)
    _bar(made, panel, shown, "mean |correlation|")
    limit = largest(values[chosen])
    small = []
    for place, unit in enumerate(chosen):
        one = made.add_subplot(grid[1 + place // columns, place % columns])
        shown = _map(one, values[unit], axes, (-(limit or 1), limit or 1), DIVERGING)
        one.set_title(f"unit {units.numbers[unit]}", fontsize=7, pad=2)
        one.tick_params(labelsize=6, labelleft=place % columns == 0, labelbottom=place + columns >= len(chosen))
        _channels(one, units.channels)
        small.append(one)
    if small:
        bar = made.colorbar(shown, ax=small, fraction=0.02, pad=0.01)
        bar.set_label("correlation", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    remarks = [f"outlined: above the null level over all bands ({null:.3f})"] * bool(np.isfinite(null))
    remarks += ["circles: planted oscillations"] * bool(axes.planted)
    remarks += [f"below: the {len(chosen)} units that are moved most"] if chosen and not units.pages else []
    _foot(made, [*remarks, f"frequency in {axes.unit}"])
    return made


def _map(panel: Panel, values: np.ndarray, axes: Axes, limits: tuple[float, float], colours: object) -> object:
    """Draw channel x frequency of (band, channel); grey where there is no number."""
    panel.set_facecolor("0.9" if colours is DIVERGING else "#f6e7d8")
    rows = np.arange(values.shape[1] + 1) - 0.5
    look = {"cmap": colours, "vmin": limits[0], "vmax": limits[1], "rasterized": True}
    shown = panel.pcolormesh(axes.rings, rows, _masked(values.T), **look)
    panel.set_ylim(rows[-1], rows[0])
    return shown


def _outline(panel: Panel, inside: np.ndarray, axes: Axes) -> None:
    """Draw lines around the cells (channel, band) that are true."""
    padded = np.pad(inside, 1)
    edges = axes.rings
    look = {"color": ACCENT, "linewidth": 0.9, "zorder": 3}
    for row, column in np.argwhere(padded[:, 1:] != padded[:, :-1]):  # upright lines
        panel.plot([edges[column]] * 2, [row - 1.5, row - 0.5], **look)
    for row, column in np.argwhere(padded[1:] != padded[:-1]):
        panel.plot(edges[column - 1 : column + 1], [row - 0.5] * 2, **look)


def polar_fields(units: Units, axes: Axes, title: str = "") -> Figure:
    """Draw the spectral field of units as polar plots: frequency outwards, orientation around, both half planes.

    Args:
        units: of a layer.
        axes: the bands.
        title: above everything.
    """
    values, chosen = units.fields["amplitude"], units.shown("amplitude")
    panels = [(unit, channel) for unit in chosen for channel in range(len(units.channels))]
    columns = len(units.channels) * max(1, 6 // len(units.channels)) if len(units.channels) > 1 else 6
    columns = min(columns, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    made = figure(max(4.2, 1.35 * columns + 0.9), 1.5 * rows + 0.7, title)
    if not panels:
        made.text(0.5, 0.5, "no unit is moved", ha="center", fontsize=8)
        return made
    limit = largest(values[chosen]) or 1.0
    count = len(axes.frequency) // (len(axes.rings) - 1)
    around = np.radians((np.arange(2 * count + 1) - 0.5) * 180 / count)
    grid = made.subplots(rows, columns, subplot_kw={"projection": "polar"}, squeeze=False)
    for panel in grid.ravel()[len(panels) :]:
        panel.set_axis_off()
    for panel, (unit, channel) in zip(grid.ravel(), panels):
        field = _masked(np.tile(axes.by_ring(values[unit, :, channel]), 2))
        panel.set_facecolor("0.9")
        look = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit, "rasterized": True}
        panel.pcolormesh(around, axes.rings, field, **look)
        panel.set_theta_direction(-1)  # orientations turn clockwise, as y points down
        panel.set(ylim=(0, axes.rings[-1]), xticks=[], yticks=[])
        panel.spines["polar"].set(linewidth=0.4, color="0.5")
        named = f" {units.channels[channel]}" if len(units.channels) > 1 else ""
        panel.set_title(f"{units.numbers[unit]}{named}", fontsize=7, pad=2)
    shown = ScalarMappable(Normalize(-limit, limit), DIVERGING)
    bar = made.colorbar(shown, ax=list(grid.ravel()), fraction=0.03, pad=0.02, shrink=min(1.0, 2.0 / rows + 0.2))
    bar.set_label("correlation with log gain", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    asked = "" if units.pages else f"the {len(chosen)} units moved most; "
    outer = f"outwards: {number(axes.rings[0])} to {number(axes.rings[-1])} {axes.unit}"
    _foot(made, [f"{asked}number: unit", outer, "angle: the wave's normal, 0° to the right, clockwise"])
    return made


def depth(
    names: Sequence[str], values: dict[Kind, np.ndarray], nyquist: np.ndarray, axes: Axes, title: str = ""
) -> Figure:
    """Draw the mean of |correlation| against the layer for every kind, and over frequency with each Nyquist limit.

    Args:
        names: of the layers in order.
        values: by kind: mean over units of |correlation|, amplitude (layer, band, channel), phase (layer, band).
        nyquist: (layer,) half the rate of the layer's positions; NaN where it has none.
        axes: the bands.
        title: above everything.
    """
    spread = {kind: _mean_over_frequency(one, axes) for kind, one in values.items()}
    made = figure(3.4 + 3.1 * len(values), max(2.8, 1.6 + 0.2 * len(names)), title)
    panels = made.subplots(1, 1 + len(values), squeeze=False)[0]
    left = panels[0]
    places = np.arange(len(names))
    for which, (kind, one) in enumerate(spread.items()):
        panel = left if which == 0 else left.twinx()
        total = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in one])
        panel.plot(places, total, "os"[which] + "-", color=SERIES[which], markersize=4)
        panel.set_ylabel(f"mean |correlation|, {WORDS[kind]}", fontsize=8, color=SERIES[which])
        panel.tick_params(labelsize=7, colors=SERIES[which], axis="y")
        top = largest(total)
        panel.set_ylim(0, 1.15 * top or 1)
        if not np.isfinite(total).any():
            panel.set_yticks([])
    _layers(left, names, "x")
    for panel, (kind, one) in zip(panels[1:], spread.items()):
        top = largest(one)
        panel.set_facecolor("#f6e7d8")
        rows = np.arange(len(names) + 1) - 0.5
        shown = panel.pcolormesh(axes.rings, rows, _masked(one), cmap=shades("Greys"), vmin=0, vmax=top or 1)
        panel.vlines(np.minimum(nyquist, axes.rings[-1]), places - 0.5, places + 0.5, color=ACCENT, linewidth=1.6)
        panel.set_ylim(rows[-1], rows[0])
        panel.set_title(WORDS[kind] + _said(one), fontsize=8)
        _layers(panel, names, "y")
        _frequency(panel, axes)
        _bar(made, panel, shown, "mean |correlation|")
    remarks = ["mean over units, channels and orientations"]
    remarks += ["red: Nyquist limit of each layer (half the rate of its positions)"] * bool(np.isfinite(nyquist).any())
    missing = any(not np.isfinite(one).all() for one in spread.values())
    _foot(made, remarks + ["tinted: no value (a layer without positions has no phase)"] * missing)
    return made


def _mean_over_frequency(values: np.ndarray, axes: Axes) -> np.ndarray:
    """Return (layer, ring): the mean over channels and orientations of those that have a value."""
    flat = values if values.ndim == 3 else values[..., None]
    rings = np.moveaxis(axes.by_ring(np.moveaxis(flat, 1, -1)), 1, -1)
    rings = rings.reshape(len(values), rings.shape[1], -1)
    known = np.isfinite(rings)
    total = np.where(known, rings, 0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)


def _layers(panel: Panel, names: Sequence[str], which: str) -> None:
    short = [plain(name, most=20) for name in names]
    panel.tick_params(labelsize=7)
    if which == "x":
        upright = max(map(len, short), default=0) * len(short) > 30
        panel.set_xticks(range(len(short)), short, rotation=90 if upright else 0, fontsize=7)
        panel.set_xlim(-0.5, len(short) - 0.5)
        panel.set_xlabel("layer", fontsize=8)
    else:
        panel.set_yticks(range(len(short)), short, fontsize=7)


def _frequency(panel: Panel, axes: Axes) -> None:
    panel.set_xlim(axes.rings[0], axes.rings[-1])
    panel.set_xlabel(f"frequency ({axes.unit})", fontsize=8)
    panel.tick_params(labelsize=7)


def _channels(panel: Panel, channels: Sequence[str]) -> None:
    step = max(1, len(channels) // 8)
    panel.set_yticks(range(0, len(channels), step), [plain(name, most=12) for name in channels[::step]], fontsize=6)


def _bar(made: Figure, panel: Panel, shown: object, label: str) -> None:
    bar = made.colorbar(shown, ax=panel, fraction=0.05, pad=0.02)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6)


def _masked(values: np.ndarray) -> np.ma.MaskedArray:
    """Return values with a mask over what is not finite."""
    known = np.isfinite(values)
    return np.ma.masked_array(np.where(known, values, 0), ~known)


def _said(values: np.ndarray) -> str:
    """Say in a title where there is nothing to see, or something wrong."""
    known, infinite = values[np.isfinite(values)], int(np.isinf(values).sum())
    if infinite:
        return f": {infinite} infinite values"
    if not len(known):
        return ": no values"
    return f": all {number(known[0])}" if np.ptp(known) == 0 else ""


def _which(units: Units, axes: Axes) -> str:
    several = [] if axes.flat else ["orientations"]
    several += ["channels"] if len(units.channels) > 1 else []
    return f"of all {' and '.join(several)} the strongest" if several else ""


def _foot(made: Figure, remarks: Sequence[str]) -> None:
    footer(made, remarks)
