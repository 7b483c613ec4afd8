"""Texts of any length in HDF5: each is a reference to bytes elsewhere in the file, and many may be to the same ones.

HDF5 copies what is referred to once for each reference, and does not say beforehand how much that is.
"""

import mmap
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

HEAP, SIZE_AT, SIZE = b"GCOL", 8, 8
"""How a collection of such bytes begins, and where its size stands (HDF5 file format, III.E)."""

FEW = 20
"""Texts that have no more bytes, all together, than so many times their file."""


def longest(path: Path) -> int:
    """Return the bytes that no text of any length in a file can exceed: those of the largest heap there is."""
    about = path.stat()
    return _longest(path, about.st_size, about.st_mtime_ns)


def refers(dtype: np.dtype) -> bool:
    """Say whether values of a type are references to bytes elsewhere in the file, of any length."""
    return dtype.hasobject and h5py.check_ref_dtype(dtype) is None


def at_most(path: Path, count: int) -> int:
    """Return the bytes that so many texts of any length of a file can have at most; 0 for a few, which is not asked."""
    return count * longest(path) if count > FEW else 0


@lru_cache(maxsize=8)
def _longest(path: Path, size: int, _changed: int) -> int:
    found = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(HEAP)
        while at >= 0:
            found = max(found, int.from_bytes(data[at + SIZE_AT : at + SIZE_AT + SIZE], "little"))
            at = data.find(HEAP, at + 1)
    return min(found, size)
