"""The writer of a run's store: one HDF5 file in which every row reported as saved survives any death of its writer.

How this is achieved: all tables are known before the first row, so the whole file is laid out at once,
contiguous and preallocated, and never changes its layout again. Rows are written by their byte offset
with plain `pwrite`, not through the HDF5 library (which crashes when a write fails): first the bytes
of a batch, then its checksums, then the one byte that says it is there. Readers need no lock.
"""

import os
import time
import zlib
from itertools import zip_longest
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files
from cnnprobe.store.containers.hdf5_bytes import reading
from cnnprobe.store.layout import SAVED, Blank, as_python, layout, nan_fills, written
from cnnprobe.store.narrowing import Narrowing
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Rows, Table

SYNC_SECONDS = 30.0
PLACES = ("run",)
"""Attributes of tables that say where something lies, which is not what it is."""


class Writer:
    """Writes the rows of one run, batch by batch. One process owns it.

    Args:
        path: `store.h5`; made by `create`, or there already for `resume`.
        tables: as `compute` declared them.
    """

    def __init__(self, path: Path, tables: list[Table[Any]]):
        self.path = path
        self.tables = {table.name: table for table in tables}
        self.offsets: dict[str, int] = {}
        with reading(path) as file:
            file.visititems(self._note_offset)
            self.done = {
                t.name: file[f"{SAVED}/{t.name}/done"][:].astype(bool) for t in tables if written(t) and t.rows
            }
        self.file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        self.synced = time.monotonic()
        self.narrowing = Narrowing()

    def _note_offset(self, name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            self.offsets[name] = item.id.get_offset()

    @classmethod
    def create(cls, path: Path, tables: list[Table[Any]], attributes: dict[str, Any]) -> "Writer":
        """Lay out the file and reserve its whole size on disk, then open it for rows.

        Raises:
            UserError: the disk has not enough room; nothing is left behind.
        """
        blank = layout(tables, attributes)
        temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
        try:
            _reserve(temporary, blank, nan_fills(blank, tables))
            files.still_held(path)
            temporary.replace(path)
            files.sync_folder(path.parent)
        except UserError:
            temporary.unlink(missing_ok=True)
            raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            free = os.statvfs(path.parent)
            raise UserError(
                f"{path.parent} needs {_bytes(blank.size)} for {path.name}, "
                f"{_bytes(free.f_bavail * free.f_frsize)} free ({error.strerror})"
            ) from None
        return cls(path, tables)

    @classmethod
    def resume(cls, path: Path, tables: list[Table[Any]], attributes: dict[str, Any]) -> "Writer":
        """Go on with a file that a stopped run left; batches whose checksum does not match are done again.

        Raises:
            UserError: the file was written for other weights, images, options or tables; the first difference.
        """
        recording = Recording(path)
        same_attributes(recording, attributes)
        known = {table.name: table for table in tables}
        if set(known) != set(recording.tables()):
            raise UserError(f"{path.parent.name} cannot go on: its tables are {', '.join(recording.tables())}")
        for name, table in known.items():
            there = str(recording[name].attributes.get("written", "")).split()
            if there != list(written(table)):
                other = f"by another version of cnnprobe, with columns {', '.join(there)}"
                raise UserError(f"{path.parent.name} cannot go on: {name} was begun {other}; --rerun does it once more")
            same_table(recording[name], table)
        writer = cls(path, tables)
        for name, done in writer.done.items():
            done &= ~recording[name].damaged()
        return writer

    def write(self, rows: Rows[Any]) -> None:
        """Save one batch: its bytes, its checksums, then the byte that says it is there.

        Raises:
            ValueError: the rows are not one batch of a declared table.
            UserError: a number does not fit into its column, the disk is full or failed, or the folder is gone; rows
                saved before are untouched.
        """
        files.still_held(self.path)
        if rows.table not in self.tables:
            raise ValueError(f"rows of {rows.table}: the tables laid out are {listing(self.tables)}")
        table = self.tables[rows.table]
        batch = rows.start // table.batch
        columns = _checked(table, rows, self.narrowing)
        if self.done[table.name][batch]:
            return
        try:
            sums = np.zeros(len(columns), "<u4")
            for i, (name, values) in enumerate(columns.items()):
                data = values.data.cast("B") if values.size else b""
                self._put(f"{table.name}/{name}", rows.start * table.columns[name].row_bytes, data)
                sums[i] = zlib.crc32(data)
            self._put(f"{SAVED}/{table.name}/crc", batch * sums.nbytes, sums.tobytes())
            self._put(f"{SAVED}/{table.name}/done", batch, b"\x01")
            if time.monotonic() - self.synced > SYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}; {self.kept()}") from None
        self.done[table.name][batch] = True

    def _put(self, name: str, shift: int, data: bytes | memoryview) -> None:
        if len(data) == 0:
            return
        position = self.offsets[name] + shift
        while len(data):
            written = os.pwrite(self.file, data, position)
            data, position = data[written:], position + written

    def kept(self) -> str:
        """Say how many rows of the main table (or of the layers' tables) are saved, "412 of 1000 rows kept"."""
        groups = [name.split("/")[0] for name in self.done]
        if not groups:
            return "no rows kept"
        main = [self.tables[name] for name, group in zip(self.done, groups) if group == groups[0]]
        kept = [
            min(table.batch, table.rows - batch * table.batch)
            for table in main
            for batch in np.flatnonzero(self.done[table.name]).tolist()
        ]
        return f"{sum(kept)} of {sum(table.rows for table in main)} rows kept"

    def sync(self) -> None:
        """Bring what was written to the disk itself."""
        os.fdatasync(self.file)
        self.synced = time.monotonic()

    def finish(self) -> None:
        """Mark the store complete: every batch is there. One byte changes.

        Raises:
            UserError: the file was taken away or replaced while it was being written.
        """
        missing = [name for name, done in self.done.items() if not done.all()]
        if missing:
            raise ValueError(f"rows of {', '.join(missing)} were never written")
        self.sync()
        files.still_held(self.path)
        if not files.is_open_at(self.file, self.path):
            raise UserError(f"{self.path} was deleted, moved or replaced while it was being written; begin a new run")
        with _unlocked(self.path) as file:
            file.attrs.modify("complete", np.True_)
        self.sync()
        self.narrowing.tell()

    def close(self) -> None:
        """Let go of the file."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def _unlocked(path: Path) -> h5py.File:
    """Open a store to change a byte of it, also while somebody else reads it: a notebook may hold it open, with a lock.

    HDF5 refuses to mix ways of locking in one process, which may have it open as well.
    """
    for locking in (False, None):
        try:
            return h5py.File(path, "r+", locking=locking)
        except OSError as error:
            if "flag values" not in str(error):
                raise
    return h5py.File(path, "r+", locking=True)


def same_attributes(recording: Recording, attributes: dict[str, Any]) -> None:
    """Refuse to go on with a store that was begun with other weights, images or options; the first difference."""
    for name, value in attributes.items():
        if name in ("weights", "identity", "origin"):
            continue  # where weights lie is not what they are; parts of the identity are compared one by one
        if as_python(recording.attributes.get(name)) != as_python(np.asarray(value)):
            was, now = _difference(recording.attributes.get(name), value)
            raise UserError(f"{recording.path.parent.name} cannot go on: its {name} was {was!r}, now {now!r}")


def same_table(begun: TableView[Any], table: Table[Any]) -> None:
    """Refuse to write rows into a table that was laid out for others; what was not stored then is not compared.

    Raises:
        UserError: the first thing known before the rows that is another one now: their number, shape and type, numbers
            of a column that no row writes, an attribute.
    """
    pairs: dict[str, tuple[Any, Any]] = {}
    if written(table):
        pairs |= {"rows": (begun.row_count, table.rows), "rows saved together": (begun.batch, table.batch)}
    pairs |= {name: (begun.attributes[name], table.attributes[name])
              for name in table.attributes if name in begun.attributes and name not in PLACES}  # fmt: skip
    with begun.recording.file() as file:
        for name, column in table.columns.items():
            if column.values is None:
                there, kind = file[f"{table.name}/{name}"], np.dtype(column.dtype)
                pairs[name] = ([there.dtype.name, *there.shape[1:]], [kind.name, *column.shape])
            elif name in begun and np.asarray(column.values).dtype.kind in "biuf":
                pairs[name] = (file[f"{table.name}/{name}"][()], column.values)
    for name, (was, now) in pairs.items():
        if not _alike(was, now):
            was, now = _difference(*(as_python(np.asarray(value)) for value in (was, now)))
            change = f"was {str(was)[:60]!r}, now {str(now)[:60]!r}"
            raise UserError(f"{begun.recording.path.parent.name} cannot go on: {name} of {table.name} {change}")


def _alike(was: Any, now: Any) -> bool:
    """Compare what is stored; numbers that were computed may differ by the rounding of another processor."""
    was, now = np.asarray(was), np.asarray(now)
    if "f" in (was.dtype.kind, now.dtype.kind) and was.dtype.kind in "biuf" and now.dtype.kind in "biuf":
        return was.shape == now.shape and np.allclose(was, now, rtol=1e-4, atol=1e-6, equal_nan=True)
    return as_python(was) == as_python(now)


def _difference(was: Any, now: Any) -> tuple[Any, Any]:
    """Return two values, or of two texts the first lines that differ."""
    if not isinstance(was, str) or not isinstance(now, str):
        return was, now
    pairs = zip_longest(was.splitlines(), now.splitlines(), fillvalue="")
    return next(((old.strip(), new.strip()) for old, new in pairs if old != new), (was, now))


def _checked(table: Table[Any], rows: Rows[Any], narrowing: Narrowing) -> dict[str, np.ndarray]:
    """Return the rows' columns as little-endian arrays in the declared order, or raise ValueError."""
    expected = written(table)
    if set(rows.columns) != set(expected):
        raise ValueError(f"{table.name} has columns {sorted(expected)}, got {sorted(rows.columns)}")
    count = min(table.batch, table.rows - rows.start)
    if rows.start % table.batch or count <= 0:
        raise ValueError(f"rows of {table.name} are saved {table.batch} at a time, got a start at {rows.start}")
    columns = {}
    for name, column in expected.items():
        values = np.asarray(rows.columns[name])
        if values.shape != (count, *column.shape):
            batch = f"; Table(batch={table.batch}) says how many rows are saved at once"
            said = f"{table.name}/{name} must be {(count, *column.shape)}, got {values.shape}"
            raise ValueError(said + (batch if values.shape[1:] == column.shape else ""))
        columns[name] = narrowing.put(f"{table.name}/{name}", values, np.dtype(column.dtype).newbyteorder("<"))
    return columns


def _reserve(path: Path, blank: Blank, fills: list[tuple[int, int, np.dtype]]) -> None:
    """Write the layout to disk and take its whole size, so that a full disk is noticed now."""
    target = files.made(path, os.O_RDWR)
    try:
        if hasattr(os, "posix_fallocate") and blank.size:
            os.posix_fallocate(target, 0, blank.size)
        for page in sorted(blank.pages):
            os.pwrite(target, blank.pages[page], page * Blank.PAGE)
        for offset, length, dtype in fills:
            piece = np.full(min(length, 2**20) // dtype.itemsize, np.nan, dtype).tobytes()
            for start in range(0, length, len(piece)):
                os.pwrite(target, piece[: length - start], offset + start)
        os.ftruncate(target, blank.size)
        os.fsync(target)
    finally:
        os.close(target)


def _bytes(size: float) -> str:
    for word in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {word}"
        size /= 1000
    return f"{size:.3g} GB"
