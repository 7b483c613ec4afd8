"""Preferred images stand in their places with their own pixels; what failed, is flat or lacks a number is said."""

import itertools

import numpy as np
import pytest

from cnnprobe.methods.optimize import figures as preferred
from cnnprobe.plots import style

RNG = np.random.default_rng(0)
HOSTILE = ["$x_1", "\\frac{1}{$" + "q" * 5000, "\x1b[31m\n\x00", ""]


def pictures(made):
    return list(made.axes[0].images)


def words(made, panel=0):
    return [text.get_text() for text in made.axes[panel].texts]


def hatched(made):
    return [patch for patch in made.axes[0].patches if patch.get_hatch()]


def frames(made):
    return [patch for patch in made.axes[0].patches if not patch.get_hatch()]


def corners(made):
    """Return left, right, bottom, top of every picture."""
    return np.array([image.get_extent() for image in pictures(made)])


@pytest.mark.parametrize("shape", [(1, 3, 9, 9), (3, 1, 12, 20), (64, 3, 16, 16), (512, 3, 8, 8)])
def test_a_sheet_shows_every_image_with_its_pixels_in_reading_order(shape):
    images = RNG.random(shape).astype(np.float32)
    made = preferred.preferred_sheet(images, [str(unit) for unit in range(shape[0])], "title")
    shown = np.array([image.get_array() for image in pictures(made)])
    assert np.array_equal(shown, np.broadcast_to(np.moveaxis(images, 1, -1), (*shown.shape[:3], 3)))
    left, right, bottom, top = corners(made).T
    order = np.lexsort((left, top))
    assert np.array_equal(order, np.arange(shape[0]))
    assert np.allclose((right - left) / (bottom - top), shape[3] / shape[2])
    same_row = np.isclose(top[1:], top[:-1])
    assert (left[1:][same_row] > right[:-1][same_row]).all()
    assert words(made) == [str(unit) for unit in range(shape[0])]


def test_captions_are_left_out_where_hundreds_of_units_leave_no_room():
    few, many = 12, 200
    for units, expected in ((few, few), (many, 0)):
        made = preferred.preferred_sheet(np.ones((units, 1, 8, 8)) * 0.5, ["u"] * units, "", ["4.2 / 3.1"] * units)
        assert words(made).count("4.2 / 3.1") == expected


def test_failed_flat_and_partly_known_images_are_said():
    images = RNG.random((4, 3, 8, 8))
    images[0] = np.nan
    images[1] = np.array([0.2, 0.5, 0.9])[:, None, None]
    images[2, 1, :3] = np.inf
    made = preferred.preferred_sheet(images, list("abcd"), "title")
    assert len(hatched(made)) == 2
    assert len(frames(made)) == 4
    assert [words(made).count(word) for word in ("failed", "uniform")] == [1, 1]
    clear = pictures(made)[1].get_array()[..., 3] == 0
    assert clear[:3].all()
    assert not clear[3:].any()
    assert "hatched: no value" in made.get_supxlabel()
    assert "hatched" not in preferred.preferred_sheet(images[3:], ["d"], "").get_supxlabel()


def test_numbers_outside_0_to_1_are_cut_and_other_channels_are_said():
    images = np.array([[-3.0, 0.5, 7.0]])[:, None, None].repeat(2, 1)
    made = preferred.preferred_sheet(images, ["a"], "")
    assert pictures(made)[0].get_array()[0, :, 0].tolist() == [0, 0.5, 1]
    assert "shown: the first channel of 2" in made.get_supxlabel()
    made = preferred.preferred_sheet(RNG.random((1, 5, 4, 4)), ["a"], "")
    assert "shown: the first 3 channels of 5" in made.get_supxlabel()


def test_signals_are_curves_on_one_scale():
    time = np.linspace(0, 1, 50)
    signals = np.stack([np.stack([time, 1 - time]), np.stack([3 * time, time * 0])])
    made = preferred.preferred_sheet(signals, ["a", "b"], "")
    curves = [line.get_ydata() for line in made.axes[0].lines]
    assert len(curves) == 4
    reach = [np.ptp(curve) for curve in curves]
    assert reach[2] == pytest.approx(3 * reach[0])
    assert curves[0][0] > curves[0][-1]  # y goes down on the sheet: a larger number stands higher
    assert "from 0 to 3" in made.get_supxlabel()
    signals[0, 0, 10:20] = np.nan
    signals[1] = np.nan
    made = preferred.preferred_sheet(signals, ["a", "b"], "")
    assert len(hatched(made)) == 2
    assert words(made).count("failed") == 1
    assert all(np.isnan(line.get_ydata()[10:20]).all() for line in made.axes[0].lines)


def beside(units=2, k=3, channels=3, **changes):
    given = {
        "preferred": RNG.random((units, channels, 12, 16)).astype(np.float32),
        "pictures": RNG.integers(0, 250, (units, k, channels, 12, 16), dtype=np.uint8),
        "names": [f"unit {unit}" for unit in range(units)],
        "captions": [[f"p{unit}", *(f"n{unit}-{place}" for place in range(k))] for unit in range(units)],
        "title": "title",
    }
    return given | changes


def test_each_row_has_the_preferred_image_large_and_the_top_images_in_order():
    given = beside()
    made = preferred.beside_top_images(**given)
    shown = [image.get_array() for image in pictures(made)]
    for unit in range(2):
        assert np.array_equal(shown[unit * 4], given["preferred"][unit].transpose(1, 2, 0))
        for place in range(3):
            expected = given["pictures"][unit, place].transpose(1, 2, 0)
            np.testing.assert_allclose(shown[unit * 4 + 1 + place] * 255, expected, atol=1e-4)
    left, right, bottom, top = corners(made).reshape(2, 4, 4).transpose(2, 0, 1)
    assert (np.diff(left, axis=1) > 0).all()
    assert ((right - left)[:, :1] > (right - left)[:, 1:]).all()
    assert (top[1] > bottom[0]).all()
    assert {"unit 0", "unit 1", "p0", "p1", "n0-0", "n1-2"} <= set(words(made))


def test_a_picture_of_nothing_is_left_out_and_outlines_lie_on_their_pictures():
    given = beside()
    given["pictures"][1, 2] = 255
    given["captions"][1][3] = ""
    edges = np.full((2, 3, 4), np.nan)
    edges[0, 1] = [3, 4, 9, 12]  # top, left, bottom, right of 12 x 16 px
    made = preferred.beside_top_images(**given, outlines=edges)
    assert len(pictures(made)) == 7
    (line,) = made.axes[0].lines
    left, right, bottom, top = corners(made)[2]
    x, y = line.get_xdata(), line.get_ydata()
    assert [x.min(), x.max()] == pytest.approx([left + (right - left) / 4, left + (right - left) * 3 / 4])
    assert [y.min(), y.max()] == pytest.approx([top + (bottom - top) / 4, top + (bottom - top) * 3 / 4])


def test_a_comparison_has_a_row_per_preset_and_a_column_per_start():
    images = RNG.random((4, 3, 1, 8, 8)).astype(np.float32)
    images[2, 1] = np.nan
    captions = [[f"{row}.{column}" for column in range(3)] for row in range(4)]
    made = preferred.regulariser_comparison(images, ["a", "b", "c", "d"], ["s0", "s1", "s2"], captions, "title")
    assert len(pictures(made)) == 11
    places = np.delete(np.arange(12), 7)
    for place, image in zip(places, pictures(made)):
        assert np.array_equal(image.get_array()[..., 0], images[place // 3, place % 3, 0])
    assert len(np.unique(corners(made)[:, 0].round(6))) == 3
    assert len(np.unique(corners(made)[:, 3].round(6))) == 4
    assert words(made).count("failed") == 1
    assert set("abcd") | {"s0", "s1", "s2"} | {word for row in captions for word in row} <= set(words(made))


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_few_traces_are_named_and_the_step_that_was_kept_is_ringed():
    traces = RNG.random((3, 20)).cumsum(1)
    traces[1, 12:] = np.nan
    made = preferred.progress(traces, ["u0", "u1", "u2"], "title", best=np.array([20, 7, -1]))
    drawn = lines(made.axes[0])
    for unit in range(3):
        np.testing.assert_array_equal(drawn[f"u{unit}"].get_ydata(), traces[unit])
        assert drawn[f"u{unit}"].get_xdata().tolist() == list(range(1, 21))
    rings = [(line.get_xdata()[0], line.get_ydata()[0]) for line in made.axes[0].lines if line.get_marker() == "o"]
    assert rings == [(20, traces[0, 19]), (8, traces[1, 7])]
    assert "ring: the image that was kept" in made.get_supxlabel()


def test_of_many_traces_median_and_quartiles_are_drawn_relative_to_the_best_natural_image():
    traces, natural = RNG.random((40, 300)).cumsum(1), RNG.random(40) + 1
    natural[3], natural[4], traces[5] = np.nan, 0, np.nan
    made = preferred.progress(traces, [str(unit) for unit in range(40)], "title", natural)
    ax = made.axes[0]
    kept = np.delete(np.arange(40), [3, 4, 5])
    relative = traces[kept] / natural[kept, None]
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["median of 37 units"].get_ydata(), np.median(relative, 0))
    band = ax.collections[0].get_paths()[0].vertices
    at = band[band[:, 0] == 150][:, 1]
    np.testing.assert_allclose([at.min(), at.max()], np.percentile(relative[:, 149], (25, 75)))
    assert ax.get_xscale() == "log"
    assert "without values: 3" in made.get_supxlabel()
    assert list(drawn["best natural image"].get_ydata()) == [1, 1]


def test_a_line_far_from_all_others_does_not_hide_them():
    traces = np.tile(np.linspace(0, 1, 30), (40, 1))
    traces[7] *= 1e6
    made = preferred.progress(traces, ["u"] * 40, "")
    assert made.axes[0].get_ylim()[1] < 10
    assert "lines that leave the panel: 1" in made.get_supxlabel()
    assert "leave" not in preferred.progress(np.delete(traces, 7, 0), ["u"] * 39, "").get_supxlabel()


def test_control_shows_gains_in_falling_order_and_one_hot_beside_the_best_natural_image():
    gains, scores = np.array([10.0, np.nan, -20.0, 40.0]), np.array([0.2, 0.9, np.nan, 0.6])
    natural = np.array([0.5, 0.3, 0.1, 0.6])
    left, right = preferred.control(list("abcd"), "title", gains, scores, natural).axes
    assert left.lines[1].get_ydata().tolist() == [40, 10, -20]
    assert [label.get_text() for label in left.get_xticklabels()] == ["d", "a", "c"]
    assert left.get_title() == "stretch: 2 of 3 beyond it, median 10 %; 1 without a gain"
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.3, 0.6, 0.5], [0.9, 0.6, 0.2]]
    assert [label.get_text() for label in right.get_xticklabels()] == ["b", "d", "a"]
    assert right.get_title() == "one-hot: 1 of 3 better than it; 1 without a score"


def test_many_neurons_are_points_against_the_best_natural_image():
    scores, natural = RNG.random(80), RNG.random(80)
    (ax,) = preferred.control(["n"] * 80, "title", one_hot=scores, natural=natural).axes
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), np.stack([natural, scores], 1))
    assert ax.get_title().startswith(f"one-hot: {int((scores > natural).sum())} of 80")


def each(*options):
    """Return all combinations of three options as parameters: one in three is quick, in which all pairs are."""
    found = []
    for places in itertools.product(*(range(len(values)) for values in options)):
        marks = pytest.mark.slow if sum(places) % 3 else ()
        found.append(pytest.param(*(values[place] for values, place in zip(options, places)), marks=marks))
    return found


@pytest.mark.parametrize(
    ("shape", "units", "value"),
    each([(3, 8, 8), (1, 1, 1), (2, 30)], [0, 1, 3], [np.nan, np.inf, 0.0, 0.5, 1.0, 3e38]),
)
def test_every_sheet_survives_any_value_and_any_name(value, units, shape):
    """F77, F81."""
    images = np.full((units, *shape), value)
    names, captions = HOSTILE[:units], [[HOSTILE[3 - unit], *HOSTILE[:2]] for unit in range(units)]
    pictures = np.full((units, 2, *shape), 9, np.uint8)
    drawn = [
        preferred.preferred_sheet(images, names, HOSTILE[1], names),
        preferred.beside_top_images(images, pictures, names, captions, HOSTILE[1]),
        preferred.regulariser_comparison(images[:, None], names, ["$x_{"], [row[:1] for row in captions], "$x_1"),
    ]
    for made in drawn:
        assert style.png(made).startswith(b"\x89PNG")
    if not units:
        assert "no units" in drawn[0].get_suptitle()


@pytest.mark.parametrize(
    ("steps", "units", "value"), each([0, 1, 300], [0, 1, 4, 40], [np.nan, np.inf, 0.0, -1.0, 3e38])
)
def test_curves_survive_any_value_and_any_name(value, units, steps):
    """F77, F81."""
    names = (HOSTILE * 10)[:units]
    natural = np.full(units, value)
    drawn = [
        preferred.progress(np.full((units, steps), value), names, HOSTILE[0], given, np.full(units, steps - 1))
        for given in (None, natural)
    ]
    drawn += [preferred.control(names, HOSTILE[1], natural, natural, natural), preferred.control(names, "", natural)]
    for made in drawn:
        assert style.png(made).startswith(b"\x89PNG")
