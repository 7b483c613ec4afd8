"""Tables of text: values separated by commas, semicolons, tabs or blanks, with or without names of rows and columns."""

import csv
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cnnprobe.errors import UserError, one_line
from cnnprobe.machine import files
from cnnprobe.store.containers.grouped import either, mark_of, marked, unmarked
from cnnprobe.store.containers.stored import Container, Stored

LOG = logging.getLogger("cnnprobe")
SEPARATORS = ("\t", ";", ",", None)
"""In order of how surely they separate; None: blanks."""
SAID = re.compile(r"sep=(.)", re.IGNORECASE)
"""The first line by which a spreadsheet says what separates the cells."""
CELLS = 2 * 10**7
LARGEST = 2**29
"""Bytes, as many cells with all digits of a number each."""
"""Cells of a table that are read; each takes a hundred bytes until it is a number."""
NOTHING = ("", "nan", "na", "n/a", "#n/a", "<na>", "none", "null", ".", "-", "--", "?")
"""What stands where there is no number, in small letters."""
STARS = re.compile(r"(?<=[\d.%])\s*\*+$")
"""Marks of significance behind a number."""
SHARE = re.compile(r"(?<=[\d.,])\s*%$")
"""What makes a hundredth of a number."""
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
"""A number whose comma may stand between thousands."""


def opened(path: Path) -> Container:
    """Return the numbers of a table; what is no number in front and on top are names.

    Returns:
        `arrays[""]` (row, column), NaN where a cell is empty; `texts["rows"]` the first column that holds names, and
        `texts["columns"]` what is above the numbers, where there are such.

    Raises:
        UserError: there are no numbers, or a cell among numbers is none.
    """
    lines = cells(path)
    head = [] if all(number(cell) is not None or not cell for cell in lines[0]) and not _index(lines) else lines[0]
    rows = lines[1:] if head else lines
    if not rows:
        raise UserError(f"{one_line(path.name)} has no row of numbers")
    columns = [list(one) for one in zip(*rows)]
    numeric = [is_numeric(one) for one in columns]
    names = next((place for place in range(len(numeric)) if not numeric[place]), None)
    if names is None and head and not head[0]:
        names = 0  # an index column, as pandas writes it
    kept = [place for place in range(len(numeric)) if numeric[place] and place != names]
    above = head or [f"column {place + 1}" for place in range(len(columns))]
    at = range(len(lines) - len(rows) + 1, len(lines) + 1)
    each = [column_numbers(columns, place, file=path.name, head=above, rows=at, among=kept) for place in kept]
    values = np.stack(each, 1) if kept else np.empty((len(rows), 0))
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
    text = text_of(path)
    if text is None:
        raise UserError(f"{name} is no table: it is no text")
    lines = [line for line in text.splitlines() if line.strip(" \t,;")]
    said = SAID.fullmatch(lines[0].strip('"')) if lines else None
    lines = lines[1:] if said else lines
    if not lines:
        raise UserError(f"{name} is no table: it is empty")
    about = len(lines) * (1 + sum(map(lines[0].count, "\t;, ")))
    if about > CELLS:
        raise UserError(
            f"{name} has about {about:.2g} cells, and of a table {CELLS:.0e} are read; store it as .npy or HDF5"
        )
    try:
        separator = said[1] if said else _separator(lines)
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


def text_of(path: Path) -> str | None:
    """Return the text of a file that may be of any size and encoding, see `decoded`.

    Raises:
        UserError: it is too large.
    """
    return decoded(files.read(path, LARGEST))


def decoded(content: bytes) -> str | None:
    """Return a text from its bytes: UTF-8, UTF-16 with or without its mark, else Western European; None: no text."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        kinds = ["utf-16"]
    elif b"\0" in content[:200]:
        kinds = ["utf-16-le" if content[1:2] == b"\0" else "utf-16-be"]
    else:
        kinds = ["utf-8-sig", "cp1252", "latin-1"]
    for kind in kinds:
        try:
            text = content.decode(kind)
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def number(cell: str) -> float | None:
    """Return the number in a cell; None where there is none.

    A comma may stand for the point (`numbers` says where it does), stars may follow; the long minus is one; 45% is
    0.45, and 3.070,05 is 3070.05.
    """
    text = _plain(cell)
    if SHARE.search(text):
        value = number(SHARE.sub("", text))
        return None if value is None else value / 100
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    if (found := marked(text)) is not None:
        return float(found[1])
    if GROUPED.fullmatch(text) and (text.count(",") > 1 or "." in text):
        text = text.replace(",", "")
    try:
        return None if "_" in text else float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        return None


def nothing(cell: str) -> bool:
    """Say whether a cell is empty or a word for it."""
    return _plain(cell).lower() in NOTHING


def is_numeric(column: Iterable[str]) -> bool:
    """Say whether a column holds numbers: at least half of what stands in it is some."""
    texts = [_plain(cell) for cell in column if not nothing(cell)]
    mark = mark_of(texts)
    there = [number(text if mark is None else unmarked(text, mark) or text) is not None for text in texts]
    return bool(there) and 2 * sum(there) >= len(there)


def numbers(
    grid: Sequence[Sequence[str]], *, file: str, head: Sequence[str], rows: Sequence[int], beside: Iterable[str] = ()
) -> np.ndarray:
    """Return (row, column) the numbers of cells that belong together, NaN where there is nothing.

    Stars behind numbers are left out with a warning. A comma is the point or stands between thousands, as the cells
    together tell. 45% is 0.45, and all are with a % sign or none but 0.

    Args:
        grid: cells.
        file: name of the table.
        head: what is above each column.
        rows: number of each row in the table.
        beside: other cells of the table, which tell what a comma is where these do not.

    Raises:
        UserError: a cell is no number and no word for nothing, some are with a % sign and some without, or it is open
            what a comma is.
    """
    cells = [cell for row in grid for cell in row]
    shares = [cell for cell in cells if SHARE.search(_plain(cell))]
    mark = mark_of(SHARE.sub("", _plain(cell)) for cell in cells)
    doubtful = None if mark else either(SHARE.sub("", _plain(cell)) for cell in cells)
    beside = beside if doubtful is None else [SHARE.sub("", _plain(cell)) for cell in beside]
    if doubtful is not None and "point" in _commas(beside):
        line, above = next((rows[place], head[at]) for place, row in enumerate(grid) for at, cell in enumerate(row)
                           if SHARE.sub("", _plain(cell)) == doubtful)  # fmt: skip
        raise UserError(one_line(f"{file}: row {line}, column {above} is {doubtful}, which may be a point for the "
                                 "decimals or between thousands, as others of the table have it; write no mark "
                                 "between thousands"))  # fmt: skip
    thousands = mark is None and _thousands(cells, beside, file)
    values = np.full((len(grid), len(head)), np.nan)
    for place, row in enumerate(grid):
        for at, cell in enumerate(row):
            if nothing(cell):
                continue
            if mark is None:
                value = number(_plain(cell).replace(",", "") if thousands else cell)
            else:
                value = _of_marked(cell, mark, f"{file}: row {rows[place]}, column {head[at]}", cells)
            if value is None:
                raise UserError(one_line(f"{file}: row {rows[place]}, column {head[at]} is {cell!r}, which is no "
                                         "number; give a number, or leave the cell empty"))  # fmt: skip
            if shares and value and not SHARE.search(_plain(cell)):
                raise UserError(one_line(f"{file}: row {rows[place]}, column {head[at]} is {cell}, and others are with "
                                         f"a % sign, as {shares[0]}; write all alike"))  # fmt: skip
            values[place, at] = value
    starred = [cell for cell in cells if _plain(cell) != _minus(cell)]
    if starred:
        LOG.warning(one_line(f"{file}: stars behind {len(starred)} numbers are left out, as in {starred[0]}"))
    return values


def _of_marked(cell: str, mark: str, where: str, cells: Sequence[str]) -> float | None:
    """Return the number in a cell among some with a mark between thousands; see `grouped.unmarked`.

    Raises:
        UserError: it does not go with the mark.
    """
    text = _plain(cell)
    bare = unmarked(SHARE.sub("", text), mark)
    value = number(cell) if bare is None else number(bare)
    if bare is None and value is not None:
        sure = next(one for one in cells if (found := marked(SHARE.sub("", _plain(one)))) and found[0] == mark)
        raise UserError(one_line(f"{where} is {cell}, and others have {mark!r} between thousands, as {sure}; "
                                 "write all alike"))  # fmt: skip
    return value / 1e2 if value is not None and SHARE.search(text) else value


def column_numbers(
    columns: Sequence[Sequence[str]],
    place: int,
    *,
    file: str,
    head: Sequence[str],
    rows: Sequence[int],
    among: Iterable[int],
) -> np.ndarray:
    """Return (row,) the numbers of one column; see `numbers`.

    Args:
        columns: of the table.
        place: of the column.
        file: name of the table.
        head: what is above each column.
        rows: number of each row in the table.
        among: columns of numbers, which tell what a comma is where this one does not.
    """
    beside = (cell for other in among if other != place for cell in columns[other])
    above = head[place] or f"column {place + 1}"
    return numbers([[cell] for cell in columns[place]], file=file, head=[above], rows=rows, beside=beside)[:, 0]


def _thousands(cells: Sequence[str], beside: Iterable[str], file: str) -> bool:
    """Say whether commas stand between thousands.

    Raises:
        UserError: commas are both, or it is open which.
    """
    own = _commas(cells)
    point, between = own.get("point"), own.get("thousands") or own.get("dot")
    if point and between:
        raise UserError(one_line(f"{file} has {point} and {between}, one with a comma and one with a point for the "
                                 "decimals or a comma between thousands; write all alike"))  # fmt: skip
    if point or "either" not in own:
        return "thousands" in own
    if between or "whole" in own:
        return True
    others = _commas(beside)
    point, between = others.get("point"), others.get("thousands") or others.get("dot")
    if bool(point) == bool(between):
        either = own["either"]
        raise UserError(one_line(f"{file}: {either} may be {either.replace(',', '.')} or {either.replace(',', '')}; "
                                 "write a point for the decimals, or no comma between thousands"))  # fmt: skip
    return bool(between)


def _commas(cells: Iterable[str]) -> dict[str, str]:
    """Return a number of each kind that tells what commas are: the point, between thousands, or either."""
    found: dict[str, str] = {}
    for text in (SHARE.sub("", _plain(cell)) for cell in cells):
        if nothing(text) or number(text) is None:
            continue
        if "," in text:
            sure = text.count(",") > 1 or "." in text
            kind = "point" if not GROUPED.fullmatch(text) else "thousands" if sure else "either"
        else:
            kind = "dot" if "." in text else "whole" if re.fullmatch(r"[+-]?\d{3,}", text) else ""
        found.setdefault(kind, text)
    return found


def _minus(cell: str) -> str:
    return cell.replace("\N{MINUS SIGN}", "-").strip()


def _plain(cell: str) -> str:
    """Return a cell with an ordinary minus and without stars behind a number."""
    return STARS.sub("", _minus(cell))


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
