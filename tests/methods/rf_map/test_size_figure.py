"""Field sizes against depth: means and deviations as given, and where the image ends."""

from itertools import pairwise

import numpy as np
import pytest

from cnnprobe.methods.rf_map.size_figure import size_by_depth
from cnnprobe.plots.style import png

SIZES = [np.array([4.0, 6.0, np.nan]), np.array([10.0, 20.0, 60.0]), np.array([24.0, np.nan, np.nan])]
FIFTH = [one * 1.5 for one in SIZES]
UNKNOWN = [one * np.nan for one in SIZES]


def drawn(effective=UNKNOWN, names=("conv1", "conv2", "conv3"), theoretical=(5, 40, 99), side=64.0):
    theoretical = np.array(theoretical)
    return size_by_depth(names, theoretical, np.minimum(theoretical, side), SIZES, FIFTH, effective, "title")


def line(axes, label):
    return next(one for one in axes.lines if one.get_label() == label)


def legend(made):
    return [text.get_text() for text in made.legends[0].get_texts()]


def errorbars(axes):
    """Return (mean, deviation), each (layer,), of each measure."""
    found = []
    for container in axes.containers:
        if hasattr(container, "has_yerr"):
            data, _, (bars,) = container.lines
            found.append(
                (data.get_ydata(), [np.ptp(one[:, 1]) / 2 if len(one) else np.nan for one in bars.get_segments()])
            )
    return found


def test_mean_and_deviation_leave_dead_units_out():
    half, fifth = errorbars(drawn().axes[0])
    assert half[0].tolist() == [5, 30, 24]
    assert half[1] == pytest.approx([np.sqrt(2), np.sqrt(700), np.nan], nan_ok=True)  # F99: over n - 1, none of one
    assert fifth[0].tolist() == [7.5, 45, 36]


def test_the_ratio_is_to_the_theoretical_size():
    half, _ = errorbars(drawn().axes[1])
    assert half[0].tolist() == pytest.approx([1, 0.75, 24 / 99])
    assert half[1] == pytest.approx([np.sqrt(2) / 5, np.sqrt(700) / 40, np.nan], nan_ok=True)


def test_every_unit_is_a_point_near_its_layer():
    points = [one for one in drawn().axes[0].lines if one.get_markersize() == 2]
    x, y = points[0].get_data()
    assert np.array_equal(y, np.concatenate(SIZES), equal_nan=True)
    assert np.abs(x - np.repeat([0, 1, 2], 3)).max() < 0.5


def test_layers_stand_in_order_with_names_and_numbers_of_units():
    made = drawn()
    sizes, ratios = made.axes
    assert [label.get_text() for label in ratios.get_xticklabels()] == ["conv1", "conv2", "conv3"]
    assert ratios.get_xticks().tolist() == [0, 1, 2]
    assert [text.get_text() for text in sizes.texts] == ["n = 2", "3", "1"]
    assert line(sizes, "theoretical").get_ydata().tolist() == [5, 40, 99]


def test_where_the_theoretical_field_exceeds_the_image_it_is_shaded_and_said():
    made = drawn()
    sizes, ratios = made.axes
    assert [bar.get_x() for bar in (*sizes.patches, *ratios.patches)] == [1.5, 1.5]
    assert "theoretical field exceeds the image" in legend(made)
    side = line(sizes, "side of the image")
    assert side.get_linestyle() == "--"
    assert np.array_equal(side.get_ydata(), [np.nan] * 4 + [64, 64], equal_nan=True)
    assert side.get_xdata()[-2:].tolist() == [1.5, 2.5]
    hollow = [one for one in ratios.lines if one.get_fillstyle() == "none"]
    assert [one.get_ydata().tolist() for one in hollow] == [[24 / 64], [36 / 64]]


def test_nothing_is_shaded_where_all_fields_are_inside():
    made = drawn(side=224.0)
    assert not made.axes[0].patches
    assert legend(made) == ["theoretical", "occlusion, above half of the peak", "occlusion, above a fifth"]


def test_the_effective_field_is_drawn_where_it_was_measured():
    made = drawn(effective=SIZES)
    assert "effective, above 4.55 %" in legend(made)
    assert len(errorbars(made.axes[0])) == 3


def test_the_side_of_the_occluder_is_drawn_where_it_is_known():
    made = size_by_depth(["a"], np.array([7.0]), np.array([7.0]), [SIZES[0]], [FIFTH[0]], [SIZES[0]], "t", 2.5)
    sizes = made.axes[0]
    assert line(sizes, "side of the occluder").get_ydata() == [2.5, 2.5]
    assert sizes.get_ylim()[0] < 2.5
    assert "side of the occluder" not in legend(drawn())


def test_all_sizes_are_within_the_axes():
    low, high = drawn().axes[0].get_ylim()
    assert low < 4
    assert high > 99


@pytest.mark.parametrize("layers", [1, 5, 26])
def test_any_number_of_layers_with_hard_names_is_drawn_and_legible(layers):
    """F77."""
    names = [f"$layer_{{{number}}}.a.very.long.name.that.goes.on" for number in range(layers)]
    sizes = [np.linspace(2, 9, 64) * (place + 1) for place in range(layers)]
    sizes[0] = sizes[0] * np.nan  # all dead
    given = np.arange(layers) * 9.0 + 7

    def made():
        return size_by_depth(names, given, np.minimum(given, 64), sizes, sizes, sizes, "$title_")

    first = made()
    assert png(first) == png(made())
    labels = first.axes[1].get_xticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert all(min(box.x0, box.y0) >= 0 for box in boxes)


def test_no_layers_are_said():
    assert "no layers" in size_by_depth([], np.zeros(0), np.zeros(0), [], [], [], "t").get_suptitle()
