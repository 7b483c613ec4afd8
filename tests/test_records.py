import numpy as np
import pytest

from cnnprobe.records import Advance, Column, Measurement, Rows, Table


def test_axes_must_name_the_axes_of_the_shape():
    with pytest.raises(ValueError, match="do not name the axes"):
        Column("x", "y x", (3,))
    assert Column("x", "y x", (3, 4)).row_bytes == 48
    assert Column("x", dtype="int64").row_bytes == 8


def test_iterating_a_measurement_gives_its_rows_one_by_one():
    table = Table("units/a", "unit", 3, {"best": Column("x", "k", (2,))}, batch=2)
    events = [
        Rows("units/a", 0, {"best": np.array([[1, 2], [3, 4]])}),
        Advance(5),
        Rows("units/a", 2, {"best": np.array([[5, 6]])}),
    ]
    rows = list(Measurement([table], events, total=5))
    assert [row.row for row in rows] == [0, 1, 2]
    assert [row.best.tolist() for row in rows] == [[1, 2], [3, 4], [5, 6]]


def test_closing_a_measurement_ends_its_generator():
    ended = []

    def events():
        try:
            yield Advance(1)
        finally:
            ended.append(True)

    made = events()
    next(made)
    Measurement([], made, total=1).close()
    assert ended == [True]
