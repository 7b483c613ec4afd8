"""The subjects of a reference that can be compared at each time and in each region, and who is left out where."""

import logging
from collections.abc import Iterator

import numpy as np

from cnnprobe.errors import listing
from cnnprobe.instruments.statistics.dissimilarity import single
from cnnprobe.methods.rsa.comparing.comparison import LEAST, SMALL, Comparison
from cnnprobe.methods.rsa.references.given import Reference

LOG = logging.getLogger("cnnprobe")
NAMED = 8
"""Cells at most that a warning names."""


def usable(matrices: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Return which upper triangles (…, pair) can be compared: of enough pairs, and not all equal; (…) bool."""
    known = np.isfinite(matrices)
    count = known.sum(-1)
    if comparison not in ("pearson", "cosine"):
        matrices = single(matrices)
    lowest, highest = (end(matrices, -1, where=known, initial=far)
                       for end, far in ((np.min, np.inf), (np.max, -np.inf)))  # fmt: skip
    varies = highest > lowest
    if comparison in ("pearson", "cosine"):
        values = np.where(known, matrices, 0.0)
        mean = values.sum(-1, keepdims=True) / np.maximum(count, 1)[..., None]
        spread = np.square(np.where(known, values - mean, 0.0)).sum(-1)
        varies &= spread > SMALL * np.square(values).sum(-1)
    return (count >= LEAST) & varies


def present(subjects: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Return the rows (subject, pair) that can be compared."""
    return subjects[usable(subjects, comparison)]


def tell_left_out(one: Reference, comparison: Comparison) -> None:
    """Say in one line which subjects, moments and regions of a reference have nothing to compare."""
    there = usable(one.measured, comparison)
    if there.all():
        return
    missing = ~there
    empty = int((missing & (np.isfinite(one.measured).sum(-1) < LEAST)).sum())
    equal = int(missing.sum()) - empty
    kinds = [f"{count} {words}" for count, words in ((empty, "without values"), (equal, "with all values equal"))
             if count]  # fmt: skip
    why = " and ".join(kinds)
    if missing.all():
        LOG.warning(f"{one.name}: no matrix of {missing.size} can be compared, {why}; nothing is similar to it (NaN)")
        return
    LOG.warning(
        f"{one.name}: {missing.sum()} of {missing.size} matrices cannot be compared, {why} "
        f"({listing(list(_cells(one, missing)), NAMED)}); they are left out, the others count"
    )


def _cells(one: Reference, missing: np.ndarray) -> Iterator[str]:
    """Name what is missing (subject, time, region): whole subjects, then what nobody has, then single cells."""
    people = len(missing)
    whole, nobody = missing.all((1, 2), keepdims=True), missing.all(0)
    for subject in np.flatnonzero(whole):
        yield f"subject {subject + 1}"
    for time, region in np.argwhere(nobody):
        yield _place(one, time, region, "of all subjects" if people > 1 else "")
    for subject, time, region in np.argwhere(missing & ~nobody & ~whole):
        yield _place(one, time, region, f"of subject {subject + 1}")


def _place(one: Reference, time: int, region: int, whose: str) -> str:
    unit = "" if one.time_unit in ("index", "unit unknown") else f" {one.time_unit}"
    when = f"time {one.times[time]:.6g}{unit}" if one.measured.shape[1] > 1 else ""
    where = f"region {one.regions[region]}" if one.regions[region] else ""
    return " ".join(filter(None, (when, where, whose)))
