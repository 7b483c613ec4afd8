"""Rooms of the avatar dataset in plan: their walls, who looks from where, and what stands or is painted in them.

Lengths are metres, angles radians, colours linear light. The plan is (x, y) with x to the right and y upwards; walls
run counter-clockwise; a view's tangents are sideways and upwards per metre of depth.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.textures import Paint

SHAPES = ("oblong", "trapezium", "kite", "L", "many corners")
HEADINGS = 8
MARGIN = 0.7  # nobody stands closer to a wall
AHEAD = 2.2  # the wall ahead is farther than this
AIM = 0.8  # what an image is about lies within this part of its half width


@dataclass(frozen=True)
class Camera:
    """Who looks: the eye's place, where it looks, and how wide."""

    x: float
    y: float
    height: float
    yaw: float
    pitch: float
    field: float  # field of view, across the image

    @property
    def half_width(self) -> float:
        """Tangent of half the field of view."""
        return float(np.tan(self.field / 2))

    def directions(self, sideways: np.ndarray) -> np.ndarray:
        """Return plan directions (ray, xy) of rays with the given tangents, one metre deep each."""
        forward = np.array([np.cos(self.yaw), np.sin(self.yaw)])
        right = np.array([np.sin(self.yaw), -np.cos(self.yaw)])
        return forward + np.asarray(sideways)[:, None] * right

    def seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return depth and sideways tangent of plan points (point, xy)."""
        offset = points - (self.x, self.y)
        depth = offset @ (np.cos(self.yaw), np.sin(self.yaw))
        across = offset @ (np.sin(self.yaw), -np.cos(self.yaw))
        return depth, across / np.where(np.abs(depth) < 1e-9, 1e-9, depth)


@dataclass(frozen=True)
class Room:
    """Walls, light and paint."""

    corners: np.ndarray  # (corner, xy)
    height: float
    lamp: np.ndarray  # x, y, z
    power: float
    tones: np.ndarray  # (wall,) brightness of each wall
    wall: Paint
    floor: Paint
    ceiling: Paint


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the signed area between plan vectors (..., xy)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def wall_hits(
    corners: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the wall that each ray meets first.

    Args:
        corners: (corner, xy).
        origin: (xy) or (ray, xy), inside the room.
        directions: (ray, xy), any length.

    Returns:
        depth (ray,) in lengths of the direction; wall (ray,), the index of its first corner; along (ray,), metres from
        corner 0 along the walls.
    """
    edges = np.roll(corners, -1, axis=0) - corners
    to_corner = corners - np.asarray(origin)[..., None, :]  # (ray or 1, wall, xy)
    across = cross(directions[:, None], edges)
    across = np.where(np.abs(across) < 1e-12, 1e-12, across)
    depth = cross(to_corner, edges) / across  # (ray, wall)
    part = cross(to_corner, directions[:, None]) / across
    depth = np.where((depth > 1e-9) & (part >= -1e-9) & (part <= 1 + 1e-9), depth, np.inf)
    wall = depth.argmin(axis=1)
    rays = np.arange(len(wall))
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    start = np.concatenate([[0.0], lengths.cumsum()[:-1]])
    return depth[rays, wall], wall, start[wall] + part[rays, wall] * lengths[wall]


def inside(corners: np.ndarray, points: np.ndarray, margin: float) -> np.ndarray:
    """Tell which plan points (point, xy) lie in the room, at least `margin` away from every wall."""
    edges = np.roll(corners, -1, axis=0) - corners
    offset = points[:, None] - corners  # (point, wall, xy)
    part = (np.sum(offset * edges, axis=-1) / np.sum(edges**2, axis=-1)).clip(0, 1)
    distance = np.linalg.norm(offset - part[..., None] * edges, axis=-1).min(axis=1)
    upper = np.roll(corners, -1, axis=0)[:, 1]
    spans = (corners[:, 1] > points[:, 1:]) != (upper > points[:, 1:])
    crossings = spans & ((cross(edges, offset) > 0) == (edges[:, 1] > 0))
    return (crossings.sum(axis=1) % 2 == 1) & (distance >= margin)


def turns(corners: np.ndarray) -> np.ndarray:
    """Return by how much the wall turns at each corner, radians; negative where the corner points into the room."""
    after = np.roll(corners, -1, axis=0) - corners
    before = corners - np.roll(corners, 1, axis=0)
    return np.arctan2(cross(before, after), np.sum(before * after, axis=-1))


def longest_wall(corners: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the middle (xy) of the longest wall and the direction that faces it."""
    edges = np.roll(corners, -1, axis=0) - corners
    longest = int(np.argmax(np.linalg.norm(edges, axis=1).round(6)))  # equal lengths: the first
    return corners[longest] + edges[longest] / 2, float(np.arctan2(-edges[longest, 0], edges[longest, 1]))


def plan(shape: str, random: np.random.Generator) -> np.ndarray:
    """Draw the corners of a room, (corner, xy), of 14 to 28 square metres around the origin; "round" has 12 to 20."""
    u = random.uniform
    match shape:
        case "oblong":
            corners = _points((0, 0), (1, 0), (1, ratio := u(0.5, 0.75)), (0, ratio))
        case "trapezium":
            left, right = u(0, 0.4), u(0.6, 1)
            depth = u(0.55, 0.85)
            corners = _points((0, 0), (1, 0), (right, depth), (left, depth))
        case "kite":
            waist, half = u(0.28, 0.4), u(0.33, 0.42)
            corners = _points((0, 0), (waist, -half), (1, 0), (waist, half))
        case "L":
            notch, depth = u(0.35, 0.55), u(0.75, 1)
            inner = depth * u(0.45, 0.65)
            corners = _points((0, 0), (1, 0), (1, inner), (notch, inner), (notch, depth), (0, depth))
        case "many corners":
            corners = _irregular(random)
        case "round":
            corners = _circle(2 * np.pi * np.arange(walls := int(random.integers(12, 21))) / walls)
    if u() < 0.5:
        corners = (corners * (-1, 1))[::-1]  # mirrored, still counter-clockwise
    corners = corners - (corners.min(axis=0) + corners.max(axis=0)) / 2
    area = cross(corners, np.roll(corners, -1, axis=0)).sum() / 2
    return corners * np.sqrt(u(14, 28) / area)


def _points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, float)


def _circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _irregular(random: np.random.Generator) -> np.ndarray:
    """Draw a polygon of 5 to 7 corners, none of them nearly straight."""
    while True:
        count = int(random.integers(5, 8))
        angles = 2 * np.pi * (np.arange(count) + random.uniform(-0.3, 0.3, count)) / count
        corners = _circle(angles) * random.uniform(0.75, 1.2, (count, 1))
        if turns(corners).min() > np.radians(28):
            return corners


def stand(corners: np.ndarray, yaw: float, field: float, random: np.random.Generator) -> np.ndarray | None:
    """Choose a place (xy) from where a corner is well in view and the wall ahead is far; None where there is none.

    In a room that is narrow in this direction, walls may be nearer.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    for closeness in (1, 0.85, 0.7, 0.6, 0.5):
        places = random.uniform(low, high, (64, 2))
        places = places[inside(corners, places, MARGIN * closeness)]
        eye = Camera(0, 0, 0, yaw, 0, field)
        ahead = wall_hits(corners, places, eye.directions(np.zeros(len(places))))[0]
        for x, y in places[ahead > AHEAD * closeness]:
            if corners_in_view(Camera(x, y, 0, yaw, 0, field), corners).any():
                return np.array([x, y])
    return None


def corners_in_view(camera: Camera, corners: np.ndarray, part: float = AIM) -> np.ndarray:
    """Tell which corners (corner,) are in view: in front, within `part` of the half width, behind no other wall."""
    depth, sideways = camera.seen(corners)
    ahead = (depth > 0.8) & (np.abs(sideways) < part * camera.half_width)
    if not ahead.any():
        return ahead
    first = wall_hits(corners, np.array([camera.x, camera.y]), corners - (camera.x, camera.y))[0]
    return ahead & (first > 0.999)
