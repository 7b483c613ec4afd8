"""The column, or columns, of a table of images that give the class."""

import re
from collections import Counter
from collections.abc import Sequence

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.labels.class_numbers import whole
from cnnprobe.datasets.base.labels.label_tables import MISSING, Table
from cnnprobe.errors import UserError, listing, nearest, place_of

NAMES = ("class", "classname", "classes", "label", "labels", "labelname", "category", "categories", "categoryname",
         "breed", "species", "target", "y", "diagnosis", "dx", "group", "condition", "genus", "type",
         "kind")  # fmt: skip
NUMBERS = ("classid", "classindex", "labelid", "categoryid", "targetid", "classlabel")
RUNNING = ("", "unnamed: 0", "index", "idx", "#", "no", "nr", "row", "rowid")
"""What stands above a column that only numbers the rows, in small letters."""
TRUE, FALSE = ("1", "1.0", "1,0", "true"), ("0", "0.0", "0,0", "false")
NOTHING = ("na", "n/a", "#n/a", "<na>", "none", "null", ".", "-")
"""What stands among numbers where there is none, in small letters; among words it may be a class."""
SEVERAL = "an image has one, or with dataset.target=present several"
JOINED = "\x1f"
"""Stands between, and behind, names of columns."""
BOXES = re.compile(r"(n\d{8}(\s+-?\d+(\.\d+)?){4}(\s+|$))+")
"""Boxes of ImageNet in one cell, each a wnid and its edges, px, as Kaggle's tables of ImageNet have them."""


def class_words(
    table: Table, files: int, start: int, asked: str | None, path: str, several: bool = False
) -> tuple[list[str | None], int | None, list[str]]:
    """Return what each row says of the class, None where it says nothing; its column, None where several; and notes.

    It is the column requested; or the only one beside that of the images, apart from one that numbers the rows; or the
    one that is called class, label or the like; or columns of 0 and 1 of which one is 1 in each row, named by what
    stands above them.

    Args:
        table: in columns.
        files: the column of the images.
        start: 1 where the first row holds names of columns, else 0.
        asked: name of the column, or its number from 1.
        path: of the table.
        several: a row may have several classes; of columns of 0 and 1 they are joined as `words_in` takes them apart.

    Raises:
        UserError: there is no such column, several could be meant, one is no class, or a row has several classes.
    """
    head = [cell.casefold() for cell in table.rows[0]] if start else [""] * table.width
    others = [place for place in range(table.width) if place != files and any(table.column(place, start))]
    if len(others) > 1 and not asked:
        others = [place for place in others if not runs(table, place, start, head[place])] or others
    chosen = _asked(table, others, start, asked, path) if asked else _chosen(others, head)
    hot = [place for place in others if all(cell.lower() in (*TRUE, *FALSE) for cell in table.column(place, start))]
    if chosen is None and start and len(hot) > 1:
        return _ones(table, hot, start, path, several), None, [f"{path}: classes are its columns {_called(table, hot)}"]
    if not others:
        raise UserError(f"{path} has a column of images, but none of classes")
    if chosen is None:
        names = _called(table, others) if start else f"2 to {table.width}"
        raise UserError(f"which column of {path} is the class: {names}? dataset.labels={path}:COLUMN says it")
    words = [None if cell.lower() in MISSING else cell for cell in table.column(chosen, start)]
    if all(word is None or word.lower() in NOTHING or whole(word) is not None for word in words):
        words = [None if word is None or word.lower() in NOTHING else word for word in words]
    words, boxes = _of_boxes(words, start, path)
    _must_be_classes(words, path)
    doubtful = [word for word in words if word is not None and word.lower() in NOTHING]
    notes = [f"{path}: {shown(repr(doubtful[0]))} is taken for a class ({len(doubtful)} rows); leave the cell empty "
             "where the class is not known"] if doubtful else []  # fmt: skip
    notes = boxes + notes
    if table.width == 2:
        return words, chosen, notes
    told = f"{_called(table, [files])} names the images, {_called(table, [chosen])} the class" if start else ""
    told = told or f"column {files + 1} names the images, column {chosen + 1} the class"
    return words, chosen, [f"{path}: {told}", *notes]


def runs(table: Table, place: int, start: int, name: str) -> bool:
    """Tell whether a column only numbers the rows: it has no name, or one that says so, and counts up by 1."""
    numbers = [whole(cell) for cell in table.column(place, start)]
    if len(numbers) < 2 or name not in RUNNING:
        return False
    first = numbers[0]
    return first is not None and numbers == list(range(first, first + len(numbers)))


def _asked(table: Table, others: Sequence[int], start: int, asked: str, path: str) -> int:
    head = table.rows[0] if start else []
    for word, names in ((asked, head), (asked.casefold(), [cell.casefold() for cell in head])):
        if word in names:
            instead = f"write the number of one, {path}:{names.index(word) + 1}"
            return place_of(word, names, "column", of=path, instead=instead, first=1)
    number = whole(asked)
    if number is not None and 1 <= number <= table.width:
        return number - 1
    raise UserError(
        f"no column {asked!r} in {path}{nearest(asked, table.rows[0])}; columns: {_called(table, others)}"
        if start
        else f"{path} has no names of columns; give one by its number, 1 to {table.width}"
    )


def _chosen(others: Sequence[int], head: Sequence[str]) -> int | None:
    """Return the column that must be meant, or None."""
    if len(others) == 1:
        return others[0]
    plain = {place: "".join(letter for letter in head[place] if letter.isalnum()) for place in others}
    for words in (NAMES, NUMBERS):
        found = [place for place in others if plain[place] in words]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def words_in(word: str | None) -> list[str]:
    """Return the classes that a cell names, between semicolons or bars; those of columns, as they are called."""
    if word is None:
        return []
    parts = word[:-1].split(JOINED) if word.endswith(JOINED) else re.split(r"[;|]", word)
    return [part.strip() for part in parts if part.strip().lower() not in MISSING]


def must_be_one_class_each(words: Sequence[str | None], path: str) -> None:
    """Refuse cells of several classes, such as "cat;dog", which show by a class that also stands elsewhere.

    A name that holds such a sign, and whose parts are no classes of others, is one class.
    """
    cells = {word: words_in(word) for word in words if word is not None}
    times = Counter(part for parts in cells.values() for part in set(parts))
    for cell, parts in cells.items():
        if len(parts) > 1 and any(times[part] > 1 for part in parts):
            raise UserError(f"{path} gives several classes in one cell, {shown(repr(cell))}; {SEVERAL}")


def _ones(table: Table, places: Sequence[int], start: int, path: str, several: bool) -> list[str | None]:
    """Return the column that is 1 in each row, None where none is; `several`: the columns.

    Raises:
        UserError: several are, and may not be.
    """
    words: list[str | None] = []
    for number, row in enumerate(table.rows[start:], start + 1):
        on = [table.rows[0][place] for place in places if row[place].lower() in TRUE]
        if len(on) > 1 and not several:
            raise UserError(f"{path} row {number} has several classes, {listing(map(shown, on), 3)}; {SEVERAL}")
        words.append((JOINED.join(on) + JOINED if several else on[0]) if on else None)
    return words


def _of_boxes(words: list[str | None], start: int, path: str) -> tuple[list[str | None], list[str]]:
    """Return the wnid of each row and a note, where all cells are boxes of ImageNet; else the words as they are.

    Raises:
        UserError: boxes of one image are of several classes.
    """
    if not any(words) or not all(word is None or BOXES.fullmatch(word) for word in words):
        return words, []
    found = [None if word is None else list(dict.fromkeys(re.findall(r"n\d{8}", word))) for word in words]
    for row, wnids in enumerate(found, start + 1):
        if wnids and len(wnids) > 1:
            raise UserError(f"{path} row {row} has boxes of several classes, {listing(wnids, 3)}; an image has one")
    return [None if wnids is None else wnids[0] for wnids in found], [
        f"{path}: classes are the wnids of its boxes, whose edges are left out"
    ]


def _must_be_classes(words: Sequence[str | None], path: str) -> None:
    """Refuse numbers that are measured, such as 0.53."""
    for word in words:
        if word is not None and "_" in word:  # Python reads 1_2 as 12
            return
        if word is not None and whole(word) is None:
            try:
                float(word.replace(",", ".") if word.count(",") == 1 else word)
            except ValueError:
                return
            raise UserError(f"{path}: the column of classes holds {word}, which is a number but no class")


def _called(table: Table, places: Sequence[int]) -> str:
    words = [shown(repr(table.rows[0][place])) if table.rows[0][place] else f"column {place + 1}" for place in places]
    return listing(words, 8)
