"""Recordings one by one in a cell array, such as FieldTrip's `trial`, and their number where a file states it."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnprobe.store.containers.stored import Container, Stored

TRIALS = ("trials", "ntrials", "n_trials", "n_epochs")
CHANNELS = ("nbchan", "nchan", "n_channels", "nchannels")
"""What numbers of recordings and of channels are called (EEGLAB and others)."""


def joined(found: Container) -> None:
    """Make one array, recordings first, of each cell array whose elements are all of one shape of two or three axes."""
    cells: dict[str, dict[int, Stored]] = defaultdict(dict)
    for name, array in found.arrays.items():
        if (cell := re.fullmatch(r"(.+)\{(\d+)\}", name)) and array.ndim in (2, 3):
            cells[cell[1]][int(cell[2])] = array
    for name, inner in cells.items():
        arrays = [inner[place] for place in sorted(inner)]
        alike = len({(array.shape, array.dtype) for array in arrays}) == 1
        if alike and len(arrays) > 1 and sorted(inner) == list(range(1, len(arrays) + 1)) and name not in found.arrays:
            shape = (len(arrays), *arrays[0].shape)
            found.arrays[name] = Stored(shape, arrays[0].dtype, _Joined(arrays), about=arrays[0].about)
            for place in inner:
                del found.arrays[f"{name}{{{place}}}"]


class _Joined:
    """Reads arrays of one shape as one, each a place along the first axis."""

    def __init__(self, arrays: Sequence[Stored]):
        self.arrays = arrays

    def __call__(self, index: Any) -> np.ndarray:
        if isinstance(index, tuple) and not isinstance(index[0], slice):
            return self.arrays[index[0]].read()[index[1:]]
        inner = index[1:] if isinstance(index, tuple) else ...
        return np.stack([array.read()[inner] for array in self.arrays])


def count_said(found: Container, name: str, words: Sequence[str]) -> int | None:
    """Return how many of something a file says that an array has, by a number beside it; None where no side fits."""
    at = found.beside(name, words)
    if at is None or isinstance(at[1], list | str):
        return None
    values = at[1].read() if isinstance(at[1], Stored) else np.asarray(at[1])
    count = int(values.ravel()[0]) if values.size == 1 and values.dtype.kind in "iuf" else 0
    return count if count > 1 and count in found.arrays[name].shape else None
