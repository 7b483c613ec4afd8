"""The rays of an image, and the rows of it that are being drawn.

The picture plane stands upright, as with a shift lens: pitch moves the horizon, and walls stay upright. So one ray per
column finds what the plan holds, and the rest is arithmetic on (row, column).
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.rendering.scenes import Scene

FAR = 1e6


class Rays:
    """The view of a scene: per column what the plan says, per row the slope.

    Args:
        scene: what is seen.
        side: rays along each side of the image.
    """

    def __init__(self, scene: Scene, side: int):
        camera, room = scene.camera, scene.room
        self.scene = scene
        self.focal = side / 2 / camera.half_width  # rays per unit of tangent
        centred = (np.arange(side) + 0.5 - side / 2) / self.focal
        self.eye = np.array([camera.x, camera.y])
        self.direction = camera.directions(centred)  # (column, xy)
        self.length2 = np.sum(self.direction**2, axis=1)
        self.slope = np.tan(camera.pitch) - centred  # (row,)
        self.slope[self.slope == 0] = 1e-9  # the horizon is never met
        self.wall_depth, self.wall, self.along = room.walls.hits(self.eye, self.direction)
        below, above = camera.height, room.height - camera.height
        self.plane_depth = np.minimum(np.where(self.slope < 0, -below, above) / self.slope, FAR)  # (row,)


@dataclass
class Band:
    """Some rows of an image while it is drawn; all arrays are (row, column)."""

    rays: Rays
    rows: slice
    depth: np.ndarray
    on_wall: np.ndarray
    colour: np.ndarray  # (channel, row, column), linear light
    facing: np.ndarray  # metres the lamp stands in front of the surface
    shade: np.ndarray  # what crevices and shadows leave of the light
    kind: np.ndarray  # int8

    @property
    def slope(self) -> np.ndarray:
        """(row,)."""
        return self.rays.slope[self.rows]


def single(array: np.ndarray) -> np.ndarray:
    """Return an array as float32."""
    return np.asarray(array, np.float32)


def window(mask: np.ndarray) -> slice:
    """Return the shortest slice that holds all true entries."""
    found = np.flatnonzero(mask)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def chord(rays: Rays, x: float, y: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return at which depths each column's ray enters and leaves a circle in plan, NaN where it misses."""
    offset = np.array([x, y]) - rays.eye
    middle = rays.direction @ offset / rays.length2
    half = (middle**2 - (offset @ offset - radius**2) / rays.length2).clip(0) ** 0.5
    half = np.where((half > 0) & (middle + half > 0), half, np.nan)
    return middle - half, middle + half


def on_plan(band: Band, x: float, y: float, radius: float) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return rows and columns that hold a circle on the floor, and there the metres from its middle along x and y."""
    rays = band.rays
    enter, leave = chord(rays, x, y, radius)
    columns = window(leave > 0)
    if columns.stop == columns.start:
        return slice(0), columns, enter[:0], enter[:0]
    depth = rays.plane_depth[band.rows]
    rows = window((band.slope < 0) & (depth > np.nanmin(enter)) & (depth < np.nanmax(leave)))
    p, q = (
        single(rays.eye[axis] - place) + single(depth[rows])[:, None] * single(rays.direction[columns, axis])
        for axis, place in ((0, x), (1, y))
    )
    return rows, columns, p, q
