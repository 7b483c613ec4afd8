import numpy as np
import pytest

from cnnprobe.datasets.rendering.raycaster import background
from cnnprobe.datasets.rendering.rays import Rays, chord, on_plan, window
from tests.support.images.bare_room import FOCAL, SIDE, scene


def test_a_window_is_the_shortest_slice_around_what_is_true():
    assert window(np.array([False, True, False, True, False])) == slice(1, 4)
    assert window(np.zeros(5, bool)) == slice(0, 0)


def test_pitch_moves_the_horizon_and_the_walls_stay_upright():
    level, raised = Rays(scene(), SIDE), Rays(scene(pitch=np.arctan(10 / FOCAL)), SIDE)
    assert np.abs(level.slope[50]) < 1e-6 and np.abs(raised.slope[60]) < 1e-6
    np.testing.assert_array_equal(level.wall_depth, raised.wall_depth)


def test_a_circle_is_entered_and_left_at_its_border():
    rays = Rays(scene(), SIDE)
    enter, leave = chord(rays, 2.0, 0.5, 0.8)
    hit = ~np.isnan(enter)
    assert hit.any() and not hit.all()
    for depth in (enter, leave):
        points = depth[hit, None] * rays.direction[hit] - (2.0, 0.5)
        np.testing.assert_allclose(np.hypot(*points.T), 0.8)
    gaps = np.abs(rays.direction[:, 1] * 2 - rays.direction[:, 0] * 0.5) / np.sqrt(rays.length2)
    np.testing.assert_array_equal(hit, gaps < 0.8)  # the distance of a line from the middle


def test_what_is_behind_is_not_met():
    enter, _ = chord(Rays(scene(), SIDE), -2.0, 0.0, 0.5)
    assert np.isnan(enter).all()


def test_all_floor_within_a_circle_is_in_the_rows_and_columns_returned():
    rays = Rays(scene(), SIDE)
    band = background(rays, slice(0, SIDE))
    rows, columns, x, y = on_plan(band, 3.0, 1.0, 0.7)
    depth = np.where(rays.slope < 0, rays.plane_depth, np.nan)[:, None]
    plan = depth[..., None] * rays.direction  # (row, column, xy)
    near = np.hypot(plan[..., 0] - 3.0, plan[..., 1] - 1.0) < 0.7
    assert near.sum() > 50 and near[rows, columns].sum() == near.sum()
    np.testing.assert_allclose(plan[rows, columns, 0] - 3.0, x, atol=1e-4)
    assert y.shape == x.shape and np.abs(y).max() == pytest.approx(
        np.nanmax(np.abs(plan[rows, columns, 1] - 1)), abs=1e-4
    )
