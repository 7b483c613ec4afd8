"""The axes of a user's array: which one is the recording, which the channel, which time, y and x.

They are what was requested, else what the file says, else what follows from what stands beside the array (as many
labels as recordings, as many names as channels, as many times as samples) and from what an image looks like (1, 3 or 4
channels), else in the documented order. Where two orders fit, none is chosen.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnprobe.datasets.base.decoding import LARGEST_IMAGE
from cnnprobe.errors import UserError, listing
from cnnprobe.store.containers.stored import Stored

ROW, CHANNEL, TIME, Y, X, NONE = "recording", "channel", "time", "y", "x", "_"
WORDS = {
    ROW: ("recording", "trial", "epoch", "image", "picture", "stimulus", "row", "item", "observation", "case", "n"),
    CHANNEL: ("channel", "chan", "ch", "electrode", "sensor", "colour", "color", "rgb", "c"),
    TIME: ("time", "timepoint", "time_point", "sample", "latency", "t"),
    Y: ("y", "height", "h"),
    X: ("x", "width", "w"),
    NONE: ("_", "1", "none", "singleton"),
}
KNOWN = {word: axis for axis, words in WORDS.items() for word in (*words, *(f"{one}s" for one in words))}
KNOWN |= {"stimuli": ROW, "latencies": TIME}
SIGNALS, IMAGES = (ROW, CHANNEL, TIME), (ROW, CHANNEL, Y, X)
COLOURS = (1, 3, 4)
"""Channels that an image has."""
SIGNAL_ORDERS = [*itertools.permutations(SIGNALS)]
IMAGE_ORDERS = [IMAGES, (ROW, Y, X, CHANNEL), (Y, X, CHANNEL, ROW)]
SELDOM = [(CHANNEL, Y, X, ROW), (CHANNEL, ROW, Y, X)]
GREY_ORDERS = [(ROW, Y, X), (Y, X, ROW)]
"""Orders that are thought of, the documented one first; the seldom ones only where none of the others fits."""


@dataclass(frozen=True)
class Evidence:
    """What is known beside the shape.

    Args:
        rows: how many labels or names of recordings there are; None: not known, and so on.
        channels: how many names of channels.
        times: how many times.
        signals: the array holds signals since there is a rate or there are times.
        bytes: its values are bytes, as those of images.
        last: the program that wrote it puts recordings last (MATLAB).
        needed: channels that the network takes.
    """

    rows: int | None = None
    channels: int | None = None
    times: int | None = None
    signals: bool = False
    bytes: bool = False
    last: bool = False
    needed: int | None = None


def named(words: Sequence[str], shape: Sequence[int], what: str) -> tuple[str, ...]:
    """Return the axes that words name.

    Raises:
        UserError: one is not known or there twice, there are more or fewer than axes, or none is the recording.
    """
    axes = tuple(KNOWN.get(word.strip().casefold(), "") for word in words)
    if "" in axes:
        word = words[axes.index("")]
        raise UserError(f"dataset.axes must be of recording, channel, time, y, x and _ (length 1), got {word!r}")
    if len(axes) != len(shape):
        raise UserError(f"dataset.axes names {len(axes)} axes, {what} has the shape {told(shape)}")
    inner = [axis for axis in axes if axis != NONE]
    if len(set(inner)) < len(inner):
        raise UserError(f"dataset.axes names an axis twice: {listing(words)}")
    signal = set(inner) | {CHANNEL} == {ROW, CHANNEL, TIME}
    if not signal and set(inner) | {CHANNEL} != {ROW, CHANNEL, Y, X}:
        raise UserError(
            f"dataset.axes must name recording, channel and time, or recording, channel, y and x (a channel may be "
            f"missing), got {listing(words)}"
        )
    wrong = next((side for side, axis in zip(shape, axes) if axis == NONE and side != 1), None)
    if wrong is not None:
        raise UserError(f"dataset.axes: an axis called _ has the length {wrong}, in {what} {told(shape)}")
    return axes


def axes_of(shape: Sequence[int], said: Sequence[str], known: Evidence, what: str) -> tuple[tuple[str, ...], bool]:
    """Return the axes of an array, and whether they are as documented.

    Args:
        shape: of the array.
        said: what the file says of each axis; () where nothing.
        known: what stands beside it.
        what: the array, for people.

    Raises:
        UserError: several orders fit, or none does.
    """
    spoken = tuple(KNOWN.get(word.casefold(), "") for word in said)
    if spoken and "" not in spoken:
        try:
            return (axes := named(said, shape, what)), axes in (SIGNALS, IMAGES)
        except UserError:
            pass
    if len(shape) == 4 and known.signals and 1 in shape:  # as networks take them: (recording, 1, channel, time)
        place = tuple(shape).index(1, 1) if 1 in shape[1:] else 0
        inner, _ = axes_of([*shape[:place], *shape[place + 1 :]], (), known, what)
        return (*inner[:place], NONE, *inner[place:]), False
    grey = len(shape) == 3 and known.bytes and not known.signals
    orders = {3: GREY_ORDERS if grey else SIGNAL_ORDERS, 4: IMAGE_ORDERS}.get(len(shape), [])
    fitting = [axes for axes in orders if _fits(axes, shape, known)]
    if len(shape) == 4 and not fitting:
        fitting = [axes for axes in SELDOM if _fits(axes, shape, known)]
    if not fitting or (grey and shape[-1] in COLOURS and known.rows is None):  # (y, x, 3) is one picture
        raise UserError(
            f"{what} has the shape {told(shape)}; needed are signals (recording, channel, time) or images (image, "
            f"channel, y, x){_beside(known)}; dataset.axes=[...] says what its axes are"
        )
    if TIME in orders[0] and orders[0] in fitting:
        _must_suit(orders[0], shape, known, what)
        return orders[0], True
    if len(fitting) > 1 and known.needed:
        suiting = [axes for axes in fitting if CHANNEL in axes and shape[axes.index(CHANNEL)] == known.needed]
        fitting = suiting if len(suiting) == 1 else fitting
    if TIME in orders[0] and known.rows is None and not known.last:  # recordings come first, as documented
        fitting = [axes for axes in fitting if axes[0] == ROW] or fitting
    if len(fitting) > 1:
        raise _open(fitting, shape, what)
    return fitting[0], fitting[0] == IMAGES


def _fits(axes: Sequence[str], shape: Sequence[int], known: Evidence) -> bool:
    """Tell whether an order agrees with what is known."""
    side = dict(zip(axes, shape))
    if known.rows is not None and side[ROW] != known.rows:
        return False
    if TIME in axes:
        if known.channels is not None and side[CHANNEL] != known.channels:
            return False
        return known.times is None or side[TIME] == known.times
    if CHANNEL in axes and any(length in COLOURS for length in shape):
        return side[CHANNEL] in COLOURS
    return axes in (IMAGES, (ROW, Y, X)) or known.last or known.rows is not None


def _must_suit(axes: Sequence[str], shape: Sequence[int], known: Evidence, what: str) -> None:
    """Refuse signals in the documented order where the network's channels say another one."""
    if TIME not in axes or known.needed is None or known.channels is not None:
        return
    side = dict(zip(axes, shape))
    if side[CHANNEL] != known.needed and known.needed in shape:
        raise UserError(
            f"{what} {told(shape)} is read as (recording, channel, time): {side[CHANNEL]} channels of {side[TIME]} "
            f"samples, but the network takes {known.needed} channels; dataset.axes=[recording,time,channel] or another "
            "order says what its axes are"
        )


def _open(fitting: Sequence[Sequence[str]], shape: Sequence[int], what: str) -> UserError:
    orders = " or ".join(f"({', '.join(axes)})" for axes in fitting[:3])
    example = ",".join(fitting[0])
    return UserError(f"{what} {told(shape)} could be {orders}; dataset.axes=[{example}] or another order decides")


def _beside(known: Evidence) -> str:
    """Say what stands beside an array that no order fits."""
    counts = {"labels or names": known.rows, "names of channels": known.channels, "times": known.times}
    words = [f"{count} {name}" for name, count in counts.items() if count is not None]
    return f"; beside it are {listing(words)}" if words else ""


def told(shape: Sequence[int]) -> str:
    """Return a shape for people: "(40, 4, 500)"."""
    return f"({', '.join(map(str, shape))})"


class Recordings:
    """An array whose axes are known, read one recording at a time.

    Args:
        array: in a file.
        axes: what each of its axes is.
        what: file and array, for people.

    Raises:
        UserError: images have more px than a file of an image may have.
    """

    def __init__(self, array: Stored, axes: Sequence[str], what: str):
        self.array, self.axes, self.what = array, tuple(axes), what
        self.flat = TIME in axes
        self.row = self.axes.index(ROW)
        order = (CHANNEL, TIME) if self.flat else (CHANNEL, Y, X)
        inner = [axis for axis in self.axes if axis not in (ROW, NONE)]
        self.order = [inner.index(axis) for axis in order if axis in inner]
        side = dict(zip(self.axes, array.shape))
        self.shape = tuple(side.get(axis, 1) for axis in order)
        pixels = self.shape[1] * self.shape[2] if not self.flat else 0
        if pixels > LARGEST_IMAGE:
            counts = f"{pixels // 10**6} million pixels; limit {LARGEST_IMAGE // 10**6}"
            raise UserError(f"{what}: its images are too large ({counts})")

    def __len__(self) -> int:
        return self.array.shape[self.row]

    def read(self, place: int) -> np.ndarray:
        """Return one recording, (channel, time) or (channel, y, x)."""
        values = self.array.read(place, self.row)
        empty = [axis for axis in self.axes if axis != ROW]
        values = values.reshape([side for side, axis in zip(values.shape, empty) if axis != NONE])
        return values.transpose(self.order).reshape(self.shape)
