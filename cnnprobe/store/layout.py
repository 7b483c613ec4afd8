"""The bytes of a store before its first row: every group, attribute and dataset in its final place."""

import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cnnprobe.store.tables import Column, Table

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer  # for type checkers only

FORMAT_VERSION = 2
"""Since 2 what is known before the rows has a checksum as well."""
SAVED = "saved"
"""Group with one `done` byte per batch and one checksum per batch and column of every table."""
CHECKSUM = "checksum"
"""Attribute of the root and of every table: `known_sum` of it."""
NAN_FILL_BYTES = 2**30
"""Stores up to this size mark float rows that are not there yet as NaN, for readers other than cnnprobe."""


class Blank(io.RawIOBase):
    """A file in memory that keeps only the pages that were written: a 50 GB layout takes a few kB.

    It offers what h5py asks of a file: seek, tell, readinto, write, truncate, flush.
    """

    PAGE = 4096

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.position = 0
        self.size = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def writable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte; 0 from the start, 1 from here, 2 from the end."""
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        """Return the current byte."""
        return self.position

    def flush(self) -> None:
        """Do nothing: it is all in memory."""

    def truncate(self, size: int | None = None) -> int:
        """Set the length, without touching pages."""
        self.size = self.position if size is None else size
        return self.size

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer; bytes never written are zero."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        for page, inside, start, length in self._spans(len(view)):
            if page in self.pages:
                view[start : start + length] = self.pages[page][inside : inside + length]
        self.position += len(view)
        return len(view)

    def write(self, data: "ReadableBuffer") -> int:
        """Write bytes at the current position."""
        view = memoryview(data).cast("B")
        for page, inside, start, length in self._spans(len(view)):
            self.pages.setdefault(page, bytearray(self.PAGE))[inside : inside + length] = view[start : start + length]
        self.position += len(view)
        self.size = max(self.size, self.position)
        return len(view)

    def _spans(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        done = 0
        while done < length:
            page, inside = divmod(self.position + done, self.PAGE)
            step = min(self.PAGE - inside, length - done)
            yield page, inside, done, step
            done += step


def written(table: Table[Any]) -> dict[str, Column]:
    """Return the columns that are filled by rows."""
    return {name: column for name, column in table.columns.items() if column.values is None}


def batch_count(table: Table[Any]) -> int:
    """Return how many batches a table is saved in."""
    return -(-table.rows // table.batch)


def layout(tables: list[Table[Any]], attributes: dict[str, Any]) -> Blank:
    """Build the file without its rows: groups, attributes, empty datasets, and all columns known already."""
    blank = Blank()
    with h5py.File(blank, "w", libver=("earliest", "v108")) as file:
        file.attrs["format"] = "cnnprobe"
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["complete"] = np.False_
        for name, value in attributes.items():
            file.attrs[name] = value
        for table in tables:
            group = file.require_group(table.name)
            for name, value in table.attributes.items():
                group.attrs[name] = value
            for name, column in table.columns.items():
                _add(group, name, column, table)
            if written(table):
                group.attrs["batch"] = table.batch
                group.attrs["written"] = " ".join(written(table))
                saved = file.require_group(f"{SAVED}/{table.name}")
                size = batch_count(table)
                _create(saved, "done", (size,), np.dtype("u1"))
                _create(saved, "crc", (size, len(written(table))), np.dtype("<u4"))
        names = [table.name for table in tables]
        for group in (file, *(file[name] for name in names)):
            group.attrs[CHECKSUM] = np.uint32(known_sum(group, names))
    return blank


def as_python(value: Any) -> Any:
    """Turn what HDF5 returns for an attribute into plain Python values."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def known_sum(group: h5py.Group, tables: list[str]) -> int:
    """Return the CRC-32 of everything in the root or in a table's group that is known before the first row.

    That is: the names of all `tables`, the group's attributes, and of every column its name, type, shape and
    attributes, and its values where no row writes them. Rows have checksums of their own; `complete` changes.
    """
    total = zlib.crc32(repr((sorted(tables), group.name)).encode() + _known(group.attrs))
    by_rows = str(group.attrs.get("written", "")).split()
    for name in sorted(group):
        item = group[name]
        if not isinstance(item, h5py.Dataset):
            continue
        total = zlib.crc32(repr((name, item.dtype.str, item.shape)).encode() + _known(item.attrs), total)
        if name not in by_rows and item.size:
            text = h5py.check_string_dtype(item.dtype) is not None
            values = "\0".join(item.asstr()[:].ravel()).encode() if text else np.ascontiguousarray(item[()]).tobytes()
            total = zlib.crc32(values, total)
    return total


def _known(attributes: h5py.AttributeManager) -> bytes:
    names = sorted(set(attributes) - {CHECKSUM, "complete"})
    return repr([(name, as_python(attributes[name])) for name in names]).encode("utf-8", "backslashreplace")


def _add(group: h5py.Group, name: str, column: Column, table: Table[Any]) -> None:
    if column.values is None:
        _create(group, name, (table.rows, *column.shape), np.dtype(column.dtype))
    else:
        values = np.asarray(column.values)
        kind = h5py.string_dtype() if values.dtype.kind in "UO" else values.dtype
        _create(group, name, values.shape, kind)
        if values.size:
            group[name][...] = values.astype(object) if values.dtype.kind in "UO" else values
    item = group[name]
    item.attrs["axes"] = f"{table.row} {column.axes}".strip()
    item.attrs["unit"] = column.unit
    item.attrs["description"] = column.description


def _create(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Create a contiguous dataset whose place in the file is fixed now and which carries no time stamps."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    if h5py.check_string_dtype(dtype) is None:  # texts of any length are pointers, which need their fill value
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), plan)


def nan_fills(blank: Blank, tables: list[Table[Any]]) -> list[tuple[int, int, np.dtype]]:
    """Return (offset, bytes, dtype) of the float columns to be marked as gaps, none in a large store."""
    if blank.size > NAN_FILL_BYTES:
        return []
    fills = []
    with h5py.File(blank, "r") as file:
        for table in tables:
            for name, column in written(table).items():
                if np.dtype(column.dtype).kind == "f" and table.rows * column.row_bytes:
                    offset = file[f"{table.name}/{name}"].id.get_offset()
                    fills.append((offset, table.rows * column.row_bytes, np.dtype(column.dtype)))
    return fills
