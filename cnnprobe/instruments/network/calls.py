"""Kinds of traced torch functions, and what follows a convolution alone."""

import math
import re
from string import ascii_letters
from typing import Any

from torch import Tensor, nn

from cnnprobe.instruments.network.tracing import CONSTANT, Call, Trace, Value, leaves

RECTIFIERS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish"),
    *("softplus", "threshold", "clamp_min", "hardtanh", "clamp"),
)
_KINDS = {  # the first kind that occurs in a module is the module's
    "convolution": ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
    "attention": ["multi_head_attention_forward", "scaled_dot_product_attention"],
    "linear": ["linear"],
    "pool": [f"{k}_pool{d}d" for k in ("max", "avg", "adaptive_avg", "adaptive_max", "lp") for d in (1, 2, 3)],
    "norm": ["batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm"],
    "nonlinearity": [name + end for name in RECTIFIERS for end in ("", "_")],
    "dropout": ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"],
}
KINDS = {name: kind for kind, names in _KINDS.items() for name in names}
POINTWISE = "|".join(
    (
        "relu6?|leaky_relu|prelu|rrelu|elu|selu|celu|gelu|silu|mish|softplus|softsign|sigmoid|logsigmoid|tanh|hardtanh",
        "hardswish|hardsigmoid|hardshrink|softshrink|tanhshrink|threshold|clamp|clamp_min|clamp_max|clip|abs|absolute",
        "neg|negative|positive|exp|exp2|expm1|log|log2|log10|log1p|sqrt|rsqrt|square|pow|float_power|a?sinh?|a?cosh?",
        "a?tanh?|atan2|arc(sin|cos|tan)h?|sinc|erf|erfc|erfinv|logit|sign|sgn|floor|ceil|round|trunc|frac|reciprocal",
        "add|sub|subtract|mul|multiply|div|divide|true_divide|floor_divide|fmod|remainder|maximum|minimum|fmax|fmin",
        "addcmul|addcdiv|lerp|hypot|copysign|logaddexp2?|xlogy|where|masked_fill|nan_to_num|heaviside|tril|triu|copy",
        "fill|zero|float|double|half|bfloat16|int|long|bool|to|type|type_as|real|imag|conj|angle",
        "eq|ne|lt|le|gt|ge|isnan|isinf|isfinite|logical_(and|or|not|xor)|bitwise_(and|or|not|xor)|deg2rad|rad2deg",
        "rsub|ldexp|__[ri]?(add|sub|mul|div|truediv|floordiv|mod|pow|and|or|xor|[lr]shift)__",
        "__(neg|abs|pos|invert|eq|ne|lt|le|gt|ge)__",
    )
)
"""Functions that make each number of the numbers at its place, by name without the "_" of those in place."""
RESHAPES = re.compile(r"view|reshape|flatten|unflatten|squeeze|unsqueeze|contiguous|mul|div|__r?mul__|__truediv__")
"""Functions that give each number a place or a scale: nothing is summed."""
_PASSING = "(max_pool|avg_pool|adaptive_avg_pool|adaptive_max_pool|dropout)([123]d)?|cat|flatten"


def is_rectifier(call: Call) -> bool:
    """Say whether a call is a rectifying nonlinearity; a clamp is one only if it cuts at 0."""
    name = call.name.removesuffix("_")
    if name in ("clamp", "hardtanh", "clamp_min"):
        return call.argument("min" if name != "hardtanh" else "min_val", 1) == 0
    return name in RECTIFIERS


def alone_rectified(trace: Trace, convolution: Call) -> Value:
    """Return the value after the BatchNorm and rectifier behind a convolution, if nothing else reads what is between.

    Otherwise (BatchNorm without a rectifier, a sum, several readers, a rectifier inside of a `torch.autograd.Function`)
    the convolution's own output, or what forward hooks of its module make of it.
    """
    value = convolution.outputs[0]
    around = trace.around(convolution)
    if around.hooked and isinstance(around.output, Value) and around.output.call >= convolution.index:
        value = around.output
    follower = _only_reader(trace, value)
    if follower is not None and follower.name == "batch_norm":
        follower = _only_reader(trace, follower.outputs[0])
    if follower is not None and is_rectifier(follower) and follower.hidden == convolution.hidden:
        return follower.outputs[0]
    return value


def _only_reader(trace: Trace, value: Value) -> Call | None:
    readers = trace.consumers.get(value, [])
    return trace.calls[readers[0]] if len(readers) == 1 and readers[0] < len(trace.calls) else None


def nonnegative(trace: Trace, value: Value) -> bool:
    """Say whether a value is known to be never negative: a rectifier's, or made of such by pooling and joining."""
    if value.call < 0:
        return False
    call = trace.calls[value.call]
    name = call.name.removesuffix("_")
    if name in ("relu", "relu6", "sigmoid", "softplus", "softmax", "hardsigmoid"):
        return True
    if name in ("clamp", "hardtanh", "clamp_min"):
        return is_rectifier(call)
    if not re.fullmatch(_PASSING, name):
        return False
    constants = any(given.call == CONSTANT for given in leaves((call.arguments, call.keywords), Value))
    return not constants and all(nonnegative(trace, given) for given in call.inputs)


def weights(call: Call, model: nn.Module) -> int:
    """Count the weights and biases a convolution was given as arguments, without those that are buffers (fixed)."""
    given = [value for value in (call.argument("weight", 1), call.argument("bias", 2)) if isinstance(value, Value)]
    fixed = {id(buffer) for buffer in model.buffers()}
    return sum(math.prod(value.shape) for value in given if id(value.constant) not in fixed)


def parameters(module: nn.Module) -> int:
    """Count the parameters of a module, each once."""
    return sum(parameter.numel() for parameter in module.parameters())


def own_parameters(module: nn.Module) -> int:
    """Count the parameters of a module that are of none of the modules inside it."""
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def has_map(value: Value) -> bool:
    """Say whether a value is (image, channel, y, x) with more than one position."""
    return len(value.shape) == 4 and value.shape[2] * value.shape[3] > 1


def pools_evenly(call: Call) -> bool:
    """Say whether a call makes one number of each map."""
    given, made = call.inputs[0] if call.inputs else None, call.outputs[0].shape
    pools = "avg_pool2d" in call.name or call.name == "mean"
    return pools and given is not None and has_map(given) and made[:2] == given.shape[:2] and set(made[2:]) <= {1}


def followed(calls: list[Call], value: Value) -> Value:
    """Return the last map of the same size that is made from a map without pooling."""
    made, last = {value}, value
    for call in calls:
        if made & set(call.inputs) and KINDS.get(call.name) != "pool":
            made |= set(call.outputs)
            maps = [one for one in call.outputs if has_map(one) and one.shape[2:] == value.shape[2:]]
            last = maps[0] if maps and not is_gate(calls, maps[0]) else last
    return last


def is_gate(calls: list[Call], value: Value) -> bool:
    """Say whether a map only weighs the positions of others: all that reads it is a softmax over positions.

    Args:
        calls: from which the output is made.
        value: (image, channel, y, x).
    """
    moved, weighs = {value}, False
    for call in calls:
        if not moved & set(call.inputs):
            continue
        name, dim = call.name.rstrip("_"), call.argument("dim", 1)
        if name == "softmax" and isinstance(dim, int) and dim % len(call.outputs[0].shape) > 1:
            weighs = True
        elif RESHAPES.fullmatch(name) and len(call.inputs) == 1:
            moved |= set(call.outputs)
        else:
            return False
    return weighs


def einsum_indices(call: Call) -> tuple[list[list[str]], list[str], dict[str, int]]:
    """Return by factor of an `einsum` the names of its axes, those of its result, and how far each runs."""
    tensors = leaves((call.arguments, call.keywords), Value)
    if isinstance(call.arguments[0], str):
        left, arrow, right = call.arguments[0].replace(" ", "").partition("->")
        words = left.split(",")
    else:
        lists = [one for one in call.arguments if not isinstance(one, Value)]
        written = ["".join("..." if at is Ellipsis else ascii_letters[at] for at in one) for one in lists]
        words, right = written[: len(tensors)], "".join(written[len(tensors) :])
        arrow = "->" if len(written) > len(tensors) else ""
    sizes: dict[str, int] = {}
    factors: list[list[str]] = []
    longest: list[str] = []
    for word, value in zip(words, tensors):
        before, dots, after = word.partition("...")
        rest = len(value.shape) - len(before) - len(after)
        hidden = [f"axis {at}" for at in range(rest, 0, -1)] if dots else []
        names = [*before, *hidden, *after]
        longest = max(longest, hidden, key=len)
        factors.append(names)
        for name, side in zip(names, value.shape):
            sizes[name] = max(sizes.get(name, 1), side)
    if arrow:
        before, dots, after = right.partition("...")
        result = [*before, *(longest if dots else []), *after]
    else:  # what stands once, in the order of the alphabet
        result = longest + sorted(name for name in sizes if "".join(words).count(name) == 1)
    return factors, result, sizes


def parameters_behind(constant: Tensor | None) -> set[Tensor]:
    """Return the parameters that a constant of a pass of `trace_anew` that learns is made from, itself if it is one."""
    if constant is None or constant.grad_fn is None:
        return set() if constant is None else {constant}
    found: set[Tensor] = set()
    seen: set[Any] = set()
    waiting = [constant.grad_fn]
    while waiting:
        node = waiting.pop()
        found |= {node.variable} if hasattr(node, "variable") else set()
        before = {one for one, _ in node.next_functions if one is not None} - seen
        seen |= before
        waiting += before
    return found
