"""Matrices for comparison with a network's: brains, behaviour, other networks, categories; with subjects and time."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.instruments.statistics.dissimilarity import square, upper
from cnnprobe.methods.rsa.references.axes import PAIR, STIMULI, is_symmetric, others, stimuli_last, triangle

LOG = logging.getLogger("cnnprobe")
LARGEST = 1e100  # whose square is still a number
EVEN = 1e-6
"""Differences along a diagonal that are rounding, as a share of the largest value."""

SIMILAR = re.compile(r"similar|simmat|(?<![a-z])(sims?|rsms?|r(?![\W_]?\d)|rho|corr\w*|cov\w*)(?![a-z])", re.IGNORECASE)
APART = re.compile(r"dissim|dist|rdm|1 ?-", re.IGNORECASE)
"""What similarities are called, and what says that they are none."""


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
        rows: how its rows were matched with the conditions.
        taken: the axes of the array in the order in which they stand there, as they were taken.
        passed_over: what else was in its file, with the reason.
    """

    name: str
    matrices: np.ndarray | None
    axes: tuple[str, ...] = ()
    times: np.ndarray = field(default_factory=lambda: np.array([np.nan]))
    regions: tuple[str, ...] = ("",)
    time_unit: str = "index"
    rows: str = "as the dataset's"
    taken: str = ""
    passed_over: str = ""

    @property
    def measured(self) -> np.ndarray:
        """The matrices; those of the pixels have to be found before."""
        if self.matrices is None:
            raise TypeError(f"the matrices of {self.name} are to be found from the images")
        return self.matrices

    def reordered(self, order: np.ndarray) -> "Reference":
        """Return it with its conditions in another order, or some of them.

        Args:
            order: (condition,) of the new places.
        """
        first, second = np.ix_(order, order)
        pairs = upper(square(self.measured, np.nan)[..., first, second])
        return replace(self, matrices=pairs)

    def parts(self) -> list[tuple[str, np.ndarray]]:
        """Return name and (subject, pair) of what is compared by itself: each region; the mean over time."""
        mean = nan_mean(self.measured, 1)
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
    rate: float | None = None,
    start: float = 0.0,
    paired: bool = False,
) -> Reference:
    """Make a reference of matrices as they were measured.

    Args:
        name: as shown.
        values: symmetric matrices or triangles of them; the conditions stand where their number does.
        conditions: how many there must be.
        axes: what the axes beside the conditions are, or all axes, see `matrix_axes`; None: those as long as the times
            and regions are these, others subject, then session.
        times: of each place along "time"; None: 0, 1, ….
        regions: name of each place along "region"; (): numbers.
        time_unit: of the times: "s", "ms", "index" where they count, "unit unknown" or any other word.
        rate: places along "time" in a second, where there are no times.
        start: time of the first of them, s.
        paired: the pairs are known to be such, and no cells.

    Raises:
        UserError: another number of conditions, axes that are not known or not as many, no symmetric matrix, or values
            whose squares no number can hold.
    """
    values, shape = np.asarray(values, np.float64), np.shape(values)
    largest = np.nanmax(np.abs(values), initial=0)
    if largest > LARGEST:
        hint = "; Fisher's z of similarities? give distances, or r = tanh(z)" if np.isinf(largest) else ""
        raise UserError(f"{name} holds {largest:.3g}; a dissimilarity is at most {LARGEST:g}{hint}")
    moved, tail, chosen, given = stimuli_last(name, values, conditions, axes)
    pairs = _triangles(name, moved) if tail == 2 else _distances(name, moved)
    beside = {"time": 0 if times is None else len(times), "region": len(regions)}
    counts = {word: count for word, count in beside.items() if count}
    if tail == 1 and axes is None and pairs.shape[:-1] == (conditions,) and conditions not in counts.values():
        _must_be_pairs(name, shape, conditions, paired)
    named = others(name, shape, pairs.shape[:-1], given, counts, rate is not None and times is None)
    rest = iter(named if len(named) + tail == len(shape) else [""] * len(shape))
    taken = " ".join((STIMULI if tail == 2 else PAIR) if place in chosen else next(rest) for place in range(len(shape)))
    if "session" in named:
        pairs = nan_mean(pairs, named.index("session"))
    left = [axis for axis in named if axis != "session"]
    order = [axis for axis in ("subject", "time", "region") if axis in left]
    pairs = pairs.transpose(*(left.index(axis) for axis in order), len(left))
    sizes = dict(zip(order, pairs.shape))
    subjects, moments, places = (sizes.get(axis, 1) for axis in ("subject", "time", "region"))
    pairs = pairs.reshape(subjects, moments, places, pairs.shape[-1])
    when = np.arange(moments, dtype=np.float64) if times is None else np.asarray(times, np.float64)
    if times is None and rate is not None:
        when, time_unit = start + when / rate, "s"
    where = tuple(map(str, regions)) or tuple(f"region {number}" for number in range(places))
    for axis, count, own in (("time", moments, len(when)), ("region", places, len(where))):
        if axis in left and count != own:
            raise UserError(f"{name} has {count} places along {axis}, but {own} names for them")
    when = when if "time" in left else np.array([np.nan])
    unit = time_unit if "time" in left else "index"
    return Reference(name, pairs, named, when, where if "region" in left else ("",), unit, taken=taken)


def _must_be_pairs(name: str, shape: tuple[int, ...], conditions: int, paired: bool) -> None:
    """Refuse an array of as many rows as there are conditions, of as many columns as pairs: these may be cells."""
    if not paired and not re.search("rdm|dissim|dist", name, re.IGNORECASE):
        raise UserError(f"{name} {shape} may be distances of pairs for each of {conditions} subjects, or responses of "
                        f"cells to the {conditions} conditions; say reference_axes=[subject,pair], or give responses "
                        "as a table (CSV), a condition a row")  # fmt: skip


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
        if labels is None or len(np.unique(labels[labels >= 0])) < 2:
            return []
        return [categorical(labels)]
    found = []
    for place, one in enumerate(given if isinstance(given, list | tuple) else [given]):
        if isinstance(one, np.ndarray):
            one = reference(f"reference {place}", one, conditions, axes=axes)
        if not isinstance(one, Reference):
            raise UserError(
                f"reference takes arrays and what cnnprobe.methods.rsa.references.named.load returns, got {one!r}"
            )
        pairs = conditions * (conditions - 1) // 2
        if one.matrices is not None and one.matrices.shape[-1] != pairs:
            raise UserError(f"{one.name} has {one.matrices.shape[-1]} pairs, {conditions} conditions have {pairs}")
        found.append(one)
    return found


def categorical(labels: np.ndarray, name: str = "labels") -> Reference:
    """Make a reference in which conditions of one class are alike (0), others not (1); unknown labels (-1) are NaN."""
    apart = (labels[:, None] != labels).astype(np.float64)
    apart[labels < 0] = apart[:, labels < 0] = np.nan
    return Reference(name, upper(apart)[None, None, None], (), np.array([np.nan]))


def _triangles(name: str, values: np.ndarray) -> np.ndarray:
    """Return the upper triangles of symmetric matrices; those of both sides are averaged.

    Of a matrix with one triangle that one is taken, and similarities are turned into dissimilarities.
    """
    matrices = values.reshape(-1, *values.shape[-2:])
    found = np.empty((len(matrices), values.shape[-1] * (values.shape[-1] - 1) // 2))
    for place, one in enumerate(matrices):
        whole = triangle(one)
        if whole is None and not is_symmetric(one):
            raise UserError(f"{name} is no dissimilarity matrix: it differs from its mirror image")
        one = one if whole is None else whole
        above, below = upper(one), upper(one.T)
        with np.errstate(invalid="ignore"):
            mean = (above + below) / 2
        found[place] = np.where(
            np.isfinite(above) & np.isfinite(below), mean, np.where(np.isfinite(above), above, below)
        )
    if len(matrices) and triangle(matrices[0]) is not None:
        LOG.warning(f"{name} has values in one triangle alone; it is mirrored")
    diagonals = matrices.diagonal(axis1=1, axis2=2)
    must_tell(name, name, found, diagonals)
    return _as_distances(name, found, diagonals).reshape(*values.shape[:-2], -1)


def _as_distances(name: str, pairs: np.ndarray, diagonals: np.ndarray) -> np.ndarray:
    """Return dissimilarities (matrix, pair): as they are, or diagonal - similarity where the largest value is there.

    Raises:
        UserError: some matrices hold the one and some the other, or neither, as covariances.
    """
    kinds = {_kind(own[np.isfinite(own)], apart[np.isfinite(apart)]) for own, apart in zip(diagonals, pairs)} - {""}
    ends = [_range(one) for one in (diagonals, pairs)]
    if kinds == {"similarities"}:
        itself = np.nanmax(diagonals, axis=1, keepdims=True, initial=-np.inf)
        LOG.warning(f"{name} holds similarities: {ends[0]} on its diagonal, {ends[1]} beside it; "
                    "they are turned into dissimilarities, diagonal - similarity")  # fmt: skip
        return np.where(np.isfinite(itself), itself, 0) - pairs
    if not kinds <= {"distances", "left out"}:
        raise UserError(f"{name} has {ends[0]} on its diagonal, {ends[1]} beside it: neither dissimilarities (0 on the "
                        "diagonal) nor similarities (the largest value there); make dissimilarities of it, e.g. "
                        "1 - correlation")  # fmt: skip
    if "left out" in kinds:
        LOG.warning(
            f"{name} has {ends[0]} on its diagonal, less than beside it, where {ends[1]} are taken for dissimilarities"
        )
    return pairs


def _range(values: np.ndarray) -> str:
    """Return the smallest and the largest of finite values for people."""
    found = values[np.isfinite(values)]
    low, high = (f"{end:.3g}" for end in (found.min(initial=np.inf), found.max(initial=-np.inf)))
    return low if low == high else f"{low} to {high}"


def _kind(own: np.ndarray, apart: np.ndarray) -> str:
    """Return what a matrix holds, from its diagonal and what is beside it; "" where nothing tells."""
    if not len(own) or not len(apart) or not (apart.any() or own.any()):
        return ""
    scale = EVEN * max(np.abs(apart).max(), np.abs(own).max())
    if np.abs(own).max() <= scale and apart.max() > 0:
        return "distances"
    if np.ptp(own) <= scale and apart.max() <= own.max() + scale:
        return "similarities"  # those below 0 are -distance
    return "left out" if np.median(apart) >= own.max() else "neither"


def _distances(name: str, values: np.ndarray) -> np.ndarray:
    """Return triangles as they are; refuse what is called a similarity, as no diagonal shows it."""
    must_tell(name, name, values)
    known = values[np.isfinite(values)]
    if len(known) and known.max() < 0:
        raise UserError(f"{name} has nothing but values below 0 ({_range(known)}), as -distance has; a dissimilarity "
                        "is larger where conditions are less alike")  # fmt: skip
    return values


def must_tell(name: str, called: str, pairs: np.ndarray, diagonal: np.ndarray | None = None) -> None:
    """Refuse what is called a similarity while no diagonal says whether it is one; of a diagonal of 0 a warning does.

    Args:
        name: for people.
        called: what its file calls it.
        pairs: its values off the diagonal.
        diagonal: those on it.

    Raises:
        UserError: it has no diagonal, or values below 0 and none above 1, as correlations and no distances have.
    """
    if not SIMILAR.search(called) or APART.search(called):
        return
    own = np.zeros(0) if diagonal is None else diagonal[np.isfinite(diagonal)]
    known = pairs[np.isfinite(pairs)]
    if own.any() or not len(known):
        return
    if known.min() < 0 and known.max() <= 1:
        raise UserError(f"{name} is called a similarity and holds {_range(known)}, as correlations do, without a "
                        "diagonal that shows it; make dissimilarities of it, e.g. 1 - correlation")  # fmt: skip
    if not len(own):
        raise UserError(f"{name} is called a similarity, {_range(known)}, and has no diagonal to show whether it is "
                        "one; store 1 - similarity, or call it a dissimilarity if it is one")  # fmt: skip
    LOG.warning(f"{name} is called a similarity and has 0 on its diagonal, as dissimilarities have; it is taken as "
                "dissimilarities: larger is less alike; if it is none, store 1 - similarity")  # fmt: skip


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over an axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)
