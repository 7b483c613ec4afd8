"""Calls of a network that act locally: from a traced call to the operation that carries windows through it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cnnprobe.instruments.network.replay import repeat
from cnnprobe.instruments.network.tracing import CONSTANT, Call, Value, leaves
from cnnprobe.instruments.windows.operations import (
    AveragePool,
    Convolution,
    Join,
    MaxPool,
    Operation,
    Pad,
    Pointwise,
    Scale,
    Sum,
    behind,
)
from cnnprobe.instruments.windows.spans import Lookup, Slide, same

POINTWISE = re.compile(
    r"relu6?|leaky_relu|prelu|elu|selu|celu|gelu|silu|mish|softplus|softsign|sigmoid|logsigmoid|tanh|hardtanh|hardswish|"
    r"hardsigmoid|threshold|clamp|clamp_min|clamp_max|abs|neg|exp|log|sqrt|rsqrt|square|pow|sin|cos|sign|add|sub|"
    r"mul|div|true_divide|maximum|minimum|where|reciprocal|float|"
    r"__i?(add|sub|mul|truediv|pow)__|__r(add|sub|mul|truediv|pow)__|__(neg|abs)__"
)
IDENTITY = re.compile(r"dropout([123]d)?|contiguous|clone|detach")
SUMS = re.compile(r"add|__i?add__|__radd__")
JUMPS = re.compile(
    r"sign|sgn|floor|ceil|round|trunc|fix|frac|heaviside|fmod|remainder|floor_divide|__r?(mod|floordiv)__"
)


def operation(call: Call, local: set[Value]) -> Operation | None:
    """Return how a call carries windows, or None where it is not local (or not known to be).

    Args:
        local: the values known so far that have windows; (1, channel, y, x).
    """
    if not call.inputs or not all(value in local for value in call.inputs) or len(call.outputs[0].shape) != 4:
        return None
    name = call.name if call.name.startswith("__") else call.name.rstrip("_")
    name = re.sub(r"2d$", "", name)
    if name in RULES:
        return RULES[name](call)
    same_shape = all(value.shape[2:] == call.outputs[0].shape[2:] for value in call.inputs)
    if len(call.outputs) > 1 or not same_shape or call.outputs[0].shape[0] != 1:
        return None
    reach = _same(call)
    if SUMS.fullmatch(name) and "alpha" not in call.keywords and _equal_shapes(call):
        return Sum(call, reach)
    if IDENTITY.fullmatch(name) and not call.argument("training", 2, "dropout" in name):
        return Sum(call, reach)
    if POINTWISE.fullmatch(name) or name == "local_response_norm" or _softmax_over_channels(call, name):
        return Pointwise(call, reach) if name == "prelu" or _broadcasts(call) else None
    return None


def jumps(call: Call) -> bool:
    """Say whether a call may answer otherwise to the least change: it compares, or its function has steps."""
    name = call.name if call.name.startswith("__") else call.name.rstrip("_")
    return JUMPS.fullmatch(name) is not None or any(value.dtype == torch.bool for value in call.outputs)


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


def _same(call: Call) -> tuple[Slide, Slide]:
    """Return the reach of a call that acts position by position."""
    y, x = call.outputs[0].shape[2:]
    return same(y), same(x)


def _slides(call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Slide, Slide]:
    settings = zip(*map(_each, (kernel, stride, padding, dilation)))
    lengths = zip(call.inputs[0].shape[2:], call.outputs[0].shape[2:])
    y, x = (Slide(k, s, p, d, *sides) for (k, s, p, d), sides in zip(settings, lengths))
    return y, x


def _convolution(call: Call) -> Operation | None:
    weight = call.argument("weight", 1)
    if not isinstance(weight, Value) or weight.call != CONSTANT or len(weight.shape) != 4:
        return None
    padding, dilation = call.argument("padding", 4, 0), call.argument("dilation", 5, 1)
    if padding == "same":  # where it is odd, the left gets the smaller half
        padding = [d * (k - 1) // 2 for k, d in zip(weight.shape[2:], _each(dilation))]
    padding = 0 if padding == "valid" else padding
    slides = _slides(call, weight.shape[2:], call.argument("stride", 3, 1), padding, dilation)
    return Convolution(call, slides, weight.held.detach(), call.argument("groups", 6, 1))


def _batch_norm(call: Call) -> Operation | None:
    mean, variance = call.argument("running_mean", 1), call.argument("running_var", 2)
    if call.argument("training", 5, False) or not isinstance(mean, Value) or not isinstance(variance, Value):
        return None
    factor = (variance.held + call.argument("eps", 7, 1e-5)).rsqrt()
    if isinstance(gain := call.argument("weight", 3), Value):
        factor = factor * gain.held.detach()
    return Scale(call, _same(call), factor)


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
    return Pad(call, (lookups[0], lookups[1]))


def _join(call: Call) -> Operation | None:
    dim = call.argument("dim", 1, 0)
    parts = leaves(call.arguments[0] if call.arguments else call.keywords["tensors"], Value)
    if dim not in (1, -3) or any(value.call == CONSTANT for value in parts):
        return None
    if any(value.shape[2:] != call.outputs[0].shape[2:] for value in parts):
        return None
    return Join(call, _same(call))


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
