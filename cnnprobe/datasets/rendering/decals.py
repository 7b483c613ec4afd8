"""Panels and blotches: what is painted on walls and floor before the light falls on them."""

import numpy as np

from cnnprobe.datasets.rendering.rays import Band, on_plan, single, window
from cnnprobe.datasets.rendering.scenes import Decal
from cnnprobe.datasets.rendering.textures import GLYPH_HEIGHT, GLYPH_WIDTH, PATTERNS, TILE, atlas, glyphs, texels

PANEL, LETTER = 4, 5
"""Kinds of pixels."""


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
