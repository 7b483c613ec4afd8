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

    With a 0 among them they are indices themselves. -1 is unknown, which a note says, unless other numbers are below 0
    too, or 1 is the only other one: then every number is a class. Where they are no indices, each number that occurs is
    a class, in order, and its name: 1 to 5 as MATLAB counts, 769 to 772 of events. Of more names than numbers those
    from `first` on are taken; where no label is 0, a note says so.

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
    values = np.unique(numbers[known])
    if set(np.unique(numbers[known]).tolist()) == {-1, 1} or (values < UNKNOWN).any():
        return _indexed(numbers, known, values, names, first)
    missing = known & (numbers == UNKNOWN)
    labels, classes, notes = _indexed(numbers, known & ~missing, values[values != UNKNOWN], names, first)
    if missing.any():
        notes = [*notes, f"labels of -1 are taken as unknown ({missing.sum()} of {len(numbers)})"]
    return labels, classes, notes


def _indexed(
    numbers: np.ndarray, known: np.ndarray, values: np.ndarray, names: Sequence[str], first: int
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Return what `numbered` does, of numbers all of which are classes where they are known.

    Args:
        numbers, known, names, first: see `numbered`.
        values: (number,) those that are classes, rising.
    """
    if not len(values):
        return np.full(len(numbers), UNKNOWN), tuple(names), []
    if values[-1] > MOST or values[0] < -MOST:
        raise UserError(f"numbers of classes must be from -{MOST} to {MOST}; got {values[0]} to {values[-1]}")
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
