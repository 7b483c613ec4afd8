"""References out of tables of text: matrices, triangles, pairs with their distance, and features."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cnnprobe.containers.tables import cells, number
from cnnprobe.engine.dissimilarity import dissimilarity_matrix, upper
from cnnprobe.engine.matrix_axes import is_symmetric
from cnnprobe.engine.reference_matrices import EVEN, Reference, must_tell, reference
from cnnprobe.errors import UserError, listing, one_line, unknown
from cnnprobe.matching import Rows, by_names, overlap, rows_of

LOG = logging.getLogger("cnnprobe")
DISTANCE = re.compile(r"dist|diss|rdm", re.IGNORECASE)
"""What a column of dissimilarities is called."""


def table(path: Path, column: str, conditions: Sequence[str], order: str | None) -> Reference:
    """Return the dissimilarities that a table holds: a matrix, pairs, or Euclidean distances between rows of features.

    A square of numbers that is symmetric and has one number on its diagonal is a matrix; two columns of names and a
    number are pairs; else rows are names of conditions, then numbers.

    Raises:
        UserError: it is no table, or no such thing.
    """
    rows = cells(path)
    found = None if column else _matrix(path, rows, conditions, order) or _triangle(path, rows, conditions, order)
    found = found or _pairs(path, rows, conditions, column)
    return found or _features(path, rows, column, conditions)


def _matrix(path: Path, rows: list[list[str]], conditions: Sequence[str], order: str | None) -> Reference | None:
    """Return the square matrix that a table is, with or without names on top and in front; None where it is none."""
    top = int(_has_head(rows))
    body, front = rows[top:], len(rows[0]) - len(rows) + top
    if len(body) < 2 or front < 0:
        return None
    values = np.array([[_number(cell) for cell in row[front:]] for row in body])
    listed = [rows[0][front:]] if top else []
    listed += [[row[place] for row in body] for place in range(front)]
    square = _of_its_columns(listed, top)
    if square is not None:
        values = values[:, square]
        listed = listed[1:]
    diagonal = values.diagonal()[np.isfinite(values.diagonal())]
    empty = np.isnan(values)
    even = not len(diagonal) or np.ptp(diagonal) <= EVEN
    if square is None and ((empty.all(1) & empty.all(0)).any() or not is_symmetric(values) or not even):
        return None
    candidates = [names for names in listed if len(set(names)) == len(names)]
    counts = [all(map(_is_count, names)) for names in candidates]
    fit = [by_names(conditions, names, loose=not count) for names, count in zip(candidates, counts)]
    named = next((names for names, found in zip(candidates, fit) if found is not None), None)
    named = named or next((names for names, count in zip(candidates, counts) if not count), None)
    made = reference(path.stem, values, len(body))
    return _in_order(made, rows_of(conditions, len(body), named, order=order, file=one_line(path.name)))


def _of_its_columns(listed: list[list[str]], top: int) -> np.ndarray | None:
    """Return the column of each row where the names on top are those of the rows, in any order; None where not."""
    for names in listed[1:] if top else ():
        places = {name: place for place, name in enumerate(listed[0])}
        if len(places) == len(names) and places.keys() == set(names):
            return np.array([places[name] for name in names], np.int64)
    return None


def _has_head(rows: list[list[str]]) -> bool:
    """Say whether the first row is names: words behind a first cell that may be empty, or one row too many."""
    first = rows[0]
    if any(cell and number(cell) is None for cell in first[1:]):
        return True
    if len(rows) == len(first) and all(not row[place] for place, row in enumerate(rows)):
        return False  # a matrix with an empty diagonal
    return not first[0] or len(rows) == len(first) + 1


def _in_order(made: Reference, rows: Rows) -> Reference:
    """Return a reference whose rows are those of the conditions; tell what was assumed."""
    if rows.guessed:
        LOG.warning(rows.guessed)
    return replace(made.reordered(rows.order), rows=rows.how)


def _is_count(word: str) -> bool:
    """Say whether a name of a row is only its number, as programs write it that have no names."""
    return number(word) is not None or not word


def _triangle(path: Path, rows: list[list[str]], conditions: Sequence[str], order: str | None) -> Reference | None:
    """Return the upper triangle that a row or a column of numbers is; None where it is none."""
    flat = [number(cell) for row in rows for cell in row]
    flat = flat[1:] if flat and flat[0] is None else flat
    pairs = len(conditions) * (len(conditions) - 1) // 2
    if 1 not in (len(rows), len(rows[0])) or len(flat) != pairs or None in flat:
        return None
    matched = rows_of(conditions, len(conditions), None, order=order, file=one_line(path.name))
    return _in_order(reference(path.stem, np.array(flat, np.float64), len(conditions)), matched)


def _pairs(path: Path, rows: list[list[str]], conditions: Sequence[str], column: str) -> Reference | None:
    """Return the matrix of a table that names two conditions in a row, then a number; None where it is none."""
    head, body = rows[0], rows[1:]
    count = len(conditions)
    if len(body) < count * (count - 1) // 2 or len(head) < 3:
        return None
    columns = list(zip(*body))
    words = [place for place, column in enumerate(columns) if any(number(cell) is None for cell in column)]
    for first, second in pairwise(words):
        names = list(dict.fromkeys((*columns[first], *columns[second])))
        matched = by_names(conditions, names)
        if matched is None or not set(columns[first]) & set(columns[second]):  # the one are subjects
            continue
        if column and column not in head:
            raise unknown("column", column, head[second + 1 :], of=str(path))
        chosen = head.index(column) if column else _of_pairs(path, head, columns, second + 1)
        if chosen is None:
            return None
        values, at = np.full((len(names),) * 2, np.nan), {name: place for place, name in enumerate(names)}
        for row in body:
            one, other, value = at[row[first]], at[row[second]], number(row[chosen])
            value = np.nan if value is None else value
            for a, b in ((one, other), (other, one)):
                if np.isfinite(values[a, b]) and values[a, b] != value:
                    raise UserError(f"{path} has two numbers for {row[first]} and {row[second]}")
                values[a, b] = value
        must_tell(f"{path.stem}: {head[chosen]}", head[chosen], upper(values), values.diagonal())
        made = reference(column or path.stem, values, len(names)).reordered(matched.order)
        return replace(made, rows=f"{matched.how} ({head[first]}, {head[second]})")
    return None


def _of_pairs(path: Path, head: list[str], columns: list[tuple[str, ...]], begin: int) -> int | None:
    """Return which column behind the names holds the dissimilarities of pairs; None where there are no numbers.

    Raises:
        UserError: several hold numbers, and not one of them alone is called a distance.
    """
    numeric = [place for place in range(begin, len(head)) if any(number(cell) is not None for cell in columns[place])]
    called = [place for place in numeric if DISTANCE.search(head[place])]
    if len(numeric) < 2 or len(called) == 1:
        return (called or numeric or [None])[0]
    named = listing([head[place] for place in called or numeric], 6)
    raise UserError(one_line(f"{path} has several numbers for each pair: {named}; say which, reference=FILE:COLUMN"))


def _features(path: Path, rows: list[list[str]], column: str, conditions: Sequence[str]) -> Reference:
    """Return the Euclidean distances between the rows of a table: name of a condition, then numbers."""
    head, body = rows[0], rows[1:]
    columns = [list(one) for one in zip(*body)]
    ways = [
        (found.loose, place, found)
        for place, one in enumerate(columns)
        if (found := by_names(conditions, one, loose=any(number(cell) is None for cell in one)))
    ]
    matched = min(ways, key=lambda way: way[:2])[1:] if ways else None
    if matched is None:
        there = max((overlap(conditions, one) for one in columns), key=len, default=[])
        missing = [name for name in conditions if name not in set(there)]
        if there and not missing:
            raise UserError(one_line(f"{path} has all names of conditions in a column, but some in several rows"))
        shown = f"; its first row is {listing(body[0], 4)}" if body and not there else ""
        raise UserError(one_line(f"{path} has no column with the names of all conditions; missing: "
                                 f"{listing(missing, 3)}{shown}"))  # fmt: skip
    names, rows_found = matched
    if column and column not in head:
        raise unknown("column", column, head[names + 1 :], of=str(path))
    chosen = [head.index(column)] if column else range(names + 1, len(head))
    front = [head[place] for place in range(names) if head[place] and all(map(_is_count, columns[place]))]
    if front and not column:
        LOG.warning(one_line(f"{path.name}: passed over {listing(front, 4)}, in front of the names ({head[names]}); "
                             "features stand behind them"))  # fmt: skip
    values = np.array([[_number(body[row][place]) for place in chosen] for row in rows_found.order])
    values = values.reshape(len(conditions), -1)
    numeric = ~np.isnan(values).all(0)
    if not numeric.any():
        raise UserError(f"{path} has no numbers behind the column {head[names]!r}")
    if not numeric.all():
        words = listing([head[place] or "a column without a name" for place in np.array(chosen)[~numeric]], 4)
        LOG.warning(one_line(f"{path.name}: passed over {words}: no numbers"))
    used = [head[place] for place in np.array(chosen)[numeric]]
    pairs = upper(dissimilarity_matrix(values[:, numeric], "euclidean"))
    how = f"{rows_found.how} ({head[names]})"
    taken = one_line(f"features {listing(used, 6)}")
    return Reference(column or path.stem, pairs[None, None, None], (), np.array([np.nan]), rows=how, taken=taken)


def _number(text: str) -> float:
    value = number(text)
    return float("nan") if value is None else value
