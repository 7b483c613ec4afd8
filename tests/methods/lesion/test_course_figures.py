"""Figures of lesions of courses, from a store: what they show of it."""

import numpy as np
import pytest

from cnnprobe.methods.lesion import course_figures
from cnnprobe.methods.lesion.figures import Lesions


def lesions(**columns):
    """Two lesions of a network with two groups of channels, one of them with a random one beside it."""
    table = {
        "layer": np.array(["AIP", "AIP", "AIP", "M1"], object), "target": np.array(["AIP", "AIP", "AIP", "M1"], object),
        "group": np.array(["all"] * 4, object), "how": np.array(["zero"] * 4, object), "units": np.array([2, 4, 4, 4]),
        "share": np.array([0.5, 1, 1, 1], np.float32), "draw": np.zeros(4, int), "control": np.array([-1, -1, 0, -1]),
        "images": np.full(4, 9), "before": np.full(4, 0.9), "after": np.array([0.5, 0.4, 0.8, -3]),
        "loss": np.array([0.4, 0.5, 0.1, 3.9]), "class_changed": np.full((4, 3), np.nan),
        "class_before": np.full((4, 3), 0.9),
        "class_after": np.array([[0.9, 0.5, 0.4], [0.9, 0, -1], [0.9] * 3, [-3] * 3]),
        "group_before": np.full((4, 2), 0.9),
        "group_after": np.array([[0.9, 0.45], [0.9, -0.5], [0.9, 0.9], [-3, -3.0]]),
    }  # fmt: skip
    return Lesions(table | columns, "explained", ["reach/arm", "hand/grip", "hand/turn"], "")


def test_unexplained_shares_are_drawn_by_group_beside_random_lesions():
    made = course_figures.by_target(lesions(), ["AIP", "M1"], "a title")
    (panel,) = made.axes
    drawn = {line.get_label(): line.get_xdata() for line in panel.lines}
    np.testing.assert_allclose(drawn["reach"], [0.1, 4])
    np.testing.assert_allclose(drawn["hand"], [1.5, 4])
    assert [one.get_text() for one in panel.get_yticklabels()] == ["AIP", "M1"]
    made.canvas.draw()
    assert "0.1" in [one.get_text() for one in panel.get_xticklabels()]
    strokes = [line for line in panel.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(np.concatenate([line.get_xdata() for line in strokes]), [0.1, 0.1])


def test_shares_begin_at_the_intact_network():
    made = course_figures.by_share(lesions(), "a title")
    assert [axes.get_title() for axes in made.axes] == ["reach", "hand"]
    line = next(line for line in made.axes[1].lines if line.get_label() == "AIP")
    np.testing.assert_allclose(line.get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(line.get_ydata(), [0.1, 0.55, 1.5])


def test_channels_without_groups_are_drawn_together():
    found = course_figures.parts_of(lesions(group_after=np.zeros((4, 1))))
    assert list(found) == ["all channels"]
    np.testing.assert_allclose(found["all channels"][1], [0.5, 0.6, 0.2, 4])


def test_each_channel_has_its_share_below_that_of_the_intact_network():
    made = course_figures.by_channel(lesions(), ["AIP", "M1"], "a title")
    (image,) = made.axes[0].images
    np.testing.assert_allclose(image.get_array(), 1 - np.array([[0.9] * 3, [0.9, 0, -1], [-3] * 3]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a/1", "a/2", "a/3", "a/4", "b/1", "b/2", "b/3"], [0, 1, 2, 4, 5]), (list("abcdefg"), [0, 1, 2, 3, 4])],
)
def test_channels_that_are_drawn_are_of_every_group(names, expected):
    assert course_figures._spread(names) == expected
