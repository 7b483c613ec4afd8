import dataclasses

import numpy as np
import pytest

from cnnprobe.datasets.drawn import stream
from cnnprobe.datasets.raycaster import LETTER, OBJECT, PANEL, trace
from cnnprobe.datasets.rooms import Camera, Room, Walls
from cnnprobe.datasets.scenes import Decal, Scene, Solid, draw_scene
from cnnprobe.datasets.textures import Paint

GREY = Paint(0, 1.0, np.full(3, 0.3), np.full(3, 0.3))
RED = Paint(0, 1.0, np.array([0.5, 0, 0]), np.array([0.5, 0, 0]))
SIDE = 101
FOCAL = SIDE / 2  # px per unit of tangent, at a field of view of 90 degrees


def scene(decals=(), solids=(), **camera):
    """A room of 8 x 8 x 3 m, seen from its middle along x at 1.5 m."""
    walls = Walls(np.array([[-4.0, -4.0], [4.0, -4.0], [4.0, 4.0], [-4.0, 4.0]]))
    light = np.full(3, 1.0)
    room = Room(walls, 3.0, np.array([0.0, 0.0, 2.8]), light, light, np.ones(4), GREY, GREY, GREY)
    view = {"x": 0.0, "y": 0.0, "height": 1.5, "yaw": 0.0, "pitch": 0.0, "field": np.pi / 2} | camera
    return Scene(Camera(**view), room, tuple(decals), tuple(solids), landmark=True)


def solid(shape, **others):
    return Solid(
        **{"shape": shape, "x": 3.0, "y": 0.0, "radius": 0.5, "height": 1.5, "turn": 0.0, "paint": RED} | others
    )


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


@pytest.mark.parametrize(("shape", "nearest"), [("cylinder", 2.5), ("box", 3 - 0.5 / np.sqrt(2)), ("cone", None)])
def test_a_solid_is_seen_where_it_stands(shape, nearest):
    _, distance, kind = trace(scene(solids=[solid(shape)], height=1.2), SIDE)
    seen = kind == OBJECT
    columns = np.flatnonzero(seen.any(axis=0))
    half = {"cylinder": 0.5 / np.sqrt(9 - 0.25), "box": (0.5 / np.sqrt(2)) / (3 - 0.5 / np.sqrt(2)), "cone": 0.5 / 3}[
        shape
    ]
    assert columns[0] == SIDE - 1 - columns[-1]  # straight ahead
    assert (len(columns) - 1) / 2 == pytest.approx(half * FOCAL, abs=1.1)
    if nearest:
        assert distance[50, 50] == pytest.approx(nearest, rel=1e-5)
        top = np.flatnonzero(seen[:, 50])[0]
        assert 50 - top == pytest.approx(0.3 / nearest * FOCAL, abs=1)
    assert not seen[0].any() and distance[seen].max() < 4


def test_a_cone_s_surface_narrows_to_its_tip():
    _, distance, kind = trace(scene(solids=[solid("cone", height=2.0)], height=1.0), SIDE)
    for row in (30, 40, 50, 60):
        columns = np.flatnonzero(kind[row] == OBJECT)
        for column in columns:
            depth = distance[row, column] / np.sqrt(1 + ((column - 50) / FOCAL) ** 2 + ((50 - row) / FOCAL) ** 2)
            x, y, z = depth - 3, depth * (column - 50) / FOCAL, 1 + depth * (50 - row) / FOCAL
            assert np.hypot(x, y) == pytest.approx(0.5 * (2 - z) / 2, abs=1e-4)


def test_the_top_of_a_low_cylinder_is_seen_from_above():
    _, distance, kind = trace(scene(solids=[solid("cylinder", height=0.5, x=2.0)]), SIDE)
    rows = np.flatnonzero(kind[:, 50] == OBJECT)
    depth = distance[rows, 50] / np.hypot(1, (50 - rows) / FOCAL)
    height = 1.5 + depth * (50 - rows) / FOCAL
    top = depth > 1.5 + 1e-4
    assert top.any() and not top.all()
    np.testing.assert_allclose(height[top], 0.5, atol=1e-4)
    np.testing.assert_allclose(depth[~top], 1.5, atol=1e-4)


def test_the_nearer_solid_hides_the_farther_whatever_the_order():
    near, far = solid("cylinder", x=2.0, height=2.0), solid("box", x=3.2, height=2.0)
    images = [trace(scene(solids=order), SIDE)[0] for order in ((near, far), (far, near))]
    np.testing.assert_allclose(images[0][:, 10:60], images[1][:, 10:60], atol=0.02)  # shadows fall in another order


def test_a_panel_hangs_where_it_is_hung_and_carries_its_letters_from_left_to_right():
    """Wall 1 is ahead; its middle is 8 + 4 m along the walls. An L has its upright on the left, seen from inside."""
    from cnnprobe.datasets.textures import LETTERS

    panel = Decal(True, 12.0, 1.5, 1.0, 1.0, RED, np.zeros(3), (LETTERS.index("L"),))
    image, _, kind = trace(scene(decals=[panel]), SIDE)
    y, x = np.nonzero((kind == PANEL) | (kind == LETTER))
    assert (y.min(), y.max(), x.min(), x.max()) == (38, 62, 38, 62)  # 1 m at 4 m: 12.6 px to each side
    letter = kind[40:61, 40:61] == LETTER  # within the frame
    columns, rows = letter.sum(axis=0), letter.sum(axis=1)
    assert columns.argmax() < 10 and rows.argmax() > 10
    assert image[0][kind == PANEL].min() > 2 * image[0][kind == LETTER].max()


def test_a_blotch_is_no_landmark_and_stays_within_its_bounds():
    blotch = Decal(True, 12.0, 1.5, 1.0, 1.0, RED)
    plain, painted = (trace(scene(decals=decals), SIDE) for decals in ((), (blotch,)))
    changed = np.abs(plain[0] - painted[0]).max(axis=0) > 1e-6
    assert not painted[2].any()
    np.testing.assert_array_equal(plain[1], painted[1])
    y, x = np.nonzero(changed)
    assert changed.sum() > 100 and y.min() >= 38 and y.max() <= 62 and x.min() >= 38 and x.max() <= 62


def test_walls_nearer_to_the_lamp_are_brighter():
    lit = scene()
    moved = dataclasses.replace(lit, room=dataclasses.replace(lit.room, lamp=np.array([3.0, 0.0, 2.0])))
    assert trace(moved, SIDE)[0][0, 50, 50] > 1.2 * trace(lit, SIDE)[0][0, 50, 50]


def test_bands_of_rows_leave_no_seam(monkeypatch):
    """The image does not depend on how many rows are drawn at a time."""
    drawn = draw_scene(stream(7), shape="round", heading=None, landmark=2, landmarks=4)
    whole = trace(drawn, 64)
    monkeypatch.setattr("cnnprobe.datasets.raycaster.BAND", 64 * 5)
    cut = trace(drawn, 64)
    np.testing.assert_array_equal(whole[1], cut[1])
    np.testing.assert_array_equal(whole[2], cut[2])
    assert np.mean(np.abs(whole[0] - cut[0]) > 1e-5) < 0.01
