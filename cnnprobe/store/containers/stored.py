"""The contents of a file: arrays of plain numbers, read on request; texts; and what was passed over, with the reason.

Axes stand as the program that wrote the file shows them: MATLAB and Octave keep theirs reversed in HDF5, and what they
show as one row or one column is a vector here.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, listing, one_line, unknown

LOG = logging.getLogger("cnnprobe")
FLOOR, SHRINKS = 2**28, 20
"""Bytes that a compressed array may always have, and how many a byte of the file may stand for beyond that."""
LARGEST = 2**40
"""Values an array may have."""
MOST = 100_000
"""Arrays and texts a file may have."""
LONGEST = 1000
"""Letters of the name of an array, with those of what it lies in."""
TEXT = 64
"""Bytes that Python takes for a text, beside its letters."""
TAILS = 20
"""Endings of an array's name that others beside it may have too."""
ELEMENT = re.compile(r"(.*)\((\d+)\)/([^/(){}]+)")
"""A field of an element of a struct array."""
OBJECTS = "pickled objects, which could run code"


class Stored:
    """An array in a file.

    Args:
        shape: of the array, its axes in the order in which the program that wrote it shows them.
        dtype: of its values; bool where the file says that they are true and false.
        reader: takes an index of the array as it lies in the file and returns its values.
        turned: the axes lie reversed in the file.
        axes: what the file says of each axis, "" where nothing; () where it says nothing at all.
        title: what the file calls it, other than by its place; "".
        about: attributes of it: numbers, arrays of numbers, texts or lists of texts.
        note: how its values were changed on reading, one line; "" where they are as they lie in the file.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        reader: Callable[[Any], np.ndarray],
        *,
        turned: bool = False,
        axes: Iterable[str] = (),
        title: str = "",
        about: dict[str, Any] | None = None,
        note: str = "",
    ):
        self.shape, self.dtype, self.reader, self.turned = tuple(map(int, shape)), np.dtype(dtype), reader, turned
        self.axes, self.title, self.about = tuple(axes), title, about or {}
        self.note, self.untold = note, bool(note)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def tell(self) -> None:
        """Warn, once, of how the values are changed on reading."""
        if self.untold:
            LOG.warning("%s", self.note)
        self.untold = False

    def read(self, place: int | None = None, axis: int = 0) -> np.ndarray:
        """Read all of it, or one place along an axis.

        Args:
            place: which; None: all.
            axis: of `shape`.

        Raises:
            OSError, ValueError, EOFError, zipfile.BadZipFile: the file is damaged there.
        """
        self.tell()
        if place is None or self.ndim < 2:  # a vector may have had two axes
            values = np.asarray(self.reader(...))
            values = (values.T if self.turned else values).reshape(self.shape).astype(self.dtype, copy=False)
            return values if place is None else values[place]
        index: list[Any] = [slice(None)] * self.ndim
        index[self.ndim - 1 - axis if self.turned else axis] = int(place)
        values = np.asarray(self.reader(tuple(index)))
        return (values.T if self.turned else values).astype(self.dtype, copy=False)


@dataclass
class Container:
    """One file.

    Args:
        path: of the file.
        kind: "npy", "npz", "hdf5", "MATLAB 7.3", "MATLAB 5", "NIfTI" or "table".
        arrays: by name: the place in the file with slashes, `group/rdm`; `RDMs(2)/RDM` in a struct array, `rdms{2}` in
            a cell array; "" where a file holds one array without a name.
        texts: by name, lists of texts.
        passed: by name, why it was passed over.
        rows: by name of a structured array, compound dataset or struct array: its fields that have one number or text
            in each row, by their names among `arrays` and `texts`; only where it has no other fields.
        about: by name of a group, "" for the file: its attributes, as those of an array.
        claimed: bytes of all that was found so far, as they will be in memory.
    """

    path: Path
    kind: str
    arrays: dict[str, Stored] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    claimed: int = 0
    _parts: dict[tuple, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _small: tuple | None = field(default=None, init=False, repr=False, compare=False)

    def no_room(self, claimed: int, held: int, kept: bool = True) -> str:
        """Return why something is not unpacked; "", and it counts, where it is affordable, also beside all before it.

        Args:
            claimed: bytes that it will have in memory.
            held: bytes that it takes in the file.
            kept: it stays in memory; else it is read when it is requested, and counts by itself alone.
        """
        whole = self.path.stat().st_size
        if not is_affordable(claimed, held):
            return not_affordable(claimed, held)
        if not kept:
            return ""
        if not is_affordable(self.claimed + claimed, whole):
            return f"{not_affordable(self.claimed + claimed, whole)}, counted with what stands before it"
        self.claimed += claimed
        return ""

    def named(self, word: str) -> dict[str, Stored]:
        """Return the array of this name, or all arrays of a group, struct or cell array of this name.

        Raises:
            UserError: there is none, or it was passed over.
        """
        for name in dict.fromkeys((word, word.strip("/"), word.strip("/").replace(".", "/"))):
            if name in self.arrays:
                return {name: self.arrays[name]}
            inside = {
                one: array
                for one, array in self.arrays.items()
                if one.startswith((f"{name}/", f"{name}(", f"{name}{{"))
            }
            if inside:
                return inside
            if name in self.passed:
                raise UserError(f"{told(self.path, name)} {self.passed[name]}")
        raise unknown("dataset", word, self.arrays, of=one_line(str(self.path)))

    def beside(self, name: str, words: Iterable[str]) -> tuple[str, Stored | list[str] | Any] | None:
        """Return what a file says of an array by one of some words, whatever their case, and where it says it.

        Its attributes come first, then what stands beside it and the attributes of its group, then those of the groups
        or structs that is in, and of the file; a word may be followed by what follows in the name of the array
        (`rdmutv_anna`, `stimuli_anna`).

        Returns:
            place and value: an attribute, an array or a list of texts; None where there is nothing.
        """
        about = {key.lower(): (f"{name}@{key}", value) for key, value in self.arrays[name].about.items()}
        there, groups = self._in_small_letters()
        group, _, own = name.lower().rpartition("/")
        tails = [*[own[at:] for at, letter in enumerate(own) if letter in "_-."][:TAILS], ""]
        words = list(words)
        for word in words:
            if word in about:
                return about[word]
        while True:
            for tail in tails:
                for word in words:
                    keys = there.get(f"{group}/{word}{tail}".lstrip("/"), ())
                    key = next((key for key in keys if key != name), None)
                    if key is not None:
                        return key, self.texts[key] if key in self.texts else self.arrays[key]
            place, attributes = groups.get(group, ("", {}))
            said = {key.lower(): (f"{place}@{key}", value) for key, value in attributes.items()}
            for word in words:
                if word in said:
                    return said[word]
            if not group:
                return None
            group = group.rpartition("/")[0]

    def having(self, part: str) -> list[str]:
        """Return the names of texts and arrays in which a part stands; the texts first."""
        key = (part, len(self.arrays), len(self.texts))
        if key not in self._parts:
            self._parts = {key: [name for name in (*self.texts, *self.arrays) if part in name]}
        return self._parts[key]

    def _in_small_letters(self) -> tuple[dict[str, list[str]], dict[str, tuple[str, dict[str, Any]]]]:
        """Return all names by their small letters, the last of them first, and the groups with their attributes."""
        counts = (len(self.arrays), len(self.texts), len(self.about))
        if self._small is None or self._small[0] != counts:
            there: dict[str, list[str]] = {}
            for key in (*self.arrays, *self.texts):
                there.setdefault(key.lower(), []).insert(0, key)
            groups = {key.lower(): (key, value) for key, value in self.about.items()}
            self._small = (counts, there, groups)
        return self._small[1:]

    def gather(self) -> "Container":
        """Join what each element of a struct array has one text or number of: stimuli(1)/name, … are stimuli/name.

        Numbers are joined where elements hold nothing but one text or number in each field.
        """
        elements: dict[str, dict[str, dict[int, str]]] = {}
        for name in (*self.texts, *self.arrays, *self.passed):
            match = ELEMENT.fullmatch(name)
            if match:
                elements.setdefault(match[1], {}).setdefault(match[3], {})[int(match[2])] = name
            outer, _, inner = name.partition("(")
            if re.search(r"/.*[/({]", inner):  # a field that holds more than one text or number
                elements.setdefault(outer, {}).setdefault("", {})[0] = name
        for name, fields in elements.items():
            kept = {key: one for key, one in fields.items() if sorted(one) == list(range(1, len(one) + 1))}
            texts = [key for key, one in kept.items() if all(len(self.texts.get(at, ())) == 1 for at in one.values())]
            single = [key for key, one in kept.items()
                      if all(at in self.arrays and not self.arrays[at].shape for at in one.values())]  # fmt: skip
            for key in texts:
                self.texts.setdefault(f"{name}/{key}", [self.texts[kept[key][at]][0] for at in sorted(kept[key])])
            if {*texts, *single} == fields.keys() and len({len(one) for one in fields.values()}) == 1:
                for key in single:
                    parts = [self.arrays[kept[key][at]] for at in sorted(kept[key])]
                    self.arrays.setdefault(f"{name}/{key}", Stored((len(parts),), np.dtype(np.float64), _Parts(parts)))
                self.rows[name] = [f"{name}/{key}" for key in fields]
        return self

    def note_rows(self, name: str, fields: Iterable[str]) -> None:
        """Note the fields of a structured array that has one number or text in each of several rows."""
        keys = [f"{name}/{one}".lstrip("/") for one in fields]
        shapes = {self.arrays[key].shape if key in self.arrays else (len(self.texts.get(key, ())),) for key in keys}
        if len(shapes) == 1 and len(min(shapes)) == 1 and min(shapes)[0] > 1:
            self.rows[name] = keys

    def contents(self, most: int = 6) -> str:
        """Say what is in the file: arrays with their shapes, and what was passed over with the reason."""
        said = [f"{name or 'an array'} {array.shape}" for name, array in self.arrays.items()]
        said += [f"{name} (texts)" for name in self.texts]
        said += [f"{name} ({reason})" for name, reason in self.passed.items()]
        return one_line(listing(said, most)) if said else "nothing"

    def add(self, name: str, array: Stored) -> None:
        """Take an array in, or note why not: no plain numbers, or more than can be."""
        reason = unusable(array.shape, array.dtype)
        if len(name) > LONGEST:
            name, reason = f"{name[:40]}…", f"has a name of {len(name)} letters; at most {LONGEST} are read"
        if reason:
            self.passed[name] = reason
        else:
            self.arrays[name] = array
        if len(self.arrays) + len(self.texts) + len(self.passed) > MOST:
            raise UserError(f"{one_line(self.path.name)} holds more than {MOST} arrays; refused")


class _Parts:
    """Reads numbers that lie each in an array of its own."""

    def __init__(self, parts: list[Stored]):
        self.parts = parts

    def __call__(self, index: Any) -> np.ndarray:
        return np.array([one.read() for one in self.parts], np.float64)[index]


def unusable(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Say why an array cannot be taken; "" where it can."""
    if dtype.hasobject:
        return f"holds {OBJECTS}"
    if dtype.kind not in "iufb" or dtype.itemsize > 16:
        return f"holds values of type {dtype}; needed are plain numbers"
    if int(np.prod([int(side) for side in shape], dtype=object)) > LARGEST:
        return f"claims to be {'x'.join(map(str, shape))} values large; refused"
    if 0 in shape:
        return "is empty"
    return ""


def vector(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what MATLAB shows as this: one row or one column is a vector, one of one a number."""
    return tuple(side for side in shape if side != 1) if len(shape) == 2 and 1 in shape else shape


def told(path: Path, name: str) -> str:
    """Return a file and an array in it, for people: "brain.h5: IT"."""
    return one_line(f"{path.name}{': ' if name else ''}{name}")


def is_affordable(claimed: int, held: int) -> bool:
    """Say whether an array may be unpacked: zeros compress a thousandfold, and would fill any memory.

    Args:
        claimed: bytes that it has by its shape.
        held: bytes that it takes in the file.
    """
    return claimed <= max(FLOOR, SHRINKS * held)


def not_affordable(claimed: int, held: int) -> str:
    """Return why an array is not unpacked."""
    return f"{claims(claimed, held)} of a compressed file; store it uncompressed ({bound()})"


def claims(claimed: int, held: int) -> str:
    """Return how much something claims, for people."""
    return f"claims {claimed / 1e9:.3g} GB in {held / 1e6:.3g} MB"


def bound() -> str:
    """Return what is affordable, for people."""
    return f"at most {SHRINKS} times its bytes, or {FLOOR / 1e9:.2g} GB, are unpacked"
