"""Units that rank first and last by what is measured: "best:8", "worst:8"."""

import re
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, listing

Ends = list[tuple[str, int]]
"""Which ends of a ranking are wanted, in the order asked: [("best", 8), ("worst", 4)]."""


def ends_of(units: Any) -> Ends | None:
    """Read "best:8", "worst:8" or a list of those; None where units are named.

    Raises:
        UserError: some are named and some are ranked.
    """
    words = units if isinstance(units, list) else [units]
    matches = [re.fullmatch(r"(best|worst):([1-9]\d*)", str(word)) for word in words]
    ends = [(match[1], int(match[2])) for match in matches if match is not None]
    if not ends:
        return None
    if len(ends) < len(words):
        raise UserError(f"units are either named or ranked (best:8, worst:8), got {listing(map(str, words))}")
    return ends


def check_ends(ends: Ends, units: Any, channels: int) -> None:
    """Refuse more units than the smallest layer has.

    Raises:
        UserError: see above.
    """
    most = max(count for _, count in ends)
    if most > channels:
        raise UserError(f"units={units} asks for {most} units, a layer has {channels}")


def ranked(units: np.ndarray, scores: np.ndarray, ends: Ends) -> list[int]:
    """Return the units at the ends of a ranking, end by end; those without a score (NaN) come last at either end.

    Args:
        units: (unit,).
        scores: (unit,), large is best.
        ends: wanted.
    """
    found = []
    for end, count in ends:
        keys = np.where(np.isfinite(scores), -scores if end == "best" else scores, np.inf)
        found += units[np.argsort(keys, kind="stable")[:count]].tolist()
    return found


def places(ends: Ends) -> dict[str, list[int]]:
    """Return which rows of what `ranked` returned are the best and the worst, by those words."""
    found: dict[str, list[int]] = {"best": [], "worst": []}
    row = 0
    for end, count in ends:
        found[end] += range(row, row + count)
        row += count
    return found
