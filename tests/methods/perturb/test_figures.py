"""Figures of spectra: what stands where, and maps of one value, NaN, infinite, none (F81)."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from cnnprobe.methods.perturb import figures as spectra
from cnnprobe.plots.style import png

SIGNALS = spectra.Axes(
    frequency=np.array([10.0, 30.0, 60.0]),
    orientation=np.full(3, np.nan),
    edges=np.array([[0.0, 20], [20, 40], [40, 80]]),
    unit="Hz",
    planted=((0, 1, 30.0),),
)
IMAGES = spectra.Axes(
    frequency=np.repeat([0.1, 0.3], 4),
    orientation=np.tile([0.0, 45, 90, 135], 2),
    edges=np.repeat([[0.03, 0.2], [0.2, 0.5]], 4, axis=0),
    unit="cycles per px",
)


def units(values, kinds=("amplitude", "phase"), channels=("0", "1"), pages=(), null=0.1):
    fields = {kind: values if kind == "amplitude" else values[..., 0] for kind in kinds}
    count = len(values)
    return spectra.Units(np.arange(count), fields, {kind: np.full(count, null) for kind in kinds}, channels, pages)


def words(made):
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in made.findobj(Text))


def planted():
    values = np.zeros((4, 3, 2), np.float32)
    values[0, 2, 1], values[1, 0, 0], values[2, 1, 1], values[3, 1, 0] = -0.8, 0.5, 0.9, 0.01
    return values


def test_units_are_sorted_by_the_frequency_that_moves_them_most():
    made = spectra.unit_matrix(units(planted()), SIGNALS, 50.0, "a layer")
    panel = made.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["1", "2", "0", "3"]
    shown = panel.collections[0].get_array().reshape(4, 3)
    assert np.allclose(shown, [[0.5, 0, 0], [0, 0.9, 0], [0, 0, -0.8], [0, 0.01, 0]])
    assert "above the line: 3 of 4 units with a value beyond chance" in words(made)
    assert [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == "--"] == [50.0]


def test_the_mean_over_units_is_outlined_where_it_exceeds_chance():
    mean = np.abs(planted()).mean(0)
    made = spectra.channel_maps(units(planted(), pages=(2,)), SIGNALS, (mean, 0.15), "a layer")
    panel = made.axes[0]
    assert np.allclose(panel.collections[0].get_array().reshape(2, 3), mean.T)
    outline = {tuple(np.round([*line.get_xdata(), *line.get_ydata()], 1)) for line in panel.lines[:-1]}
    assert len(outline) == 6  # two cells beside each other in one channel: two uprights and four level lines
    circle = panel.lines[-1]
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (30.0, 1)
    assert "unit 2" in words(made) and "unit 0" not in words(made) and "0.150" in words(made)


def test_polar_fields_show_both_half_planes():
    values = np.zeros((2, 8, 1), np.float32)
    values[1, 5, 0] = 0.7  # ring 1, 45 degrees
    made = spectra.polar_fields(units(values, ("amplitude",), ("all",)), IMAGES, "a layer")
    assert len([panel for panel in made.axes if panel.name == "polar"]) == 1  # the other unit is not moved
    shown = made.axes[0].collections[0].get_array().reshape(2, 8)
    assert np.argwhere(shown > 0).tolist() == [[1, 1], [1, 5]]
    assert made.axes[0].get_theta_direction() == -1


def test_depth_has_a_curve_for_each_kind_and_the_limit_of_each_layer():
    values = {"amplitude": np.full((3, 3, 2), 0.2), "phase": np.tile([[0.3], [0.2], [np.nan]], (1, 3))}
    made = spectra.depth(["a", "b", "c"], values, np.array([62.5, 20.8, np.nan]), SIGNALS, "a network")
    left = made.axes[0].lines[0]
    assert np.allclose(left.get_ydata(), 0.2)
    limits = next(one for one in made.axes[1].collections if isinstance(one, LineCollection))
    ends = [segment[0][0] for segment in limits.get_segments() if len(segment) and np.isfinite(segment).all()]
    assert ends == [62.5, 20.8]
    assert "has no phase" in words(made)


HARD = {
    "one value": np.full((3, 3, 2), 0.25),
    "zero": np.zeros((3, 3, 2)),
    "not a number": np.full((3, 3, 2), np.nan),
    "infinite": np.where(np.arange(18).reshape(3, 3, 2) % 5 == 0, np.inf, 0.1),
    "some missing": np.where(np.arange(18).reshape(3, 3, 2) % 4 == 0, np.nan, 0.1),
    "no unit": np.zeros((0, 3, 2)),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_values_are_drawn(name):
    """F81."""
    values = HARD[name].astype(np.float32)
    shown = units(values, null=np.nan)
    with np.errstate(all="raise"):
        figures = [spectra.unit_matrix(shown, SIGNALS, np.nan, name)]
        mean = np.abs(values).mean(0) if len(values) else np.full((3, 2), np.nan)
        figures.append(spectra.channel_maps(shown, SIGNALS, (mean, np.nan), name))
        figures.append(spectra.depth(["a"], {"amplitude": mean[None]}, np.array([np.nan]), SIGNALS, name))
        wide = np.resize(values, (len(values), 8, 1)) if len(values) else np.zeros((0, 8, 1), np.float32)
        figures.append(spectra.polar_fields(units(wide, ("amplitude",), ("all",), null=np.nan), IMAGES, name))
    for made in figures:
        assert png(made).startswith(b"\x89PNG")
    said = words(figures[0])
    assert ("all 0.25" in said) == (name == "one value")
    assert ("no values" in said) == (name in ("not a number", "no unit"))
