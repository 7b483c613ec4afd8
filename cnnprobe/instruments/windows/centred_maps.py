"""Fields measured from discrepancies: maps of pixels, laid on top of each other with the field's centre in the middle.

Zhou, Khosla, Lapedriza, Oliva, Torralba (ICLR 2015), section 3.2. What a pixel of an image contributes is the mean
discrepancy of the occluders that covered it; the maps of a unit's images are shifted so that the theoretical field of
the position that answered comes to lie in the middle, and are averaged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from cnnprobe.instruments.network.receptive_field import Field
from cnnprobe.instruments.windows.occluders import Grid

LEVELS = (0.5, 0.2)
"""Shares of the peak at which a field's size is taken (Zhou et al. do not state theirs)."""
TWO_SIGMA = 0.0455
"""Share of the peak that bounds an effective field (Luo et al. 2016: within two standard deviations, 95.45 %)."""


def covers(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Say which pixels occluders cover, along each axis: (row, y) and (column, x), 1.0 or 0.0."""
    covered = []
    for corners, side in zip(grid.corners, grid.sides):
        pixels = np.arange(side) - corners[:, None]
        covered.append(((pixels >= 0) & (pixels < grid.patch)).astype(np.float64))
    return covered[0], covered[1]


def pixel_maps(discrepancies: np.ndarray, grid: Grid) -> np.ndarray:
    """Bring discrepancies to pixels: each gets the mean over the occluders that covered it.

    Args:
        discrepancies: (…, row, column) by place of the occluder.
        grid: those places.

    Returns:
        (…, y, x) float64; NaN at pixels that no occluder covered.
    """
    down, across = covers(grid)
    count = np.outer(down.sum(0), across.sum(0))
    total = down.T @ discrepancies.astype(np.float64) @ across
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=np.broadcast_to(count > 0, total.shape))


@dataclass(frozen=True)
class Canvas:
    """Where re-centred maps lie: the theoretical centre of the field in the middle pixel.

    A centre between two pixels (fields of an even size) is rounded down; `middle` says where it really is.

    Args:
        sides: (y, x) px; odd where maps are re-centred.
        image: (y, x) px.
        field: theoretical field of the layer.
        recentred: False where every unit sees the whole image: then the canvas is the image.
    """

    sides: tuple[int, int]
    image: tuple[int, int]
    field: Field
    recentred: bool

    @property
    def middle(self) -> tuple[float, float]:
        """Return where the theoretical centre lies on the canvas, (y, x) px."""
        if not self.recentred:
            y, x = ((side - 1) / 2 for side in self.sides)
        else:
            y, x = (side // 2 + centre % 1 for side, centre in zip(self.sides, self.field.centre((0, 0))))
        return y, x

    def corner(self, position: Sequence[int]) -> tuple[int, int]:
        """Return where on the canvas the first pixel of the image lies for a unit at `position` of the layer's map."""
        if not self.recentred:
            return (0, 0)
        y, x = (side // 2 - math.floor(centre) for side, centre in zip(self.sides, self.field.centre(position)))
        return y, x

    def mean(self, maps: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average the maps of a unit's images, re-centred.

        Args:
            maps: (image, y, x); NaN at pixels that do not count.
            positions: (image, map axis) of the layer's map.

        Returns:
            the mean (y, x), float32, NaN where fewer than half of the images count; and how many count, (y, x) int16.
        """
        total, count = np.zeros(self.sides), np.zeros(self.sides, np.int16)
        for one, position in zip(maps, positions):
            there, here = zip(*map(_overlap, self.corner(position), self.image, self.sides))
            piece = one[here]
            known = ~np.isnan(piece)
            total[there] += np.where(known, piece, 0.0)
            count[there] += known
        enough = (count > 0) & (2 * count >= len(maps))
        return np.divide(total, count, out=np.full(self.sides, np.nan), where=enough).astype(np.float32), count


def _overlap(start: int, image: int, canvas: int) -> tuple[slice, slice]:
    """Return where an image from `start` on meets the canvas along one axis: on the canvas, and in the image."""
    first, stop = max(0, start), max(0, min(canvas, start + image))
    return slice(first, stop), slice(first - start, max(first, stop) - start)


def canvas_of(field: Field, image: tuple[int, int], reach: int | None, map_size: Sequence[int] = ()) -> Canvas:
    """Lay out the canvas of a layer.

    Args:
        field: its theoretical field.
        image: (y, x) px.
        reach: px beyond the field that a map can differ from 0 (an occluder that just touches it), and no more is
            kept; None keeps everything there is, up to the far end of the image.
        map_size: of the layer; () where no centre lies outside the image, as in the padding.
    """
    if field.whole:
        return Canvas(image, image, field, recentred=False)
    corners = [field.centre(one) for one in product(*((0, side - 1) for side in map_size))] if map_size else []
    sides = []
    for side, *centres in zip(image, *corners):
        outside = max((max(-math.floor(one), math.floor(one) - (side - 1)) for one in centres), default=0)
        sides.append(2 * (side + max(0, outside)) - 1)
    if reach is not None and field.aligned:
        needed = [2 * (math.ceil((size - 1) / 2) + reach) + 1 for size in field.size]
        sides = [min(pair) for pair in zip(sides, needed)]
    return Canvas(tuple(sides), image, field, recentred=True)


def side_above(field: np.ndarray, level: float) -> float:
    """Return the side of a square as large as the area above `level` times the peak, px; 0 without a peak.

    Args:
        field: (y, x); NaN does not count. All NaN gives NaN.
    """
    if np.isnan(field).all():
        return math.nan
    peak = np.nanmax(field)
    return math.sqrt(np.count_nonzero(field > level * peak)) if peak > 0 else 0.0


def moments(field: np.ndarray, middle: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the positive part of a field lies and how wide it is.

    Args:
        field: (y, x); NaN counts as 0.
        middle: (y, x) the centre is given relative to this, px.

    Returns:
        centre of mass (yx,) and standard deviation (yx,), px; NaN where nothing is positive.
    """
    weight = np.where(field > 0, field, 0.0).astype(np.float64)
    total = weight.sum()
    if not total > 0:
        return np.full(2, np.nan), np.full(2, np.nan)
    centre, width = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        profile = weight.sum(1 - axis) / total
        place = np.arange(len(profile)) - middle[axis]
        centre[axis] = (profile * place).sum()
        width[axis] = math.sqrt((profile * (place - centre[axis]) ** 2).sum())
    return centre, width
