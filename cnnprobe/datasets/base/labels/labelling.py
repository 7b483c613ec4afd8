"""The class of an image in a folder: by its subfolder, by a table of classes, by a table of files."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.labels.class_columns import SEVERAL, class_words, must_be_one_class_each, runs, words_in
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN, numbered, whole
from cnnprobe.datasets.base.labels.class_tables import class_table, meant
from cnnprobe.datasets.base.labels.label_tables import Table, readings, split_column, told
from cnnprobe.datasets.base.labels.row_names import Images, Matched, ambiguous, matched, must_not_be_shifted
from cnnprobe.datasets.base.listing import IMAGES
from cnnprobe.datasets.base.splits import split_named
from cnnprobe.datasets.base.targets import Present
from cnnprobe.errors import UserError, listing, nearest
from cnnprobe.store.containers import beside

SPLITS = ("split", "splits", "set", "subset", "partition", "part", "phase", "usage", "fold_type", "dataset")
"""What a column is called that says which images are for training, in small letters."""
NO_IMAGE = ("", "n/a", "na", "nan", "none", "null", "-", ".")
"""What stands for the image in a row that has none, in small letters."""
SAMPLE = 300  # rows by which the column of the images is found

WNID = re.compile(r"n\d{8}")

Labelled = tuple[tuple[str, ...], np.ndarray, list[str]]
"""Name of each class; (file,) index of the class, -1 where unknown; what the user should know, one line each."""


def by_subfolder(
    files: Sequence[str], folders: Sequence[str], table: str | None, every: Sequence[str] | None = None
) -> Labelled:
    """Label files by the first part of their path.

    Args:
        files: paths below the folder that holds the class folders.
        folders: every class folder there is, also those without images: indices do not move when one is emptied.
        table: table (index, folder, name) that says which index each folder has; None: in order of their bytes.
        every: files of all splits, by which classes are named; None: these.
    """
    owners = [name.partition("/")[0] for name in files]
    used = set(owners)
    if table is None:
        classes, notes = _class_names(files if every is None else every, folders)
        index = {folder: i for i, folder in enumerate(folders)}
        notes += without_images(folders, {index[folder] for folder in used if folder in index}, "class folders")
    else:
        classes, index = class_table(table, folders)
        missing = sorted(used - index.keys())
        if len(missing) == len(used):
            raise UserError(
                f"dataset.classes={table} names none of the folders, e.g. {shown(missing[0])!r}"
                f"{nearest(missing[0], index)}; it names {listing(index, 4)}"
            )
        notes = [f"{table} does not name the folders {listing(map(shown, missing))}; label -1"] if missing else []
    return classes, np.array([index.get(owner, UNKNOWN) for owner in owners], dtype=np.int64), notes


def without_images(names: Sequence[str], used: set[int], what: str = "classes") -> list[str]:
    """Say which classes, or their folders, have no images among those requested; [] where all have some.

    Args:
        names: of all.
        used: indices of those that have images.
        what: they are called.
    """
    empty = [shown(name) for index, name in enumerate(names) if index not in used]
    return [f"{what} without images here: {listing(empty)}"] if empty else []


def by_file(
    files: Sequence[str], table: str, classes: str | None, root: str = "", others: Sequence[str] = ()
) -> Labelled:
    """Label files by a table (file, class), as people write it; each with one class.

    The column of the images is the one that names most of them (`row_names.matched`); that of the class is
    `class_columns.class_words`'. Classes are those of all rows, also of images that are not here: indices are the same
    for each part of a collection.

    Args:
        files: paths below the folder.
        table: FILE or FILE:COLUMN, with the column of the class.
        classes: table (index, folder, name); then a label is an index, folder or name of it; None: the labels that
            occur, in order, or numbers (`class_numbers.numbered`).
        root: the folder; its name may stand in the rows.
        others: images that are not to be labelled but may be named, as those of other splits.

    Raises:
        UserError: it names no image, one by two classes, or leaves open which column is the class, or which names the
            images.
    """
    said = _said(files, table, root, others, several=False)
    given: list[str | None] = [None] * len(files)
    for row, (image, word) in enumerate(zip(said.owners, said.words), said.start + 1):
        if image >= 0 and word is not None:
            if given[image] not in (None, word):
                both = f"{given[image]!r}, and {word!r} in row {row}"
                raise UserError(f"{said.path} gives {shown(files[image])!r} two classes: {both}; {SEVERAL}")
            given[image] = word
    must_be_one_class_each(said.words, said.path)
    names, labels, remarks = _classes(said.words, given, said.path, classes)
    named = set(said.owners)
    missing = [file for image, file in enumerate(files) if image not in named]
    empty = [file for image, file in enumerate(files) if image in named and given[image] is None]
    of, notes = f"of {len(files)} images", said.notes
    if missing:
        notes.append(f"{said.path} does not name {len(missing)} {of}, e.g. {shown(missing[0])!r}; label -1")
    if empty:
        notes.append(f"{said.path} gives {len(empty)} {of} no class, e.g. {shown(empty[0])!r}; label -1")
    return names, labels, notes + remarks


def several_by_file(
    files: Sequence[str], table: str, classes: str | None, root: str = "", others: Sequence[str] = ()
) -> tuple[tuple[str, ...], Present, list[int], list[str]]:
    """Label files by a table in which one may have several classes: rows, words in a cell, or columns of 0 and 1.

    Args:
        files, table, classes, root, others: see `by_file`.

    Returns:
        names: of the classes.
        present: which each file has.
        named: indices of the files that the table names: nothing is known of the others.
        notes: what the user should know, one line each.

    Raises:
        UserError: see `by_file`.
    """
    said = _said(files, table, root, others, several=True)
    parts = [(image, part) for image, word in zip(said.owners, said.words) for part in words_in(word)]
    own = [part if image >= 0 else None for image, part in parts]
    names, labels, remarks = _classes([part for _, part in parts], own, said.path, classes)
    here = np.array([image >= 0 and label >= 0 for (image, _), label in zip(parts, labels)], bool)
    pairs = np.stack([np.array([image for image, _ in parts], np.int64), labels])[:, here]
    named, notes = sorted(set(said.owners) - {-1}), said.notes
    without = len(named) - len(np.unique(pairs[0]))
    if len(named) < len(files):
        first = next(file for image, file in enumerate(files) if image not in set(named))
        notes.append(f"{said.path} does not name {len(files) - len(named)} of {len(files)} images, which are left out, "
                     f"e.g. {shown(first)!r}")  # fmt: skip
    if without:
        notes.append(f"{said.path} gives {without} of {len(named)} images no class: they have none")
    return names, Present(pairs, len(names)), named, notes + remarks


@dataclass
class _Said:
    """What a table says: of each row the image (-1: none) and its word for the class; `start`: of the first row."""

    path: str
    start: int
    owners: list[int]
    words: list[str | None]
    notes: list[str]


def _said(files: Sequence[str], table: str, root: str, others: Sequence[str], several: bool) -> _Said:
    """Read a table of images and classes, see `by_file`; `several`: columns of 0 and 1 may have several 1 in a row."""
    path, asked = split_column(table)
    images = Images(files, root)
    reading, place, found = _named(path, images)
    start = int(_headed(reading, place, found))
    words, chosen, notes = class_words(reading, place, start, asked, path, several)
    owners = found.images[start:]
    must_not_be_shifted(reading.column(place, start), images, owners, path)
    _must_be_the_only_names(reading, start, (place, chosen), found, images, path)
    left, remarks = _left_over(reading.rows[start:], place, owners, Images(others, root), path)
    notes += remarks
    words = [None if row in left else word for row, word in enumerate(words)]
    direct = {"by path", "by name"}
    notes += [f"{path} names images {way} ({count})" for way, count in found.ways.items() if way not in direct]
    return _Said(path, start, list(owners), words, notes)


def splits_by_file(files: Sequence[str], table: str, root: str = "") -> tuple[str, list[str | None]] | None:
    """Return what a column of a table of labels says of the split of each file; None where there is no such column.

    Args:
        files, table, root: see `by_file`.

    Returns:
        name: of the column, called split or the like, whose cells all name splits (`base.splits.split_named`).
        splits: (file,) train, val or test; None where the table does not say.
    """
    path, asked = split_column(table)
    reading, place, found = _named(path, Images(files, root))
    if not _headed(reading, place, found):
        return None
    for at, head in enumerate(reading.rows[0]):
        if asked is not None and asked.casefold() in (head.casefold(), str(at + 1)):
            continue  # it is the class
        said = [split_named(cell) for cell in reading.column(at, 1)]
        if head.casefold() in SPLITS and None not in said and len(set(said)) > 1:
            splits: list[str | None] = [None] * len(files)
            for image, split in zip(found.images[1:], said):
                if image >= 0:
                    splits[image] = split
            return head, splits
    return None


def _left_over(
    rows: Sequence[list[str]], place: int, owners: Sequence[int], others: Images, path: str
) -> tuple[set[int], list[str]]:
    """Return which rows are of no image, as that of a pause between two, and what is to be said of all without one.

    Args:
        rows: of the table, without its head.
        place: the column of the images.
        owners: the image of each row, -1 where there is none.
        others: images besides, of which nothing is said.
        path: of the table.
    """
    waiting = [row for row, image in enumerate(owners) if image < 0]
    none = {row for row in waiting if rows[row][place].casefold() in NO_IMAGE}
    waiting = [row for row in waiting if row not in none]
    if others.files and waiting:
        elsewhere = matched([rows[row][place] for row in waiting], others).images
        waiting = [row for row, image in zip(waiting, elsewhere) if image < 0]
    notes = []
    if none:
        words = listing(repr(word) for word in sorted({rows[row][place] for row in none}))
        notes.append(f"{path}: rows of no image ({words}), {len(none)} of {len(rows)}, are left out with their classes")
    if waiting:
        first = told(rows[waiting[0]])
        notes.append(f"{path}: rows without an image here: {len(waiting)} of {len(rows)}, e.g. {first!r}")
    return none, notes


def _named(path: str, images: Images) -> tuple[Table, int, Matched]:
    """Return the way of cutting a table in which a column names most images, that column, and what it names."""
    tried: list[tuple[tuple[int, int], bool, tuple[bool, int], Table, int]] = []
    cut = list(readings(path))
    for ways in (2, 4, None):  # the less direct ones take time, and are seldom needed
        tried = []
        for reading in cut:
            rows = np.unique(np.linspace(0, len(reading.rows) - 1, SAMPLE).astype(int))
            for place in range(reading.width):
                if reading.width > 2 and runs(reading, place, 1, reading.rows[0][place].casefold()):
                    continue  # or images that are called by numbers would be named by those of the rows
                some = matched([reading.rows[row][place] for row in rows], images, ways)
                called = reading.rows[0][place].casefold() in beside.IMAGES
                tried.append((some.score, reading.ragged is None, (called, -len(tried)), reading, place))
        if any(2 * one[0][0] >= min(SAMPLE, len(one[3].rows)) for one in tried):
            break
    if not tried:
        raise UserError(f"{path} has one column only; expected one of images and one of classes")
    tried.sort(key=lambda one: one[:3], reverse=True)
    for *_, reading, place in tried[: 1 if tried[0][0][0] else None]:  # a sample may miss what few rows name
        found = matched(reading.column(place), images)
        if found.doubtful:
            raise UserError(f"dataset.labels={path}: {ambiguous(found)}; write the path of each")
        if found.score[0]:
            break
    else:
        seen = told(tried[0][3].rows[min(1, len(tried[0][3].rows) - 1)])
        raise UserError(
            f"dataset.labels={path} names none of the {len(images.files)} images: a row of it is {seen!r}, "
            f"an image is called {shown(images.files[0])!r}"
        )
    if reading.ragged:
        row, count = reading.ragged
        raise UserError(
            f"{path} row {row} has {count} cells, the first has {reading.width}; put quotes around cells that hold "
            f"{reading.separator}"
        )
    return reading, place, found


def _must_be_the_only_names(
    table: Table, start: int, known: tuple[int, int | None], found: Matched, images: Images, path: str
) -> None:
    """Refuse a table of which another column names the images as directly, in another order, as that of a trial before.

    Args:
        table: in columns.
        start: 1 where the first row holds names of columns, else 0.
        known: the column of the images, and of the classes.
        found: what the column of the images names.
        images: that may be named.
        path: of the table.

    Raises:
        UserError: unless the one taken alone is called image, file or the like.
    """
    place, head = known[0], table.rows[0] if start else [""] * table.width
    for other in range(table.width):
        if other in known or runs(table, other, start, head[other].casefold()) or _of_images(head[place], head[other]):
            continue
        rows = np.unique(np.linspace(start, len(table.rows) - 1, SAMPLE).astype(int))
        if 4 * matched([table.rows[row][other] for row in rows], images).score[0] < min(len(rows), len(images.files)):
            continue  # before all rows are tried in all ways
        also = matched(table.column(other), images)
        if "by number" in also.ways or 2 * also.score[0] < found.score[0] or also.score[1] < found.score[1]:
            continue
        if any(a != b for a, b in zip(found.images[start:], also.images[start:]) if min(a, b) >= 0):
            names = (shown(repr(head[at])) if start else f"column {at + 1}" for at in (place, other))
            raise UserError(f"{path}: {' and '.join(names)} both name the images, in different orders; leave one out, "
                            "or call the right one alone image or file")  # fmt: skip


def _of_images(taken: str, other: str) -> bool:
    """Say whether a column is called as that of the images is, and another is not."""
    return taken.casefold() in beside.IMAGES and other.casefold() not in beside.IMAGES


def _headed(table: Table, place: int, found: Matched) -> bool:
    """Tell whether the first row holds names of columns: it is no image's, nor like those that are not here."""
    first = table.rows[0]
    if found.images[0] >= 0:
        return False
    ending = first[place].rpartition(".")[2].casefold()
    again = any(cell and cell in table.column(at, 1) for at, cell in enumerate(first) if at != place)
    return not again and f".{ending}" not in IMAGES


def _classes(words: Sequence[str | None], given: Sequence[str | None], path: str, table: str | None) -> Labelled:
    """Return the classes of all rows, and the label of each image."""
    known = sorted({word for word in words if word is not None})
    if table is not None:
        names, index = meant(sorted({word for word in given if word is not None}), path, table)
        return names, np.array([UNKNOWN if word is None else index[word] for word in given], np.int64), []
    if known and all(whole(word) is not None for word in known):
        there = np.array([word is not None for word in words])
        labels, names, notes = numbered(np.array([0 if word is None else whole(word) for word in words]), there)
        index = {word: label for word, label in zip(words, labels.tolist()) if word is not None}
    else:
        names, notes = tuple(known), _alike(known)
        index = {name: i for i, name in enumerate(known)}
    return names, np.array([UNKNOWN if word is None else index[word] for word in given], np.int64), notes


def _class_names(files: Sequence[str], folders: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the name of each class folder, and notes: its own, or where all are wnids what all files are called by.

    In n02102040/n02102040_English_springer.jpg that is "English springer".
    """
    plain = tuple(shown(folder) for folder in folders), _alike(folders)
    if not all(WNID.fullmatch(folder) for folder in folders):
        return plain
    behind = defaultdict(set)
    for file in files:
        folder, _, name = file.partition("/")
        words = re.fullmatch(rf"{re.escape(folder)}[_ -]([^\d/]+)\.\w+", name)
        behind[folder].add(words[1].replace("_", " ") if words else "")
    names = [shown(next(iter(behind[folder]))) if len(behind[folder]) == 1 else "" for folder in folders]
    if "" in names or len(set(names)) < len(names):
        return plain
    return tuple(names), [f"classes are named as their files are: {folders[0]} is {names[0]!r}"]


def _alike(names: Sequence[str]) -> list[str]:
    """Say which names of classes differ by capitals, blanks or the composition of letters only."""
    groups = defaultdict(list)
    for name in names:
        groups[" ".join(unicodedata.normalize("NFKC", name).casefold().split())].append(shown(name))
    return [
        f"{listing(map(repr, group), 4)} are classes of their own though they differ only in capitals, blanks or the "
        "composition of letters (NFC, NFD)"
        for group in groups.values()
        if len(group) > 1
    ]
