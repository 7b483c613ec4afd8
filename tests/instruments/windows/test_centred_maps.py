"""Pixel maps, re-centring and sizes against closed formulas and plain loops."""

import math

import numpy as np
import pytest

from cnnprobe.instruments.network.receptive_field import Field
from cnnprobe.instruments.windows.centred_maps import Canvas, canvas_of, covers, moments, pixel_maps, side_above
from cnnprobe.instruments.windows.occluders import Grid

GRIDS = [
    Grid((12, 10), 3, 2),
    Grid((12, 10), 4, 1),  # an even patch
    Grid((12, 10), 2, 5),  # gaps between occluders
    Grid((12, 10), 3, 40),  # a stride larger than the image: one place
    Grid((9, 9), 9, 2),  # the occluder is the image
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_each_pixel_gets_the_mean_over_the_occluders_that_covered_it(grid):
    values = np.random.default_rng(0).normal(size=(2, *grid.shape))
    made = pixel_maps(values, grid)
    assert made.shape == (2, *grid.sides)
    for y in range(grid.sides[0]):
        for x in range(grid.sides[1]):
            over = [
                values[:, row, column]
                for row, top in enumerate(grid.corners[0])
                for column, left in enumerate(grid.corners[1])
                if top <= y < top + grid.patch and left <= x < left + grid.patch
            ]
            expected = np.mean(over, axis=0) if over else [np.nan, np.nan]
            np.testing.assert_allclose(made[:, y, x], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_covered_pixels_add_up(grid):
    """F51: every occluder covers patch x patch pixels, none beyond the image."""
    down, across = covers(grid)
    assert np.outer(down.sum(0), across.sum(0)).sum() == math.prod(grid.shape) * grid.patch**2


def test_a_zero_stays_exactly_zero():
    grid = Grid((16, 16), 3, 1)
    values = np.zeros(grid.shape, np.float32)
    values[0, 0] = 0.1
    made = pixel_maps(values, grid)
    assert (made[:3, :3] > 0).all()
    assert np.count_nonzero(made) == 9


ODD = Field(size=(5, 5), stride=(2, 2), start=(-1, -1))
EVEN = Field(size=(4, 4), stride=(2, 2), start=(0, 0))


@pytest.mark.parametrize("field", [ODD, EVEN], ids=["odd", "even"])
@pytest.mark.parametrize("reach", [None, 2])
def test_the_centre_of_every_position_comes_to_lie_in_the_middle(field, reach):
    """One bright pixel at the centre of the field of each position, borders included; half pixels are rounded down."""
    canvas = canvas_of(field, (20, 24), reach)
    assert canvas.sides == ((39, 47) if reach is None else (9, 9))
    for position in [(0, 0), (3, 5), (9, 10)]:
        y, x = (math.floor(centre) for centre in field.centre(position))
        image = np.zeros((1, 20, 24))
        image[0, y, x] = 1
        mean, coverage = canvas.mean(image, np.array([position]))
        assert np.argwhere(mean == 1).tolist() == [[canvas.sides[0] // 2, canvas.sides[1] // 2]]
        assert coverage.max() == 1
    assert canvas.middle == tuple(side // 2 + (0.5 if field is EVEN else 0) for side in canvas.sides)


@pytest.mark.parametrize("field", [ODD, EVEN], ids=["odd", "even"])
def test_the_small_canvas_holds_all_that_can_differ_from_zero(field):
    """Whatever touches the field by an occluder lies on it."""
    patch = 3
    canvas = canvas_of(field, (40, 40), patch - 1)
    (top, bottom), (left, right) = field.region((7, 8))
    image = np.zeros((1, 40, 40))
    image[0, int(top) - patch + 1 : int(bottom) + patch, int(left) - patch + 1 : int(right) + patch] = 1
    mean, _ = canvas.mean(image, np.array([[7, 8]]))
    assert np.nansum(mean) == image.sum()


def test_means_are_those_of_a_loop_over_pixels_and_images():
    random = np.random.default_rng(1)
    canvas = canvas_of(ODD, (10, 12), None)
    maps, positions = random.normal(size=(5, 10, 12)), random.integers(0, 5, (5, 2))
    maps[2, :3] = np.nan  # not covered
    mean, coverage = canvas.mean(maps, positions)
    middle = np.array(canvas.sides) // 2
    for y in range(canvas.sides[0]):
        for x in range(canvas.sides[1]):
            here = []
            for one, position in zip(maps, positions):
                i, j = np.array([y, x]) - middle + np.floor(ODD.centre(position)).astype(int)
                if 0 <= i < 10 and 0 <= j < 12 and not np.isnan(one[i, j]):
                    here.append(one[i, j])
            assert coverage[y, x] == len(here)
            if len(here) < 2.5:
                assert np.isnan(mean[y, x])
            else:
                np.testing.assert_allclose(mean[y, x], np.mean(here), rtol=1e-6)


def test_a_field_that_is_the_whole_image_is_not_moved():
    everything = Field(size=(8, 6), stride=(0, 0), start=(0, 0))
    canvas = canvas_of(everything, (8, 6), 2)
    assert canvas == Canvas((8, 6), (8, 6), everything, recentred=False)
    assert canvas.middle == (3.5, 2.5)
    maps = np.random.default_rng(2).normal(size=(2, 8, 6))
    for positions in (np.zeros((2, 0), int), np.array([[1, 1], [0, 3]])):
        mean, coverage = canvas.mean(maps, positions)
        np.testing.assert_allclose(mean, maps.mean(0), rtol=1e-6)
        assert (coverage == 2).all()


@pytest.mark.parametrize(("stride", "start"), [(2, -29), (-2, 20), (1, -40)])
def test_a_canvas_holds_the_image_wherever_the_centre_lies(stride, start):
    """F85: also where it lies outside of the image, as that of a position in the padding or of a shifted map."""
    field = Field(size=(63, 63), stride=(stride, stride), start=(start, start))
    canvas = canvas_of(field, (21, 20), 0, (11, 10))
    maps = np.random.default_rng(0).normal(size=(21, 20))
    for position in ((0, 0), (10, 9), (0, 9), (5, 5)):
        first, last = (
            np.maximum(np.ceil([a for a, _ in field.region(position)]), 0),
            [b for _, b in field.region(position)],
        )
        seen = np.zeros((21, 20), bool)
        seen[int(first[0]) : int(last[0]) + 1, int(first[1]) : int(last[1]) + 1] = True
        mean, _ = canvas.mean(np.where(seen, maps, 0)[None], np.array([position]))
        np.testing.assert_allclose(np.nansum(mean), maps[seen].sum(), rtol=1e-5)


def test_a_centre_in_the_padding_leaves_what_is_seen_of_the_image():
    """A field that lies outside the image but for a corner."""
    outside = Field(size=(3, 3), stride=(1, 1), start=(-6, -6))
    mean, coverage = canvas_of(outside, (8, 8), 4).mean(np.ones((1, 8, 8)), np.array([[0, 0]]))
    assert coverage.sum() == np.nansum(mean) == 1  # only the first pixel is within reach
    _, coverage = canvas_of(outside, (8, 8), 1).mean(np.ones((1, 8, 8)), np.array([[0, 0]]))
    assert coverage.sum() == 0


def test_the_size_of_a_box_and_of_a_gaussian():
    """Above the level q a Gaussian of width s is a disc of radius s sqrt(2 ln 1/q)."""
    box = np.zeros((31, 41))
    box[10:16, 20:26] = 3
    assert side_above(box, 0.5) == side_above(box, 0.2) == 6
    sigma, level = 20.0, 0.2
    y, x = np.mgrid[:301, :301] - 150
    gaussian = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    expected = math.sqrt(math.pi * 2 * sigma**2 * math.log(1 / level))
    assert side_above(gaussian, level) == pytest.approx(expected, rel=2e-3)


def test_centre_and_width_of_a_box_and_of_a_gaussian():
    box = np.full((31, 41), -1.0)  # what is negative does not count
    box[10:16, 20:30] = 3
    box[0] = np.nan
    centre, width = moments(box, (15, 20))
    np.testing.assert_allclose(centre, [-2.5, 4.5])
    np.testing.assert_allclose(width, [math.sqrt((6**2 - 1) / 12), math.sqrt((10**2 - 1) / 12)])
    y, x = np.mgrid[:201, :201] - 100.0
    centre, width = moments(np.exp(-((y - 3) ** 2 / (2 * 8**2) + (x + 5) ** 2 / (2 * 12**2))), (100, 100))
    np.testing.assert_allclose(centre, [3, -5], atol=1e-6)
    np.testing.assert_allclose(width, [8, 12], atol=1e-6)


def test_a_field_of_nothing_has_no_size_and_no_place():
    nothing, unknown = np.zeros((5, 5)), np.full((5, 5), np.nan)
    assert side_above(nothing, 0.5) == side_above(-np.ones((5, 5)), 0.5) == 0
    assert math.isnan(side_above(unknown, 0.5))
    for field in (nothing, unknown, -np.ones((5, 5))):
        assert np.isnan(moments(field, (2, 2))).all()
    mean, coverage = canvas_of(ODD, (8, 8), None).mean(np.zeros((0, 8, 8)), np.zeros((0, 2), int))
    assert np.isnan(mean).all() and not coverage.any()
