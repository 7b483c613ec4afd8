"""Numbers that stand for classes: indices from 0, numbers from 1, codes of events, -1 and 1."""

import re
from collections.abc import Sequence

import numpy as np

from cnnprobe.errors import UserError, listing

UNKNOWN = -1
MOST = 10**6
"""Classes there may be."""


def whole(word: str) -> int | None:
    """Return the whole number that a word is, 3 for "3", "3.0" and "3,0"; None where it is none."""
    found = re.fullmatch(r"\s*([+-]?\d{1,15})(?:[.,]0*)?\s*", word, re.ASCII)
    return int(found[1]) if found else None


def numbered(
    numbers: np.ndarray, known: np.ndarray, names: Sequence[str] = (), first: int = 0
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Turn numbers into indices of classes.

    With a 0 among them they are indices themselves, -1 is unknown. Else each number that occurs is a class, in order,
    and its name: 1 to 5 as MATLAB counts, 769 to 772 of events, -1 and 1. Of more names than numbers the numbers from
    `first` on are taken; where no label is 0, a note says so.

    Args:
        numbers: (image,) whole numbers.
        known: (image,) bool, false where there is no number.
        names: of the classes, where they are known.
        first: number of the first class where no label is 0, 1 in files of MATLAB.

    Returns:
        labels: (image,) int64, -1 where unknown.
        classes: their names.
        notes: what the user should know, one line each.

    Raises:
        UserError: they are no numbers of classes.
    """
    numbers = np.asarray(numbers, np.int64)
    pair = set(np.unique(numbers[known]).tolist()) == {-1, 1}
    known = known if pair else known & (numbers != UNKNOWN)
    values = np.unique(numbers[known])
    if not len(values):
        return np.full(len(numbers), UNKNOWN), tuple(names), []
    if values[-1] > MOST or values[0] < -MOST:
        raise UserError(f"numbers of classes must be from 0, -1 for none; got {values[0]} to {values[-1]}")
    if 0 < values[0] <= values[-1] <= len(names) != len(values):
        first = 1 if values[-1] == len(names) else first
        labels = np.where(known, numbers - first, UNKNOWN)
        shown = ", ".join(f"{one} {names[one - first]}" for one in values[:4])
        return labels, tuple(names), [f"no label is 0; labels are taken to count the classes from {first} on: {shown}"]
    if values[0] == 0:
        labels = np.where(known, numbers, UNKNOWN)
        classes = tuple(names) if len(names) > values[-1] else tuple(map(str, range(values[-1] + 1)))
        empty = len(classes) - len(values)
        notes = [f"labels are taken for indices of {len(classes)} classes, of which {empty} have no images"]
        return labels, classes, notes if 2 * empty > len(classes) and not len(names) else []
    labels = np.where(known, np.searchsorted(values, numbers), UNKNOWN)
    if len(names) == len(values):
        return (
            labels,
            tuple(names),
            [f"labels {values[0]} to {values[-1]} stand for {listing(names, 4)}, in this order"],
        )
    told = f"labels begin at {values[0]}: each that occurs is a class, named by it ({listing(values, 4)}); "
    return labels, tuple(map(str, values)), [f"{told}{values[0]} is class 0"]
