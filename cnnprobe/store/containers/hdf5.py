"""Arrays and texts in HDF5 files: plain ones, those of MATLAB (-v7.3) and Octave (-hdf5), netCDF4.

MATLAB and Octave keep axes reversed, texts as numbers, and the elements of structs and cells elsewhere in the file.
"""

import math
import re
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnnprobe.errors import UserError, one_line
from cnnprobe.store.containers import stored
from cnnprobe.store.containers.hdf5_bytes import reading
from cnnprobe.store.containers.heaps import FEW, at_most, longest, refers
from cnnprobe.store.containers.packed import DENSE, PACKED, Sparse, unpacked
from cnnprobe.store.containers.stored import MOST, TEXT, Container, Stored, told, vector

DEPTH = 20
"""Groups within each other that are looked into."""
TEXTS = 10**6
"""Texts at most that are read at once."""
NAMED_AXES = ("axes", "dims", "dimensions")
"""Attributes of a dataset that say what its axes are."""
SPARSE = ("csr_matrix", "csc_matrix")
"""What AnnData calls its sparse matrices."""
CHARACTER, REFERENCE = 32, 1000
"""Bytes that take, while they are read, a character of MATLAB and a reference to another place."""
CHECKSUM = 4
"""Bytes of the checksum behind each piece of an array (Fletcher 32)."""
AWAY = "keeps its values in other files; refused"
NETCDF = "This is a netCDF dimension but not a netCDF variable"


def opened(path: Path) -> Container:
    """Return the arrays and texts of a file; nothing but headers and texts is read.

    Raises:
        UserError: it has an attribute that would take more than its bytes can stand for.
        OSError, ValueError, RuntimeError and others: it is damaged.
    """
    with path.open("rb") as file:
        matlab = file.read(10) == b"MATLAB 7.3"
    found = Container(path, "MATLAB 7.3" if matlab else "hdf5")
    with reading(path) as file:
        try:
            _Walk(found, file, matlab).group(file, "", 0)
        except _Refused as reason:
            raise UserError(f"{one_line(path.name)} {reason}") from None
    return found.gather()


class _Refused(ValueError):  # noqa: N818
    """What is not read; its text is the reason."""


class _Walk:
    """Goes through a file and notes what is there."""

    def __init__(self, found: Container, file: h5py.File, matlab: bool):
        self.found, self.file, self.matlab = found, file, matlab
        self.seen: set[int] = set()
        self.met, self.size = 0, found.path.stat().st_size

    def group(self, group: h5py.Group, name: str, depth: int, title: str = "") -> None:
        """Note what is in a group, or in the struct that it stands for."""
        place = h5py.h5o.get_info(group.id).addr
        if depth > DEPTH or place in self.seen:
            return
        self.seen.add(place)
        if "OCTAVE_NEW_FORMAT" in group.attrs:
            self._octave(group, name)
            return
        if "MATLAB_sparse" in group.attrs or self.said(group, "encoding-type") in SPARSE:
            self._sparse(group, name)
            return
        title = title or self._title(group)
        about = {key: self.attribute(group, key) for key in group.attrs if not key.startswith("MATLAB_")}
        self.found.about[name] = {key: value for key, value in about.items() if value is not None}
        for key in group:
            one = f"{name}/{key}".lstrip("/")
            if not _is_own(group, key):
                self.found.passed[one] = "is a link to elsewhere"
            elif not key.startswith("#"):  # where MATLAB keeps what others refer to
                self.item(group[key], one, depth + 1, title)

    def item(self, item: Any, name: str, depth: int, title: str = "") -> None:
        """Note a group, text or array."""
        self.met += 1
        if self.met > MOST:
            raise UserError(f"{one_line(self.found.path.name)} holds more than {MOST} arrays; refused")
        try:
            if isinstance(item, h5py.Group):
                self.group(item, name, depth, title)
            elif not isinstance(item, h5py.Dataset):
                self.found.passed[name] = "is no array"
            elif item.shape is not None:  # which is nothing at all
                self._dataset(item, name, depth, title)
        except _Refused as reason:
            self.found.passed[name] = str(reason)

    def _dataset(self, item: h5py.Dataset, name: str, depth: int, title: str) -> None:
        """Note a text or an array, or what it refers to."""
        kind = self.said(item, "MATLAB_class")
        if self._is_empty(item):
            self.found.passed[name] = "is empty"
        elif h5py.check_ref_dtype(item.dtype) is not None:
            self._references(item, name, kind, depth)
        elif "MATLAB_object_decode" in item.attrs:
            self.found.passed[name] = "is an object of MATLAB; save numbers as matrices and names as cellstr(…)"
        elif kind == "char":
            self.found.texts[name] = self._characters(item)
        elif h5py.check_string_dtype(item.dtype) is not None:
            if item.size > TEXTS:
                self.found.passed[name] = f"holds {item.size} texts, too many"
            else:
                self.found.texts[name] = self._texts(item)
        elif item.dtype.names:
            self._fields(item, name)
        else:
            self._array(item, name, self.matlab or bool(kind), kind == "logical", title)

    def _fields(self, item: h5py.Dataset, name: str) -> None:
        """Note the fields of a compound type, each by itself."""
        self._check(item, item.size * TEXT)
        for one in item.dtype.names:
            dtype, own = item.dtype[one], f"{name}/{one}"
            if h5py.check_string_dtype(dtype) is not None and item.size <= TEXTS:
                self.found.texts[own] = self._texts(item, one)
            else:
                shape = (*item.shape, *dtype.shape)
                self.found.add(own, Stored(shape, dtype.base, _Dataset(self.found.path, item.name, one)))
        self.found.note_rows(name, item.dtype.names)

    def _array(self, item: h5py.Dataset, name: str, turned: bool, logical: bool = False, title: str = "") -> None:
        """Note an array of numbers."""
        self._check(item, kept=False)
        if self.said(item, "NAME").startswith(NETCDF):
            return
        shape = vector(item.shape[::-1]) if turned else item.shape
        dtype = np.dtype(bool) if logical else item.dtype
        about = {key: self.attribute(item, key) for key in item.attrs if not key.startswith(("MATLAB_", "DIMENSION_"))}
        axes = self._axes(item, about)
        axes = axes if len(axes) == len(shape) else []
        read: Any = _Dataset(self.found.path, item.name)
        note = ""
        if any(key in about for key in PACKED) and dtype.kind in "iuf":
            try:
                read, note = unpacked(read, dtype, about)
            except ValueError as error:
                self.found.passed[name] = str(error)
                return
            dtype = np.dtype(np.float64) if note else dtype
        about = {key: value for key, value in about.items() if value is not None}
        note = note and f"{told(self.found.path, name)}: {note}"
        array = Stored(shape, dtype, read, turned=turned, axes=axes, title=title, about=about, note=note)
        self.found.add(name, array)

    def _sparse(self, group: h5py.Group, name: str) -> None:
        """Note a sparse matrix of MATLAB (data, ir, jc) or AnnData (data, indices, indptr) as the dense one it is."""
        matlab = "MATLAB_sparse" in group.attrs
        by_rows = self.said(group, "encoding-type") == "csr_matrix" and not matlab
        keys = ("data", "ir", "jc") if matlab else ("data", "indices", "indptr")
        parts = [_own(group, key) for key in keys]
        there = [one for one in parts if isinstance(one, h5py.Dataset) and not (one.external or one.is_virtual)]
        sides = self.attribute(group, "MATLAB_sparse" if matlab else "shape")
        said = np.ravel(() if sides is None else sides)[:3].tolist()
        shape = (*said, parts[2].size - 1) if matlab and parts[2] in there else tuple(said)
        if len(shape) != 2 or min(shape) < 1 or parts[2] not in there:
            self.found.passed[name] = "is an empty sparse matrix"
        elif max(shape[0] * shape[1], *(one.size for one in there)) > DENSE:
            self.found.passed[name] = f"is sparse, {shape[0]}x{shape[1]}; more than {DENSE} values are not read"
        else:
            for one in there:
                self._check(one, 2 * one.size * 8)  # as they are added up
            logical = self.said(group, "MATLAB_class") == "logical"
            dtype = np.dtype(bool) if logical else there[0].dtype if len(there) == 3 else np.dtype(np.float64)
            kept = {key: one.name for key, one in zip(keys, parts) if one in there}
            read = Sparse(_Parts(self.found.path, [kept.get(key) for key in keys]), shape, by_rows)
            self.found.add(name, Stored(vector(shape) if matlab else shape, dtype, read))

    def _references(self, item: h5py.Dataset, name: str, kind: str, depth: int) -> None:
        """Note the elements of a cell array, or one field of each element of a struct array."""
        if item.size > TEXTS or depth > DEPTH or item.name.startswith("/#subsystem#"):
            self.found.passed[name] = f"refers to {item.size} others"
            return
        place = h5py.h5o.get_info(item.id).addr
        if place in self.seen:
            self.found.passed[name] = "refers to what has been read"
            return
        self.seen.add(place)
        inner = [self.file[one] if one else None for one in self._references_of(item)]
        if any(one is None for one in inner) or not (self.matlab or kind):
            self.found.passed[name] = "refers to other places"
            return
        if kind == "cell" and all(self.said(one, "MATLAB_class") == "char" for one in inner):
            self.found.texts[name] = [self._word(one) for one in inner]
            return
        group, _, field = name.rpartition("/")
        titles = self._titles(item.parent, len(inner)) if kind != "cell" else [""] * len(inner)
        for place, (one, title) in enumerate(zip(inner, titles)):
            own = f"{name}{{{place + 1}}}" if kind == "cell" else f"{group}({place + 1})/{field}"
            self.item(one, own, depth + 1, title)

    def _title(self, group: h5py.Group) -> str:
        """Return what a struct is called by one of its fields."""
        for key in group:
            if key.lower() in ("name", "label", "title"):
                one = _own(group, key)
                if isinstance(one, h5py.Dataset) and self.said(one, "MATLAB_class") == "char":
                    return self._word(one)
        return ""

    def _titles(self, group: h5py.Group, count: int) -> list[str]:
        """Return what each element of a struct array is called by one of its fields."""
        key = next((key for key in group if key.lower() in ("name", "label", "title")), None)
        field = _own(group, key) if key else None
        if not isinstance(field, h5py.Dataset) or h5py.check_ref_dtype(field.dtype) is None or field.size != count:
            return [""] * count
        inner = [self.file[one] for one in self._references_of(field) if one]
        words = [self._word(one) if self.said(one, "MATLAB_class") == "char" else "" for one in inner]
        return words if len(words) == count else [""] * count

    def _octave(self, group: h5py.Group, name: str) -> None:
        """Note a variable of Octave: a group with its type and its value."""
        kind, value = _own(group, "type"), _own(group, "value")
        kind = "".join(self._texts(kind)[:1]) if isinstance(kind, h5py.Dataset) and kind.size == 1 else ""
        if "sparse" in kind:
            self.found.passed[name] = "is sparse; save full(…)"
        elif isinstance(value, h5py.Group):
            for key in filter(partial(_is_own, value), value):
                self.item(value[key], f"{name}/{key}".lstrip("/"), 1)
        elif isinstance(value, h5py.Dataset) and "string" in kind:
            self.found.texts[name] = self._characters(value)
        elif isinstance(value, h5py.Dataset) and value.dtype.kind in "iufb":
            self._array(value, name, True, "bool" in kind)

    def _check(self, item: h5py.Dataset, beside: int = 0, kept: bool = True) -> None:
        """Check that a dataset's values are in this file and not more than they can be, before they are read.

        Args:
            item: the dataset.
            beside: bytes that they take in memory beside those in the file.
            kept: see `Container.no_room`.

        Raises:
            _Refused: with the reason.
        """
        if item.external or item.is_virtual:
            raise _Refused(AWAY)
        held, size = item.id.get_storage_size(), item.dtype.itemsize
        if item.chunks is None and held < item.size * size and item.id.get_offset() is not None:
            raise _Refused("is cut off")
        if item.fletcher32 and item.id.chunk_iter(lambda chunk: chunk.size < CHECKSUM or None):
            raise _Refused("has a piece that is shorter than its checksum")  # behind which HDF5 would read on
        chunk = math.prod(item.chunks) if item.chunks else 0  # is unpacked as a whole
        self._afford(max(item.size, chunk) * size + beside, min(held, self.size), kept)

    def _afford(self, claimed: int, held: int, kept: bool = True) -> None:
        """Refuse what is not affordable, by itself or with all that was found before."""
        if reason := self.found.no_room(claimed, held, kept):
            raise _Refused(reason)

    def _texts(self, item: h5py.Dataset, field: str | None = None) -> list[str]:
        """Read texts, or a field of them; those of any length piece by piece, as far as they are affordable."""
        if field is None:
            self._check(item, item.size * TEXT)
        if not refers(item.dtype if field is None else item.dtype[field]):
            return [_text(one) for one in np.ravel(item[()] if field is None else item[field])]
        most = max(stored.FLOOR, stored.SHRINKS * self.size)
        each = longest(self.found.path) * math.prod(item.shape[1:]) if item.size > FEW else 0
        rows, texts = max(1, most // max(1, each)), []
        for first in range(0, item.shape[0], rows) if item.shape else (0,):
            index: tuple[Any, ...] = (slice(first, first + rows),) if item.shape else ((),) if field is None else ()
            part = [_text(one) for one in np.ravel(item[(*index, field) if field else index[0]])]
            self._afford(sum(map(len, part)), self.size)
            texts += part
        return texts

    def _characters(self, item: h5py.Dataset) -> list[str]:
        """Read an array of characters, one text a row as MATLAB shows it."""
        self._check(item, CHARACTER * item.size + TEXT * max(item.shape, default=0))
        codes = item[()].T
        rows = np.atleast_2d(codes) if codes.ndim < 2 else codes.reshape(codes.shape[0], -1)
        return ["".join(map(chr, row)).rstrip() for row in rows.astype(np.int64) % 0x110000]

    def _word(self, item: h5py.Dataset) -> str:
        """Read a text of MATLAB; "" where it is empty."""
        return "" if self._is_empty(item) else "".join(self._characters(item)[:1])

    def _is_empty(self, item: h5py.Dataset) -> bool:
        return self.said(item, "MATLAB_empty") not in ("", "0", "[0]")

    def _references_of(self, item: h5py.Dataset) -> list[Any]:
        """Read references to other places of the file."""
        self._check(item, item.size * REFERENCE)
        return np.ravel(item[()].T, order="F").tolist()

    def attribute(self, item: Any, key: str) -> Any:
        """Return an attribute: a number, an array of numbers, a text or a list of texts; None where it is nothing such.

        Raises:
            _Refused: it would take more than is affordable.
        """
        try:
            about = item.attrs.get_id(key)
            dtype, count = about.dtype, math.prod(about.shape or ())
        except (OSError, TypeError, KeyError):
            return None
        if dtype.base.kind not in "iufbSO" or (dtype.hasobject and h5py.check_string_dtype(dtype) is None):
            return None
        claimed = at_most(self.found.path, count) if dtype.hasobject else count * dtype.itemsize
        if reason := self.found.no_room(claimed, self.size):
            raise _Refused(f"has an attribute {one_line(key)[:40]} that {reason}")
        try:
            value = item.attrs[key]
        except (OSError, TypeError, KeyError):
            return None
        letters = sum(map(len, np.ravel(value).tolist())) if dtype.hasobject and count else claimed
        self.found.claimed += letters - claimed
        if isinstance(value, str | bytes):
            return _text(value)
        values = np.asarray(value)
        if values.dtype.kind in "SUO" and all(isinstance(one, str | bytes) for one in values.ravel().tolist()):
            return [_text(one) for one in values.ravel().tolist()] if values.ndim else _text(values.item())
        return value if values.dtype.kind in "iufb" else None

    def said(self, item: Any, key: str) -> str:
        """Return an attribute as a text; "" where there is none."""
        value = self.attribute(item, key) if key in item.attrs else None
        return "" if value is None or isinstance(value, list) else _text(value)

    def _axes(self, item: h5py.Dataset, about: dict[str, Any]) -> list[str]:
        """Return what a dataset says of its axes: by an attribute, or by labels and scales of its dimensions."""
        words = next((about[name] for name in NAMED_AXES if about.get(name) is not None), None)
        if isinstance(words, str):
            return [word for word in re.split(r"[\s,;()\[\]'\"]+", words) if word]
        if isinstance(words, list):
            return [str(word) for word in words]
        labels = self.attribute(item, "DIMENSION_LABELS") if "DIMENSION_LABELS" in item.attrs else None
        labels, scales = labels if isinstance(labels, list) else [], self._scales(item)
        found = [label or scale for label, scale in zip_longest(labels, scales, fillvalue="")]
        return found if any(found) else []

    def _scales(self, item: h5py.Dataset) -> list[str]:
        """Return what the scales of the dimensions of a dataset are called, "" where there is none.

        `item.dims` ends the process where an attribute cannot be read (HDF5 2.0, `H5DSget_label`).
        """
        if "DIMENSION_LIST" not in item.attrs:
            return []
        about = item.attrs.get_id("DIMENSION_LIST")
        if (inner := h5py.check_vlen_dtype(about.dtype)) is None or h5py.check_ref_dtype(inner) is None:
            return []
        self._afford(at_most(self.found.path, math.prod(about.shape or ())), self.size)
        lists = np.ravel(item.attrs["DIMENSION_LIST"]).tolist()
        return [(self.file[one[0]].name or "").rpartition("/")[2] if len(one) else "" for one in lists]


class _Dataset:
    """Reads an HDF5 dataset; the file is opened each time, so that loader processes do not share it."""

    def __init__(self, path: Path, name: str, field: str | None = None):
        self.path, self.name, self.field = path, name, field

    def __call__(self, index: Any) -> np.ndarray:
        with h5py.File(self.path, "r", locking=False) as file:  # numbers have no heap, and many small reads are faster
            item = file[self.name]
            return item[index] if self.field is None else item[self.field][index]


class _Parts:
    """Reads the three parts of a sparse matrix; what MATLAB leaves out where there are no values is empty."""

    def __init__(self, path: Path, names: list[str | None]):
        self.path, self.names = path, names

    def __call__(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with h5py.File(self.path, "r", locking=False) as file:
            values, inner, begins = (file[name][()] if name else np.zeros(0) for name in self.names)
            return values, inner, begins


def _is_own(group: h5py.Group, key: str) -> bool:
    """Say whether a name in a group is of something in this file and this place, no link to elsewhere."""
    return isinstance(group.get(key, getlink=True), h5py.HardLink)


def _own(group: h5py.Group, key: str) -> Any:
    """Return what a group has under a name; None where it has nothing, or a link to elsewhere."""
    return group[key] if _is_own(group, key) else None


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
