"""Time courses: the similarity of each layer to a brain, over time and by region (Cichy et al. 2016)."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cnnprobe.instruments.images.passes import collected
from cnnprobe.methods.rsa.brain.peak_latency import Latencies, latencies, peak_times
from cnnprobe.methods.rsa.comparing.comparison import Comparison
from cnnprobe.methods.rsa.comparing.inference import Over, bootstrap, sides, similarities
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling
from cnnprobe.methods.rsa.comparing.present_cells import usable
from cnnprobe.methods.rsa.references.given import Reference
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished

CourseColumn = Literal["name", "kind", "similarity", "latency", "latency_low", "latency_high", "peak"]
"""Columns of the tables "courses/<reference>"."""
MomentColumn = Literal["time", "subjects", "noise_lower", "noise_upper"]
"""Columns of the tables "moments/<reference>"."""
RegionColumn = Literal["name", "order", "order_low", "order_high"]
"""Columns of the tables "regions/<reference>"."""
LATENCY: dict[CourseColumn, str] = {
    "latency": "time of the largest similarity, the first of equal ones",
    "latency_low": "lower end of its 95 % interval",
    "latency_high": "upper end",
    "peak": "similarity there",
}
ORDER: dict[RegionColumn, str] = {
    "order": "Spearman's correlation of the layers' latencies with depth",
    "order_low": "lower end of its 95 % interval",
    "order_high": "upper end",
}


@dataclass
class TimeCourses:
    """Compares layers with every moment and region of the references that have such an axis.

    Args:
        references: of any kind; those without time and region are left out.
        names: of the rows that are compared.
        kinds: "layer" of those in order of depth.
        comparison: see `comparing.comparison.compare`.
        draws: of the bootstrap.
        over: what it draws again; over subjects, a reference with one subject has no interval.
        seed: of the draws.
    """

    references: list[Reference]
    names: list[str]
    kinds: list[str]
    comparison: Comparison
    draws: int
    over: Over
    seed: int

    def __post_init__(self) -> None:
        self.references = [one for one in self.references if {"time", "region"} & set(one.axes)]

    def tables(self) -> list[Table[Any]]:
        """Lay out a table of curves, one of moments and one of regions for each reference."""
        found: list[Table[Any]] = []
        for place, one in enumerate(self.references):
            times, regions = one.measured.shape[1:3]
            about = {
                "reference": one.name, "regions": json.dumps(one.regions), "time_unit": one.time_unit,
                "comparison": self.comparison, "over": self.over, "timed": "time" in one.axes,
                "bootstrap": self._draws(one),
            }  # fmt: skip
            words = f"comparison ({self.comparison}) at each moment in each region, mean over subjects"
            curves: dict[CourseColumn, Column] = {
                "name": Column("layer, or pixels", dtype="str", values=np.array(self.names, object)),
                "kind": Column("layer, random or pixels", dtype="str", values=np.array(self.kinds, object)),
                "similarity": Column(words, "time region", (times, regions), "float64"),
            }
            for name, text in LATENCY.items():
                unit = "1" if name == "peak" else one.time_unit
                curves[name] = Column(text, "region", (regions,), "float64", unit)
            found.append(Table(f"courses/{place}", "layer", len(self.names), curves, len(self.names), about))
            moments: dict[MomentColumn, Column] = {
                "time": Column("moment", dtype="float64", unit=one.time_unit, values=one.times),
                "subjects": Column("how many can be compared", "region", (regions,), "int64",
                                   values=self._subjects(one)),
                "noise_lower": Column("lower noise ceiling", "region", (regions,), "float64"),
                "noise_upper": Column("upper noise ceiling", "region", (regions,), "float64"),
            }  # fmt: skip
            found.append(Table(f"moments/{place}", "time", times, moments, times, aside=True))
            named = Column("region", dtype="str", values=np.array(one.regions, object))
            orders: dict[RegionColumn, Column] = {"name": named}
            orders |= {name: Column(text, dtype="float64") for name, text in ORDER.items()}
            found.append(Table(f"regions/{place}", "region", regions, orders, regions, aside=True))
        return found

    def events(self, models: np.ndarray, unfinished: Unfinished | None = None) -> Iterator[Rows[Any] | Advance | Phase]:
        """Compare.

        Args:
            models: (row, pair), upper triangles of the rows' matrices.
            unfinished: keeps the draws so far.
        """
        for place, one in enumerate(self.references):
            times, regions = one.measured.shape[1:3]
            there = usable(one.measured, self.comparison).reshape(-1, times * regions)
            who = [np.flatnonzero(cell) for cell in there.T]
            cells = [one.measured[who[t * regions + r], t, r] for t in range(times) for r in range(regions)]
            curves = similarities(models, cells, self.comparison).reshape(-1, times, regions)
            ceiling = np.array([noise_ceiling(cell, self.comparison) for cell in cells]).reshape(times, regions, 2)
            noise: dict[MomentColumn, np.ndarray] = {"noise_lower": ceiling[..., 0], "noise_upper": ceiling[..., 1]}
            yield Rows(f"moments/{place}", 0, noise)
            peaks = yield from self._drawn(place, models, cells, who, unfinished)
            ordered = np.array([kind == "layer" for kind in self.kinds])
            samples = [self._sample(counts, models.shape[1]) for counts in self._subjects(one).T]
            found = [
                latencies(curves[..., r], peaks[..., r], one.times, sample, ordered) for r, sample in enumerate(samples)
            ]
            yield Rows(f"regions/{place}", 0, {name: np.array([getattr(r, name) for r in found]) for name in ORDER})
            yield Rows[CourseColumn](f"courses/{place}", 0, {"similarity": curves, **_stacked(found)})

    def _draws(self, one: Reference) -> int:
        """Return how often a reference is drawn again."""
        known = "time" in one.axes and (self.over != "subjects" or self._subjects(one).max(initial=0) > 1)
        return self.draws if known else 0

    def _subjects(self, one: Reference) -> np.ndarray:
        """Return how many subjects can be compared, (time, region)."""
        return usable(one.measured, self.comparison).sum(0)

    def _sample(self, counts: np.ndarray, pairs: int) -> int:
        """Return how many subjects or conditions are drawn, the smaller number of both.

        Args:
            counts: (time,) of the subjects; the moment with the fewest says how many, those without any say nothing.
            pairs: of conditions.
        """
        least = 0 if self.over == "subjects" else 1  # a moment of one subject says nothing of other subjects
        subjects, conditions = int(min(counts[counts > least], default=least)), sides(pairs)[0]
        if self.over == "subjects":
            return subjects
        return conditions if self.over == "conditions" or subjects < 2 else min(subjects, conditions)

    def _drawn(
        self,
        place: int,
        models: np.ndarray,
        cells: list[np.ndarray],
        who: list[np.ndarray],
        unfinished: Unfinished | None,
    ) -> Generator[Advance | Phase, None, np.ndarray]:
        """Return the times of the peaks after drawing again, (draw, row, region)."""
        one = self.references[place]
        times, regions = one.measured.shape[1:3]
        draws = self._draws(one)
        if not draws:
            return np.zeros((0, len(models), regions))
        yield Phase(f"bootstrap of the times in {one.name}", draws, "draws")
        how: dict[str, Any] = {"draws": draws, "over": self.over, "seed": self.seed, "who": who}

        def peaks(start: int) -> Iterator[np.ndarray]:
            for drawn in bootstrap(models, cells, self.comparison, start=start, **how):
                yield peak_times(drawn.reshape(-1, times, regions).swapaxes(1, 2), one.times)

        return (yield from collected(f"courses/{place}", (draws, len(models), regions), peaks, unfinished))


def _stacked(found: list[Latencies]) -> dict[CourseColumn, np.ndarray]:
    """Return columns (row, region) of the latencies of each region."""
    fields = dict(zip(LATENCY, ("latency", "low", "high", "peak")))
    return {name: np.stack([getattr(one, field) for one in found], 1) for name, field in fields.items()}
