"""What a stranger's store may claim: no more than the file holds, attribute by attribute and column by column."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.store.containers.heaps import at_most, refers
from cnnprobe.store.containers.stored import bound, claims, is_affordable

TEXT = np.dtype([("letters", "<u4"), ("heap", "<u8"), ("number", "<u4")])
"""How a text of any length stands in a column: its bytes lie elsewhere in the file (HDF5 file format, IV.B)."""
EMPTY = 2**24
"""Values in a row of a column without rows, or the like: it has no bytes, and a mean over its rows has so many."""


class Bounds:
    """Counts what is claimed while the groups of a store are walked through, before anything of it is kept.

    Args:
        path: of the store.
    """

    def __init__(self, path: Path):
        self.path = path
        self.claimed = 0
        """Bytes that the attributes may have in memory."""
        self.letters = 0
        """Bytes of the texts of any length: each of ours is in the file once, a stranger's may be one for all."""

    def look_at_attributes(self, item: h5py.Group | h5py.Dataset) -> None:
        """Look at the attributes of a group or column.

        Raises:
            UserError: they would take more, with those before them, than the bytes of the file can stand for.
        """
        size = self.path.stat().st_size
        for name in item.attrs:
            about = item.attrs.get_id(name)
            count = math.prod(about.shape or ())
            self.claimed += at_most(self.path, count) if refers(about.dtype) else count * about.dtype.itemsize
            what = f"attribute {name[:60]!r} of {item.name[:60]}"
            if not is_affordable(self.claimed, size):
                more = f"{what} {claims(self.claimed, size)} with those before it"
                raise UserError(f"{self.path} is refused: {more}; {bound()}")
            if refers(about.dtype):  # a few are not asked how long they may be, and counted as they are
                self._count(sum(map(_bytes, np.ravel(np.asarray(item.attrs[name], object)).tolist())), what)

    def look_at_column(self, item: h5py.Dataset) -> None:
        """Look at a column.

        Raises:
            UserError: its values are not in this file: they lie in another one, or nowhere.
            ValueError: it holds neither numbers nor text.
        """
        plan, what = item.id.get_create_plist(), f"dataset {item.name[:80]}"
        if plan.get_external_count() or plan.get_layout() != h5py.h5d.CONTIGUOUS:
            raise UserError(f"{self.path} points outside itself ({what}); refused")
        count = math.prod(item.shape)
        text = h5py.check_string_dtype(item.dtype) is not None and item.dtype.hasobject
        needed = count * (TEXT.itemsize if text else item.dtype.itemsize)
        if item.dtype.hasobject and not text:
            raise ValueError(f"{item.name[:80]} holds neither numbers nor text")
        self._must_hold(item.shape[0] if item.shape else 1, what)  # rows without bytes are rows all the same
        if not needed:
            self._must_hold(math.prod(filter(None, item.shape)) - EMPTY, what)
            return
        offset = item.id.get_offset()
        self._must_hold(math.inf if offset is None else offset + needed, what)
        if text:
            letters = np.fromfile(self.path, TEXT, count, offset=offset)["letters"]
            self._count(int(letters.sum(dtype=np.uint64)), what)

    def _count(self, letters: int, what: str) -> None:
        self.letters += letters
        self._must_hold(self.letters, what)

    def _must_hold(self, claimed: float, what: str) -> None:
        if claimed > self.path.stat().st_size:
            raise UserError(f"{self.path} claims more than it holds ({what}); refused")


def _bytes(value: Any) -> int:
    """Return the bytes of a text, or of an array of any length."""
    return value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, str | bytes) else 0
