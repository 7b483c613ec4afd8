"""Scenes that an avatar sees: a room, landmarks or none, blotches of paint, and the eye, all drawn at random.

A geometry scene and a landmark scene differ in what they are about and in nothing else: views, paints, light and the
amount of accent colour come from the same distributions. For each landmark of the one, the other has a blotch of the
same colours, pattern and size as seen, so that neither colours nor frequencies give the answer away.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cnnprobe.datasets.rendering.rooms import AIM, HEADINGS, Camera, Room, Walls, plan
from cnnprobe.datasets.rendering.textures import LETTERS, PATTERNS, TILE, Paint


@dataclass(frozen=True)
class Solid:
    """A landmark that stands free on the floor: "cylinder", "box" or "cone"."""

    shape: str
    x: float
    y: float
    radius: float  # of the circle around its foot, metres
    height: float
    turn: float
    paint: Paint


@dataclass(frozen=True)
class Decal:
    """Something flat on a wall (a: metres along all walls, b: height) or on the floor (a, b: plan)."""

    on_wall: bool
    a: float
    b: float
    half_width: float
    half_height: float
    paint: Paint
    ink: np.ndarray | None = None  # colour of the letters of a panel; None: a blotch with ragged edges
    letters: tuple[int, ...] = ()
    outline: tuple[int, int] = (0, 0)  # texel of the noise pattern from which a blotch takes its outline


@dataclass(frozen=True)
class Scene:
    """All that is drawn."""

    camera: Camera
    room: Room
    decals: tuple[Decal, ...]
    solids: tuple[Solid, ...]
    landmark: bool  # landmarks are what it is about, not the corners


class Kind(NamedTuple):
    """A kind of landmark: its name, shape, pattern and colour, and of a panel the brightness of its letters."""

    name: str
    shape: str
    pattern: str
    colour: str
    ink: float = 0.0


LANDMARKS = (
    Kind("red pillar", "cylinder", "bands", "#d2322d"),
    Kind("yellow pillar", "cylinder", "dots", "#e8b92e"),
    Kind("blue box", "box", "checks", "#2f62c9"),
    Kind("green box", "box", "stripes", "#3d9a47"),
    Kind("orange cone", "cone", "bands", "#e8772a"),
    Kind("purple cone", "cone", "plain", "#8246b5"),
    Kind("teal panel", "panel", "plain", "#1f8f93", 0.9),
    Kind("pink panel", "panel", "noise", "#e58bb0", 0.02),
)
WALLS = ("#d9cfbb", "#c3cdb9", "#b9c7d2", "#d6bfb6", "#c9c6c0", "#d8c48f", "#a9b8b0", "#bfb3c6", "#9fa9b8", "#cbb08c")
FLOORS = ("#8a6748", "#a98b66", "#7d7a75", "#9c5f48", "#5f6e7c", "#6f7b5f", "#b3a58f", "#77595a")
CEILINGS = ("#efece4", "#e4e6e6", "#ded9cc", "#d5dbdf")


def linear(colour: str) -> np.ndarray:
    """Return a colour written as #rrggbb in linear light, 0 to 1; brightness on the screen is its square root."""
    return (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255) ** 2


def draw_scene(
    random: np.random.Generator, *, shape: str, heading: int | None, landmark: int | None, landmarks: int | None
) -> Scene:
    """Draw a scene.

    Args:
        random: the random numbers to use.
        shape: of the room, one of SHAPES or "round".
        heading: which eighth of the circle the eye looks to, 0: at the longest wall; None: any.
        landmark: index of the largest landmark in view; None: blotches stand in for landmarks.
        landmarks: how many; None: 1 to 4.
    """
    camera = None
    while camera is None:  # few rooms have no such view
        walls = plan(shape, random)
        camera = look(walls, heading, random)
    room = furnish(walls, random)
    decals, solids = place(camera, room, landmark, landmarks or int(random.integers(1, 5)), random)
    return Scene(camera, room, decals, solids, landmark is not None)


def look(walls: Walls, heading: int | None, random: np.random.Generator) -> Camera | None:
    """Draw an eye that has a corner in view; None where the room has no place for it."""
    sector = random.integers(HEADINGS) if heading is None else heading
    yaw = walls.longest()[1] + (sector + random.uniform(-0.5, 0.5)) * 2 * np.pi / HEADINGS
    field, pitch = np.radians(random.uniform(60, 90)), np.radians(random.uniform(-10, 10))
    place = walls.stand(yaw, field, random)
    if place is None:
        return None
    x, y = place
    return Camera(x, y, random.uniform(1.2, 1.8), yaw, pitch, field)


def furnish(walls: Walls, random: np.random.Generator) -> Room:
    """Give a room its height, its lamp (towards the longest wall, so that headings differ in light) and its paint."""
    height = random.uniform(2.4, 4.0)
    lamp = np.append(walls.longest()[0] * random.uniform(0.3, 0.6), height - random.uniform(0.3, 0.6))
    wall, floor, ceiling = (random.choice(palette) for palette in (WALLS, FLOORS, CEILINGS))
    daylight = random.uniform(0, 2 * np.pi)  # where some light comes from besides the lamp
    window = np.array([np.cos(daylight), np.sin(daylight)])
    return Room(
        walls,
        height,
        lamp,
        power=random.uniform(0.7, 2.0) * random.uniform(0.85, 1.15, 3),
        ambient=random.uniform(0.2, 0.45) * random.uniform(0.85, 1.15, 3),
        tones=random.uniform(0.95, 1.05, len(walls.corners)) * (1 + random.uniform(0, 0.35) * walls.normals @ window),
        wall=surface(wall, 0.3, random),
        floor=surface(floor, 0.4, random),
        ceiling=surface(ceiling, 0.08, random),
    )


def surface(colour: str, contrast: float, random: np.random.Generator) -> Paint:
    """Paint a wall, floor or ceiling: a hue near the given one, in plain, stripes, checks or noise."""
    mean = linear(colour) * random.uniform(0.85, 1.15, 3)
    contrast = contrast * random.uniform(0.4, 1)
    pattern = int(random.integers(PATTERNS.index("noise") + 1))
    return Paint(pattern, random.uniform(1.0, 2.5), mean * (1 - contrast), mean * (1 + contrast))


def coat(kind: Kind, period: float, random: np.random.Generator) -> Paint:
    """Paint a landmark, or the blotch that stands in for one."""
    light = linear(kind.colour) * random.uniform(0.8, 1.25, 3)
    depth = 0.3 if kind.shape != "panel" else 0.75
    return Paint(PATTERNS.index(kind.pattern), period, light * depth, light)


def spill(kind: Kind, period: float, random: np.random.Generator) -> Paint:
    """Paint the blotch that stands in for a landmark: dark as a solid's far side, or with dots in a panel's ink."""
    paint = coat(kind, period, random)
    if kind.shape == "panel":
        return Paint(PATTERNS.index("dots"), period, paint.light, np.full(3, kind.ink))
    dimmed = random.uniform(0.45, 1)
    return Paint(paint.pattern, period, paint.dark * dimmed, paint.light * dimmed)


def place(
    camera: Camera, room: Room, landmark: int | None, count: int, random: np.random.Generator
) -> tuple[tuple[Decal, ...], tuple[Solid, ...]]:
    """Put landmarks, or blotches in their stead, and one to three more blotches into view."""
    main = int(random.integers(len(LANDMARKS))) if landmark is None else landmark
    others = [kind for kind in random.permutation(len(LANDMARKS)) if kind != main]
    kinds = [LANDMARKS[index] for index in [main, *others][:count]]
    slots = ((random.permutation(count) + random.uniform(0.3, 0.7, count)) / count * 2 - 1) * AIM
    widths = [random.uniform(0.17, 0.25), *random.uniform(0.08, 0.12, count - 1)]
    items: list[Decal | Solid] = []
    for kind, glance in zip(kinds, glances(camera, room, slots, widths)):
        if landmark is None:
            items.append(glance.blotch(kind, random, low=kind.shape != "panel"))
        elif kind.shape == "panel":
            items.append(glance.panel(kind, random))
        else:
            items.append(glance.solid(kind, random))
    extra = int(random.integers(1, 4))
    for glance in glances(camera, room, random.uniform(-1, 1, extra), random.uniform(0.08, 0.2, extra)):
        kind = LANDMARKS[int(random.integers(len(LANDMARKS)))]
        items.append(glance.blotch(kind, random, low=random.uniform() < 0.5))
    decals = sorted((item for item in items if isinstance(item, Decal)), key=lambda decal: decal.ink is not None)
    return tuple(decals), tuple(item for item in items if isinstance(item, Solid))


@dataclass(frozen=True)
class Glance:
    """A part of the view in which something is to appear at a given size."""

    camera: Camera
    room: Room
    direction: np.ndarray  # (xy), one metre deep
    wall: float  # depth of the wall there
    along: float  # where that is along the walls, metres
    half: float  # half the width of the thing, per metre of depth

    def heights(self, depth: float) -> tuple[float, float]:
        """Return the lowest and highest height in view at a depth, metres."""
        middle, half = np.tan(self.camera.pitch), self.camera.half_width * 0.9
        low, high = (self.camera.height + depth * (middle + side * half) for side in (-1, 1))
        return float(max(low, 0)), float(min(high, self.room.height))

    def solid(self, kind: Kind, random: np.random.Generator) -> Solid:
        """Stand a landmark on the floor, in front of the wall."""
        depth = (self.wall - 0.1) / (1 + 1.5 * self.half) * random.uniform(0.7, 1)
        radius = self.half * depth * {"cylinder": 1, "box": 1.15, "cone": 1.4}[kind.shape]
        low, high = self.heights(depth)
        height = min(low + 2 * radius * random.uniform(1.1, 1.9), max(high, low + radius))
        x, y = np.array([self.camera.x, self.camera.y]) + depth * self.direction
        paint = coat(kind, 2 * radius * random.uniform(1.2, 1.8), random)
        return Solid(kind.shape, x, y, radius, height, random.uniform(0, np.pi / 2), paint)

    def panel(self, kind: Kind, random: np.random.Generator) -> Decal:
        """Hang a panel with one to three letters on the wall, at the height of the eye."""
        letters = random.permutation(len(LETTERS))[: int(random.integers(1, 4))]
        low, high = self.heights(self.wall)
        half_width = min(self.half * self.wall * 1.5, 1.3)
        half_height = min(half_width / (0.1 + 0.7 * len(letters)), (high - low) * 0.45)
        b = np.clip(self.camera.height * random.uniform(0.9, 1.2), low + half_height, high - half_height)
        paint = coat(kind, 2 * half_width, random)
        return Decal(True, self.along, float(b), half_width, half_height, paint, np.full(3, kind.ink), tuple(letters))

    def blotch(self, kind: Kind, random: np.random.Generator, *, low: bool) -> Decal:
        """Spill paint on the floor or the wall, low (where landmarks stand) or at the height of the eye."""
        row, column = random.integers(0, TILE, 2).tolist()
        on_wall = not low or random.uniform() < 0.6
        depth = self.wall * (1 if on_wall else random.uniform(0.5, 0.9))
        half = self.half * depth * random.uniform(1.4, 2.1)
        paint = spill(kind, 2 * half * random.uniform(1.2, 1.8), random)
        if not on_wall:
            x, y = np.array([self.camera.x, self.camera.y]) + depth * self.direction
            return Decal(False, x, y, half * 1.4, half * 1.4, paint, outline=(row, column))
        bottom, top = self.heights(depth)
        b = bottom + (top - bottom) * (random.uniform(0.0, 0.35) if low else random.uniform(0.35, 0.75))
        return Decal(True, self.along, b, half, half * random.uniform(0.9, 1.8), paint, outline=(row, column))


def glances(camera: Camera, room: Room, sideways: Iterable[float], widths: Iterable[float]) -> list[Glance]:
    """Return parts of the view.

    Args:
        camera, room: who looks, and where.
        sideways: places across the image, -1 (left border) to 1.
        widths: how wide the things shall look, as a part of the image's width.
    """
    directions = camera.directions(np.asarray(sideways) * camera.half_width)
    depth, _, along = room.walls.hits(np.array([camera.x, camera.y]), directions)
    halves = np.asarray(widths) * camera.half_width
    return [Glance(camera, room, *ray) for ray in zip(directions, depth.tolist(), along.tolist(), halves.tolist())]
