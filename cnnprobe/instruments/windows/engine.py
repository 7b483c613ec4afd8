"""Exact incremental occlusion: only the windows that an occluder changes are carried through the network.

The clean image runs once and its activations are kept. Behind each layer the changed window grows by the reach of that
layer; what lies around it is as in the clean image. Where only one position of a map is read, only the
part of each window that this position can see is computed, and occluders outside its theoretical field are
left out: their discrepancy is exactly zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, ancestors, refuse_handed_out, repeat, value_at
from cnnprobe.instruments.network.tracing import IMAGE, Call, Value, trace
from cnnprobe.instruments.windows import plan as window_plan
from cnnprobe.instruments.windows.carrying import Clean, Place, Windows
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.instruments.windows.operations import TOUCHING, Operation, Pointwise, Sum
from cnnprobe.instruments.windows.plan import Class, Edge
from cnnprobe.instruments.windows.rules import jumps, operation
from cnnprobe.instruments.windows.spans import Slide, Stretch
from cnnprobe.machine.memory import Carried

OVERHEAD = 30e6
"""Work that running one operation on one more batch of windows costs, as multiply-accumulate operations."""
LOADING = 200
"""The same for every weight of a convolution, which has to be fetched once more. (Both fitted, as `TOUCHING`.)"""
PER_CLASS = 8
"""Occluders in a class of rows, about."""
CACHE = 24 * 2**20
"""Bytes that the windows of the largest layer may take, so that they stay near the processor."""
CACHE_OF_GPU = 2**30
"""The same on a GPU, which wants many windows at once."""
LIVING = 6
"""Times the largest layer's windows that are held at once, at most."""


@dataclass(frozen=True)
class Plan:
    """Which occluders are carried, in which batches, for what the target is read at.

    Args:
        rows, columns: classes of the occluders that matter, per axis.
        cost: expected work, as multiply-accumulate operations.
        bytes: of one occluder's windows, where they are largest.
    """

    rows: list[Class]
    columns: list[Class]
    cost: float
    bytes: int


@dataclass(frozen=True)
class Answer:
    """Changed windows of the target, for some rows and columns of occluders.

    Args:
        rows, columns: indices of the occluders on the grid.
        changed: (first, stop) per axis and occluder, the part of the windows that can have changed at all.
        changes: (draw, row, column, y, x, channel) at `place`; None where the target is no map of windows.
        whole: (image, …) the target's values, where it is not.
    """

    rows: np.ndarray
    columns: np.ndarray
    place: Place | None
    changed: tuple[Stretch, Stretch] | None
    changes: Tensor | None
    whole: Tensor | None


class WindowEngine:
    """A network as far as one layer, ready to carry windows.

    Args:
        model: in eval mode.
        layer: the target.
        size: (channel, y, x).
        grid: of occluders.
        memory: bytes that windows may take.
        low: bfloat16 products.

    Raises:
        Unrepeatable: the network cannot be followed call by call.
    """

    def __init__(
        self, model: nn.Module, layer: Layer, size: tuple[int, ...], grid: Grid, memory: int, low: bool = False
    ):
        if not layer.plain:
            lone = "it is one number for each image, without an axis of units"
            raise Unrepeatable(lone if layer.lone else "its images do not pass together along the first axis")
        pass_ = trace(model, size)
        self.grid, self.low = grid, low
        on_gpu = next(model.parameters(), torch.empty(0)).is_cuda
        self.room = min(CACHE_OF_GPU if on_gpu else CACHE, memory // LIVING)
        self.image = Value(IMAGE, 0, (1, *size))
        self.target = value_at(pass_, layer.tap)
        refuse_handed_out(pass_, self.target, layer.tap)
        self.calls = ancestors(pass_, self.target)
        for value in {value for call in self.calls for value in call.inputs}:
            if value.call >= 0 and value.dtype in (torch.int64, torch.int32):
                name = pass_.calls[value.call].name
                raise Unrepeatable(f"{name}() makes places out of values, and windows round these differently")
        for call in self.calls:
            if jumps(call) and _joins(call, pass_.calls):
                raise Unrepeatable(f"{call.name}() compares values, and windows round equal ones differently")
        self.operations: dict[int, Operation] = {}
        self.shown = {self.image} if len(size) == 3 else set()  # values that show the image pixel by pixel
        local = set(self.shown)
        self.followers: list[Call] = []
        self.front: list[Call] = []
        for call in self.calls:
            how = operation(call, local)
            if how is None:
                self.followers.append(call)
                continue
            local.add(call.outputs[0])
            if isinstance(how, (Pointwise, Sum)) and all(value in self.shown for value in call.inputs):
                self.shown.add(call.outputs[0])
                self.front.append(call)
                continue
            self.operations[call.index] = how
            self.followers.append(call)
        self.local = local
        self.edges = [Edge(value, how.output, how.reach) for how in self.operations.values() for value in how.inputs]
        self.read_whole = self._read_whole()
        self.last_use = {value: call.index for call in self.followers for value in call.inputs}
        self.plans: dict[tuple, Plan] = {}
        self.halves: dict[tuple[int, tuple[int, int]], list[Class]] = {}

    def _read_whole(self) -> list[Value]:
        """Return the values with windows that are needed whole."""
        found = [v for call in self.followers if call.index not in self.operations for v in call.inputs]
        return [value for value in dict.fromkeys(found) if value in self.local]

    @property
    def windowed(self) -> bool:
        """Say whether the target itself has windows."""
        return self.target in self.local

    # ---- planning ----------------------------------------------------------------------------------------------

    def plan(
        self,
        need: tuple[tuple[int, int], tuple[int, int]] | None = None,
        only: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Plan:
        """Plan for what is read.

        Args:
            need: (first, stop) of the target's map per axis; None: all of it.
            only: rows and columns of occluders; None: all of them.
        """
        if need is None or not self.windowed:
            height, width = self.target.shape[2:] if self.windowed else (1, 1)
            need = (0, height), (0, width)
        if only is not None:
            rows, columns = (self._axis(axis, stretch, only[axis]) for axis, stretch in enumerate(need))
            return Plan(rows, columns, *self._cost(rows, columns))
        if need not in self.plans:
            for axis, stretch in enumerate(need):
                if (axis, stretch) not in self.halves:
                    self.halves[axis, stretch] = self._axis(axis, stretch)
            rows, columns = (self.halves[half] for half in enumerate(need))
            self.plans[need] = Plan(rows, columns, *self._cost(rows, columns))
        return self.plans[need]

    def _axis(self, axis: int, need: tuple[int, int], only: np.ndarray | None = None) -> list[Class]:
        """Sort the occluders of an axis that matter for `need` into classes."""
        whole = {value: value.shape[2 + axis] for value in self.read_whole}
        target = {self.target: need} if self.windowed else {}
        needed = window_plan.needs(self.edges, target, axis, whole)
        first = self.grid.corners[axis]
        shown = dict.fromkeys(self.shown, (first, first + self.grid.patch))
        changed = window_plan.stretches(self.edges, axis, needed, shown)
        members = window_plan.touched(changed, [*target, *whole])
        members = members if only is None else np.intersect1d(members, only)
        weights = {how.inputs[0]: how.weight for how in self.operations.values()}
        alignment = self._alignment(first, axis)
        if len(members) < PER_CLASS * len(np.unique(alignment)):
            alignment = alignment * 0
        return window_plan.classes(changed, needed, members, weights, self._overhead() / PER_CLASS, alignment)

    def _overhead(self) -> float:
        """Return the work that one more batch of windows costs."""
        return sum(OVERHEAD + LOADING * how.parameters for how in self.operations.values())

    def _alignment(self, first: np.ndarray, axis: int) -> np.ndarray:
        """Return how each occluder lies to the stride of the first layer."""
        readers = [how.reach[axis] for how in self.operations.values() if how.inputs[0] in self.shown]
        strides = [reach.stride for reach in readers if isinstance(reach, Slide)]
        return first % min(strides, default=1)

    def _cost(self, rows: list[Class], columns: list[Class]) -> tuple[float, int]:
        """Return the expected work, and the bytes of one occluder's windows where they are largest."""
        total, largest = 0.0, 0
        for y in rows:
            for x in columns:
                work = 0.0
                for how in self.operations.values():
                    source, result = (
                        (y.windows[value].length, x.windows[value].length) for value in (how.inputs[0], how.output)
                    )
                    size = result[0] * result[1] * how.output.shape[1]
                    work += how.macs(source, result) + TOUCHING * size
                    largest = max(largest, size * 4)
                total += work * len(y.members) * len(x.members) + self._overhead()
        for call in self.followers:
            if call.index not in self.operations:
                size = sum(int(np.prod(out.shape)) for out in call.outputs)
                largest = max(largest, 4 * size)
        return total, max(largest, 1)

    # ---- running -------------------------------------------------------------------------------------------------

    def clean(self, image: Tensor) -> Clean:
        """Run the clean image (channel, y, x)."""
        known = {self.image: image[None]}
        for call in self.calls:
            known.update(zip(call.outputs, repeat(call, {value: known[value] for value in call.inputs})))
        return Clean(known)

    def differences(self, clean: Clean, filled: Tensor) -> dict[Value, Tensor]:
        """Return by value that shows the image: filling minus image, (draw, y, x, channel)."""
        known = {self.image: filled}
        for call in self.front:
            made = [repeat(call, {v: known[v][n : n + 1] for v in call.inputs})[0] for n in range(len(filled))]
            known[call.outputs[0]] = torch.cat(made)
        return {value: (known[value] - clean.values[value]).permute(0, 2, 3, 1).contiguous() for value in known}

    def answers(self, plan: Plan, clean: Clean, differences: dict[Value, Tensor], carried: Carried) -> Iterator[Answer]:
        """Carry the windows of every occluder that matters, batch by batch."""
        draws = len(differences[self.image])
        fit = max(1, self.room // plan.bytes)
        for rows in plan.rows:
            for columns in plan.columns:
                yield from self._pieces(rows, columns, clean, differences, carried, max(1, fit // draws), draws)

    def _pieces(
        self,
        rows: Class,
        columns: Class,
        clean: Clean,
        differences: dict[Value, Tensor],
        carried: Carried,
        fit: int,
        draws: int,
    ) -> Iterator[Answer]:
        """Carry one class of rows and one of columns in pieces that fit."""
        start = 0
        while start < len(rows.members):
            most = max(1, min(fit, carried.most // draws))
            wide = min(most, len(columns.members))
            stop = min(start + max(1, most // wide), len(rows.members))

            some = rows.part(start, stop)
            parts = [columns.part(left, left + wide) for left in range(0, len(columns.members), wide)]

            def work(some: Class = some, parts: list[Class] = parts) -> list[Answer]:
                return [self._carry(some, part, clean, differences, draws) for part in parts]

            least = most == 1  # all draws of one occluder
            done = carried.attempt(1 if least else (stop - start) * wide * draws, work)
            if done is not None:
                yield from done
                start = stop

    def _carry(self, rows: Class, columns: Class, clean: Clean, differences: dict[Value, Tensor], draws: int) -> Answer:
        windows = Windows(rows, columns, clean, draws, self.low)
        for value in self.shown:
            if value in rows.windows:
                windows.enter(value, differences[value])
        for call in self.followers:
            how = self.operations.get(call.index)
            if how is not None:
                how.carry(windows)
            else:
                windows.run_whole(call)
            for value in call.inputs:
                if self.last_use[value] == call.index and value != self.target:
                    windows.forget(value)
        if self.windowed:
            changed = rows.windows[self.target].changed, columns.windows[self.target].changed
            place, changes = windows.place(self.target), windows.changes(self.target)
            return Answer(rows.members, columns.members, place, changed, changes, None)
        return Answer(rows.members, columns.members, None, None, None, windows.wholes[self.target])


def _joins(call: Call, calls: list[Call]) -> bool:
    """Say whether a call reads several values of the image, or one that was made from several."""
    read = set(call.inputs)
    if len(read) == 1 and (maker := call.inputs[0].call) >= 0:
        read = set(calls[maker].inputs)
    return len(read) > 1
