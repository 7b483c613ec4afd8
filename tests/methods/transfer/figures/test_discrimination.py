"""Figures of d' show the numbers they are given, and order units as they say."""

import numpy as np

from cnnprobe.methods.transfer.figures import discrimination
from cnnprobe.plots.style import png

NAN = np.nan


def layer(after):
    """Columns of a layer from d' (unit, class) after."""
    after = np.asarray(after, float)
    best = np.where(np.isnan(after).all(1), NAN, np.nan_to_num(after).max(1))
    columns = {"unit": np.arange(len(after)) + 10, "dprime_after": after, "best_dprime_after": best}
    return columns | {"best_dprime_before": best / 2}


def test_the_best_units_come_first():
    units = {"conv1": layer([[0.5, 0.1], [NAN, NAN]]), "conv2": layer([[0.2, 3.0], [1.0, 0.0]])}
    made = discrimination.task_features(units, ["a", "b"], "net")
    curve, matrix = made.axes[:2]
    assert [text.get_text() for text in matrix.get_yticklabels()] == ["conv2 10", "conv2 11", "conv1 10"]
    np.testing.assert_array_equal(np.asarray(matrix.images[0].get_array()), [[0.2, 3], [1, 0], [0.5, 0.1]])
    assert matrix.images[0].get_clim() == (-3, 3)
    medians = [line.get_ydata().tolist() for line in curve.lines if line.get_marker() == "o"]
    assert medians == [[0.25, 1.0], [0.5, 2.0]]
    assert png(made)


def test_without_any_value_the_axis_still_has_a_scale(recwarn):
    made = discrimination.task_features({"conv1": layer([[NAN, NAN]])}, ["a", "b"], "net")
    assert made.axes[0].get_ylim() == (0, 1) and not list(recwarn)


def test_units_are_ordered_by_the_task_they_serve():
    values = {
        "conv1": np.array([[1.0, 0.1, 2.0, NAN], [0.5, 3.0, 0.0, NAN]]),
        "conv2": np.array([[1.0, 2, 3], [2, 4, 6]]),
    }
    made = discrimination.differing_features(values, ["cue", "land$mark"], "net")
    above, below = made.axes[:2]
    np.testing.assert_array_equal(
        np.asarray(below.images[0].get_array().filled(NAN)), [[2, 1, NAN, 0.1], [0, 0.5, NAN, 3]]
    )
    r = above.lines[0].get_ydata()
    assert r[0] == np.corrcoef([1, 0.1, 2], [0.5, 3, 0])[0, 1] and r[1] == 1
    assert png(made)


def test_many_layers_show_those_that_differ():
    values = {f"conv{n}": np.array([[1.0, 1, 1], [1 + 0.1 * (n % 7), 1, 1]]) for n in range(40)}
    made = discrimination.differing_features(values, ["a", "b"], "net")
    assert len(made.axes[1].images) == discrimination.STRIPS
    assert not any(text.get_text().startswith("conv0 ") for text in made.axes[1].get_yticklabels())
    assert png(made)


def test_nothing_to_compare_is_said():
    assert png(discrimination.task_features({}, ["a"], "x"))
    assert png(discrimination.differing_features({}, ["a", "b"], "x"))
    assert png(discrimination.differing_features({"conv1": np.ones((1, 3))}, ["a"], "x"))
