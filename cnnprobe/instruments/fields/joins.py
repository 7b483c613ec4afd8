"""Fields through moving and joining: functions that only move values, and those that bring several together.

What moves values (slices, permutations, reshapes, indexing), and what writes them into others, is run on coordinates.
What joins branches takes the union of what they see, at every position; a branch of one position that all positions
read is seen by all.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cnnprobe.instruments.network.calls import einsum_indices
from cnnprobe.instruments.network.receptive_field import BATCH, CHANNEL, Geometry, Span, fitted, regions, union
from cnnprobe.instruments.network.tracing import CONSTANT, LIKE, Call, Value, leaves, replaced


def everywhere(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Every position of the result depends on every one that is read."""
    roles = next((one.roles for one in of_its_kind(call, read, out)), read[0].roles)
    if (place := product_channels(call, read)) is not None:
        roles = tuple(CHANNEL if at == place else BATCH if not at else None for at in range(len(out.shape)))
    if len(roles) != len(out.shape) or (roles and isinstance(roles[0], int)):
        rest = [None] * (len(out.shape) - 2)
        first = len(out.shape) > 1 + len(read[0].sides) and not any(one.channels_last for one in read)
        roles = ((BATCH, CHANNEL, *rest) if first else (BATCH, *rest, CHANNEL))[: len(out.shape)]
    return replace(read[0].whole(), roles=tuple(None if isinstance(role, int) else role for role in roles))


def of_its_kind(call: Call, read: list[Geometry], out: Value) -> list[Geometry]:
    """Return the geometries of what is read that has channels and as many axes as the result; as many channels first.

    Of what is written at rows that values choose, as where images are sent to different experts, the first input is the
    rows, and tells nothing.
    """
    pairs = [(value.shape, own) for value, own in zip(call.inputs, read) if len(own.roles) == len(out.shape)]
    known = [(own.roles.index(CHANNEL), shape, own) for shape, own in pairs if CHANNEL in own.roles]
    return [own for at, shape, own in sorted(known, key=lambda one: one[1][one[0]] != out.shape[one[0]])]


def product_channels(call: Call, read: list[Geometry]) -> int | None:
    """Return the axis of channels of a sum of products whose axes are named; None where that does not say it.

    It is the axis of those that are read, or, where these are summed, the only one that comes from the other factors.
    """
    try:
        spelled = _spelled(call)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # spelled as no version of torch did yet
        return None
    if spelled is None:
        return None
    factors, result = spelled
    for value, own in zip(call.inputs, read):
        if CHANNEL not in own.roles:
            continue
        names = next((names for tensor, names in factors if tensor == value), [])
        if len(names) != len(own.roles):
            continue
        channels = names[own.roles.index(CHANNEL)]
        new = [name for name in result if name not in names]
        if channels in result or len(new) == 1:
            return result.index(channels if channels in result else new[0])
    return None


def _spelled(call: Call) -> tuple[list[tuple[Value, list[str]]], list[str]] | None:
    """Return the factors of an `einsum` or `tensordot` with names of their axes, and the names of the result's."""
    tensors = leaves((call.arguments, call.keywords), Value)
    if call.name == "einsum":
        factors, result, _ = einsum_indices(call)
        return list(zip(tensors, factors)), result
    if call.name != "tensordot":
        return None
    one, other = ([f"{side}{axis}" for axis in range(len(value.shape))] for side, value in zip("ab", tensors))
    dims = call.argument("dims", 2, 2)
    pairs = ([list(range(-dims, 0)), list(range(dims))] if isinstance(dims, int) else
             [side if isinstance(side, Sequence) else [side] for side in dims])  # fmt: skip
    for first, second in zip(*pairs):
        other[second] = one[first]
    summed = set(one) & set(other)
    return list(zip(tensors, (one, other))), [name for name in one + other if name not in summed]


# ---- moving --------------------------------------------------------------------------------------------------------


def moved(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Run the function on coordinates: an axis of the result along which y varies least is the axis y."""
    source, value = read[0], call.inputs[0]
    if any(other != value for other in call.inputs) and call.name not in LIKE:
        return everywhere(call, read, out)  # values say where to
    places = {role: axis for axis, role in enumerate(source.roles) if role is not None}
    to = {role: coordinates_of(call, value, axis, out) for role, axis in places.items()}
    varying = {role: [a for a in range(len(out.shape)) if _varies(to[role], a)] for role in to}
    sole = [axes[0] for axes in varying.values() if len(axes) == 1]
    roles: list = [None] * len(out.shape)
    spans, lost, aligned = {}, [], True
    for role, axes in varying.items():
        if not isinstance(role, int):
            if len(axes) == 1 and sole.count(axes[0]) == 1:
                roles[axes[0]] = role
            elif role == CHANNEL and (free := [axis for axis in axes if axis not in sole]):
                roles[free[-1] if source.channels_last else free[0]] = role
            continue
        found = _located(to[role], axes, value.shape[places[role]])
        if found is None or (axes and sole.count(found[0]) > (len(axes) == 1)):
            lost.append(role)
            continue
        axis, first, last = found
        if axes:
            roles[axis] = role if roles[axis] is None or roles[axis] in (BATCH, CHANNEL) else roles[axis]
        if not axes:  # all positions read the same one
            (low,), (high,) = regions(source.spans[role], first, last)
            spans[role] = Span(low, high - low + 1, source.spans[role].stride)
            continue
        likely = abs(source.spans[role].stride) * value.shape[places[role]] / out.shape[axis]
        spans[role], exact = fitted(*regions(source.spans[role], first, last), likely)
        aligned &= exact
    lost += [role for role in spans if varying[role] and role not in roles]
    _name_singletons(roles, [role for role in places if not varying[role]], out.shape)
    return replace(source.with_spans(spans, aligned).whole(lost), roles=tuple(roles))


def _located(coordinates: torch.Tensor, axes: list[int], length: int) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the axis that determines coordinates best, with the first and last by position; None: none does."""
    if not axes:
        only = coordinates.flatten()[:1].numpy()
        return 0, only, only
    found = []
    for axis in axes:
        rows = coordinates.movedim(axis, 0).flatten(1)
        found.append((axis, rows.amin(1).numpy(), rows.amax(1).numpy()))
    best = min(found, key=lambda one: (one[2] - one[1]).max())
    return best if (best[2] - best[1]).max() < max(length - 1, 1) else None


def coordinates_of(call: Call, value: Value, axis: int | None, out: Value) -> torch.Tensor:
    """Return, for every element of the result, its coordinate along `axis` of a value that was read.

    With no axis it is 0. What comes of other values, or of numbers that do not depend on the image, is NaN.
    """
    length = 1 if axis is None else value.shape[axis]
    along = torch.arange(length, dtype=torch.float64).reshape([-1 if a == axis else 1 for a in range(len(value.shape))])
    grid = along.expand(value.shape).clone()

    def stand_in(other: Value) -> torch.Tensor:
        if other == value:
            return grid
        if other.call == CONSTANT and not other.held.is_floating_point():
            return other.held.cpu()
        return torch.full(other.shape, torch.nan, dtype=torch.float64)

    arguments, keywords = replaced((call.arguments, call.keywords), Value, stand_in)
    made = leaves(call.function(*arguments, **keywords), torch.Tensor) or leaves(arguments, torch.Tensor)[:1]
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


def written(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Write values into others, at places that no values say: each number of the result is one of what is read.

    Run on coordinates, for one input at a time; what comes from the others is NaN.
    """
    known = dict(zip(call.inputs, read))
    if _by_mask(call):
        return joined(call, read, out)
    if any(not value.dtype.is_floating_point for value in known):
        return everywhere(call, read, out)
    first, rank = read[0], len(out.shape)
    roles: list = [BATCH if not axis and out.shape[0] == 1 else None for axis in range(rank)]
    spans, lost, aligned = {}, [], True
    for role in range(len(first.spans)):
        found = _written_along(call, known, role, out)
        if found is None or roles[found[0]] is not None:  # everywhere, or along the same axis as another
            lost += [role] if found is None else [role, roles[found[0]]]
            continue
        axis, low, high = found
        spans[role], exact = fitted(low, high, max(abs(geometry.spans[role].stride) for geometry in read))
        roles[axis], aligned = role, aligned and exact
    roles = [None if role in lost else role for role in roles]
    place = next((one.roles.index(CHANNEL) for one in of_its_kind(call, read, out)), None)
    if place is not None and roles[place] is None:
        roles[place] = CHANNEL
    lost = [role for role in lost if isinstance(role, int)]
    return replace(first.with_spans(spans, aligned).whole(lost), roles=tuple(roles))


def _by_mask(call: Call) -> bool:
    """Say whether a number is written where a mask as large as the value itself holds: value by value."""
    if call.name != "__setitem__" or len(call.inputs) != 2:
        return False
    into, mask = call.inputs
    return call.argument("index", 1) == mask and (mask.dtype, mask.shape) == (torch.bool, into.shape)


def _written_along(
    call: Call, known: dict[Value, Geometry], role: int, out: Value
) -> tuple[int, np.ndarray, np.ndarray] | None:
    """Return the axis of the result along an axis of the image, and the px its positions see; None: all of them."""
    best = None
    parts = []
    for value, geometry in known.items():
        axis = next((axis for axis, own in geometry.spatial().items() if own == role), None)
        span = geometry.spans[role]
        moving = axis is not None and value.shape[axis] > 1
        parts.append((coordinates_of(call, value, axis, out).numpy(), span if moving else span.fixed))
    for to in range(1, len(out.shape)):
        low, high = np.full(out.shape[to], np.nan), np.full(out.shape[to], np.nan)
        for coordinates, span in parts:
            rows = np.moveaxis(coordinates, to, 0).reshape(out.shape[to], -1)
            ends = np.fmin.reduce(rows, 1), np.fmax.reduce(rows, 1)
            edges = regions(span, *ends)
            low, high = np.fmin(low, edges[0]), np.fmax(high, edges[1])
        if np.isnan(low).all() or len(low) < 2:
            continue
        width = np.nanmax(high - low)
        if best is None or width < best[0]:
            best = width, to, low, high
    return best[1:] if best is not None and best[0] < next(iter(known.values())).sides[role] - 1 else None


# ---- joining -------------------------------------------------------------------------------------------------------


def joined(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """Value by value, with broadcasting: the union of what is read."""
    return merged([(value.shape, geometry) for value, geometry in zip(call.inputs, read)], out.shape) or everywhere(
        call, read, out
    )


def concatenated(call: Call, read: list[Geometry], out: Value) -> Geometry:
    """One behind the other along an axis: along channels the union, along the image where each part lies."""
    dim = call.argument("dim", 1, call.keywords.get("axis", 0)) % len(out.shape)
    known = dict(zip(call.inputs, read))
    parts = leaves(call.arguments[0] if call.arguments else call.keywords["tensors"], Value)
    new = call.name == "stack"
    shapes = {part: (*part.shape[:dim], 1, *part.shape[dim:]) if new else part.shape for part in parts}
    given = {part: _with_axis(g, dim) if new else g for part, g in known.items()}
    result = merged([(shapes[part], given[part]) for part in given], out.shape, dim)
    if result is None:
        return everywhere(call, read, out)
    along = {geometry.roles[dim] for geometry in given.values() if isinstance(geometry.roles[dim], int)}
    if not along:  # parts that have no axis along y, each of another y
        free = [role for role in range(len(result.spans)) if all(role not in g.roles for g in given.values())]
        along = {role for role in free if len({geometry.spans[role] for geometry in given.values()}) > 1}
    if not along:
        return result
    if len(along) > 1:
        return everywhere(call, read, out)
    role = along.pop()
    low: list[np.ndarray] = []
    high: list[np.ndarray] = []
    for part in parts:
        places = np.arange(shapes[part][dim], dtype=float)
        if part.call == CONSTANT:
            edges = places * np.nan, places * np.nan
        else:
            span = given[part].spans[role]
            edges = regions(span if given[part].roles[dim] == role else span.fixed, places, places)
        low, high = [*low, edges[0]], [*high, edges[1]]
    span, exact = fitted(
        np.concatenate(low), np.concatenate(high), max(abs(g.spans[role].stride) for g in given.values())
    )
    roles = tuple(role if axis == dim else None if own == role else own for axis, own in enumerate(result.roles))
    return replace(result.with_spans({role: span}, exact), roles=roles)


def _with_axis(geometry: Geometry, axis: int) -> Geometry:
    return replace(geometry, roles=(*geometry.roles[:axis], None, *geometry.roles[axis:]))


def merged(
    parts: Sequence[tuple[tuple[int, ...], Geometry]], shape: tuple[int, ...], skipped: int | None = None
) -> Geometry | None:
    """Return the union of geometries whose tensors are broadcast to a shape; None where they do not fit.

    Args:
        parts: shapes and geometries.
        shape: of the result.
        skipped: an axis along which shapes may differ.
    """
    rank = len(shape)
    at: dict[int, set[int]] = {}  # by axis of the image, the axes of the result it runs along
    for own, geometry in parts:
        offset = rank - len(own)
        if offset < 0 or any(own[a] not in (1, shape[a + offset]) for a in range(len(own)) if a + offset != skipped):
            return None
        for axis, role in geometry.spatial().items():
            if axis + offset != skipped and own[axis] == shape[axis + offset]:
                at.setdefault(role, set()).add(axis + offset)
    taken = [axis for axes in at.values() for axis in axes]
    placed = {role: axes.copy().pop() for role, axes in at.items() if len(axes) == 1 and taken.count(min(axes)) == 1}
    lost = [role for role in at if role not in placed]
    main = next((g for own, g in parts if own == shape), None) or max(parts, key=lambda part: len(part[0]))[1]
    rest = [None if isinstance(role, int) else role for role in main.roles]
    roles: list = [None] * (rank - len(rest)) + rest
    if shape and shape[0] == 1 and BATCH not in roles and roles[0] is None:
        roles[0] = BATCH
    for role, axis in placed.items():
        roles[axis] = role
    spans, aligned = {}, all(geometry.aligned for _, geometry in parts)
    for role in range(len(main.spans)):
        length = shape[placed[role]] if role in placed else 1
        seen = [_seen_by_all(geometry, role, own, placed.get(role), shape) for own, geometry in parts]
        spans[role], same = union(seen, length, main.all_of(role))
        aligned &= same
    return replace(main.with_spans(spans).whole(lost), roles=tuple(roles), aligned=aligned)


def _seen_by_all(geometry: Geometry, role: int, own: tuple, axis: int | None, shape: tuple) -> Span:
    """Return the span of a part along an axis of the image; without a step where all positions read its only one."""
    offset, span = len(shape) - len(own), geometry.spans[role]
    places = [a for a, it in geometry.spatial().items() if it == role]
    if any(own[a] < shape[a + offset] for a in places):
        return span.fixed
    if not places and axis is not None and shape[axis] > 1:
        return span.fixed
    return span
