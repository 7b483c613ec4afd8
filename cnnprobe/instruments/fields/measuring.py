"""The reach of an operation that is in no table, measured: its input is changed in places, and what changes is seen.

Along each axis of the image it is tried first whether the operation acts position by position: random halves of the
positions are changed, of inputs of several scales, and nothing may change at the others. If something does, every
position is changed alone. Where what is read is said by values (indices), where the call cannot be repeated, or where
that would take too long, each position is taken to see the whole axis.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cnnprobe.instruments.fields.joins import everywhere, merged, of_its_kind, product_channels
from cnnprobe.instruments.network.receptive_field import BATCH, CHANNEL, Geometry, Role, Span, fitted, regions
from cnnprobe.instruments.network.replay import Unrepeatable, run
from cnnprobe.instruments.network.tracing import Call, Value
from cnnprobe.machine import chance

HALVES = 9
"""Random halves of the positions that are changed."""
WORK = 1e8
"""Numbers at most that may be computed to change every position of an axis alone."""


def measured(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Measure what the positions of a result read.

    Raises:
        Unrepeatable, RuntimeError and what else the function raises: it cannot be repeated on noise.
    """
    axes = range(len(read[0].spans))
    if all(geometry.is_whole(axis) for geometry in read for axis in axes):
        return everywhere(call, read, out)
    known = dict(zip(call.inputs, read))
    first, trial = read[0], _Trial(call, out)
    lost: list[int] = []
    located: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}
    alike = merged([(value.shape, geometry) for value, geometry in known.items()], out.shape)
    spans: dict[int, Span] = {}
    along: list[int | None] = [None] * len(out.shape)
    for role in range(len(read[0].spans)):
        axis = None if alike is None or role not in alike.roles else alike.roles.index(role)
        if alike is not None and axis is not None and alike.is_whole(role):
            lost.append(role)
        elif alike is not None and axis is not None and trial.by_position(known, role, axis):
            spans[role], along[axis] = alike.spans[role], role
        elif (found := _one_by_one(trial, known, role)) is not None:
            located[role] = found
        else:
            lost.append(role)
    for role, (axis, low, high) in located.items():
        other = along[axis]
        if other is None:
            spans[role], _ = fitted(low, high, abs(first.spans[role].stride) or 1)
            along[axis] = role
        else:
            lost += [role] if other == role else [role, other]
    roles: list[Role] = [None if role in lost else role for role in along]
    if roles and roles[0] is None and out.shape[0] == 1:
        roles[0] = BATCH
    channel = product_channels(call, read)
    if channel is None:
        channel = next((one.roles.index(CHANNEL) for one in of_its_kind(call, read, out)), None)
    if channel is not None and roles[channel] is None:
        roles[channel] = CHANNEL
    aligned = alike is not None and alike.aligned and not located
    return replace(first.with_spans(spans).whole(lost), roles=tuple(roles), aligned=aligned)


def _one_by_one(trial: "_Trial", known: dict[Value, Geometry], role: int) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the axis of the result along an axis of the image, and the pixels its positions see; None: all of them."""
    low: list[np.ndarray] = []
    high: list[np.ndarray] = []
    placed: set[int] = set()
    for value, geometry in known.items():
        axes = [axis for axis, own in geometry.spatial().items() if own == role]
        if geometry.is_whole(role) or len(axes) > 1:
            return None
        if not axes or value.shape[axes[0]] == 1:
            edges = tuple(np.array([edge]) for edge in geometry.spans[role].region(0))
        elif (read := trial.reach(value, axes[0])) is not None:
            axis, *places = read
            placed.add(axis)
            edges = regions(geometry.spans[role], *places)
        else:
            return None
        low, high = [*low, edges[0]], [*high, edges[1]]
    if len(placed) != 1:
        return None
    return placed.pop(), np.fmin.reduce(np.broadcast_arrays(*low)), np.fmax.reduce(np.broadcast_arrays(*high))


class _Trial:
    """Repeats one call on noise of several scales.

    Args:
        call: to repeat.
        out: which of its results is looked at.
    """

    def __init__(self, call: Call, out: Value):
        self.call, self.out = call, out
        self.values = tuple(dict.fromkeys(call.inputs))
        if any(not (value.dtype.is_floating_point or value.dtype.is_complex) for value in self.values):
            raise Unrepeatable(f"{call.name} reads numbers that may be places")
        self.random = torch.Generator().manual_seed(0)
        # the last: so large that numbers which are places would lie anywhere on a map
        self.scales = (0.0, 1.0, 0.5 * max(max(value.shape, default=1) for value in self.values))
        self.bases, self.others = (
            [{value: self._noise(value, scale) for value in self.values} for scale in self.scales] for _ in range(2)
        )
        self.usual = [self._run(base) for base in self.bases]

    def _noise(self, value: Value, scale: float) -> Tensor:
        """Return noise of the shape of a value: 0 to 1 (scale 0), or normal."""
        kind = torch.float64 if value.dtype == torch.float64 else torch.float32
        if not scale:
            made = torch.rand(value.shape, generator=self.random, dtype=kind)
        else:
            made = torch.randn(value.shape, generator=self.random, dtype=kind) * scale
        return made.to(value.device, value.dtype)

    def _run(self, given: dict[Value, Tensor]) -> Tensor:
        with chance.forked(), torch.no_grad():
            chance.seed(0)
            return run(self.call, given)[self.out.part].clone()

    def changed(self, number: int, places: dict[Value, Tensor]) -> Tensor:
        """Return which results change (bool, of the shape of the result) when inputs change at some places."""
        given = dict(self.bases[number])
        for value, mask in places.items():
            given[value] = torch.where(mask.to(value.device), self.others[number][value], given[value])
        before, after = self.usual[number], self._run(given)
        return ((before != after) & ~(before.isnan() & after.isnan())).cpu()

    def by_position(self, known: dict[Value, Geometry], role: int, axis: int) -> bool:
        """Say whether every position along an axis of the result reads that position only."""
        length = self.out.shape[axis]
        for half in range(HALVES):
            some = torch.rand(length, generator=self.random) < 0.5
            places = {}
            for value, geometry in known.items():
                own = axis - (len(self.out.shape) - len(value.shape))
                if own >= 0 and geometry.roles[own] == role and value.shape[own] == length:
                    places[value] = some.reshape([-1 if a == own else 1 for a in range(len(value.shape))])
            changed = self.changed(half % len(self.bases), places)
            if changed.movedim(axis, 0).flatten(1).any(1)[~some].any():
                return False
        return True

    def reach(self, value: Value, axis: int) -> tuple[int, np.ndarray, np.ndarray] | None:
        """Return the axis of the result that runs along an axis of a value, and which positions each one reads.

        None where every position reads all there are, or where what is read depends on the values.
        """
        length, shape = value.shape[axis], self.out.shape
        if length * (math.prod(value.shape) + math.prod(shape)) > WORK:
            return None
        count = len(self.bases)
        hits = {to: np.zeros((count, length, shape[to]), bool) for to in range(1, len(shape)) if shape[to] > 1}
        for place in (0, length - 1, *range(1, length - 1)):
            mask = (torch.arange(length) == place).reshape([-1 if a == axis else 1 for a in range(len(value.shape))])
            for number in range(count):
                changed = self.changed(number, {value: mask})
                for to, seen in hits.items():
                    seen[number, place] = changed.movedim(to, 0).flatten(1).any(1).numpy()
            if place == length - 1:  # who sees both ends sees all
                hits = {to: seen for to, seen in hits.items() if not (seen[:, 0] & seen[:, -1]).any()}
            if not hits:
                return None
        return _narrowest(hits)


def _narrowest(hits: dict[int, np.ndarray]) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the axis of the result whose positions read least, with the first and last that each one reads.

    Args:
        hits: by axis of the result (input tried, position changed, position that changes).
    """
    best = None
    for to, tried in hits.items():
        living = [seen for seen in tried if seen.any()]
        if not living or any((seen != living[0]).any() for seen in living):  # what is read depends on the values
            continue
        there, length = living[0].any(0), len(living[0])
        first = np.where(there, living[0].argmax(0), np.nan)
        last = np.where(there, length - 1 - living[0][::-1].argmax(0), np.nan)
        width = np.nanmax(last - first)
        if width < length - 1 and (best is None or width < best[0]):
            best = width, to, first, last
    return None if best is None else best[1:]
