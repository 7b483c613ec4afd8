"""Rows matched to images: by path, by name, without extension, in any case; never where two would fit."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.listing import IMAGES, OTHER_IMAGES
from cnnprobe.errors import UserError


@dataclass
class Matched:
    """What rows name.

    Args:
        images: (row,) index of the image each row names, -1 where it names none.
        ways: how images were found, and how many each way.
        doubtful: a row that fits several images, and two of these; None where none does.
    """

    images: list[int]
    ways: dict[str, int] = field(default_factory=dict)
    doubtful: tuple[str, str, str] | None = None

    @property
    def score(self) -> tuple[int, int]:
        """How many images are named, and how directly: the larger the better."""
        place = max((list(WAYS).index(way) for way in self.ways), default=len(WAYS))
        return len({image for image in self.images if image >= 0}), -place


class Images:
    """The images that rows may name, in the order of the ways in which they can be found.

    Args:
        files: paths below a folder.
        root: the folder, whose own name may stand in the rows.
    """

    def __init__(self, files: Sequence[str], root: str = ""):
        self.files, self.root = files, root
        self.ways: dict[str, tuple[list[str], dict[str, list[int]], list[str]]] = {}

    def found_by(self, way: str) -> tuple[list[str], dict[str, list[int]], list[str]]:
        """Return the path of each image as it is compared, images by their name, and the folders above; remembered."""
        if way not in self.ways:
            form = WAYS[way][0]
            there = [form(_path(file)) for file in self.files]
            owners = defaultdict(list)
            for image, path in enumerate(there):
                owners[_name(path)].append(image)
            owners.pop("", None)
            self.ways[way] = there, dict(owners), form(_path(self.root)).split("/") if self.root else []
        return self.ways[way]


def matched(rows: Sequence[str], images: Images, ways: int | None = None) -> Matched:
    """Find the image that each row names.

    Each way is tried for the rows and images that are left: the path, or the end of one; the name without folders; both
    without the ending; all these in any case; as a number (7 for 0007.png). Letters are compared composed (NFC), and
    backslashes are slashes.

    Args:
        rows: what stands in the rows.
        images: that they may name.
        ways: how many of the ways are tried, the most direct first; None: all.
    """
    found = Matched([-1] * len(rows))
    waiting = {row: _path(word) for row, word in enumerate(rows) if word}
    named: set[int] = set()
    doubtful: dict[int, list[int]] = {}
    for way, (form, with_folders) in islice(WAYS.items(), ways):
        there, owners, above = images.found_by(way)
        taken = set()
        for row, path in waiting.items():
            word = form(path)
            fitting = [image for image in owners.get(_name(word), []) if image not in named]
            fitting = _along(word, fitting, there, above) if with_folders else fitting
            fitting = _letter_by_letter(rows[row], fitting, images.files) if len(fitting) > 1 else fitting
            if len(fitting) == 1:
                found.images[row] = fitting[0]
                taken.add(fitting[0])
            elif fitting:
                doubtful.setdefault(row, fitting)
        if taken:
            found.ways[way] = len(taken)
        named |= taken
        waiting = {row: path for row, path in waiting.items() if found.images[row] < 0}
        if not waiting or len(named) == len(images.files) or (named and [*waiting] == [0]):
            break  # names of columns in the first row are not worth the other ways
    lost = next((row for row in doubtful if row in waiting and not named.issuperset(doubtful[row])), None)
    if lost is not None:
        one, other = doubtful[lost][:2]
        found.doubtful = (rows[lost], images.files[one], images.files[other])
    return found


def _along(row: str, images: list[int], files: Sequence[str], above: list[str]) -> list[int]:
    """Return the images of a name that a path leads to: one of row and file is the end of the other's whole path."""
    parts = row.split("/")
    fitting = []
    for image in images:
        inner = files[image].split("/")
        own = [*above, *inner]
        short = min(len(parts), len(own))
        if parts[-short:] == own[-short:] or (len(inner) > 1 and parts[-len(inner) :] == inner):
            fitting.append(image)
    return [image for image in fitting if files[image] == row] or fitting


def _letter_by_letter(row: str, images: list[int], files: Sequence[str]) -> list[int]:
    """Return those of several images whose path is the row's as both are written, all where none is.

    A name that holds the Kelvin sign is the one with a K once composed, and one with a backslash that of a folder.
    """
    same = [image for image in images if f"/{row}".endswith(f"/{files[image]}") or files[image].endswith(f"/{row}")]
    return [image for image in same if files[image] == row] or same or images


def _path(word: str) -> str:
    """Return a path with slashes, composed letters and no dots in front."""
    return unicodedata.normalize("NFC", word).replace("\\", "/").rstrip("/").removeprefix("./")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _bare(path: str) -> str:
    """Return a path without its ending: two to five letters, or what an image ends with."""
    stem, dot, ending = path.rpartition(".")
    known = re.fullmatch(r"[A-Za-z]{2,5}", ending) or f".{ending.lower()}" in IMAGES | OTHER_IMAGES
    return stem if dot and known and _name(stem) else path


def _number(path: str) -> str:
    """Return a name as a number, "" where it is none."""
    word = _name(_bare(path))
    return str(int(word)) if word.isascii() and word.isdecimal() and len(word) < 19 else ""


def must_not_be_shifted(rows: Sequence[str], images: Images, found: Sequence[int], path: str) -> None:
    """Refuse numbers from 0 for images from 1, or the other way round, which fit all but one on either side.

    Args:
        rows: what stands in the rows.
        images: that they name.
        found: (row,) index of the image each row names, -1 where it names none.
        path: of the table.

    Raises:
        UserError: both are numbers, as many, and an image and a row are left over.
    """
    sides = [{_number(_path(word)) for word in words} for words in ([word for word in rows if word], images.files)]
    left = len(set(found) - {-1}) < len(images.files) and -1 in found
    if not left or "" in sides[0] | sides[1]:
        return
    own, other = (sorted(map(int, side)) for side in sides)
    if own != other and own[-1] - own[0] == other[-1] - other[0]:
        raise UserError(f"{path} numbers images {own[0]} to {own[-1]}, their files are {other[0]} to {other[-1]}: one "
                        "may count from 0, the other from 1; write the names of the files")  # fmt: skip


WAYS: dict[str, tuple[Callable[[str], str], bool]] = {
    "by path": (str, True),
    "by name": (str, False),
    "by path without ending": (_bare, True),
    "by name without ending": (_bare, False),
    "by path in any case": (str.casefold, True),
    "by name in any case": (str.casefold, False),
    "by path without ending in any case": (lambda path: _bare(path).casefold(), True),
    "by name without ending in any case": (lambda path: _bare(path).casefold(), False),
    "by number": (_number, False),
}
"""What is compared, and whether folders are."""


def ambiguous(found: Matched) -> str:
    """Say which row fits several images."""
    row, one, other = (shown(word) for word in found.doubtful or ("", "", ""))
    return f"{row!r} fits several images, {one!r} and {other!r}"
