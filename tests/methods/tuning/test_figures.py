"""Figures of tuning curves are drawn for curves of any kind: one value, no number, infinite, none."""

import numpy as np
import pytest
from matplotlib.patches import Circle

from cnnprobe.methods.tuning.figures import Panel, hue_colours, polar_sheet, population, unit_curves
from cnnprobe.plots.style import png

ANGLES = np.arange(8) * 22.5


def texts(made):
    return " ".join(text.get_text() for text in made.findobj(lambda one: hasattr(one, "get_text")))


def test_a_lobe_lies_along_the_bars_and_reaches_the_circle():
    """Orientation 0 has upright bars: the lobe goes up and down."""
    made = polar_sheet(np.eye(8)[[0]], ANGLES, ["7"], ["0.10, 9°"], "one unit")
    (shape,) = made.axes[0].collections[0].get_paths()
    around = shape.vertices - shape.vertices.mean(0)
    assert np.ptp(around[:, 1]) > 30
    assert np.ptp(around[:, 0]) < 1e-6
    assert "7\n0.10, 9°" in texts(made)
    (circle,) = made.axes[0].findobj(Circle)
    assert np.ptp(around[:, 1]) == pytest.approx(2 * circle.radius)
    assert png(made)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_curve_that_is_no_number_is_hatched_and_counted(value):
    curves = np.ones((3, 8))
    curves[1, 2] = value
    made = polar_sheet(curves, ANGLES, list("abc"), [""] * 3, "three units")
    assert "1 units hatched" in made.get_suptitle()
    assert [bool(one.get_hatch()) for one in made.axes[0].findobj(Circle)] == [False, True, False]
    assert len(made.axes[0].collections[0].get_paths()) == 2
    assert png(made)


def test_dead_units_are_points_and_no_units_are_no_curves():
    made = polar_sheet(np.zeros((2, 8)), ANGLES, ["0", "1"], ["", ""], "dead")
    assert not len(made.axes[0].collections[0].get_paths())
    assert len(made.axes[0].lines) == 2
    assert png(polar_sheet(np.zeros((0, 8)), ANGLES, [], [], "none"))


KINDS = {
    "line": Panel("line", ANGLES, np.arange(8.0), "x", "note", (10.0, 30.0, 3.5)),
    "log": Panel("log", np.geomspace(0.03, 0.4, 8), np.arange(8.0), "f", "", (np.nan, 0.3, 3.5)),
    "polar": Panel("polar", ANGLES * 2, np.arange(8.0), "d"),
    "words": Panel("words", np.array(["A", "B", "ring"]), np.array([1.0, 0, 2]), "w"),
    "hues": Panel("hues", np.arange(12) * 30.0, np.ones(12), "h"),
}


@pytest.mark.parametrize("fill", [None, 0.0, 3.0, np.nan, np.inf])
def test_every_kind_of_panel_is_drawn_with_every_kind_of_value(fill):
    """F81."""
    from dataclasses import replace

    rows = []
    for name in ("unit 1", "unit 2"):
        panels = [one if fill is None else replace(one, y=np.full(len(one.x), fill)) for one in KINDS.values()]
        rows.append((name, panels))
    made = unit_curves(rows, "all kinds")
    words = texts(made)
    assert words.count("no number") == (10 if fill is not None and not np.isfinite(fill) else 0)
    assert ("infinite" in words) == (fill == np.inf)
    assert "unit 2" in words
    assert png(made)


def test_no_units_and_no_points():
    assert png(unit_curves([], "nothing"))
    empty = Panel("line", np.zeros(0), np.zeros(0), "x")
    assert "not shown" in texts(unit_curves([("unit 0", [empty])], "empty"))


def test_half_widths_go_around_the_circle():
    panel = Panel("line", ANGLES, np.array([4.0, 2, 0, 0, 0, 0, 1, 3]), "orientation", "", (-20.0, 22.0, 2.0))
    ax = unit_curves([("u", [panel])], "around").axes[0]
    spans = sorted(tuple(line.get_xdata()) for line in ax.lines[1:])
    assert spans == [(0, 22), (160, 157.5)] or spans == [(0.0, 22.0), (160.0, 157.5)]


def test_a_fit_is_drawn_over_the_points():
    x = np.array([0.1, 1.0])
    panel = Panel("log", x, x, "contrast", "", None, (x, 2 * x))
    ax = unit_curves([("u", [panel])], "fit").axes[0]
    assert ax.lines[1].get_ydata().tolist() == [0.2, 2.0]
    assert ax.lines[0].get_linestyle() == "None"


def test_hues_have_the_colours_of_their_discs():
    assert hue_colours(np.array([0.0])).tolist()[0] == pytest.approx([0.75, 0.375, 0.375])


def test_histograms_count_what_is_missing():
    one = {name: np.array([0.2, np.nan, np.inf]) for name in
           ("preferred", "bandwidth", "circular_variance", "preferred_frequency", "f1_f0")}  # fmt: skip
    none = {name: np.full(2, np.nan) for name in one}
    made = population({"conv1": one, "conv2": none}, "two layers")
    words = texts(made)
    assert "1 units, 2 without" in words
    assert words.count("no number") == 5
    assert words.count("circular variance") == words.count("F1/F0") == 1
    assert sum(patch.get_height() for patch in made.axes[0].patches) == 1
    assert png(made)
    assert png(population({}, "nothing"))
