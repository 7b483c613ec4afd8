"""Matrices in one scale, stimuli where they belong along the edges, curves with what is known about them."""

import numpy as np
import pytest
from matplotlib.image import AxesImage
from scipy import stats
from scipy.spatial.distance import squareform

from cnnprobe.methods.rsa.figures import matrices as figures
from cnnprobe.methods.rsa.figures.matrices import Curve, Panel
from cnnprobe.plots import style

RANDOM = np.random.default_rng(0)


def matrix(count):
    return squareform(RANDOM.random(count * (count - 1) // 2))


def colours(count):
    """Pictures of one colour each, (condition, channel, y, x)."""
    return np.broadcast_to(RANDOM.integers(0, 255, (count, 3, 1, 1), np.uint8), (count, 3, 8, 8))


def test_every_matrix_is_shown_as_ranks_from_0_to_100():
    given = matrix(9) ** 3
    found = figures.percentiles(given)
    values = squareform(found)
    assert (np.diag(found) == 0).all()
    expected = stats.rankdata(squareform(given))
    assert np.allclose(stats.rankdata(values), expected) and 0 < values.min() < 3 and 97 < values.max() <= 100
    broken = given.copy()
    broken[2] = broken[:, 2] = np.nan
    assert (
        np.isnan(figures.percentiles(broken)[2]).all()
        and np.isfinite(np.delete(figures.percentiles(broken)[0], 2)).all()
    )
    assert np.isnan(figures.percentiles(np.full((4, 4), np.nan))).all()


@pytest.mark.parametrize(("count", "rows"), [(5, 1), (12, 2), (24, 4)])
def test_a_stimulus_stands_above_and_left_of_its_row(count, rows):
    shown = np.moveaxis(colours(count), 1, -1) / 255
    for upright in (False, True):
        picture, (left, right, bottom, top) = figures.edge(shown, rows, upright)
        high, wide = picture.shape[:2]
        for place in range(count):
            along, across = place + 0.5, (place % rows - rows) * rows + rows / 2  # conditions, from the matrix outwards
            x, y = (across, along) if upright else (along, across)
            column = int((x - left) / (right - left) * wide)
            line = int((y - top) / (bottom - top) * high)
            assert np.allclose(picture[line, column], [*shown[place, 0, 0], 1]), (upright, place)


def test_stimuli_stand_along_the_edges_as_long_as_they_can_be_seen():
    assert figures.edge_rows(10) == 1 and 2 <= figures.edge_rows(92) <= 4 and figures.edge_rows(1000) == 0
    made = figures.matrix_pair([matrix(10), matrix(10)], ["one", "other"], colours(10), "title")
    for ax in made.axes[:2]:
        assert len([item for item in ax.get_children() if isinstance(item, AxesImage)]) == 3
        assert ax.get_xlim()[0] < 0 < 10 <= ax.get_xlim()[1]
    for pictures in (None, colours(4)):  # pictures of some conditions only
        made = figures.matrix_pair([matrix(10)], ["one"], pictures, "title")
        assert len([item for item in made.axes[0].get_children() if isinstance(item, AxesImage)]) == 1


def test_all_matrices_of_a_grid_have_one_scale():
    matrices = np.stack([matrix(6) for _ in range(8)])
    matrices[3] = np.nan
    made = figures.matrix_grid(matrices, [f"layer\n{number}" for number in range(8)], "title")
    shown = [image for ax in made.axes for image in ax.get_images()]
    assert len(shown) == 8 and {image.get_clim() for image in shown} == {(0, 100)}
    assert np.ma.getmaskarray(shown[3].get_array()).all()
    assert [ax.get_title() for ax in made.axes[:8]] == [f"layer\n{number}" for number in range(8)]
    assert made.axes[-1].get_ylabel() == "dissimilarity: rank within the matrix (%)"
    assert style.png(made)


def curve(values, p=0.2):
    values = np.asarray(values, float)
    return Curve(values, values - 0.1, values + 0.2, np.broadcast_to(p, values.shape))


def panel(**options):
    given = {"name": "IT", "layers": curve([0.1, 0.3, 0.2]), "random": None, "pixels": np.nan, "ceiling": (np.nan,) * 2}
    return Panel(**(given | options))


def test_curves_have_their_intervals_stars_controls_and_ceiling():
    own = curve([0.1, 0.3, np.nan], [0.2, 0.004, np.nan])
    whole = panel(layers=own, random=curve([0.05, 0.06, 0.04]), pixels=0.15, ceiling=(0.4, 0.6))
    made = figures.similarity_by_layer([whole, panel()], ["conv1", "conv2", "logits"], "Spearman's ρ", "title")
    first, second = made.axes
    assert [text.get_text() for text in first.texts] == ["**"] and first.texts[0].xy == (1, 0.5)
    below = panel(layers=curve([-0.1, 0.05, 0.3], [0.5, 0.004, 0.02]))  # F99: the interval of the second holds 0
    drawn = figures.similarity_by_layer([below], ["a", "b", "c"], "r", "title", "subjects")
    assert [text.get_text() for text in drawn.axes[0].texts] == ["(**)", "*"]
    assert "(for other subjects) holds 0" in drawn.legends[0].get_title().get_text()
    assert [label.get_text() for label in second.get_xticklabels()] == ["conv1", "conv2", "logits"]
    assert first.get_ylabel() == "Spearman's ρ" and first.get_title("left") == "IT"
    assert first.get_ylim()[1] > 0.6 and len(first.lines) > len(second.lines)
    (legend,) = made.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "layers, 95 % interval", "random weights, 95 % interval (grey band)", "pixels", "noise ceiling"
    ]  # fmt: skip
    assert style.png(made)


def test_the_legend_names_only_what_is_drawn():
    made = figures.similarity_by_layer([panel()], ["a", "b", "c"], "r", "title")
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["layers, 95 % interval"]


@pytest.mark.parametrize(("p", "words"), [(0.0009, "***"), (0.001, "**"), (0.04, "*"), (0.05, ""), (np.nan, "")])
def test_stars(p, words):
    assert figures.stars(p) == words


@pytest.mark.parametrize("count", [1, 3, 4, 20])
def test_the_words_of_the_scale_lie_in_the_figure(count):
    """F99: of a few matrices in one row too."""
    matrices = np.stack([matrix(12) for _ in range(count)])
    made = figures.matrix_grid(matrices, ["reference:\nIT"] * count, "title")
    made.canvas.draw()
    for text in (made.axes[-1].yaxis.label, *made.axes[-1].get_yticklabels()):
        extent = text.get_window_extent()
        assert extent.y0 >= 0 and extent.y1 <= made.bbox.height and extent.x1 <= made.bbox.width, (count, extent)
