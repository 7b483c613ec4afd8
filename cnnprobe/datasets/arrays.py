"""The user's own recordings: signals (recording, channel, time) or images, out of an HDF5 or NumPy file.

A stranger's file is data that may lie. Arrays of plain numbers are read and nothing else: no pickled objects, no links
out of the file, nothing that claims to be larger than what is there.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.decoding import LARGEST_IMAGE
from cnnprobe.datasets.fitting import as_float, resized
from cnnprobe.datasets.imageset import ImageSet, sha256, shown
from cnnprobe.errors import UserError, listing, path_of, unknown
from cnnprobe.options import Range

HELD_OUT = 5  # every fifth recording is held out of the training
MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"\x89HDF\r\n\x1a\n": "hdf5"}
LARGEST = 2**40  # values an array may have
AXES = {3: "signals (recording, channel, time)", 4: "images (image, channel, y, x)"}


def build(
    *,
    root: str | None,
    data: str | None,
    labels: str | None,
    rate: Annotated[float, Range(above=0)] | None,
    split: Literal["train", "test"] | None,
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    scale: Annotated[float, Range(above=0)],
    strict: bool,
) -> "Arrays":
    """Return the dataset.

    Args:
        root: the file: .h5, .npy or .npz, known by its content.
        data: name of the array in it; None: the only one of three or four axes.
        labels: name of an array of class numbers, one per recording; None: "labels" or "y" where there is one.
        rate: samples per second of signals, Hz; None: the attribute "rate" or "sampling_rate" of the array, if any.
        split: every fifth recording is the test split; None: all.
        size: samples of a signal: longer ones are cut to their middle; side of images, px; None: as they are.
        resize: shorter side of images before the centre crop, px.
        scale: values are multiplied by it, e.g. 1e6 for volts as microvolts; bytes become 0 to 1 before.
        strict: a recording that holds NaN or infinite values ends the run instead of being skipped.

    Raises:
        UserError: there is no such file or array, or it is not an array of plain numbers that is all there.
    """
    if root is None:
        raise UserError("dataset=arrays needs dataset.root=FILE (.h5, .npy or .npz)")
    path = path_of(root)
    file = opened(path)
    name = _chosen(file, data, path)
    array = file[name]
    if array.ndim not in AXES:
        raise UserError(f"{_told(path, name)} has shape {array.shape}; needed are {' or '.join(AXES.values())}")
    if array.ndim == 4 and array.shape[2] * array.shape[3] > LARGEST_IMAGE:
        pixels, limit = (count // 10**6 for count in (array.shape[2] * array.shape[3], LARGEST_IMAGE))
        raise UserError(f"{_told(path, name)}: its images are too large ({pixels} million pixels; limit {limit})")
    classes = _labels(file, labels, name, len(array), path)
    rate = rate or array.rate
    return Arrays(path, array, classes, rate=rate, split=split, size=size, resize=resize, scale=scale, strict=strict)


class Stored:
    """An array in a file, of which rows are read on request.

    Args:
        shape, dtype: of the array.
        read: returns one row, or with None all of it.
        rate: samples per second, where the file says so.
        classes: names of classes, where the file says so.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        read: Callable[[int | None], np.ndarray],
        rate: float | None = None,
        classes: Sequence[str] = (),
    ):
        self.shape, self.dtype, self.read, self.rate, self.classes = shape, dtype, read, rate, tuple(classes)
        self.ndim = len(shape)

    def __len__(self) -> int:
        return self.shape[0]


class Arrays(ImageSet):
    """Recordings of one array, read from the file whenever they are loaded. See `build` for the arguments."""

    def __init__(
        self,
        path: Path,
        array: Stored,
        labels: tuple[np.ndarray, tuple[str, ...]],
        *,
        rate: float | None,
        split: str | None,
        size: int | None,
        resize: int | None,
        scale: float,
        strict: bool,
    ):
        every = np.arange(len(array))
        self.rows = every if split is None else every[(every % HELD_OUT == HELD_OUT - 1) == (split == "test")]
        if not len(self.rows):
            raise UserError(f"{shown(path.name)} has {len(array)} recordings, too few to hold one in {HELD_OUT} out")
        self.path, self.array, self.scale, self.rate = path, array, scale, rate
        self.flat = array.ndim == 3
        length = array.shape[-1]
        if self.flat and size is not None and size > length:
            raise UserError(f"recordings of {shown(path.name)} have {length} samples, asked for dataset.size={size}")
        entered = (size or length,) if self.flat else (size or array.shape[-2], size or length)
        super().__init__(
            name="arrays",
            names=[f"{shown(path.name)}/{row:06d}" for row in self.rows],
            labels=labels[0][self.rows],
            classes=labels[1],
            size=(array.shape[1], *entered),
            resize=resize,
            source_size=array.shape[1:],
            strict=strict,
        )
        if self.flat and size is not None and size < length:
            self.remarks["cut"] = f"recordings of {length} samples are cut to the {size} in their middle (dataset.size)"

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the file's content, and of what is made of it."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while piece := file.read(2**22):
                digest.update(piece)
        told = (self.array.shape, self.size, self.resize, self.scale, self.rows.tolist(), self.labels.tolist())
        return sha256("arrays", digest.digest(), repr(told))

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of the whole and of which recordings."""
        chosen = [int(index) for index in indices]
        whole = chosen == list(range(len(self)))
        return self.fingerprint if whole else sha256(self.fingerprint, *map(str, chosen))

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Read recordings; those with values that are not finite cannot be read."""
        values = np.zeros((len(indices), *self.source_size), np.float32)
        readable = np.zeros(len(indices), bool)
        for place, index in enumerate(indices):
            found = self._row(int(index))
            if found is not None:
                values[place], readable[place] = found, True
        return torch.from_numpy(values), readable

    def _row(self, index: int) -> np.ndarray | None:
        try:
            row = self.array.read(int(self.rows[index]))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            self.unreadable(index, f"damaged: {' '.join(str(error).split())[:60]}")
            return None
        with np.errstate(over="ignore"):
            values = np.asarray(row, np.float32) * np.float32(self.scale)
        values = values / 255 if row.dtype == np.uint8 and not self.flat else values
        bad = int((~np.isfinite(values)).sum())
        if bad:
            self.unreadable(index, f"{bad} values are not finite")
            return None
        return values

    def fit(self, images: Tensor) -> Tensor:
        """Cut signals to their middle; scale and crop images."""
        if tuple(images.shape[1:]) == self.size:
            return images
        if not self.flat:
            return resized(as_float(images), self.size[-2:], self.resize)
        start = (images.shape[-1] - self.size[-1]) // 2
        return images[..., start : start + self.size[-1]].contiguous()


def opened(path: Path) -> dict[str, Stored]:
    """Return every array of plain numbers in a file, by name; nothing but headers is read.

    Raises:
        UserError: there is no such file, it is of another kind, damaged, or holds what is no plain number.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{shown(str(path))} is {'a folder' if path.is_dir() else 'no regular file'}, not an array")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise UserError(f"cannot read {shown(str(path))}: {error.strerror}") from None
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
    if kind is None:
        what = "empty" if not head else "a pickle, which could run code" if head[:1] == b"\x80" else "neither"
        raise UserError(f"{shown(path.name)} must be an HDF5, .npy or .npz file; it is {what}")
    try:
        return {"npy": _npy, "npz": _npz, "hdf5": _hdf5}[kind](path)
    except UserError:
        raise
    except Exception as error:  # readers of damaged files raise many types
        words = " ".join(str(error).split())[:100]
        raise UserError(f"{shown(path.name)} is damaged or no {kind} file: {words}") from None


def _plain(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what is not an array of plain numbers of a possible size."""
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        kind = "pickled objects, which could run code" if dtype.hasobject else f"values of type {dtype}"
        raise UserError(f"{_told(path, name)} holds {kind}; needed are plain numbers")
    if int(np.prod([int(side) for side in shape], dtype=object)) > LARGEST:
        raise UserError(f"{_told(path, name)} claims to be {'x'.join(map(str, shape))} values large; refused")


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"version {version} of the format is not known")
    return read[version](file)


def _npy(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        shape, _, dtype = _header(file)
        start = file.tell()
    _plain(path, "", shape, dtype)
    needed = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if os.path.getsize(path) < needed:  # noqa: PTH202
        raise UserError(f"{shown(path.name)} is cut off: {os.path.getsize(path)} of {needed} bytes")  # noqa: PTH202

    def read(row: int | None) -> np.ndarray:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(array if row is None else array[row])

    return {"": Stored(shape, dtype, read)}


def _npz(path: Path) -> dict[str, Stored]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                shape, _, dtype = _header(file)
            _plain(path, name, shape, dtype)
            if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > member.file_size:
                raise UserError(f"{_told(path, name)} is cut off")
            found[name] = Stored(shape, dtype, _Member(path, name))
    return found


class _Member:
    """Reads an array of an archive, whole at the first request: an archive has no rows."""

    def __init__(self, path: Path, name: str):
        self.path, self.name, self.array = path, name, None

    def __call__(self, row: int | None) -> np.ndarray:
        if self.array is None:
            with np.load(self.path, allow_pickle=False) as archive:
                self.array = archive[self.name]
        return self.array if row is None else self.array[row]


def _hdf5(path: Path) -> dict[str, Stored]:
    import h5py

    found: dict[str, Stored] = {}

    def note(name: str, item: Any) -> None:  # visititems follows hard links only
        if not isinstance(item, h5py.Dataset) or item.shape is None or not item.shape:
            return
        if item.dtype.kind not in "iufb" and item.ndim not in AXES:
            return
        _plain(path, name, item.shape, item.dtype)
        if item.external or item.is_virtual:
            raise UserError(f"{_told(path, name)} keeps its values in other files; refused")
        held = item.id.get_storage_size()
        if item.chunks is None and held < item.size * item.dtype.itemsize and item.id.get_offset() is not None:
            raise UserError(f"{_told(path, name)} is cut off")
        found[name] = Stored(item.shape, item.dtype, _Dataset(path, name), _rate(item), _names(item))

    with h5py.File(path, "r") as file:
        file.visititems(note)
    return found


class _Dataset:
    """Reads an HDF5 dataset; the file is opened each time, so that loader processes do not share it."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    def __call__(self, row: int | None) -> np.ndarray:
        import h5py

        with h5py.File(self.path, "r") as file:
            return file[self.name][...] if row is None else file[self.name][row]


def _rate(item: Any) -> float | None:
    for word in ("rate", "sampling_rate", "sfreq", "fs"):
        value = item.attrs.get(word)
        if value is not None and np.size(value) == 1 and np.asarray(value).dtype.kind in "iuf":
            rate = float(np.ravel(value)[0])
            if np.isfinite(rate) and rate > 0:
                return rate
    return None


def _names(item: Any) -> list[str]:
    value = item.attrs.get("classes")
    return [one for one in np.ravel(value).tolist() if isinstance(one, str)] if value is not None else []


def _chosen(file: dict[str, Stored], data: str | None, path: Path) -> str:
    if data is not None:
        if data.strip("/") not in file:
            raise unknown("array", data, file, of=shown(path.name))
        return data.strip("/")
    fitting = [name for name, array in file.items() if array.ndim in AXES]
    if len(fitting) != 1:
        there = listing(f"{name} {array.shape}" for name, array in file.items()) or "none"
        which = "several arrays" if fitting else "no array"
        raise UserError(
            f"{shown(path.name)} has {which} of three or four axes; dataset.data names one; arrays: {there}"
        )
    return fitting[0]


def _labels(
    file: dict[str, Stored], asked: str | None, data: str, count: int, path: Path
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class of each recording, -1 where unknown, and the names of the classes."""
    if asked is not None and asked.strip("/") not in file:
        raise unknown("array", asked, file, of=shown(path.name))
    beside = [f"{data.rpartition('/')[0]}/{word}".lstrip("/") for word in ("labels", "label", "y")]
    name = asked.strip("/") if asked is not None else next((one for one in beside if one in file), None)
    if name is None:
        return np.full(count, -1), ()
    stored = file[name]
    if stored.shape != (count,) or stored.dtype.kind not in "iu":
        raise UserError(
            f"{_told(path, name)} must be {count} whole numbers, one per recording; got {stored.shape} {stored.dtype}"
        )
    numbers = stored.read(None).astype(np.int64)
    if numbers.min() < -1 or numbers.max() > 10**6:
        raise UserError(
            f"{_told(path, name)} must be class numbers from 0, -1 for none; got {numbers.min()} to {numbers.max()}"
        )
    names = stored.classes if len(stored.classes) > numbers.max() else map(str, range(int(numbers.max()) + 1))
    return numbers, tuple(names)


def _told(path: Path, name: str) -> str:
    return f"{shown(path.name)}{': ' if name else ''}{shown(name)}"
