"""What lesions cost a network that returns courses: by target, by share, by channel, and courses beside the true ones.

Drawn is the unexplained share, 1 - R², on a logarithmic scale: 1 is what the mean of each channel leaves unexplained.
"""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from cnnprobe.datasets.base.targets import groups_of
from cnnprobe.methods.lesion.courses import CourseColumn
from cnnprobe.methods.lesion.figures import MANY, WORDS, Lesions
from cnnprobe.plots.canvas import footer
from cnnprobe.plots.style import ACCENT, SERIES, by_depth, figure, plain, shades
from cnnprobe.store.reader import TableView

LEAST = 1e-4
"""What is less is drawn here."""
LABEL = "unexplained share, 1 − R²"
EVERY = "all channels"
SHOWN, PANELS = 6, 5
"""Lesions and channels whose courses are drawn."""
Parts = dict[str, tuple[np.ndarray, np.ndarray]]
"""Unexplained shares (lesion,) intact and lesioned, by group of channels."""


def all_of(lesions: Lesions, courses: TableView[CourseColumn], title: str) -> Iterator[tuple[str, Figure]]:
    """Give the figures that the lesions have something to show in."""
    few = [layer for layer in lesions.layers if not lesions.many(layer)]
    if few:
        yield "loss", by_target(lesions, few, title)
    if len(np.unique(lesions["share"])) > 1:
        yield "shares", by_share(lesions, title)
    if few and len(lesions.classes) > 1:
        yield "channels", by_channel(lesions, few, title)
    if len(courses.rows):
        yield "courses", examples(lesions, courses, title)


def parts_of(lesions: Lesions) -> Parts:
    """Return what is drawn: the groups of channels, or all channels together."""
    names = list(groups_of(lesions.classes))
    if "group_after" not in lesions.table or len(names) != lesions["group_after"].shape[1]:
        return {EVERY: (_left(lesions["before"]), _left(lesions["after"]))}
    return {name: (_left(lesions["group_before"][:, place]), _left(lesions["group_after"][:, place]))
            for place, name in enumerate(names)}  # fmt: skip


def _left(explained: np.ndarray) -> np.ndarray:
    return np.maximum(1 - explained, LEAST)


def _named(lesions: Lesions, row: int) -> str:
    """Return what is taken out, and what stands in where that is not the same everywhere."""
    name = plain(lesions["target"][row], 30)
    return name if len(lesions.ways) < 2 else f"{name} ({lesions['how'][row]})"


def by_target(lesions: Lesions, layers: list[str], title: str) -> Figure:
    """Draw the unexplained share after each lesion, of each group of channels, beside random lesions."""
    parts, most = parts_of(lesions), np.float32(lesions["share"].max())
    rows = lesions.rows(share=most)
    rows = rows[np.isin(lesions["layer"][rows], layers)]
    targets = list(dict.fromkeys(_named(lesions, row) for row in rows))
    made = figure(6.8, 1.2 + (0.2 + 0.09 * len(parts)) * len(targets), title)
    panel = made.subplots()
    for place, (name, (before, after)) in enumerate(parts.items()):
        shift = (place - (len(parts) - 1) / 2) * 0.24
        others = lesions.rows(controls=True, share=most)
        others = others[np.isin(lesions["layer"][others], layers)]
        heights = np.array([targets.index(_named(lesions, row)) for row in others]) + shift
        panel.plot(after[others], heights, "|", color="0.6", markersize=6, markeredgewidth=0.7, zorder=1)
        heights = np.array([targets.index(_named(lesions, row)) for row in rows]) + shift
        panel.plot(
            after[rows], heights, "osD^v"[place % 5], color=SERIES[place % len(SERIES)], markersize=5, label=name
        )
        panel.axvline(before[rows[0]], color=SERIES[place % len(SERIES)], linestyle="--", linewidth=1)
    panel.axvline(1, color="0.6", linewidth=0.8)
    panel.set_xscale("log")
    _plain(panel.xaxis)
    panel.set_yticks(range(len(targets)), targets, fontsize=8)
    panel.set_ylim(len(targets) - 0.5, -0.5)
    panel.set_xlabel(LABEL, fontsize=8)
    panel.grid(axis="x", color="0.92", linewidth=0.6)
    panel.tick_params(axis="x", labelsize=8)
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    said = [_images(lesions), "dashed: intact", "grey line: the mean of each channel"]
    said += [f"{most:g} of the units"] * bool(most < 1)
    said += ["grey strokes: random lesions of as many other units"] * bool((lesions["control"] >= 0).any())
    footer(made, said + _replaced(lesions))
    return made


def _plain(axis: Axis) -> None:
    """Write powers of ten as numbers: texts of figures are shown as they are, without mathematics."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _images(lesions: Lesions) -> str:
    return f"{int(lesions['images'].max())} images"


def _replaced(lesions: Lesions) -> list[str]:
    """Say what stands in, where that is the same everywhere."""
    return [f"activation {WORDS[lesions.ways[0]]}"] if len(lesions.ways) == 1 else []


def by_share(lesions: Lesions, title: str) -> Figure:
    """Draw the unexplained share against the share of units taken out, a panel for each group of channels."""
    parts = parts_of(lesions)
    rows = lesions.rows()
    targets = list(dict.fromkeys(_named(lesions, row) for row in rows))[:MANY]
    made = figure(1.6 + 2.7 * len(parts), 3.1, title)
    panels = made.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for panel, (name, (before, after)) in zip(panels, parts.items()):
        for place, target in enumerate(targets):
            own = np.array([row for row in rows if _named(lesions, row) == target])
            shares, colour = lesions["share"][own], by_depth(place, len(targets))
            panel.plot(shares, after[own], "o", color=colour, markersize=3, alpha=0.5)
            means = [
                (0.0, before[own[0]]),
                *((one, _mean(after[own][shares == one])) for one in np.unique(shares) if one),
            ]
            panel.plot(*np.transpose(means), color=colour, linewidth=1.4, label=target)
        panel.axhline(1, color="0.6", linewidth=0.8)
        panel.set_yscale("log")
        _plain(panel.yaxis)
        panel.set_xlim(-0.03, 1.03)
        panel.set_title(name, fontsize=8)
        panel.set_xlabel("share of the units taken out", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(color="0.92", linewidth=0.6)
    panels[0].set_ylabel(LABEL, fontsize=8)
    panels[-1].legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    draws = int(lesions["draw"].max()) + 1
    said = [_images(lesions), f"points: {draws} random choices, lines: their means", "grey: the mean of each channel"]
    footer(made, said + _replaced(lesions))
    return made


def _mean(values: np.ndarray) -> float:
    """Return the mean on a logarithmic scale."""
    return float(np.exp(np.log(values).mean()))


def by_channel(lesions: Lesions, layers: list[str], title: str) -> Figure:
    """Draw the unexplained share of each channel after each lesion, below that of the intact network."""
    rows = lesions.rows(share=np.float32(lesions["share"].max()), draw=0)
    rows = rows[np.isin(lesions["layer"][rows], layers)]
    values = _left(np.concatenate([lesions["class_before"][rows[:1]], lesions["class_after"][rows]]))
    names = ["intact", *(_named(lesions, row) for row in rows)]
    made = figure(2.6 + 0.5 * len(lesions.classes), 1.7 + 0.25 * len(names), title)
    panel = made.subplots()
    panel.set_facecolor("0.85")
    image = panel.imshow(values, norm=LogNorm(1e-3, 10), cmap=shades("Reds"), aspect="auto", interpolation="nearest")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if np.isfinite(value) and len(lesions.classes) <= 16:
                dark = {"color": "white" if value > 1 else "black", "fontsize": 6, "ha": "center", "va": "center"}
                panel.text(column, row, _short(value), **dark)
    panel.set_yticks(range(len(names)), names, fontsize=7)
    labels = lesions.classes if len(lesions.classes) <= 48 else []
    panel.set_xticks(range(len(labels)), labels, fontsize=7, rotation=90)
    panel.axhline(0.5, color="black", linewidth=1)
    bar = made.colorbar(image, ax=panel, fraction=0.06, pad=0.02, extend="both")
    bar.set_label(LABEL, fontsize=7)
    _plain(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=6)
    footer(made, [_images(lesions), *_replaced(lesions)])
    return made


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}".lstrip("0")


def examples(lesions: Lesions, courses: TableView[CourseColumn], title: str) -> Figure:
    """Draw the courses of one image intact and with the lesions that cost most; rows are channels."""
    own = lesions.rows(share=np.float32(lesions["share"].max()), draw=0)
    order = own[np.argsort(-np.nan_to_num(lesions["loss"][own], nan=-np.inf), kind="stable")]
    chosen = [int(row) for row in dict.fromkeys(order[:SHOWN])]
    channels = _spread(lesions.classes)
    image, rate = min(1, len(courses.rows) - 1), courses.attributes.get("rate")
    made = figure(1.9 * (len(chosen) + 1) + 0.6, 0.95 * len(channels) + 0.8, title)
    panels = made.subplots(len(channels), len(chosen) + 1, squeeze=False, sharex=True, sharey="row")
    time = courses.attributes.get("start", 0.0) + np.arange(courses["truth"].shape[2]) / (rate or 1.0)
    for column, lesion in enumerate([None, *chosen]):
        panels[0, column].set_title("intact" if lesion is None else f"without {_named(lesions, lesion)}", fontsize=7)
        panels[-1, column].set_xlabel("time (s)" if rate else "time (samples)", fontsize=7)
        values = courses["intact"][image] if lesion is None else courses["lesioned"][image, lesion]
        for row, channel in enumerate(channels):
            _course(panels[row, column], time, courses["truth"][image, channel], values[channel], bool(rate))
    for row, channel in enumerate(channels):
        panels[row, 0].set_ylabel(plain(lesions.classes[channel], 18), fontsize=7)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    return made


def _course(panel: Axes, time: np.ndarray, truth: np.ndarray, made: np.ndarray, clock: bool) -> None:
    panel.plot(time, truth, color="0.25", linewidth=1.1, label="true")
    panel.plot(time, made, "--", color=ACCENT, linewidth=1.1, label="network")
    if clock and time[0] < 0 < time[-1]:
        panel.axvline(0, color="0.7", linewidth=0.7)
    panel.tick_params(labelsize=6)
    panel.spines[["top", "right"]].set_visible(False)


def _spread(names: list[str]) -> list[int]:
    """Return which channels are drawn: the first ones of each group."""
    groups = list(groups_of(names).values()) or [list(range(len(names)))]
    turns = [channel for places in zip_longest(*groups) for channel in places if channel is not None]
    return sorted(turns[:PANELS])
