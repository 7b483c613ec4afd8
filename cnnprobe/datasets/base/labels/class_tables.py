"""Tables of classes: which index and which name each has, and which of them a word means."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.labels.class_numbers import MOST, whole
from cnnprobe.datasets.base.labels.label_tables import Table, readings
from cnnprobe.errors import UserError, nearest, several


def class_table(path: str, folders: Sequence[str] = ()) -> tuple[tuple[str, ...], dict[str, int]]:
    """Read a table of classes: index, folder (or wnid), name; a first line of headings is skipped.

    Args:
        path: of the table.
        folders: by which the column of folders is found where there are more columns.

    Returns:
        classes: the name of each index, "" for an index that the table leaves out.
        index: by folder.

    Raises:
        UserError: a line is not of this kind, or an index or folder occurs twice.
    """
    rows = next((rows for one in readings(path) if (rows := _class_rows(one, set(folders)))), None)
    if rows is None:
        raise UserError(f"{path} holds no classes; expected lines of index, folder, name")
    indices: dict[str, int] = {}
    names: dict[int, str] = {}
    for number, (word, folder, name) in rows:
        index = whole(word)
        if index is None or not 0 <= index < MOST:
            got = ",".join(dict.fromkeys((word, folder, name)))
            raise UserError(f"{path} line {number}: expected index, folder, name; got {shown(got)[:60]!r}")
        if index in names or folder in indices:
            raise UserError(f"{path} line {number}: index {index} or folder {shown(folder)!r} is there twice")
        indices[folder], names[index] = index, name
    return tuple(names.get(i, "") for i in range(max(names) + 1)), indices


def meant(words: Iterable[str], path: str, table: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names of a table of classes, and the index of the class that each word means: index, folder or name.

    Raises:
        UserError: a word means no class of it, or several.
    """
    names, folders = class_table(table)
    ways: list[list[str]] = [[str(i), name] for i, name in enumerate(names)]
    for folder, i in folders.items():
        ways[i].append(folder)
    means = defaultdict(set)
    for i, own in enumerate(ways):
        for way in filter(None, own):
            means[way].add(i)
    found = {}
    for word in words:
        number = whole(word)
        fitting = means.get(word if number is None or word in means else str(number), set())
        if not fitting:
            raise UserError(f"dataset.labels={path}: no class {shown(word)!r}{nearest(word, names)}")
        if len(fitting) > 1:
            clear = [next((way for way in ways[i] if means[way] == {i}), "") for i in sorted(fitting)]
            instead = f"give each a name of its own in {table}"
            instead = f"write {' or '.join(clear)} for it in {path}" if all(clear) else instead
            raise several(shown(word), sorted(fitting), "classes", of=table, instead=instead)
        (found[word],) = fitting
    return names, found


def _class_rows(table: Table, folders: set[str]) -> list[tuple[int, tuple[str, str, str]]]:
    """Return the number, and index, folder and name, of each row of a table of classes; [] where there is no index."""
    head = not any(whole(cell) is not None for cell in table.rows[0])
    rows = table.rows[head:]
    counts = [sum(whole(row[place]) is not None for row in rows) for place in range(table.width)]
    numeric = [place for place, count in enumerate(counts) if count and 2 * count >= len(rows)]
    texts = [place for place in range(table.width) if place not in numeric]
    if not rows or not numeric:
        return []
    texts = texts or numeric[1:] or numeric
    words = [cell.casefold() for cell in table.rows[0]] if head else [""] * table.width
    index = next((place for place in numeric if words[place] in ("index", "label", "class_index", "class_id")), None)
    if index is None:
        index = numeric[1] if len(numeric) > 1 and texts != numeric[1:] else numeric[0]  # a running number in front
    folder = max(texts, key=lambda place: len(folders.intersection(row[place] for row in rows)))
    others = [place for place in range(table.width) if place in texts or words[place] == "name"]  # of digits, too
    others = [place for place in others if place not in (index, folder)]
    name = next((place for place in others if words[place] in ("name", "class", "words")), (others or [folder])[0])
    return [(n, (row[index], row[folder], row[name])) for n, row in enumerate(rows, 1 + head)]
