"""A small store with known rows."""

import numpy as np

from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Column, Rows, Table
from cnnprobe.store.writer import Writer

ATTRIBUTES = {"command": "topk", "seed": 3, "config": "a: 1\n"}


def tables(rows: int = 10, batch: int = 4) -> list[Table]:
    units = {
        "unit": Column("channel", dtype="int64", unit="index"),
        "response": Column("responses, best first", "k", (3,), unit="activation"),
        "dead": Column("never answers", dtype="bool"),
    }
    stimuli = {
        "name": Column("name", dtype="str", values=np.array(["a", "é 日本", "c"], dtype=object)),
        "label": Column("class", dtype="int64", values=np.array([0, 1, -1])),
    }
    return [
        Table("units/conv1", "unit", rows, units, batch, {"module": "features.0", "field_size": [3, 3]}),
        Table("stimuli", "image", 3, stimuli),
    ]


def batch_of(start: int, table: Table) -> Rows:
    """Rows whose every number says which row it is."""
    row = np.arange(start, min(start + table.batch, table.rows))
    columns = {"unit": row, "response": row[:, None] + np.array([0.25, 0.5, 0.75]), "dead": row % 2 == 1}
    return Rows(table.name, start, columns)


def filled(path, rows=10, batch=4, only=None, **attributes):
    laid = tables(rows, batch)
    writer = Writer.create(path, laid, ATTRIBUTES | attributes)
    for start in range(0, rows, batch) if only is None else only:
        writer.write(batch_of(start, laid[0]))
    return writer


ABOUT = {"command": "test", "model": "planted", "weights": "random", "dataset": "given", "seed": 0, "config": "a: 1\n"}


def recorded(path, measurement, **attributes) -> Recording:
    """Return the finished store of a measurement."""
    writer = Writer.create(path, measurement.tables, ABOUT | attributes)
    for event in measurement.events:
        if isinstance(event, Rows):
            writer.write(event)
    writer.finish()
    return Recording(path)
