"""Opening HDF5 files to read them, whoever wrote them: what the library would never come back from is kept from it.

A heap is where HDF5 has texts of any length (file format, III.E). The library goes from object to object by their
sizes, for ever where one has none, and hears no signal meanwhile. All that it reads passes through here: a heap without
an end is handed over without its signature, so that it is refused as damaged. Nothing more is read for that.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAP, SIZE_AT, HEAD = b"GCOL", 8, 16
"""How a heap begins, where its size stands, and the bytes in front of its objects, and of each."""
OBJECTS = 2**16
"""Objects that a heap can have: their numbers have 16 bits, and 0 is what is free."""
LENGTHS = (2, 4, 8)
"""Bytes that a size may have."""


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open a file to read it, without a lock, also while it is written or open in another way.

    Raises:
        OSError, RuntimeError and others: it cannot be read, is no HDF5 file or damaged.
    """
    with _Bytes(path) as content, h5py.File(content, "r") as file:
        yield file


class _Bytes(io.FileIO):
    """The bytes of a file, as HDF5 requests them."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.lengths = self._lengths()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from here on; with zeros behind the end of the file, as HDF5 does."""
        view, begin, done = memoryview(buffer), self.tell(), 0
        while done < len(view) and (more := super().readinto(view[done:])):
            done += more
        view[done:] = bytes(len(view) - done)
        if view[: len(HEAP)] == HEAP and not self._has_end(view, begin):
            view[: len(HEAP)] = bytes(len(HEAP))
        return len(view)

    def _lengths(self) -> int:
        """Return how many bytes the file's sizes have; 0 where that is not known."""
        size, at = os.fstat(self.fileno()).st_size, 0
        while at < size:  # behind a block of the user's, of 512 bytes or a power of two times as many
            head = os.pread(self.fileno(), 15, at)
            if head.startswith(SIGNATURE) and len(head) == 15:
                found = head[14 if head[8] < 2 else 10]
                return found if found in LENGTHS else 0
            at = 2 * at or 512
        return 0

    def _has_end(self, view: memoryview, begin: int) -> bool:
        """Say whether the objects of a heap lead to its end.

        Args:
            view: its first bytes, or all.
            begin: where it begins in the file.
        """
        end, at = int.from_bytes(view[SIZE_AT : SIZE_AT + self.lengths], "little"), HEAD
        for _ in range(OBJECTS + 1):
            if at + HEAD > end:
                return True
            head = view[at : at + HEAD] if at + HEAD <= len(view) else os.pread(self.fileno(), HEAD, begin + at)
            size = int.from_bytes(head[SIZE_AT : SIZE_AT + self.lengths], "little")
            step = HEAD + -(-size // 8) * 8 if any(head[:2]) else size  # which counts its head where it is free
            if step > end - at:
                return False
            at += step
        return False  # also where a step has no length
