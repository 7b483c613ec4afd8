"""Reading a run's store, finished or still growing, into numpy arrays by table and column."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

import h5py
import numpy as np

from cnnprobe.errors import UserError, unknown
from cnnprobe.machine import files, room
from cnnprobe.store.bounds import Bounds
from cnnprobe.store.containers.hdf5_bytes import reading
from cnnprobe.store.layout import CHECKSUM, FORMAT_VERSION, SAVED, as_python, known_sum
from cnnprobe.store.schema import wrong
from cnnprobe.store.tables import Name

BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError)
"""What h5py and NumPy raise where the inside of a file is damaged."""
DEEPEST = 8
MOST_OBJECTS = 50_000
PIECE = 2**24
"""Bytes that are checked at a time."""
LARGE = 2**28
"""Bytes of a column from which on it is compared with the memory that there is."""
LOOKS = 20
"""How often a growing store is looked at until it stood still between two looks."""
MAIN = ("epochs", "units", "images", "layers")
"""Tables by whose rows one says how far a run is."""


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data.cast("B") if values.size else b"")


class Attributes(dict[str, Any]):
    """Attributes of the root or of a table; one that is needed and not there is damage, told in one line.

    Args:
        found: by name.
        where: the file and the group, for that line.
    """

    def __init__(self, found: Mapping[str, Any], where: str):
        super().__init__(found)
        self.where = where

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.where} is damaged: it has no attribute {name!r}")


class TableView(Mapping[Name, np.ndarray], Generic[Name]):
    """One table of a recording: columns by name as numpy arrays, only the rows that are saved.

    Args:
        recording: the store it belongs to.
        name: of the table, e.g. "units/conv3".

    Raises:
        UserError: what is known of it apart from its rows (columns, attributes, names, labels) is damaged.
    """

    def __init__(self, recording: "Recording", name: str):
        self.recording = recording
        self.name = name
        with recording.file() as file:
            group = file[name]
            recording.verify(group)
            self.attributes = self.recording.checked(group)
            self.columns: list[Name] = [key for key in group if isinstance(group[key], h5py.Dataset)]
            self.row_count = group[self.columns[0]].shape[0]
            self.batch = int(self.attributes.get("batch", 1))
            self.done: np.ndarray | None = None  # where no row writes
            self.sums = np.zeros((0, 0), np.uint32)
            if "written" in self.attributes:
                saved = file[SAVED][name]
                done, self.sums = saved["done"][:], saved["crc"][:]
                self.done = done.astype(bool)
                batches = -(-self.row_count // self.batch) if self.batch > 0 else -1
                whole = done.shape == (batches,) and self.sums.shape == (batches, len(self._written()))
                whole = whole and all(len(group[column]) == self.row_count for column in self._written())
                if not whole or (done > 1).any() or (recording.complete and not done.all()):
                    raise ValueError(f"which rows of {name} are saved")

    @property
    def rows(self) -> np.ndarray:
        """Indices of the rows that are saved."""
        if self.done is None:
            return np.arange(self.row_count)
        several = min(self.batch, self.row_count)  # a batch may be larger than its table, by any number
        return np.flatnonzero(np.repeat(self.done, several)[: self.row_count])

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

    def has(self, column: Name) -> bool:
        """Say whether there is a column: as `in`, but with its name checked like any other."""
        return column in self.columns

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.rows)} of {self.row_count} rows; {', '.join(self.columns)}>"

    def __iter__(self) -> Iterator[Name]:
        return iter(self.columns)

    def __getitem__(self, column: Name) -> np.ndarray:
        """Read one column: (row, …); strings as Python text.

        Raises:
            UserError: there is no such column, or saved rows of it are damaged.
        """
        if column not in self.columns:
            raise unknown("column", column, self.columns, of=self.name)
        with self.recording.file() as file:
            values = _values(file[f"{self.name}/{column}"])
        if column in self._written():
            for number in self._saved:
                self._verify(column, number, values[number * self.batch : (number + 1) * self.batch])
        rows = self.rows
        return values if len(rows) == len(values) else values[rows]

    def known(self, column: Name) -> np.ndarray:
        """Read a column that no row writes (names, labels), also beside rows that are not saved yet."""
        with self.recording.file() as file:
            return _values(file[f"{self.name}/{column}"])

    def batches(self, column: Name) -> Iterator[np.ndarray]:
        """Read one column batch by batch, in the order of the rows; only what is saved."""
        with self.recording.file() as file:
            item = file[f"{self.name}/{column}"]
            for number in self._saved:
                values = item[number * self.batch : (number + 1) * self.batch]
                self._verify(column, number, values)
                yield values

    def _verify(self, column: Name, number: int, values: np.ndarray) -> None:
        if _checksum(values) != self.sums[number, self._written().index(column)]:
            first = number * self.batch
            raise UserError(
                f"{self.recording.path}: rows {first} to {first + len(values) - 1} of {self.name} damaged (checksum)"
            )

    @property
    def _saved(self) -> list[int]:
        """Numbers of the batches that are saved; none where no row writes."""
        return [] if self.done is None else np.flatnonzero(self.done).tolist()

    def _written(self) -> list[Name]:
        return self.attributes.get("written", "").split()

    def damaged(self) -> np.ndarray:
        """Tell of each batch whether it counts as saved and does not match its checksums, (batch,) bool."""
        assert self.done is not None  # asked of tables that rows write
        found = np.zeros(len(self.done), bool)
        with self.recording.file() as file:
            for place, column in enumerate(self._written()):
                item = file[f"{self.name}/{column}"]
                size = self.batch * max(1, item.nbytes // max(1, self.row_count))
                several = max(1, PIECE // size)
                for first in range(0, len(found), several):
                    numbers = np.flatnonzero(self.done[first : first + several])
                    values = item[first * self.batch : (first + several) * self.batch] if len(numbers) else np.zeros(0)
                    for number in numbers:
                        batch = values[number * self.batch : (number + 1) * self.batch]
                        found[first + number] |= _checksum(batch) != self.sums[first + number, place]
        return found


def _values(item: h5py.Dataset) -> np.ndarray:
    """Read a column as a whole.

    Raises:
        MemoryError: it does not fit; the system would end the process, as a few bytes on the disk may stand for any
            number of zeros.
    """
    if item.nbytes > LARGE and item.nbytes > (room.available() or item.nbytes):
        raise MemoryError
    return item.asstr()[:] if h5py.check_string_dtype(item.dtype) else item[:]


class Recording:
    """A store opened for reading, finished or still growing.

    Args:
        path: of `store.h5`.

    Raises:
        UserError: it is not a store of cnnprobe, is newer than this cnnprobe, damaged, or points outside itself.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.verified: set[str] = set()
        with self.file() as file:
            bounds = Bounds(self.path)
            bounds.look_at_attributes(file)
            self.attributes: dict[str, Any] = {key: as_python(value) for key, value in file.attrs.items()}
            if self.attributes.get("format") != "cnnprobe":
                raise UserError(f"{self.path} is HDF5, but no store of cnnprobe")
            self.version = int(self.attributes["format_version"])
            if self.version > FORMAT_VERSION:
                raise UserError(
                    f"{self.path} has format {self.version}; this cnnprobe reads up to format {FORMAT_VERSION}"
                )
            self.attributes = self.checked(file)
            self._tables = list(self._walk(file, bounds, set()))
            self.verify(file)
            if not isinstance(self.attributes["complete"], bool) or self.version < 1:
                raise ValueError("its attributes")

    @contextmanager
    def file(self) -> Iterator[h5py.File]:
        """Open the file for reading; UserError where it is not HDF5, or turns out to be damaged while it is open."""
        if not self.path.is_file():  # opening a pipe would wait for ever
            raise UserError(f"{self.path} is not a file" if self.path.exists() else f"there is no store {self.path}")
        opened = False
        try:
            with reading(self.path) as file:
                opened = True
                yield file
        except MemoryError:
            raise UserError(f"{self.path} does not fit into memory") from None
        except BROKEN as error:
            if not opened:
                raise UserError(f"{self.path} {_no_store(error)}") from None
            reason = error.args[0] if error.args else type(error).__name__
            raise UserError(f"{self.path} is damaged ({str(reason)[:120]})") from error

    def checked(self, group: h5py.Group) -> dict[str, Any]:
        """Return the attributes of the root or of a table, in which no kind of value is a surprise.

        Raises:
            ValueError: one is of another kind than it has to be.
        """
        found = {key: as_python(value) for key, value in group.attrs.items()}
        own = group.name != "/" and '"experiment"' in self.attributes.get("identity", "")
        if others := wrong(found, own):
            raise ValueError(f"attributes of {group.name} of the wrong kind: {', '.join(others)}")
        return Attributes(found, f"{self.path}, {group.name}")

    def verify(self, group: h5py.Group) -> None:
        """Check, once, what is known of the root or of a table apart from its rows.

        Raises:
            UserError: it does not match its checksum.
        """
        if group.name in self.verified or self.version == 1:
            return
        if known_sum(group, self._tables) != int(group.attrs[CHECKSUM]):
            raise UserError(f"{self.path} is damaged: what describes {group.name} does not match its checksum")
        self.verified.add(group.name)

    def _walk(self, group: h5py.Group, bounds: Bounds, seen: set[int], prefix: str = "") -> Iterator[str]:
        """Give the names of the groups that hold datasets; refuse what leads out of the file or round in it."""
        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise UserError(f"{self.path} points outside itself ({name[:80]}); refused")
            if not files.is_plain(key):  # HDF5 gives ".." no meaning, and whoever makes a path of it does
                raise UserError(f"{self.path} is refused: {name[-80:]!r} in it is a path or has control characters")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or name.count("/") > DEEPEST or len(seen) > MOST_OBJECTS:
                raise UserError(f"{self.path} is no plain tree of groups ({name[:80]}); refused")
            seen.add(address)
            bounds.look_at_attributes(item)
            if isinstance(item, h5py.Dataset):
                bounds.look_at_column(item)
                continue
            if name.split("/")[0] != SAVED and any(isinstance(item.get(inner), h5py.Dataset) for inner in _hard(item)):
                yield name
            yield from self._walk(item, bounds, seen, f"{name}/")

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return bool(self.attributes["complete"])

    def tables(self, under: str = "") -> list[str]:
        """Return the names of the tables, or of those below a group, e.g. "units"."""
        return [name for name in self._tables if name.startswith(f"{under}/" if under else "")]

    def in_order(self, under: str = "units") -> list[TableView[Any]]:
        """Return the tables below a group in the order in which their layers were requested (attribute `order`)."""
        return sorted((self[name] for name in self.tables(under)), key=lambda table: table.attributes["order"])

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __repr__(self) -> str:
        return f"<{self.path}: {', '.join(self._tables)}>"

    def __getitem__(self, name: str) -> TableView[Any]:
        """Return one table; UserError with the names there are."""
        if name not in self._tables:
            raise unknown("table", name, self._tables, of=str(self.path))
        return TableView(self, name)


class SoFar(Recording):
    """A store that is still growing, as it was at one moment: of every table the rows from the first on, without a gap.

    So rows of one number belong together, in whichever tables they stand.

    Args:
        path: of `store.h5`.

    Raises:
        UserError: as for `Recording`.
    """

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.views = self._all()
        for _ in range(LOOKS):
            before, self.views = self.views, self._all()
            if all(before[name]._saved == view._saved for name, view in self.views.items()):
                break  # nothing was saved in between: they are of one moment
        for view in self.views.values():
            if view.done is not None:
                view.done &= np.logical_and.accumulate(view.done)

    def _all(self) -> dict[str, TableView[Any]]:
        return {name: super(SoFar, self).__getitem__(name) for name in self.tables()}

    def __getitem__(self, name: str) -> TableView[Any]:
        """Return one table; UserError with the names there are."""
        return self.views[name] if name in self.views else super().__getitem__(name)

    @property
    def progress(self) -> str:
        """Say how many rows of the first of MAIN there are, "412 of 1000 rows"."""
        groups = [[name for name in self.tables() if name.split("/")[0] == group] for group in MAIN]
        views = [self.views[name] for name in next(filter(None, groups), self.tables())]
        return f"{sum(len(view.rows) for view in views)} of {sum(view.row_count for view in views)} rows"


def _no_store(error: Exception) -> str:
    """Say why a file could not be opened."""
    if isinstance(error, PermissionError):
        return "cannot be read: no permission"
    return "is cut off" if "truncated" in str(error) else "is not an HDF5 file"


def _hard(group: h5py.Group) -> list[str]:
    """Return the names in a group that do not lead out of it."""
    return [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]
