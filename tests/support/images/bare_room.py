"""A bare room in which tests put single things."""

import numpy as np

from cnnprobe.datasets.rendering.rooms import Camera, Room, Walls
from cnnprobe.datasets.rendering.scenes import Scene, Solid
from cnnprobe.datasets.rendering.textures import Paint

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
