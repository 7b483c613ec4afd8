"""The user's own recordings: signals (recording, channel, time) or images, out of an HDF5, MATLAB or NumPy file."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base import array_axes
from cnnprobe.datasets.base.array_axes import Recordings
from cnnprobe.datasets.base.array_cells import CHANNELS, TRIALS, count_said, joined
from cnnprobe.datasets.base.fitting import as_float, resized
from cnnprobe.datasets.base.image_files import changed
from cnnprobe.datasets.base.imageset import ImageSet, sha256, shown
from cnnprobe.datasets.base.labels.array_courses import Courses
from cnnprobe.datasets.base.labels.array_labels import (
    Labels,
    count_of,
    labels_at,
    labels_of,
    others,
    recording_names,
    several_of,
)
from cnnprobe.datasets.base.targets import Present, Target
from cnnprobe.datasets.base.value_ranges import MEASURED, must_survive_rounding, whole_of
from cnnprobe.errors import UserError, listing, path_of
from cnnprobe.machine import files
from cnnprobe.store.containers.beside import channels_of, names_of, rate_of, times_of
from cnnprobe.store.containers.opening import opened
from cnnprobe.store.containers.stored import Container, Stored, told

HELD_OUT = 5  # every fifth recording is held out of the training
KINDS = ("npy", "npz", "hdf5", "MATLAB 7.3", "MATLAB 5")
LOOKED_AT = 64  # recordings by which the range of values is found
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile)
SECONDS = {"s": 1.0, "ms": 1e-3}

log = logging.getLogger("cnnprobe")


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
    axes: list[str] | None = None,
    channels: Annotated[int, Range(1)] | None = None,
    courses: str | None = None,
    target: Literal["class", "present"] | None = None,
) -> "Arrays":
    """Return the dataset.

    Args:
        root: the file: HDF5, MATLAB, .npy or .npz, known by its content.
        data: name of the array in it; None: the only one of three or four axes.
        labels: name of what says the class of each recording; None: "labels", "y" or the like beside the data.
        rate: samples per second of signals, Hz; None: as the file says (`containers.beside.rate_of`), or its times.
        split: every fifth recording is the test split; None: all.
        size: samples of a signal: longer ones are cut to their middle; side of images, px; None: as they are.
        resize: shorter side of images before the centre crop, px.
        scale: values are multiplied by it, e.g. 1e6 for volts as microvolts; bytes become 0 to 1 before.
        strict: a recording that holds NaN or infinite values ends the run instead of being skipped.
        axes: what each axis is, in the order in which the program that wrote the file shows them: recording, channel,
            time, y, x, or _ for one of length 1; None: see `array_axes`.
        channels: that the network takes; None: not known.
        courses: name of an array (recording, channel, time) that a network is to answer.
        target: what a network is to answer without courses: one class, or several (present); None: several where labels
            are columns of 0 and 1 with more than one 1 in a row, else one.

    Raises:
        UserError: there is no such file or array, it is no array of plain numbers that is all there, or what its axes
            or its labels are is left open.
    """
    if root is None:
        raise UserError("dataset=arrays needs dataset.root=FILE (HDF5, MATLAB, .npy or .npz)")
    path = path_of(root)
    found = opened(path)
    if found.kind not in KINDS:
        raise UserError(f"{shown(path.name)} is a {found.kind} file; dataset=arrays reads HDF5, MATLAB, .npy and .npz")
    joined(found)
    name = _chosen(found, data, len(axes) if axes else None, courses)
    at = labels_at(found, name, labels)
    names = channels_of(found, name) or _channels_by_label(found, name)
    if courses and found.arrays[name].ndim == 4:  # names, times and rate beside images are those of the courses
        names = times = rate = None
    times = times_of(found, name)
    rate = rate or rate_of(found, name) or _rate_by(times, found.arrays[name].shape)
    if not rate and times and (perhaps := _rate_by((times[0], "s"), found.arrays[name].shape)) and times[1] != "index":
        log.warning("%s: its times have no unit that is known (s or ms), so its samples per second are not: say "
                    "dataset.rate, %g if they are seconds", shown(path.name), perhaps)  # fmt: skip
    recordings = _recordings(found, name, axes, at, names, rate, channels)
    count = len(recordings)
    beside = Courses(found, courses, count) if courses else None
    several = None if courses else several_of(found, at, count, target)
    classes: Labels = np.full(count, -1), several[1] if several else (), []
    if several:
        present = Present(np.argwhere(several[0]).T, len(several[1]))
        classes = present.alone(count), several[1], []
    elif at:
        classes = labels_of(found, at, count)
    for note in (*classes[2], *_left_out(found, name, at, count)):
        log.warning("%s", note)
    fitting: dict[str, Any] = {"size": size, "resize": resize, "channels": channels, "scale": scale, "strict": strict}
    called = recording_names(found, name, len(recordings))
    names = names if names and len(names) == recordings.shape[0] else None
    images = Arrays(recordings, classes, path, names=called, channel_names=names, rate=rate, split=split, **fitting)
    images.courses = beside
    images.present = Present(np.argwhere(several[0][images.rows]).T, len(several[1])) if several else None
    return images


def _recordings(
    found: Container,
    name: str,
    asked: list[str] | None,
    labels: tuple[str, Stored | list[str]] | None,
    names: list[str] | None,
    rate: float | None,
    channels: int | None,
) -> Recordings:
    """Return an array of a file with its axes; a note names them where they are not in the documented order."""
    array, what = found.arrays[name], told(found.path, name)
    array.tell()
    if asked:
        axes, documented = array_axes.named(asked, array.shape, what), False
    else:
        times = times_of(found, name)
        known = array_axes.Evidence(
            rows=count_of(labels[1], array.shape) if labels else count_said(found, name, TRIALS),
            channels=len(names) if names and len(names) in array.shape else count_said(found, name, CHANNELS),
            times=len(times[0]) if times and len(times[0]) in array.shape else None,
            signals=bool(rate or times or names),
            bytes=array.dtype in (np.uint8, np.uint16),
            last=found.kind.startswith("MATLAB"),
            needed=channels,
        )
        axes, documented = array_axes.axes_of(array.shape, array.axes, known, what)
    level = logging.INFO if documented else logging.WARNING
    log.log(level, "%s %s is taken as (%s)", what, array_axes.told(array.shape), ", ".join(axes))
    return Recordings(array, axes, what)


class Arrays(ImageSet):
    """Recordings of one array, read from the file whenever they are loaded.

    Args:
        array: its recordings.
        labels: of all of them, and the classes.
        path: of the file.
        names: of the recordings; None: the file's name with a number.
        channels: that the network takes; grey images are given to all three of a network for colours.
        channel_names: of the channels, or None.
        rate, split, size, resize, scale, strict: see `build`.
    """

    source_size: tuple[int, ...]
    courses: Courses | None = None

    def __init__(
        self,
        array: Recordings,
        labels: Labels,
        path: Path,
        *,
        rate: float | None,
        split: str | None,
        size: int | None,
        resize: int | None,
        scale: float,
        strict: bool,
        names: list[str] | None,
        channels: int | None,
        channel_names: list[str] | None,
    ):
        every = np.arange(len(array))
        self.rows = every if split is None else every[(every % HELD_OUT == HELD_OUT - 1) == (split == "test")]
        if not len(self.rows):
            raise UserError(f"{shown(path.name)} has {len(array)} recordings, too few to hold one in {HELD_OUT} out")
        self.path, self.array, self.scale, self.rate = path, array, scale, rate
        self.flat = array.flat
        self.grey = not self.flat and array.shape[0] == 1 and channels == 3
        length = array.shape[-1]
        if self.flat and size is not None and size > length:
            raise UserError(f"recordings of {shown(path.name)} have {length} samples, asked for dataset.size={size}")
        entered = (size or length,) if self.flat else (size or array.shape[-2], size or length)
        source = (3 if self.grey else array.shape[0], *array.shape[1:])
        super().__init__(
            name="arrays",
            names=[names[row] if names else f"{shown(path.name)}/{row:06d}" for row in self.rows],
            labels=labels[0][self.rows],
            classes=labels[1],
            size=(source[0], *entered),
            resize=resize,
            source_size=source,
            strict=strict,
        )
        self.whole = 1.0 if self.flat else self._whole()
        if not np.can_cast(array.array.dtype, np.float32):
            scaled = (values * scale / self.whole for values in self._some(MEASURED))
            must_survive_rounding(scaled, array.what)
        self.channel_names = channel_names
        self.about = {"array": array.what, "axes_of_array": " ".join(array.axes), "divided_by": self.whole}
        self.about |= {"unpacked": array.array.note} if array.array.note else {}
        self.about |= {"channel_names": json.dumps(channel_names, ensure_ascii=False)} if channel_names else {}
        if self.flat and size is not None and size < length:
            self.remarks["cut"] = f"recordings of {length} samples are cut to the {size} in their middle (dataset.size)"

    def _whole(self) -> float:
        """Return what the values of images are divided by to be 0 to 1: 255 for bytes of any type but masks; 1 else."""
        kind = self.array.array.dtype
        if kind == np.uint8:
            low, high = 0.0, self._range()[1]
            high = self._range(len(self.array))[1] if high == 1 else high
        elif kind.kind == "b" or self.scale != 1:
            return 1.0
        else:
            low, high = self._range()
        return whole_of(kind, low, high, self.array.what, "dataset.scale says otherwise")

    def _some(self, count: int) -> Iterator[np.ndarray]:
        """Give the values of so many recordings, float64, as far as they can be read."""
        for row in np.unique(np.linspace(0, len(self.array) - 1, count).astype(int)):
            with suppress(*DAMAGED):
                yield np.asarray(self.array.read(int(row)), np.float64)

    def _range(self, count: int = LOOKED_AT) -> tuple[float, float]:
        """Return the least and the largest value of so many recordings; (0, 0) where none can be read."""
        ends = []
        for values in self._some(count):
            values = values[np.isfinite(values)]
            ends += [values.min(), values.max()] if values.size else []
        return (min(ends), max(ends)) if ends else (0.0, 0.0)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the file's content, and of what is made of it."""
        self._state = files.state_of(self.path)
        return self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while piece := file.read(2**22):
                digest.update(piece)
        made = (self.about, self.size, self.resize, self.scale, self.rows.tolist(), self.labels.tolist())
        return sha256("arrays", digest.digest(), repr(made))

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of the whole and of which recordings."""
        chosen = [int(index) for index in indices]
        whole = chosen == list(range(len(self)))
        return self.fingerprint if whole else sha256(self.fingerprint, *map(str, chosen))

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Read recordings; those with values that are not finite cannot be read.

        Raises:
            UserError: the file is another one than when its fingerprint was taken.
        """
        values = np.zeros((len(indices), *self.source_size), np.float32)
        readable = np.zeros(len(indices), bool)
        for place, index in enumerate(indices):
            found = self._row(int(index))
            if found is not None:
                values[place], readable[place] = found, True
        self._must_be_as_before()
        return torch.from_numpy(values), readable

    @property
    def target(self) -> Target:
        """The courses, if there are any."""
        return super().target if self.courses is None else self.courses.target

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Read courses; those with values that are not finite are not known."""
        if self.courses is None:
            return super().targets(indices)
        values, reasons = self.courses.of([int(self.rows[index]) for index in indices])
        for index, reason in zip(indices, reasons):
            if reason:
                self.unreadable(int(index), reason)
        self._must_be_as_before()
        return values, np.array([not reason for reason in reasons], bool)

    def targets_digest(self) -> str | None:
        """sha256 (hex) of the file's content, and of which array the courses are."""
        return super().targets_digest() if self.courses is None else sha256(self.fingerprint, self.courses.name)

    def _must_be_as_before(self) -> None:
        """Refuse a file that is another one than when its fingerprint was taken."""
        state = files.state_of(self.path)
        if "fingerprint" in vars(self) and state not in (files.GONE, self._state):  # written or touched since then
            if self._fingerprint() != self.fingerprint:
                raise changed(self.path.name)
            self._state = state

    def _row(self, index: int) -> np.ndarray | None:
        try:
            row = self.array.read(int(self.rows[index]))
        except DAMAGED as error:
            self.unreadable(index, f"damaged: {' '.join(str(error).split())[:60]}")
            return None
        with np.errstate(over="ignore"):
            values = self._scaled(row)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            large = np.isfinite(row).all()
            self.unreadable(index, f"{bad} values are {'larger than float32 holds' if large else 'not finite'}")
            return None
        top = 0.0 if self.flat else float(values.max())
        if top > 1 + 1e-3:
            self.remarks.setdefault("range", f"{self.names[index]} holds values up to {top:.4g}, beyond 1")
        return values

    def _scaled(self, row: np.ndarray) -> np.ndarray:
        """Return values as they are shown, float32, in which alone nothing is computed that it does not hold."""
        if self.scale == 1 and (self.whole == 1 or np.can_cast(row.dtype, np.float32)):
            values = np.asarray(row, np.float32)
            return values / np.float32(self.whole) if self.whole != 1 else values
        return (np.asarray(row, np.float64) * self.scale / self.whole).astype(np.float32)

    def fit(self, images: Tensor) -> Tensor:
        """Cut signals to their middle; scale and crop images."""
        if tuple(images.shape[1:]) == self.size:
            return images
        if not self.flat:
            return resized(as_float(images), self.size[-2:], self.resize)
        start = (images.shape[-1] - self.size[-1]) // 2
        return images[..., start : start + self.size[-1]].contiguous()


def _chosen(found: Container, data: str | None, axes: int | None, courses: str | None) -> str:
    """Return the name of the array that holds the recordings; `axes`: how many it has, where that was said.

    The array of the `courses` is another one.
    """
    needed = (axes,) if axes else (3, 4)
    file = shown(found.path.name)
    there = found.arrays if data is None else found.named(data)
    other = found.named(courses) if courses and data is None else {}
    fitting = [name for name, array in there.items() if array.ndim in needed and name not in other]
    if data is not None and len(there) == 1:
        return next(iter(there))
    if len(fitting) != 1:
        which = "several arrays" if fitting else "no array"
        of = f"{axes} axes, as dataset.axes has" if axes else "three or four axes"
        raise UserError(f"{file} has {which} of {of}; dataset.data names one; arrays: {found.contents()}")
    return fitting[0]


def _channels_by_label(found: Container, name: str) -> list[str] | None:
    """Return the names of channels that are called `label`, as in FieldTrip: all different, as many as a side."""
    at = names_of(found, name, ("label", "labels"))
    names = at[1] if at else []
    return names if len(set(names)) == len(names) > 2 and len(names) in found.arrays[name].shape else None


def _rate_by(times: tuple[np.ndarray, str] | None, shape: Sequence[int]) -> float | None:
    """Return samples per second as the times of an array say, Hz; None where they do not."""
    if times is None or times[1] not in SECONDS or len(times[0]) < 2 or len(times[0]) not in shape:
        return None
    steps = np.diff(times[0]) * SECONDS[times[1]]
    step = float(np.median(steps))
    return 1 / step if step > 0 and np.abs(steps - step).max() <= 0.01 * step else None


def _left_out(found: Container, name: str, at: tuple | None, count: int) -> list[str]:
    """Say what of a file was passed over, and what could have been labels where none were found."""
    file = shown(found.path.name)
    notes = []
    if found.passed:
        words = listing((f"{one} {reason}" for one, reason in found.passed.items()), 4)
        notes.append(f"{file}: passed over: {shown(words)}")
    could = "" if at else others(found, name, count)
    if could:
        notes.append(f"{file} has no labels of a known name (labels, y, …); dataset.labels names them, perhaps {could}")
    return notes
