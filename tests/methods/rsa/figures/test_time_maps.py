"""Layers over time and region: what stands where, and how sure it is."""

import numpy as np
import pytest

from cnnprobe.methods.rsa.figures.time_maps import peak_latencies, region_map, time_map
from cnnprobe.plots.style import png

TIMES = np.array([-10.0, 0, 10, 30])
CURVES = np.array([[0.0, 0.4, 0.1, 0.0], [0.1, 0.0, 0.2, -0.8], [np.nan] * 4])
KNOWN = {"latency": np.array([0, 10, np.nan]), "low": np.array([0, 0, np.nan]), "high": np.array([10, 30, np.nan])}


def test_colours_curves_and_peaks():
    made = time_map(CURVES, TIMES, ["a", "b", "c"], "title", "Spearman's ρ", "ms", **KNOWN)
    above, below = made.axes[:2]
    mesh = above.collections[0]
    assert mesh.get_clim() == (-0.8, 0.8)
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], [-15, -5, 5, 20, 40])
    assert [text.get_text() for text in above.get_yticklabels()] == ["a", "b", "c"]
    peaks = [line for line in below.lines if line.get_marker() == "o"]
    assert [line.get_xydata().tolist() for line in peaks] == [[[0, 0.4]], [[10, 0.2]]]
    assert below.get_xlabel() == "time (ms)" and below.get_ylabel() == "Spearman's ρ"
    bars = above.containers[0].lines[2][0].get_segments()
    assert [(bar[0, 0], bar[1, 0]) for bar in bars] == [(0, 10), (0, 30)]
    assert png(made)


@pytest.mark.parametrize("layers, points", [(1, 1), (20, 3)])
def test_any_number_of_layers_and_points_is_drawn(layers, points):
    nothing = np.full(layers, np.nan)
    names = [f"$layer_{{{place}}}$" for place in range(layers)]
    ceiling = (np.zeros(points), np.ones(points))
    curves = np.full((layers, points), np.nan)
    made = time_map(curves, np.arange(points), names, "", "ρ", "index", latency=nothing, low=nothing, high=nothing,
                    ceiling=ceiling)  # fmt: skip
    assert png(made)
    assert "intervals" not in made._supxlabel.get_text()


def test_latencies_against_depth():
    made = peak_latencies(**KNOWN, names=["a", "b", "c"], title="t", unit="ms", order=0.5, order_low=-0.2, order_high=1)
    ax = made.axes[0]
    assert ax.get_title() == "latency with depth: Spearman's ρ 0.50 (95 % interval -0.20 to 1.00)"
    assert ax.containers[0].lines[0].get_xydata().tolist() == [[0, 0], [1, 10]]
    assert ax.get_ylabel() == "peak latency (ms)"
    nothing = np.full(3, np.nan)
    empty = peak_latencies(nothing, nothing, nothing, list("abc"), "t", "ms", order=np.nan, order_low=np.nan,
                           order_high=np.nan)  # fmt: skip
    assert empty.axes[0].texts[0].get_text() == "no layer has a peak" and png(empty)


def test_regions_their_numbers_and_their_closest_layers():
    values = np.array([[0.1, np.nan, -0.001], [0.3, np.nan, -0.4]])
    p = np.array([[0.2, 0.2, 0.2], [0.0005, 0.2, 0.03]])
    made = region_map(values, ["a", "b"], ["V1", "V4", "IT"], "title", "ρ", p)
    ax = made.axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.10", "–", "0.00", "0.30***", "–", "-0.40*"]
    assert [(patch.get_x(), patch.get_y()) for patch in ax.patches] == [(-0.5, 0.5), (1.5, -0.5)]
    assert not ax.yaxis_inverted()
    assert png(made)
    large = region_map(np.zeros((40, 4)), [str(place) for place in range(40)], list("abcd"), "", "ρ")
    assert not large.axes[0].texts and png(large)


def test_moments_without_values_are_gaps_and_lonely_ones_are_dots():
    """F99: a line shows nothing of a value between two gaps; the ceiling is drawn where it is known."""
    curve = np.array([[np.nan, 0.1, 0.2, np.nan, 0.3, np.nan]])
    low = np.array([np.nan])
    ceiling = np.array([np.nan, 0.2, 0.2, np.nan, 0.2, np.nan])
    made = time_map(curve, np.arange(6.0), ["a"], "t", "r", "s", latency=np.array([4.0]), low=low, high=low,
                    ceiling=(ceiling, ceiling + 0.1))  # fmt: skip
    lines = made.axes[1].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), curve[0])
    assert lines[1].get_marker() == "." and lines[1].get_xdata().tolist() == [4.0]
    assert any("gaps: not defined" in text.get_text() for text in made.findobj() if hasattr(text, "get_text"))
    assert png(made)
