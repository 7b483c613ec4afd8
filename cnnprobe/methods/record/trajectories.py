"""Trajectories of populations: courses of layers gathered image by image, averaged by condition, and their dynamics.

While images are shown, the sums of the courses of each layer by condition are kept, float64: how many images there are
does not matter. Of layers that would take more than there is room for, units are drawn by the seed.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from cnnprobe.instruments.statistics.rotations import (
    LEAST_CONDITIONS,
    MOST,
    SHOWN,
    dynamics,
    p_of,
    permuted,
    planes,
    trajectories,
)
from cnnprobe.methods.record.conditions import MOST as MOST_CONDITIONS
from cnnprobe.methods.record.conditions import Conditions
from cnnprobe.methods.record.time_axes import TimeAxis
from cnnprobe.store.reader import TableView
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

UNITS = 512
"""Units of a layer that are followed, at most: at positions other than those along time, each is one."""
NUMBERS, ALL_NUMBERS = 2**23, 2**25
"""Numbers that are kept of a layer, and of all layers."""
FEWEST = 8
"""Units that there has to be room for; of very long courses fewer conditions are followed."""
PERMUTATIONS = 100
PLANES = MOST // 2
KEPT = "trajectories"
"""Under which the sums are kept for a stopped run."""
StepColumn = Literal["time", "mean", "components", "plane"]
"""Columns of the tables "trajectories/<layer>"."""
RotationColumn = Literal[
    "layer", "features", "units", "steps", "step", "conditions", "condition_variance", "variance", "mean_variance",
    "r2", "skew_r2", "p", "p_ratio", "permuted_r2", "permuted_skew_r2", "plane_r2", "plane_variance", "angle",
    "frequency",
]  # fmt: skip
"""Columns of the table "rotations"."""


def most_conditions(axes: list[TimeAxis]) -> int:
    """Return how many conditions there is room for."""
    longest = max(len(one.times) for one in axes)
    room = min(NUMBERS, ALL_NUMBERS // len(axes)) // (FEWEST * longest)
    return max(LEAST_CONDITIONS, min(MOST_CONDITIONS, room))


class Followed:
    """Follows populations through time.

    Args:
        axes: of the layers.
        conditions: of the images.
        dtype: of the maps that are stored; what is averaged here is what is stored.
        seed: of the units that are drawn, and of the permutations.

    Attributes:
        images: how many were added, from the first one on.
    """

    def __init__(self, axes: list[TimeAxis], conditions: Conditions, dtype: str, seed: int):
        self.axes, self.conditions, self.dtype, self.seed = axes, conditions, dtype, seed
        self.images, count = 0, len(conditions.names)
        self.unfinished = Unfinished()
        self.chosen = {one.layer.group: self._drawn(one) for one in axes}
        self.sums = {one.layer.group: np.zeros((count, len(self.chosen[one.layer.group]), len(one.times)))
                     for one in axes}  # fmt: skip
        self.counts = {one.layer.group: np.zeros(count) for one in axes}

    def _random(self, axis: TimeAxis, purpose: int) -> np.random.Generator:
        """Return the random numbers of a layer, whichever others there are."""
        return np.random.default_rng([self.seed, purpose, zlib.crc32(axis.layer.name.encode())])

    def _drawn(self, axis: TimeAxis) -> np.ndarray:
        """Return which of the features of a layer are followed."""
        room = min(NUMBERS, ALL_NUMBERS // len(self.axes)) // (len(self.conditions.names) * len(axis.times))
        most = min(UNITS, max(1, room))
        if axis.features <= most:
            return np.arange(axis.features)
        return np.sort(self._random(axis, 0).choice(axis.features, most, replace=False))

    def begin(self, unfinished: Unfinished | None, start: int) -> int:
        """Go on with what a stopped run had; returns from which image on they are to be shown once more.

        Args:
            unfinished: keeps the sums.
            start: images whose rows are finished.
        """

        def take() -> State:
            return {"images": self.images, "sums": self.sums, "counts": self.counts}

        def restore(state: State) -> None:
            if int(state["images"]) <= start:  # what was added cannot be taken away
                put(self.sums, state["sums"])
                put(self.counts, state["counts"])
                self.images = int(state["images"])

        self.unfinished = unfinished or self.unfinished
        self.unfinished.begin(KEPT, take, restore)
        return self.images

    def add(self, maps: dict[str, np.ndarray], readable: np.ndarray) -> None:
        """Add the next images.

        Args:
            maps: by group of a layer, (image, channel, *map).
            readable: (image,) which of them count.
        """
        own = self.conditions.groups[self.images : self.images + len(readable)]
        for axis in self.axes:
            group = axis.layer.group
            courses = axis.courses(maps[group].astype(self.dtype, copy=False))[:, self.chosen[group]]
            for place in np.flatnonzero(readable & (own >= 0) & np.isfinite(courses).all((1, 2))):
                self.sums[group][own[place]] += courses[place]
                self.counts[group][own[place]] += 1
        self.images += len(readable)

    def tables(self) -> list[Table[Any]]:
        """Lay out the conditions, the trajectories of each layer, and what is found of them."""
        count, found = len(self.conditions.names), list[Table[Any]]([self.conditions.table()])
        for place, one in enumerate(self.axes):
            steps = len(one.times)
            unit = "step" if np.isnan(one.step) else "s"
            columns: dict[StepColumn, Column] = {
                "time": Column("middle of what a step sees, or its number", dtype="float64", unit=unit,
                               values=one.times),
                "mean": Column("mean over conditions, less its mean over time, on its own principal components",
                               "component", (SHOWN,), unit="activation"),
                "components": Column("activity less the mean over conditions, on its principal components",
                                     "condition component", (count, MOST), unit="activation"),
                "plane": Column("the same in the plane whose rotation explains most",
                                "condition xy", (count, 2), unit="activation"),
            }  # fmt: skip
            about = one.layer.attributes | {"order": place, "time_unit": unit}
            found.append(Table(f"trajectories/{one.layer.group}", "step", steps, columns, steps, about, aside=True))
        about = {"conditions": self.conditions.of, "permutations": PERMUTATIONS, "seed": self.seed}
        return [*found, Table("rotations", "layer", len(self.axes), self._columns(), 1, about, aside=True)]

    def _columns(self) -> dict[RotationColumn, Column]:
        """Describe what is found of each layer."""
        names = np.array([one.layer.name for one in self.axes], object)
        units = np.array([len(self.chosen[one.layer.group]) for one in self.axes])
        steps = np.array([len(one.times) for one in self.axes])
        share = "share of the variance that depends on the condition"
        return {
            "layer": Column("layer", dtype="str", values=names),
            "features": Column("courses that it has: units at all positions beside time", dtype="int64",
                               values=np.array([one.features for one in self.axes])),
            "units": Column("of these, followed; drawn by the seed where not all are", dtype="int64", values=units),
            "steps": Column("steps of time", dtype="int64", values=steps),
            "step": Column("from one to the next, NaN = unknown", dtype="float64", unit="s",
                           values=np.array([one.step for one in self.axes])),
            "conditions": Column("conditions with an image that can be read", dtype="int64"),
            "condition_variance": Column("share of the variance of the units that depends on the condition"),
            "variance": Column(f"{share}, by component", "component", (MOST,)),
            "mean_variance": Column("share of the variance of the mean over conditions", "component", (SHOWN,)),
            "r2": Column("R² of x(t + 1) - x(t) = M x(t), any M", dtype="float64"),
            "skew_r2": Column("R² of the best skew-symmetric M", dtype="float64"),
            "p": Column("share of permutations whose skew_r2 is at least as large, it among them", dtype="float64"),
            "p_ratio": Column("the same of skew_r2 / r2", dtype="float64"),
            "permuted_r2": Column("r2 of permuted conditions", "permutation", (PERMUTATIONS,), "float64"),
            "permuted_skew_r2": Column("skew_r2 of permuted conditions", "permutation", (PERMUTATIONS,), "float64"),
            "plane_r2": Column("part of skew_r2, by plane of rotation, the largest first", "plane", (PLANES,)),
            "plane_variance": Column(f"{share} that lies in the plane", "plane", (PLANES,)),
            "angle": Column("by which the activity turns in the plane each step", "plane", (PLANES,), "float64", "rad"),
            "frequency": Column("of that rotation, NaN = unknown step", "plane", (PLANES,), "float64", "Hz"),
        }  # fmt: skip

    def rows(self) -> Iterator[Rows[Any] | Advance | Phase]:
        """Give the rows of all tables; the images have been added."""
        self.unfinished.end(KEPT)
        yield Phase("permuting", PERMUTATIONS * len(self.axes), "permutations")
        for place, axis in enumerate(self.axes):
            found, steps = self._measured(axis), self._empty(axis)
            yield from self._fill(axis, found, steps)
            yield Rows(f"trajectories/{axis.layer.group}", 0, steps)
            yield Rows("rotations", place, {name: np.asarray(value)[None] for name, value in found.items()})

    def _empty(self, axis: TimeAxis) -> dict[StepColumn, np.ndarray]:
        steps, count = len(axis.times), len(self.conditions.names)
        shapes: dict[StepColumn, tuple[int, ...]] = {
            "mean": (steps, SHOWN), "components": (steps, count, MOST), "plane": (steps, count, 2)
        }  # fmt: skip
        return {name: np.full(shape, np.nan) for name, shape in shapes.items()}

    def _measured(self, axis: TimeAxis) -> dict[RotationColumn, Any]:
        """Return the columns of a layer of which nothing is known yet."""
        known = [name for name, column in self._columns().items() if column.values is None]
        shapes = {name: column.shape for name, column in self._columns().items()}
        found: dict[RotationColumn, Any] = {name: np.full(shapes[name], np.nan) for name in known}
        found["conditions"] = int((self.counts[axis.layer.group] > 0).sum())
        return found

    def _fill(
        self, axis: TimeAxis, found: dict[RotationColumn, Any], steps: dict[StepColumn, np.ndarray]
    ) -> Iterator[Advance]:
        """Fill in what there is of a layer."""
        counts = self.counts[axis.layer.group]
        there = np.flatnonzero(counts)
        if not len(there):
            yield Advance(PERMUTATIONS)
            return
        courses = self.sums[axis.layer.group][there] / counts[there, None, None]
        whole = trajectories(courses.transpose(0, 2, 1))
        components = whole.components
        steps["mean"][:, : whole.mean.shape[1]] = whole.mean
        steps["components"][:, there, : components.shape[2]] = components.transpose(1, 0, 2)
        found["condition_variance"] = whole.share
        found["variance"][: len(whole.variance)] = whole.variance
        found["mean_variance"][: len(whole.mean_variance)] = whole.mean_variance
        fitted = dynamics(components)
        if len(there) < LEAST_CONDITIONS or np.isnan(fitted.r2):  # no rotation without its control
            yield Advance(PERMUTATIONS)
            return
        for place, plane in enumerate(planes(components, fitted)):
            found["plane_r2"][place], found["plane_variance"][place] = plane.r2, plane.variance
            found["angle"][place] = plane.angle
            found["frequency"][place] = plane.angle / (2 * np.pi * axis.step)
            if place == 0:
                steps["plane"][:, there] = plane.activity.transpose(1, 0, 2)
        random, ratios = self._random(axis, 1), np.zeros(PERMUTATIONS)
        for number in range(PERMUTATIONS):
            one = dynamics(permuted(components, random))
            found["permuted_r2"][number], found["permuted_skew_r2"][number] = one.r2, one.skew_r2
            ratios[number] = one.ratio
            yield Advance()
        found["r2"], found["skew_r2"] = fitted.r2, fitted.skew_r2
        found["p"] = p_of(fitted.skew_r2, found["permuted_skew_r2"])
        found["p_ratio"] = p_of(fitted.ratio, ratios)


def told(table: TableView[RotationColumn]) -> dict[str, Any]:
    """Return what the headline says: the R² of the skew-symmetric matrix and p, of the layer with the smallest p."""
    known = np.flatnonzero(np.isfinite(table["skew_r2"]))
    if not len(known):
        return {}
    columns: tuple[RotationColumn, ...] = ("skew_r2", "p", "p_ratio")
    r2, p, p_ratio = (table[name][known] for name in columns)
    first = int(np.lexsort((-r2, p_ratio, p))[0])
    layer = f" of {table.known('layer')[known[first]]}" if table.row_count > 1 else ""
    return {f"rotation R²{layer}": float(r2[first]), "p": float(p[first]), "p of its share": float(p_ratio[first])}


def listed(table: TableView[RotationColumn]) -> dict[str, list[str]]:
    """Return the table that is printed at the end, a row for each layer."""
    if not len(table.rows):
        return {}

    def written(values: np.ndarray, form: str = "{:.3f}") -> list[str]:
        return [form.format(value) if np.isfinite(value) else "-" for value in values]

    chance = [f"{one.mean():.3f} ({np.quantile(one, 0.95):.3f})" if np.isfinite(one).all() else "-"
              for one in table["permuted_skew_r2"]]  # fmt: skip
    turning = [
        f"{hertz:.3g} Hz" if np.isfinite(hertz) else f"{angle:.3g} rad/step" if np.isfinite(angle) else "-"
        for hertz, angle in zip(table["frequency"][:, 0], table["angle"][:, 0])
    ]
    return {
        "layer": [str(name) for name in table["layer"]],
        "conditions": [str(count) for count in table["conditions"]],
        "R² of linear dynamics": written(table["r2"]),
        "of rotation": written(table["skew_r2"]),
        "of permuted conditions (95 %)": chance,
        "p": written(table["p"]),
        "p of its share": written(table["p_ratio"]),
        "turns": turning,
    }
