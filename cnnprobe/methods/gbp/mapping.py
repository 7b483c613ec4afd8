"""Gradient maps of a layer's units, averaged over their strongest images: what is stored, and how it is made."""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.gradients.arrival import must_arrive
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.spectrum import centroid, low_share
from cnnprobe.instruments.images.thumbnails import crop, thumbnails
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.snapshots import Moment, at, half_time
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.instruments.ranking.top_k import Ranked
from cnnprobe.instruments.windows.centred_maps import Canvas, canvas_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.gbp.averages import Average, alike_maps, average, counts
from cnnprobe.methods.gbp.gradients import Gradients, Maps, Recipe
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

TOGETHER = 384 * 2**20
"""Bytes of maps held until their units are averaged and saved."""
LOW = 0.125
"""Cycles per px below which a spatial frequency counts as low: a quarter of the highest there is."""
Score = Literal["consistency", "pairwise", "low_share"]
"""Columns of one number, by which units rank."""
MapColumn = Score | Literal[
    "unit", "dead", "image", "response", "position", "picture", "map", "mean_map", "mean_map_sd", "normalised_map",
    "coverage", "reliability", "gradient_map", "learned_map", "learned_centroid", "learned_likeness", "half_time",
    "residual",
]  # fmt: skip
"""Columns of the tables "units/<layer>"."""


@dataclass
class GradientSettings:
    """Settings of gradient maps, the same for every layer.

    Args:
        model: any network.
        dataset: an image set.
        computation: device, loaders, batch size and seed.
        recipe: see `gradients.Recipe`.
        k: images per unit that are averaged.
        keep: of them, those whose maps are stored one by one.
        moments: of learning, in order; the network carries the last.
    """

    model: nn.Module
    dataset: ImageSet
    computation: Computation
    recipe: Recipe
    k: int
    keep: int
    moments: Sequence[Moment] = ()


class GradientMapping:
    """Maps units of one layer.

    Args:
        how: maps are made.
        layer, units: whose.

    Attributes:
        canvas: where maps lie, the theoretical centre of the unit's field in the middle; the image, where the unit
            sees all of it or the target is a whole map.
        gradients: the engine for this layer.
    """

    def __init__(self, how: GradientSettings, layer: Layer, units: np.ndarray):
        self.how, self.layer, self.units = how, layer, units
        self.name = f"units/{layer.group}"
        must_arrive(how.model, layer, how.dataset.size, None if how.recipe.groups else units)
        self.gradients = Gradients(how.model, layer, how.dataset.size, how.recipe)
        sides = (how.dataset.size[1], how.dataset.size[2])
        local = how.recipe.target == "neuron" and len(layer.map_size) == 2
        self.canvas = (
            canvas_of(layer.field, sides, 0, layer.map_size)
            if local
            else Canvas(sides, sides, layer.field, recentred=False)
        )
        one = 4 * math.prod((how.dataset.size[0], *self.canvas.sides)) * how.k
        self.together = max(1, TOGETHER // (one * (2 if how.recipe.plain else 1)))

    def table(self, units: np.ndarray | None, rows: int, about: dict[str, Any]) -> Table[MapColumn]:
        """Lay out what is stored.

        Args:
            units: of the rows; None where they are chosen by what is measured.
            rows: how many.
            about: among the attributes.
        """
        self.columns = self._columns(units)
        # a batch is saved whole: few units where maps are large
        self.batch = max(1, min(rows, self.together, 64))
        own = about | self.layer.attributes | {"rectified": self.layer.rectified, "recentred": self.canvas.recentred}
        own |= {"engine": self.gradients.engine, "counts": counts(self.how.k).tolist(), "low": LOW}
        own |= {"moments": [moment.label for moment in self.how.moments]}
        own |= {"epochs": [moment.epoch for moment in self.how.moments]}
        own["rectifiers"] = ", ".join(f"{number} {name}" for name, number in self.gradients.rectifiers.items())
        return Table(self.name, "unit", rows, self.columns, self.batch, own)

    def _columns(self, units: np.ndarray | None) -> dict[MapColumn, Column]:
        how, place = (
            self.how,
            {0: "dense: none", 1: "position", 2: "y x", 3: "z y x"}.get(len(self.layer.map_size), "index"),
        )
        keep, channels, recipe = how.keep, how.dataset.size[0], how.recipe
        each = (channels, *self.canvas.sides)
        unit = {"input-x-gradient": "activation", "integrated": "activation"}.get(recipe.rule, "activation per pixel")
        unit = "activation² per pixel²" if recipe.rule == "smoothgrad" and recipe.squares else unit
        where = "re-centred on the field" if self.canvas.recentred else "of the image"
        axes = "channel y x"
        group = recipe.target == "group"
        measure = "mean" if group else "maximum"
        of = "mean over positions of the group's weighted sum" if group else "maximum of the unit's map"
        columns: dict[MapColumn, Column] = {
            "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
            "dead": Column("true where no image drives the unit: its maps are NaN", dtype="bool"),
            "image": Column(f"row of /stimuli, largest {measure} first", "k", (how.k,), "int64", "index"),
            "response": Column(of, "k", (how.k,), unit="activation"),
            "position": Column(
                f"place of it on the map ({place})", "k yx", (how.k, len(self.layer.map_size)), "int64", "index"
            ),
            "picture": Column(f"the image, {where}", f"shown {axes}", (keep, *each), "uint8", "0 to 255"),
            "map": Column(
                f"signed map, {where}; 0 beyond the image, NaN where the unit is silent",
                f"shown {axes}",
                (keep, *each),
                unit=unit,
            ),
            "mean_map": Column("mean over images", axes, each, unit=unit),
            "mean_map_sd": Column("standard deviation over images", axes, each, unit=unit),
            "normalised_map": Column("mean of maps each divided by its own largest |value|", axes, each),
            "coverage": Column("images that cover the pixel", axes, each, "int16", "images"),
            "consistency": Column("mean correlation of the maps with their mean"),
            "pairwise": Column("mean correlation of two maps over the pixels that all maps of the unit cover"),
            "reliability": Column("correlation of the means of two sets of n images", "n", (len(counts(how.k)),)),
            "low_share": Column(f"share of the mean map's power below {LOW} cycles per px"),
        }
        if recipe.plain:
            columns["gradient_map"] = Column(
                "the same mean of the plain gradient", axes, each, unit="activation per pixel"
            )
        if moments := len(how.moments):
            columns |= {
                "learned_map": Column(
                    "mean map of the network of that time, of the same neurons",
                    f"moment {axes}",
                    (moments, *each),
                    unit=unit,
                ),
                "learned_centroid": Column("its mean spatial frequency", "moment", (moments,), unit="cycles/px"),
                "learned_likeness": Column("its correlation with the last", "moment", (moments,)),
                "half_time": Column("when it had come half way to the last", unit="epoch"),
            }
        if recipe.rule == "integrated":
            words = "the rise of the response from black less the sum of the map, as a share of the size of the rise"
            columns["residual"] = Column(words, "k", (how.k,))
        return columns

    # ---- work --------------------------------------------------------------------------------------------------------

    def scores(
        self, found: Strongest, by: Score, unfinished: Unfinished | None = None
    ) -> Generator[Phase | Advance, None, np.ndarray]:
        """Rank units: return the score of each (NaN: dead) by a column of one number."""
        unfinished, name = unfinished or Unfinished(), f"{self.name}/scores"
        kept = {"scores": (scores := np.full(len(self.units), np.nan)), "scored": np.zeros(len(self.units), bool)}
        unfinished.begin(name, lambda: kept, lambda state: put(kept, state))
        parts = [slice(start, start + self.together) for start in range(0, len(self.units), self.together)]
        answers = self.answers(found)
        yield Phase(f"ranking units of {self.layer.name}", int(answers.sum()), "maps")
        with self.gradients:
            for part in parts:
                if kept["scored"][part].all():
                    continue
                rows = yield from self._rows(self.units[part], _some(found, part), f"{name}/{part.start}", unfinished)
                scores[part], kept["scored"][part] = rows[by], True
                unfinished.drop(f"{name}/{part.start}")
        unfinished.drop(name)
        return scores

    def events(
        self, found: Strongest, finished: frozenset[int], unfinished: Unfinished | None = None
    ) -> Iterator[Rows[MapColumn] | Advance | Phase]:
        """Map the units in batches.

        Args:
            found: the strongest images of these units.
            finished: first rows of the batches there are already.
            unfinished: keeps the maps of units that are not saved yet.
        """
        unfinished = unfinished or Unfinished()
        starts = [start for start in range(0, len(self.units), self.batch) if start not in finished]
        parts = [slice(start, start + self.batch) for start in starts]
        count = sum(int(self.answers(_some(found, part)).sum()) for part in parts) * (1 + len(self.how.moments))
        yield Phase(f"gradients of {self.layer.name}", count, "maps")
        for start, part in zip(starts, parts):
            name = f"{self.name}/{start}"
            with self.gradients:
                rows = yield from self._rows(self.units[part], _some(found, part), name, unfinished)
            if self.how.moments:
                rows |= yield from self._learned(self.units[part], _some(found, part), name, unfinished)
            yield Rows(self.name, start, rows)
            unfinished.drop(name)

    def answers(self, found: Strongest) -> np.ndarray:
        """Say which images count, (unit, k); a rectified unit that is silent has no gradient."""
        ranks, silent = found.ranks[BEST], self.layer.rectified and self.how.recipe.target != "group"
        return (ranks.images >= 0) & ((ranks.responses > 0) | (not silent))

    def _rows(
        self, units: np.ndarray, found: Strongest, name: str, unfinished: Unfinished
    ) -> Generator[Advance, None, dict[MapColumn, np.ndarray]]:
        """Return the columns of some units; their maps are kept under a name."""
        ranks, answers = found.ranks[BEST], self.answers(found)
        size, sides = self.how.dataset.size, self.canvas.sides
        held = np.zeros((*answers.shape, size[0], *sides), np.float32)
        plain = np.zeros_like(held) if self.how.recipe.plain else None
        covered = np.zeros((*answers.shape, *sides), bool)
        columns = {name: self._empty(name, len(units)) for name, column in self.columns.items()}
        columns |= {"unit": units, "dead": found.dead | ~answers.any(1)}
        columns |= {"image": ranks.images, "response": ranks.responses, "position": ranks.positions}
        needed, how = np.unique(ranks.images[answers]), self.how
        kept, shown = columns | {"/maps": held, "/covered": covered} | ({} if plain is None else {"/plain": plain}), 0

        def restore(state: State) -> None:
            nonlocal shown
            put(kept, state["kept"])
            shown = state["shown"]

        unfinished.begin(name, lambda: {"shown": shown, "kept": kept}, restore)
        if shown:
            yield Advance(int((answers & np.isin(ranks.images, needed[:shown])).sum()))
        loading = how.computation.loading | {"indices": needed, "start": shown}
        every = batches(how.dataset, **loading) if shown < len(needed) else _nothing()
        with closing(every):
            for batch in every:
                places = np.searchsorted(batch.indices, ranks.images)  # of the image in the batch, (unit, k)
                places = np.minimum(places, len(batch) - 1)
                pairs = np.nonzero(answers & (batch.indices[places] == ranks.images) & batch.readable[places])
                rows = places[pairs]
                images = batch.images[rows]
                maps = self.gradients.maps(images, batch.indices[rows], units[pairs[0]], ranks.positions[pairs])
                self._lay(maps, pairs, ranks.positions[pairs], (held, plain, covered))
                if maps.residual is not None:
                    columns["residual"][pairs] = maps.residual
                for image, unit, rank in zip(images, *pairs):
                    if rank < self.how.keep:
                        columns["picture"][unit, rank] = self._picture(image, ranks.positions[unit, rank])
                shown += len(batch)
                yield Advance(len(pairs[0]))
        for unit in range(len(units)):
            self._average(columns, unit, held[unit], None if plain is None else plain[unit], covered[unit])
        later: tuple[MapColumn, ...] = ("learned_map", "learned_centroid", "learned_likeness", "half_time")
        known = [name for name, column in self.columns.items() if column.values is not None]
        return {name: values for name, values in columns.items() if name not in (*known, *later)}

    def _learned(
        self, units: np.ndarray, found: Strongest, name: str, unfinished: Unfinished
    ) -> Generator[Advance, None, dict[MapColumn, np.ndarray]]:
        """Return what the mean maps of some units were at every moment: the same images, the same neurons."""
        last, moments = self.gradients, self.how.moments
        each = (self.how.dataset.size[0], *self.canvas.sides)
        learned = np.full((len(units), len(moments), *each), np.nan, np.float32)
        kept = {"maps": learned, "made": np.zeros(len(moments), bool)}
        unfinished.begin(f"{name}/learned", lambda: kept, lambda state: put(kept, state))
        for number, moment in enumerate(moments):
            if kept["made"][number]:
                continue
            with at(self.how.model, moment):
                self.gradients = Gradients(self.how.model, self.layer, self.how.dataset.size, self.how.recipe)
                with self.gradients:
                    rows = yield from self._rows(units, found, f"{name}/{number}", unfinished)
            learned[:, number], kept["made"][number] = rows["mean_map"], True
            unfinished.drop(f"{name}/{number}")
        self.gradients = last
        alike = np.array([[alike_maps(one, own[-1]) for one in own] for own in learned], np.float32)
        epochs = np.array([moment.epoch for moment in self.how.moments])
        return {
            "learned_map": learned,
            "learned_centroid": centroid(learned).astype(np.float32),
            "learned_likeness": alike.reshape(len(units), len(moments)),
            "half_time": np.array([half_time(epochs, one) for one in alike], np.float32),
        }

    def _empty(self, name: MapColumn, units: int) -> np.ndarray:
        column = self.columns[name]
        gap = {"f": np.nan, "u": 255}.get(np.dtype(column.dtype).kind, 0)
        return np.full((units, *column.shape), gap, column.dtype)

    def _lay(self, maps: Maps, pairs: tuple[np.ndarray, ...], positions: np.ndarray, onto: tuple) -> None:
        """Lay maps on the canvas, and mark which pixels lie in the image."""
        held, plain, covered = onto
        image, sides = self.how.dataset.size[1:], self.canvas.sides
        for place, (unit, rank) in enumerate(zip(*pairs)):
            corner = self.canvas.corner(positions[place])
            inside = tuple(slice(max(0, c), max(0, min(side, c + i))) for c, i, side in zip(corner, image, sides))
            covered[(unit, rank, *inside)] = True
            for target, source in ((held, maps.values), (plain, maps.plain)):
                if target is not None and source is not None:
                    shift = np.add(corner, maps.corners[place])
                    _put(target[unit, rank], source[place], shift)

    def on_canvas(self, maps: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Lay maps of whole images (n, channel, y, x) on the canvas, by the positions (n, map axis) they belong to."""
        laid = np.zeros((*maps.shape[:2], *self.canvas.sides), np.float32)
        for target, one, position in zip(laid, maps, positions):
            _put(target, one, np.array(self.canvas.corner(position)))
        return laid

    def _picture(self, image: Any, position: np.ndarray) -> np.ndarray:
        """Return the image as it lies under the canvas, grey beyond it."""
        corner = self.canvas.corner(position.tolist())
        region = [(-c, side - c - 1) for c, side in zip(corner, self.canvas.sides)]
        return thumbnails(crop(image.cpu(), region)[None], self.canvas.sides)[0]

    def _average(
        self,
        columns: dict[MapColumn, np.ndarray],
        unit: int,
        maps: np.ndarray,
        plain: np.ndarray | None,
        covered: np.ndarray,
    ) -> None:
        there = np.any(covered, (1, 2))
        if not there.any():
            columns["coverage"][unit] = 0
            return
        kept = np.flatnonzero(there[: self.how.keep])
        columns["map"][unit, kept] = maps[kept]
        found: Average = average(maps[there], covered[there], self.how.k)
        columns["mean_map"][unit], columns["mean_map_sd"][unit] = found.mean, found.sd
        columns["normalised_map"][unit], columns["coverage"][unit] = found.normalised, found.coverage
        columns["consistency"][unit], columns["pairwise"][unit] = found.consistency, found.pairwise
        columns["reliability"][unit] = found.reliability
        columns["low_share"][unit] = low_share(found.mean, LOW)
        if plain is not None:
            columns["gradient_map"][unit] = average(plain[there], covered[there], self.how.k).mean


def _nothing() -> Generator[Batch, None, None]:
    """Give no batch."""
    yield from ()


def _some(found: Strongest, part: slice) -> Strongest:
    ranks = found.ranks[BEST]
    return Strongest({BEST: Ranked(ranks.images[part], ranks.responses[part], ranks.positions[part])}, found.dead[part])


def _put(canvas: np.ndarray, piece: np.ndarray, corner: np.ndarray) -> None:
    """Put a (channel, y, x) piece on a canvas with its first pixel at `corner`; what sticks out is 0 there, and cut."""
    there, here = [slice(None)], [slice(None)]
    for start, length, side in zip(corner, piece.shape[1:], canvas.shape[1:]):
        first, stop = max(0, int(start)), min(side, int(start) + length)
        there.append(slice(first, max(first, stop)))
        here.append(slice(first - int(start), max(first, stop) - int(start)))
    canvas[tuple(there)] = piece[tuple(here)]
