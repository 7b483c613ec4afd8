"""The places of changed windows: by value of the network and by occluder, along one axis of the image.

An occluder changes a stretch of rows and a stretch of columns of every map; both follow from the geometry of the
network alone, each axis by itself. Of those, only what the target can see is needed. Occluders whose stretches have
the same length (or nearly so: a longer one does no harm) make a class; a class of rows and one of columns make a
batch of windows of one size.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.instruments.network.tracing import Value
from cnnprobe.instruments.windows.spans import Reach, Stretch, hull, meeting


@dataclass(frozen=True)
class Edge:
    """How an operation reads one value along the two axes."""

    source: Value
    result: Value
    reach: tuple[Reach, Reach]


@dataclass(frozen=True)
class Stretches:
    """Where the windows of one value lie along one axis, for the occluders of a class.

    Args:
        first: (occluder,) first position.
        length: of every window.
        exact: True where no window is longer than what is changed and needed.
        changed: (first, stop) of what is changed and needed.
    """

    first: np.ndarray
    length: int
    exact: bool
    changed: Stretch


@dataclass(frozen=True)
class Class:
    """Occluders with windows of the same sizes.

    Args:
        members: (occluder,) indices among the rows (or columns) of the grid.
        windows: by value.
    """

    members: np.ndarray
    windows: dict[Value, Stretches]

    def part(self, start: int, stop: int) -> "Class":
        """Return some of the occluders."""
        if start <= 0 and stop >= len(self.members):
            return self
        cut = slice(start, stop)
        windows = {
            value: Stretches(w.first[cut], w.length, w.exact, (w.changed[0][cut], w.changed[1][cut]))
            for value, w in self.windows.items()
        }
        return Class(self.members[cut], windows)


def needs(edges: list[Edge], target: dict[Value, tuple[int, int]], axis: int, whole: dict[Value, int]) -> dict:
    """Return by value which stretch (first, stop) of it is needed.

    Args:
        edges: in the order of the pass.
        target: what is read.
        whole: by value that is read as a whole somewhere, its length along the axis.
    """
    needed = target | {value: (0, length) for value, length in whole.items()}
    for edge in reversed(edges):
        if edge.result in needed:
            needed[edge.source] = _joined(needed.get(edge.source), edge.reach[axis].back(*needed[edge.result]))
    return needed


def _joined(one: tuple[int, int] | None, other: tuple[int, int]) -> tuple[int, int]:
    if one is None or one[0] >= one[1]:
        return other
    return one if other[0] >= other[1] else (min(one[0], other[0]), max(one[1], other[1]))


def stretches(edges: list[Edge], axis: int, needed: dict, image: dict[Value, Stretch]) -> dict[Value, Stretch]:
    """Return by value the stretch that each occluder changes and the target needs.

    Args:
        image: stretches of the values that are known: those of the image.
    """
    found = {value: meeting(stretch, needed[value]) for value, stretch in image.items() if value in needed}
    arriving: dict[Value, list[Stretch]] = {}
    results = [edge.result for edge in edges]
    for place, edge in enumerate(edges):
        if edge.source not in found or edge.result not in needed:
            continue
        arriving.setdefault(edge.result, []).append(edge.reach[axis].forward(*found[edge.source]))
        if edge.result not in results[place + 1 :]:
            found[edge.result] = meeting(hull(arriving.pop(edge.result)), needed[edge.result])
    return found


def classes(
    changed: dict[Value, Stretch],
    needed: dict[Value, tuple[int, int]],
    members: np.ndarray,
    weights: dict[Value, float],
    overhead: float,
    alignment: np.ndarray,
) -> list[Class]:
    """Sort occluders into classes so that the work is least.

    Args:
        changed: see `stretches`.
        needed: see `needs`.
        members: (occluder,) those that matter at all.
        weights: by value, the work per position of its windows.
        overhead: work that each further class costs, per occluder of the other axis.
        alignment: (occluder,) those of different alignment are never in one class.
    """
    counted = [value for value in weights if value in changed]
    lengths = np.stack([changed[v][1][members] - changed[v][0][members] for v in counted] or [members * 0])
    work = np.array([weights[value] for value in counted] or [0.0])
    found = []
    for kind in np.unique(alignment[members]):
        chosen = np.flatnonzero(alignment[members] == kind)
        distinct, which = np.unique(lengths[:, chosen], axis=1, return_inverse=True)
        groups = [chosen[which.ravel() == number] for number in range(distinct.shape[1])]
        for group in _merged(groups, list(distinct.T), work, overhead):
            found.append(_class(np.sort(members[group]), changed, needed))
    return found


def _merged(groups: list[np.ndarray], lengths: list[np.ndarray], work: np.ndarray, overhead: float) -> list[np.ndarray]:
    """Join groups as long as that costs less than it saves.

    The work of a group is its size times the sum over values of work x length²: windows are about square.
    """
    groups, sizes = list(groups), np.array([len(group) for group in groups], float)
    longest = np.array(lengths, float).reshape(len(groups), -1)  # (group, value)
    while len(groups) > 1:
        own = sizes * (longest**2 @ work)
        joint = np.maximum(longest[:, None], longest[None])  # (group, group, value)
        more = (sizes[:, None] + sizes[None]) * (joint**2 @ work) - own[:, None] - own[None]
        np.fill_diagonal(more, np.inf)
        one, other = np.unravel_index(more.argmin(), more.shape)
        if more[one, other] > overhead:
            break
        one, other = min(one, other), max(one, other)
        groups[one] = np.concatenate([groups[one], groups.pop(other)])
        longest[one] = joint[one, other]
        sizes[one] += sizes[other]
        longest, sizes = np.delete(longest, other, 0), np.delete(sizes, other)
    return groups


def _class(members: np.ndarray, changed: dict[Value, Stretch], needed: dict[Value, tuple[int, int]]) -> Class:
    windows = {}
    for value, (first, stop) in changed.items():
        first, stop = first[members], stop[members]
        low, high = needed[value]
        length = min(max(int((stop - first).max()), 1), max(high - low, 1))
        empty = stop <= first
        begin = np.clip(np.where(empty, low, first), low, max(high - length, low))
        exact = bool((stop - first == length).all())
        windows[value] = Stretches(begin, length, exact, (first, stop))
    return Class(members, windows)


def touched(changed: dict[Value, Stretch], targets: list[Value]) -> np.ndarray:
    """Return which occluders (indices) change anything that is needed of the targets."""
    return np.flatnonzero(np.logical_or.reduce([changed[value][1] > changed[value][0] for value in targets]))
