"""Curves over epochs: how a network learned."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnnprobe.methods.train.epochs import best_of
from cnnprobe.plots.style import ACCENT, SERIES, figure

LEAST = -1.0
"""Lowest explained share that is drawn: that of a bad first epoch may be any."""


def learning_curves(
    *,
    epoch: np.ndarray,
    loss: np.ndarray,
    val_loss: np.ndarray,
    learned: np.ndarray | None,
    held_out: np.ndarray,
    lr: np.ndarray,
    chance: float,
    measure: str = "accuracy",
    guess: str = "chance",
    old_accuracy: np.ndarray | None = None,
    old_before: float = np.nan,
    old_chance: float = np.nan,
    old_measure: str = "",
    title: str = "",
) -> Figure:
    """Draw loss, measure of the task and learning rate against the epoch, training and held-out images in one panel.

    Args:
        epoch, loss, val_loss, lr: (epoch,); may be empty or a single epoch.
        learned: (epoch,) measure of the training images as they were learned; None: it is not known.
        held_out: (epoch,) of the held-out images.
        chance: measure of guessing, of the task that is learned.
        measure: its name, e.g. "accuracy".
        guess: how it guesses.
        old_accuracy: (epoch,) of a task the network had learned before, in the same panel; None: there is none.
        old_before: the same before the first epoch, drawn at epoch 0; NaN: not known.
        old_chance: accuracy of guessing in the old task; NaN: not known.
        old_measure: name of its measure, where that is another one.
        title: above everything.
    """
    made = figure(8.4, 3.0 if old_accuracy is None else 3.3, title)
    panels = made.subplots(1, 3, width_ratios=(3, 3, 2))
    for axes, label in zip(panels, ("loss", measure, "learning rate")):
        _over_epochs(axes, epoch, label)
    _pair(panels[0], epoch, loss, val_loss)
    _pair(panels[1], epoch, learned, held_out)
    panels[1].set_ylim(0, 1.02)
    task = "" if old_accuracy is None else " of the new task"
    level = panels[1].axhline(chance, color="0.55", linewidth=1, linestyle=":", label=f"{guess}{task}, {chance:.3g}")
    _below_zero(panels[1], *(one for one in (learned, held_out) if one is not None))
    _mark_best(panels[1], epoch, held_out)
    named = [level]
    if old_accuracy is not None:
        named += _old_task(panels[1], epoch, old_accuracy, old_before, old_chance, old_measure)
    look = {"fontsize": 7, "frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    panels[1].legend(handles=named, ncols=min(2, len(named)), **look)
    panels[2].plot(epoch, lr, ".-", color=SERIES[5], markersize=4)
    panels[2].set_ylim(bottom=0)
    panels[0].legend(fontsize=7, frameon=False)
    return made


def _over_epochs(axes: Axes, epoch: np.ndarray, label: str) -> None:
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(epoch):
        axes.set_xlim(0.5, max(epoch[-1], 2) + 0.5)


def _pair(axes: Axes, epoch: np.ndarray, learned: np.ndarray | None, held_out: np.ndarray) -> None:
    """Draw training (as it was learned) and held-out images; points, so that one epoch is seen."""
    if learned is not None:
        axes.plot(epoch, learned, ".-", color=SERIES[0], markersize=4, label="training, as learned")
    axes.plot(epoch, held_out, "o--", color=SERIES[1], markersize=3, label="held out, after the epoch")


def _below_zero(axes: Axes, *values: np.ndarray) -> None:
    """Make room below 0 for explained shares that are negative, as far as `LEAST`; a word says that there is more."""
    least = min((float(np.nanmin(one)) for one in values if np.isfinite(one).any()), default=0.0)
    if least < 0:
        axes.set_ylim(max(1.05 * least, LEAST), 1.02)
    if least < LEAST:
        axes.text(0.02, 0.03, f"down to {least:.3g}", transform=axes.transAxes, fontsize=7, color="0.4")


def _old_task(
    axes: Axes, epoch: np.ndarray, accuracy: np.ndarray, before: float, chance: float, measure: str
) -> list[Line2D]:
    """Draw the old task, what it was before and its chance; return the lines."""
    words = f"old task ({measure}), old readout" if measure else "old task, old readout"
    named = axes.plot([0, *epoch], [before, *accuracy], "s-.", markersize=3, color=SERIES[2], label=words)
    if np.isfinite(before):
        look = {"color": SERIES[2], "linewidth": 0.8, "linestyle": (0, (5, 2))}
        named.append(axes.axhline(before, label=f"old task before, {before:.3g}", **look))
        axes.set_xlim(left=-0.3)
    if np.isfinite(chance):
        look = {"color": SERIES[2], "linewidth": 1, "linestyle": ":"}
        named.append(axes.axhline(chance, label=f"chance of the old task, {chance:.3g}", **look))
    return named


def _mark_best(axes: Axes, epoch: np.ndarray, accuracy: np.ndarray) -> None:
    """Ring the first epoch of the highest accuracy and write the figure above."""
    if not len(epoch):
        return
    best = best_of(accuracy)
    axes.plot(epoch[best], accuracy[best], "o", markersize=9, fillstyle="none", color=ACCENT)
    axes.set_title(f"best {accuracy[best]:.3f}, epoch {epoch[best]}", fontsize=8, color=ACCENT)
