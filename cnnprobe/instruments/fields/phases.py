"""Fields of single positions, where not all positions of a map see equally much.

Behind an up-convolution, or where paths of unlike reach meet, what a position sees depends on its place in the grid of
the coarser map, and the field of a layer (`receptive_field.Field`) is the hull of all of them. Here positions are
followed one by one, by intervals along one axis of the image, on maps without an end: places repeat after a period.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnnprobe.instruments.fields.joins import concatenated, coordinates_of, joined, moved
from cnnprobe.instruments.fields.measuring import measured
from cnnprobe.instruments.fields.rules import reaches, rule
from cnnprobe.instruments.network.receptive_field import Geometry, Span
from cnnprobe.instruments.network.tracing import IMAGE, Call, Trace, Value

LONGEST = 64
"""Period, in positions, up to which one is looked for."""
MOST = 4096
"""Positions of a period that are followed."""
Reads = tuple[Sequence[Sequence[int]], int]
"""What the positions of a period read, and how many positions on that is one period later."""


@dataclass(frozen=True)
class Phases:
    """The pixels that each position of a map sees along one axis of the image.

    With n = len(first), position u sees first[u mod n] + (u div n) advance to last[u mod n] + (u div n) advance, px of
    the image. A position that sees nothing has first = inf and last = -inf.
    """

    first: tuple[float, ...]
    last: tuple[float, ...]
    advance: float

    @classmethod
    def of(cls, span: Span) -> "Phases":
        """Return those of positions that all see equally much."""
        return cls((span.start,), (span.start + span.size - 1,), span.stride)

    def region(self, position: int) -> tuple[float, float]:
        """Return the first and the last pixel that a position sees."""
        period, place = divmod(position, len(self.first))
        return self.first[place] + period * self.advance, self.last[place] + period * self.advance

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes of fields that occur, ascending, px."""
        return tuple(sorted({max(0, last - first + 1) for first, last in zip(self.first, self.last)}))

    @property
    def hull(self) -> Span:
        """The smallest interval that holds the fields of all positions, each relative to its place."""
        stride = self.advance / len(self.first)
        start = min(first - place * stride for place, first in enumerate(self.first))
        end = max(last - place * stride for place, last in enumerate(self.last))
        return Span(start, end - start + 1, stride)

    def read_by(self, reads: Reads) -> "Phases | None":
        """Return those of a map whose positions read positions of this one; None where the period is too long."""
        places, step = reads
        times = len(self.first) // math.gcd(len(self.first), step)  # periods of the reading in one of the result
        if times * len(places) > MOST or not step:
            return None
        seen = [
            [self.region(place + period * step) for place in places[number]]
            for period in range(times)
            for number in range(len(places))
        ]
        first = tuple(min((low for low, _ in one), default=math.inf) for one in seen)
        last = tuple(max((high for _, high in one), default=-math.inf) for one in seen)
        return _shortest(Phases(first, last, self.advance * step * times / len(self.first)))


def together(parts: Sequence[Phases]) -> Phases | None:
    """Return those of a map whose every position reads that position of several; None where they drift apart."""
    length = math.lcm(*(len(part.first) for part in parts))
    if length > MOST or len({part.advance * length / len(part.first) for part in parts}) > 1:
        return None
    seen = [[part.region(place) for part in parts] for place in range(length)]
    first, last = tuple(min(one)[0] for one in seen), tuple(max(high for _, high in one) for one in seen)
    return _shortest(Phases(first, last, parts[0].advance * length / len(parts[0].first)))


def _shortest(phases: Phases) -> Phases:
    """Return the same with the shortest period."""
    length = len(phases.first)
    for period in (one for one in range(1, length) if not length % one):
        step = phases.advance * period / length
        moved_on = (phases.region(place + period) for place in range(length))
        if all((low, high) == (a + step, b + step) for (low, high), a, b in zip(moved_on, phases.first, phases.last)):
            return Phases(phases.first[:period], phases.last[:period], step)
    return phases


def phases_of(trace: Trace, known: dict[Value, Geometry]) -> dict[Value, dict[int, Phases]]:
    """Follow single positions through a traced pass.

    Args:
        trace: of a network.
        known: `rules.geometries` of it.

    Returns:
        by value and axis of the image; what cannot be followed, or sees the whole image from everywhere, is left out.
    """
    image = next(value for value in known if value.call == IMAGE)
    found = {image: {axis: Phases.of(span) for axis, span in enumerate(known[image].spans)}}
    for call in trace.calls:
        for out in call.outputs:
            places = known[out].spatial().items()
            followed = ((role, _along(call, role, axis, out, known, found)) for axis, role in places)
            found[out] = {role: phases for role, phases in followed if phases is not None}
    return found


def _along(
    call: Call,
    role: int,
    axis: int,
    out: Value,
    known: dict[Value, Geometry],
    found: dict[Value, dict[int, Phases]],
) -> Phases | None:
    """Return what the positions along one axis of a result see along an axis of the image; None: unknown.

    Args:
        role: the axis of the image.
        axis: of the result, along it.
    """
    made = known[out]
    if not made.spans[role].stride:
        return None
    if made.aligned:
        return Phases.of(made.spans[role])
    inputs = list(dict.fromkeys(call.inputs))
    if any(role not in found[value] for value in inputs):
        return None
    parts, how = [found[value][role] for value in inputs], rule(call)
    lengths = {value.shape[known[value].roles.index(role)] for value in inputs}
    if len(inputs) > 1 or how in (joined, measured):
        beside = how in (joined, concatenated) or all(known[value].spans[role] == made.spans[role] for value in inputs)
        return together(parts) if beside and lengths == {out.shape[axis]} else None
    reads = _reads(call, role, axis, out, known[inputs[0]])
    return None if reads is None else parts[0].read_by(reads)


def _reads(call: Call, role: int, axis: int, out: Value, source: Geometry) -> Reads | None:
    """Return which positions of the only value that is read a result reads along an axis; None: unknown."""
    value, how = call.inputs[0], rule(call)
    resampled = reaches(call, out).get(axis)
    if resampled is not None:
        reach, _ = resampled
        return _periodic(*reach(np.arange(4 * LONGEST), value.shape[axis], out.shape[axis]))
    if how is moved:
        rows = coordinates_of(call, value, source.roles.index(role), out).movedim(axis, 0).flatten(1)
        return _periodic(rows.amin(1).numpy(), rows.amax(1).numpy())
    alone = tuple(Span(0, 1, 1) for _ in source.spans)  # every position sees itself: the result sees what it reads
    window = how(call, [source.with_spans(dict(enumerate(alone)))], out).spans[role]
    if not all(float(number).is_integer() for number in (window.start, window.size, window.stride)):
        return None
    first = int(window.start)
    return [range(first, first + int(window.size))], int(window.stride)


def _periodic(first: np.ndarray, last: np.ndarray) -> Reads | None:
    """Return the shortest period of what positions 0, 1, 2, … read, NaN where that is nothing; None: there is none."""
    for length in range(1, min(LONGEST, len(first) // 2) + 1):
        steps = np.concatenate([one[length:] - one[:-length] for one in (first, last)])
        there = ~np.isnan(steps)
        same = np.array_equal(np.isnan(first[length:]), np.isnan(first[:-length]))
        if same and there.any() and np.ptp(steps[there]) == 0 and float(steps[there][0]).is_integer():
            ends = zip(first[:length], last[:length])
            reads = [range(0) if np.isnan(low) else range(int(low), int(high) + 1) for low, high in ends]
            return reads, int(steps[there][0])
    return None
