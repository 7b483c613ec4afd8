"""Accuracy against the share of labels: means and deviations over seeds, the control in grey."""

import numpy as np
import pytest

from cnnprobe.methods.transfer.figures.label_fractions import accuracy_by_fraction
from cnnprobe.plots.style import png

FRACTIONS = np.array([0.1, 0.1, 1, 1, 0.1, 0.1, 1, 1])
ACCURACIES = np.array([0.5, 0.7, 0.9, 0.9, 0.3, 0.4, 0.8, 0.6])
MODES = ["scratch"] * 4 + ["full"] * 4


def test_lines_are_means_over_seeds_and_the_control_is_grey():
    made = accuracy_by_fraction(FRACTIONS, ACCURACIES, MODES, ["avatar"] * 8, "net", {"avatar": 0.5})
    (ax,) = made.axes
    full, scratch = ax.containers
    assert (full.get_label(), scratch.get_label()) == ("full", "scratch")
    np.testing.assert_allclose(full.lines[0].get_ydata(), [0.35, 0.7])
    np.testing.assert_allclose(scratch.lines[0].get_ydata(), [0.6, 0.9])
    assert scratch.lines[0].get_color() == "0.5" and scratch.lines[0].get_linestyle() == "--"
    low, high = np.array([bar[:, 1] for bar in full.lines[2][0].get_segments()]).T
    np.testing.assert_allclose((high - low) / 2, [np.std([0.3, 0.4], ddof=1), np.std([0.8, 0.6], ddof=1)])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["10 %", "100 %"]
    assert png(made)


def test_a_panel_for_each_task():
    tasks = ["cue"] * 4 + ["landmark"] * 4
    made = accuracy_by_fraction(FRACTIONS, ACCURACIES, MODES, tasks, "net")
    assert [ax.get_title() for ax in made.axes] == ["cue", "landmark"]
    assert [len(ax.containers) for ax in made.axes] == [1, 1]
    low, high = made.axes[1].get_ylim()
    assert low < ACCURACIES.min() and high > 1  # nothing of any panel is cut off
    assert png(made)


@pytest.mark.parametrize("runs", [0, 1])
def test_few_runs(runs):
    assert png(accuracy_by_fraction(FRACTIONS[:runs], ACCURACIES[:runs] * np.nan, MODES[:runs], ["a"] * runs, "net"))


def test_one_run_has_no_bar():
    """F99: a deviation over n - 1, and none of one run."""
    made = accuracy_by_fraction(np.array([0.1, 0.1, 1.0]), np.array([0.5, 0.7, 0.8]), ["full"] * 3, ["a"] * 3, "t")
    (container,) = made.axes[0].containers
    lengths = [np.ptp(one[:, 1]) / 2 if len(one) else np.nan for one in container.lines[2][0].get_segments()]
    assert lengths == pytest.approx([np.sqrt(0.02), np.nan], nan_ok=True)
