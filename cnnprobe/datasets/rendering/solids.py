"""Cylinders, boxes and cones that stand on the floor: where rays meet them, and how the lamp shines on them."""

import numpy as np

from cnnprobe.datasets.rendering.rays import Band, Rays, chord, on_plan, window
from cnnprobe.datasets.rendering.scenes import Solid
from cnnprobe.datasets.rendering.textures import texels

OBJECT = 3
"""Kind of a pixel."""


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
