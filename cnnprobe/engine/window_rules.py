"""Which calls of a network act locally, and how each carries changed windows on.

A window holds what an occluder changed, as the difference to the clean image (`changes`: zero wherever nothing
changed), or as the values themselves (`values`). Linear functions are applied to the differences: what lies around
the window is zero then, and its products need not be computed. Others are applied to the values, for which pooling takes its
surroundings from the clean image. The clean image's result is subtracted again where differences are needed.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnnprobe.engine.reach import Lookup, Reach, Slide, same
from cnnprobe.engine.replay import repeat
from cnnprobe.engine.tracing import CONSTANT, Call, Value, leaves

POINTWISE = re.compile(
    r"relu6?|leaky_relu|prelu|elu|selu|celu|gelu|silu|mish|softplus|softsign|sigmoid|logsigmoid|tanh|hardtanh|hardswish|"
    r"hardsigmoid|threshold|clamp|clamp_min|clamp_max|abs|neg|exp|log|sqrt|rsqrt|square|pow|sin|cos|sign|add|sub|"
    r"mul|div|true_divide|maximum|minimum|where|reciprocal|float|"
    r"__i?(add|sub|mul|truediv|pow)__|__r(add|sub|mul|truediv|pow)__|__(neg|abs)__"
)
IDENTITY = re.compile(r"dropout([123]d)?|contiguous|clone|detach")
SUMS = re.compile(r"add|__i?add__|__radd__")


PACKING = torch.backends.mkldnn.is_available() and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")


class Operation:
    """A call that acts locally; a subclass says how.

    Args:
        call: of the trace.

    Attributes:
        reach: along (y, x): which results read a stretch of its inputs.
        linear: whether it is applied to differences.
    """

    linear = False

    def __init__(self, call: Call, reach: tuple[Reach, Reach]):
        self.call, self.reach = call, reach
        self.inputs = tuple(dict.fromkeys(call.inputs))
        self.output = call.outputs[0]

    def macs(self, source: tuple[int, int], result: tuple[int, int]) -> float:
        """Return the multiply-accumulate operations of one window, (y, x) positions in and out."""
        return 0.0

    @property
    def weight(self) -> float:
        """Return the work per position of a window of what is read, as multiply-accumulate operations."""
        return 25.0 * self.inputs[0].shape[1]

    def carry(self, windows: Any) -> None:
        """Compute the windows of `output` from those of `inputs`; see `windows.Windows`."""
        raise NotImplementedError


class Convolution(Operation):
    """A convolution: differences only, the bias cancels."""

    linear = True
    UNROLLED = 600
    """Numbers in a window up to which a convolution with stride is written as one matrix."""

    def __init__(self, call: Call, reach: tuple[Slide, Slide], weight: Tensor, groups: int):
        super().__init__(call, reach)
        self.kernel, self.groups = weight, groups
        self.area = weight.shape[2] * weight.shape[3]
        self.prepared: dict[Any, Tensor] = {}

    def run(self, maps: Tensor, low: bool, padding: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        """Convolve (image, channel, y, x) without the bias."""
        dilation = [slide.dilation for slide in self.reach]
        maps = maps.contiguous(memory_format=torch.channels_last)
        maps = maps.to(torch.bfloat16) if low else maps
        if maps.device.type == "cpu" and not low and PACKING:
            # Else the kernel is brought into the processor's layout anew in every call.
            settings = (list(padding), list(stride), dilation, self.groups)
            pack = lambda: torch._C._nn.mkldnn_reorder_conv2d_weight(
                self.kernel.to_mkldnn(), *settings, list(maps.shape)
            )  # noqa: E731
            packed = self._once((padding, tuple(stride)), pack, False)
            return torch.ops.mkldnn._convolution_pointwise(maps, packed, None, *settings, "none", [], "")
        kernel = self._once("kernel", lambda: self.kernel.contiguous(memory_format=torch.channels_last), low)
        return F.conv2d(maps, kernel, None, stride, padding, dilation, self.groups)

    def flat(self, low: bool) -> Tensor:
        """Return the kernel as a matrix (y x channel, channel) for windows with a single result."""
        return self._once("flat", lambda: self.kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), low)

    def unrolled(self, gaps: list[int], lengths: tuple[int, int], result: tuple[int, int], low: bool) -> Tensor:
        """Return a matrix (y x channel, y x channel) from windows of `lengths` to their results.

        Args:
            gaps: (y, x) places of the window in what the results read.
        """

        def make() -> Tensor:
            channels, (height, width) = self.kernel.shape[1], lengths
            one = torch.eye(height * width * channels, device=self.kernel.device, dtype=self.kernel.dtype)
            maps = one.view(-1, height, width, channels).permute(0, 3, 1, 2)
            reads = [(n - 1) * s.stride + s.span for n, s in zip(result, self.reach)]
            pad = [gaps[1], reads[1] - gaps[1] - width, gaps[0], reads[0] - gaps[0] - height]
            stride, dilation = [s.stride for s in self.reach], [s.dilation for s in self.reach]
            made = F.conv2d(F.pad(maps, pad), self.kernel, None, stride, 0, dilation)
            return made.permute(0, 2, 3, 1).reshape(len(one), -1).contiguous()

        return self._once((tuple(gaps), lengths, result), make, low)

    def _once(self, key: Any, make: Callable[[], Tensor], low: bool) -> Tensor:
        if (key, low) not in self.prepared:
            self.prepared[key, low] = make().to(torch.bfloat16) if low else make()
        return self.prepared[key, low]

    def macs(self, source: tuple[int, int], result: tuple[int, int]) -> float:
        """Count the cheaper of both ways."""
        return min(self._positions(source, result)) * self.kernel.numel()

    def _positions(self, source: tuple[int, int], result: tuple[int, int]) -> tuple[float, float]:
        """Return how often the kernel is applied whole: outwards from every input, or at every result."""
        plain = all(slide.stride == 1 for slide in self.reach)
        return (math.prod(source) if plain else math.inf), math.prod(result)

    @property
    def weight(self) -> float:
        """Count the kernel once per position, less with stride."""
        return self.kernel.numel() / math.prod(slide.stride for slide in self.reach)

    def carry(self, windows: Any) -> None:
        """Convolve the differences outwards (zeros around them), or what each result reads, whichever is less."""
        source, result = windows.place(self.inputs[0]), windows.place(self.output)
        changes = windows.changes(self.inputs[0])
        y, x = self.reach
        outwards, inwards = self._positions(source.lengths, result.lengths)
        if self.area == 1 and y.stride == x.stride == 1 and not (y.before or x.before):
            made = windows.product(windows.moved(changes, source, result), self)
        elif outwards <= inwards:
            full = source.grown(-1, (y.span - 1, x.span - 1), (y.before, x.before))
            padding = (y.span - 1, x.span - 1)
            made = windows.moved(windows.convolved(changes, self, padding), full, result)
        else:
            made = windows.strided(changes, source, result, self)
        windows.set_changes(self.output, made)


class Scale(Operation):
    """BatchNorm in eval mode: a factor per channel."""

    linear = True

    def __init__(self, call: Call, reach: tuple[Reach, Reach], factor: Tensor):
        super().__init__(call, reach)
        self.factor = factor

    def carry(self, windows: Any) -> None:
        """Multiply the differences."""
        windows.set_changes(self.output, windows.changes_at(self.inputs[0], self.output) * self.factor)


class Sum(Operation):
    """The sum of two values, of a value and a constant, or the value itself."""

    linear = True

    def carry(self, windows: Any) -> None:
        """Add the differences."""
        parts = [windows.changes_at(value, self.output) for value in self.call.inputs]
        windows.set_changes(self.output, parts[0] if len(parts) == 1 else parts[0] + parts[1])


class Join(Operation):
    """Maps side by side along the channels."""

    linear = True

    def carry(self, windows: Any) -> None:
        """Join the differences."""
        parts = [windows.changes_at(value, self.output) for value in self.call.inputs]
        windows.set_changes(self.output, torch.cat(parts, -1))


class Pad(Operation):
    """A border of a constant, or of what is inside (reflect, replicate, circular)."""

    linear = True

    def carry(self, windows: Any) -> None:
        """Fetch the differences from where each position was taken."""
        changes, source = windows.changes(self.inputs[0]), windows.place(self.inputs[0])
        windows.set_changes(self.output, windows.fetched(changes, source, windows.place(self.output), self.reach))


class Pointwise(Operation):
    """A function of the values at each position (all channels together, or one by one)."""

    def carry(self, windows: Any) -> None:
        """Apply the function to the values."""
        if self.call.name in ("relu", "relu_") and len(self.inputs) == 1:
            made = windows.values_at(self.inputs[0], self.output, fresh=True).relu_()
        else:
            made = windows.applied(self.call, self.output)
        windows.set_values(self.output, made)


class MaxPool(Operation):
    """The largest value under a window."""

    def carry(self, windows: Any) -> None:
        """Pool the values, with the clean image around them."""
        slides = self.reach
        place = windows.place(self.output).read_by(slides)
        around = windows.inlaid(self.inputs[0], place, slides, -math.inf)
        kernel, stride, dilation = ([getattr(s, name) for s in slides] for name in ("kernel", "stride", "dilation"))
        windows.set_values(
            self.output, windows.image_like(around, lambda maps: F.max_pool2d(maps, kernel, stride, 0, dilation))
        )


class AveragePool(Operation):
    """The mean under a window; `divisor` (y, x) where it is not the same everywhere."""

    linear = True

    def __init__(self, call: Call, reach: tuple[Slide, Slide], divisor: Tensor):
        super().__init__(call, reach)
        self.divisor = divisor

    def carry(self, windows: Any) -> None:
        """Average the differences."""
        slides, place = self.reach, windows.place(self.output)
        changes = windows.moved(windows.changes(self.inputs[0]), windows.place(self.inputs[0]), place.read_by(slides))
        kernel, stride = [s.kernel for s in slides], [s.stride for s in slides]
        total = windows.image_like(changes, lambda maps: F.avg_pool2d(maps, kernel, stride, divisor_override=1))
        windows.set_changes(self.output, total / windows.cut(self.divisor, place))


# ---- which call is what --------------------------------------------------------------------------------------------


def operation(call: Call, local: set[Value]) -> Operation | None:
    """Return how a call carries windows, or None where it is not local (or not known to be).

    Args:
        local: the values known so far that have windows; (1, channel, y, x).
    """
    if not call.inputs or not all(value in local for value in call.inputs) or len(call.outputs[0].shape) != 4:
        return None
    name = call.name if call.name.startswith("__") else call.name.rstrip("_")
    name = re.sub(r"2d$", "", name.removesuffix("_with_indices"))
    if name in RULES:
        return RULES[name](call)
    same_shape = all(value.shape[2:] == call.outputs[0].shape[2:] for value in call.inputs)
    if len(call.outputs) > 1 or not same_shape or call.outputs[0].shape[0] != 1:
        return None
    reach = tuple(map(same, call.outputs[0].shape[2:]))
    if SUMS.fullmatch(name) and "alpha" not in call.keywords and _equal_shapes(call):
        return Sum(call, reach)
    if IDENTITY.fullmatch(name) and not call.argument("training", 2, "dropout" in name):
        return Sum(call, reach)
    if POINTWISE.fullmatch(name) or name == "local_response_norm" or _softmax_over_channels(call, name):
        return Pointwise(call, reach) if _broadcasts(call) else None
    return None


def _equal_shapes(call: Call) -> bool:
    return all(value.shape == call.outputs[0].shape for value in call.inputs) and len(call.arguments) == 2


def _broadcasts(call: Call) -> bool:
    """Say whether every tensor of a pointwise call either has its map or is the same at all positions."""
    side = call.outputs[0].shape[2:]
    shapes = [value.shape for value in leaves((call.arguments, call.keywords), Value)]
    if any(value.shape[1] != call.outputs[0].shape[1] for value in call.inputs):
        return False
    ends = [(1,) * (2 - len(shape[-2:])) + shape[-2:] for shape in shapes]
    return all(end in ((1, 1), tuple(side)) for end in ends)


def _softmax_over_channels(call: Call, name: str) -> bool:
    return name in ("softmax", "log_softmax") and call.argument("dim", 1) in (1, -3)


def _each(setting: Any) -> tuple[int, int]:
    values = tuple(setting) if isinstance(setting, Sequence) else (setting,)
    return values * 2 if len(values) == 1 else values


def _slides(call: Call, kernel, stride, padding, dilation) -> tuple[Slide, Slide]:
    settings = zip(*map(_each, (kernel, stride, padding, dilation)))
    lengths = zip(call.inputs[0].shape[2:], call.outputs[0].shape[2:])
    return tuple(Slide(k, s, p, d, *sides) for (k, s, p, d), sides in zip(settings, lengths))


def _convolution(call: Call) -> Operation | None:
    weight = call.argument("weight", 1)
    if not isinstance(weight, Value) or weight.call != CONSTANT or len(weight.shape) != 4:
        return None
    padding, dilation = call.argument("padding", 4, 0), call.argument("dilation", 5, 1)
    if padding == "same":  # where it is odd, the left gets the smaller half
        padding = [d * (k - 1) // 2 for k, d in zip(weight.shape[2:], _each(dilation))]
    padding = 0 if padding == "valid" else padding
    slides = _slides(call, weight.shape[2:], call.argument("stride", 3, 1), padding, dilation)
    return Convolution(call, slides, weight.constant.detach(), call.argument("groups", 6, 1))


def _batch_norm(call: Call) -> Operation | None:
    mean, variance = call.argument("running_mean", 1), call.argument("running_var", 2)
    if call.argument("training", 5, False) or not isinstance(mean, Value) or not isinstance(variance, Value):
        return None
    factor = (variance.constant + call.argument("eps", 7, 1e-5)).rsqrt()
    if isinstance(gain := call.argument("weight", 3), Value):
        factor = factor * gain.constant.detach()
    return Scale(call, tuple(map(same, call.outputs[0].shape[2:])), factor)


def _max_pool(call: Call) -> Operation:
    kernel = call.argument("kernel_size", 1)
    stride = call.argument("stride", 2) or kernel
    return MaxPool(call, _slides(call, kernel, stride, call.argument("padding", 3, 0), call.argument("dilation", 4, 1)))


def _average_pool(call: Call) -> Operation:
    kernel = call.argument("kernel_size", 1)
    stride = call.argument("stride", 2) or kernel
    return _averaging(call, _slides(call, kernel, stride, call.argument("padding", 3, 0), 1))


def _averaging(call: Call, slides: tuple[Slide, Slide]) -> Operation:
    """Find the divisors by pooling ones: their sum over their mean."""
    ones = torch.ones((1, 1, *call.inputs[0].shape[2:]))
    means = repeat(call, {call.inputs[0]: ones.expand(call.inputs[0].shape)})[0][0, 0]
    padded = F.pad(ones, behind(slides))
    sums = F.avg_pool2d(padded, [s.kernel for s in slides], [s.stride for s in slides], divisor_override=1)[0, 0]
    sums = sums[: means.shape[0], : means.shape[1]]
    return AveragePool(call, slides, sums / means)


def behind(slides: tuple[Slide, Slide]) -> list[int]:
    """Return the padding (left, right, top, bottom) with which a window fits at every result (ceil_mode)."""
    y, x = ((s.before, max((s.into - 1) * s.stride + s.span - s.before - s.length, 0)) for s in slides)
    return [*x, *y]


def _adaptive(maximum: bool) -> Callable[[Call], Operation | None]:
    def rule(call: Call) -> Operation | None:
        pairs = list(zip(call.inputs[0].shape[2:], call.outputs[0].shape[2:]))
        if any(length % into for length, into in pairs):
            return None
        kernel = [length // into for length, into in pairs]
        slides = _slides(call, kernel, kernel, 0, 1)
        return MaxPool(call, slides) if maximum else _averaging(call, slides)

    return rule


def _pad(call: Call) -> Operation | None:
    pad = list(call.argument("pad", 1))
    if any(pad[4:]):
        return None
    lookups = []
    for axis in (2, 3):
        length = call.inputs[0].shape[axis]
        shape = [1, 1, 1, 1]
        shape[axis] = length
        along = torch.arange(1.0, length + 1).reshape(shape).expand(1, 1, *call.inputs[0].shape[2:])
        mode = call.argument("mode", 2, "constant")
        grown = F.pad(along, pad[:4], mode=mode, **({"value": 0.0} if mode == "constant" else {}))
        lookups.append(Lookup(grown.amax(dim=5 - axis)[0, 0].numpy().astype(np.int64) - 1))
    return Pad(call, tuple(lookups))


def _join(call: Call) -> Operation | None:
    dim = call.argument("dim", 1, 0)
    parts = leaves(call.arguments[0] if call.arguments else call.keywords["tensors"], Value)
    if dim not in (1, -3) or any(value.call == CONSTANT for value in parts):
        return None
    if any(value.shape[2:] != call.outputs[0].shape[2:] for value in parts):
        return None
    return Join(call, tuple(map(same, call.outputs[0].shape[2:])))


RULES = {
    "conv": _convolution,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _average_pool,
    "adaptive_avg_pool": _adaptive(maximum=False),
    "adaptive_max_pool": _adaptive(maximum=True),
    "pad": _pad,
    "cat": _join,
    "concat": _join,
    "concatenate": _join,
}
