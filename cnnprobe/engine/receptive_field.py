"""Theoretical receptive fields: the pixels that can act on a unit (Araujo, Norris, Sim 2019, Distill).

Along each axis of the image, the field of position u of a map is the interval from start + u stride, `size` px long:
[u S - P, u S - P + r - 1] in the paper, start = -P. `field_rules.geometries` computes it for every tensor of a pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

BATCH, CHANNEL = "image", "channel"
Role = str | int | None


@dataclass(frozen=True)
class Span:
    """The field along one axis of the image: first pixel of position 0, size, step per position, in px."""

    start: float
    size: float
    stride: float

    def region(self, position: float) -> tuple[float, float]:
        """Return the first and the last pixel of the field at `position`."""
        first = self.start + position * self.stride
        return first, first + self.size - 1


@dataclass(frozen=True)
class Field:
    """The theoretical field of a layer's units, per axis of the image (y, x; or time); px of the input.

    Args:
        size: side of the field; it may reach beyond the image, into the padding.
        stride: step of the field from one position to the next; 0 where every position sees the same pixels.
        start: first pixel of the field of position 0; negative where it begins in the padding.
        aligned: all paths from the image share stride and centre; if not, `size` is the largest over positions.
        along: by axis of the image, the axis of the map that runs along it, None where none does; () where they are the
            same axes in the same order. Of a map (z, y, x) on an image (y, x) it is (1, 2).

    Example:
        conv5 of AlexNet after its rectifier: size (163, 163), stride (16, 16), start (-66, -66).
    """

    size: tuple[float, ...]
    stride: tuple[float, ...]
    start: tuple[float, ...]
    aligned: bool = True
    along: tuple[int | None, ...] = ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """The same, axis by axis."""
        return tuple(map(Span, self.start, self.size, self.stride))

    @property
    def whole(self) -> bool:
        """True where every position sees the same pixels: all of the image, as a rule."""
        return not any(self.stride)

    def region(self, position: Sequence[float]) -> tuple[tuple[float, float], ...]:
        """Return (first, last) pixel per axis at a position of the map (y, x), not clipped to the image.

        A dense unit has no position: () or anything else of another length stands for the only one there is.
        """
        if self.along:
            position = [position[axis] if axis is not None and axis < len(position) else 0 for axis in self.along]
        elif len(position) != len(self.size):
            position = (0,) * len(self.size)
        return tuple(span.region(u) for span, u in zip(self.spans, position))

    def centre(self, position: Sequence[float]) -> tuple[float, ...]:
        """Return the middle of the field per axis, in px (the middle of pixel 0 is 0)."""
        return tuple((first + last) / 2 for first, last in self.region(position))


@dataclass(frozen=True)
class Geometry:
    """What is known of a traced tensor.

    Args:
        roles: by axis of the tensor: BATCH, CHANNEL, the number of an axis of the image, or None (mixed).
        spans: by axis of the image: the field of its positions.
        sides: of the image, px.
        aligned: see `Field`.
    """

    roles: tuple[Role, ...]
    spans: tuple[Span, ...]
    sides: tuple[int, ...]
    aligned: bool = True

    @property
    def field(self) -> Field:
        """The field of its positions."""
        columns = zip(*((span.size, span.stride, span.start) for span in self.spans))
        return Field(*(tuple(_plain(number) for number in column) for column in columns), self.aligned)

    @property
    def channel_axis(self) -> int:
        """The axis of the units; where channels are mixed with something, the axis they went into."""
        if CHANNEL in self.roles:
            return self.roles.index(CHANNEL)
        mixed = [axis for axis, role in enumerate(self.roles) if role is None and axis]
        return mixed[-1] if mixed else min(1, len(self.roles) - 1)

    def spatial(self) -> dict[int, int]:
        """Return by axis of the tensor the axis of the image it runs along."""
        return {axis: role for axis, role in enumerate(self.roles) if isinstance(role, int)}

    def with_spans(self, spans: dict[int, Span], aligned: bool = True) -> "Geometry":
        """Return it with the spans of some axes of the image replaced."""
        new = tuple(spans.get(axis, span) for axis, span in enumerate(self.spans))
        return replace(self, spans=new, aligned=self.aligned and aligned)

    def whole(self, axes: Sequence[int] | None = None) -> "Geometry":
        """Return it seeing the whole image along `axes` (default: all)."""
        return self.with_spans({axis: self.all_of(axis) for axis in (range(len(self.sides)) if axes is None else axes)})

    def all_of(self, axis: int) -> Span:
        """Return the span that is the whole image along an axis."""
        return Span(0, self.sides[axis], 0)


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else float(number)


def envelope(first: np.ndarray, last: np.ndarray, stride: float) -> tuple[Span, bool]:
    """Return the smallest span of this stride that holds pixels first[u] to last[u] for every position u.

    The second value says whether it is exact: the same interval relative to every u stride.
    """
    shift = np.arange(len(first)) * stride
    starts, ends = first - shift, last - shift
    exact = bool(np.ptp(starts) == 0 and np.ptp(ends) == 0)
    return Span(starts.min(), ends.max() - starts.min() + 1, stride), exact


def gathered(span: Span, first: np.ndarray, last: np.ndarray, stride: float) -> tuple[Span, bool]:
    """Return the span of positions that read the positions first[u] to last[u] of a map with `span`.

    Args:
        span: of the map that is read.
        first, last: by new position, in positions of that map.
        stride: of the new positions, in positions of that map.
    """
    low, high = span.start + first * span.stride, span.start + last * span.stride
    low, high = np.minimum(low, high), np.maximum(low, high)
    return envelope(low, high + span.size - 1, stride * span.stride)


def union(spans: Sequence[Span], length: int, whole: Span) -> tuple[Span, bool]:
    """Return the span of a map of `length` positions whose every position reads that position of several maps.

    The second value says whether they are aligned: the same stride and the same centres.
    """
    if len(set(spans)) == 1:
        return spans[0], True
    strides = {span.stride for span in spans}
    if 0 in strides and len(strides) > 1:  # a global gate on a local map
        return whole, True
    regions = [np.array([span.region(u) for u in range(length)]) for span in spans]
    low, high = np.min([r[:, 0] for r in regions], axis=0), np.max([r[:, 1] for r in regions], axis=0)
    centres = {(span.stride, sum(span.region(0))) for span in spans}
    return envelope(low, high, max(strides))[0], len(centres) == 1
