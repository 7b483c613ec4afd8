"""A small ray caster: scenes of rooms to images, distances and the kind of thing each pixel shows.

Work goes by bands of rows that fit into the cache, and depends on nothing but the scene and the size.
"""

import numpy as np

from cnnprobe.datasets.rendering.decals import paint_decal
from cnnprobe.datasets.rendering.rays import Band, Rays, single
from cnnprobe.datasets.rendering.scenes import Scene
from cnnprobe.datasets.rendering.solids import cast_shadow, stand_solid
from cnnprobe.datasets.rendering.textures import TILE, atlas, sheet, table

BAND = 1 << 14
"""Rays at a time."""
REACH2 = 9.0  # m^2; light has fallen to half at 3 m
SKIRTING = 0.09  # m


def trace(scene: Scene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow one ray per pixel of a square image.

    Returns:
        image (channel, y, x), linear light; distance (y, x), metres from the eye along the ray; kind (y, x) int8,
        the codes of decals.py and solids.py where a landmark is seen, else 0. All but kind are float32.
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
