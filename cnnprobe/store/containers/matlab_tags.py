"""The tags of a MATLAB file (v4 to v7), read before SciPy does: types, memory, and how deeply it is nested.

SciPy makes room for what a tag says, reads cells in cells by calls in calls, and takes the number of a type as a place
in its memory; all three have no bound.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnnprobe.store.containers.stored import TEXT

HEAD, ORDER_AT = 128, 126
"""Bytes of the head of a file, and where it says the order of its bytes."""
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
COMPLEX = 0x800
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of a value, by the number of its type; there are no other types."""
NAMES = 2**20
"""Bytes of names and sides that are read."""
FIELDS = 4096
"""Fields of a struct; SciPy compares the name of each with all before it."""
EACH = 200
"""Bytes that SciPy takes for a matrix, and for a field of a struct, beside values."""
DEEPEST = 100
"""Cells and structs in each other."""
OLD_CHAR, OLD_SPARSE, OLD_KINDS = 1, 2, 5000
OLD_TYPES = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
"""Types of values in version 4, by their numbers."""


class Refused(ValueError):  # noqa: N818
    """What is not read; its text is the reason."""


def variables(path: Path) -> Iterator[tuple[str, int]]:
    """Give, of every part of every variable, the variable's name and the bytes that the part takes in memory.

    A part is given before what it holds is unpacked: whoever asks may stop there.

    Raises:
        Refused: it is too deep, or has too many fields.
        ValueError, struct.error, zlib.error: it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(HEAD)[ORDER_AT:] == b"IM" else ">"
        at = HEAD
        while at + 8 <= size:
            file.seek(at)
            kind, length = struct.unpack(f"{order}II", file.read(8))
            at += 8 + length
            stream: Any = _Unpacked(file, length) if kind == COMPRESSED else file
            if kind == COMPRESSED:
                kind, length = struct.unpack(f"{order}II", stream.read(8))
            if kind == MATRIX:
                yield from _Reader(stream, order).matrices()


def old_variables(path: Path) -> Iterator[tuple[str, int]]:
    """Give the names of the variables of a file of version 4, which has nothing in cells, and their bytes in memory.

    Raises:
        ValueError, KeyError, struct.error and others: it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if 0 <= struct.unpack("<i", file.read(4))[0] <= OLD_KINDS else ">"
        at = 0
        while at < size:
            file.seek(at)
            kind, rows, columns, imaginary, letters = struct.unpack(f"{order}5i", file.read(20))
            if not 0 <= kind <= OLD_KINDS or min(rows, columns) < 0 or not 0 <= letters <= NAMES:
                raise ValueError("no head of a variable")
            name = file.read(letters).strip(b"\0").decode("latin-1")
            dtype, sparse = np.dtype(f"{order}{OLD_TYPES[kind // 10 % 10]}"), kind % 10 == OLD_SPARSE
            begin = file.tell()
            at = begin + dtype.itemsize * rows * columns * (2 if imaginary == 1 and not sparse else 1)
            text = TEXT * rows if kind % 10 == OLD_CHAR else 0
            yield name, EACH + text + 8 * rows * columns * (2 if imaginary == 1 else 1)
            if sparse and min(rows, columns) > 0:  # its sides stand at the end of its first two columns
                ends = (begin + dtype.itemsize * (column * rows + rows - 1) for column in range(2))
                sides = [int(np.fromfile(path, dtype, 1, offset=end)[0]) for end in ends]
                yield name, 16 * math.prod(sides)


class _Unpacked:
    """Reads a compressed part of a file, a piece at a time."""

    PIECE = 2**16

    def __init__(self, file: BinaryIO, length: int):
        self.file, self.left, self.packed, self.ready = file, length, b"", b""
        self.inflate = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        while len(self.ready) < count:
            if not self.packed and self.left:
                self.packed = self.file.read(min(self.left, self.PIECE))
                self.left -= len(self.packed) or self.left
            more = self.inflate.decompress(self.packed, self.PIECE)
            self.packed = self.inflate.unconsumed_tail
            self.ready += more
            if self.inflate.eof or not (more or self.packed or self.left):
                break
        found, self.ready = self.ready[:count], self.ready[count:]
        return found

    def seek(self, count: int, _whence: int) -> None:
        """Leave out so many bytes."""
        while count > 0 and (passed := len(self.read(min(count, self.PIECE)))):
            count -= passed


class _Reader:
    """Goes through one variable as SciPy does, by what each matrix says that it holds."""

    def __init__(self, stream: Any, order: str):
        self.stream, self.order = stream, order

    def matrices(self) -> Iterator[tuple[str, int]]:
        """Give the parts of a variable, of which the first tag has been read; see `variables`."""
        open_, name = [1], ""
        while open_:
            if len(open_) > DEEPEST:
                raise Refused(f"{name} holds cells or structs more than {DEEPEST} deep in each other; save it flatter")
            if open_[-1] == 0:
                open_.pop()
                continue
            first = len(open_) == 1
            open_[-1] -= 1
            if not first:
                kind, length = struct.unpack(f"{self.order}II", self.stream.read(8))
                if kind != MATRIX:
                    raise ValueError("a cell holds no matrix")
                if length == 0:
                    yield name, EACH
                    continue
            own, claimed, within = self._head()
            name = own if first else name
            yield name, EACH + claimed
            kind, parts, inner = within
            for _ in range(parts):
                number, length, content = self._tag()
                if number not in WIDTHS and (length or kind != CHAR):  # empty texts may have any
                    raise ValueError(f"{name} has values of type {number}, which is none")
                yield name, max(0, 8 * (length // WIDTHS.get(number, 1)) - claimed)
                if content is None:
                    self.stream.seek(length + -length % 8, 1)
            if kind in (STRUCT, OBJECT):
                fields = self._fields(kind, name)
                yield name, fields * (EACH + 8 * inner)
                inner *= fields
            open_.append(inner)

    def _head(self) -> tuple[str, int, tuple[int, int, int]]:
        """Read what a matrix says of itself: name, bytes that it claims, and kind, parts and matrices that it holds."""
        _, _, flags, _ = struct.unpack(f"{self.order}4I", self.stream.read(16))
        kind = flags & 0xFF
        if kind == OPAQUE:
            return "object", 0, (kind, 3, 1)
        sides = self._element()
        shape = struct.unpack(f"{self.order}{len(sides) // 4}i", sides)
        if len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"sides of {shape}")
        name = self._element().decode("latin-1")
        claimed, values = 8 * math.prod(max(1, side) for side in shape), math.prod(shape)
        claimed += TEXT * math.prod(shape[:-1]) if kind == CHAR else 0
        if kind in (CELL, STRUCT, OBJECT):
            return name, claimed, (kind, 0, max(0, values))
        if kind == FUNCTION:
            return name, claimed, (kind, 0, 1)
        parts = (3 if kind == SPARSE else 1) + (1 if flags & COMPLEX else 0)
        return name, claimed * (2 if flags & COMPLEX else 1), (kind, parts, 0)

    def _tag(self) -> tuple[int, int, bytes | None]:
        """Read the tag of an element: its type, its bytes, and these where they stand in the tag."""
        tag = self.stream.read(8)
        word, length = struct.unpack(f"{self.order}II", tag)
        return (word & 0xFFFF, word >> 16, tag[4 : 4 + (word >> 16)]) if word >> 16 else (word, length, None)

    def _element(self) -> bytes:
        """Read a short element."""
        _, length, content = self._tag()
        if content is not None:
            return content
        if length > NAMES:
            raise ValueError(f"a name of {length} bytes")
        content = self.stream.read(length)
        self.stream.seek(-length % 8, 1)
        return content

    def _fields(self, kind: int, name: str) -> int:
        """Read the names of the fields of a struct, of one width and with a zero at the end; returns how many it has.

        Raises:
            Refused: there are too many.
        """
        if kind == OBJECT:
            self._element()
        width = struct.unpack(f"{self.order}i", self._element())[0]
        names = self._element()
        if width < 1 or any(names[width - 1 :: width]):
            raise ValueError(f"names of {width} letters")
        if len(names) // width > FIELDS:
            raise Refused(f"{name} has a struct of {len(names) // width} fields; at most {FIELDS} are read")
        return len(names) // width
