"""Figure of `record`: trajectories of the populations of layers along time, and how far they rotate.

A row for each layer: the mean over conditions through time; the rest on its principal components, a line for each
condition; the plane whose rotation explains most; and the R² of linear dynamics and of rotation alone, with those of
permuted conditions. The last two are drawn together or not at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnprobe.instruments.statistics.rotations import LEAST_CONDITIONS
from cnnprobe.methods.record.conditions import ConditionColumn
from cnnprobe.methods.record.trajectories import RotationColumn, StepColumn
from cnnprobe.plots.canvas import footer
from cnnprobe.plots.style import ACCENT, by_depth, figure, number, plain
from cnnprobe.store.reader import Recording, TableView

ROWS = 5
"""Layers in a figure; more have another one."""
NAMED = 12
"""Conditions up to which a legend names them."""
IN_MS = 10.0
"""Seconds up to which time is in ms."""


@dataclass(frozen=True)
class _Layer:
    """What is drawn of a layer.

    Args:
        steps: its trajectories.
        found: its row of the table "rotations", by column.
    """

    steps: TableView[StepColumn]
    found: dict[RotationColumn, np.ndarray]

    @property
    def differs(self) -> bool:
        """Whether conditions differ in anything."""
        return bool(np.isfinite(self.found["variance"][0]))

    @property
    def turns(self) -> bool:
        """Whether dynamics were fitted, and compared with permuted conditions."""
        return bool(np.isfinite(self.found["r2"]))


def all_of(recording: Recording) -> Iterator[tuple[str, Figure]]:
    """Give the figures of a recording; none where no layer runs along time, or nothing is finished."""
    if "rotations" not in recording:
        return
    table: TableView[RotationColumn] = recording["rotations"]
    there = len(table.rows)
    columns = {name: table[name] for name in table}
    views: list[TableView[StepColumn]] = recording.in_order("trajectories")[:there]
    layers = [_Layer(one, {name: columns[name][place] for name in table}) for place, one in enumerate(views)]
    layers = [one for one in layers if one.found["conditions"]]
    for first in range(0, len(layers), ROWS):
        name = "trajectories" + (f"_{first // ROWS + 1}" if first else "")
        yield name, trajectories(recording, layers[first : first + ROWS])


def trajectories(recording: Recording, layers: list[_Layer]) -> Figure:
    """Draw some layers, one below the other."""
    conditions: TableView[ConditionColumn] = recording["conditions"]
    names = [plain(name, 30) for name in conditions["name"]]
    colours = [by_depth(place, len(names)) for place in range(len(names))]
    kinds = [_mean]
    if any(one.differs for one in layers):
        kinds += [_first_and_second, _first_and_third]
    if any(one.turns for one in layers):
        kinds += [_plane, _permutations]
    about = recording.attributes
    kind, several = str(conditions.attributes["of"]), len(names) != 1
    shown = "signal" if len(about.get("size", ())) == 2 else "image"
    what = {"class": "classes" if several else "class", "image": shown + "s" * several}.get(kind)
    what = what or f"level{'s' * several} of {kind}"
    title = f"{about['model']} (weights: {about['weights']}): {len(names)} {what} of {about['dataset']} through time"
    legend = len(names) <= NAMED and len(kinds) > 1
    made = figure(max(4.5, 2.25 * len(kinds) + 0.2 + 1.5 * legend), 2.25 * len(layers) + 0.4, title)
    panels = made.subplots(len(layers), len(kinds), squeeze=False)
    for row, one in zip(panels, layers):
        for axes, draw in zip(row, kinds):
            axes.tick_params(labelsize=6)
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes, one, colours)
        row[0].set_ylabel(f"{plain(one.found['layer'], 24)}\nactivation", fontsize=7)
    if legend:
        lines = [panels[0, 1].plot([], [], color=colour, label=name)[0] for name, colour in zip(names, colours)]
        made.legend(handles=lines, loc="outside right center", fontsize=6.5, frameon=False, title="condition",
                    title_fontsize=7)  # fmt: skip
    footer(made, _remarks(layers, names, str(conditions.attributes.get("sample", "")), len(kinds)))
    return made


def _mean(axes: Axes, one: _Layer, colours: list) -> None:
    """Draw the mean over conditions through time, on components of its own."""
    time, word = one.steps["time"], "step"
    if one.steps.attributes["time_unit"] == "s":
        unit, scale = ("ms", 1000) if np.abs(time).max() < IN_MS else ("s", 1)
        time, word = time * scale, f"time ({unit}; a step is {number(float(one.found['step']) * scale)})"
    drawn = False
    for place, (values, share) in enumerate(zip(one.steps["mean"].T, one.found["mean_variance"])):
        if np.isfinite(share):
            grey = str(0.1 + 0.28 * place)
            axes.plot(time, values, color=grey, linewidth=1.1, label=f"PC {place + 1}: {100 * share:.0f} %")
            drawn = True
    if drawn:
        axes.legend(fontsize=5.5, frameon=False, loc="best", handlelength=1.2, borderaxespad=0.2)
    else:
        _say(axes, "it is constant")
    axes.set_xlabel(word, fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    depends = one.found["condition_variance"]
    left = f"\n{100 * (1 - depends):.0f} % of the variance" if np.isfinite(depends) else ""
    axes.set_title(f"mean over conditions{left}", fontsize=7)


def _first_and_second(axes: Axes, one: _Layer, colours: list) -> None:
    _components(axes, one, colours, 1)


def _first_and_third(axes: Axes, one: _Layer, colours: list) -> None:
    _components(axes, one, colours, 2)


def _components(axes: Axes, one: _Layer, colours: list, other: int) -> None:
    """Draw each condition's activity less the mean, on the first and another principal component."""
    share = one.found["variance"]
    if not one.differs:
        return _say(axes, "nothing differs\nbetween conditions")
    if not np.isfinite(share[other]):
        return _say(axes, f"no component {other + 1}")
    _lines(axes, one.steps["components"][:, :, [0, other]], colours)
    axes.set_xlabel(f"PC 1 ({100 * share[0]:.0f} %)", fontsize=7)
    axes.set_ylabel(f"PC {other + 1} ({100 * share[other]:.0f} %)", fontsize=7, labelpad=1)
    if other == 1:
        axes.set_title(f"less that mean\n{100 * one.found['condition_variance']:.0f} % of the variance", fontsize=7)
    return None


def _plane(axes: Axes, one: _Layer, colours: list) -> None:
    """Draw each condition in the plane whose rotation explains most."""
    if not one.turns:
        return _say(axes, _why_none(one))
    if not np.isfinite(one.found["angle"][0]):
        return _say(axes, "no rotation")
    _lines(axes, one.steps["plane"], colours)
    angle, hertz = one.found["angle"][0], one.found["frequency"][0]
    speed = f"{number(hertz)} Hz" if np.isfinite(hertz) else f"{number(angle)} rad/step"
    part = f"{100 * one.found['plane_variance'][0]:.0f} % of what is left"
    axes.set_title(f"plane of rotation: {speed}\nR² {one.found['plane_r2'][0]:.2f}, {part}", fontsize=7)
    axes.set_xlabel("jPC 1", fontsize=7)
    axes.set_ylabel("jPC 2", fontsize=7, labelpad=1)
    return None


def _permutations(axes: Axes, one: _Layer, colours: list) -> None:
    """Draw the R² of linear dynamics and of rotation, of the conditions and of permuted ones."""
    if not one.turns:
        return _say(axes, _why_none(one))
    free, skew = one.found["r2"], one.found["skew_r2"]
    permuted = one.found["permuted_r2"], one.found["permuted_skew_r2"]
    end = 1.12 * max(0.1, float(free), float(np.max(permuted[0])))
    axes.plot([0, end], [0, end], ":", color="0.6", linewidth=0.8, zorder=0)
    axes.plot(*permuted, ".", color="0.6", markersize=3, markeredgewidth=0, zorder=1, clip_on=False)
    axes.plot(free, skew, "o", color=ACCENT, markersize=5, markeredgewidth=0, zorder=2, clip_on=False)
    axes.set(xlim=(-0.04 * end, end), ylim=(-0.04 * end, end), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("R² of linear dynamics", fontsize=7)
    axes.set_ylabel("R² of rotation alone", fontsize=7, labelpad=1)
    chances = f"p = {one.found['p']:.2g}; of its share: {one.found['p_ratio']:.2g}"
    axes.set_title(f"rotation: R² {skew:.2f} of {free:.2f}\n{chances}", fontsize=7)
    return None


def _lines(axes: Axes, values: np.ndarray, colours: list) -> None:
    """Draw (time, condition, 2) as lines on axes of one scale; a dot at the first step of each."""
    many = values.shape[1] > NAMED
    for place, colour in enumerate(colours):
        own = values[:, place]
        if np.isfinite(own).all():
            axes.plot(*own.T, color=colour, linewidth=0.5 if many else 0.9, alpha=0.6 if many else 0.85)
            axes.plot(*own[0], ".", color=colour, markersize=2.5 if many else 4, markeredgewidth=0)
    axes.set_aspect("equal", adjustable="datalim")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def _say(axes: Axes, words: str) -> None:
    """Write in the place of a panel why there is nothing."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, transform=axes.transAxes, fontsize=7, ha="center", va="center", color="0.35")


def _why_none(one: _Layer) -> str:
    if not one.differs:
        return "nothing differs\nbetween conditions"
    return "2 conditions:\nrotations need 3" if _is_few(one) else "nothing changes\nfrom step to step"


def _is_few(one: _Layer) -> bool:
    return one.differs and int(one.found["conditions"]) < LEAST_CONDITIONS


def _remarks(layers: list[_Layer], names: list[str], sample: str, panels: int) -> list[str]:
    """Say how it is to be read."""
    said = [sample]
    if panels > 1:
        said.append("dots: first step")
        if len(names) > NAMED:
            said.append(f"dark to light: conditions in their order, {names[0]} to {names[-1]}")
    if not all(one.differs for one in layers):
        lone = min(int(one.found["conditions"]) for one in layers) < 2
        said.append(f"{'one condition' if lone else 'conditions do not differ'}: nothing is left without the mean")
    if any(_is_few(one) for one in layers):
        said.append("no rotations are fitted to 2 conditions")
    if any(one.turns for one in layers):
        said.append("red: R² of x(t + 1) - x(t) = M x(t) on 6 principal components, any M and M = -M'")
        said.append("grey: with permuted conditions; its share: R² of rotation / of linear dynamics")
    for one in layers:
        units, every = one.found["units"], one.found["features"]
        if units < every:
            said.append(f"{plain(one.found['layer'], 24)}: {units} of {every} units, drawn by the seed")
    return said
