import numpy as np
import pytest

from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.datasets.rendering.rooms import SHAPES
from cnnprobe.datasets.rendering.scenes import LANDMARKS, draw_scene, linear


def scenes(landmark, count=60):
    shape = "round" if landmark is not None else None
    return [
        draw_scene(stream(seed), shape=shape or SHAPES[seed % 5], heading=None, landmark=landmark, landmarks=None)
        for seed in range(count)
    ]


@pytest.mark.parametrize("landmark", [None, 0])
def test_views_are_those_of_a_person(landmark):
    """Eye height, pitch, field of view and room height as people have them; the eye stands inside."""
    for scene in scenes(landmark):
        camera, room = scene.camera, scene.room
        assert 1.2 <= camera.height <= 1.8 and abs(np.degrees(camera.pitch)) <= 10
        assert 60 <= np.degrees(camera.field) <= 90 and 2.4 <= room.height <= 4
        assert room.walls.inside(np.array([[camera.x, camera.y]]), 0.3).all()
        assert room.walls.in_view(camera).any()
        assert room.walls.inside(room.lamp[None, :2], 0).all() and room.lamp[2] < room.height


def test_solids_stand_in_the_room_and_apart_from_the_eye():
    for landmark in range(6):
        for scene in scenes(landmark, 10):
            for solid in scene.solids:
                place = np.array([[solid.x, solid.y]])
                assert scene.room.walls.inside(place, 0).all() and 0 < solid.height <= scene.room.height
                assert np.hypot(solid.x - scene.camera.x, solid.y - scene.camera.y) > solid.radius


def test_the_landmark_asked_is_among_one_to_four_different_ones():
    counts = set()
    for landmark, kind in enumerate(LANDMARKS):
        for scene in scenes(landmark, 12):
            panels = [decal for decal in scene.decals if decal.ink is not None]
            shapes = [solid.shape for solid in scene.solids] + ["panel"] * len(panels)
            counts.add(len(shapes))
            assert kind.shape in shapes
            assert all(1 <= len(panel.letters) == len(set(panel.letters)) <= 3 for panel in panels)
    assert counts == {1, 2, 3, 4}


def test_geometry_rooms_have_blotches_only():
    for scene in scenes(None):
        assert not scene.landmark and not scene.solids and len(scene.decals) >= 2
        assert all(decal.ink is None and not decal.letters for decal in scene.decals)


def test_colours_are_squared():
    np.testing.assert_allclose(linear("#ff0080"), [1, 0, (128 / 255) ** 2])
