"""Scores of classes or channels, one bar each, beside what guessing gives."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cnnprobe.plots.style import SERIES, apart, figure

NAMED = 60
"""Up to so many each one is named and has its figure beside the bar."""


def scores(
    values: np.ndarray,
    names: Sequence[str],
    what: str,
    title: str = "",
    guessed: np.ndarray | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw a score of each class or channel, the best on top.

    Args:
        values: (class,), at most 1; NaN where there is none.
        names: of the classes or channels.
        what: the score's name, on the axis.
        title: above everything.
        guessed: (class,) of guessing, drawn as a tick; None: 0.
        notes: what is said of each behind its score.
    """
    order = np.argsort(np.where(np.isfinite(values), values, -np.inf), kind="stable")
    places, count = np.arange(len(values)), len(values)
    made = figure(5.6, min(9.0, max(1.9, 1.1 + 0.2 * count)), title)
    axes = made.subplots()
    shown = values[order]
    axes.barh(places, np.nan_to_num(shown).clip(-1), height=0.75, color=SERIES[0], alpha=0.45)
    if guessed is not None:
        line = axes.plot(guessed[order], places, "|", color="0.25", markersize=7, markeredgewidth=1.2, label="chance")
        axes.legend(handles=line, fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16))
    low = min(0.0, float(np.nanmin(shown, initial=0.0)))
    axes.set_xlim(max(-1.0, 1.05 * low), 1)
    axes.set_xlabel(what, fontsize=8)
    axes.tick_params(labelsize=7, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.axvline(0, color="0.3", linewidth=0.8)
    if count > NAMED:
        axes.set_yticks([])
        axes.set_ylabel(f"{count} classes, by their score", fontsize=8)
        return made
    labels = apart(names, most=24)
    axes.set_yticks(places, [labels[one] for one in order])
    for place, one in zip(places, order):
        words = f"{values[one]:.3f}" if np.isfinite(values[one]) else "none"
        axes.text(1.02, place, "  ".join([words, *notes[one : one + 1]]), va="center", fontsize=7)
    return made
