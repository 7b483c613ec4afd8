"""Rooms of the avatar dataset in plan: their walls, who looks from where, and what stands or is painted in them.

Lengths are metres, angles radians, colours linear light. The plan is (x, y) with x to the right and y upwards; walls
run counter-clockwise; a view's tangents are sideways and upwards per metre of depth.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.rendering.textures import Paint

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


class Walls:
    """The outline of a room in plan, and what rays meet of it.

    Args:
        corners: (corner, xy), counter-clockwise; wall k runs from corner k to the next.
    """

    def __init__(self, corners: np.ndarray):
        self.corners = corners
        self.edges = np.concatenate([corners[1:], corners[:1]]) - corners
        self.lengths = np.hypot(self.edges[:, 0], self.edges[:, 1])
        self.starts = np.concatenate([[0.0], self.lengths.cumsum()[:-1]])  # metres along the walls
        self.normals = np.stack([-self.edges[:, 1], self.edges[:, 0]], axis=1) / self.lengths[:, None]  # into the room
        before = np.concatenate([self.edges[-1:], self.edges[:-1]])
        self.turns = np.arctan2(cross(before, self.edges), np.sum(before * self.edges, axis=1))
        """(corner,) radians; negative where a corner points into the room."""

    def hits(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the wall that each ray meets first.

        Args:
            origin: (xy) or (ray, xy), inside the room.
            directions: (ray, xy), any length.

        Returns:
            depth (ray,) in lengths of the direction; wall (ray,); along (ray,), metres from corner 0 along the walls.
        """
        to_corner = self.corners - origin[..., None, :]  # (ray or none, wall, xy)
        across = cross(directions[:, None], self.edges)
        across[across == 0] = 1e-12
        depth = cross(to_corner, self.edges) / across  # (ray, wall)
        part = cross(to_corner, directions[:, None]) / across
        depth[(depth < 1e-9) | (np.abs(part - 0.5) > 0.5 + 1e-9)] = np.inf
        wall = depth.argmin(axis=1)
        rays = np.arange(len(wall))
        return depth[rays, wall], wall, self.starts[wall] + part[rays, wall] * self.lengths[wall]

    def inside(self, points: np.ndarray, margin: float) -> np.ndarray:
        """Tell which points (point, xy) lie in the room, at least `margin` away from every wall."""
        offset = points[:, None] - self.corners  # (point, wall, xy)
        part = (np.sum(offset * self.edges, axis=-1) / self.lengths**2).clip(0, 1)
        gap = offset - part[..., None] * self.edges
        distance2 = np.sum(gap**2, axis=-1).min(axis=1)
        low, high = self.corners[:, 1], self.corners[:, 1] + self.edges[:, 1]
        spans = (low > points[:, 1:]) != (high > points[:, 1:])
        crossings = spans & ((cross(self.edges, offset) > 0) == (self.edges[:, 1] > 0))
        return (crossings.sum(axis=1) % 2 == 1) & (distance2 >= margin**2)

    def longest(self) -> tuple[np.ndarray, float]:
        """Return the middle (xy) of the longest wall and the direction that faces it."""
        wall = int(self.lengths.round(6).argmax())  # of equal lengths the first
        out = -self.normals[wall]
        return self.corners[wall] + self.edges[wall] / 2, float(np.arctan2(out[1], out[0]))

    def in_view(self, camera: Camera, part: float = AIM) -> np.ndarray:
        """Tell which corners are in view: in front, within `part` of the half width, behind no other wall."""
        depth, sideways = camera.seen(self.corners)
        seen = (depth > 0.8) & (np.abs(sideways) < part * camera.half_width)
        if seen.any() and self.turns.min() < 0:
            eye = np.array([camera.x, camera.y])
            seen &= self.hits(eye, self.corners - eye)[0] > 0.999
        return seen

    def stand(self, yaw: float, field: float, random: np.random.Generator) -> np.ndarray | None:
        """Choose a place (xy) from where a corner is well in view and the wall ahead is far; None where there is none.

        In a room that is narrow in this direction, walls may be nearer.
        """
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        forward = np.array([[np.cos(yaw), np.sin(yaw)]])
        for closeness in (1, 0.85, 0.7, 0.6, 0.5):
            places = random.uniform(low, high, (24, 2))
            places = places[self.inside(places, MARGIN * closeness)]
            ahead = self.hits(places, forward)[0]
            for x, y in places[ahead > AHEAD * closeness]:
                if self.in_view(Camera(x, y, 0, yaw, 0, field)).any():
                    return np.array([x, y])
        return None


@dataclass(frozen=True)
class Room:
    """Walls, light and paint."""

    walls: Walls
    height: float
    lamp: np.ndarray  # x, y, z
    power: np.ndarray  # (channel,), of the lamp
    ambient: np.ndarray  # (channel,)
    tones: np.ndarray  # (wall,) brightness of each wall
    wall: Paint
    floor: Paint
    ceiling: Paint


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the signed area between plan vectors (..., xy)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def plan(shape: str, random: np.random.Generator) -> Walls:
    """Draw the walls of a room, one of SHAPES or "round" (12 to 20 walls), of 14 to 28 square metres."""
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
    area = cross(corners, Walls(corners).edges).sum() / 2
    return Walls(corners * np.sqrt(u(14, 28) / area))


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
        if Walls(corners).turns.min() > np.radians(28):
            return corners
