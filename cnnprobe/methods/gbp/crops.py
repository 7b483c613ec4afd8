"""A network cut down to what one position of a layer sees: it runs on crops of images, many positions at once.

The activation at one position depends on its theoretical field alone. Behind every layer the window that matters is
smaller; it lies where the position's field lies, so the crops of any images and positions pass through together. A
window may reach beyond its map, into what a convolution pads with 0: there it is filled with what the reader pads with.
The result, and its gradient at the crop, are those of the whole image.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.instruments.gradients.backward_rules import Rules
from cnnprobe.instruments.gradients.nonlinearities import planned
from cnnprobe.instruments.layers.multiply_adds import multiply_accumulates
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, ancestors, refuse_handed_out, run, value_at
from cnnprobe.instruments.network.tracing import CONSTANT, IMAGE, Call, Value, leaves, trace
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.windows.operations import AveragePool, Convolution, MaxPool, Operation, Pad
from cnnprobe.instruments.windows.rules import operation
from cnnprobe.instruments.windows.spans import Lookup, Slide

WORTH = 0.9
"""Share of the arithmetic of whole images above which crops are not worth it."""


@dataclass(frozen=True)
class Window:
    """What is needed of a value along one axis: `length` positions from start + p stride, for target position p."""

    start: int
    stride: int
    length: int

    @property
    def stop(self) -> int:
        """Return where it ends for p = 0."""
        return self.start + self.length

    def read_by(self, slide: Slide) -> "Window":
        """Return what a sliding window reads to give this."""
        length = (self.length - 1) * slide.stride + slide.span
        return Window(self.start * slide.stride - slide.before, self.stride * slide.stride, length)

    def joined(self, other: "Window") -> "Window":
        """Return the window that holds both."""
        if self.stride != other.stride:
            raise Unrepeatable("its paths from the image have different strides")
        start = min(self.start, other.start)
        return Window(start, self.stride, max(self.stop, other.stop) - start)


@dataclass(frozen=True)
class _Step:
    """One operation on windows: `reads` is what it reads of each of its inputs, along (y, x)."""

    operation: Operation
    reads: tuple[Window, Window]
    gives: tuple[Window, Window]
    filling: float | None


class FieldCrops:
    """Runs a network for single positions of a layer.

    Args:
        model: any network, in eval mode; its parameters of this moment are used.
        layer: read at one position.
        size: (channel, y, x) of the images.

    Attributes:
        window: of the image, along (y, x).
        share: multiply-accumulate operations on a crop over those on a whole image.

    Raises:
        Unrepeatable: with the reason why positions of this layer cannot be had from crops.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...]):
        if layer.measured_whole:
            raise Unrepeatable(layer.note)
        if len(layer.map_size) != 2 or len(size) != 3 or layer.field.whole:
            raise Unrepeatable("its units see the whole image")
        if not layer.plain:
            raise Unrepeatable("its images do not pass together along the first axis")
        with untouched(model):
            seen = trace(model, size)
        self.size, self.target = size, value_at(seen, layer.tap)
        refuse_handed_out(seen, self.target, layer.tap)
        if layer.channel_axis != 1:
            raise Unrepeatable("its channels are not along axis 1")
        calls = ancestors(seen, self.target)
        self.image = Value(IMAGE, 0, (1, *size))
        operations = self._operations(calls)
        self.windows = self._windows(operations)
        if self.image not in self.windows:
            raise Unrepeatable("it does not depend on the image")
        self.steps = [self._step(one) for one in operations if one.output in self.windows]
        self.window = self.windows[self.image]
        macs = {one: multiply_accumulates(one.call) for one in operations}
        areas = {one: math.prod(w.length for w in self.windows.get(one.output, ())) for one in operations}
        whole = sum(macs.values())
        cut = sum(macs[one] * areas[one] / math.prod(one.output.shape[2:]) for one in operations)
        self.share = cut / max(whole, 1)
        self.plan = planned(seen, [self.target])

    def _operations(self, calls: list[Call]) -> list[Operation]:
        local, found = {self.image}, []
        for call in calls:
            one = operation(call, local)
            if one is None:
                raise Unrepeatable(f"{call.name} is not local")
            _refuse_maps(call)
            local |= set(call.outputs)
            found.append(one)
        return found

    def _windows(self, operations: list[Operation]) -> dict[Value, tuple[Window, Window]]:
        """Return by value what is needed of it, from the target back to the image."""
        needed = {self.target: (Window(0, 1, 1), Window(0, 1, 1))}
        for one in reversed(operations):
            if one.output not in needed:
                continue
            reads = _reads(one, needed[one.output])
            for source in one.inputs:
                known = needed.get(source)
                needed[source] = reads if known is None else (known[0].joined(reads[0]), known[1].joined(reads[1]))
        return needed

    def _step(self, one: Operation) -> _Step:
        gives = self.windows[one.output]
        filling = None
        if isinstance(one, (Convolution, AveragePool)):
            filling = 0.0
        elif isinstance(one, MaxPool):
            filling = -math.inf
        elif isinstance(one, Pad):
            filling = one.call.argument("value", 3) or 0.0
        return _Step(one, _reads(one, gives), gives, filling)

    def corners(self, positions: np.ndarray) -> np.ndarray:
        """Return where crops begin in their images, (n, yx) px; may be negative, for positions (n, yx)."""
        return np.stack([w.start + positions[:, axis] * w.stride for axis, w in enumerate(self.window)], 1)

    def cut(self, images: Tensor, positions: np.ndarray) -> Tensor:
        """Cut what each position sees out of its image.

        Args:
            images: (n, channel, y, x); views of one image (`expand`) cost nothing.
            positions: (n, yx) of the layer's map.

        Returns:
            (n, channel, y, x) of the size of `window`; 0 beyond the image.
        """
        high, wide = (w.length for w in self.window)
        crops = images.new_zeros((len(positions), images.shape[1], high, wide))
        for crop, image, (top, left) in zip(crops, images, self.corners(positions).tolist()):
            y, x = slice(max(0, top), max(0, top + high)), slice(max(0, left), max(0, left + wide))
            piece = image[:, y, x]
            crop[
                :, y.start - top : y.start - top + piece.shape[1], x.start - left : x.start - left + piece.shape[2]
            ] = piece
        return crops

    def run(self, crops: Tensor, positions: np.ndarray, ruling: Rules | None = None) -> Tensor:
        """Return the activations of all channels at the positions, (n, channel), with their graph.

        Args:
            crops: see `cut`.
            positions: (n, yx) of the layer's map.
            ruling: is told of the values of `plan`, for its backward rule.
        """
        known = {self.image: crops}
        last = {source: place for place, step in enumerate(self.steps) for source in step.operation.inputs}
        for place, step in enumerate(self.steps):
            one = step.operation
            given = {source: self._read(known[source], source, step, positions) for source in one.inputs}
            known[one.output] = _result(step, given, positions)
            if ruling is not None:
                ruling.note(one.output, known[one.output])
                ruling.note_given(one.output, given[one.inputs[0]])
            for source in one.inputs:
                if last[source] == place:
                    known.pop(source, None)
        return known[self.target][:, :, 0, 0]

    def _read(self, held: Tensor, source: Value, step: _Step, positions: np.ndarray) -> Tensor:
        """Return what an operation reads of a value, filled where that lies beyond the map."""
        for axis, (reads, has) in enumerate(zip(step.reads, self.windows[source])):
            if (reads.start, reads.length) != (has.start, has.length):
                held = held.narrow(2 + axis, reads.start - has.start, reads.length)
        if step.filling is None:
            return held
        outside = [_outside(reads, positions[:, axis], source.shape[2 + axis]) for axis, reads in enumerate(step.reads)]
        if not any(one.any() for one in outside):
            return held
        mask = torch.from_numpy(outside[0][:, None, :, None] | outside[1][:, None, None, :])
        return held.masked_fill(mask.to(held.device), step.filling)


def _reads(one: Operation, gives: tuple[Window, Window]) -> tuple[Window, Window]:
    """Return what an operation reads of each of its inputs to give some windows."""
    reads: list[Window] = []
    for window, reach in zip(gives, one.reach):
        if isinstance(reach, Lookup):  # a border of a constant: the result, moved
            known = np.flatnonzero(reach.source >= 0)
            offset = int(known[0] - reach.source[known[0]])
            length = one.inputs[0].shape[2:][len(reads)]
            straight = np.array_equal(reach.source[known] + offset, known) and len(known) == reach.source.max() + 1
            if not straight or one.call.argument("mode", 2, "constant") != "constant" or len(known) > length:
                raise Unrepeatable("a border is not constant")
            reads.append(Window(window.start - offset, window.stride, window.length))
        else:
            reads.append(window.read_by(reach))
    return reads[0], reads[1]


def _refuse_maps(call: Call) -> None:
    """Refuse constants that differ from position to position: a crop would need their part."""
    for value in leaves((call.arguments, call.keywords), Value):
        shape = value.shape[-2:] if len(value.shape) > 1 else ()
        if value.call == CONSTANT and call.name not in ("conv2d",) and any(side > 1 for side in shape):
            raise Unrepeatable(f"{call.name} has a constant for every position")


def _outside(window: Window, positions: np.ndarray, length: int) -> np.ndarray:
    """Say which places of a window lie beyond a map, (n, place)."""
    places = (window.start + positions * window.stride)[:, None] + np.arange(window.length)
    return (places < 0) | (places >= length)


def _result(step: _Step, given: dict[Value, Tensor], positions: np.ndarray) -> Tensor:
    """Run one operation on windows that reach as far as it reads."""
    one, call = step.operation, step.operation.call
    source = given[one.inputs[0]]
    if isinstance(one, Convolution):
        weight, bias = call.argument("weight", 1), call.argument("bias", 2)
        bias = bias.constant if isinstance(bias, Value) else None
        strides, dilations = ([getattr(s, name) for s in one.reach] for name in ("stride", "dilation"))
        return F.conv2d(source, weight.constant, bias, strides, 0, dilations, call.argument("groups", 6, 1))
    if isinstance(one, MaxPool):
        settings = ([getattr(s, name) for s in one.reach] for name in ("kernel", "stride", "dilation"))
        kernels, strides, dilations = settings
        return F.max_pool2d(source, kernels, strides, 0, dilations)
    if isinstance(one, AveragePool):
        kernels, strides = ([getattr(s, name) for s in one.reach] for name in ("kernel", "stride"))
        sums = F.avg_pool2d(source, kernels, strides, divisor_override=1)
        return sums / _divisors(one, step.gives, positions).to(sums)
    if isinstance(one, Pad):
        return source
    found = run(call, given)
    return found[0]


def _divisors(one: Any, gives: tuple[Window, Window], positions: np.ndarray) -> Tensor:
    """Return what an average divides by at each place of each window, (n, 1, y, x)."""
    places = []
    for axis, window in enumerate(gives):
        at = (window.start + positions[:, axis] * window.stride)[:, None] + np.arange(window.length)
        places.append(torch.from_numpy(np.clip(at, 0, one.output.shape[2 + axis] - 1)))
    divisor = one.divisor.cpu()
    return divisor[places[0][:, None, :, None], places[1][:, None, None, :]]
