"""The fields of a layer's units, measured on their strongest images: what is stored, and the work that fills it."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.gradients.arrival import arrives
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.passes import passing
from cnnprobe.instruments.images.thumbnails import thumbnails
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.instruments.ranking.top_k import Ranked
from cnnprobe.instruments.windows.centred_maps import LEVELS, TWO_SIGMA, canvas_of, moments, pixel_maps, side_above
from cnnprobe.instruments.windows.occluders import Grid, fillings
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.rf_map.effective_field import gradient_maps
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, Within, put

SAVED_UNITS = 8
"""Units that are saved together where each has positions of its own to look at."""
TOGETHER = 256 * 2**20
"""Bytes of maps held until they are saved, where one pass over an image serves all its units."""
LOOK = 500
"""Images at most from which the brightness of the dataset is taken."""
GRADIENTS = 16
"""Images whose gradient is taken at once, to begin with."""

FieldColumn = Literal[
    "unit", "dead", "image", "response", "position", "picture", "occluded", "discrepancy", "discrepancy_error", "field",
    "suppression", "coverage", "size", "center", "sigma", "effective", "effective_size", "effective_sigma",
]  # fmt: skip
"""Columns of the tables "units/<layer>"."""


@dataclass
class OcclusionSettings:
    """Settings of the occlusion, the same for every layer.

    Args:
        model: any network.
        dataset: an image set.
        computation: device, loaders, batch size and seed.
        grid: places of the occluder.
        filling, draws: what it shows, see `windows.occluders.fillings`.
        reading: what is compared, see `readings`.
        effective: also take the effective field.
        brightness: mean and standard deviation of the dataset's pixels, (channel,) each; known before the first image.
    """

    model: nn.Module
    dataset: ImageSet
    computation: Computation
    grid: Grid
    filling: str
    draws: int
    reading: str
    effective: bool
    brightness: tuple[Tensor, Tensor] = field(init=False)

    def filled(self, image: Tensor) -> Tensor:
        """Return what is seen through the occluder, (draw, channel, y, x)."""
        return fillings(self.filling, image, self.draws, *self.brightness, self.computation.seed)


def brightness(
    dataset: ImageSet,
    filling: str,
    computation: Computation,
    unfinished: Unfinished | Within | None = None,
) -> Generator[Phase | Advance, None, tuple[Tensor, Tensor]]:
    """Take mean and standard deviation of the pixels, (channel,) each, from some images; returns them.

    Args:
        dataset: an image set.
        filling: of the occluder; only noise and mean need them, the others get zeros.
        computation: how images are loaded, and the seed that says which.
        unfinished: keeps the sums so far.
    """
    nothing = torch.zeros(dataset.size[0])
    if filling not in ("noise", "mean"):
        return nothing, nothing
    count = min(LOOK, len(dataset))
    look = np.sort(np.random.default_rng(computation.seed).choice(len(dataset), count, replace=False))
    sums = torch.zeros(3, dataset.size[0], dtype=torch.float64)
    yield Phase("brightness of the images", count, "images")

    def loaded(start: int) -> Iterator[Batch]:
        return batches(dataset, **computation.loading, indices=look, start=start)

    def use(batch: Batch, _: None) -> None:
        pixels = batch.images.cpu()[torch.from_numpy(batch.readable)].double().transpose(0, 1).flatten(1)
        sums.add_(torch.stack([torch.full_like(sums[0], pixels.shape[1]), pixels.sum(1), pixels.square().sum(1)]))

    kept = {"sums": sums}
    how: dict[str, Any] = {"take": lambda: kept, "restore": lambda state: put(kept, state), "unfinished": unfinished}
    yield from passing("brightness", count, loaded, lambda part: None, use, **how)
    mean, square = sums[1:] / sums[0].clamp(min=1)
    return mean.float(), (square - mean.square()).clamp(min=0).sqrt().float()


class FieldMapping:
    """Maps units of one layer.

    Args:
        how: images are occluded.
        layer, units: whose fields.
        k: images per unit.
        small: (channel, y, x) of the stored pictures.
        occlusion: the engine for this layer.
    """

    def __init__(
        self,
        how: OcclusionSettings,
        layer: Layer,
        units: np.ndarray,
        k: int,
        small: tuple[int, ...],
        occlusion: Occlusion,
    ):
        self.how, self.layer, self.units, self.occlusion = how, layer, units, occlusion
        self.gradients = how.effective and arrives(how.model, layer, how.dataset.size, "the effective field")
        self.name = f"units/{layer.group}"
        own_places = how.reading == "site" and not layer.field.whole
        self.canvas = canvas_of(layer.field, how.grid.sides, how.grid.patch - 1 if own_places else None, layer.map_size)
        self.columns = self._columns(k, small)
        held = sum(column.row_bytes for column in self.columns.values()) + 4 * k * math.prod(how.grid.sides)
        self.together = SAVED_UNITS if own_places else max(1, min(len(units), TOGETHER // held))
        self.carried = Carried(GRADIENTS, "batch of gradients")

    def table(self, about: dict[str, Any]) -> Table[FieldColumn]:
        """Lay out what is stored, with `about` among its attributes."""
        own = about | self.layer.attributes | {"rectified": self.layer.rectified}
        own |= {"engine": self.occlusion.engine, "engine_error": self.occlusion.error}
        own |= {"recentred": self.canvas.recentred, "levels": list(LEVELS), "filling": self.how.filling}
        return Table(self.name, "unit", len(self.units), self.columns, self.together, own)

    def _columns(self, k: int, small: tuple[int, ...]) -> dict[FieldColumn, Column]:
        canvas, map_axes = self.canvas.sides, len(self.layer.map_size)
        place = {0: "dense: none", 1: "position", 2: "y x", 3: "z y x"}.get(map_axes, "index")
        discrepancy = "clean minus occluded response by place of the occluder, mean over draws; NaN for a silent image"
        area = "side of a square as large as the area above"
        columns: dict[FieldColumn, Column] = {
            "unit": Column("channel of the layer", dtype="int64", unit="index", values=self.units),
            "dead": Column("true where no image drives the unit", dtype="bool"),
            "image": Column("row of /stimuli, largest maximum first", "k", (k,), "int64", "index"),
            "response": Column(
                "maximum of the unit's map, or its activation at the position asked for", "k", (k,), unit="activation"
            ),
            "position": Column(f"place of it on the map ({place})", "k yx", (k, map_axes), "int64", "index"),
            "picture": Column("the image, made small", "k channel y x", (k, *small), "uint8", "0 to 255"),
            "occluded": Column(
                "first image, occluder at its largest effect", "channel y x", small, "uint8", "0 to 255"
            ),
            "discrepancy": Column(discrepancy, "k y x", (k, *self.how.grid.shape), unit="activation"),
            "discrepancy_error": Column("standard error over draws, r.m.s. of places", "k", (k,), unit="activation"),
            "field": Column("mean re-centred discrepancy of the pixels", "y x", canvas, unit="activation"),
            "suppression": Column("the same of what the occluder raises, max(-d, 0)", "y x", canvas, unit="activation"),
            "coverage": Column("images that cover the pixel", "y x", canvas, "int16", "images"),
            "size": Column(f"{area} 0.5 and 0.2 of the peak", "level", (len(LEVELS),), unit="px"),
            "center": Column("centre of mass relative to the theoretical centre", "yx", (2,), unit="px"),
            "sigma": Column("standard deviation of the positive part", "yx", (2,), unit="px"),
        }
        if self.how.effective:
            columns |= {
                "effective": Column(
                    "mean |gradient|, summed over channels, re-centred", "y x", canvas, unit="activation per pixel"
                ),
                "effective_size": Column(f"{area} {TWO_SIGMA} of the peak", unit="px"),
                "effective_sigma": Column("standard deviation of the effective field", "yx", (2,), unit="px"),
            }
        return columns

    def events(
        self, found: Strongest, finished: frozenset[int], unfinished: Unfinished | Within | None = None
    ) -> Iterator[Rows[FieldColumn] | Advance | Phase]:
        """Map the units in batches, image by image: one that several of them share is prepared once.

        Args:
            found: the strongest images of these units.
            finished: first rows of the batches there are already.
            unfinished: keeps the maps of units that are not saved yet.
        """
        unfinished = unfinished or Unfinished()
        starts = [start for start in range(0, len(self.units), self.together) if start not in finished]
        parts = [self._part(found, slice(start, start + self.together)) for start in starts]
        for part in parts[:1]:  # a stopped run has begun no other that it has not saved
            part.begin(unfinished)
        order = np.concatenate([np.zeros(0, np.int64), *(part.left for part in parts)])
        yield Phase(f"occluding for {self.layer.name}", sum(part.to_do for part in parts), "maps")
        loaded = batches(self.how.dataset, **replace(self.how.computation, batch_size=1).loading, indices=order)
        with closing(loaded), self.occlusion:
            for start in starts:
                part = parts.pop(0)  # and with it, when it is done, what it holds
                if start != starts[0]:
                    part.begin(unfinished)
                for batch in islice(loaded, len(part.left)):
                    pairs = part.pairs(int(batch.indices[0]))
                    if batch.readable[0]:
                        part.measure(batch.images[0], pairs)
                    part.shown += 1
                    yield Advance(len(pairs[0]))
                yield Rows(self.name, start, part.rows())
                unfinished.drop(part.name)

    def _part(self, found: Strongest, some: slice) -> "_Part":
        best = found.ranks[BEST]
        ranks = Ranked(best.images[some], best.responses[some], best.positions[some])
        return _Part(self, f"{self.name}/{some.start}", self.units[some], ranks, found.dead[some])


class _Part:
    """Units that are mapped and saved together.

    Attributes:
        answers: (unit, k) bool, images that count; a rectified unit that is silent has nothing to lose.
        needed: (image,) index of those, each once, sorted.
        shown: how many of them were measured.
    """

    def __init__(self, of: FieldMapping, name: str, units: np.ndarray, ranks: Ranked, dead: np.ndarray):
        self.of, self.how, self.units, self.ranks, self.dead = of, of.how, units, ranks, dead
        self.name, self.shown = name, 0
        self.answers = (ranks.images >= 0) & ((ranks.responses > 0) | (not of.layer.rectified))
        self.needed = np.unique(ranks.images[self.answers])

    @property
    def left(self) -> np.ndarray:
        """Images that are still to be measured."""
        return self.needed[self.shown :]

    @property
    def to_do(self) -> int:
        """Maps that are still to be made."""
        return int((self.answers & np.isin(self.ranks.images, self.left)).sum())

    def state(self) -> State:
        """Return what was measured so far."""
        return {"shown": self.shown, "columns": self.columns | ({"/": self.gradients} if self.of.gradients else {})}

    def _restore(self, state: State) -> None:
        put(self.state()["columns"], state["columns"])
        self.shown = state["shown"]

    def begin(self, unfinished: Unfinished | Within) -> None:
        """Make room, with nothing measured yet but what a stopped run has left."""
        self.columns: dict[FieldColumn, np.ndarray] = {"dead": self.dead, "image": self.ranks.images}
        self.columns |= {"response": self.ranks.responses, "position": self.ranks.positions}
        for name, column in self.of.columns.items():
            if column.values is None and name not in self.columns:
                gap = {"f": np.nan, "u": 255}.get(np.dtype(column.dtype).kind, 0)
                self.columns[name] = np.full((len(self.units), *column.shape), gap, column.dtype)
        if self.of.gradients:
            self.gradients = np.full((*self.answers.shape, *self.how.grid.sides), np.nan, np.float32)
        unfinished.begin(self.name, self.state, self._restore)

    def pairs(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the (unit, place among its images) pairs of one image."""
        units, places = np.nonzero(self.answers & (self.ranks.images == image))
        return units, places

    def measure(self, image: Tensor, pairs: tuple[np.ndarray, np.ndarray]) -> None:
        """Occlude one image (channel, y, x) for the pairs that look at it."""
        units, sites = self.units[pairs[0]], self.ranks.positions[pairs]
        filled = self.how.filled(image)
        found = self.of.occlusion.discrepancies(image, filled, units, sites, self.how.reading)
        maps, columns = found.mean(1), self.columns
        columns["discrepancy"][pairs] = maps
        if len(filled) > 1:
            error = found.var(1, ddof=1) / len(filled)
            columns["discrepancy_error"][pairs] = np.sqrt(error.mean((1, 2)))
        if self.of.gradients:
            images = image.expand(len(units), -1, -1, -1)
            gradients = gradient_maps(self.how.model, self.of.layer, images, units, sites, self.of.carried)
            self.gradients[pairs] = gradients
        small = columns["occluded"].shape[2:]
        columns["picture"][pairs] = thumbnails(image[None], small)[0]
        for place, (unit, rank) in enumerate(zip(*pairs)):
            if rank == 0:
                columns["occluded"][unit] = thumbnails(self._occluded(image, filled[0], maps[place]), small)[0]

    def _occluded(self, image: Tensor, filling: Tensor, discrepancy: np.ndarray) -> Tensor:
        """Return the image with the occluder where it takes most away, (1, channel, y, x)."""
        grid = self.how.grid
        row, column = np.unravel_index(np.argmax(discrepancy), grid.shape)
        top, left = int(grid.corners[0][row]), int(grid.corners[1][column])
        hole = (slice(None), slice(top, top + grid.patch), slice(left, left + grid.patch))
        copy = image.clone()
        copy[hole] = filling[hole]
        return copy[None]

    def rows(self) -> dict[FieldColumn, np.ndarray]:
        """Return the columns, with the fields of the units from what was measured."""
        for unit in range(len(self.units)):
            self._field(unit)
        return self.columns

    def _field(self, unit: int) -> None:
        columns, canvas = self.columns, self.of.canvas
        measured = ~np.isnan(columns["discrepancy"][unit]).all((1, 2))
        discrepancy, positions = columns["discrepancy"][unit, measured], self.ranks.positions[unit, measured]
        field, coverage = canvas.mean(pixel_maps(discrepancy, self.how.grid), positions)
        columns["field"][unit], columns["coverage"][unit] = field, coverage
        raised = pixel_maps(np.maximum(-discrepancy, 0), self.how.grid)
        columns["suppression"][unit], _ = canvas.mean(raised, positions)
        columns["size"][unit] = [side_above(field, level) for level in LEVELS]
        columns["center"][unit], columns["sigma"][unit] = moments(field, canvas.middle)
        if self.of.gradients:
            effective, _ = canvas.mean(self.gradients[unit, measured], positions)
            columns["effective"][unit] = effective
            columns["effective_size"][unit] = side_above(effective, TWO_SIGMA)
            _, columns["effective_sigma"][unit] = moments(effective, canvas.middle)
