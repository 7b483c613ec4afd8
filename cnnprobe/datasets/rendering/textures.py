"""Surface textures of drawn images: periodic patterns at several scales, letters, and noise as in nature."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

TILE = 256
"""Texels along the side of one period of a pattern."""
LEVELS = 7
"""Each pattern is kept at this many sharpnesses; from one to the next the smallest detail doubles."""
VALUES = np.arange(256) / 255
PATTERNS = ("plain", "stripes", "checks", "noise", "bands", "dots")
GLYPH_HEIGHT, GLYPH_WIDTH = 64, 48

# Letters of straight strokes, on a grid of 4 x 6 with y upwards: one polyline per stroke.
STROKES = {
    "A": "00 26 40|11 31",
    "E": "40 00 06 46|03 33",
    "F": "00 06 46|03 33",
    "H": "00 06|40 46|03 43",
    "K": "00 06|46 02|14 40",
    "L": "06 00 40",
    "M": "00 06 22 46 40",
    "N": "00 06 40 46",
    "T": "06 46|20 26",
    "V": "06 20 46",
    "X": "00 46|06 40",
    "Z": "06 46 00 40",
}
LETTERS = "".join(STROKES)


@dataclass(frozen=True)
class Paint:
    """A pattern in two colours of linear light."""

    pattern: int
    period: float  # metres per tile, which holds four stripes
    dark: np.ndarray
    light: np.ndarray


def natural_noise(side: int, random: np.random.Generator, exponent: float = 1.0) -> np.ndarray:
    """Return noise whose amplitude spectrum falls as 1 / f^exponent, as that of natural scenes (Field 1987).

    Returns:
        (y, x) float32, periodic, mean 0, standard deviation 1.
    """
    white = np.fft.rfft2(random.standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf  # no mean
    noise = np.fft.irfft2(white / frequency**exponent, s=(side, side))
    return (noise / noise.std()).astype(np.float32)


def _blurred(tile: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a periodic tile with a Gaussian of `sigma` texels."""
    frequency2 = np.fft.fftfreq(TILE)[:, None] ** 2 + np.fft.rfftfreq(TILE) ** 2
    return np.fft.irfft2(np.fft.rfft2(tile) * np.exp(-2 * (np.pi * sigma) ** 2 * frequency2), s=tile.shape)


@cache
def atlas() -> np.ndarray:
    """Return all patterns at all sharpnesses, (pattern, level, y, x) uint8; texels at level l are 2^l wide."""
    random = np.random.Generator(np.random.Philox(1987))
    y, x = np.mgrid[:TILE, :TILE] / TILE
    grain = natural_noise(TILE, random) * 0.13
    upright, level = x * 4 % 1 < 0.5, y * 4 % 1 < 0.5
    motifs = {
        "plain": np.full_like(x, 0.5),
        "stripes": upright,
        "checks": upright ^ level,
        "noise": 0.5 + natural_noise(TILE, random) * 0.22,
        "bands": level,
        "dots": np.hypot(x * 4 % 1 - 0.5, y * 4 % 1 - 0.5) < 0.3,
    }
    tiles = [np.clip(0.06 + 0.88 * motifs[pattern] + grain, 0, 1) for pattern in PATTERNS]
    levels = [[_blurred(tile, 0.5 * 2**level) for level in range(LEVELS)] for tile in tiles]
    return np.round(np.asarray(levels) * 255).clip(0, 255).astype(np.uint8)


@cache
def glyphs() -> np.ndarray:
    """Return each letter's distances from its strokes, (letter, y, x) float32, in heights of the letter's field."""
    y = 6.5 - (np.arange(GLYPH_HEIGHT) + 0.5) / GLYPH_HEIGHT * 7  # half a unit of margin around 4 x 6
    x = (np.arange(GLYPH_WIDTH) + 0.5) / GLYPH_WIDTH * 5 - 0.5
    points = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1)
    return np.stack([_stroke_distance(points, strokes) for strokes in STROKES.values()]).astype(np.float32) / 7


def _stroke_distance(points: np.ndarray, strokes: str) -> np.ndarray:
    """Return the distance of points (y, x, 2) from polylines written as in STROKES."""
    nearest = np.full(points.shape[:2], np.inf)
    for stroke in strokes.split("|"):
        corners = [np.array([int(digit) for digit in corner], float) for corner in stroke.split()]
        for start, end in pairwise(corners):
            along = ((points - start) @ (end - start) / np.sum((end - start) ** 2)).clip(0, 1)
            offset = points - start - along[..., None] * (end - start)
            nearest = np.minimum(nearest, np.hypot(offset[..., 0], offset[..., 1]))
    return nearest


def table(paint: Paint) -> np.ndarray:
    """Return a paint's colours for the 256 values of a pattern, (channel, value) float32."""
    return (paint.dark[:, None] + (paint.light - paint.dark)[:, None] * VALUES).astype(np.float32)


def sheet(paint: Paint, footprint: np.ndarray) -> np.ndarray:
    """Return where in the atlas the pattern begins that is sharp enough for rays `footprint` metres apart."""
    level = np.log2(np.maximum(footprint * TILE / paint.period, 1)).round().astype(np.intp).clip(0, LEVELS - 1)
    return (paint.pattern * LEVELS + level) * TILE**2


def texels(paint: Paint, p: np.ndarray, q: np.ndarray, footprint: float) -> np.ndarray:
    """Return a paint's colours (channel, ...) at surface coordinates p, q, metres."""
    scale = TILE / paint.period
    column = (p * scale + 64 * TILE).astype(np.int32) & (TILE - 1)
    row = (q * scale + 64 * TILE).astype(np.int32) & (TILE - 1)
    row *= TILE
    row += column
    value = np.take(atlas().reshape(-1), sheet(paint, np.asarray(footprint)) + row)
    return np.take(table(paint), value, axis=1)
