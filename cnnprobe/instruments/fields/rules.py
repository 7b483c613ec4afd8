"""Rules by which torch functions pass receptive fields on: from the geometry of their inputs to that of their output.

Windows (convolution, pooling), resampling and borders have a formula. Functions that only move values, and what joins
branches, are in `field_joins`; what mixes positions (attention, averages over space, statistics of normalisations)
sees the whole image along the axes it mixes. The functions known to act value by value are named. Any other function
is measured (`field_measuring`). What a field owes to one that is measured, or that sees all, is noted.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch.nn.functional as F

from cnnprobe.instruments.fields.joins import concatenated, everywhere, joined, moved, written
from cnnprobe.instruments.fields.measuring import measured
from cnnprobe.instruments.network.calls import POINTWISE
from cnnprobe.instruments.network.receptive_field import BATCH, CHANNEL, Geometry, Span, gathered
from cnnprobe.instruments.network.tracing import IMAGE, Call, Trace, Value
from cnnprobe.machine.memory import is_short

Reach = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""(positions u, length read, length returned) -> first and last position read by u."""

MOVES = (
    "permute|transpose|swapaxes|swapdims|movedim|moveaxis|t|reshape|reshape_as|view|view_as|flatten|unflatten|ravel|"
    "squeeze|unsqueeze|expand|expand_as|repeat|tile|__getitem__|narrow|select|chunk|split|split_with_sizes|"
    "tensor_split|unbind|flip|fliplr|flipud|roll|rot90|pixel_shuffle|pixel_unshuffle|channel_shuffle|"
    "native_channel_shuffle|unfold|repeat_interleave|index_select|gather|take_along_dim|take|T|mT|H|mH|adjoint"
)
WRITES = "__setitem__|slice_scatter|select_scatter|index_copy|index_put|scatter|hstack|vstack|dstack|column_stack"
REDUCTIONS = (
    "mean|sum|amax|amin|max|min|std|var|norm|logsumexp|prod|median|argmax|argmin|std_mean|var_mean|nanmean|nansum|"
    "nanmedian|all|any|count_nonzero"
)
ALONG = {
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")),
    **{"normalize": 1, "local_response_norm": 1, "sort": -1, "argsort": -1, "glu": -1, "msort": 0},
}
"""Functions that mix the positions along one axis, and which that is where none is said."""
APART = "brings together pixels that lie far apart (as circular padding does): the field holds all between them"
UNCHANGED = "(alpha_|feature_alpha_)?dropout|clone|contiguous|detach|requires_grad|data"
GLOBAL = ".*deform.*|as_strided"
"""Functions that read where values, or the order in memory, say: a trial does not show how far they may."""


def geometries(trace: Trace) -> dict[Value, Geometry]:
    """Return the geometry of every value of a traced pass."""
    channels, *sides = trace.size
    axes = range(len(sides))
    image = Geometry((BATCH, CHANNEL, *axes), tuple(Span(0, 1, 1) for _ in axes), tuple(sides))
    known = {Value(IMAGE, 0, (1, channels, *sides)): image}
    for call in trace.calls:
        read = [known[value] for value in call.inputs]
        how = rule(call)
        known |= {out: _noted(call, how, read, _followed(call, how, read, out)) for out in call.outputs}
    return known


def _followed(call: Call, how: Callable, read: list[Geometry], out: Value) -> Geometry:
    """Apply a rule; a call that it does not fit, or that cannot be run on coordinates, sees everything."""
    try:
        return how(call, read, out)
    except Exception as error:  # whatever stands in a network that was never seen before
        if is_short(error):
            raise
        return everywhere(call, read, out)


def _noted(call: Call, how: Callable, read: list[Geometry], made: Geometry) -> Geometry:
    """Add what a field owes to a call that has no formula, and the mirrors of all that is read."""
    notes = dict.fromkeys(note for geometry in read for note in geometry.notes)
    axes = range(len(made.sides))
    new = [axis for axis in axes if not made.spans[axis].stride and all(g.spans[axis].stride for g in read)]
    if new:
        named = " and ".join("zyx"[axis - len(axes)] for axis in new)
        words = "the whole image" if len(new) == len(axes) else f"all of {named}"
        notes[f"{call.name.strip('_')}() sees {words}"] = None
    elif how is measured and not all(map(made.is_whole, axes)):
        notes[f"{call.name.strip('_')}() was measured"] = None
    if how in (moved, concatenated, measured) and any(_spread(axis, read, made) for axis in axes):
        notes[f"{call.name.strip('_')}() {APART}"] = None
    mirrors: dict[int, tuple[float, float]] = {}
    for role, ends in [pair for geometry in (*read, made) for pair in geometry.mirrors.items()]:
        mirrors[role] = _tighter(mirrors.get(role), ends)
    return replace(made, notes=tuple(notes), mirrors=mirrors)


def _spread(axis: int, read: list[Geometry], made: Geometry) -> bool:
    """Tell whether an interval has grown by more than half the image: positions read pixels that lie far apart."""
    grown = made.spans[axis].size - max(geometry.spans[axis].size for geometry in read)
    return bool(made.spans[axis].stride) and grown > made.sides[axis] / 2


def rule(call: Call) -> Callable[[Call, list[Geometry], Value], Geometry]:
    """Return the rule for a call."""
    name = re.sub(r"\.\w+$", "", call.name)  # the overload of an operator
    if name == "__get__":  # a property of the tensor, by its own name
        name = getattr(getattr(call.function, "__self__", None), "__name__", name)
    name = name if name.startswith("__") else name.rstrip("_")
    name = re.sub(r"[123]d$", "", name.removesuffix("_with_indices"))
    if re.fullmatch(GLOBAL, name):
        return everywhere
    if re.fullmatch(WRITES, name):
        return written
    if name in ("cat", "concat", "concatenate", "stack"):
        return concatenated
    if name == "pad":
        return moved if call.argument("mode", 2, "constant") == "circular" else _padded
    if call.function is F.unfold:
        return _windows
    if re.fullmatch(MOVES, name):
        return moved
    if len(set(call.inputs)) == 1 and call.argument("input", 0) == call.inputs[0]:
        if name in RULES:
            return RULES[name]
        if name in ALONG:
            return _along
        if re.fullmatch(REDUCTIONS, name):
            return _reduced
    return joined if re.fullmatch(f"{POINTWISE}|{UNCHANGED}|max|min", name) else measured


# ---- windows -------------------------------------------------------------------------------------------------------


def _convolution(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = call.argument("weight", 1).shape[2:]
    stride, dilation = call.argument("stride", 3, 1), call.argument("dilation", 5, 1)
    padding = call.argument("padding", 4, 0)
    if padding == "same":  # where it is odd, the left gets the smaller half
        padding = [d * (k - 1) // 2 for k, d in zip(kernel, _each(dilation, len(kernel)))]
    return _window(_mixed(read[0], len(kernel)), out, kernel, stride, 0 if padding == "valid" else padding, dilation)


def _mixed(source: Geometry, count: int) -> Geometry:
    """Mix the axis before the last `count`: it is the channels' of a convolution."""
    place = len(source.roles) - count - 1
    mixed = source.roles[place]
    lost = [mixed] if isinstance(mixed, int) else []
    roles = (None if role == CHANNEL else role for role in source.roles)
    return replace(source.whole(lost), roles=tuple(CHANNEL if a == place else role for a, role in enumerate(roles)))


def _max_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = _kernel(call, 1)
    stride = call.argument("stride", 2) or kernel
    return _window(read[0], out, kernel, stride, call.argument("padding", 3, 0), call.argument("dilation", 4, 1))


def _kernel(call: Call, place: int) -> tuple[int, ...]:
    """Return the sides of a pooling: as many as its name says."""
    return _each(call.argument("kernel_size", place), int(re.findall(r"(\d)d", call.name)[0]))


def _avg_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = _kernel(call, 1)
    return _window(read[0], out, kernel, call.argument("stride", 2) or kernel, call.argument("padding", 3, 0), 1)


def _lp_pool(call: Call, read: list[Geometry], out: Value) -> Geometry:
    kernel = _kernel(call, 2)
    return _window(read[0], out, kernel, call.argument("stride", 3) or kernel, 0, 1)


def _window(source: Geometry, out: Value, kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> Geometry:
    """Pass a window over the last axes. (ceil_mode adds positions at the end and moves none.)"""
    spans, count = {}, len(kernel)
    settings = zip(*(_each(setting, count) for setting in (kernel, stride, padding, dilation)))
    for axis, (k, s, p, d) in zip(range(len(out.shape) - count, len(out.shape)), settings):
        if (role := source.spatial().get(axis)) is not None:
            span = source.spans[role]
            size = span.size + (k - 1) * d * abs(span.stride)
            first = -p if span.stride >= 0 else (k - 1) * d - p  # the tap whose pixels come first in the image
            spans[role] = Span(span.start + first * span.stride, size, span.stride * s)
    return source.with_spans(spans)


def _each(setting: Any, count: int) -> tuple:
    """Return a setting given once, or once per axis, once per axis."""
    values = tuple(setting) if isinstance(setting, Sequence) else (setting,)
    return values * count if len(values) == 1 else values


def _transposed(call: Call, read: list[Geometry], out: Value) -> Geometry:
    source = _mixed(read[0], len(call.argument("weight", 1).shape) - 2)
    for axis, (reach, stride) in reaches(call, out).items():
        source = _resampled(source, call.inputs[0], out, reach, axis, stride)
    return source


def reaches(call: Call, out: Value) -> dict[int, tuple[Reach, float]]:
    """Return by axis which positions those of the result read, on maps without an end, and the step of these.

    Of calls that do not take the same window everywhere: transposed convolution, interpolation, adaptive pooling; of
    others nothing.
    """
    shape = call.inputs[0].shape
    how, axes = rule(call), range(2, len(out.shape))
    if how is _transposed:
        return _taps(call, out)
    if how is _interpolated:
        return _between(call, out)
    if how is _adaptive:
        return {axis: (_shares, shape[axis] / out.shape[axis]) for axis in axes if shape[axis] != out.shape[axis]}
    return {}


def _taps(call: Call, out: Value) -> dict[int, tuple[Reach, float]]:
    """Transposed convolution: output u reads the inputs i with i s - p + j d = u for a tap j of the kernel."""
    kernel = call.argument("weight", 1).shape[2:]
    settings = (kernel, *(call.argument(*of) for of in (("stride", 3, 1), ("padding", 4, 0), ("dilation", 7, 1))))
    found: dict[int, tuple[Reach, float]] = {}
    for back, (k, s, p, d) in enumerate(zip(*(_each(setting, len(kernel))[::-1] for setting in settings))):

        def reach(
            u: np.ndarray, *_: int, k: int = k, s: int = s, p: int = p, d: int = d
        ) -> tuple[np.ndarray, np.ndarray]:
            first, last = np.ceil((u + p - (k - 1) * d) / s), np.floor((u + p) / s)
            return np.where(first <= last, first, np.nan), np.where(first <= last, last, np.nan)  # between the taps

        found[len(out.shape) - 1 - back] = reach, 1 / s
    return found


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
    source = read[0]
    for axis, (reach, ratio) in reaches(call, out).items():

        def within(u: np.ndarray, length: int, into: int, reach: Reach = reach) -> tuple[np.ndarray, np.ndarray]:
            first, last = reach(u, length, into)
            return np.clip(first, 0, length - 1), np.clip(last, 0, length - 1)

        source = _resampled(source, call.inputs[0], out, within, axis, ratio)
    return source


def _between(call: Call, out: Value) -> dict[int, tuple[Reach, float]]:
    """Interpolation: the positions about the place that is asked for."""
    mode, corners = call.argument("mode", 3, "nearest"), call.argument("align_corners", 4)
    smooth, recomputed = call.argument("antialias", 6, False), call.argument("recompute_scale_factor", 5)
    count = len(out.shape) - 2
    factors = _each(None if recomputed else call.argument("scale_factor", 2), count)
    found: dict[int, tuple[Reach, float]] = {}
    for axis, factor in zip(range(2, len(out.shape)), factors):
        length, into = call.inputs[0].shape[axis], out.shape[axis]
        ratio = length / into if factor is None or mode == "area" else 1 / factor  # the factor is used as it is given

        def reach(u: np.ndarray, length: int, into: int, ratio: float = ratio) -> tuple[np.ndarray, np.ndarray]:
            if mode == "area":
                return _shares(u, length, into)
            if mode.startswith("nearest"):
                nearest = (u + (0.5 if mode == "nearest-exact" else 0)) * ratio
                slack = 0 if float(ratio * 1024).is_integer() else 1e-4  # torch computes it in float32
                return np.floor(nearest - slack), np.floor(nearest + slack)
            exact = u * (length - 1) / max(into - 1, 1) if corners else (u + 0.5) * ratio - 0.5
            half = (2 if mode == "bicubic" else 1) * (max(ratio, 1) if smooth else 1)
            return np.floor(exact - half) + 1, np.ceil(exact + half) - 1  # the kernel is 0 at its foot

        found[axis] = reach, ratio
    return found


def _padded(call: Call, read: list[Geometry], out: Value) -> Geometry:
    before = {len(out.shape) - 1 - pair: pad for pair, pad in enumerate(call.argument("pad", 1)[::2])}
    axes = {role: before.get(axis, 0) for axis, role in read[0].spatial().items()}
    spans = {role: read[0].spans[role] for role in axes}
    made = {role: replace(span, start=span.start - axes[role] * span.stride) for role, span in spans.items()}
    mirrors = dict(read[0].mirrors)
    if call.argument("mode", 2, "constant") != "constant":
        for axis, role in read[0].spatial().items():
            ends = [sum(spans[role].region(place)) for place in (0, call.inputs[0].shape[axis] - 1)]
            mirrors[role] = _tighter(mirrors.get(role), (min(ends), max(ends)))
    return replace(read[0].with_spans(made), mirrors=mirrors)


def _tighter(one: tuple[float, float] | None, other: tuple[float, float]) -> tuple[float, float]:
    """Return the mirrors that show most of what is inside."""
    return other if one is None else (max(one[0], other[0]), min(one[1], other[1]))


# ---- mixing ----------------------------------------------------------------------------------------------------------


def _along(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Mix the positions along one axis: nothing is lost where that is the channels'."""
    name = call.name.rstrip("_")
    fixed = name in ("msort", "local_response_norm")
    axis = ALONG[name] if fixed else call.argument("dim", 2 if name == "normalize" else 1, ALONG[name])
    if not isinstance(axis, int) or isinstance(axis, bool):
        return measured(call, read, out)
    role = read[0].roles[axis]
    return read[0].whole([role]) if isinstance(role, int) else read[0]


def _normalised(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Layer normalisation: statistics over the last axes."""
    count = len(call.argument("normalized_shape", 1))
    return read[0].whole([role for role in read[0].roles[-count:] if isinstance(role, int)])


def _over_positions(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Normalisation with statistics of the map, unless it has stored ones."""
    name = call.name.rstrip("_")
    own = {"batch_norm": ("training", 5, False), "instance_norm": ("use_input_stats", 5, True)}.get(name)
    if own is not None and not call.argument(*own):
        return read[0]
    return read[0].whole(list(read[0].spatial().values()))


def _dense(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """A dense layer mixes its last axis: channels at each position, or all there is."""
    *before, last = read[0].roles
    lost = [last] if isinstance(last, int) else []
    last = None if CHANNEL in before else CHANNEL
    return replace(read[0].whole(lost), roles=(*before, last))


def _windows(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Windows one behind the other, (image, channel and place in the window, window)."""
    return replace(read[0].whole(), roles=(BATCH, CHANNEL, None)[-len(out.shape) :])


def _reduced(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Average, sum, maximum over axes."""
    value, source = call.inputs[0], read[0]
    dims = call.argument("dim", 2 if call.name == "norm" else 1, call.keywords.get("axis"))
    if dims is None or isinstance(dims, bool):
        dims = range(len(value.shape))
    dims = dims if isinstance(dims, Sequence) else (dims,)
    gone = {dim % len(value.shape) for dim in dims} if all(isinstance(dim, int) for dim in dims) else set()
    kept = len(out.shape) == len(value.shape)
    shape = [1 if a in gone else n for a, n in enumerate(value.shape) if kept or a not in gone]
    if tuple(shape) != out.shape:
        return measured(call, read, out)
    lost = [role for axis, role in source.spatial().items() if axis in gone and value.shape[axis] > 1]
    roles = tuple(role for axis, role in enumerate(source.roles) if kept or axis not in gone)
    return replace(source.whole(lost), roles=roles)


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
    "linear": _dense,
    "layer_norm": _normalised,
    "rms_norm": _normalised,
    "group_norm": _over_positions,
    "instance_norm": _over_positions,
    "batch_norm": _over_positions,
}
