import dataclasses

import numpy as np
import pytest

from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.datasets.rendering.raycaster import trace
from cnnprobe.datasets.rendering.scenes import draw_scene
from tests.support.images.bare_room import FOCAL, SIDE, scene


def inside(walls: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether plan points lie in a polygon, by the angle that its corners turn around them."""
    spokes = walls[None] - points[:, None]
    angles = np.unwrap(np.arctan2(spokes[..., 1], spokes[..., 0]), axis=1)
    angles = np.concatenate([angles, angles[:, :1]], axis=1)
    steps = np.diff(np.arctan2(np.sin(angles), np.cos(angles)), axis=1)
    return np.abs(np.arctan2(np.sin(steps), np.cos(steps)).sum(axis=1)) > np.pi


@pytest.mark.parametrize("seed", range(6))
def test_distances_end_at_the_walls_floor_and_ceiling(seed):
    """A point shortly before the distance lies in the room, one shortly behind it does not."""
    drawn = draw_scene(stream(seed), shape=("L", "kite")[seed % 2], heading=None, landmark=None, landmarks=None)
    camera, room = drawn.camera, drawn.room
    _, distance, kind = trace(drawn, 24)
    assert not kind.any()
    tangent = ((np.arange(24) + 0.5) / 12 - 1) * np.tan(camera.field / 2)
    sideways, down = np.meshgrid(tangent, tangent)
    forward = np.array([np.cos(camera.yaw), np.sin(camera.yaw), np.tan(camera.pitch)])
    right = np.array([np.sin(camera.yaw), -np.cos(camera.yaw), 0])
    rays = forward + sideways[..., None] * right - down[..., None] * np.array([0, 0, 1])
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, 3)
    for factor, expected in ((0.998, True), (1.002, False)):
        points = np.array([camera.x, camera.y, camera.height]) + factor * distance.reshape(-1, 1) * rays
        within = inside(room.walls.corners, points[:, :2]) & (points[:, 2] > 0) & (points[:, 2] < room.height)
        assert (within == expected).all()


def test_the_wall_ahead_is_as_far_as_it_stands():
    _, distance, _ = trace(scene(), SIDE)
    assert distance[50, 50] == pytest.approx(4.0)
    assert distance[100, 50] == pytest.approx(1.5 * np.hypot(1, FOCAL / 50), rel=1e-5)  # the floor, 50 px below


def test_walls_nearer_to_the_lamp_are_brighter():
    lit = scene()
    moved = dataclasses.replace(lit, room=dataclasses.replace(lit.room, lamp=np.array([3.0, 0.0, 2.0])))
    assert trace(moved, SIDE)[0][0, 50, 50] > 1.2 * trace(lit, SIDE)[0][0, 50, 50]


def test_bands_of_rows_leave_no_seam(monkeypatch):
    """The image does not depend on how many rows are drawn at a time."""
    drawn = draw_scene(stream(7), shape="round", heading=None, landmark=2, landmarks=4)
    whole = trace(drawn, 64)
    monkeypatch.setattr("cnnprobe.datasets.rendering.raycaster.BAND", 64 * 5)
    cut = trace(drawn, 64)
    np.testing.assert_array_equal(whole[1], cut[1])
    np.testing.assert_array_equal(whole[2], cut[2])
    assert np.mean(np.abs(whole[0] - cut[0]) > 1e-5) < 0.01
