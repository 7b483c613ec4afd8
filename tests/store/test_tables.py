import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.store.tables import Advance, Column, Measurement, Rows, Table


def test_axes_must_name_the_axes_of_the_shape():
    with pytest.raises(ValueError, match="do not name the axes"):
        Column("x", "y x", (3,))
    assert Column("x", "y x", (3, 4)).row_bytes == 48
    assert Column("x", dtype="int64").row_bytes == 8


@pytest.mark.parametrize("name", ["units/..", "units//a", "", "units/a\nb", "units/a\\b"])
def test_a_name_with_which_no_store_is_read_again_is_told_before_anything_is_measured(name):
    """F102."""
    with pytest.raises(UserError, match="cannot be a name in a store"):
        Table(name, "unit", 3, {"best": Column("x")})
    with pytest.raises(UserError, match="cannot be a name in a store"):
        Table("units/a", "unit", 3, {"..": Column("x")})


def test_iterating_a_measurement_gives_its_rows_one_by_one():
    """With the columns known from the start, and without what is stored beside the results."""
    known = Column("channel", dtype="int64", values=np.array([7, 8, 9]))
    table = Table("units/a", "unit", 3, {"unit": known, "best": Column("x", "k", (2,))}, batch=2)
    beside = Table("stimuli", "image", 1, {"skipped": Column("x", dtype="bool")}, aside=True)
    events = [
        Rows("units/a", 0, {"best": np.array([[1, 2], [3, 4]])}),
        Advance(5),
        Rows("stimuli", 0, {"skipped": np.array([False])}),
        Rows("units/a", 2, {"best": np.array([[5, 6]])}),
    ]
    rows = list(Measurement([table, beside], events, total=5))
    assert [row.row for row in rows] == [0, 1, 2]
    assert [row.unit for row in rows] == [7, 8, 9]
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
