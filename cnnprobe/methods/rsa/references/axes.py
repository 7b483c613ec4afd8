"""The axes of an array of dissimilarities: which of them are the stimuli, and what the others are.

The stimuli are where their number stands: two axes of it whose matrices are symmetric, or one axis of as many pairs.
The others are named, or known by the times and regions that come with the array.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from cnnprobe.errors import UserError, unknown
from cnnprobe.instruments.statistics.dissimilarity import conditions_of

AXES = ("subject", "session", "time", "region")
"""What the axes beside the conditions can be."""
STIMULI, PAIR = "stimulus", "pair"
"""How the axes of the conditions are called."""
ALSO = {
    "subject": ("subjects", "subj", "sub", "participant", "participants", "monkey", "animal", "observer"),
    "session": ("sessions", "run", "runs", "repeat", "repeats"),
    "time": ("times", "timepoint", "timepoints", "latency", "t"),
    "region": ("regions", "roi", "rois", "area", "areas", "layer", "neuroid"),
    STIMULI: ("stimuli", "stim", "condition", "conditions", "cond", "image", "images", "object", "item", "class",
              "presentation", "stimulus1", "stimulus2", "stimulus_1", "stimulus_2", "condition1", "condition2"),
    PAIR: ("pairs", "distance", "distances", "dissimilarity"),
}  # fmt: skip
"""Other words for axes."""
USUAL = ((), ("subject",), ("subject", "session"))
"""What they are, by their number, where nothing says otherwise."""
SYMMETRIC = 1e-6
"""Largest difference between a matrix and its mirror image, as a share of its largest value."""
SAMPLE = 64
"""Matrices that are looked at to tell which axes are symmetric."""


def known(word: str) -> str:
    """Return the word for an axis that we use; itself where it is none that we know."""
    plain = word.strip().lower()
    return next((name for name, others in ALSO.items() if plain == name or plain in others), plain)


def known_dimensions(words: Sequence[str]) -> list[str]:
    """Return our words for the names of dimensions as files have them: also stimulus_id_2, and one that begins time.

    Args:
        words: names of dimensions.
    """
    bare = [re.sub(r"(?<=.)(_?ids?)?(_?\d)?$", "", word.strip().lower()) for word in words]
    found = [known(short) if known(word) not in ALSO and known(short) in ALSO else known(word)
             for word, short in zip(words, bare)]  # fmt: skip
    times = [place for place, word in enumerate(found) if word not in ALSO and word.startswith("time")]
    if len(times) == 1 and "time" not in found:
        found[times[0]] = "time"
    return found


def counted(shape: tuple[int, ...]) -> str:
    """Say of how many conditions an array seems to be: "92 conditions (4, 2, 92, 92)"."""
    counts = {side for side, other in combinations(shape, 2) if side == other}
    count = max(counts) if counts else conditions_of(shape[-1]) if shape else None
    return f"{count} conditions {tuple(shape)}" if count else f"the shape {tuple(shape)}"


def fits(shape: tuple[int, ...], conditions: int) -> bool:
    """Say whether an array can be matrices or triangles of so many conditions."""
    return shape.count(conditions) > 1 or (conditions > 1 and conditions * (conditions - 1) // 2 in shape)


def stimuli_last(
    name: str, values: np.ndarray, conditions: int, axes: Sequence[str] | None
) -> tuple[np.ndarray, int, list[int], tuple[str, ...] | None]:
    """Move the axes of the conditions behind the others.

    Args:
        name: for people.
        values: any array.
        conditions: how many.
        axes: names of the axes beside the conditions, or of all.

    Returns:
        the array; 2 where its last two axes are the conditions, 1 where its last is of pairs; which axes of `values`
        the conditions were; names of the others or None.

    Raises:
        UserError: no axes fit, or several could.
    """
    shape = values.shape
    names = None if axes is None else _checked(name, axes)
    rest: tuple[str, ...] | None
    if names is not None and {STIMULI, PAIR} & set(names):
        chosen = _said(name, shape, conditions, names)
        rest = tuple(word for place, word in enumerate(names) if place not in chosen)
    else:
        chosen, rest = _found(name, values, conditions, names), None if names is None else tuple(names)
    moved = np.moveaxis(values, chosen, range(-len(chosen), 0))
    count = moved.ndim - len(chosen)
    if rest is not None and len(rest) != count and len(rest) == sum(side > 1 for side in moved.shape[:count]):
        moved = moved.reshape(*(side for side in moved.shape[:count] if side > 1), *moved.shape[count:])
    return moved, len(chosen), list(chosen), rest


def others(
    name: str,
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    axes: tuple[str, ...] | None,
    beside: dict[str, int],
    timed: bool = False,
) -> tuple[str, ...]:
    """Return what each axis beside the conditions is.

    Args:
        name: for people.
        shape: of the whole array, for people.
        sizes: of these axes.
        axes: their names; None: those whose length only the times or the regions have are these; the others are
            subject and session.
        beside: how many times ("time") and regions ("region") come with the array.
        timed: samples per second come with it, but no times that would tell their number.

    Raises:
        UserError: names that are no axes or not as many, or axes that could be several things.
    """
    if axes is not None:
        if len(axes) != len(sizes) or len(set(axes)) != len(axes):
            got = ", ".join(axes) or "none"
            raise UserError(f"{name} {shape} has {len(sizes)} axes before the conditions, got {got}")
        return axes
    named: list[str] = [""] * len(sizes)
    for word, count in beside.items():
        places = [place for place, side in enumerate(sizes) if side == count and side > 1 and not named[place]]
        if len(places) > 1:
            raise UserError(f"{name} {shape} has {len(places)} axes as long as its {word}s ({count}); "
                            "say what they are, e.g. reference_axes=[subject,time]")  # fmt: skip
        for place in places:
            named[place] = word
    left = [place for place, word in enumerate(named) if not word]
    if timed and left:
        raise UserError(f"{name} {shape} comes with samples per second, but nothing says which axis is time, if any; "
                        "say what they are, e.g. reference_axes=[subject,time] or [time]")  # fmt: skip
    if len(left) >= len(USUAL):
        raise UserError(f"{name} {shape} has {len(left)} axes before the conditions; say what they are, "
                        f"e.g. reference_axes=[subject,time]; axes: {', '.join(AXES)}")  # fmt: skip
    for place, word in zip(left, USUAL[len(left)]):
        named[place] = word
    return tuple(named)


def _checked(name: str, axes: Sequence[str]) -> list[str]:
    words = [known(axis) for axis in axes]
    for word, axis in zip(words, axes):
        if word not in (*AXES, STIMULI, PAIR):
            error = unknown("axis", axis, (*AXES, STIMULI, PAIR), of=name, plural="axes")
            raise UserError(f"{error}; say what each axis is, e.g. reference_axes=[region,time]")
    return words


def _said(name: str, shape: tuple[int, ...], conditions: int, names: list[str]) -> tuple[int, ...]:
    """Return the axes that are said to be of the conditions."""
    if len(names) != len(shape):
        raise UserError(f"{name} {shape} has {len(shape)} axes, got {len(names)}: {', '.join(names)}")
    chosen = tuple(place for place, word in enumerate(names) if word in (STIMULI, PAIR))
    pairs = conditions * (conditions - 1) // 2
    words = [names[place] for place in chosen]
    needed = {STIMULI: conditions, PAIR: pairs}
    if words not in ([STIMULI, STIMULI], [PAIR]):
        raise UserError(f"{name}: its axes are {', '.join(names)}; needed are stimulus twice, or pair once")
    if any(shape[place] != needed[names[place]] for place in chosen):
        raise UserError(
            f"{name} has {counted(shape)} along {', '.join(names)}, the dataset gives {conditions} conditions"
        )
    return chosen


def _found(name: str, values: np.ndarray, conditions: int, names: list[str] | None) -> tuple[int, ...]:
    """Return the axes of the conditions by their number."""
    shape, pairs = values.shape, conditions * (conditions - 1) // 2
    square = [(a, b) for a, b in combinations(range(values.ndim), 2) if shape[a] == shape[b] == conditions]
    flat = [(a,) for a, side in enumerate(shape) if side == pairs and conditions > 1]
    if not square and not flat:
        raise UserError(f"{name} has {counted(shape)}, the dataset gives {conditions} conditions")
    if names is not None:  # as many others as are named, but for those of length 1
        wide = sum(side > 1 for side in shape)
        square = [one for one in square if len(names) in (values.ndim - 2, wide - 2)]
        flat = [one for one in flat if len(names) in (values.ndim - 1, wide - 1)]
        if not square and not flat:
            size = values.ndim - (2 if shape.count(conditions) > 1 else 1)
            got = ", ".join(names) or "none"
            raise UserError(f"{name} {shape} has {size} axes before the conditions, got {got}")
    alike = [one for one in square if _symmetric(values, *one)]
    if len(alike) > 1:
        alike = [one for one in alike if _even(values, *one)] or alike
    for several in (alike, flat):
        if len(several) == 1:
            return several[0]
        if several:
            example = ",".join([STIMULI, STIMULI] if several is alike else [PAIR])
            raise UserError(f"{name} {shape} has {conditions} conditions along several axes; name all its axes, "
                            f"e.g. reference_axes=[subject,{example}]")  # fmt: skip
    why = "it differs from its mirror image"
    raise UserError(f"{name} is no dissimilarity matrix: {why}")


def _symmetric(values: np.ndarray, a: int, b: int) -> bool:
    """Say whether the matrices along two axes equal their mirror images, or have but one triangle."""
    return all(is_symmetric(one) or triangle(one) is not None for one in _some(values, a, b))


def _even(values: np.ndarray, a: int, b: int) -> bool:
    """Say whether the matrices along two axes have one number, or none, on their diagonal."""
    for one in _some(values, a, b):
        own = one.diagonal()[np.isfinite(one.diagonal())]
        if len(own) and np.ptp(own) > SYMMETRIC * max(1e-300, np.abs(own).max()):
            return False
    return True


def _some(values: np.ndarray, a: int, b: int) -> Iterator[np.ndarray]:
    whole = np.moveaxis(values, (a, b), (-2, -1)).reshape(-1, values.shape[a], values.shape[b])
    yield from whole[:: max(1, len(whole) // SAMPLE)].astype(np.float64)


def is_symmetric(one: np.ndarray) -> bool:
    """Say whether a matrix (n, n) equals its mirror image where both are finite, and lacks no side of a pair."""
    both = np.isfinite(one) & np.isfinite(one.T)
    largest = np.abs(one[both]).max(initial=0.0)
    return bool(np.abs(one - one.T)[both].max(initial=0.0) <= SYMMETRIC * max(largest, np.finfo(float).tiny))


def triangle(one: np.ndarray) -> np.ndarray | None:
    """Return a matrix (n, n) mirrored, of which but one triangle is filled and the other 0 or NaN; None for others."""
    above, below = one[np.triu_indices(len(one), 1)], one.T[np.triu_indices(len(one), 1)]
    empty = [not np.nan_to_num(side).any() for side in (above, below)]
    if empty[0] == empty[1]:
        return None
    kept = np.triu(one, 1) if empty[1] else np.tril(one, -1).T
    kept = np.where(np.tri(len(one), k=0, dtype=bool), 0.0, kept)
    return kept + kept.T + np.diag(one.diagonal())
