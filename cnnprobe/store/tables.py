"""Tables that a method hands over: named columns, each with its axes and its unit, and the rows that fill them.

A method's `compute` returns a `Measurement`. Its tables are known before the first row, so that the
store can be laid out, and a full disk noticed, before anything is computed. Iterating a measurement
gives its rows one by one; the runner takes `events` instead and writes whole batches.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.machine.files import is_plain

Name = TypeVar("Name", bound=str)
"""Names of a table's columns: a `Literal` that stands once in its experiment, so that a misspelt one is an error of
the type checker, in what lays a table out, fills it, and draws it alike."""


@dataclass(frozen=True)
class Column:
    """One column of a table, or one array stored beside tables.

    Args:
        description: what it is, one sentence.
        axes: names of the axes behind the row, space separated, e.g. "k y x"; "" for one value a row.
        shape: lengths of those axes.
        dtype: numpy name of the type ("float32", "int64", "bool", …).
        unit: "activation", "px", "1", "index", …
        values: (row, *shape) where everything is known from the start (names, labels); strings only
            this way. A column with values is written with the layout, never by rows.
    """

    description: str
    axes: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    unit: str = "1"
    values: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.axes.split()) != len(self.shape):
            raise ValueError(f"axes {self.axes!r} do not name the axes of shape {self.shape}")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Table(Generic[Name]):
    """A table of the store: one row per unit, image, epoch or layer.

    Args:
        name: HDF5 group, e.g. "units/conv3".
        row: name of the row axis, e.g. "unit".
        rows: how many rows it will have.
        columns: by name.
        batch: rows that are saved together; all but the last batch have this many.
        attributes: of the group (module, field_size, …).
        aside: stored beside the results (which images were shown), no row of the measurement for Python.

    Raises:
        UserError: its name or that of a column is none that the store can be read with again.
    """

    name: str
    row: str
    rows: int
    columns: dict[Name, Column]
    batch: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)
    aside: bool = False

    def __post_init__(self) -> None:
        for name in (*self.name.split("/"), *map(str, self.columns)):
            if not is_plain(name):
                what = f"{name[:60]!r} cannot be a name in a store (table {self.name[:60]!r})"
                raise UserError(f"{what}: a name has letters, and no slashes, backslashes and control characters")


@dataclass(frozen=True)
class Rows(Generic[Name]):
    """Finished rows of one table, from row `start` on: a whole batch of it. Arrays have the row axis first."""

    table: str
    start: int
    columns: dict[Name, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def split(self, known: dict[str, np.ndarray]) -> Iterator[SimpleNamespace]:
        """Give the rows one by one: `row.table`, `row.row` and the columns as attributes.

        Args:
            known: the table's columns that were known from the start, whole.
        """
        for i in range(len(self)):
            row = self.start + i
            values = {name: column[row] for name, column in known.items()}
            values |= {name: column[i] for name, column in self.columns.items()}
            yield SimpleNamespace(table=self.table, row=row, **values)


@dataclass(frozen=True)
class Advance:
    """Work went on by `count` of whatever the measurement counts; below 0: so many have to be done once more."""

    count: int = 1


@dataclass(frozen=True)
class Phase:
    """Another part of the work begins: from here on `Advance` counts its things, and its own pace tells the time left.

    Args:
        name: for people, e.g. "ranking".
        total: how many things it has.
        counts: their name, e.g. "images".
    """

    name: str
    total: int
    counts: str


@dataclass(frozen=True)
class Checkpoint:
    """Weights of a network at one moment of its training.

    Args:
        name: file name without ending, e.g. "epoch=003", "update=000064", "best", "last".
        weights: state dict, by parameter and buffer name.
        about: what to write beside them (epoch, update, accuracy), plain values.
        resume: tensors and plain values that going on from here needs, or None.
    """

    name: str
    weights: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    resume: dict[str, Any] | None = None


@dataclass
class Measurement:
    """What `compute` returns: checked, laid out, and ready to run.

    Args:
        tables: every table, in the order they are stored.
        events: a generator of `Rows`, `Advance`, `Phase` and `Checkpoint`; the work happens while it is read.
        total: how many things will be counted by `Advance`, up to the first `Phase`.
        counts: their name in the progress bar, e.g. "images".
        facts: plain values that only the work itself can find out (the batch that fits in memory); they grow while
            `events` is read, stand in `run.json`, and are handed to a resumed `compute` that asks for `facts`.
    """

    tables: list[Table[Any]]
    events: Iterable[Rows[Any] | Advance | Phase | Checkpoint]
    total: int
    counts: str = "images"
    facts: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """End the work where it stands; the network is given back as it was."""
        if hasattr(self.events, "close"):
            self.events.close()

    def __iter__(self) -> Iterator[SimpleNamespace]:
        """Give every row, one by one, as it is finished."""
        known = {
            table.name: {name: column.values for name, column in table.columns.items() if column.values is not None}
            for table in self.tables
            if not table.aside
        }
        for event in self.events:
            if isinstance(event, Rows) and event.table in known:
                yield from event.split(known[event.table])
