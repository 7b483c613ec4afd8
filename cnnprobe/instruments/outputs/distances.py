"""Pixels by their distance to the border of the image, and to the nearest edge of a map of classes.

Both are counted in rows and columns, whichever is more (Chebyshev): what is decided of a pixel rests on a square.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cnnprobe.datasets.base.targets import NOT_COUNTED

BANDS = 32
"""Of distances to the border, at most."""
EDGE = 16
"""Largest distance to an edge that has a count of its own, px."""
COUNTED, RIGHT, BOTH, TRUE, PREDICTED = range(5)
"""Pixels that count; decided rightly; of judged classes and decided rightly, of those, taken for those."""
COUNTS = 5


def band_width(size: tuple[int, ...]) -> int:
    """Return how many px wide the bands along the border of an image (y, x) are, from there to its middle."""
    return math.ceil(_half(size) / BANDS)


def bands(size: tuple[int, ...]) -> int:
    """Return how many there are."""
    return math.ceil(_half(size) / band_width(size))


def _half(size: tuple[int, ...]) -> int:
    return math.ceil(min(size) / 2)


def to_border(size: tuple[int, ...]) -> Tensor:
    """Return (y, x) int64: pixels between each one and the nearest side of the image; 0 along the sides."""
    rows, columns = (torch.minimum(torch.arange(side), torch.arange(side).flip(0)) for side in size)
    return torch.minimum(rows[:, None], columns)


def to_edge(maps: Tensor, most: int = EDGE) -> Tensor:
    """Return (image, y, x) int64: how far the nearest pixel of another class is; `most` + 1: farther, or there is none.

    Args:
        maps: (image, y, x) uint8 classes; pixels of 255 and what lies beyond the image are of no class.
        most: px.
    """
    found = torch.full(maps.shape, most + 1, dtype=torch.int64, device=maps.device)
    values, there = maps.float()[:, None], (maps != NOT_COUNTED)[:, None]
    high, low = (torch.where(there, sign * values, -torch.inf) for sign in (1, -1))
    for distance in range(1, most + 1):  # windows of one class only have no edge in them
        high, low = (functional.max_pool2d(one, 3, 1, 1) for one in (high, low))
        edge = (high > -low)[:, 0] & (found > most)
        found[edge] = distance
        if (found <= most).all():
            break
    return found


def counts_by(distance: Tensor, number: int, chosen: Tensor, targets: Tensor, judged: tuple[int, ...]) -> Tensor:
    """Return (image, distance, 5) int64 counts of pixels, see `COUNTED` and the others.

    Args:
        distance: (image, y, x) int64, from 0 to below `number`.
        number: of distances.
        chosen: (image, y, x) classes decided for.
        targets: (image, y, x) true classes, 255 where a pixel does not count.
        judged: classes that the last three counts are of, together.
    """
    there, right = targets != NOT_COUNTED, chosen == targets
    wanted = torch.zeros(256, dtype=torch.bool, device=targets.device)
    wanted[list(judged)] = True
    true, taken = wanted[targets.long()] & there, wanted[chosen.long()] & there
    images = torch.arange(len(distance), device=distance.device)[:, None, None]
    places = images * number + distance
    parts = (there, right & there, true & right, true, taken)
    found = [torch.bincount(places[part], minlength=len(distance) * number) for part in parts]
    return torch.stack(found, -1).view(len(distance), number, COUNTS)
