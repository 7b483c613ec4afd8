"""Tables as people write them: any separator, quotes, byte-order marks, encodings, comments, a running number.

Which separator a table has shows in what stands between: every way of cutting it into columns is offered, and taken is
the one in which a column names what it should (`labelling`).
"""

import csv
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.errors import UserError, path_of
from cnnprobe.machine import files
from cnnprobe.store.containers.tables import CELLS, decoded

SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", None: "blanks"}
"""In the order in which they are tried; None: blanks."""
LARGEST = 2**30  # bytes
NO_TEXT = {b"PK\x03\x04": "a workbook; save the sheet as CSV", b"\xd0\xcf\x11\xe0": "a workbook; save the sheet as CSV"}
MISSING = ("", "nan")
"""What stands where nothing is known, in small letters."""


@dataclass(frozen=True)
class Table:
    """One way of cutting a table into columns.

    Args:
        rows: all of the same length, cells without the blanks and quotes around them.
        separator: a word for what stands between the cells.
        ragged: number of the first row that has more cells than the first one, from 1, and how many; or None.
    """

    rows: list[list[str]]
    separator: str
    ragged: tuple[int, int] | None

    @property
    def width(self) -> int:
        """How many columns it has."""
        return len(self.rows[0])

    def column(self, place: int, start: int = 0) -> list[str]:
        """Return the cells of a column, from a row on."""
        return [row[place] for row in self.rows[start:]]


def split_column(word: str) -> tuple[str, str | None]:
    """Take FILE:COLUMN apart; without a column, or where there is a file of the whole name, that is None."""
    file, colon, column = word.rpartition(":")
    if not colon or not file or path_of(word).exists() or not path_of(file).exists():
        return word, None
    return file, column.strip()


def readings(path: str) -> Iterator[Table]:
    """Give every way of cutting a table of text into two columns or more.

    Raises:
        UserError: it cannot be read, is no text, or empty.
    """
    lines = _lines(path)
    if not lines:
        raise UserError(f"the table {path} is empty")
    if len(lines) > 2 and lines[0].strip() == str(len(lines) - 2):  # how many rows there are below the head, in CelebA
        lines = lines[1:]
    cuts = [(words, _cut(lines, separator)) for separator, words in SEPARATORS.items()]
    cuts.append((SEPARATORS[None], _cut_at_blanks(lines)))
    for words, rows in cuts:
        width = len(rows[0]) if rows else 0
        if max(map(len, rows), default=0) < 2:
            continue
        width = max(width, 2) if words != SEPARATORS[None] else max(map(len, rows))
        if _grows(rows, width):
            raise UserError(f"the table {path} has a row of {width} cells, and {len(rows)} rows that have far fewer")
        ragged = next(((place, len(row)) for place, row in enumerate(rows, 1) if len(row) > width), None)
        yield Table([[*row, *[""] * width][:width] for row in rows], words, ragged)


def _cut(lines: Sequence[str], separator: str | None) -> list[list[str]]:
    """Cut lines into cells; blanks cut off the last cell only, unless every line has as many cells as the first."""
    if separator is None:
        rows = [line.split() for line in lines]
        if len({len(row) for row in rows}) > 1:
            rows = [line.rsplit(None, 1) for line in lines]
    else:
        try:
            rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
        except csv.Error:
            return []
        rows = _without_bare_na(rows, lines, separator)
    rows = [[_bare(cell) for cell in row] for row in rows]
    if len({len(row) for row in rows}) == 1:  # there may be separators at the end of each line
        filled = max((place for row in rows for place, cell in enumerate(row, 1) if cell), default=0)
        rows = [row[: max(filled, 2)] for row in rows]
    return [row for row in rows if any(row)]


def _grows(rows: list[list[str]], width: int) -> bool:
    """Say whether rows would have many more cells than they have, were each as wide as one of them."""
    return len(rows) * width > max(CELLS, 2 * sum(map(len, rows)))


def _cut_at_blanks(lines: Sequence[str]) -> list[list[str]]:
    """Cut lines at all blanks, where the first has one cell less than each of the others, as R names columns."""
    rows = [[_bare(cell) for cell in line.split()] for line in lines]
    fits = len({len(row) for row in rows[1:]}) == 1 and len(rows[0]) == len(rows[1]) - 1 > 0
    return [["", *rows[0]], *rows[1:]] if fits else []


def _without_bare_na(rows: list[list[str]], lines: Sequence[str], separator: str) -> list[list[str]]:
    """Empty the cells where NA stands without quotes among quoted words, as R writes what is missing."""
    if not any('"' in line for line in lines) or not any("NA" in row for row in rows):
        return rows
    if _grows(rows, max(map(len, rows))):
        return rows
    between = re.escape(separator)
    blank = rf"[^\S{between}]*"
    raw = [re.findall(rf'(?:^|{between})({blank}"(?:[^"]|"")*"{blank}|[^{between}]*)', line) for line in lines]
    if [len(row) for row in raw] != [len(row) for row in rows]:  # a quote within a word
        return rows
    rows = [list(row) for row in rows]
    for place in range(max(map(len, rows))):
        there = [at for at in range(1, len(rows)) if place < len(rows[at]) and rows[at][place].strip()]
        bare = {at for at in there if raw[at][place].strip() == "NA"}
        if bare and set(there) - bare and all(raw[at][place].strip()[0] == '"' for at in there if at not in bare):
            for at in bare:
                rows[at][place] = ""
    return rows


def _bare(cell: str) -> str:
    """Return a cell without blanks and quotes around it, its letters composed (NFC)."""
    cell = unicodedata.normalize("NFC", cell.strip())
    quoted = len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "'\"`"
    return cell[1:-1].strip() if quoted else cell


def _lines(path: str) -> list[str]:
    """Return the lines of a table that say something.

    Raises:
        UserError: it cannot be read, or is no text.
    """
    given = path_of(path)
    try:
        content = files.read(given, LARGEST)
    except OSError as error:
        raise UserError(f"cannot read the table {path}: {error.strerror or error}") from None
    what = next((words for magic, words in NO_TEXT.items() if content.startswith(magic)), None)
    text = None if what else decoded(content)
    if text is None:
        raise UserError(f"cannot read the table {path}: it is {what or 'no text'}")
    lines = text.splitlines()
    if lines and re.fullmatch(r"sep=.", lines[0].strip().lower()):  # as spreadsheets write it
        lines = lines[1:]
    return [line for line in lines if line.strip(" \t,;|") and not line.startswith("#")]


def told(cells: Sequence[str]) -> str:
    """Return a row of a table for people."""
    return shown(" | ".join(cells))[:80]
