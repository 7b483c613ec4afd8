"""Matrices to compare a network's with: of brains, behaviour, other networks, or categories; with subjects and time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnprobe.engine.dissimilarity import conditions_of, upper
from cnnprobe.errors import UserError, unknown

AXES = ("subject", "session", "time", "region")
"""What the axes before the conditions can be."""
USUAL = ((), ("subject",), ("subject", "session"))
"""What they are, by their number, where nothing says otherwise."""
LARGEST = 1e100  # whose square is still a number
SYMMETRIC = 1e-6
"""Largest difference between a matrix and its mirror image, as a share of its largest value."""


@dataclass(frozen=True)
class Reference:
    """Dissimilarity matrices of one system.

    Args:
        name: as shown and stored.
        matrices: (subject, time, region, pair) float64, upper triangles; one subject, time or region where there is no
            such axis. None: those of the pixels, to be found from the images.
        axes: which of "subject", "session", "time" and "region" were given; sessions were averaged.
        times: (time,), NaN where there is no such axis.
        regions: name of each, "" where there is no such axis.
        time_unit: of the times.
    """

    name: str
    matrices: np.ndarray | None
    axes: tuple[str, ...] = ()
    times: np.ndarray | None = None
    regions: tuple[str, ...] = ("",)
    time_unit: str = "index"

    def parts(self) -> list[tuple[str, np.ndarray]]:
        """Return name and (subject, pair) of what is compared by itself: each region; the mean over time."""
        mean = nan_mean(self.matrices, 1)
        return [
            (f"{self.name}: {region}" if region else self.name, mean[:, place])
            for place, region in enumerate(self.regions)
        ]


PIXELS = Reference("pixels", None)


def reference(
    name: str,
    values: np.ndarray,
    conditions: int,
    *,
    axes: Sequence[str] | None = None,
    times: np.ndarray | None = None,
    regions: Sequence[str] = (),
    time_unit: str = "index",
) -> Reference:
    """Make a reference of matrices as they were measured.

    Args:
        name: as shown.
        values: (…, condition, condition) symmetric, or (…, pair) upper triangles.
        conditions: how many there must be.
        axes: what the axes in front are; None: subject, then session.
        times: of each place along "time"; None: 0, 1, ….
        regions: name of each place along "region"; (): numbers.
        time_unit: of the times.

    Raises:
        UserError: another number of conditions, axes that are not known or not as many, no symmetric matrix, or values
            whose squares no number can hold.
    """
    tail = fitting(values.shape, conditions)
    if tail is None:
        raise UserError(f"{name} has {counted(values.shape)}, the dataset gives {conditions} conditions")
    values = np.asarray(values, np.float64)
    largest = np.nanmax(np.abs(values), initial=0)
    if largest > LARGEST:
        raise UserError(f"{name} holds {largest:.3g}; a dissimilarity is at most {LARGEST:g}")
    pairs = _triangles(name, values) if tail == 2 else values
    named = _axes(name, pairs.ndim - 1, axes, values.shape)
    if "session" in named:
        pairs = nan_mean(pairs, named.index("session"))
    left = [axis for axis in named if axis != "session"]
    order = [axis for axis in ("subject", "time", "region") if axis in left]
    pairs = pairs.transpose(*(left.index(axis) for axis in order), len(left))
    sizes = dict(zip(order, pairs.shape))
    shape = [sizes.get(axis, 1) for axis in ("subject", "time", "region")]
    pairs = pairs.reshape(*shape, pairs.shape[-1])
    when = np.arange(shape[1], dtype=np.float64) if times is None else np.asarray(times, np.float64)
    where = tuple(map(str, regions)) or tuple(f"region {number}" for number in range(shape[2]))
    for axis, count, given in (("time", shape[1], len(when)), ("region", shape[2], len(where))):
        if axis in left and count != given:
            raise UserError(f"{name} has {count} places along {axis}, but {given} names for them")
    when = when if "time" in left else np.array([np.nan])
    return Reference(name, pairs, named, when, where if "region" in left else ("",), time_unit)


def given_references(
    given: Any, conditions: int, labels: np.ndarray | None, axes: Sequence[str] | None = None
) -> list[Reference]:
    """Return references as they are, or made of arrays.

    Args:
        given: a Reference, an array (see `reference`), or a list of them; None: the classes, where there are two.
        conditions: how many.
        labels: (condition,) class of each, -1 where unknown, or None.
        axes: see `reference`.

    Raises:
        UserError: something else, or it does not fit.
    """
    if given is None:
        several = labels is not None and len(np.unique(labels[labels >= 0])) > 1
        return [categorical(labels)] if several else []
    found = []
    for place, one in enumerate(given if isinstance(given, list | tuple) else [given]):
        if isinstance(one, np.ndarray):
            one = reference(f"reference {place}", one, conditions, axes=axes)
        if not isinstance(one, Reference):
            raise UserError(f"reference takes arrays and what cnnprobe.references.load returns, got {one!r}")
        pairs = conditions * (conditions - 1) // 2
        if one.matrices is not None and one.matrices.shape[-1] != pairs:
            raise UserError(f"{one.name} has {one.matrices.shape[-1]} pairs, {conditions} conditions have {pairs}")
        found.append(one)
    return found


def fitting(shape: tuple[int, ...], conditions: int) -> int | None:
    """Return how many axes at the end are of conditions: 2 of square matrices, 1 of triangles; None if neither."""
    if len(shape) >= 2 and tuple(shape[-2:]) == (conditions, conditions):
        return 2
    return 1 if len(shape) >= 1 and conditions > 1 and shape[-1] == conditions * (conditions - 1) // 2 else None


def counted(shape: tuple[int, ...]) -> str:
    """Say of how many conditions an array seems to be: "92 conditions (4, 2, 92, 92)"."""
    square = len(shape) >= 2 and shape[-1] == shape[-2]
    count = shape[-1] if square else conditions_of(shape[-1]) if shape else None
    return f"{count} conditions {tuple(shape)}" if count else f"the shape {tuple(shape)}"


def categorical(labels: np.ndarray, name: str = "labels") -> Reference:
    """Make a reference in which conditions of one class are alike (0), others not (1); unknown labels (-1) are NaN."""
    apart = (labels[:, None] != labels).astype(np.float64)
    apart[labels < 0] = apart[:, labels < 0] = np.nan
    return Reference(name, upper(apart)[None, None, None], (), np.array([np.nan]))


def _axes(name: str, count: int, axes: Sequence[str] | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return what each axis in front is."""
    if axes is None:
        if count >= len(USUAL):
            raise UserError(
                f"{name} {tuple(shape)} has {count} axes before the conditions; say what they are, "
                f"e.g. reference_axes=[subject,time]; axes: {', '.join(AXES)}"
            )
        return USUAL[count]
    for axis in axes:
        if axis not in AXES:
            raise unknown("axis", axis, AXES, of=name, plural="axes")
    if len(axes) != count or len(set(axes)) != count:
        raise UserError(
            f"{name} {tuple(shape)} has {count} axes before the conditions, got {', '.join(axes) or 'none'}"
        )
    return tuple(axes)


def _triangles(name: str, values: np.ndarray) -> np.ndarray:
    """Return the upper triangles of symmetric matrices; those of both sides are averaged."""
    one, other = upper(values), upper(values.swapaxes(-1, -2))
    known = np.isfinite(one) & np.isfinite(other)
    largest = np.abs(one[known]).max(initial=0.0)
    if np.abs(one - other)[known].max(initial=0.0) > SYMMETRIC * max(largest, np.finfo(float).tiny):
        raise UserError(f"{name} is no dissimilarity matrix: it differs from its mirror image")
    return (one + other) / 2


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over an axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)
