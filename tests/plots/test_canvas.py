"""Places on a figure: what fits where, text cut to a width, a scale bar of a round number."""

import numpy as np
import pytest

from cnnprobe.plots import canvas, style
from cnnprobe.plots.canvas import Cell


@pytest.mark.parametrize("shape", [(5, 10), (20, 5), (1, 1)])
def test_a_picture_keeps_its_proportions_in_the_middle_of_its_place(shape):
    place = Cell(3, 2, 40, 50).fitted(shape)
    left, top, wide, high = place.left, place.top, place.wide, place.high
    assert wide / high == pytest.approx(shape[1] / shape[0])
    assert (left + wide / 2, top + high / 2) == (23, 27)
    assert max(wide / 40, high / 50) == 1


def test_edges_in_px_of_a_map_become_places_on_the_figure():
    cell = Cell(100, 200, 40, 20)  # a map of 10 x 20 px, two px of the figure each
    assert cell.part((1, 2, 4, 8), (10, 20)) == Cell(104, 202, 12, 6)
    line = cell.line((-5, 2, 4, 99), (10, 20))
    assert (line.min(0).tolist(), line.max(0).tolist()) == ([104, 200], [140, 208])
    assert line[0].tolist() == line[-1].tolist()


def test_text_is_cut_to_lines_that_fit_and_shown_as_it_is_written():
    assert canvas.wrapped("a b c", 500, 7) == ["a b c"]
    rows = canvas.wrapped("word " * 50, 60, 7)
    assert len(rows) == 3
    assert rows[-1].endswith("…")
    assert canvas.wrapped("\x1b[1m", 500, 7) == ["\\x1b[1m"]


@pytest.mark.parametrize("length", [1, 3, 9, 64, 447])
def test_the_scale_bar_is_a_round_number_from_a_fifth_to_half_of_the_map(length):
    made = style.figure(3, 3)
    ax = canvas.empty(made, (300, 300))
    canvas.scale_bar(ax, 10, 20, 2.0, 2.0 * length)
    shown = np.ptp(ax.lines[0].get_xdata()) / 2
    assert ax.texts[0].get_text() == f"{shown:.0f} px"
    assert shown == 1 or length / 5 <= shown <= length / 2
    assert str(int(shown)).strip("0") in ("1", "2", "5")


def test_means_of_blocks_leave_out_what_is_not_a_number():
    values = np.arange(24.0).reshape(4, 6)
    values[0, 0], values[2:, 4:] = np.nan, np.nan
    blocks = canvas.smaller(values, 3)
    assert blocks[0, 0] == pytest.approx(np.mean([1, 6, 7]))
    assert np.isnan(blocks[1, 2])
    assert canvas.smaller(values, 4) is values


def test_the_largest_of_nothing_is_zero():
    assert canvas.largest(np.array([np.nan, -3, np.inf])) == 3
    assert canvas.largest(np.array([np.nan])) == 0


def test_the_box_says_when_it_is_larger_than_the_map():
    assert canvas.box_words(None, (5, 5)) == ""
    assert canvas.box_words((3, 5), (5, 5)) == "box: theoretical field, 3 × 5 px (y × x)"
    assert "larger than the map" in canvas.box_words((3, 6), (5, 5))
    assert canvas.about_middle((3, 4), (5, 6)) == [1, 1, 4, 5]
