"""Masks as lengths of runs: how many px lie outside, then inside, then outside, column by column (COCO's RLE)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnprobe.datasets.base.fitting import nearest

LONGEST = 8  # letters of one number


@dataclass(frozen=True)
class Runs:
    """Masks of objects, one behind the other.

    Args:
        owners: (mask,) the object each belongs to, ascending.
        ends: (mask,) where its runs end among all.
        lengths: (run,) px of the source image.
    """

    owners: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray

    def of(self, number: int) -> list[np.ndarray]:
        """Return the runs of each mask of one object."""
        first, last = np.searchsorted(self.owners, [number, number + 1])
        return [self.lengths[self.ends[i - 1] if i else 0 : self.ends[i]] for i in range(first, last)]


def lengths(mask: dict[str, Any]) -> list[int]:
    """Return the lengths of the runs of a mask, of which the first lies outside.

    Args:
        mask: `size`, (height, width), and `counts`: numbers, or text in COCO's packing.

    Raises:
        KeyError, TypeError, ValueError: it is no such mask, or its runs do not fill its size.
    """
    counts, (height, width) = mask["counts"], mask["size"]
    found = unpacked(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(found, default=0) < 0 or sum(found) != height * width:
        raise ValueError(f"a mask whose runs hold {sum(found)} px, of {height} x {width}")
    return found


def unpacked(text: str) -> list[int]:
    """Return the numbers of a packed mask: 5 bits a letter, from the third on as a difference to the last but one.

    Raises:
        ValueError: it is no such text.
    """
    found: list[int] = []
    value = place = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or place == LONGEST:
            raise ValueError(f"a packed mask with {letter!r}")
        value |= (bits & 31) << 5 * place
        place += 1
        if not bits & 32:
            value -= (bits & 16) << 1 + 5 * (place - 1)  # the sign stands in the highest bit
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = place = 0
    if place:
        raise ValueError("a packed mask that is cut off")
    return found


def shown(runs: np.ndarray, source: Sequence[int], size: Sequence[int], resize: int | None) -> np.ndarray:
    """Return (y, x) bool: the px of a picture as shown whose centre lies in a mask of the source image.

    Args:
        runs: lengths.
        source: (height, width) of the source image, px.
        size: (height, width) as it is shown, px.
        resize: shorter side before the crop, px, or None.
    """
    y, x = nearest(source, size, resize)
    return np.searchsorted(np.cumsum(runs), x * source[0] + y[:, None], side="right") % 2 == 1
