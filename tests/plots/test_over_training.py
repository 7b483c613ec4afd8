"""Figures of learning: strips that show the values given, curves of medians, half-times, and epoch 0 in sight."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest

from cnnprobe.plots import style
from cnnprobe.plots.over_training import centroid_curves, half_times, strip

LABELS = ["epoch=000", "update=000064", "epoch=010"]
NAMES = ["0", "$x_{1}$ \\frac", "\x1b[31m very long name of a unit that goes on and on\nand on"]
FINE = np.array([0, *(2.0 ** np.arange(10) / 782), *range(1, 11)])
"""Of a training of ten epochs of 782 updates."""
LONG = np.array([0, 0.001, 0.016, 0.064, 0.256, 1, 2, 4, 10])


def pictures(made):
    return list(made.axes[0].images)


def words(made):
    return [text.get_text() for text in made.axes[0].texts]


def hatched(made):
    return [patch for patch in made.axes[0].patches if patch.get_hatch()]


def said(made):
    return made.get_supxlabel().replace("\n", " ")


def images(units=3, moments=3, *shape):
    return np.random.default_rng(0).random((units, moments, *(shape or (3, 8, 6))))


def test_a_strip_shows_every_unit_at_every_moment_in_its_place():
    given = images()
    made = strip(given, LABELS, ["a", "b", "c"], "title")
    shown = pictures(made)
    assert len(shown) == 9
    for place, picture in enumerate(shown):
        unit, moment = divmod(place, 3)
        assert np.allclose(np.asarray(picture.get_array())[..., :3], np.moveaxis(given[unit, moment], 0, -1))
    lefts = np.array([picture.get_extent()[0] for picture in shown]).reshape(3, 3)
    tops = np.array([picture.get_extent()[3] for picture in shown]).reshape(3, 3)
    assert (np.diff(lefts, axis=1) > 0).all() and (np.ptp(lefts, axis=0) == 0).all()
    assert (np.diff(tops, axis=0) > 0).all() and (np.ptp(tops, axis=1) == 0).all()
    assert words(made)[:3] == ["epoch\n0", "update\n64", "epoch\n10"]
    assert not hatched(made)


def test_grey_images_are_repeated_over_the_colours():
    (shown,) = pictures(strip(images(1, 1, 1, 5, 5), ["last"], ["0"], ""))
    colours = np.asarray(shown.get_array())
    assert np.array_equal(colours[..., 0], colours[..., 2])


def test_signed_maps_have_a_limit_each_or_one_for_a_unit_and_it_is_said():
    given = (images() - 0.5) * np.array([1, 5, 100])[None, :, None, None, None]
    for common, limits in ((False, np.abs(given).max((2, 3, 4))), (True, np.abs(given).max((1, 2, 3, 4))[:, None])):
        made = strip(given, LABELS, ["a", "b", "c"], "title", "signed", common=common)
        expected = 0.5 + given / np.broadcast_to(limits, (3, 3))[..., None, None, None] / 2
        for picture, values in zip(pictures(made), expected.reshape(9, 3, 8, 6), strict=True):
            assert np.allclose(np.asarray(picture.get_array())[..., :3], np.moveaxis(values, 0, -1))
        assert f"limit: each {'unit' if common else 'picture'}'s own largest |value|" in said(made)


@pytest.mark.parametrize("display", [None, "signed", "clipped", "stretched", "grey"])
def test_what_is_no_number_is_hatched_and_left_clear(display):
    """F81."""
    given = images()
    given[0, 1] = np.nan
    given[1, 2, 0, :3] = np.inf
    given[2] = 0.25
    made = strip(given, LABELS, NAMES, "title", display)
    assert len(hatched(made)) == 2
    assert "none" in words(made)
    assert "hatched: no value" in said(made)
    clear = np.asarray(pictures(made)[4].get_array())[..., 3]
    assert (clear[:3] == 0).all() and (clear[3:] == 1).all()
    style.png(made)


def test_signals_are_curves_on_one_scale_in_each_row():
    given = np.cumsum(images(2, 3, 2, 40) - 0.5, -1) * np.array([1, 1000])[:, None, None, None]
    given[0, 0, 0, :5] = np.nan
    lines = strip(given, LABELS, ["a", "b"], "title").axes[0].lines
    assert len(lines) == 12
    for unit in range(2):
        shown = np.array([line.get_ydata() for line in lines[unit * 6 : unit * 6 + 6]])
        values = given[unit].reshape(6, 40)
        known = np.isfinite(values)
        slope = np.polyfit(values[known], shown[known], 1)
        assert np.allclose(np.polyval(slope, values[known]), shown[known], atol=1e-6)
        assert slope[0] < 0  # y goes down


@pytest.mark.parametrize(
    ("units", "moments"), [(1, 1), (2, 25), (70, 2), (3, 2), pytest.param(70, 9, marks=pytest.mark.slow)]
)
def test_any_number_of_units_and_moments_is_drawn_without_touching(units, moments):
    given = images(units, moments, 3, 5, 5)
    made = strip(
        given, [f"train/$x/v001@epoch={n:03d}" for n in range(moments)], [NAMES[u % 3] for u in range(units)], "$t"
    )
    extents = np.array([picture.get_extent() for picture in pictures(made)])  # left, right, bottom, top
    assert len(extents) == units * moments
    order = np.lexsort((extents[:, 0], extents[:, 3]))
    before, after = extents[order[:-1]], extents[order[1:]]
    assert ((after[:, 0] >= before[:, 1]) | (after[:, 3] >= before[:, 2])).all()
    high, wide = made.get_figheight(), made.get_figwidth()
    assert max(high, wide) * style.DPI < 4000
    assert style.png(made) == style.png(
        strip(
            given, [f"train/$x/v001@epoch={n:03d}" for n in range(moments)], [NAMES[u % 3] for u in range(units)], "$t"
        )
    )


def test_no_unit_or_no_moment_is_said():
    assert "no units" in strip(images(0, 3), LABELS, [], "t").get_suptitle()
    assert "no moments" in strip(images(3, 0), [], NAMES, "t").get_suptitle()
    assert "no layers" in centroid_curves(LONG, [], [], "t").get_suptitle()
    assert "no moments" in centroid_curves(LONG[:0], [np.zeros((3, 0))], ["a"], "t").get_suptitle()
    assert "no layers" in half_times([], [], "t").get_suptitle()


def values(layers=3, units=7, moments=9):
    return list(np.random.default_rng(1).random((layers, units, moments)))


def test_curves_are_medians_and_quartiles_of_the_units_that_have_a_value():
    given = values()
    given[1][:, 0] = np.nan
    given[2][3:, 4] = np.nan
    made = centroid_curves(LONG, given, NAMES, "title")
    curves, bands = made.axes[0].lines, made.axes[0].collections
    for layer, curve, band in zip(given, curves, bands, strict=True):
        known = np.isfinite(layer).any(0)
        assert curve.get_xdata().tolist() == LONG[known].tolist()
        for moment, median in zip(np.flatnonzero(known), curve.get_ydata(), strict=True):
            column = sorted(layer[np.isfinite(layer[:, moment]), moment])
            assert median == pytest.approx((column[(len(column) - 1) // 2] + column[len(column) // 2]) / 2)
            corners = band.get_paths()[0].vertices
            own = corners[corners[:, 0] == LONG[moment], 1]
            assert [own.min(), own.max()] == pytest.approx(np.percentile(column, (25, 75)))
    assert len({curve.get_color() for curve in curves}) == 3
    assert "median" in said(made)


@pytest.mark.parametrize("epochs", [LONG, FINE, np.arange(6.0), np.array([0, 0.5, 1]), np.array([0.0, 3.0])])
def test_the_untrained_network_is_on_the_axis_and_apart_from_the_next_moment(epochs):
    made = centroid_curves(epochs, values(2, 5, len(epochs)), ["a", "b"], "title")
    ax = made.axes[0]
    style.png(made)
    low, high = ax.get_xlim()
    assert low < 0 < epochs[-1] < high
    places = ax.transData.transform(np.stack([epochs, epochs * 0 + 0.5], 1))[:, 0]
    assert (np.diff(places) > 0.005 * np.ptp(places)).all() and places[1] - places[0] > 0.02 * np.ptp(places)
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert 0 in ticks
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    boxes = sorted((box.x0, box.x1) for box in boxes)
    assert all(one[1] < other[0] for one, other in pairwise(boxes))


def test_moments_at_an_unknown_epoch_stand_one_behind_the_other_by_name():
    epochs = np.array([0, math.nan, 10])
    made = centroid_curves(epochs, values(1, 4, 3), ["a"], "title", LABELS)
    assert made.axes[0].lines[0].get_xdata().tolist() == [0, 1, 2]
    assert [label.get_text() for label in made.axes[0].get_xticklabels()] == ["epoch 0", "update 64", "epoch 10"]
    one = centroid_curves(np.array([3.0]), values(2, 4, 1), ["a", "b"], "title")
    assert [label.get_text() for label in one.axes[0].get_xticklabels()] == ["epoch 3"]


@pytest.mark.parametrize("layers", [1, 6, 22, 40])
def test_many_layers_with_hard_names_and_layers_without_units_are_drawn(layers):
    given = values(layers)
    given[0] = np.zeros((0, len(LONG)))
    given[-1] = given[-1] * np.nan
    names = [f"$layer_{{{n}}}\x1b.very.long.name.that.goes.on" for n in range(layers)]
    made = centroid_curves(LONG, given, names, "$title_")
    assert style.png(made) == style.png(centroid_curves(LONG, given, names, "$title_"))
    assert len({str(line.get_color()) for line in made.axes[0].lines}) == layers
    if layers == 1:
        assert words(made) == ["no values"]


def test_half_times_are_points_with_their_median():
    given = [np.array([0.5, 2, 8, np.nan]), np.array([np.nan]), np.array([9.0])]
    made = half_times(given, ["conv1", "dead", "conv3"], "title", LONG)
    ax = made.axes[0]
    points = [line for line in ax.lines if line.get_marker() == "."]
    assert [sorted(line.get_ydata()) for line in points] == [[0.5, 2, 8], [], [9]]
    assert all(np.abs(line.get_xdata() - place).max(initial=0) < 0.4 for place, line in enumerate(points))
    bars = [line for line in ax.lines if line.get_color() == style.ACCENT]
    assert [list(bar.get_ydata()) for bar in bars] == [[2, 2], [9, 9]]
    assert words(made) == ["3 of 4", "0 of 1", "1 of 1"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv1", "dead", "conv3"]
    moments = [line.get_ydata()[0] for line in ax.lines if line.get_color() == "0.88"]
    assert moments == LONG.tolist()
    assert ax.get_ylim()[0] < 0 and ax.get_ylim()[1] > 10


def test_no_half_time_at_all_is_said():
    assert "no feature came half way" in words(half_times([np.full(3, np.nan), np.zeros(0)], NAMES[:2], "t"))


@pytest.mark.parametrize("layers", [1, 5, 26])
def test_names_of_layers_do_not_overlap(layers):
    names = [f"$layer_{{{n}}}.a.very.long.name" for n in range(layers)]
    made = half_times([np.linspace(0, 3 + n, 9) for n in range(layers)], names, "$t", np.arange(31.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.png(made)
    boxes = [label.get_window_extent() for label in made.axes[0].get_xticklabels()]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert all(min(box.x0, box.y0) >= 0 for box in boxes)
