"""How each torch function passes receptive fields on: from those of what it reads to that of what it returns.

Windows (convolution, pooling) have a formula. Functions that only move values (slices, permutations, reshapes) are run
on the coordinates themselves. What joins branches takes the union. What mixes all positions (dense layers, attention,
averages over space) sees the whole image. What is not known by name acts value by value if it keeps the shape, else it
is taken to see the whole image. Statistics of normalisations over space are left out, as in Araujo et al. 2019.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from cnnprobe.engine.receptive_field import BATCH, CHANNEL, Geometry, Span, gathered, union
from cnnprobe.engine.tracing import IMAGE, Call, Trace, Value, leaves, replaced

Reach = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""(positions u, length read, length returned) -> first and last position read by u."""

MOVES = (
    "permute|transpose|swapaxes|swapdims|movedim|moveaxis|t|reshape|reshape_as|view|view_as|flatten|unflatten|ravel|"
    "squeeze|unsqueeze|expand|expand_as|repeat|__getitem__|narrow|select|chunk|split|tensor_split|unbind|flip|roll|"
    "rot90|contiguous|pixel_shuffle|pixel_unshuffle|channel_shuffle|native_channel_shuffle|unfold|repeat_interleave"
)
BY_SHAPE = frozenset({"view_as", "expand_as", "reshape_as"})  # their second tensor gives its shape only
MIXES = (
    "matmul|__matmul__|__rmatmul__|bmm|mm|baddbmm|addmm|einsum|tensordot|multi_head_attention_forward|cumsum|"
    "scaled_dot_product_attention|lstm|gru|rnn_tanh|rnn_relu|bilinear|grid_sampler?|fft_.*"
)
REDUCTIONS = "mean|sum|amax|amin|max|min|std|var|norm|logsumexp|prod|median|argmax|std_mean|var_mean"


def geometries(trace: Trace) -> dict[Value, Geometry]:
    """Return the geometry of every value of a traced pass."""
    channels, *sides = trace.size
    axes = range(len(sides))
    image = Geometry((BATCH, CHANNEL, *axes), tuple(Span(0, 1, 1) for _ in axes), tuple(sides))
    known = {Value(IMAGE, 0, (1, channels, *sides)): image}
    for call in trace.calls:
        read = [known[value] for value in call.inputs]
        known |= {out: rule(call)(call, read, out) for out in call.outputs}
    return known


def rule(call: Call) -> Callable[[Call, list[Geometry], Value], Geometry]:
    """Return the rule for a call."""
    name = call.name if call.name.startswith("__") else call.name.rstrip("_")
    name = re.sub(r"[123]d$", "", name.removesuffix("_with_indices"))
    if name in RULES:
        return RULES[name]
    if re.fullmatch(MOVES, name):
        return _moved
    if re.fullmatch(MIXES, name):
        return _everywhere
    if re.fullmatch(REDUCTIONS, name) and any(out.shape != call.inputs[0].shape for out in call.outputs):
        return _reduced
    return _joined


# ---- windows -------------------------------------------------------------------------------------------------------


def _convolution(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = call.argument("weight", 1).shape[2:]
    stride, dilation = call.argument("stride", 3, 1), call.argument("dilation", 5, 1)
    padding = call.argument("padding", 4, 0)
    if padding == "same":  # where it is odd, the left gets the smaller half
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, _each(dilation, len(kernel)))]
    return _window(read[0], out, kernel, stride, 0 if padding == "valid" else padding, dilation)


def _max_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = call.argument("kernel_size", 1)
    stride = call.argument("stride", 2) or kernel
    return _window(read[0], out, kernel, stride, call.argument("padding", 3, 0), call.argument("dilation", 4, 1))


def _avg_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = call.argument("kernel_size", 1)
    return _window(read[0], out, kernel, call.argument("stride", 2) or kernel, call.argument("padding", 3, 0), 1)


def _lp_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = call.argument("kernel_size", 2)
    return _window(read[0], out, kernel, call.argument("stride", 3) or kernel, 0, 1)


def _window(source: Geometry, out: Value, kernel, stride, padding, dilation) -> Geometry:
    """Pass a window over the last axes. (ceil_mode adds positions at the end and moves none.)"""
    count = len(kernel) if isinstance(kernel, Sequence) else len(out.shape) - 2
    spans = {}
    settings = zip(*(_each(setting, count) for setting in (kernel, stride, padding, dilation)))
    for axis, (k, s, p, d) in zip(range(len(out.shape) - count, len(out.shape)), settings):
        if (role := source.spatial().get(axis)) is not None:
            span = source.spans[role]
            size = span.size + (k - 1) * d * abs(span.stride)
            spans[role] = Span(span.start - p * span.stride, size, span.stride * s)
    roles = tuple(CHANNEL if axis == 1 else role for axis, role in enumerate(source.roles))
    return replace(source.with_spans(spans), roles=roles)


def _each(setting, count: int) -> tuple:
    """Return a setting given once, or once per axis, once per axis."""
    values = tuple(setting) if isinstance(setting, Sequence) else (setting,)
    return values * count if len(values) == 1 else values


def _transposed(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Transposed convolution: output u reads the inputs i with i s - p + j d = u for a tap j of the kernel."""
    kernel = call.argument("weight", 1).shape[2:]
    settings = (kernel, *(call.argument(*of) for of in (("stride", 3, 1), ("padding", 4, 0), ("dilation", 7, 1))))
    source = replace(read[0], roles=tuple(CHANNEL if axis == 1 else role for axis, role in enumerate(read[0].roles)))
    for back, (k, s, p, d) in enumerate(zip(*(_each(setting, len(kernel))[::-1] for setting in settings))):

        def reach(u: np.ndarray, *_, k=k, s=s, p=p, d=d) -> tuple[np.ndarray, np.ndarray]:
            return np.ceil((u + p - (k - 1) * d) / s), np.floor((u + p) / s)

        source = _resampled(source, call.inputs[0], out, reach, axis=len(out.shape) - 1 - back, stride=1 / s)
    return source


def _resampled(
    source: Geometry, value: Value, out: Value, reach: Reach, axis: int | None = None, stride: float | None = None
) -> Geometry:
    """Let every position of the spatial axes (or of one) read the positions that `reach` says."""
    spans, aligned = {}, True
    for place, role in source.spatial().items():
        length, into = value.shape[place], out.shape[place]
        if axis in (None, place) and (stride or length != into):
            first, last = reach(np.arange(into), length, into)
            spans[role], exact = gathered(source.spans[role], first, last, stride or length / into)
            if into == 1 and last[0] - first[0] == length - 1:  # one position that reads all others
                spans[role] = source.all_of(role)
            aligned &= exact
    return source.with_spans(spans, aligned)


def _adaptive(call: Call, read: list[Geometry], out: Value) -> Geometry:
    return _resampled(read[0], call.inputs[0], out, _shares)


def _shares(u: np.ndarray, length: int, into: int) -> tuple[np.ndarray, np.ndarray]:
    return u * length // into, -((u + 1) * length // -into) - 1


def _interpolated(call: Call, read: list[Geometry], out: Value) -> Geometry:
    mode, corners = call.argument("mode", 3, "nearest"), call.argument("align_corners", 4)
    smooth = call.argument("antialias", 6, False)

    def reach(u: np.ndarray, length: int, into: int) -> tuple[np.ndarray, np.ndarray]:
        if mode == "area":
            return _shares(u, length, into)
        if mode.startswith("nearest"):
            nearest = np.floor((u + (0.5 if mode == "nearest-exact" else 0)) * length / into)
            return nearest, nearest
        exact = u * (length - 1) / max(into - 1, 1) if corners else (u + 0.5) * length / into - 0.5
        half = (2 if mode == "bicubic" else 1) * (max(length / into, 1) if smooth else 1)
        first, last = np.floor(exact - half) + 1, np.ceil(exact + half) - 1  # the kernel is 0 at its foot
        return np.clip(first, 0, length - 1), np.clip(last, 0, length - 1)

    return _resampled(read[0], call.inputs[0], out, reach)


def _padded(call: Call, read: list[Geometry], out: Value) -> Geometry:
    before = {len(out.shape) - 1 - pair: pad for pair, pad in enumerate(call.argument("pad", 1)[::2])}
    axes = {role: before.get(axis, 0) for axis, role in read[0].spatial().items()}
    spans = {role: read[0].spans[role] for role in axes}
    return read[0].with_spans({r: replace(span, start=span.start - axes[r] * span.stride) for r, span in spans.items()})


# ---- moving, joining, mixing ---------------------------------------------------------------------------------------


def _moved(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Run the function on coordinates: an axis of the result along which y alone varies is the axis y."""
    source, value = read[0], call.inputs[0]
    others = [v for v in leaves((call.arguments, call.keywords), Value) if v is not value]
    if others and call.name not in BY_SHAPE:
        return _everywhere(call, read, out)
    places = {role: axis for axis, role in enumerate(source.roles) if role is not None}
    moved = {role: _coordinates(call, value, axis, out) for role, axis in places.items()}
    varying = {role: [a for a in range(len(out.shape)) if _varies(moved[role], a)] for role in moved}
    roles: list = [None] * len(out.shape)
    spans, lost, aligned = {}, [], True
    for role, axes in varying.items():
        alone = len(axes) == 1 and sum(axes[0] in other for other in varying.values()) == 1
        if alone:
            roles[axes[0]] = role
        if isinstance(role, int) and (alone or not axes):
            along = (
                moved[role].movedim(axes[0], 0).flatten(1)[:, 0].numpy() if alone else moved[role].flatten()[:1].numpy()
            )
            step = float(np.median(np.diff(along))) if len(along) > 1 else 1
            spans[role], exact = gathered(source.spans[role], along, along, step)
            aligned &= exact
        elif isinstance(role, int):
            lost.append(role)
    _name_singletons(roles, [role for role in places if not varying[role]], out.shape)
    return replace(source.with_spans(spans, aligned).whole(lost), roles=tuple(roles))


def _coordinates(call: Call, value: Value, axis: int, out: Value) -> torch.Tensor:
    """Return, for every element of the result, its coordinate along `axis` of what was read."""
    length = value.shape[axis]
    along = torch.arange(length, dtype=torch.float64).reshape([-1 if a == axis else 1 for a in range(len(value.shape))])
    grid = along.expand(value.shape).clone()

    def stand_in(other: Value) -> torch.Tensor:
        return grid if other == value else torch.zeros(other.shape)

    arguments, keywords = replaced((call.arguments, call.keywords), Value, stand_in)
    made = leaves(call.function(*arguments, **keywords), torch.Tensor)
    return made[out.part] if out.part < len(made) else made[0]


def _varies(coordinates: torch.Tensor, axis: int) -> bool:
    return bool((coordinates != coordinates.narrow(axis, 0, 1)).any())


def _name_singletons(roles: list, unplaced: list, shape: tuple[int, ...]) -> None:
    """Give roles of axes of length one, which no coordinate can follow, to the axes of length one, in order."""
    free = [axis for axis, role in enumerate(roles) if role is None and shape[axis] == 1]
    if len(free) == len(unplaced):
        for axis, role in zip(free, unplaced):
            roles[axis] = role
    elif BATCH in unplaced and 0 in free:
        roles[0] = BATCH


def _joined(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Value by value, with broadcasting, or along the channels: the union of what is read."""
    pairs = list(zip(call.inputs, read))
    same_rank = [geometry for value, geometry in pairs if len(value.shape) == len(out.shape)]
    if not same_rank or call.name == "stack":
        return _everywhere(call, read, out)
    main = next((geometry for value, geometry in pairs if value.shape == out.shape), same_rank[0])
    spans, aligned = {}, all(geometry.aligned for geometry in read)
    lengths = {role: out.shape[axis] for axis, role in main.spatial().items()}
    for value, _ in pairs:  # a function that changes the length of an axis is not one that acts value by value
        shape = (1,) * (len(out.shape) - len(value.shape)) + value.shape
        if any(shape[axis] not in (1, out.shape[axis]) for axis in main.spatial()):
            return _everywhere(call, read, out)
    for axis, whole in enumerate(main.whole().spans):
        spans[axis], same = union([geometry.spans[axis] for geometry in read], lengths.get(axis, 1), whole)
        aligned &= same
    return main.with_spans(spans, aligned)


def _normalised_exponential(call: Call, read: list[Geometry], out: Value) -> Geometry:
    axis = call.argument("dim", 1)
    return read[0] if read[0].roles[-1 if axis is None else axis] == CHANNEL else _everywhere(call, read, out)


def _dense(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """A dense layer mixes its last axis: channels at each position, or all there is."""
    *before, last = read[0].roles
    lost = [last] if isinstance(last, int) else []
    last = None if CHANNEL in before else CHANNEL
    return replace(read[0].whole(lost), roles=(*before, last))


def _reduced(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Average, sum, maximum over axes."""
    value, source = call.inputs[0], read[0]
    dims = call.argument("dim", 1, call.keywords.get("axis"))
    dims = range(len(value.shape)) if dims is None else (dims if isinstance(dims, Sequence) else (dims,))
    gone = {dim % len(value.shape) for dim in dims}
    lost = [role for axis, role in source.spatial().items() if axis in gone]
    kept = len(out.shape) == len(value.shape)
    roles = tuple(role for axis, role in enumerate(source.roles) if kept or axis not in gone)
    return replace(source.whole(lost), roles=roles)


def _everywhere(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Every position of the result depends on every one that is read."""
    roles = read[0].roles
    if len(roles) != len(out.shape):
        roles = (BATCH, *[None] * (len(out.shape) - 2), CHANNEL)[: len(out.shape)]
    return replace(read[0].whole(), roles=roles)


RULES = {
    "conv": _convolution,
    "conv_transpose": _transposed,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "lp_pool": _lp_pool,
    "adaptive_avg_pool": _adaptive,
    "adaptive_max_pool": _adaptive,
    "interpolate": _interpolated,
    "upsample": _interpolated,
    "pad": _padded,
    "linear": _dense,
    "softmax": _normalised_exponential,
    "log_softmax": _normalised_exponential,
    "softmin": _normalised_exponential,
}
