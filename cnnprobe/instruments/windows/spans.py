"""Spans along one axis: which positions of a result read a stretch of what it is made from, and what they read.

A stretch is first … stop - 1; it is empty where first >= stop. Stretches are arrays, one entry per occluder.
"""

from dataclasses import dataclass

import numpy as np

Stretch = tuple[np.ndarray, np.ndarray]
"""(first, stop) per occluder."""


@dataclass(frozen=True)
class Slide:
    """A window of `kernel` taps, `dilation` apart, that moves by `stride` over a map padded by `before`.

    Args:
        length: positions that are read.
        into: positions of the result.
    """

    kernel: int
    stride: int
    before: int
    dilation: int
    length: int
    into: int

    @property
    def span(self) -> int:
        """Return from the first to the last tap."""
        return (self.kernel - 1) * self.dilation + 1

    def forward(self, first: np.ndarray, stop: np.ndarray) -> Stretch:
        """Return the results that read any of first … stop - 1."""
        low = -((self.span - 1 - self.before - first) // self.stride)  # the quotient rounded up
        high = (stop - 1 + self.before) // self.stride + 1
        return _clipped(low, np.where(stop > first, high, low), 0, self.into)

    def back(self, first: int, stop: int) -> tuple[int, int]:
        """Return what the results first … stop - 1 read, as far as it is on the map."""
        if stop <= first:
            return 0, 0
        low, high = first * self.stride - self.before, (stop - 1) * self.stride - self.before + self.span
        low, high = max(low, 0), min(high, self.length)
        return (low, high) if low < high else (0, 0)


@dataclass(frozen=True)
class Lookup:
    """Result u is the position `source[u]` of what is read; -1: a constant."""

    source: np.ndarray

    def forward(self, first: np.ndarray, stop: np.ndarray) -> Stretch:
        """Return the results from the first to the last that reads any of first … stop - 1."""
        hit = (self.source >= first[:, None]) & (self.source < stop[:, None])  # (occluder, result)
        low, high = hit.argmax(1), hit.shape[1] - hit[:, ::-1].argmax(1)
        return low, np.where(hit.any(1), high, low)

    def back(self, first: int, stop: int) -> tuple[int, int]:
        """Return what the results first … stop - 1 read."""
        read = self.source[first:stop]
        read = read[read >= 0]
        return (int(read.min()), int(read.max()) + 1) if len(read) else (0, 0)


Reach = Slide | Lookup


def same(length: int) -> Slide:
    """Return the reach of a function that acts position by position."""
    return Slide(1, 1, 0, 1, length, length)


def _clipped(low: np.ndarray, high: np.ndarray, least: int, most: int) -> Stretch:
    low, high = np.clip(low, least, most), np.clip(high, least, most)
    return low, np.maximum(low, high)


def meeting(stretch: Stretch, need: tuple[int, int]) -> Stretch:
    """Return the part of stretches that is needed."""
    return _clipped(*stretch, *need)


def hull(stretches: list[Stretch]) -> Stretch:
    """Return the smallest stretches that hold all of several; empty ones hold nothing."""
    empty = [stop <= first for first, stop in stretches]
    firsts = [np.where(none, np.iinfo(np.int64).max, first) for none, (first, _) in zip(empty, stretches)]
    stops = [np.where(none, -1, stop) for none, (_, stop) in zip(empty, stretches)]
    first, stop = np.minimum.reduce(firsts), np.maximum.reduce(stops)
    none = np.logical_and.reduce(empty)
    return np.where(none, 0, first), np.where(none, 0, stop)
