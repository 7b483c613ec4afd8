"""References from tables of text: matrices, triangles, pairs with their distance, and features."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from cnnprobe.errors import UserError, listing, one_line, place_of
from cnnprobe.instruments.statistics.dissimilarity import dissimilarity_matrix, upper
from cnnprobe.methods.rsa.references.axes import STIMULI, is_symmetric, known_dimensions
from cnnprobe.methods.rsa.references.given import EVEN, Reference, must_tell, nan_mean, reference
from cnnprobe.methods.rsa.references.matching import Rows, best_of, by_names, overlap, rows_of, shared
from cnnprobe.methods.rsa.references.pairs import MOST, every_pair, refuse_triplets, spread, tell_numbers, two_names
from cnnprobe.store.containers.tables import cells, column_numbers, is_numeric, nothing, number, numbers

LOG = logging.getLogger("cnnprobe")
DISTANCE = re.compile(r"dist|diss|rdm", re.IGNORECASE)
"""What a column of dissimilarities is called."""
SUBJECTS = ("subject", STIMULI, STIMULI)


def table(path: Path, column: str, conditions: Sequence[str], order: str | None) -> Reference:
    """Return the dissimilarities that a table holds: a matrix, pairs, or Euclidean distances between rows of features.

    A square of numbers that is symmetric and has one number on its diagonal is a matrix; two columns of names and a
    number are pairs; else rows are names of conditions, then numbers.

    Raises:
        UserError: it is no table, or no such thing; a cell among numbers is none, or two columns name the rows in
            different orders.
    """
    rows = cells(path)
    refuse_triplets(path.name, rows, conditions)
    found = None if column else _matrix(path, rows, conditions, order) or _triangle(path, rows, conditions, order)
    found = found or _pairs(path, rows, conditions, column) or _joined(path, rows, conditions, column, order)
    found = found or _numbered(path, rows, conditions, column, order)
    return found or features(path, rows, column, conditions)


def _matrix(path: Path, rows: list[list[str]], conditions: Sequence[str], order: str | None) -> Reference | None:
    """Return the square matrix that a table is, with or without names on top and in front; None where it is none."""
    top = int(_has_head(rows))
    named = _of_its_columns(path, rows, conditions) if top else None
    body, front = rows[top:], len(rows[0]) - len(rows) + top
    if named is not None:
        body, taken = named
    elif len(body) < 2 or front < 0:
        return None
    else:
        taken = list(range(front, len(rows[0])))
    head = [cell or f"column {place + 1}" for place, cell in enumerate(rows[0])] if top else None
    head = head or [f"column {place + 1}" for place in range(len(rows[0]))]
    listed = [(head[place], [row[place] for row in body]) for place in range(len(head)) if place not in set(taken)]
    listed += [("the head", rows[0][front:])] if top and named is None else []
    grid = [[row[place] for place in taken] for row in body]
    if named is None and not _looks_square(grid):
        return None
    at = [rows.index(row) + 1 for row in body]
    values = numbers(grid, file=path.name, head=[head[place] for place in taken], rows=at)
    made = reference(path.stem, values, len(body))
    names, called = None, ""
    if order is None:
        names, called = _names_of(path, listed, conditions)
    matched = rows_of(conditions, len(body), names, order=order, file=one_line(path.name))
    return _in_order(made, replace(matched, how=matched.how + called))


def _names_of(
    path: Path, listed: list[tuple[str, list[str]]], conditions: Sequence[str]
) -> tuple[list[str] | None, str]:
    """Return the names of the rows out of lists of them, and what that list is called, in brackets."""
    listed = [one for one in listed if len(set(one[1])) == len(one[1])]
    found = best_of(conditions, listed, one_line(path.name))
    if found is not None:
        called, names = listed[found[0]]
        return names, f" ({one_line(called)})"
    return next((names for _, names in listed if not all(map(_is_count, names))), None), ""


def _looks_square(grid: list[list[str]]) -> bool:
    """Say whether cells are a symmetric matrix with one number on its diagonal."""
    values = np.array([[_number(cell) for cell in row] for row in grid])
    diagonal = values.diagonal()[np.isfinite(values.diagonal())]
    empty = np.isnan(values)
    even = not len(diagonal) or np.ptp(diagonal) <= EVEN
    return bool(even and not (empty.all(1) & empty.all(0)).any() and is_symmetric(values))


def _of_its_columns(
    path: Path, rows: list[list[str]], conditions: Sequence[str]
) -> tuple[list[list[str]], list[int]] | None:
    """Return the rows that the head names and the column of each; None where it does not name all, or all conditions.

    Rows and columns of numbers beside them are passed over with a warning.
    """
    head, body = rows[0], rows[1:]
    for place, names in enumerate(zip(*body)):
        counts = all(map(_is_count, names))
        behind = [(at, name) for at, name in enumerate(head) if at != place]
        there = [name for _, name in behind]
        if len(set(names)) != len(names) or len(names) < 2 or (counts and not set(names) <= set(there)):
            continue
        found, kept = by_names(names, there, loose=False), list(range(len(body)))
        if found is None and not counts and by_names(conditions, names, loose=False):
            some = overlap(names, there)
            kept = [at for at, name in enumerate(names) if name in set(some)]
            found = by_names(some, there, loose=False) if by_names(conditions, some, loose=False) else None
        if found is None:
            continue
        columns = [behind[at][0] for at in found.order]
        others = [at for at, _ in behind if at not in set(columns) and is_numeric([row[at] for row in body])]
        if all(_is_count(head[at]) for at in columns) and (others or not _counts_are_names(body, columns)):
            continue
        passed = [head[at] or f"column {at + 1}" for at in others if not _is_index(body, at)]
        passed += [f"the row {name}" for at, name in enumerate(names) if at not in set(kept)]
        if passed:
            LOG.warning(one_line(f"{path.name}: passed over {listing(passed, 4)}, beside the square matrix of the "
                                 f"{len(kept)} names on top and in front"))  # fmt: skip
        return [body[at] for at in kept], columns
    return None


def _counts_are_names(body: list[list[str]], columns: list[int]) -> bool:
    """Say whether numbers on top are names: the matrix is symmetric by them, and not as it stands."""
    ways = [[[row[at] for at in order] for row in body] for order in (columns, sorted(columns))]
    return _looks_square(ways[0]) and (ways[0] == ways[1] or not _looks_square(ways[1]))


def _is_index(body: list[list[str]], place: int) -> bool:
    """Say whether a column numbers the rows from 0 or 1 on."""
    return any(all(row[place] == str(begin + at) for at, row in enumerate(body)) for begin in (0, 1))


def _has_head(rows: list[list[str]]) -> bool:
    """Say whether the first row is names: words behind a first cell that may be empty, or one row too many."""
    first = rows[0]
    if any(number(cell) is None and not nothing(cell) for cell in first[1:]):
        return True
    if len(rows) == len(first) and all(nothing(row[place]) for place, row in enumerate(rows)):
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
    flat = [cell for row in rows for cell in row]
    pairs = len(conditions) * (len(conditions) - 1) // 2
    flat = flat[1:] if len(flat) == pairs + 1 and number(flat[0]) is None else flat
    if 1 not in (len(rows), len(rows[0])) or len(flat) != pairs or not is_numeric(flat):
        return None
    values = numbers([[cell] for cell in flat], file=path.name, head=["1"], rows=range(1, pairs + 1))[:, 0]
    matched = rows_of(conditions, len(conditions), None, order=order, file=one_line(path.name))
    return _in_order(reference(path.stem, values, len(conditions)), matched)


def _pairs(path: Path, rows: list[list[str]], conditions: Sequence[str], column: str) -> Reference | None:
    """Return the matrix of a table that names two conditions in a row, then a number; None where it is none."""
    count = len(conditions)
    if len(rows[0]) < 3 or len(rows) < max(3, count * (count - 1) // 2):
        return None
    below = list(zip(*rows[1:]))
    words = [place for place, cells in enumerate(below) if any(number(cell) is None for cell in cells)]
    for first, second in pairwise(words):
        bare = _is_pair(rows[0], first, second, {*below[first], *below[second]}, conditions)
        head = [f"column {place + 1}" for place in range(len(rows[0]))] if bare else rows[0]
        body = rows if bare else rows[1:]
        columns = list(zip(*body))
        names = list(dict.fromkeys((*columns[first], *columns[second])))
        matched = by_names(conditions, names)
        if matched is None or not set(columns[first]) & set(columns[second]):  # the one are subjects
            continue
        there = range(second + 1, len(head))
        chosen = _asked(path, head, column, there) if column else _of_pairs(path, head, columns, there)
        if chosen is None:
            return None
        at_rows = range(2 - bare, len(rows) + 1)
        found = column_numbers(columns, chosen, file=path.name, head=head, rows=at_rows, among=())
        values, twice = _square(columns[first], columns[second], found, names)
        axes = None
        if twice:
            others = [place for place in range(len(head)) if place not in (first, second, chosen)]
            sides = columns[first], columns[second]
            values, axes = _of_subjects(path, head, columns, others, sides, found, names, twice), SUBJECTS
        own = np.diagonal(values, axis1=-2, axis2=-1).ravel()
        must_tell(f"{path.stem}: {head[chosen]}", head[chosen], upper(values), own)
        made = reference(column or path.stem, values, len(names), axes=axes).reordered(matched.order)
        return replace(made, rows=f"{matched.how} ({head[first]}, {head[second]}: {head[chosen]})")
    return None


def _square(
    first: Sequence[str], second: Sequence[str], found: Iterable[float], names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, str] | None]:
    """Return the matrix of pairs and their numbers, NaN where there is none, and a pair with two numbers or None."""
    values, at = np.full((len(names),) * 2, np.nan), {name: place for place, name in enumerate(names)}
    for one, other, value in zip(first, second, found):
        for a, b in ((at[one], at[other]), (at[other], at[one])):
            if np.isfinite(values[a, b]) and values[a, b] != value:
                return values, (one, other)
            values[a, b] = value
    return values, None


def _of_subjects(
    path: Path,
    head: Sequence[str],
    columns: Sequence[Sequence[str]],
    others: Iterable[int],
    sides: tuple[Sequence[str], Sequence[str]],
    found: np.ndarray,
    names: Sequence[str],
    twice: tuple[str, str],
) -> np.ndarray:
    """Return (subject, condition, condition) of pairs that have a number for each subject, as a column says whose.

    Args:
        path: of the table.
        head: what is above each column.
        columns: of the table.
        others: places of those that may say the subject.
        sides: both names of each row.
        found: number of each row.
        names: of all conditions.
        twice: a pair with two numbers.

    Raises:
        UserError: no column tells the numbers of a pair apart, or it is not called subject or the like.
    """
    apart = []
    pairs = [frozenset(pair) for pair in zip(*sides)]
    for place in others:
        of: dict[tuple[str, frozenset[str]], float] = {}
        told = all(of.setdefault((word, pair), value) == value or np.isnan(value)
                   for word, pair, value in zip(columns[place], pairs, found))  # fmt: skip
        if told and 2 * len(set(columns[place])) <= len(found):  # not the numbers of rows
            apart.append(place)
    chosen = next((place for place in apart if known_dimensions([head[place]]) == ["subject"]), None)
    if chosen is None:
        said = (
            f"; column {head[apart[0]]!r} tells them apart: give one file or column for each"
            if apart
            else (
                "; average repeats first"
                + ", or name the subjects by a column subject" * ("subject" not in known_dimensions(head))
            )
        )
        raise UserError(one_line(f"{path} has two numbers for {twice[0]} and {twice[1]}{said}"))
    words = np.array(columns[chosen], object)
    rows = [np.flatnonzero(words == word) for word in dict.fromkeys(words)]
    one, other = (np.array(side, object) for side in sides)
    return np.stack([_square(one[some].tolist(), other[some].tolist(), found[some], names)[0] for some in rows])


def _joined(
    path: Path, rows: list[list[str]], conditions: Sequence[str], column: str, order: str | None
) -> Reference | None:
    """Return the matrix of a table that names both conditions of a pair in one cell; None where it is none."""
    bare = any(number(cell) is not None for cell in rows[0])
    for place, words in enumerate(zip(*rows)):
        if len(words) < 3 or all(number(word) is not None for word in words[1:]):
            continue
        called = f"column {place + 1}" if bare else words[0]
        sides = two_names(words if bare else words[1:], conditions, one_line(f"{path.name}: {called}"))
        if sides is not None:
            head = (
                [] if bare else [[*rows[0][:place], f"first of {called}", f"second of {called}", *rows[0][place + 1 :]]]
            )
            below = rows[len(head) :]
            split = [[*row[:place], one, other, *row[place + 1 :]] for row, one, other in zip(below, *sides)]
            split = [*head, *split]
            return _pairs(path, split, conditions, column) or _numbered(path, split, conditions, column, order)
    return None


def _is_pair(row: list[str], first: int, second: int, known: set[str], conditions: Sequence[str]) -> bool:
    """Say whether the first row is a pair itself, with no head above it: names of conditions, or one and a number."""
    named = [word in known or bool(overlap(conditions, [word])) for word in (row[first], row[second])]
    return all(named) or (any(named) and any(number(cell) is not None for cell in row[second + 1 :]))


def _numbered(
    path: Path, rows: list[list[str]], conditions: Sequence[str], column: str, order: str | None
) -> Reference | None:
    """Return the matrix of a table that numbers two conditions in a row, beside a number; None where it is none."""
    if len(rows[0]) < 3 or len(rows) < 3:
        return None
    bare = all(number(cell) is not None for cell in rows[0])
    body = rows if bare else rows[1:]
    head = [cell if cell and not bare else f"column {place + 1}" for place, cell in enumerate(rows[0])]
    columns = list(zip(*body))
    whole = [place for place, one in enumerate(columns) if all(re.fullmatch(r"\d{1,9}(\.0*)?", cell) for cell in one)]
    for first, second in combinations(whole[:MOST], 2):
        one, other = ([int(float(cell)) for cell in columns[place]] for place in (first, second))
        pairs = every_pair(one, other, f"{head[first]} and {head[second]}")
        if pairs is None:
            continue
        there = range(second + 1, len(head)) if second + 1 < len(head) else range(first)
        others = sorted({*range(len(head))} - {first, second})
        chosen = _asked(path, head, column, others) if column else _of_pairs(path, head, columns, there)
        if chosen is None:
            return None
        at_rows = range(2 - bare, len(rows) + 1)
        values = spread(pairs, column_numbers(columns, chosen, file=path.name, head=head, rows=at_rows, among=()))
        own = None if values.ndim == 1 else values.diagonal()
        must_tell(f"{path.stem}: {head[chosen]}", head[chosen], values if own is None else upper(values), own)
        made, named = reference(column or path.stem, values, len(pairs.names)), [*map(str, pairs.names)]
        matched = rows_of(conditions, len(named), named, order=order, file=one_line(path.name))
        tell_numbers(path.name, pairs, matched)
        return _in_order(made, replace(matched, how=f"{matched.how} ({pairs.where})"))
    return None


def _asked(path: Path, head: Sequence[str], column: str, there: Iterable[int]) -> int:
    """Return the one column of a name; where there is none, the error lists those that it may be."""
    return place_of(column, head, "column", of=str(path), first=1, offered=[head[place] for place in there])


def _of_pairs(path: Path, head: list[str], columns: list[tuple[str, ...]], there: Iterable[int]) -> int | None:
    """Return which of some columns holds the dissimilarities of pairs; None where there are no numbers.

    Raises:
        UserError: several hold numbers, and not one of them alone is called a distance.
    """
    numeric = [place for place in there if is_numeric(columns[place])]
    called = [place for place in numeric if DISTANCE.search(head[place])]
    if len(numeric) < 2 or len(called) == 1:
        return next(iter(called or numeric), None)
    named = listing([head[place] for place in called or numeric], 6)
    raise UserError(one_line(f"{path} has several numbers for each pair: {named}; say which, reference=FILE:COLUMN"))


def features(path: Path, rows: list[list[str]], column: str, conditions: Sequence[str]) -> Reference:
    """Return the Euclidean distances between the rows of a table: name of a condition, then numbers.

    Raises:
        UserError: no column names all conditions, or none behind it holds numbers; a cell among numbers is none.
    """
    head, body = rows[0], rows[1:]
    columns = [list(one) for one in zip(*body)]
    titles = [name or f"column {place + 1}" for place, name in enumerate(head)]
    matched = best_of(conditions, list(zip(titles, columns)), one_line(path.name))
    if matched is None:
        there = max((overlap(conditions, one) for one in columns), key=len, default=[])
        missing = [name for name in conditions if name not in set(there)]
        if there and not missing:
            said = next((said for one in columns if (said := shared(conditions, one))), "")
            said = (
                f": {said}; keep one of them"
                if said
                else " has all names of conditions in a column, but some in several rows"
            )
            raise UserError(one_line(f"{path}{said}"))
        first = body[0] if body and any(number(cell) is None for cell in head) else head
        shown = "" if there else f"; its first row is {listing(first, 4)}"
        raise UserError(one_line(f"{path} has no column with the names of all conditions; missing: "
                                 f"{listing(missing, 3)}{shown}"))  # fmt: skip
    names, rows_found = matched
    chosen = [_asked(path, head, column, range(names + 1, len(head)))] if column else range(names + 1, len(head))
    front = [head[place] for place in range(names) if head[place] and all(map(_is_count, columns[place]))]
    if front and not column:
        LOG.warning(one_line(f"{path.name}: passed over {listing(front, 4)}, in front of the names ({titles[names]}); "
                             "features follow them"))  # fmt: skip
    mine = [[cells[row] for row in rows_found.order] for cells in columns]
    numeric = [place for place in chosen if is_numeric(mine[place])]
    if not numeric:
        raise UserError(f"{path} has no numbers behind the column {titles[names]!r}")
    if len(numeric) < len(chosen):
        words = listing([head[place] or "a column without a name" for place in chosen if place not in numeric], 4)
        mixed = any(number(cell) is not None for place in chosen if place not in numeric for cell in mine[place])
        reason = "no numbers, or fewer than words" if mixed else "no numbers"
        LOG.warning(one_line(f"{path.name}: passed over {words}: {reason}"))
    at = [int(row) + 2 for row in rows_found.order]
    values = [column_numbers(mine, place, file=path.name, head=head, rows=at, among=numeric) for place in numeric]
    used = [head[place] for place in numeric]
    values = [one - np.nan_to_num(nan_mean(one, 0)) for one in values]  # or a large mean hides small differences
    pairs = upper(dissimilarity_matrix(np.stack(values, 1), "euclidean"))
    how = one_line(f"{rows_found.how} ({titles[names]})")
    taken = one_line(f"features {listing(used, 6)}")
    return Reference(column or path.stem, pairs[None, None, None], (), np.array([np.nan]), rows=how, taken=taken)


def _number(text: str) -> float:
    value = number(text)
    return float("nan") if value is None else value
