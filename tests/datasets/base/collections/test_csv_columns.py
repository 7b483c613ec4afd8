import csv
import os

import numpy as np
import pytest

from cnnprobe.datasets.base.collections import csv_columns
from cnnprobe.errors import UserError


def whole(path, *wanted):
    """Return the columns put together."""
    parts = zip(*csv_columns.columns(path, wanted))
    return [[value.decode() for part in column for value in part.tolist()] for column in parts]


@pytest.mark.parametrize("piece", [1, 5, 64, 2**20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_columns_are_those_of_the_standard_library(tmp_path, monkeypatch, piece, end, last):
    random = np.random.default_rng(0)
    names = ["id", "source", "value", "flag"]
    rows = [[f"{i:x}", "é" * (i % 3), f"{random.random():.{i % 7}f}", ""] for i in range(60)]
    text = end.join(",".join(row) for row in [names, *rows])
    path = tmp_path / "a.csv"
    path.write_bytes((text + (end if last else "")).encode())
    monkeypatch.setattr(csv_columns, "PIECE", piece)
    with path.open(newline="", encoding="utf-8") as file:
        expected = list(zip(*list(csv.reader(file))[1:]))
    assert whole(path, "value", "id", "flag", "source") == [list(expected[i]) for i in (2, 0, 3, 1)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n3\n4,5\n", r"line 3 has not the 2 fields"),
        ("a,b\n1,2\n3,4,5\n6\n", r"line 3 has not the 2 fields"),
        ("a,b\n1,2,3\n4\n", r"line 2 has not the 2 fields"),
        ("a,c\n1,2\n", r"has no column b; it has a,c"),
        ("", r"has no column a"),
        ("a,b\n1,2\n1," + "x" * 65 + "\n", r"line 3 has a field of 65 bytes"),
        ("a,b\n" + "x" * 200, r"line 2 has no end"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_line(tmp_path, monkeypatch, text, why):
    monkeypatch.setattr(csv_columns, "PIECE", 90)
    monkeypatch.setattr(csv_columns, "LONGEST", 90)
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=why):
        whole(path, "a", "b")


def test_a_pipe_is_no_table(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UserError, match="no file"):
        whole(tmp_path / "a.csv", "a")
