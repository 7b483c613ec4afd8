"""Theoretical receptive fields: the pixels that can act on a unit (Araujo, Norris, Sim 2019, Distill).

Along each axis of the image, the field of position u of a map is the interval from start + u stride, `size` px long:
[u S - P, u S - P + r - 1] in the paper, start = -P. `fields.rules.geometries` computes it for every tensor of a pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

BATCH, CHANNEL = "image", "channel"
Role = str | int | None
Position = TypeVar("Position", float, np.ndarray)


@dataclass(frozen=True)
class Span:
    """The field along one axis of the image: first pixel of position 0, size, step per position, in px.

    The step is negative where positions run against the image (a flipped map).
    """

    start: float
    size: float
    stride: float

    def region(self, position: Position) -> tuple[Position, Position]:
        """Return the first and the last pixel of the field at `position`."""
        first = self.start + position * self.stride
        return first, first + self.size - 1

    @property
    def fixed(self) -> "Span":
        """The span of a map of one position that is read from every position."""
        return replace(self, stride=0)


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

        A dense unit has no position: () stands for the only one there is.
        """
        places = self.along or (range(len(self.size)) if len(position) == len(self.size) else [None] * len(self.size))
        at = [position[axis] if axis is not None and axis < len(position) else 0 for axis in places]
        return tuple(span.region(u) for span, u in zip(self.spans, at))

    def centre(self, position: Sequence[float]) -> tuple[float, ...]:
        """Return the middle of the field per axis, in px (the middle of pixel 0 is 0)."""
        return tuple((first + last) / 2 for first, last in self.region(position))


def whole_image(sides: Sequence[int]) -> Field:
    """Return the field of units that see all of an image."""
    return Field(tuple(sides), (0,) * len(sides), (0,) * len(sides))


@dataclass(frozen=True)
class Geometry:
    """What is known of a traced tensor.

    Args:
        roles: by axis of the tensor: BATCH, CHANNEL, the number of an axis of the image, or None (mixed).
        spans: by axis of the image: the field of its positions.
        sides: of the image, px.
        aligned: see `Field`.
        notes: what the field owes to operations without a formula: which were measured, which see the whole image.
        mirrors: by axis of the image: twice the px at which borders made of what is inside turn back, at either end.
    """

    roles: tuple[Role, ...]
    spans: tuple[Span, ...]
    sides: tuple[int, ...]
    aligned: bool = True
    notes: tuple[str, ...] = ()
    mirrors: dict[int, tuple[float, float]] = field(default_factory=dict)

    def field_on(self, shape: Sequence[int], places: Sequence[int]) -> Field:
        """Return the field of its positions; all of the image where the axes of the map run in another order.

        Args:
            shape: of the tensor.
            places: the axes of the tensor that are the map's.
        """
        axes = self._along(places)
        if self._turned(places, axes):
            return whole_image(self.sides)
        spans = [self._mirrored(role, 1 if axis is None else shape[places[axis]]) for role, axis in enumerate(axes)]
        if places:
            spans = [span if axis is not None else span.fixed for span, axis in zip(spans, axes)]
        columns = zip(*((span.size, span.stride, span.start) for span in spans))
        size, stride, start = (tuple(map(_plain, column)) for column in columns)
        same = axes == tuple(range(len(places))) or not places
        return Field(size, stride, start, self.aligned, () if same else axes)

    def _mirrored(self, role: int, length: int) -> Span:
        """Return the span along an axis, with the px that a mirrored border shows in place of those beyond it."""
        span = self.spans[role]
        if role not in self.mirrors or self.is_whole(role):
            return span
        low, high = span.region(np.arange(length))
        least, most = self.mirrors[role]
        return envelope(np.minimum(low, most - high), np.maximum(high, least - low), span.stride)[0]

    def note_on(self, places: Sequence[int]) -> str:
        """Return what is to be said of the field; see `field_on`."""
        turned = self._turned(places, self._along(places))
        return "; ".join([*self.notes, *(["the map's axes are not in the image's order"] if turned else [])])

    def _along(self, places: Sequence[int]) -> tuple[int | None, ...]:
        """Return by axis of the image which axis of the map runs along it."""
        at = {self.roles[axis]: number for number, axis in enumerate(places) if isinstance(self.roles[axis], int)}
        return tuple(at.get(role) for role in range(len(self.spans)))

    def _turned(self, places: Sequence[int], axes: tuple[int | None, ...]) -> bool:
        """Say whether the axes of the map stand for others of the image than their order says.

        A position p of a store sees the pixels from start + p stride on, axis by axis: of such a map it would not.
        """
        placed = [axis for axis in axes if axis is not None]
        alike = all(axis in (None, role) for role, axis in enumerate(axes))
        return placed != sorted(placed) or (len(places) == len(axes) and not alike)

    @property
    def channel_axis(self) -> int:
        """The axis of the units; where channels are mixed with something, the axis they went into.

        Of several it is the first if they stand before the map or are a map, as channels do in torch, else the last.
        """
        if CHANNEL in self.roles:
            return self.roles.index(CHANNEL)
        mixed = [axis for axis, role in enumerate(self.roles) if role is None and axis]
        if not mixed:
            return min(1, len(self.roles) - 1)
        first = min(spatial) > mixed[-1] if (spatial := self.spatial()) else len(self.roles) > 1 + len(self.sides)
        return mixed[0] if first else mixed[-1]

    @property
    def is_guessed(self) -> bool:
        """Whether which axis is that of the units is known by nothing but the order that axes usually have."""
        lost = [axis for axis, role in enumerate(self.roles) if role is None and axis]
        return CHANNEL not in self.roles and len(lost) > 1 and not self.spatial()

    @property
    def channels_last(self) -> bool:
        """Whether channels stand behind positions, as in tokens."""
        return CHANNEL in self.roles[2:] and self.roles[-1] == CHANNEL

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

    def is_whole(self, axis: int) -> bool:
        """Say whether it sees the whole image along an axis, from every position."""
        return self.spans[axis] == self.all_of(axis)


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else float(number)


def envelope(first: np.ndarray, last: np.ndarray, stride: float) -> tuple[Span, bool]:
    """Return the smallest span of this stride that holds pixels first[u] to last[u] for every position u.

    The second value says whether it is exact: the same interval relative to every u stride. Positions that read
    nothing (NaN) do not count.
    """
    shift = np.arange(len(first)) * stride
    starts, ends = first - shift, last - shift
    exact = bool(np.nanmax(starts) == np.nanmin(starts) and np.nanmax(ends) == np.nanmin(ends))
    return Span(np.nanmin(starts), np.nanmax(ends) - np.nanmin(starts) + 1, stride), exact


def fitted(first: np.ndarray, last: np.ndarray, likely: float) -> tuple[Span, bool]:
    """Return the smallest span, whatever its stride, that holds pixels first[u] to last[u]; see `envelope`.

    Args:
        likely: the size of the stride that is expected.
    """
    known = np.flatnonzero(~np.isnan(first))
    if len(known) < 2:
        return envelope(first, last, likely)
    middle = (first + last)[known] / 2
    usual = float(np.median(np.diff(middle) / np.diff(known)))
    even = float((middle[-1] - middle[0]) / (known[-1] - known[0]))
    found = [envelope(first, last, stride) for stride in (math.copysign(likely, even), usual, even)]
    best = min(found, key=lambda one: one[0].size)
    if best[0].size > np.nanmax(last) - np.nanmin(first) and usual:  # as far as all of them: what most keep to
        return found[1]
    return best


def regions(span: Span, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last pixel that new positions see, which read the positions first[u] to last[u] of a map.

    Args:
        span: of the map that is read.
        first, last: by new position, in positions of that map.
    """
    low, high = span.start + first * span.stride, span.start + last * span.stride
    return np.minimum(low, high), np.maximum(low, high) + span.size - 1


def gathered(span: Span, first: np.ndarray, last: np.ndarray, stride: float) -> tuple[Span, bool]:
    """Return the span of positions that read the positions first[u] to last[u] of a map with `span`.

    Args:
        span, first, last: see `regions`.
        stride: of the new positions, in positions of that map.
    """
    return envelope(*regions(span, first, last), stride * span.stride)


def union(spans: Sequence[Span], length: int, whole: Span) -> tuple[Span, bool]:
    """Return the span of a map of `length` positions whose every position reads that position of several maps.

    The second value says whether they are aligned: the same stride and the same centres.
    """
    if len(set(spans)) == 1:
        return spans[0], True
    strides = {span.stride for span in spans}
    if 0 in strides and len(strides) > 1:  # a global gate on a local map
        return whole, True
    found = [np.array([span.region(u) for u in range(length)]) for span in spans]
    low, high = np.min([r[:, 0] for r in found], axis=0), np.max([r[:, 1] for r in found], axis=0)
    centres = {(span.stride, sum(span.region(0))) for span in spans}
    stride = max(strides, key=abs)
    return envelope(low, high, stride)[0], len(centres) == 1
