"""Learning from few labels: accuracy against their share, by mode, with the scratch control."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cnnprobe.plots import style
from cnnprobe.plots.canvas import footer

CONTROL = "scratch"
"""The mode that starts from random weights; drawn grey."""
MARKERS = "osD^vP"


def accuracy_by_fraction(
    fractions: np.ndarray,
    accuracies: np.ndarray,
    lines: Sequence[str],
    tasks: Sequence[str],
    title: str,
    chance: dict[str, float] | None = None,
    measure: str = "accuracy",
) -> Figure:
    """Draw what runs are judged by on held-out images, a panel for each task, a line for each mode.

    Runs of one task, line and fraction differ by their seed: the line is their mean, the bar their standard deviation,
    points the runs.

    Args:
        fractions: (run,) share of the labels that was learned, above 0 to 1.
        accuracies: (run,), NaN for none.
        lines: (run,) name of the line, e.g. "full"; those that begin with "scratch" are the control.
        tasks: (run,) name of the task.
        title: of the figure.
        chance: accuracy of guessing, by task.
        measure: its name; all runs are judged by the same.
    """
    if not len(fractions):
        return style.figure(4.5, 0.3, f"{title}\nno runs")
    panels = list(dict.fromkeys(tasks))
    names = sorted(dict.fromkeys(lines), key=lambda name: name.startswith(CONTROL))  # the control last
    made = style.figure(max(4.6, 3.2 * len(panels) + 1.2), 3.2, title)
    axes = made.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    fractions, accuracies = np.asarray(fractions, float), np.asarray(accuracies, float)
    line_of, task_of = np.asarray(lines, object), np.asarray(tasks, object)
    for ax, task in zip(axes, panels):
        for number, name in enumerate(names):
            some = (task_of == task) & (line_of == name) & np.isfinite(accuracies)
            _line(ax, fractions[some], accuracies[some], name, number, len(names))
        if chance and np.isfinite(chance.get(task, np.nan)):
            ax.axhline(chance[task], color="0.4", linewidth=0.8, linestyle=":", label="chance")
        _label(ax, style.plain(task, 40), np.unique(fractions))
    guessed = [level for task, level in (chance or {}).items() if task in panels]
    known = accuracies[np.isfinite(accuracies)].tolist() + guessed
    least = min(known, default=0.0)
    axes[0].set_ylim(max(0.0 if least >= 0 else -1.0, least - 0.04), 1.02)  # of all panels: they share it
    axes[0].set_ylabel(f"{measure} on held-out images", fontsize=8)
    shown = dict(pair for ax in axes for pair in zip(*ax.get_legend_handles_labels()[::-1]))
    axes[-1].legend(shown.values(), shown, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    footer(made, ["line: mean over seeds, bar: their standard deviation, points: runs"])
    return made


def _line(ax: Axes, fractions: np.ndarray, accuracies: np.ndarray, name: str, number: int, count: int) -> None:
    """Draw the runs of one mode in one task."""
    if not len(fractions):
        return
    control = name.startswith(CONTROL)
    colour = "0.5" if control else style.SERIES[number % (len(style.SERIES) - 1)]
    places = np.unique(fractions)
    each = [accuracies[fractions == place] for place in places]
    mean = np.array([values.mean() for values in each])
    deviation = [values.std(ddof=1) if len(values) > 1 else np.nan for values in each]
    shift = 1.03 ** (number - (count - 1) / 2)  # bars of several lines side by side
    ax.plot(fractions * shift * 1.015, accuracies, ".", color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
    look = {"color": colour, "markersize": 4.5, "linewidth": 1.3, "capsize": 2, "label": style.plain(name, 40)}
    ax.errorbar(places * shift, mean, deviation, fmt=MARKERS[number % 6] + ("--" if control else "-"), **look)


def _label(ax: Axes, task: str, fractions: np.ndarray) -> None:
    ax.set_title(task, fontsize=8)
    ax.set_xscale("log")
    ax.set_xticks(fractions)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{style.number(100 * value)} %"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(fractions[0] / 1.4, fractions[-1] * 1.4)
    ax.set_xlabel("share of the labels", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.92", linewidth=0.6)
