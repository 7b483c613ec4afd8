"""Matching of rows: the rows of a file that is compared with images, brought into the order of the images.

Names decide where a file has them. Without names the rows are taken in the order of the images' sorted names, and only
where there is one such order: 10 stands before 2 in lexical order (as programs sort) and behind it in natural order (as
people do), and what holds a blank or a dash stands elsewhere by whole names than by folders or without endings.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, listing, one_line, path_of
from cnnprobe.store.containers.beside import NAMES
from cnnprobe.store.containers.tables import cells, number, text_of

ORDERS = ("lexical", "natural")
OPTION = "order=lexical|natural|FILE (the names of its rows, one a line) decides"
ENDING = re.compile(r"(\.nii)?\.[a-z][a-z0-9]{0,5}$", re.IGNORECASE)
"""What is taken for the ending of a file's name."""
SEPARATORS = re.compile(r"[\W_]+")
UNNAMED = ("", "index", "id", "rows", "columns")
"""Names of names that also stand above a running number."""


@dataclass(frozen=True)
class Rows:
    """The rows of a file in the order of the images.

    Args:
        order: (image,) row of each image.
        how: for people, stored and drawn: "by name", "in the order of the sorted names".
        guessed: what was assumed and could be otherwise; "" where nothing.
        loose: it was by parts of names or by their numbers.
    """

    order: np.ndarray
    how: str
    guessed: str = ""
    loose: bool = False


def rows_of(
    ours: Sequence[str], count: int, theirs: Sequence[str] | None = None, *, order: str | None = None, file: str
) -> Rows:
    """Return which row belongs to which image.

    Args:
        ours: names of the images, in order of the dataset.
        count: rows of the file.
        theirs: their names; None where the file has none.
        order: of rows without names of the images: "lexical" or "natural" order of the images' names, or a file that
            lists their names; None: the one order there is.
        file: for people.

    Raises:
        UserError: names do not fit, or nothing decides.
    """
    named = None if theirs is None else by_names(ours, theirs, loose=order is None)
    if named is not None:  # whatever `order` says for the rows of other files, which have no names
        return named
    if order in ORDERS:
        _must_be_as_many(ours, count, file)
        other, what = _otherwise(ours, order), "whole paths" if any("/" in name for name in ours) else "names"
        told = (
            f"{file}: its rows are taken in {order} order of the images' {what}: {other}; order=FILE lists their names"
        )
        places = np.argsort(_sorted(ours, order), kind="stable")
        return Rows(places, f"in {order} order of the images' {what}", told if other else "")
    if order is not None:
        column, listed = listed_names(order, count, ours)
        rows = by_names(ours, listed)
        if rows is None:
            raise _unmatched(ours, listed, one_line(order))
        return Rows(rows.order, f"{rows.how}{column}, as {one_line(path_of(order).name)} lists them")
    if theirs is not None:
        if overlap(ours, theirs) or not _counted(theirs):
            raise _unmatched(ours, theirs, file)
        if _counted(ours) and not (_row_numbers(theirs) and not _row_numbers(ours)):
            _must_be_as_many(ours, count, file)
            if not _shifted(ours, theirs):
                raise _unmatched(ours, theirs, file)
            places = np.empty(count, np.int64)
            places[_sorted(ours, "natural")] = _sorted(theirs, "natural")
            return Rows(places, "in the order of the numbers in both names")
        return _positions(ours, _sorted(theirs, "natural"), file, "in the order of the numbers, ")
    return _positions(ours, np.arange(count), file, "")


def by_names(ours: Sequence[str], theirs: Sequence[str], *, loose: bool = True) -> Rows | None:
    """Match names by path, by name, by stem, and by what is left where all begin or end alike; by case last.

    A way counts only where it finds one row for every image. Names are compared in NFC, with slashes for backslashes.

    Args:
        ours: names of the images.
        theirs: names of the rows.
        loose: parts of names and their numbers count as well.

    Returns:
        None where no way does.
    """
    for parts, ways in enumerate((_ways, _loose_ways)[: 1 + loose]):
        for how, one, other in ways(ours, theirs):
            found = _unique(one, other)
            if found is not None:
                more = len(theirs) - len(ours)
                said = f"{how}; {more} of its {len(theirs)} rows {'are' if more > 1 else 'is'} of no image"
                return Rows(found, said if more else how, loose=bool(parts))
    found = _holding(ours, theirs) if loose else None
    return None if found is None else Rows(found, "by the name that holds the image's", loose=True)


def best_of(ours: Sequence[str], lists: Sequence[tuple[str, Sequence[str]]], file: str) -> tuple[int, Rows] | None:
    """Return which of several lists names the rows: the one that matches most exactly, a running number last.

    Args:
        ours: names of the images.
        lists: of the rows, each with what it is called.
        file: for people.

    Returns:
        Its place and the match; None where no list fits.

    Raises:
        UserError: two fit equally well and say different orders.
    """
    fit: list[tuple[tuple[bool, int], int, Rows]] = []
    short = {key for name in ours for whole in (plain(name), stem(name)) for key in (whole, whole.rpartition("/")[2])}
    for place, (called, names) in enumerate(lists):
        words = any(name and number(name) is None for name in names)
        if not words and short.isdisjoint(names):  # measured numbers, of which a table may have many
            continue
        rows = by_names(ours, names, loose=words)
        if rows is not None:
            fit.append(((_runs(called, names), _rank(rows)), place, rows))
    if not fit:
        return None
    best, at, taken = min(fit, key=lambda one: one[:2])
    for key, place, rows in fit:
        if (key == best or (taken.loose and not rows.loose)) and not np.array_equal(rows.order, taken.order):
            called = f"{lists[at][0] or 'the first column'} and {lists[place][0] or 'the first column'}"
            raise UserError(one_line(f"{file}: {called} both name the images, in different orders; leave one of them "
                                     "out, or give the names in full, with their ending"))  # fmt: skip
    return at, taken


def _rank(rows: Rows) -> int:
    """Return how far a match is from the exact names: path, name, without ending, case, parts of names."""
    how = rows.how.partition(";")[0]
    return how.startswith("by name") + 2 * ("without ending" in how) + 4 * ("case aside" in how) + 8 * rows.loose


def _runs(called: str, names: Sequence[str]) -> bool:
    """Say whether a list only numbers the rows, from 0 or 1 on; not where it is called images or the like."""
    if called.lower() in NAMES and called.lower() not in UNNAMED:
        return False
    return any(all(name == str(begin + place) for place, name in enumerate(names)) for begin in (0, 1))


def overlap(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return those of our names that are among theirs, in the way that finds most."""
    best: list[str] = []
    for _, one, other in _ways(ours, theirs):
        there = set(other)
        best = max(best, [name for name, key in zip(ours, one) if key in there], key=len)
    return best


def shared(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Say which row fits which two images; "" where none does."""
    for _, keys, others in _ways(ours, theirs):
        first: dict[Any, str] = {}
        rows = dict(zip(others, theirs))
        for name, key in zip(ours, keys):
            if key in rows and first.setdefault(key, name) != name:
                return f"{rows[key]!r} fits several images, {first[key]!r} and {name!r}"
    return ""


def listed_names(word: str, count: int, ours: Sequence[str]) -> tuple[str, list[str]]:
    """Read the names that a file lists, one a line or in a column; a head is left out.

    Returns:
        What the column is called, in brackets (of several), and the names.

    Raises:
        UserError: there is no such file, no column with so many names, or two with different orders.
    """
    path = path_of(word)
    if not path.is_file():
        raise UserError(f"order={one_line(word)} is neither lexical nor natural nor a file")
    try:
        rows = cells(path)
    except UserError:  # names with blanks or commas in them
        rows = [[line.strip()] for line in (text_of(path) or "").splitlines() if line.strip()]
        if not rows:
            raise
    head = rows[0] if len(rows) == count + 1 else [""] * len(rows[0])
    rows = rows[len(rows) - count :] if len(rows) in (count, count + 1) else rows
    lists = [(head[place] or f"column {place + 1}", [row[place] for row in rows]) for place in range(len(head))]
    found = best_of(ours, lists, one_line(path.name))
    called, best = lists[found[0]] if found else max(lists, key=lambda one: len(overlap(ours, one[1])))
    if len(best) != count:
        raise UserError(f"{one_line(path.name)} lists {len(best)} names, the file has {count} rows")
    return f" ({one_line(called)})" if len(lists) > 1 else "", best


def natural(name: str) -> tuple[Any, ...]:
    """Return the key by which people sort: numbers as numbers, case aside."""
    parts = re.split(r"(\d+)", plain(name).casefold())
    return (*((int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)), (-1, name))


def plain(name: str) -> str:
    """Return a name in NFC, with slashes, without blanks round it."""
    text = unicodedata.normalize("NFC", str(name)).replace("\\", "/").strip()
    return re.sub(r"^(\./)+", "", text).strip("/")


def stem(name: str) -> str:
    """Return a name without its ending."""
    return ENDING.sub("", plain(name))


# ---- ways to match ---------------------------------------------------------------------------------------------------


def _ways(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Give each way with the keys of both sides, the surest first."""
    yield "by path", list(ours), list(theirs)
    one, other = [plain(name) for name in ours], [plain(name) for name in theirs]
    for how, fold in (("", str), (", case aside", str.casefold)):
        a, b = [fold(name) for name in one], [fold(name) for name in other]
        stems, others = [stem(name) for name in a], [stem(name) for name in b]
        yield f"by path{how}", a, b
        deepest = max(name.count("/") for name in (*a, *b, ""))
        for depth in range(min(deepest, 8), 0, -1):
            yield f"by path{how}", _tails(a, depth + 1), _tails(b, depth + 1)
            yield f"by path without ending{how}", _tails(stems, depth + 1), _tails(others, depth + 1)
        yield f"by name{how}", _tails(a, 1), _tails(b, 1)
        for left, right in ((stems, b), (a, others), (stems, others)):
            yield f"by name without ending{how}", _tails(left, 1), _tails(right, 1)


def _loose_ways(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Give the ways that take parts of names or their numbers for the whole."""
    stems, others = ([stem(name).casefold() for name in side] for side in (ours, theirs))
    for depth in (9, 1):
        a, b = ([SEPARATORS.sub("_", name) for name in _tails(side, depth)] for side in (stems, others))
        yield "by name, blanks and dashes aside", a, b
    inner = _distinct_part(_tails(stems, 1)), _distinct_part(_tails(others, 1))
    if all(inner[0]) and all(inner[1]):
        yield "by the part in which names differ", *inner
    if len(ours) == len(theirs):
        mine, yours = _numbers(ours), _numbers(theirs)
        if mine and yours and set(mine) == set(yours) and (_counted(ours) or _counted(theirs)):
            yield "by number", mine, yours


def _unique(ours: list[Any], theirs: list[Any]) -> np.ndarray | None:
    """Return the one place of each of our keys among theirs; None where it is missing or not the only one."""
    places: dict[Any, list[int]] = {}
    for place, key in enumerate(theirs):
        places.setdefault(key, []).append(place)
    if len(set(ours)) != len(ours) or any(len(places.get(key, ())) != 1 for key in ours):
        return None
    return np.array([places[key][0] for key in ours], np.int64)


def _holding(ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray | None:
    """Return the one place of theirs that holds the words of each of our stems; None where it is not the only one."""
    one, other = ([f"_{SEPARATORS.sub('_', stem(name).rpartition('/')[2].casefold())}_" for name in side]
                  for side in (ours, theirs))  # fmt: skip
    places = [[place for place, name in enumerate(other) if word in name] for word in one]
    if any(len(found) != 1 or word.strip("_0123456789") == "" for word, found in zip(one, places)):
        return None
    found = np.array(places, np.int64)[:, 0]
    return found if len(set(found.tolist())) == len(found) else None


def _tails(names: Sequence[str], depth: int) -> list[str]:
    """Return the last parts of paths."""
    return ["/".join(name.split("/")[-depth:]) for name in names]


def _distinct_part(names: Sequence[str]) -> list[str]:
    """Return names without what all of them begin and end with; words and numbers are not cut."""
    begin = re.sub(r"(?<![^\W_])[^\W_]+$", "", _beginning(names))
    rest = [name[len(begin) :] for name in names]
    end = re.sub(r"(?<![^\W_])[^\W_]+$", "", _beginning([name[::-1] for name in rest]))
    return [name[: len(name) - len(end)] for name in rest]


def _beginning(names: Sequence[str]) -> str:
    """Return what all names begin with."""
    first, last = min(names, default=""), max(names, default="")
    return first[: next((at for at, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))]


def _numbers(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the numbers in the names that are not the same in all; () where some name has other numbers of them."""
    found = [tuple(map(int, re.findall(r"\d+", stem(name).rpartition("/")[2]))) for name in names]
    if len({len(one) for one in found}) != 1 or not found[0]:
        return []
    vary = [place for place in range(len(found[0])) if len({one[place] for one in found}) > 1]
    return [tuple(one[place] for place in vary) for one in found] if vary else []


def _counted(names: Sequence[str]) -> bool:
    """Say whether names are nothing but a number each: what is left of them without digits is the same."""
    without = {re.sub(r"\d+", "", stem(name)).casefold() for name in names}
    numbers = _numbers(names)
    return len(without) == 1 and len(numbers) == len(names) == len(set(numbers))


# ---- order -----------------------------------------------------------------------------------------------------------


def _sorted(names: Sequence[str], order: str) -> np.ndarray:
    """Return the places of names in lexical or natural order."""
    keys: list[Any] = [natural(name) if order == "natural" else os.fsencode(str(name)) for name in names]
    return np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)


def _positions(ours: Sequence[str], rows: np.ndarray, file: str, how: str) -> Rows:
    """Return rows that are in the one order of our names; refuse where there are two."""
    _must_be_as_many(ours, len(rows), file)
    lexical, people = _sorted(ours, "lexical"), _sorted(ours, "natural")
    own = np.arange(len(ours))
    if not np.array_equal(lexical, own):  # the dataset has an order of its own, as classes have
        return Rows(rows, f"{how}in the order of the dataset")
    other = _otherwise(ours)
    if other:
        raise UserError(f"{file} has no names that decide the order of its rows: {other}; order=FILE (the names of its "
                        "rows, one a line) decides")  # fmt: skip
    if np.array_equal(lexical, people):
        return Rows(rows, f"{how}in the order of the sorted names")
    first = listing([ours[place] for place in lexical], 4), listing([ours[place] for place in people], 4)
    if _row_numbers(ours):
        places = np.empty(len(ours), np.int64)
        places[people] = rows
        said = (f"{file} has no names; its rows are taken in natural order of the images ({first[1]}), not in "
                f"lexical order ({first[0]}); {OPTION}")  # fmt: skip
        return Rows(places, f"{how}in natural order of the images' names", said)
    raise UserError(f"{file} has no names that decide the order of its rows: the images are {first[0]} in lexical "
                    f"order, {first[1]} in natural order; {OPTION}")  # fmt: skip


def _otherwise(names: Sequence[str], order: str = "lexical") -> str:
    """Say which two names in an order ("a b/1.png", "a/1.png") stand otherwise by folders or without endings."""
    part: Callable[[str], Any] = natural if order == "natural" else os.fsencode
    stems = [ENDING.sub("", str(name)) for name in names]
    rank = np.argsort(_sorted(names, order))
    for how, keys in (("folder by folder, as ImageFolder and rglob sort,", names), ("without endings", stems)):
        split = [([part(one) for one in str(key).split("/")], str(name)) for key, name in zip(keys, names)]
        for before, behind in pairwise(sorted(range(len(names)), key=split.__getitem__)):
            if rank[behind] < rank[before]:
                first, second = one_line(names[before]), one_line(names[behind])
                return f"{first} is before {second} {how} and behind it by whole names"
    return ""


def _row_numbers(names: Sequence[str]) -> bool:
    """Say whether names are the numbers of rows: nothing but numbers, all from 0 or 1 on."""
    numbers = {one[0] for one in _numbers(names) if len(one) == 1} if _counted(names) else set()
    return numbers in (set(range(len(names))), set(range(1, len(names) + 1)))


def _shifted(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Say whether the numbers in names are those of the other side, counted from another first one."""
    mine, yours = sorted(_numbers(ours)), sorted(_numbers(theirs))
    if not mine or not yours or len(mine[0]) != len(yours[0]):
        return False
    return len({tuple(np.subtract(one, other)) for one, other in zip(mine, yours)}) == 1


def _must_be_as_many(ours: Sequence[str], count: int, file: str) -> None:
    if len(ours) != count:
        raise UserError(f"{file} has {count} rows, the dataset gives {len(ours)} conditions")


def _unmatched(ours: Sequence[str], theirs: Sequence[str], file: str) -> UserError:
    """Build the error for names that do not fit, with a row of each side."""
    keys = set(there := overlap(ours, theirs))
    missing = [name for name in ours if name not in keys]
    if there and missing:
        said = f"names {len(there)} of the {len(ours)} conditions; missing: {listing(missing, 3)}"
        return UserError(one_line(f"{file} {said}; its names are {listing(theirs, 3)}"))
    shown = f"the conditions are {listing(ours, 3)}; {OPTION}"
    if there:
        double = sorted({name for name in theirs if list(theirs).count(name) > 1})
        what = f"has {listing(double, 3)} more than once" if double else shared(ours, theirs)
        return UserError(one_line(f"{file} {what or 'has several that fit one condition'}; {shown}"))
    return UserError(one_line(f"{file} names its rows {listing(theirs, 3)}; {shown}"))
