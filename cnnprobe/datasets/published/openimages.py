"""Open Images (Kuznetsova et al. 2020): photographs with boxes around objects of 600 classes and labels of 20,000."""

import csv
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.collections.collection import Collection
from cnnprobe.datasets.base.collections.csv_columns import WIDEST, columns
from cnnprobe.datasets.base.collections.objects import Objects
from cnnprobe.datasets.base.imageset import ImageSet, shown
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN
from cnnprobe.datasets.base.listing import folder_at
from cnnprobe.datasets.base.names import Names
from cnnprobe.datasets.base.targets import Present
from cnnprobe.errors import UserError, listing, must_be_a_file

FILE = re.compile(r"[0-9a-f]{16}\.jpg")
FOLDERS = {"train": "train", "val": "validation", "test": "test"}
BOXES = ("oidv6-{part}-annotations-bbox.csv", "{part}-annotations-bbox.csv")
LABELS = (
    "oidv7-{part}-annotations-human-imagelabels.csv",
    "oidv7-{split}-annotations-human-imagelabels.csv",
    "{part}-annotations-human-imagelabels.csv",
    "{part}-annotations-human-imagelabels-boxable.csv",
)
BOXABLE = (
    "oidv7-class-descriptions-boxable.csv",
    "oidv6-class-descriptions-boxable.csv",
    "class-descriptions-boxable.csv",
)
CLASSES = ("oidv7-class-descriptions.csv", "oidv6-class-descriptions.csv", "class-descriptions.csv")
HEADINGS = ("LabelName", "id")

log = logging.getLogger("cnnprobe")


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    classes: Literal["largest", "image", "none"],
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    strict: bool,
    target: Literal["class", "present"] = "class",
) -> ImageSet:
    """List the images of one part of Open Images that are there; they are decoded when they are loaded.

    Few have the whole collection, so the images are those of the folder, and the tables say what is known of them.
    Boxes around groups have no part in labels and truth. The truth of an image is the boxes of its label's class.

    Args:
        root: the folder that holds train/ (or train_0/ to train_f/, as the archives are called), validation/ and test/.
            Tables are looked for in it and in its folder annotations/.
        split: train, val (also for None) or test; where one of the two is not there, the other.
        classes: what the label says: largest (the class of the largest box, one of class-descriptions-boxable.csv),
            image (the first label that people have confirmed, one of class-descriptions.csv; images without a class
            are left out) or none.
        size: side of the images as they enter the network, px; None: they keep their own.
        resize: shorter side before the centre crop, px.
        strict: an image that cannot be read ends the run.
        target: what a network is to answer: the class of the image, or which classes it has (present): those of its
            boxes, groups included, or all of its confirmed labels, as `classes` says. Images without any stay.

    Raises:
        UserError: the folder does not have the official layout, a table is missing or damaged, or no image can be read.
    """
    folder = folder_at(root, "openimages")
    chosen: str = split or "val"
    other = {"val": "test", "test": "val"}.get(chosen)
    if other and not (folder / FOLDERS[chosen]).exists() and (folder / FOLDERS[other]).exists():
        chosen = other
    images = _images(folder, FOLDERS[chosen])
    fitting: dict[str, Any] = {"size": size, "resize": resize, "strict": strict, "name": "openimages"}
    if classes == "none" and target != "class":
        raise UserError(f"dataset.target={target} is made of the tables, which dataset.classes=none does not read")
    if classes == "none":
        labels: np.ndarray = np.full(len(images.ids), UNKNOWN)
        return Collection(images.root, images.names, labels, (), **fitting)
    known = _Classes.read(_table(folder, BOXABLE if classes == "largest" else CLASSES))
    table = _table(folder, BOXES if classes == "largest" else LABELS, part=FOLDERS[chosen], split=chosen)
    fitting |= {"classes": known.names}
    if classes == "image":
        pieces: Iterable[np.ndarray] = _confirmed(table, images, known)
        pieces = list(pieces) if target == "present" else pieces
        labels = _first(pieces, len(images.ids))
    else:
        objects, groups = _objects(table, images, known)
        labels, pieces = objects.largest(len(images.ids)), (objects.pairs(), groups)
        fitting |= {"objects": objects}
    if target == "class":
        return Collection(images.root, images.names, labels, labelled=True, **fitting)
    present = Present(np.concatenate([np.empty((2, 0), np.int64), *pieces], axis=1), len(known.names))
    return Collection(images.root, images.names, labels, present=present, **fitting)


@dataclass(frozen=True)
class _Images:
    """The images that are there.

    Args:
        root: their folder.
        ids: (image,) uint64, ascending: every image's name is a number of 64 bits in hexadecimal digits.
        names: of their files below the folder.
    """

    root: Path
    ids: np.ndarray
    names: Names

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Return the index of each image requested, -1 for those that are not there."""
        places = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1)


def in_one(number: int) -> str:
    """Spell out the file of an image where one folder holds all."""
    return f"{number:016x}.jpg"


def in_sixteen(number: int, part: str) -> str:
    """Spell out the file of an image where sixteen folders hold those that begin with their digit."""
    name = in_one(number)
    return f"{part}_{name[0]}/{name}"


def _images(root: Path, part: str) -> _Images:
    """List the images of a part.

    Raises:
        UserError: there is no such folder, it cannot be looked into, or none of its files is named like an image.
    """
    digits = [digit for digit in "0123456789abcdef" if (root / f"{part}_{digit}").is_dir()]
    if (root / part).is_dir():
        folders, held = {"": (root / part).resolve()}, (root / part).resolve()
    elif digits:
        folders, held = {digit: root / f"{part}_{digit}" for digit in digits}, root
    else:
        raise UserError(f"no {part}/ or {part}_0/ to {part}_f/ in {shown(str(root))}")
    found: list[np.ndarray] = []
    others: list[str] = []
    for digit, folder in folders.items():
        try:
            found.append(np.fromiter(_numbers(folder, digit, others), dtype=np.uint64))
        except OSError as error:
            raise UserError(f"cannot look into {shown(str(folder))}: {error.strerror}") from None
    ids = np.sort(np.concatenate(found))
    if others:
        log.warning(
            "openimages: files that are not named like its images are left out: %s", listing(map(shown, others), 3)
        )
    if not len(ids):
        raise UserError(f"no images of Open Images in {shown(str(held))} (0123456789abcdef.jpg)")
    return _Images(held, ids, Names(ids, in_one if "" in folders else partial(in_sixteen, part=part)))


def _numbers(folder: Path, digit: str, others: list[str]) -> Iterator[int]:
    """Give the number of each image of a folder, one after the other; note other files."""
    for entry in os.scandir(folder):
        if FILE.fullmatch(entry.name) and entry.name.startswith(digit):
            yield int(entry.name[:16], 16)
        elif not entry.name.startswith("."):
            others.append(entry.name)


def _table(root: Path, names: tuple[str, ...], **parts: str) -> Path:
    """Return the first table that is there.

    Raises:
        UserError: none is.
    """
    wanted = [name.format(**parts) for name in names]
    for path in (folder / name for name in wanted for folder in (root, root / "annotations")):
        if path.is_file():
            return path
    raise UserError(
        f"no {' or '.join(wanted)} in {shown(str(root))} or its annotations/; dataset.classes=none needs none"
    )


@dataclass(frozen=True)
class _Classes:
    """The classes of a table.

    Args:
        names: of each class, as people write it.
        codes: (class,) bytes, as the tables write it, ascending.
        order: (class,) index of each code's class.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    order: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "_Classes":
        """Read a table of classes: code, name; the classes are in its order.

        Raises:
            UserError: it cannot be read, a row is not of this kind, or a code is there twice.
        """
        try:
            must_be_a_file(path)
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"cannot read {shown(str(path))}: {getattr(error, 'strerror', None) or error}") from None
        rows = rows[1:] if rows and rows[0][0] in HEADINGS else rows
        if not rows or any(len(row) != 2 for row in rows):
            raise UserError(f"{shown(str(path))} is no table of classes: expected lines of code, name")
        if (longest := max(len(row[0].encode()) for row in rows)) > WIDEST:  # all codes become as wide as the longest
            raise UserError(f"{shown(str(path))} is no table of classes: a code has {longest} bytes, at most {WIDEST}")
        codes = np.array([row[0].encode() for row in rows], dtype=np.bytes_)
        order = np.argsort(codes, kind="stable")
        twice = np.flatnonzero(codes[order][1:] == codes[order][:-1])
        if len(twice):
            raise UserError(f"{shown(str(path))} names {shown(rows[order[twice[0]]][0])!r} twice")
        return cls(tuple(row[1] for row in rows), codes[order], order)

    def indices(self, codes: np.ndarray) -> np.ndarray:
        """Return the index of each class, -1 for those that the table does not name."""
        places = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        return np.where(self.codes[places] == codes, self.order[places], UNKNOWN)


def _confirmed(table: Path, images: _Images, known: _Classes) -> Iterator[np.ndarray]:
    """Give the labels that people have confirmed, some (2, label) at a time: index of the image, of the class."""
    absent = _Absent(table)
    for ids, codes, confidence in columns(table, ("ImageID", "LabelName", "Confidence")):
        places = absent.places(images, ids)
        indices = known.indices(codes)
        use = (places >= 0) & (indices >= 0) & (_floats(confidence, table) > 0)
        yield np.stack([places[use], indices[use]])
    absent.report(images)


def _first(pieces: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Return the first label of each of so many images, (image,); -1 where there is none."""
    labels = np.full(count, UNKNOWN, dtype=np.int64)
    for places, indices in pieces:
        new = labels[places] == UNKNOWN
        first, where = np.unique(places[new], return_index=True)
        labels[first] = indices[new][where]
    return labels


def _objects(table: Path, images: _Images, known: _Classes) -> tuple[Objects, np.ndarray]:
    """Return the boxes of the images that are there but for those around groups, and of these image and class.

    Raises:
        UserError: a box has an edge that is no number from 0 to 1.
    """
    names = ("ImageID", "LabelName", "YMin", "XMin", "YMax", "XMax", "IsGroupOf")
    owners, classes, boxes = [np.empty(0, np.int32)], [np.empty(0, np.int16)], [np.empty((0, 4), np.float32)]
    groups, absent = [np.empty((2, 0), np.int64)], _Absent(table)
    for ids, codes, *edges, group in columns(table, names):
        places = absent.places(images, ids)
        indices = known.indices(codes)
        here = (places >= 0) & (indices >= 0)
        groups.append(np.stack([places, indices])[:, here & (group == b"1")])
        use = here & (group != b"1")
        owners.append(places[use].astype(np.int32))
        classes.append(indices[use].astype(np.int16 if len(known.names) <= 2**15 else np.int64))
        boxes.append(np.stack([_floats(edge[use], table) for edge in edges], axis=1))
    absent.report(images)
    box = np.concatenate(boxes)
    if not ((box >= 0) & (box <= 1)).all():
        raise UserError(f"{shown(str(table))}: a box has an edge outside 0 to 1")
    areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    found = Objects(np.concatenate(owners), np.concatenate(classes), box, areas, shares=True)
    return found, np.concatenate(groups, axis=1)


class _Absent:
    """Counts the images that a table names and the folder does not hold."""

    def __init__(self, table: Path):
        self.table = table
        self.found: list[np.ndarray] = []

    def places(self, images: _Images, ids: np.ndarray) -> np.ndarray:
        """Return the index of each image, -1 for those that are not there, which are noted."""
        numbers = _ids(ids, self.table)
        places = images.places(numbers)
        self.found.append(np.unique(numbers[places < 0]))
        return places

    def report(self, images: _Images) -> None:
        """Say how many there are."""
        count = len(np.unique(np.concatenate([np.empty(0, np.uint64), *self.found])))
        if count:
            log.warning(
                "openimages: %d images of %s are not in %s", count, shown(self.table.name), shown(images.root.name)
            )


DIGITS = np.full(256, 255, np.uint8)
DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def _ids(texts: np.ndarray, table: Path) -> np.ndarray:
    """Return the numbers (uint64) of ids given as 16 hexadecimal digits.

    Raises:
        UserError: one is no such id.
    """
    width = texts.dtype.itemsize
    digits = DIGITS[np.ascontiguousarray(texts).view(np.uint8).reshape(-1, width)]
    wrong = (digits == 255).any(axis=1) if width == 16 else np.char.str_len(texts) != 16
    if wrong.any() or width != 16:
        name = shown(texts[wrong][0].decode("utf-8", "backslashreplace"))
        raise UserError(f"{shown(str(table))}: {name!r} is no id of an image (16 digits 0-9 a-f); refused")
    pairs = digits[:, 0::2] << 4 | digits[:, 1::2]
    return pairs.view(">u8")[:, 0].astype(np.uint64)


def _floats(texts: np.ndarray, table: Path) -> np.ndarray:
    """Return numbers, float32.

    Raises:
        UserError: one is none.
    """
    try:
        return texts.astype(np.float32)
    except ValueError as error:
        raise UserError(f"{shown(str(table))}: {shown(str(error))}") from None
