"""Which class an image of a folder belongs to: by its subfolder, by a table of classes, by a table of files."""

import csv
from collections.abc import Sequence

import numpy as np

from cnnprobe.datasets.imageset import shown
from cnnprobe.errors import UserError, listing, must_be_a_file, nearest, path_of

UNKNOWN = -1


def by_subfolder(
    files: Sequence[str], folders: Sequence[str], table: str | None
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Label files by the first part of their path.

    Args:
        files: paths below the folder that holds the class folders.
        folders: every class folder there is, also those without images: indices do not move when one is emptied.
        table: CSV file (index, folder, name) that says which index each folder has; None: in order of their bytes.

    Returns:
        classes: name of each class.
        labels: (file,) index, -1 where the table does not name the folder.
        notes: what the user should know, one line each.
    """
    owners = [name.partition("/")[0] for name in files]
    used = set(owners)
    if table is None:
        classes = tuple(shown(folder) for folder in folders)
        index = {folder: i for i, folder in enumerate(folders)}
        empty = [shown(folder) for folder in folders if folder not in used]
        notes = [f"class folders without images here: {listing(empty)}"] if empty else []
    else:
        classes, index = class_table(table)
        missing = sorted(used - index.keys())
        if len(missing) == len(used):
            raise UserError(
                f"dataset.classes={table} names none of the folders, e.g. {shown(missing[0])!r}"
                f"{nearest(missing[0], index)}; it names {listing(index, 4)}"
            )
        notes = [f"{table} does not name the folders {listing(map(shown, missing))}; label -1"] if missing else []
    return classes, np.array([index.get(owner, UNKNOWN) for owner in owners], dtype=np.int64), notes


def by_file(files: Sequence[str], table: str, classes: str | None) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Label files by a CSV table (file, class): a path or its last part, and an index or name of a class.

    Returns:
        As `by_subfolder`; without a table of classes they are the names in order, or the indices' numbers.
    """
    rows = [row for row in _rows(table) if len(row) >= 2]
    words = {row[0]: row[1].strip() for row in rows}
    given = [words.get(name, words.get(name.rpartition("/")[2])) for name in files]
    known = {word for word in given if word is not None}
    if not known:
        raise UserError(f"dataset.labels={table} names none of the {len(files)} images, e.g. {shown(files[0])!r}")
    if classes is not None:
        names, index = class_table(classes)
        index |= {name: i for i, name in enumerate(names)} | {str(i): i for i in range(len(names))}
    elif all(word.isdecimal() for word in known):
        names = tuple(str(i) for i in range(min(max(map(int, known)) + 1, 10**6)))
        index = {word: int(word) for word in known}
    else:
        names = tuple(sorted(known))
        index = {name: i for i, name in enumerate(names)}
    wrong = sorted(word for word in known if word not in index or index[word] >= len(names))
    if wrong:
        raise UserError(f"dataset.labels={table}: no class {shown(wrong[0])!r}{nearest(wrong[0], names)}")
    missing = given.count(None)
    notes = [f"{table} does not name {missing} of {len(files)} images; label -1"] if missing else []
    return names, np.array([UNKNOWN if word is None else index[word] for word in given], dtype=np.int64), notes


def class_table(path: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Read a CSV table of classes: index, folder (or wnid), name; a first line of headings is skipped.

    Returns:
        classes: the name of each index, "" for an index that the table leaves out.
        index: by folder.

    Raises:
        UserError: a line is not of this kind, or an index or folder occurs twice.
    """
    folders: dict[str, int] = {}
    names: dict[int, str] = {}
    for number, row in enumerate(_rows(path), 1):
        if number == 1 and not row[0].strip().isdecimal():
            continue
        if len(row) < 2 or not row[0].strip().isdecimal() or int(row[0]) >= 10**6:
            raise UserError(f"{path} line {number}: expected index, folder, name; got {shown(','.join(row))[:60]!r}")
        index, folder = int(row[0]), row[1].strip()
        if index in names or folder in folders:
            raise UserError(f"{path} line {number}: index {index} or folder {shown(folder)!r} is there twice")
        folders[folder] = index
        names[index] = (row[2] if len(row) > 2 else row[1]).strip()
    if not names:
        raise UserError(f"{path} holds no classes; expected lines of index, folder, name")
    return tuple(names.get(i, "") for i in range(max(names) + 1)), folders


def _rows(path: str) -> list[list[str]]:
    """Read the lines of a CSV file that are not empty."""
    given = path_of(path)
    try:
        must_be_a_file(given)
        with given.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the table {path}: {getattr(error, 'strerror', None) or error}") from None
