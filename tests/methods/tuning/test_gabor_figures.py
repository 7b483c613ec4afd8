"""Filters and the plane of their shapes, drawn for numbers of any kind."""

import numpy as np
import pytest

from cnnprobe.methods.tuning.gabor_figures import FARTHEST, GaborRow, gabor_sheet, shape_plane
from cnnprobe.plots.style import png


def texts(made):
    return " ".join(text.get_text() for text in made.findobj(lambda one: hasattr(one, "get_text")))


def row(values, fit=None):
    flat = np.broadcast_to(np.asarray(values, float), (7, 7))
    return GaborRow(
        "3", np.repeat(flat[None], 3, 0), flat, flat if fit is None else np.full((7, 7), fit), "gabor, 0.97"
    )


@pytest.mark.parametrize("fill", [0.0, 2.0, np.nan, np.inf])
def test_filters_of_one_value_or_none_are_drawn(fill):
    made = gabor_sheet([row(fill), row(np.eye(7))], "two filters")
    assert ("hatched" in texts(made)) == (not np.isfinite(fill))
    assert "3: gabor, 0.97" in texts(made)
    assert png(made)


def test_the_residual_is_what_the_fit_leaves():
    flat, fit = np.eye(7), 0.25 * np.eye(7)
    made = gabor_sheet([GaborRow("0", np.eye(7)[None], flat, fit, "")], "one")
    shown = [image.get_array() for image in made.axes[0].images]
    np.testing.assert_allclose(shown[-1], 0.75 * np.eye(7))
    assert len({image.get_clim() for image in made.axes[0].images[1:]}) == 1


def test_no_filters_and_an_unfitted_one():
    assert png(gabor_sheet([], "none"))
    assert "hatched" in texts(gabor_sheet([row(np.eye(7), np.nan)], "no fit"))


def points(made):
    return np.concatenate([one.get_offsets() for one in made.axes[0].collections])


def test_the_plane_shows_filters_cells_and_what_lies_beyond():
    n_x, n_y = np.array([0.2, 0.4, 9.0, np.nan]), np.array([0.3, 0.5, 0.1, 0.1])
    colour = np.array([False, True, False, False])
    cells = np.array([[0.1, 0.2], [0.3, 0.4]])
    made = shape_plane(n_x, n_y, np.full(4, 45.0), colour, cells, "shapes", "mine.csv")
    assert sorted(map(tuple, points(made).tolist())) == [(0.2, 0.3), (0.4, 0.5), (FARTHEST, 0.1)]
    words = texts(made)
    for said in ("2 cells (mine.csv)", "2 filters", "1 colour filters", "1 beyond the border", "1 no number"):
        assert said in words
    assert png(made)


def test_an_empty_plane_says_so():
    nothing = np.zeros(0)
    made = shape_plane(nothing, nothing, nothing, nothing.astype(bool), np.zeros((0, 2)), "none")
    assert "no Gabor" in texts(made)
    assert png(made)
    missing = np.full(2, np.nan)
    assert "2 no number" in texts(shape_plane(missing, missing, missing, missing > 0, np.zeros((0, 2)), "nan"))
