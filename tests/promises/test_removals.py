"""Every protection is missed when it is gone: a test that holds the fault fails on a copy of the package without it.

`removals.csv` has a row for each removal: the number of the fault, the test that has to fail, a file of the package, a
piece of its text that stands there once, and what is put in its place.
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.promises import test_faults

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "removals.csv"


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


def numbered() -> list:
    """Return the rows as parameters of a test, each with a name of its own."""
    count = dict.fromkeys((row["fault"] for row in rows()), 0)
    found = []
    for row in rows():
        count[row["fault"]] += 1
        found.append(pytest.param(row, id=f"{row['fault']}-{count[row['fault']]}"))
    return found


def without(row: dict[str, str]) -> str:
    """Return the text of the file with the protection removed."""
    text = (ROOT / row["file"]).read_text(encoding="utf-8")
    assert text.count(row["old"]) == 1, f"{row['file']} has {text.count(row['old'])} times {row['old']!r}"
    return text.replace(row["old"], row["new"])


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """Return a folder with what tests need of the project, for changing."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("cnnprobe", "configs", "docs", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "_build", "generated"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    return root


def test_every_fault_has_a_removal():
    assert {row["fault"] for row in rows()} == {row["id"] for row in test_faults.rows()}


def test_what_is_removed_is_there_and_its_test_holds_the_fault():
    held = {fault["id"]: fault["tests"].split() for fault in test_faults.rows()}
    for row in rows():
        text = without(row)
        if row["file"].endswith(".py"):
            compile(text, row["file"], "exec")
        assert row["test"].partition("[")[0] in held[row["fault"]], row


@pytest.mark.slow
@pytest.mark.parametrize("row", numbered())
def test_it_is_seen_to_fail_with_its_protection_removed(row, copy):
    """A test that passes without what it holds would hold nothing."""
    whole = (copy / row["file"]).read_text(encoding="utf-8")
    (copy / row["file"]).write_text(without(row), encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", row["test"], "-m"]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    how: dict[str, Any] = {"cwd": copy, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    try:
        done = subprocess.run([*words, "not slow"], **how)
        if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:  # it is one of the slow tests
            done = subprocess.run([*words, ""], **how)
    finally:
        (copy / row["file"]).write_text(whole, encoding="utf-8")
    # below 0: without its protection the process itself died
    assert done.returncode == 1 or done.returncode < 0, done.stdout[-2000:] + done.stderr[-2000:]
