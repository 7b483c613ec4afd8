"""The class of each recording, from an array or from texts stored beside the data."""

from collections.abc import Iterable

import numpy as np

from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN, numbered, whole
from cnnprobe.errors import UserError, listing, unknown
from cnnprobe.store.containers.beside import names_of
from cnnprobe.store.containers.stored import Container, Stored, told

WORDS = ("labels", "label", "y", "targets", "target", "class", "categories", "category")
CLASSES = ("classes", "class_names", "classnames", "label_names", "labelnames", "categories")
NAMES = ("names", "stimuli", "stimulus_names", "image_names", "filenames", "file_names", "files", "ids", "trial_names")

Labels = tuple[np.ndarray, tuple[str, ...], list[str]]
"""(recording,) index of the class, -1 where unknown; the classes; notes."""


def labels_at(found: Container, data: str, asked: str | None) -> tuple[str, Stored | list[str]] | None:
    """Return where the labels of an array stand, and they themselves; None where there are none.

    Raises:
        UserError: they were requested and are not there, or were passed over.
    """
    if asked is None:
        at = found.beside(data, WORDS)
        if at is None or not isinstance(at[1], Stored | list) or at[0] == data:
            return None
        different = isinstance(at[1], list) and len(set(at[1])) == len(at[1]) > 2  # names of channels, as in FieldTrip
        return None if different else at
    name = asked.strip("/")
    if name in found.texts:
        return name, found.texts[name]
    if name not in found.arrays and name not in found.passed:
        raise unknown("array", asked, [*found.arrays, *found.texts], of=told(found.path, ""))
    inside = found.named(name)
    return next(iter(inside.items()))


def count_of(labels: Stored | list[str], shape: Iterable[int]) -> int | None:
    """Return how many recordings labels are for: as many as a side of the array; None where no side is."""
    sides = set(shape)
    lengths = [len(labels)] if isinstance(labels, list) else list(labels.shape)
    fitting = [length for length in lengths if length in sides and length > 1]
    return max(fitting, default=None)


def labels_of(found: Container, at: tuple[str, Stored | list[str]], count: int) -> Labels:
    """Return the class of each of so many recordings.

    Texts are names of classes; numbers are `class_numbers.numbered`; columns of 0 and 1, of which one is 1 in each row,
    are classes in their order.

    Raises:
        UserError: there are more or fewer of them, or they are no classes.
    """
    name, labels = at
    where = told(found.path, name)
    if isinstance(labels, list):
        return _from_words(labels, count, where)
    names = names_of(found, name, CLASSES)
    classes = [*names[1]] if names else []
    values = labels.read()
    flat = values.reshape(-1) if values.size == count else values
    wrong = f"{where} must be {count} whole numbers or texts, one per recording; got {labels.shape} {labels.dtype}"
    if flat.ndim == 2 and count in flat.shape:
        return _from_columns(flat if flat.shape[0] == count else flat.T, classes, wrong)
    if flat.shape != (count,):
        raise UserError(wrong)
    known = np.isfinite(flat)
    if (flat[known] != np.round(flat[known])).any():
        raise UserError(f"{wrong} with {flat[known][flat[known] != np.round(flat[known])][0]:.3g} among them")
    with np.errstate(invalid="ignore"):
        numbers = np.where(known, flat, UNKNOWN).astype(np.int64)
    try:
        indices, own, notes = numbered(numbers, known, classes, first=int(found.kind.startswith("MATLAB")))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return indices, own, [f"{where}: {note}" for note in notes]


def _from_words(words: list[str], count: int, where: str) -> Labels:
    """Return the class of each text; texts that are all numbers are taken for such."""
    if len(words) != count:
        raise UserError(f"{where} has {len(words)} texts, the data {count} recordings")
    words = [word.strip() for word in words]
    known = np.array([bool(word) for word in words])
    numbers = [whole(word) for word in words]
    if all(number is not None for number, there in zip(numbers, known) if there) and known.any():
        indices, own, notes = numbered(np.array([number or 0 for number in numbers]), known)
        return indices, own, [f"{where}: {note}" for note in notes]
    classes = tuple(sorted({word for word in words if word}))
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(word, UNKNOWN) for word in words], np.int64), classes, []


def several_of(
    found: Container, at: tuple[str, Stored | list[str]] | None, count: int, target: str | None
) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Return the columns of 0 and 1 by which recordings have several classes; None where each has one, or is unknown.

    Args:
        found, count: see `labels_of`.
        at: the labels.
        target: "present": columns with one 1 in each row are such, too; "class": none may be; None: as they are.

    Returns:
        columns: (recording, class) bool.
        names: of the classes.

    Raises:
        UserError: the labels are no such columns where `target` needs them, or are where it does not.
    """
    where = told(found.path, at[0]) if at else "there are none"
    values = at[1].read() if at and isinstance(at[1], Stored) else None
    if at and values is not None and values.ndim == 2 and min(values.shape) > 1 and count in values.shape:
        columns = (values if values.shape[0] == count else values.T).astype(np.float64)
        if np.isin(columns, (0, 1)).all() and (target == "present" or (columns.sum(axis=1) > 1).any()):
            if target == "class":
                raise UserError(
                    f"{where} has several classes in a row; a recording has one, or with dataset.target=present several"
                )
            names = names_of(found, at[0], CLASSES, columns.shape[1])
            return columns > 0, tuple(names[1] if names else map(str, range(columns.shape[1])))
    if target == "present":
        got = f"{where} is {at[1].shape} {at[1].dtype}" if at and isinstance(at[1], Stored) else where
        raise UserError(f"dataset.target=present needs labels that are columns of 0 and 1 (recording, class); {got}")
    return None


def _from_columns(values: np.ndarray, classes: list[str], wrong: str) -> Labels:
    """Return the column that is 1 in each row, -1 where none is."""
    ones = values.astype(np.float64)
    if not np.isin(ones, (0, 1)).all() or (ones.sum(axis=1) > 1).any():
        raise UserError(f"{wrong}, and not columns of 0 and 1 with one 1 in each row")
    count = ones.shape[1]
    names = classes if len(classes) == count else list(map(str, range(count)))
    return np.where(ones.any(axis=1), ones.argmax(axis=1), UNKNOWN).astype(np.int64), tuple(names), []


def recording_names(found: Container, data: str, count: int) -> list[str] | None:
    """Return the names of recordings that stand beside the data, where each is another."""
    at = names_of(found, data, NAMES, count)
    names = [name.strip() for name in at[1]] if at else []
    return names if at and all(names) and len(set(names)) == len(names) else None


def others(found: Container, data: str, count: int) -> str:
    """Name arrays and texts that could be labels, as many as recordings; "" where there are none."""
    fitting = [name for name, array in found.arrays.items() if name != data and array.shape == (count,)]
    fitting += [name for name, texts in found.texts.items() if len(texts) == count]
    return listing(fitting, 4) if fitting else ""
