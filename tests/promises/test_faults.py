"""The table of faults: every fault that can befall a run has its tests, or stands there as open.

`faults.csv` has a row for each fault: its number, what goes wrong, the tests that hold it, and a note.
A row without tests has a note that begins with "open:" and says what is missing.
"""

import ast
import csv
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "faults.csv"
COUNT = 105


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


@cache
def sources(path: Path) -> dict[str, str]:
    """Return the source of every test of a file by name: decorators, body and the comments within."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def held(row: dict[str, str]) -> str:
    """Return what is wrong with a row of the table, "" where nothing is."""
    for test in row["tests"].split():
        file, _, name = test.partition("::")
        path = ROOT / file
        if not (path.is_file() and path.name.startswith("test_") and ROOT / "tests" in path.parents):
            return f"there is no file of tests {file}"
        if name not in sources(path):
            return f"{file} has no test {name}"
        if row["id"] not in sources(path)[name]:
            return f"{test} does not say {row['id']}"
    if bool(row["tests"]) == row["note"].startswith("open:"):
        return "a row has tests, or a note that begins with open:, never both and never neither"
    return "" if row["fault"] else "it does not say what goes wrong"


def test_every_fault_is_in_the_table_once_and_in_order():
    assert [row["id"] for row in rows()] == [f"F{number:02d}" for number in range(1, COUNT + 1)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["id"])
def test_the_tests_of_a_fault_are_there_and_name_it(row):
    assert held(row) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tests": "tests/test_nothing.py::test_x"}, "there is no file"),
        ({"tests": "tests/promises/test_faults.py::test_nothing"}, "has no test test_nothing"),
        ({"tests": "tests/support/faults/hostile.py::corpus"}, "there is no file of tests"),
        (
            {"tests": "tests/promises/test_faults.py::test_every_fault_is_in_the_table_once_and_in_order"},
            "does not say F01",
        ),
        ({"tests": ""}, "never neither"),
        ({"note": "open: something"}, "never both"),
        ({"fault": ""}, "does not say what goes wrong"),
    ],
)
def test_a_row_that_promises_what_is_not_there_is_found(changed, words):
    """Of F01, with one of its cells changed."""
    assert words in held(rows()[0] | changed)
