"""A small ray caster: scenes of rooms to images, distances and the kind of thing each pixel shows.

The picture plane stands upright, as with a shift lens: pitch moves the horizon, and walls stay upright. So one ray per
column finds the wall and the solids it meets, and the rest is arithmetic on (row, column). Work goes by bands of rows
that fit into the cache, and depends on nothing but the scene and the size.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.scenes import Decal, Scene, Solid
from cnnprobe.datasets.textures import GLYPH_HEIGHT, GLYPH_WIDTH, LEVELS, PATTERNS, TILE, Paint, atlas, glyphs

OBJECT, PANEL, LETTER = 3, 4, 5
FAR = 1e6
BAND = 1 << 14  # rays at a time
REACH2 = 9.0  # m^2; light has fallen to half at 3 m
SKIRTING = 0.09  # m
VALUES = np.arange(256, dtype=np.float32) / 255


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


def trace(scene: Scene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow one ray per pixel of a square image.

    Returns:
        image (channel, y, x), linear light; distance (y, x), metres from the eye along the ray; kind (y, x) int8,
        OBJECT, PANEL or LETTER where a landmark is seen, else 0. All but kind are float32.
    """
    rays = Rays(scene, side)
    image = np.empty((3, side, side), np.float32)
    distance = np.empty((side, side), np.float32)
    kind = np.empty((side, side), np.int8)
    step = max(1, BAND // side)
    for first in range(0, side, step):
        rows = slice(first, first + step)
        band = background(rays, rows)
        for decal in scene.decals:
            paint_decal(band, decal)
        for solid in scene.solids:
            cast_shadow(band, solid)
        for solid in scene.solids:
            stand_solid(band, solid)
        image[:, rows] = lit(band)
        distance[rows] = band.depth * np.sqrt(single(rays.length2) + single(band.slope[:, None]) ** 2)
        kind[rows] = band.kind
    return image, distance, kind


def background(rays: Rays, rows: slice) -> Band:
    """Draw walls, floor and ceiling of some rows."""
    room, camera = rays.scene.room, rays.scene.camera
    wall_depth = single(rays.wall_depth)
    plane_depth = single(rays.plane_depth[rows])[:, None]
    slope = single(rays.slope[rows])[:, None]
    depth = np.minimum(wall_depth, plane_depth)
    on_wall = wall_depth < plane_depth
    up = slope[:, 0] > 0
    above = wall_depth * slope
    above += np.float32(camera.height)  # height of the wall where the ray meets it
    index = base_texels(rays, rows, on_wall, above, up)
    floor, wall, ceiling = (table(paint) for paint in (room.floor, room.wall, room.ceiling))
    colours = np.concatenate([floor, wall, ceiling], axis=1)
    index = np.take(atlas().reshape(-1), index).astype(np.intp)
    index += np.where(on_wall, np.intp(256), np.where(up, 512, 0)[:, None])
    colour = np.stack([np.take(channel, index) for channel in colours])
    lamp = np.sum((room.lamp[:2] - room.walls.corners) * room.walls.normals, axis=1).clip(0.1)
    plane_lamp = np.where(up, room.height - room.lamp[2] + 0.5, room.lamp[2])  # ceilings get light from all walls
    facing = np.where(on_wall, single((lamp * room.tones)[rays.wall]), single(plane_lamp)[:, None])
    return Band(
        rays, rows, depth, on_wall, colour, facing, crevices(rays, rows, on_wall, above), np.zeros(depth.shape, np.int8)
    )


def single(array: np.ndarray) -> np.ndarray:
    """Return an array as float32."""
    return np.asarray(array, np.float32)


def table(paint: Paint) -> np.ndarray:
    """Return a paint's colours for the 256 values of a pattern, (channel, value) float32."""
    return single(paint.dark)[:, None] + single(paint.light - paint.dark)[:, None] * VALUES


def sheet(paint: Paint, footprint: np.ndarray) -> np.ndarray:
    """Return where in the atlas the pattern begins that is sharp enough for rays `footprint` metres apart."""
    level = np.log2(np.maximum(footprint * TILE / paint.period, 1)).round().astype(np.intp).clip(0, LEVELS - 1)
    return (paint.pattern * LEVELS + level) * TILE**2


def base_texels(rays: Rays, rows: slice, on_wall: np.ndarray, above: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return the texel of the atlas that each ray meets on walls, floor and ceiling, (row, column) int."""
    room, depth = rays.scene.room, rays.plane_depth[rows]
    wall = TILE / room.wall.period
    plane = np.where(up, TILE / room.ceiling.period, TILE / room.floor.period)
    # A plane seen at a flat angle is compressed along the ray only: sharpness is the geometric mean of both.
    footprint = depth / rays.focal * np.sqrt(np.maximum(depth, 1))
    planes = np.where(up, sheet(room.ceiling, footprint), sheet(room.floor, footprint))
    start = np.where(on_wall, sheet(room.wall, rays.wall_depth / rays.focal), planes[:, None])
    depth = np.minimum(depth, 60.0)  # beyond every wall, and small enough for whole numbers
    across, along = (
        single((rays.eye[axis] + 100) * plane)[:, None]
        + single(depth * plane)[:, None] * single(rays.direction[:, axis])
        for axis in (0, 1)
    )
    column = np.where(on_wall, single(rays.along * wall), across).astype(np.int32) & (TILE - 1)
    row = np.where(on_wall, above * np.float32(wall), along).astype(np.int32) & (TILE - 1)
    row *= TILE
    row += column
    return start + row


def crevices(rays: Rays, rows: slice, on_wall: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return what is left of the light near edges, (row, column): less light gets into corners; skirtings are dark."""
    room = rays.scene.room
    head_on = np.abs(
        np.sum(rays.direction * room.walls.normals[rays.wall], axis=1)
    )  # metres towards the wall per depth
    gap = np.where(
        on_wall,
        np.minimum(above, np.float32(room.height) - above),
        single(rays.wall_depth * head_on) - single(rays.plane_depth[rows])[:, None] * single(head_on),
    )
    shade = 1 - np.float32(0.3) / (1 + gap * np.float32(6))
    shade *= single(corner_shade(rays))
    shade[on_wall & (above < SKIRTING)] *= np.float32(0.55)
    return shade


def corner_shade(rays: Rays) -> np.ndarray:
    """Return per column how dark the wall is made by the corner next to it, by the sharpness of its turn."""
    walls = rays.scene.room.walls
    bend = np.abs(np.sin(walls.turns))
    from_start = rays.along - walls.starts[rays.wall]
    to_end = walls.lengths[rays.wall] - from_start
    dark = bend[rays.wall] / (1 + 6 * from_start) + bend[(rays.wall + 1) % len(bend)] / (1 + 6 * to_end)
    return 1 - 0.3 * dark


def lit(band: Band) -> np.ndarray:
    """Return the colours under the lamp, (channel, row, column): ambient light, and the lamp's with fall-off."""
    room, camera = band.rays.scene.room, band.rays.scene.camera
    distance2 = np.zeros_like(band.depth)
    across = single(band.rays.direction)
    for place, lamp, step in (
        (camera.x, room.lamp[0], across[:, 0]),
        (camera.y, room.lamp[1], across[:, 1]),
        (camera.height, room.lamp[2], single(band.slope)[:, None]),
    ):
        offset = band.depth * step
        offset += np.float32(place - lamp)
        offset *= offset
        distance2 += offset
    distance2 += np.float32(0.05)
    light = np.sqrt(distance2)
    distance2 *= np.float32(1 / REACH2)
    distance2 += 1
    light *= distance2
    np.divide(band.facing, light, out=light)
    for channel, power, ambient in zip(band.colour, single(room.power), single(room.ambient)):
        channel *= (light * power + ambient) * band.shade
    return band.colour


def texels(paint: Paint, p: np.ndarray, q: np.ndarray, footprint: float) -> np.ndarray:
    """Return a paint's colours (channel, ...) at surface coordinates p, q, metres."""
    scale = TILE / paint.period
    column = (p * scale + 64 * TILE).astype(np.int32) & (TILE - 1)
    row = (q * scale + 64 * TILE).astype(np.int32) & (TILE - 1)
    row *= TILE
    row += column
    value = np.take(atlas().reshape(-1), sheet(paint, np.asarray(footprint)) + row)
    return np.take(table(paint), value, axis=1)


def window(mask: np.ndarray) -> slice:
    """Return the shortest slice that holds all true entries."""
    found = np.flatnonzero(mask)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def paint_decal(band: Band, decal: Decal) -> None:
    """Paint a panel or a blotch on the wall or the floor."""
    rows, columns, p, q = on_wall(band, decal) if decal.on_wall else on_floor(band, decal)
    if not p.size:
        return
    here = (np.abs(p) < decal.half_width) & (np.abs(q) < decal.half_height)
    here &= band.on_wall[rows, columns] == decal.on_wall
    if decal.ink is None:
        here &= ragged(decal, p, q)
    y, x = np.nonzero(here)
    p, q = np.broadcast_to(p, here.shape)[y, x], q[y, x]
    y, x = y + rows.start, x + columns.start
    middle = float(band.depth[y, x].mean()) if len(y) else 1.0
    colour = texels(decal.paint, p, q, middle / band.rays.focal)
    if decal.ink is not None:
        letters = lettering(decal, p, q)
        colour = np.where(letters, single(decal.ink)[:, None], colour)
        band.kind[y, x] = np.where(letters, LETTER, PANEL)
    band.colour[:, y, x] = colour


def on_wall(band: Band, decal: Decal) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return rows and columns that hold a decal on a wall, and there the metres from its middle, sideways and up."""
    rays, eye = band.rays, band.rays.scene.camera.height
    p = rays.along - decal.a
    columns = window(np.abs(p) < decal.half_width)
    near = rays.wall_depth[columns]
    if not len(near):
        return slice(0), columns, near, near
    steepest, flattest = 1 / near.min(), 1 / near.max()
    low, high = decal.b - decal.half_height - eye, decal.b + decal.half_height - eye
    low, high = low * (steepest if low < 0 else flattest), high * (steepest if high > 0 else flattest)
    rows = window((band.slope > low) & (band.slope < high))
    return rows, columns, single(p[columns])[None], single(eye - decal.b + near * band.slope[rows, None])


def on_floor(band: Band, decal: Decal) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Return what `on_wall` does, of a decal on the floor; the metres run along x and y."""
    return on_plan(band, decal.a, decal.b, np.hypot(decal.half_width, decal.half_height))


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


def ragged(decal: Decal, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Tell where a blotch covers the surface: a soft round hill on top of noise, cut at one height."""
    x, y = p / decal.half_width, q / decal.half_height
    row = ((y + 8) * (TILE / 5) + decal.outline[0]).astype(np.int32) & (TILE - 1)
    column = ((x + 8) * (TILE / 5) + decal.outline[1]).astype(np.int32) & (TILE - 1)
    row *= TILE
    row += column
    noise = np.take(atlas()[PATTERNS.index("noise"), 3].reshape(-1), row) * np.float32(1 / 255) - np.float32(0.5)
    return 0.7 - x * x - y * y + 1.8 * noise > 0


def lettering(decal: Decal, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Tell where the letters and the frame of a panel are."""
    count = len(decal.letters)
    height = min(1.7 * decal.half_height, 1.8 * decal.half_width / (count * GLYPH_WIDTH / GLYPH_HEIGHT))
    width = height * GLYPH_WIDTH / GLYPH_HEIGHT
    place = count / 2 - p / width  # letters from the left; `along` runs to the left, seen from inside
    which = np.floor(place).clip(0, count - 1).astype(np.intp)
    x = ((place - which) * GLYPH_WIDTH).astype(np.intp)
    y = ((0.5 - q / height) * GLYPH_HEIGHT).astype(np.intp)
    written = (x >= 0) & (x < GLYPH_WIDTH) & (y >= 0) & (y < GLYPH_HEIGHT) & (place >= 0)
    distance = glyphs()[np.asarray(decal.letters)[which], y.clip(0, GLYPH_HEIGHT - 1), x.clip(0, GLYPH_WIDTH - 1)]
    frame = 0.05 * decal.half_height
    edge = (np.abs(p) > decal.half_width - frame) | (np.abs(q) > decal.half_height - frame)
    return (written & (distance < 0.07)) | edge


def chord(rays: Rays, x: float, y: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return at which depths each column's ray enters and leaves a circle in plan, NaN where it misses."""
    offset = np.array([x, y]) - rays.eye
    middle = rays.direction @ offset / rays.length2
    half = (middle**2 - (offset @ offset - radius**2) / rays.length2).clip(0) ** 0.5
    half = np.where((half > 0) & (middle + half > 0), half, np.nan)
    return middle - half, middle + half


def cast_shadow(band: Band, solid: Solid) -> None:
    """Darken the floor around the foot of a solid."""
    reach = 1.8
    rows, columns, x, y = on_plan(band, solid.x, solid.y, reach * solid.radius)
    if x.size:
        shadow = 1 - 0.6 * ((reach - np.hypot(x, y) / solid.radius) / (reach - 1)).clip(0, 1)
        band.shade[rows, columns] *= np.where(band.on_wall[rows, columns], 1, shadow)


def stand_solid(band: Band, solid: Solid) -> None:
    """Draw a cylinder, box or cone where it is nearer than what is drawn so far."""
    rays = band.rays
    enter, leave, normal, around = box_sides(solid, rays) if solid.shape == "box" else round_sides(solid, rays)
    columns = window(enter > 0)
    if columns.stop == columns.start:
        return
    enter, leave, normal, around = enter[columns], leave[columns], normal[columns], around[columns]
    near, far = np.nanmin(enter), np.nanmax(leave)
    top = solid.height - rays.scene.camera.height
    rows = window((band.slope > -rays.scene.camera.height / near) & (band.slope < top / (far if top < 0 else near)))
    if rows.stop == rows.start:
        return
    slope = band.slope[rows, None]
    if solid.shape == "cone":
        depth, facing, around = cone(solid, rays, columns, slope)
    else:
        depth, facing = prism(solid, rays, columns, slope, enter, leave, normal)
    height = rays.scene.camera.height + depth * slope
    with np.errstate(invalid="ignore"):  # columns that miss hold NaN
        here = (depth > 0) & (height >= -1e-6) & (height <= solid.height + 1e-6) & (depth < band.depth[rows, columns])
    around, height = np.broadcast_to(around, depth.shape), np.where(here, height, 0)
    colour = texels(solid.paint, np.where(here, around, 0), height, float(near) / rays.focal)
    shade = 1 - 0.25 / (1 + 8 * height / solid.height)
    for plane, value in ((band.depth, depth), (band.facing, facing), (band.shade, shade), (band.kind, OBJECT)):
        np.copyto(plane[rows, columns], value, where=here, casting="unsafe")
    np.copyto(band.colour[:, rows, columns], colour, where=here)


def prism(
    solid: Solid,
    rays: Rays,
    columns: slice,
    slope: np.ndarray,
    enter: np.ndarray,
    leave: np.ndarray,
    normal: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return depth and facing (row, column) of a solid with upright sides: its side, or its top seen from above."""
    eye, lamp = rays.scene.camera.height, rays.scene.room.lamp
    cover = (solid.height - eye) / slope  # depth of the plane of its top
    over = (solid.height < eye) & (slope < 0) & (cover > enter) & (cover < leave)
    side = np.sum((lamp[:2] - rays.eye - enter[:, None] * rays.direction[columns]) * normal, axis=1).clip(0)
    return np.where(over, cover, enter), np.where(over, lamp[2] - solid.height, side)


def round_sides(solid: Solid, rays: Rays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return per column where a ray enters and leaves a cylinder, its normal there (column, xy), metres around it."""
    enter, leave = chord(rays, solid.x, solid.y, solid.radius)
    normal = (rays.eye + enter[:, None] * rays.direction - (solid.x, solid.y)) / solid.radius
    return enter, leave, normal, (np.arctan2(normal[:, 1], normal[:, 0]) + solid.turn) * solid.radius


def box_sides(solid: Solid, rays: Rays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `round_sides` does, for the square that fits into the circle."""
    half = solid.radius / np.sqrt(2)
    axes = np.array([[np.cos(solid.turn), np.sin(solid.turn)], [-np.sin(solid.turn), np.cos(solid.turn)]])
    start, step = axes @ (rays.eye - (solid.x, solid.y)), rays.direction @ axes.T  # in the box's own axes
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    first, second = (-half - start) / step, (half - start) / step
    into, out = np.minimum(first, second), np.maximum(first, second)  # (column, axis)
    enter, leave, side = into.max(axis=1), out.min(axis=1), into.argmax(axis=1)
    hit = (enter < leave) & (enter > 0)
    enter, leave = np.where(hit, enter, np.nan), np.where(hit, leave, np.nan)
    columns = np.arange(len(side))
    normal = -np.sign(step[columns, side])[:, None] * axes[side]
    other = 1 - side
    return enter, leave, normal, start[other] + enter * step[columns, other] + side * solid.radius


def cone(solid: Solid, rays: Rays, columns: slice, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depth, facing and metres around the foot (row, column) where rays meet a cone, NaN where they miss.

    With k = radius / height the surface is |plan - foot| = k (height - z): a quadratic equation in the depth.
    """
    lamp, k = rays.scene.room.lamp, solid.radius / solid.height
    direction = rays.direction[columns]
    offset = np.array([solid.x, solid.y]) - rays.eye
    above = solid.height - rays.scene.camera.height
    a = np.sum(direction**2, axis=1) - (k * slope) ** 2
    b = direction @ offset - k**2 * above * slope
    c = offset @ offset - (k * above) ** 2
    root = b * b - a * c
    depth = np.where(root > 0, (b - np.sqrt(root.clip(0))) / a, np.nan)
    x, y = (depth * direction[:, axis] - offset[axis] for axis in (0, 1))  # from the axis of the cone
    radius = np.hypot(x, y).clip(1e-6)
    height = rays.scene.camera.height + depth * slope
    to_lamp = ((lamp[0] - solid.x - x) * x + (lamp[1] - solid.y - y) * y) / radius + (lamp[2] - height) * k
    return depth, (to_lamp / np.hypot(1, k)).clip(0), (np.arctan2(y, x) + solid.turn) * solid.radius
