"""Tables of text: values separated by commas, semicolons, tabs or blanks, with or without names of rows and columns."""

import csv
from pathlib import Path

import numpy as np

from cnnprobe.containers.stored import Container, Stored
from cnnprobe.errors import UserError, one_line

SEPARATORS = ("\t", ";", ",", None)
"""In order of how surely they separate; None: blanks."""


def opened(path: Path) -> Container:
    """Return the numbers of a table; what is no number in front and on top are names.

    Returns:
        `arrays[""]` (row, column), NaN where a cell is empty or no number; `texts["rows"]` the first column that holds
        names, and `texts["columns"]` what is above the numbers, where there are such.
    """
    lines = cells(path)
    head = [] if all(number(cell) is not None or not cell for cell in lines[0]) and not _index(lines) else lines[0]
    rows = lines[1:] if head else lines
    if not rows:
        raise UserError(f"{one_line(path.name)} has no row of numbers")
    grid = [[number(cell) for cell in row] for row in rows]
    numeric = [any(row[place] is not None for row in grid) for place in range(len(rows[0]))]
    names = next((place for place in range(len(numeric)) if not numeric[place]), None)
    if names is None and head and not head[0]:
        names = 0  # an index column, as pandas writes it
    kept = [place for place in range(len(numeric)) if numeric[place] and place != names]
    values = np.array([[np.nan if row[place] is None else row[place] for place in kept] for row in grid])
    found = Container(path, "table")
    found.add("", Stored(values.shape, values.dtype, values.__getitem__, title=path.stem))
    if names is not None:
        found.texts["rows"] = [row[names] for row in rows]
    if head:
        found.texts["columns"] = [head[place] for place in kept]
    return found


def cells(path: Path) -> list[list[str]]:
    """Return the cells of a table, row by row, stripped of blanks; every row has as many.

    A first row that is shorter by one cell (as R writes it) gets an empty one in front.

    Raises:
        UserError: it is no text, empty, or its rows differ in length.
    """
    name = one_line(str(path))
    try:
        text = decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no table ({error})") from None
    lines = [line for line in text.splitlines() if line.strip(" \t,;")]
    if not lines:
        raise UserError(f"{name} is no table: it is empty")
    separator = _separator(lines)
    try:
        rows = [line.split() for line in lines] if separator is None else list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{name} is no table ({error})") from None
    rows = [[cell.strip() for cell in row] for row in rows]
    if len(rows) > 1 and len(rows[0]) == len(rows[1]) - 1:
        rows[0].insert(0, "")
    width = len(rows[0])
    for place, row in enumerate(rows):
        if len(row) == width + 1 and not row[-1]:  # a separator at the end
            row.pop()
        if len(row) != width:
            raise UserError(f"{name} is no table: not every row has {width} columns, as the first has "
                            f"(row {place + 1} has {len(row)})")  # fmt: skip
    return rows


def decoded(content: bytes) -> str:
    """Return a text from its bytes: UTF-8, or UTF-16 with its mark.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if marked else "utf-8-sig")


def number(cell: str) -> float | None:
    """Return the number in a cell; None where there is none. A comma may stand for the point."""
    try:
        return float(cell)
    except ValueError:
        pass
    if cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    try:
        return float(cell.replace(",", ".")) if cell.count(",") == 1 else None
    except ValueError:
        return None


def _separator(lines: list[str]) -> str | None:
    """Return what separates the cells: what stands in every line, equally often."""
    some = lines[:200]
    for one in SEPARATORS[:3]:
        counts = [len(next(csv.reader([line], delimiter=one), [])) for line in some]
        if min(counts[1:] or counts) > 1 and counts[0] >= min(counts[1:] or counts) - 1:
            return one
    return None if all(len(line.split()) > 1 for line in some) and all(map(_numeric, some[1:])) else ","


def _numeric(line: str) -> bool:
    return any(number(cell) is not None for cell in line.split()[-1:])


def _index(lines: list[list[str]]) -> bool:
    """Say whether numbers on top are names: 0, 1, 2, … as pandas writes columns without names, behind an empty cell."""
    return not lines[0][0] and len(lines) > 1 and bool(lines[1][0])
