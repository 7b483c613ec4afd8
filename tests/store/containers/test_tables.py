"""Tables as people write them: separators, names of rows and columns, byte order marks, decimal commas."""

import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.store.containers.opening import opened
from cnnprobe.store.containers.tables import cells, number

WAYS = {
    "comma": "name,a,b\nx,1.5,2\ny,3,4.25\n",
    "semicolon and comma": "name;a;b\r\nx;1,5;2\r\ny;3;4,25\r\n",
    "tab": "\ufeffname\ta\tb\nx\t1.5\t2\ny\t3\t4.25\n",
    "R, without a corner": "a,b\nx,1.5,2\ny,3,4.25\n",
    "blanks": "name a b\nx   1.5 2\ny   3   4.25\n",
    "blanks round commas, an empty end": "name, a, b,\nx, 1.5, 2,\n\ny, 3, 4.25,\n",
    "what Excel says": "sep=;\nname;a;b\nx;1,5;2\ny;3;4,25\n",
    "what Excel says, quoted": '"sep=,"\nname,a,b\nx,1.5,2\ny,3,4.25\n',
    "bars, as it is said": "SEP=|\nname|a|b\nx|1.5|2\ny|3|4.25\n",
    "hundredths": "name,a,b\nx,150%,2\ny,300.0 %,4.25\n",
    "hundredths with commas": "name;a;b\nx;150%;200%\ny;300,0%;425%*\n",
    "quoted": '"name","a","b"\n"x","1.5","2"\n"y","3","4.25"\n',
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_names_and_numbers(tmp_path, way, encoding):
    (tmp_path / "a.csv").write_bytes(WAYS[way].encode(encoding))
    found = opened(tmp_path / "a.csv")
    assert found.arrays[""].read().tolist() == [[1.5, 2], [3, 4.25]]
    assert found.texts == {"rows": ["x", "y"], "columns": ["a", "b"]}


@pytest.mark.parametrize(
    "text", ["0,1,2\n1,0,3\n2,3,0\n", ",0,1,2\n0,0,1,2\n1,1,0,3\n2,2,3,0\n", "0 1 2\n1 0 3\n2 3 0"]
)
def test_a_matrix_without_names(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert opened(tmp_path / "a.txt").arrays[""].read().tolist() == [[0, 1, 2], [1, 0, 3], [2, 3, 0]]


def test_what_is_missing_is_nan_and_true_is_one(tmp_path):
    (tmp_path / "a.csv").write_text("n,a,b\nx,,TRUE\ny,2,false\n")
    np.testing.assert_array_equal(opened(tmp_path / "a.csv").arrays[""].read(), [[np.nan, 1], [2, 0]])


def test_rows_of_different_length_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("n,a,b\nx,1,2\ny,2\n")
    with pytest.raises(Exception, match=r"not every row has 3 columns, as the first has \(row 3 has 2\)"):
        cells(tmp_path / "a.csv")


def test_what_is_a_number():
    """F90: the long minus, stars, thousands; Python's underscores are none."""
    read = {
        "\u22121.5e\u22123": -1.5e-3,
        "3.21**": 3.21,
        "1,234,567": 1234567,
        "1,234.5": 1234.5,
        "0,25": 0.25,
        "45.0%": 0.45,
        "1.234,5": 1234.5,
        "-3.070.125": -3070125,
        "1 234,5": 1234.5,
        "1\u202f234": 1234,
        "1'234'567.25": 1234567.25,
    }
    assert {text: number(text) for text in read} == read
    assert [number(text) for text in ("1_2", "1 234", "n/a", "*", "%", "")] == [None] * 6


def test_a_cell_among_numbers_that_is_none_is_refused(tmp_path):
    """F90: it was NaN."""
    (tmp_path / "a.csv").write_text("n,a,b\nx,1,3\ny,2,5 ms\n")
    with pytest.raises(Exception, match=r"a.csv: row 3, column b is '5 ms', which is no number"):
        opened(tmp_path / "a.csv")


def test_numbers_with_a_sign_and_without_are_refused(tmp_path):
    """F90: 45% beside 30 may be 0.3 or 30; 0 is the same."""
    (tmp_path / "a.csv").write_text("n,a,b\nx,45%,45%\ny,0,30\n")
    with pytest.raises(Exception, match=r"a.csv: row 3, column b is 30, and others are with a % sign, as 45%; write"):
        opened(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("n,a,b\nx,45%,2\ny,0,30\n")
    np.testing.assert_allclose(opened(tmp_path / "a.csv").arrays[""].read(), [[0.45, 2], [0, 30]])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_table_in_any_encoding_is_text(tmp_path, encoding):
    """F89: names with umlauts are those of the images."""
    (tmp_path / "a.csv").write_bytes("name;Größe\nÄhre;1,5\nBär;2\n".encode(encoding))
    found = opened(tmp_path / "a.csv")
    assert found.texts == {"rows": ["Ähre", "Bär"], "columns": ["Größe"]}
    (tmp_path / "b.csv").write_bytes(bytes(range(256)))
    with pytest.raises(Exception, match="is no table: it is no text"):
        opened(tmp_path / "b.csv")


def test_a_line_of_a_hundred_thousand_cells_is_no_table(tmp_path):
    """F90: with another separator it is one cell, longer than the reader takes."""
    (tmp_path / "wide.csv").write_text("a," * 100_000)
    with pytest.raises(UserError, match=r"wide\.csv is no table"):
        cells(tmp_path / "wide.csv")
