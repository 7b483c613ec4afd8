"""Arrays in the files of NumPy, .npy and .npz; pickled objects are never opened."""

import os
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, one_line
from cnnprobe.store.containers.archives import members
from cnnprobe.store.containers.packed import DENSE, Sparse
from cnnprobe.store.containers.stored import TEXT, Container, Stored, told

SPARSE = ("csr", "csc", "coo", "bsr", "dia")
"""Kinds of matrices that scipy.sparse.save_npz writes."""
DATA = re.compile(r"((?:^|.*_))data(/.*)?$", re.DOTALL)
"""What the values of a masked array are called, beside whose mask they lie."""


def npy(path: Path) -> Container:
    """Return the array of a .npy file.

    Raises:
        UserError: the file is shorter than what it claims to hold.
        ValueError: it is damaged.
    """
    found = Container(path, "npy")
    with path.open("rb") as file:
        shape, _, dtype = _header(file)
        start = file.tell()
    size = path.stat().st_size
    needed = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < needed and not dtype.hasobject:
        raise UserError(f"{one_line(path.name)} is cut off: {size} of {needed} bytes")
    _take(found, "", shape, dtype, _File(path))
    return found


def npz(path: Path) -> Container:
    """Return the arrays of a .npz file.

    Raises:
        UserError: an array is longer than what is there, or has the name of another one.
        ValueError, zipfile.BadZipFile: it is damaged.
    """
    found = Container(path, "npz")
    with zipfile.ZipFile(path) as archive:
        for member in members(archive, path.name):
            if not member.filename.endswith(".npy"):
                found.passed[member.filename] = "is no array"
                continue
            name = member.filename.removesuffix(".npy")
            if reason := found.no_room(member.file_size, member.compress_size, kept=False):
                found.passed[name] = reason
                continue
            with archive.open(member) as file:
                shape, _, dtype = _header(file)
            if int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size and not dtype.hasobject:
                raise UserError(f"{told(path, name)} is cut off")
            _take(found, name, shape, dtype, _Member(path, name))
    if found.texts.get("format", [""])[0] in SPARSE and {"shape", "data"} <= found.arrays.keys():
        _join_sparse(found)
    _mask(found)
    return found


NPY_NPZ = {"npy": npy, "npz": npz}


def _take(found: Container, name: str, shape: tuple[int, ...], dtype: np.dtype, read: Any) -> None:
    """Take an array in, the fields of a structured one each by itself, and texts as such."""
    count, whole = int(np.prod(shape, dtype=object)), found.path.stat().st_size
    if dtype.names and not dtype.hasobject:
        if reason := found.no_room(count * dtype.itemsize, whole):  # it is read with the first text of it, and kept
            found.passed[name] = reason
            return
        for one in dtype.names:
            inner = dtype[one]
            _take(found, f"{name}/{one}".lstrip("/"), (*shape, *inner.shape), inner.base, _Field(read, one))
        found.note_rows(name, dtype.names)
    elif dtype.kind in "US" and len(shape) <= 2 and count <= 10**6:
        if reason := found.no_room(count * (TEXT + dtype.itemsize), whole):
            found.passed[name] = reason
            return
        values = np.asarray(read(...)).ravel().tolist()
        found.texts[name] = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in values]
    else:
        found.add(name, Stored(shape, dtype, read))


def _join_sparse(found: Container) -> None:
    """Put one matrix in the place of the arrays that scipy.sparse.save_npz writes for it."""
    values, sides = found.arrays.pop("data"), found.arrays.pop("shape")
    inner, begins = (found.arrays.pop(key, None) for key in ("indices", "indptr"))
    for key in ("row", "col", "coords", "offsets"):
        found.arrays.pop(key, None)
    kind = found.texts.pop("format")[0]
    shape = tuple(sides.read().ravel().tolist()) if sides.shape in ((1,), (2,), (3,)) else ()
    if kind not in ("csr", "csc") or inner is None or begins is None or len(shape) != 2:
        found.passed["data"] = f"is a sparse matrix of the kind {kind}; save it as .tocsr()"
    elif shape[0] * shape[1] > DENSE:
        found.passed["data"] = f"is sparse, {shape[0]}x{shape[1]}; more than {DENSE} values are not read"
    else:
        read = Sparse(lambda: (values.read(), inner.read(), begins.read()), shape, by_rows=kind == "csr")
        found.add("data", Stored(shape, values.dtype, read))


def _mask(found: Container) -> None:
    """Make NaN of the values of a masked array, of which an archive has `data` and `mask`, that its mask covers."""
    for name, stored in list(found.arrays.items()):
        match = DATA.fullmatch(name)
        key = f"{match[1]}mask{match[2] or ''}" if match else ""
        mask = found.arrays.get(key)
        if mask is None or mask.dtype != bool or mask.shape not in (stored.shape, ()):
            continue
        del found.arrays[key]
        if reason := found.no_room(int(np.prod(mask.shape)), found.path.stat().st_size):
            del found.arrays[name]
            found.passed[name] = f"has a mask that {reason}"
            continue
        covered = np.broadcast_to(mask.read(), stored.shape)
        if covered.any():
            note = f"{told(found.path, name)}: {covered.sum()} of {covered.size} values are missing, as {key} says"
            dtype = stored.dtype if stored.dtype.kind == "f" else np.dtype(np.float64)
            found.arrays[name] = Stored(stored.shape, dtype, _Masked(stored, covered, dtype), note=note)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the format is not known")
    return read[version](file)


class _File:
    """Reads a .npy file."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, index: Any) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[index])


@lru_cache(maxsize=2)
def _archive(path: Path, _process: int, _size: int, _changed: int) -> zipfile.ZipFile:
    """Return an archive opened: reading what is in it for each of many arrays anew would take for ever."""
    return zipfile.ZipFile(path)


class _Member:
    """Reads an array of an archive, whole at the first request: an archive has no rows."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.array: np.ndarray | None = None

    def __call__(self, index: Any) -> np.ndarray:
        if self.array is None:
            about = self.path.stat()
            archive = _archive(self.path, os.getpid(), about.st_size, about.st_mtime_ns)
            with archive.open(f"{self.name}.npy") as file:
                self.array = np.lib.format.read_array(file, allow_pickle=False)
        return self.array[index]


class _Field:
    """Reads a field of a structured array."""

    def __init__(self, read: Any, name: str):
        self.read, self.name = read, name

    def __call__(self, index: Any) -> np.ndarray:
        return self.read(...)[self.name][index]


class _Masked:
    """Reads values of which some are covered: these are NaN."""

    def __init__(self, stored: Stored, covered: np.ndarray, dtype: np.dtype):
        self.stored, self.covered, self.dtype = stored, covered, dtype

    def __call__(self, index: Any) -> np.ndarray:
        values = np.array(self.stored.reader(index)).astype(self.dtype)
        values[self.covered[index]] = np.nan
        return values
