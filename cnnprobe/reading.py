"""Reading a run's store, finished or still growing, into numpy arrays by table and column."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnprobe.errors import UserError, unknown
from cnnprobe.store_layout import FORMAT_VERSION, SAVED


def as_python(value: Any) -> Any:
    """Turn what HDF5 returns for an attribute into plain Python values."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(memoryview(np.ascontiguousarray(values)).cast("B") if values.size else b"")


class TableView(Mapping):
    """One table of a recording: columns by name as numpy arrays, only the rows that are saved.

    Args:
        recording: the store it belongs to.
        name: of the table, e.g. "units/conv3".
    """

    def __init__(self, recording: "Recording", name: str):
        self.recording = recording
        self.name = name
        with recording.file() as file:
            group = file[name]
            self.attributes = {key: as_python(value) for key, value in group.attrs.items()}
            self.columns = [key for key in group if isinstance(group[key], h5py.Dataset)]
            self.row_count = group[self.columns[0]].shape[0]
            saved = file.get(f"{SAVED}/{name}")
            self.done = saved["done"][:].astype(bool) if saved is not None else None
            self.sums = saved["crc"][:] if saved is not None else None
        self.batch = int(self.attributes.get("batch", 1))

    @property
    def rows(self) -> np.ndarray:
        """Indices of the rows that are saved."""
        if self.done is None:
            return np.arange(self.row_count)
        return np.flatnonzero(np.repeat(self.done, self.batch)[: self.row_count])

    @property
    def leading(self) -> int:
        """How many rows, from the first on, are saved without a gap."""
        if self.done is None:
            return self.row_count
        batches = len(self.done) if self.done.all() else int(self.done.argmin())
        return min(batches * self.batch, self.row_count)

    def __len__(self) -> int:
        return len(self.columns)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.rows)} of {self.row_count} rows; {', '.join(self.columns)}>"

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, column: str) -> np.ndarray:
        """Read one column: (row, …); strings as Python text.

        Raises:
            UserError: there is no such column, or saved rows of it are damaged.
        """
        if column not in self.columns:
            raise unknown("column", column, self.columns, of=self.name)
        with self.recording.file() as file:
            item = file[f"{self.name}/{column}"]
            values = item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:]
        if column in self._written():
            for number in np.flatnonzero(self.done):
                self._verify(column, number, values[number * self.batch : (number + 1) * self.batch])
        rows = self.rows
        return values if len(rows) == len(values) else values[rows]

    def batches(self, column: str) -> Iterator[np.ndarray]:
        """Read one column batch by batch, in the order of the rows; only what is saved."""
        with self.recording.file() as file:
            item = file[f"{self.name}/{column}"]
            for number in np.flatnonzero(self.done):
                values = item[number * self.batch : (number + 1) * self.batch]
                self._verify(column, number, values)
                yield values

    def _verify(self, column: str, number: int, values: np.ndarray) -> None:
        if _checksum(values) != self.sums[number, self._written().index(column)]:
            first = number * self.batch
            raise UserError(
                f"{self.recording.path}: rows {first} to {first + len(values) - 1} of {self.name} damaged (checksum)"
            )

    def _written(self) -> list[str]:
        order = self.attributes.get("written", "")
        return order.split() if self.done is not None else []

    def damaged(self, batch: int) -> bool:
        """Tell whether a batch that counts as saved does not match its checksums."""
        start, stop = batch * self.batch, (batch + 1) * self.batch
        with self.recording.file() as file:
            for place, column in enumerate(self._written()):
                if _checksum(file[f"{self.name}/{column}"][start:stop]) != self.sums[batch, place]:
                    return True
        return False


class Recording:
    """A store opened for reading, finished or still growing.

    Args:
        path: of `store.h5`.

    Raises:
        UserError: it is not a store of cnnprobe, is newer than this cnnprobe, or points outside itself.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with self.file() as file:
            self.attributes = {key: as_python(value) for key, value in file.attrs.items()}
            if self.attributes.get("format") != "cnnprobe":
                raise UserError(f"{self.path} is HDF5, but no store of cnnprobe")
            version = self.attributes.get("format_version", 0)
            if version > FORMAT_VERSION:
                raise UserError(f"{self.path} has format {version}; this cnnprobe reads up to format {FORMAT_VERSION}")
            self._tables = list(_tables(file, self.path))

    def file(self) -> h5py.File:
        """Open the file for reading; UserError where it is not HDF5."""
        try:
            return h5py.File(self.path, "r", locking=False)
        except FileNotFoundError:
            raise UserError(f"there is no store {self.path}") from None
        except OSError as error:
            reason = "is cut off" if "truncated" in str(error) else "is not an HDF5 file"
            raise UserError(f"{self.path} {reason}") from None

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return bool(self.attributes["complete"])

    def tables(self, under: str = "") -> list[str]:
        """Return the names of the tables, or of those below a group, e.g. "units"."""
        return [name for name in self._tables if name.startswith(f"{under}/" if under else "")]

    def in_order(self, under: str = "units") -> list[TableView]:
        """Return the tables below a group in the order in which their layers were asked for (attribute `order`)."""
        return sorted((self[name] for name in self.tables(under)), key=lambda table: table.attributes["order"])

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __repr__(self) -> str:
        return f"<{self.path}: {', '.join(self._tables)}>"

    def __getitem__(self, name: str) -> TableView:
        """Return one table; UserError with the names there are."""
        if name not in self._tables:
            raise unknown("table", name, self._tables, of=str(self.path))
        return TableView(self, name)


def _tables(group: h5py.Group, path: Path, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Walk the groups that hold datasets; refuse links and storage that lead out of the file."""
    for key in group:
        name = f"{prefix}/{key}" if prefix else key
        if not isinstance(group.get(key, getlink=True), h5py.HardLink) or depth > 8:
            raise UserError(f"{path} points outside itself ({name}); refused")
        item = group[key]
        if isinstance(item, h5py.Dataset):
            if item.id.get_create_plist().get_external_count():
                raise UserError(f"{path} points outside itself (dataset {name}); refused")
        elif name != SAVED:
            if any(isinstance(group.get(f"{key}/{inner}"), h5py.Dataset) for inner in item):
                yield name
            yield from _tables(item, path, name, depth + 1)
