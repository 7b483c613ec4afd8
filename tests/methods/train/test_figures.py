"""Learning curves show the numbers they are given."""

import numpy as np
import pytest

from cnnprobe.methods.train.figures import learning_curves
from cnnprobe.plots.style import png


def curves(epochs, **changes):
    epoch = np.arange(1, epochs + 1)
    given = {"loss": 1 / epoch, "val_loss": 2 / epoch, "learned": epoch / 10, "held_out": epoch / 20}
    return {"epoch": epoch, "lr": np.full(epochs, 0.1), "chance": 0.25} | given | changes


def test_lines_are_the_numbers():
    given = curves(5)
    loss, accuracy, rate = learning_curves(**given).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [given["loss"].tolist(), given["val_loss"].tolist()]
    assert accuracy.lines[1].get_ydata().tolist() == given["held_out"].tolist()
    assert rate.lines[0].get_ydata().tolist() == [0.1] * 5


def test_chance_and_the_first_best_epoch_are_marked():
    made = learning_curves(**curves(4, held_out=np.array([0.3, 0.7, 0.7, 0.5])))
    accuracy = made.axes[1]
    assert accuracy.get_title() == "best 0.700, epoch 2"
    assert [0.25, 0.25] in [list(line.get_ydata()) for line in accuracy.lines]


@pytest.mark.parametrize("epochs", [0, 1, 300])
def test_any_number_of_epochs_is_drawn(epochs):
    assert png(learning_curves(**curves(epochs), title="a $strange_ title"))


def test_chance_of_either_task_and_the_old_task_before_are_told_apart_in_the_legend():
    """F99: each line is named with its value; no word stands beside another line."""
    old = {"old_accuracy": np.array([0.6, 0.5]), "old_before": 0.142, "old_chance": 0.1}
    accuracy = learning_curves(**curves(2, chance=0.125), **old).axes[1]
    shown = accuracy.get_legend()
    named = dict(zip((text.get_text() for text in shown.get_texts()), shown.get_lines()))
    words = "chance of the new task, 0.125|old task, old readout|old task before, 0.142|chance of the old task, 0.1"
    assert "|".join(named) == words
    level = {tuple(line.get_ydata()): line for line in accuracy.lines}
    assert level[0.125, 0.125].get_color() == named["chance of the new task, 0.125"].get_color()
    assert level[0.1, 0.1].get_linestyle() == level[0.125, 0.125].get_linestyle() == ":"
    assert level[0.142, 0.142].get_linestyle() != ":" and not accuracy.texts
    assert level[0.1, 0.1].get_color() != level[0.125, 0.125].get_color()
    alone = learning_curves(**curves(2)).axes[1].get_legend()
    assert [text.get_text() for text in alone.get_texts()] == ["chance, 0.25"]


def test_another_measure_has_its_name_and_what_guessing_gives():
    given = curves(3, learned=np.array([-5.0, 0.1, 0.5]), held_out=np.array([-0.5, np.nan, 0.4]), chance=0.0)
    measure = learning_curves(**given, measure="explained share (R²)", guess="mean of each channel").axes[1]
    assert measure.get_ylabel() == "explained share (R²)" and measure.get_title() == "best 0.400, epoch 3"
    assert [text.get_text() for text in measure.get_legend().get_texts()] == ["mean of each channel, 0"]
    assert measure.get_ylim()[0] == -1 and measure.texts[0].get_text() == "down to -5"
    alone = learning_curves(**curves(3, learned=None)).axes[1]
    assert alone.lines[0].get_ydata().tolist() == curves(3)["held_out"].tolist()
