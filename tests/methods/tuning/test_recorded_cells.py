import os
import tracemalloc

import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.tuning.recorded_cells import LARGEST, recorded_cells


def test_cells_are_read_and_other_columns_left_alone(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("name,n_y,n_x\na,0.3,0.25\nb,0.1,0.5\n")
    (table,) = recorded_cells(str(path))
    assert table.columns["n_x"].values.tolist() == [0.25, 0.5]
    assert table.columns["n_y"].values.tolist() == [0.3, 0.1]
    assert table.attributes == {"file": "cells.csv"}
    assert recorded_cells(None) == []


@pytest.mark.parametrize(
    "text", ["\ufeffcell;n_x;n_y\na;0,25;0,3\nb;0,5;1\n", "n_x\tn_y\tlab\n0.25\t.3\tx, y\n0.5\t1\tz\n"]
)
def test_semicolons_and_tabs_stand_between_cells_too(tmp_path, text):
    """F90."""
    (tmp_path / "cells.csv").write_text(text)
    (table,) = recorded_cells(str(tmp_path / "cells.csv"))
    assert table.columns["n_x"].values.tolist() == [0.25, 0.5] and table.columns["n_y"].values.tolist() == [0.3, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "needs rows with the columns n_x and n_y, got a, b"),
        ("n_x,n_y\n", "got no rows"),
        ("n_x,n_y\n0.1,x\n", "line 2: n_x and n_y must be numbers of 0 or more, got 'x'"),
        ("n_x,n_y\n0.1,0.2\n0.1,nan\n", "line 3: .* got 'nan'"),
        ("n_x,n_y\n0.1\n", "line 2: .* got None"),
    ],
)
def test_mistakes_are_told(tmp_path, text, words):
    path = tmp_path / "cells.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        recorded_cells(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        recorded_cells(str(tmp_path / "none.csv"))


def test_a_pipe_is_told_and_not_waited_for(tmp_path):
    """F25."""
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match=r"pipe\.csv cannot be read: it is not a file"):
        recorded_cells(str(tmp_path / "pipe.csv"))


def test_of_a_wide_table_two_columns_are_kept(tmp_path):
    """F102: rows of 60,000 columns took gigabytes; a cell that is not there is no number."""
    head = ",".join(["n_y", *(f"c{number}" for number in range(60_000)), "n_x"])
    row = ",".join(["1.5", *["2"] * 60_000, "0.5"])
    (tmp_path / "cells.csv").write_text("\n".join([head, *[row] * 100, ""]))
    tracemalloc.start()
    try:
        [table] = recorded_cells(str(tmp_path / "cells.csv"))
        assert tracemalloc.get_traced_memory()[1] < 7 * (tmp_path / "cells.csv").stat().st_size
    finally:
        tracemalloc.stop()
    assert table.columns["n_x"].values.tolist() == [0.5] * 100 and table.columns["n_y"].values.tolist() == [1.5] * 100
    (tmp_path / "cells.csv").write_text(f"{head}\n1,2\n")
    with pytest.raises(UserError, match="line 2: n_x and n_y must be numbers of 0 or more, got None"):
        recorded_cells(str(tmp_path / "cells.csv"))


def test_a_table_is_read_up_to_a_limit(tmp_path):
    """F102."""
    with (tmp_path / "cells.csv").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match=r"cells\.csv is too large"):
        recorded_cells(str(tmp_path / "cells.csv"))
