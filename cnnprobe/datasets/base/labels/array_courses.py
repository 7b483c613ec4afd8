"""Courses beside an array of recordings or images: (recording, channel, time) that a network is to answer."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base import array_axes
from cnnprobe.datasets.base.array_axes import CHANNEL, ROW, TIME, Recordings
from cnnprobe.datasets.base.targets import Target
from cnnprobe.errors import UserError
from cnnprobe.store.containers.beside import channels_of
from cnnprobe.store.containers.stored import Container, told


class Courses:
    """The courses of recordings, read from the file one at a time.

    Args:
        found: the file.
        name: of the array in it.
        count: how many recordings there are.

    Raises:
        UserError: there is no such array, or it is none of courses, one for each recording.
    """

    def __init__(self, found: Container, name: str, count: int):
        (self.name,) = list(found.named(name))[:1]
        self.array = found.arrays[self.name]
        shape, names = self.array.shape, channels_of(found, self.name)
        self.what = told(found.path, self.name)
        axes = self._axes(count, len(names) if names and len(names) in shape else None, found.kind)
        if axes is None or self.array.dtype.kind not in "iufb":
            raise UserError(
                f"dataset.courses={name}: {self.what} is {array_axes.told(shape)} of {self.array.dtype}, not "
                f"numbers (recording, channel, time) of the {count} recordings"
            )
        self.recordings = Recordings(self.array, axes, self.what)
        channels, time = self.recordings.shape
        named = names if names and len(names) == channels else list(map(str, range(channels)))
        self.target = Target("course", tuple(named), (channels, time))

    def _axes(self, count: int, channels: int | None, kind: str) -> Sequence[str] | None:
        """Return what each axis is: as the file says, else recordings first, or as in MATLAB last; None: neither."""
        shape, orders = self.array.shape, [(ROW, CHANNEL, TIME), (CHANNEL, TIME, ROW)]
        if len(shape) != 3:
            return None
        if self.array.axes:
            known = array_axes.Evidence(rows=count, channels=channels, signals=True)
            with suppress(UserError):
                return array_axes.axes_of(shape, self.array.axes, known, self.what)[0]
        for axes in reversed(orders) if kind.startswith("MATLAB") else orders:
            side = dict(zip(axes, shape))
            if side[ROW] == count and side[CHANNEL] == (channels or side[CHANNEL]):
                return axes
        return None

    def read(self, row: int) -> np.ndarray:
        """Return one course, (channel, time) float32; values that it cannot hold are infinite."""
        with np.errstate(over="ignore"):
            return self.recordings.read(row).astype(np.float32)

    def of(self, rows: Sequence[int]) -> tuple[Tensor, list[str]]:
        """Return courses (recording, channel, time), and of each why it is not known, "" where it is."""
        values, reasons = np.zeros((len(rows), *self.target.size), np.float32), [""] * len(rows)
        for place, row in enumerate(rows):
            try:
                own = self.read(row)
            except (OSError, ValueError, EOFError) as error:
                reasons[place] = f"its course is damaged: {' '.join(str(error).split())[:60]}"
                continue
            bad = int((~np.isfinite(own)).sum())
            reasons[place] = f"{bad} values of its course are not finite" if bad else ""
            values[place] = 0 if bad else own
        return torch.from_numpy(values), reasons
