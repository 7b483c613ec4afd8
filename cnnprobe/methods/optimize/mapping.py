"""The images that units of a layer prefer: what is stored, and the work that fills it."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.gradients.arrival import must_arrive
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.images.spectrum import centroid
from cnnprobe.instruments.images.thumbnails import picture_kind, thumbnails
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.snapshots import Moment, at
from cnnprobe.instruments.ranking.top_k import Ranked
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.optimize.ascent.climb import network
from cnnprobe.methods.optimize.ascent.objectives import Objective
from cnnprobe.methods.optimize.ascent.presets import Settings
from cnnprobe.methods.optimize.ascent.rows import Ascended, ascending
from cnnprobe.methods.optimize.columns import PreferredColumn
from cnnprobe.methods.optimize.control.session import Controlling
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, Within, put

LOG = logging.getLogger("cnnprobe")
STATES = ("fine", "restarted", "diverged", "no gradient")
"""What the numbers of the column `state` mean."""


@dataclass
class AscentSettings:
    """Settings of the ascent, the same for every layer.

    Args:
        model: any network, on the device.
        dataset: an image set.
        computation: device, loaders, rows that climb at once (its batch size), and seed.
        presets: settings by name; the image that is kept comes from the first ones.
        starts: images per unit and preset.
        moments: of learning, in order; the network carries the last.
        statistics: of the dataset; known before the first image.
    """

    model: nn.Module
    dataset: ImageSet
    computation: Computation
    presets: dict[str, Settings]
    starts: int
    moments: Sequence[Moment] = ()
    statistics: Statistics | None = None

    @property
    def several(self) -> bool:
        """Whether there are images beside the one that is kept."""
        return self.starts * len(self.presets) > 1

    @property
    def grouped(self) -> int:
        """Rows that have to climb together."""
        return self.starts if any(settings.diversity for settings in self.presets.values()) else 1

    @property
    def together(self) -> int:
        """Units that climb, and are saved, together."""
        return max(1, self.computation.batch_size // self.starts)


@dataclass
class Preferring:
    """Makes the preferred images of one layer.

    Args:
        how: they are made.
        layer: that is read.
        objective: a row per image; with `control` None until that has learned it.
        ids: (row,) units, or numbers of groups, directions or targets.
        k: strongest natural images per row; 0: none.
        small: shape of their pictures, (channel, y, x) or (channel, time).
        aside: further columns that are known from the start.
        most: rows (with diversity, groups of them) at once, where memory has set that; None: as many as `how` says.
        control: of the units of a second network.
        chosen: how many rows are kept, chosen by `scores`; None: all.
    """

    how: AscentSettings
    layer: Layer
    objective: Objective | None
    ids: np.ndarray
    k: int
    small: tuple[int, ...]
    aside: dict[PreferredColumn, Column] = field(default_factory=dict)
    most: int | None = None
    control: Controlling | None = None
    chosen: int | None = None

    def __post_init__(self) -> None:
        self.first = max(1, self.how.computation.batch_size // self.how.grouped)
        self.carried = Carried(self.most or self.first, "batch of rows")
        climbed = getattr(self.objective, "units", None)
        must_arrive(self.how.model, self.layer, self.how.dataset.size, climbed)

    @property
    def known_objective(self) -> Objective:
        """The objective, wherever it is needed: `control` has learned it by then."""
        assert self.objective is not None
        return self.objective

    @property
    def name(self) -> str:
        """Of its table."""
        return f"units/{self.layer.group}"

    @property
    def work(self) -> int:
        """Rows times steps of everything, for the progress."""
        steps = [settings.steps for settings in self.how.presets.values()]
        return len(self.ids) * (sum(steps) * self.how.starts + steps[0] * len(self.how.moments))

    def table(self, about: dict[str, Any]) -> Table[PreferredColumn]:
        """Lay out what is stored, with `about` among its attributes."""
        own = about | self.layer.attributes | {"states": list(STATES), "presets": list(self.how.presets)}
        own |= {"moments": [moment.label for moment in self.how.moments]}
        own |= {"epochs": [moment.epoch for moment in self.how.moments]}
        return Table(self.name, "unit", self.chosen or len(self.ids), self.columns(), self.how.together, own)

    def columns(self) -> dict[PreferredColumn, Column]:
        """Describe the columns."""
        size, how = tuple(self.how.dataset.size), self.how
        axes = "channel y x" if len(size) == 3 else "channel time"
        steps = max(settings.steps for settings in how.presets.values())
        picture = picture_kind(size)[0]
        columns: dict[PreferredColumn, Column] = {
            "unit": Column(
                "channel of the layer, or number of the row",
                dtype="int64",
                unit="index",
                values=None if self.chosen else self.ids,
            ),
            **({} if self.chosen else self.aside),
            "image": Column("preferred image, the best step of the best start; NaN: none", axes, size, unit="0 to 1"),
            "objective": Column("what was climbed, for that image without transforms", unit="activation"),
            "response": Column("largest value of the unit's map, for that image", unit="activation"),
            "response_transformed": Column("the same, mean over random transforms", unit="activation"),
            "best_natural": Column("the same, of the strongest image of the dataset", unit="activation"),
            "gain": Column("response over best_natural, less 100 %; NaN where best_natural is not positive", unit="%"),
            "trace": Column("objective by step, as shown; NaN after an early end", "step", (steps,), unit="activation"),
            "best_step": Column("steps before that image; -1: none", dtype="int64", unit="steps"),
            "restarts": Column("how often it was started again", dtype="int64"),
            "state": Column(f"0 to {len(STATES) - 1}: {', '.join(STATES)}", dtype="int8", unit="index"),
            "start": Column("which start it comes from", dtype="int64", unit="index"),
        }
        columns |= self.control.columns() if self.control else {}
        if self.k:
            columns["natural_image"] = Column("row of /stimuli, strongest first", "k", (self.k,), "int64", "index")
            columns["natural_response"] = Column("response to it", "k", (self.k,), unit="activation")
            shape = (self.k, *self.small)
            columns["picture"] = Column("the image, made small", f"k {axes}", shape, picture, "0 to 255")
        if how.several:
            every = (len(how.presets), how.starts)
            columns["variants"] = Column("by preset and start", f"preset start {axes}", (*every, *size), unit="0 to 1")
            columns["variant_response"] = Column("response to it", "preset start", every, unit="activation")
        if how.moments:
            moments = (len(how.moments),)
            columns |= {
                "learned_image": Column("preferred image at that time", f"moment {axes}", (*moments, *size)),
                "learned_response": Column("response of the network of that time", "moment", moments),
                "learned_final": Column("response of the final network to that image", "moment", moments),
                "learned_centroid": Column("mean spatial frequency", "moment", moments, unit="cycles/px"),
            }
        return columns

    def events(
        self,
        natural: Ranked | None,
        finished: frozenset[int],
        kept: list[int] | None = None,
        unfinished: Unfinished | Within | None = None,
    ) -> Iterator[Rows[PreferredColumn] | Advance | Phase]:
        """Make the images, in batches of units.

        Args:
            natural: the strongest images of these units, or None.
            finished: first rows of the batches there are already.
            kept: the rows that were chosen; None: all.
            unfinished: keeps the images that are not saved yet.
        """
        unfinished = unfinished or Unfinished()
        order = np.arange(len(self.ids)) if kept is None else np.array(kept)
        starts = [start for start in range(0, len(order), self.how.together) if start not in finished]
        rows = sum(len(order[start : start + self.how.together]) for start in starts)
        yield Phase(f"ascent in {self.layer.name}", self.work // max(1, len(self.ids)) * rows, "steps")
        for start in starts:
            some = order[start : start + self.how.together]
            name = f"{self.name}/{start}"
            columns = yield from self._made(some, name, unfinished)
            columns["unit"] = self.ids[some]
            columns |= self._beside(some, natural, columns["response"])
            if self.control:
                columns |= self.control.judged(columns["image"], some)
            there = {name: column for name, column in self.columns().items() if column.values is None}
            yield Rows(self.name, start, {key: np.asarray(columns[key], own.dtype) for key, own in there.items()})
            unfinished.drop(name)

    def scores(
        self, natural: Ranked, unfinished: Unfinished | Within | None = None
    ) -> Generator[Phase | Advance, None, np.ndarray]:
        """Return by row how far its preferred image exceeds the strongest natural one, as a share of that."""
        settings = next(iter(self.how.presets.values()))
        found, scored = np.full(len(self.ids), np.nan), np.zeros(len(self.ids), bool)
        kept, name, unfinished = {"found": found, "scored": scored}, f"{self.name}/scores", unfinished or Unfinished()
        unfinished.begin(name, lambda: kept, lambda state: put(kept, state))
        yield Phase(f"ranking units of {self.layer.name}", len(self.ids) * settings.steps, "steps")
        for start in range(0, len(self.ids), self.how.together):
            some = np.arange(start, min(start + self.how.together, len(self.ids)))
            if scored[some].all():
                continue
            response = (yield from self._climbed(some, settings, 1, f"{name}/{start}", unfinished)).response
            best = natural.responses[some, 0]
            found[some] = np.divide(response, best, out=np.full(len(some), np.nan), where=best > 0)
            scored[some] = True
            unfinished.drop(f"{name}/{start}")
        unfinished.drop(name)
        return found

    def _made(
        self, some: np.ndarray, name: str, unfinished: Unfinished | Within
    ) -> Generator[Advance, None, dict[PreferredColumn, np.ndarray]]:
        """Let units climb by every preset, and at every moment; returns their columns."""
        how, found = self.how, []
        for preset, settings in how.presets.items():
            found.append((yield from self._climbed(some, settings, how.starts, f"{name}/{preset}", unfinished)))
        first = found[0]
        value = first.value.reshape(len(some), how.starts)
        best = np.where(np.isnan(value), -np.inf, value).argmax(1)
        rows = np.arange(len(some)) * how.starts + best
        steps = self.columns()["trace"].shape[0]
        trace = np.pad(first.trace[rows], ((0, 0), (0, steps - first.trace.shape[1])), constant_values=np.nan)
        columns: dict[PreferredColumn, np.ndarray] = {"image": first.images[rows], "trace": trace}
        columns |= {"objective": first.value[rows], "response": first.response[rows], "best_step": first.best[rows]}
        columns["response_transformed"] = first.transformed[rows]
        columns |= {"restarts": first.restarts[rows], "state": self._states(first, rows, some), "start": best}
        if how.several:
            shape = (len(some), 1, how.starts)
            images = [one.images.reshape(*shape, *one.images.shape[1:]) for one in found]
            columns["variants"] = np.concatenate(images, 1)
            columns["variant_response"] = np.concatenate([one.response.reshape(shape) for one in found], 1)
        if how.moments:
            columns |= yield from self._learned(some, f"{name}/moment", unfinished)
        return columns

    def _climbed(
        self, some: np.ndarray, settings: Settings, starts: int, name: str, unfinished: Unfinished | Within
    ) -> Generator[Advance, None, Ascended]:
        how = self.how
        together = starts if settings.diversity else 1
        seeds = [(how.computation.seed, int(self.ids[row]), start) for row in some for start in range(starts)]
        return (
            yield from ascending(
                how.model,
                [self.layer],
                self.known_objective.of(np.repeat(some, starts)),
                tuple(how.dataset.size),
                settings,
                seeds,
                statistics=how.statistics,
                together=together,
                device=how.computation.device,
                carried=self.carried,
                name=name,
                unfinished=unfinished,
            )
        )

    def _states(self, found: Ascended, rows: np.ndarray, some: np.ndarray) -> np.ndarray:
        """Return the numbers of `STATES`, and warn of what went wrong."""
        states = []
        for row, unit in zip(rows, self.ids[some]):
            problem = found.problem[row]
            states.append(next((place for place, word in _SAID.items() if word in problem), 0))
            if problem:
                LOG.warning(f"{self.layer.name}, unit {unit}: {problem}")
        return np.array(states, np.int8)

    def _learned(
        self, some: np.ndarray, name: str, unfinished: Unfinished | Within
    ) -> Generator[Advance, None, dict[PreferredColumn, np.ndarray]]:
        """Let units climb at every moment of learning, from the same start."""
        settings = next(iter(self.how.presets.values()))
        found = []
        for number, moment in enumerate(self.how.moments):
            with at(self.how.model, moment):
                found.append((yield from self._climbed(some, settings, 1, f"{name}/{number}", unfinished)))
        images = np.stack([one.images for one in found], 1)
        final = np.stack([self._answers(one.images, some) for one in found], 1)
        response = np.stack([one.response for one in found], 1)
        axes = len(self.how.dataset.size) - 1
        return {
            "learned_image": images,
            "learned_response": response,
            "learned_final": final,
            "learned_centroid": centroid(images, axes),
        }

    def _answers(self, images: np.ndarray, some: np.ndarray) -> np.ndarray:
        """Return the responses of the network as it is, (row,); NaN where there is no image."""
        with torch.no_grad(), network(self.how.model, [self.layer]) as show:
            activations = show(torch.from_numpy(images).to(self.how.computation.device))
            answers = self.known_objective.of(some).response(activations)
        return answers.diagonal().cpu().numpy()

    def _beside(
        self, some: np.ndarray, natural: Ranked | None, response: np.ndarray
    ) -> dict[PreferredColumn, np.ndarray]:
        """Return the columns about natural images."""
        if natural is None:
            gap = np.full(len(some), np.nan, np.float32)
            return {"best_natural": gap, "gain": gap}
        images, responses = natural.images[some], natural.responses[some]
        best = responses[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(best > 0, 100 * (response / best - 1), np.nan)
        columns: dict[PreferredColumn, np.ndarray] = {"best_natural": best, "gain": gain}
        columns |= {"natural_image": images, "natural_response": responses}
        column = self.columns()["picture"]
        pictures = np.full((len(some), *column.shape), 255 if column.dtype == "uint8" else np.nan, column.dtype)
        needed = np.unique(images[images >= 0])
        loaded = batches(self.how.dataset, **replace(self.how.computation, device="cpu").loading, indices=needed)
        for batch in loaded:
            small = thumbnails(batch.images, self.small[1:])
            for index, picture in zip(batch.indices, small):
                pictures[images == index] = picture
        return columns | {"picture": pictures}


_SAID = {3: "no gradient", 1: "restarted", 2: "diverged"}


def strongest(
    model: nn.Module,
    layer: Layer,
    objective: Objective,
    k: int,
    loaded: Source,
    skipped: np.ndarray,
    unfinished: Unfinished | Within | None = None,
) -> Generator[Advance, None, Ranked]:
    """Find the images to which each row of an objective responds most.

    Args:
        model: any network; it is given back as it was.
        layer: that the objective reads.
        objective: any.
        k: images per row.
        loaded: the images, see `images.passes.passing`.
        skipped: (image,) bool, becomes true where an image could not be read.
        unfinished: keeps the ranking so far.

    Returns:
        Ranked, without positions: (row, k, 0).
    """
    best: list[list[tuple[float, int]]] = [[] for _ in range(objective.rows)]

    def restore(state: State) -> None:
        best[:] = [[(value, index) for value, index in row] for row in state["best"]]
        skipped[:] = state["skipped"]

    with torch.no_grad(), network(model, [layer]) as show:

        def answered(part: Batch) -> np.ndarray:
            return objective.response(show(part.images)).cpu().numpy()

        def use(part: Batch, responses: np.ndarray) -> None:
            for index, readable, values in zip(part.indices.tolist(), part.readable, responses):
                for row in np.flatnonzero(np.isfinite(values)) if readable else ():
                    heapq.heappush(best[row], (float(values[row]), -index))  # of equal ones the smaller index stays
                    if len(best[row]) > k:
                        heapq.heappop(best[row])
            skipped[part.indices] = ~part.readable

        def take() -> State:
            return {"best": best, "skipped": skipped}

        name, count = f"ranking for {layer.name}", len(skipped)
        yield from passing(name, count, loaded, answered, use, take=take, restore=restore, unfinished=unfinished)
    images, answers = np.full((len(best), k), -1, np.int64), np.full((len(best), k), np.nan, np.float32)
    for row, found in enumerate(best):
        for place, (value, index) in enumerate(sorted(found, reverse=True)):
            images[row, place], answers[row, place] = -index, value
    return Ranked(images, answers, np.zeros((len(best), k, 0), np.int64))
