"""Figures of factors: every score and class is there, one class or many, with and without capsules."""

import numpy as np

from cnnprobe.methods.tuning.varied_figures import Readout, curves, decoding, factor_maps

NAMES = ["disc", "ring", "bar"]


def test_scores_have_a_panel_for_each_factor_and_a_line_for_each_read_out():
    scores = {"class": 0.9, "x": 0.5, "turn": np.nan}
    rows = [Readout(f"fc: {kind}", kind, factor, score, score - 0.1, score + 0.1, 0.0, np.array([score, np.nan]))
            for factor, score in scores.items() for kind in ("all", "length")]  # fmt: skip
    made = decoding([row for row in rows if row.kind == "all" or row.factor != "class"], "what is read out")
    assert [ax.get_title() for ax in made.axes] == ["class", "x", "turn"]
    assert [label.get_text() for label in made.axes[0].get_yticklabels()] == ["fc: all", "fc: length"]
    assert [text.get_text() for text in made.axes[2].texts] == ["none", "none"]
    low = decoding([Readout("fc", "all", "x", -3.0, -4.0, -2.0, 0.0, np.array([-3.0]))], "")
    assert any("below the left end" in text.get_text() for text in low.texts)


def test_capsules_are_drawn_class_by_class_and_other_units_one_by_one():
    found = {"x": np.arange(18.0).reshape(3, 6) / 18, "turn": np.full((3, 6), np.nan)}
    made = factor_maps(found, 2, NAMES, "capsules")
    assert np.allclose(made.axes[0].images[0].get_array(), [[0, 1 / 18], [8 / 18, 9 / 18], [16 / 18, 17 / 18]])
    whole = factor_maps(found, 0, NAMES, "units")
    assert np.allclose(whole.axes[0].images[0].get_array()[0], found["x"].mean(0))
    assert whole.axes[0].images[0].get_array().mask[1].all()


def test_curves_have_a_line_for_each_class_and_the_units_own_one_is_bold():
    labels, values = np.repeat([0, 1, 2], 4), np.tile([3.0, 1.0, 2.0, 0.0], 3)
    along = {"x (px)": (np.ones(12, bool), values), "turn (degrees)": (np.zeros(12, bool), values)}
    made = curves([("unit 0", 1, np.arange(12.0)), ("unit 1", None, np.zeros(12))], along, labels, NAMES, "responses")
    lines = made.axes[0].lines
    assert [line.get_linewidth() for line in lines] == [0.9, 1.6, 0.9]
    assert lines[0].get_xdata().tolist() == [0, 1, 2, 3] and lines[0].get_ydata().tolist() == [3, 1, 2, 0]
    assert [ax.get_xlabel() for ax in made.axes] == ["", "", "x (px)", "turn (degrees)"]
