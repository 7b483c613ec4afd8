"""Scores by class: bars from the best to the worst, with what guessing gives."""

import numpy as np
import pytest

from cnnprobe.plots.scores import NAMED, scores
from cnnprobe.plots.style import png


def test_bars_rise_to_the_best_and_name_what_has_no_score():
    made = scores(np.array([0.5, np.nan, 0.9]), ["a", "b", "c"], "average precision", "t", np.array([0.1, 0.2, 0.3]),
                  ["1 image", "0 images", "2 images"])  # fmt: skip
    (axes,) = made.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, 0.5, 0.9])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [text.get_text() for text in axes.texts] == ["none  0 images", "0.500  1 image", "0.900  2 images"]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([0.2, 0.1, 0.3])
    assert png(made).startswith(b"\x89PNG")


def test_many_classes_have_no_names_and_shares_below_zero_have_room():
    many = scores(np.linspace(-3, 1, NAMED + 1), list(map(str, range(NAMED + 1))), "explained share")
    (axes,) = many.axes
    assert not axes.texts and not len(axes.get_yticks())
    assert axes.get_xlim() == (-1, 1)
