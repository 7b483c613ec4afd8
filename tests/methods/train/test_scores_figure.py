"""Scores of classes: one bar each, the best on top, with their names and figures."""

import numpy as np
import pytest

from cnnprobe.methods.train.scores_figure import scores
from cnnprobe.plots.style import png


def test_bars_are_the_scores_in_their_order():
    values = np.array([0.2, np.nan, 0.9])
    beside = {"guessed": np.array([0.1, 0, 0.3]), "notes": ["x", "y", "z"]}
    (axes,) = scores(values, ["a", "b", "c"], "average precision", **beside).axes
    assert [bar.get_width() for bar in axes.patches] == [0, 0.2, 0.9]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [text.get_text() for text in axes.texts] == ["none  y", "0.200  x", "0.900  z"]
    assert axes.lines[0].get_xdata().tolist() == [0, 0.1, 0.3] and axes.get_xlabel() == "average precision"


@pytest.mark.parametrize("count", [1, 8, 80])
def test_any_number_is_drawn_also_below_zero(count):
    values = np.linspace(-3, 1, count)
    assert png(scores(values, [f"$class {number}" for number in range(count)], "explained share (R²)", title="x"))
