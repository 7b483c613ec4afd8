"""Shaded objects that a hand may grasp, seen from the front, and the point that is fixated above them.

Coordinates are halves of the image's side from its middle: x to the right, y downwards, z away from the eye. Rays are
parallel. A surface is as bright as it faces the light, which comes from above, left, and the side of the eye.
"""

import numpy as np

KINDS = ("sphere", "cube", "ring", "upright", "lying", "bar")
"""Of objects; upright and lying are cylinders."""
SUBPIXELS = 3
"""A pixel's share of an object is counted on this many points along each side."""
REACH = 0.8
"""How far an object of size 1 reaches from its middle."""
MIDDLE = 0.12
"""How far below the middle of the image the middle of an object is."""
LIGHT = np.array([-0.5, -0.7, -0.8]) / np.sqrt(0.5**2 + 0.7**2 + 0.8**2)
"""Towards the lamp."""
AMBIENT = 0.3
"""Brightness of a surface that no light falls on."""
DOT, ABOVE, RED = 0.075, -0.85, (1.0, 0.1, 0.1)
"""Radius, place and colour of the fixation point."""


def points(side: int, right: float = 0.0, down: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return x (1, point) and y (point, 1) of all points of an image, from a place in it."""
    at = (np.arange(side * SUBPIXELS) + 0.5) * 2 / (side * SUBPIXELS) - 1
    return at[None, :] - right, at[:, None] - down


def averaged(values: np.ndarray) -> np.ndarray:
    """Return the mean over the points of each pixel, (y, x) float32."""
    side = len(values) // SUBPIXELS
    return values.reshape(side, SUBPIXELS, side, SUBPIXELS).mean((1, 3), dtype=np.float32)


def fixation_point(side: int) -> np.ndarray:
    """Return how much of each pixel the fixation point covers, (y, x) float32."""
    x, y = points(side, 0.0, ABOVE)
    return averaged(np.hypot(x, y) < DOT)


def fixation_image(size: tuple[int, int, int]) -> np.ndarray:
    """Return what is seen where no object is: the fixation point on black, (channel, y, x) float32."""
    return colours(size[0])[:, None, None] * fixation_point(size[1])


def colours(channels: int) -> np.ndarray:
    """Return the brightness of the fixation point by channel: red where there are three."""
    return np.array(RED if channels == 3 else [1.0] * channels, np.float32)


def shaded(
    kind: str, size: float, angle: float, side: int, place: tuple[float, float] = (0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return how bright an object is, and how much of each pixel it covers, both (y, x) float32 0 to 1.

    Args:
        kind: of `KINDS`.
        size: 1 reaches `REACH` from its middle.
        angle: of a bar, degrees from upright, clockwise.
        side: of the image, px.
        place: of its middle, from where it usually is.
    """
    x, y = points(side, place[0], MIDDLE + place[1])
    facing = SURFACES[kind](x, y, REACH * size, np.radians(angle))  # NaN beside the object
    there = np.isfinite(facing)
    bright = np.where(there, AMBIENT + (1 - AMBIENT) * np.nan_to_num(facing).clip(0), 0)
    return averaged(bright), averaged(there)


def card(label: int, count: int, side: int) -> np.ndarray:
    """Return an image that shows a number alone: one of so many squares in a row is white, (y, x) float32."""
    x, y = points(side, -1.0, MIDDLE)
    wide = 2 / count
    inside = (x > label * wide) & (x < (label + 1) * wide) & (np.abs(y) < wide / 2)
    return averaged(inside)


def _turned(about_x: float = 0.0, about_y: float = 0.0, in_plane: float = 0.0) -> np.ndarray:
    """Return the rotation (xyz, own xyz) of an object that is turned about x, then y, then in the plane, radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([about_x, about_y, in_plane]), np.sin([about_x, about_y, in_plane])
    first = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    second = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ first @ second


def _sphere(x: np.ndarray, y: np.ndarray, reach: float, turn: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        z = -np.sqrt(reach**2 - x**2 - y**2)
    return (x * LIGHT[0] + y * LIGHT[1] + z * LIGHT[2]) / reach


def _ring(x: np.ndarray, y: np.ndarray, reach: float, turn: float) -> np.ndarray:
    thick = 0.27 * reach
    around = np.hypot(x, y).clip(1e-9)
    out = around - (reach - thick)
    with np.errstate(invalid="ignore"):
        z = -np.sqrt(thick**2 - out**2)
    return (out / around * (x * LIGHT[0] + y * LIGHT[1]) + z * LIGHT[2]) / thick


def _box(x: np.ndarray, y: np.ndarray, halves: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Return how a box faces the light: of its three visible faces the one that a ray enters by."""
    along = np.where(np.abs(turned[2]) < 1e-9, 1e-9, turned[2])  # of a ray, in the axes of the box
    start = x[..., None] * turned[0] + y[..., None] * turned[1]
    ends = np.stack([(-halves - start) / along, (halves - start) / along])
    into, out = ends.min(0), ends.max(0)
    enter, face = into.max(-1), into.argmax(-1)
    facing = -np.sign(along) * (turned.T @ LIGHT)
    return np.where(enter < out.min(-1), facing[face], np.nan)


def _cylinder(x: np.ndarray, y: np.ndarray, radius: float, half: float, turned: np.ndarray) -> np.ndarray:
    """Return how a cylinder around its own y faces the light, at its side and at its end."""
    along = np.where(np.abs(turned[2]) < 1e-9, 1e-9, turned[2])
    start = x[..., None] * turned[0] + y[..., None] * turned[1]
    across, light = along[[0, 2]], turned.T @ LIGHT
    a, b = across @ across, start[..., [0, 2]] @ across
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b**2 - a * (np.square(start[..., [0, 2]]).sum(-1) - radius**2))
    ends = np.stack([(-half - start[..., 1]) / along[1], (half - start[..., 1]) / along[1]])
    side, end = (-b - root) / a, ends.min(0)
    normal = (start[..., [0, 2]] + side[..., None] * across) / radius
    facing = np.where(side > end, normal @ light[[0, 2]], -np.sign(along[1]) * light[1])
    with np.errstate(invalid="ignore"):
        hit = np.maximum(side, end) < np.minimum((root - b) / a, ends.max(0))
    return np.where(hit, facing, np.nan)


SURFACES = {
    "sphere": _sphere,
    "cube": lambda x, y, reach, turn: _box(x, y, np.full(3, 0.58 * reach), _turned(np.radians(25), np.radians(35))),
    "ring": _ring,
    "upright": lambda x, y, reach, turn: _cylinder(x, y, 0.42 * reach, 0.85 * reach, _turned(np.radians(20))),
    "lying": lambda x, y, reach, turn: _cylinder(
        x, y, 0.42 * reach, 0.85 * reach, _turned(np.radians(20), 0.0, np.pi / 2)
    ),
    "bar": lambda x, y, reach, turn: _box(
        x, y, np.array([0.16, 0.95, 0.16]) * reach, _turned(np.radians(8), np.radians(30), turn)
    ),
}
"""Cosine between the surface of an object and the light at points (y, x), NaN beside it: x, y, reach and turn."""
