"""The units that changed most: their strongest images, fields and preferred images, before and after."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.image_statistics import measured
from cnnprobe.instruments.images.thumbnails import picture_size, thumbnails
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.instruments.windows.centred_maps import LEVELS, canvas_of
from cnnprobe.instruments.windows.occluders import grid_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.optimize import mapping as preferring
from cnnprobe.methods.optimize.ascent.objectives import Channel
from cnnprobe.methods.optimize.ascent.presets import preset_of
from cnnprobe.methods.rf_map import mapping as field_mapping
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.methods.transfer.comparison.columns import SIDES, Side, UnitColumn, UnitPart, unit_column
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, Within, put

FILLING, DRAWS = "noise", 3
"""What the occluder shows, as in rf-map."""
LOOK = 500
"""Images at most from which the colours of preferred images are taken."""


@dataclass(frozen=True)
class Chosen:
    """A unit that is shown.

    Args:
        layer: place of its layer among those compared.
        unit: channel.
        strongest: its images in the network before and in that after.
    """

    layer: int
    unit: int
    strongest: tuple[Strongest, Strongest]


class Overwritten:
    """Looks at a few units in two networks.

    Args:
        networks: before and after, of one architecture.
        layers: that units are chosen from.
        images: an image set.
        rows: how many units.
        k: strongest images per unit.
        steps: of the ascent to the preferred images.
        computation: device, loaders, batch size, and the seed of the noise.
    """

    def __init__(
        self,
        networks: tuple[nn.Module, nn.Module],
        layers: list[Layer],
        images: ImageSet,
        *,
        rows: int,
        k: int,
        steps: int,
        computation: Computation,
    ):
        self.networks, self.layers, self.images, self.rows, self.k = networks, layers, images, rows, k
        self.computation = computation
        self.preset = {"standard": preset_of("standard", steps=steps)}
        self.pictorial = len(images.size) == 3
        self.small = picture_size(images.size, 2 * rows * k) if self.pictorial else tuple(images.size)
        if self.pictorial:
            self.grid = grid_of((images.size[1], images.size[2]))
            canvases = [
                canvas_of(layer.field, self.grid.sides, self.grid.patch - 1, layer.map_size) for layer in layers
            ]
            self.canvas = tuple(max(sides) for sides in zip(*(canvas.sides for canvas in canvases)))

    def columns(self) -> dict[UnitColumn, Column]:
        """Describe the columns of both networks."""
        axes = "channel y x" if self.pictorial else "channel time"
        pixel: dict[str, Any] = (
            {"dtype": "uint8", "unit": "0 to 255"} if self.pictorial else {"unit": "as in the dataset"}
        )
        k, size = (self.k,), tuple(self.images.size)
        made: dict[UnitColumn, Column] = {}
        for side in SIDES:
            own: dict[UnitPart, Column] = {
                "image": Column(f"row of /stimuli, strongest first, {side}", "k", k, "int64", "index"),
                "response": Column(f"maximum of the unit's map, {side}", "k", k, unit="activation"),
                "picture": Column(f"the strongest images, made small, {side}", f"k {axes}", (*k, *self.small), **pixel),
                "preferred": Column(f"preferred image, {side}; NaN: none", axes, size, unit="0 to 1"),
                "preferred_response": Column(f"maximum of the unit's map for it, {side}", unit="activation"),
            }
            if self.pictorial:
                about = f"field in the network {side}: mean re-centred discrepancy, theoretical centre in the middle"
                own["field"] = Column(about, "y x", self.canvas, unit="activation")
                area = f"side of a square as large as the field above {LEVELS[1]} of its peak, {side}"
                own["size"] = Column(area, unit="px")
            made |= {unit_column(part, side): column for part, column in own.items()}
        return made

    def table(self, columns: dict[UnitColumn, Column], about: dict[str, Any]) -> Table[UnitColumn]:
        """Lay out `/changed`, with the columns that say why a unit was chosen."""
        own = about | {"image_size": list(self.images.size), "layers": [layer.name for layer in self.layers]}
        own |= {"steps": self.preset["standard"].steps}
        if self.pictorial:
            own |= {"patch_size": self.grid.patch, "stride": self.grid.stride, "filling": FILLING, "draws": DRAWS}
            own["field_sizes"] = [list(layer.field.size) for layer in self.layers]
        return Table("changed", "unit", self.rows, columns | self.columns(), batch=self.rows, attributes=own)

    def events(
        self, chosen: list[Chosen], more: dict[UnitColumn, np.ndarray], unfinished: Unfinished | None = None
    ) -> Iterator[Rows[UnitColumn] | Advance | Phase]:
        """Look at the units, and give all rows.

        Args:
            chosen: most changed first; rows without a unit stay empty.
            more: columns that are known.
            unfinished: keeps what is known of the units so far.
        """
        columns = {name: _gaps(column, self.rows) for name, column in self.columns().items()}
        self.unfinished = unfinished or Unfinished()
        self.done: set[str] = set()
        self.unfinished.begin("changed", lambda: {"done": sorted(self.done), "columns": columns},
                              partial(self._restore, columns))  # fmt: skip
        how = (yield from self._how()) if self.pictorial and chosen else None
        statistics = self._statistics() if chosen else None
        for number, (side, model) in enumerate(zip(SIDES, self.networks)):
            for place in dict.fromkeys(one.layer for one in chosen):
                rows = [row for row, one in enumerate(chosen) if one.layer == place]
                units = np.array([chosen[row].unit for row in rows])
                found = _stacked([chosen[row].strongest[number] for row in rows])
                yield from self._fields(how, model, self.layers[place], units, found, columns, rows, side)
                yield from self._preferred(model, self.layers[place], units, statistics, columns, rows, side)
                columns[unit_column("image", side)][rows] = found.ranks[BEST].images
                columns[unit_column("response", side)][rows] = found.ranks[BEST].responses
            self._pictures(columns, side)
        yield Rows("changed", 0, columns | more)
        self.unfinished.drop("changed")

    def _restore(self, columns: dict[UnitColumn, np.ndarray], state: State) -> None:
        put(columns, state["columns"])
        self.done = set(state["done"])

    def _kept(self, name: str) -> tuple[Within, frozenset[int]]:
        """Return what keeps a piece of the work, and the first rows of the batches of it that are there."""
        there = (one.rpartition(" ") for one in self.done)
        return self.unfinished.within(f"changed/{name}"), frozenset(
            int(row) for piece, _, row in there if piece == name
        )

    def _how(self) -> Generator[Phase | Advance, None, field_mapping.OcclusionSettings]:
        """Return how images are occluded."""
        given = (self.computation, self.grid, FILLING, DRAWS, "site")
        how = field_mapping.OcclusionSettings(self.networks[0], self.images, *given, effective=False)
        kept = self.unfinished.within("changed")
        how.brightness = yield from field_mapping.brightness(self.images, FILLING, self.computation, kept)
        return how

    def _statistics(self) -> Any:
        count = min(LOOK, len(self.images))
        look = np.sort(np.random.default_rng(self.computation.seed).choice(len(self.images), count, replace=False))
        given = replace(self.computation, device="cpu").loading | {"indices": look}
        return measured(lambda: batches(self.images, **given), self.images.size, amplitudes=False)

    def _fields(
        self, how: field_mapping.OcclusionSettings | None, model: nn.Module, layer: Layer, units: np.ndarray,
        found: Strongest, columns: dict[UnitColumn, np.ndarray], rows: list[int], side: Side,
    ) -> Iterator[Advance | Phase]:  # fmt: skip
        """Map the fields of units of one layer; they lie in the middle of the canvas of all layers."""
        if how is None:
            return
        how.model = model
        occlusion = Occlusion(model, layer, self.images.size, self.grid)
        mapping = field_mapping.FieldMapping(how, layer, units, self.k, self.small, occlusion)
        first = [(whole - part) // 2 for whole, part in zip(self.canvas, mapping.canvas.sides)]
        y, x = (slice(start, start + part) for start, part in zip(first, mapping.canvas.sides))
        kept, there = self._kept(name := f"fields in {layer.name} {side}")
        for event in mapping.events(found, there, kept):
            if isinstance(event, Rows):
                self.done.add(f"{name} {event.start}")
                some = rows[event.start : event.start + len(event)]
                columns[unit_column("field", side)][some, y, x] = event.columns["field"]
                columns[unit_column("size", side)][some] = event.columns["size"][:, 1]
            elif isinstance(event, Phase):
                yield Phase(name, event.total, event.counts)
            else:
                yield event

    def _preferred(
        self, model: nn.Module, layer: Layer, units: np.ndarray, statistics: Any,
        columns: dict[UnitColumn, np.ndarray], rows: list[int], side: Side,
    ) -> Generator[Advance | Phase, None, None]:  # fmt: skip
        """Make the preferred images of units of one layer, from the same noise in both networks."""
        how = preferring.AscentSettings(model, self.images, self.computation, self.preset, 1)
        how.statistics = statistics
        made = preferring.Preferring(how, layer, Channel(layer.name, units), units, 0, self.small)
        kept, there = self._kept(name := f"preferred images in {layer.name} {side}")
        for event in made.events(None, there, unfinished=kept):
            if isinstance(event, Rows):
                self.done.add(f"{name} {event.start}")
                some = rows[event.start : event.start + len(event)]
                columns[unit_column("preferred", side)][some] = event.columns["image"]
                columns[unit_column("preferred_response", side)][some] = event.columns["response"]
            elif isinstance(event, Phase):
                yield Phase(name, event.total, event.counts)
            else:
                yield event

    def _pictures(self, columns: dict[UnitColumn, np.ndarray], side: Side) -> None:
        """Load the strongest images, each once, and make them small."""
        images, pictures = columns[unit_column("image", side)], columns[unit_column("picture", side)]
        needed = np.unique(images[images >= 0])
        given = replace(self.computation, device="cpu").loading | {"indices": needed}
        for batch in batches(self.images, **given):
            small = thumbnails(batch.images, self.small[1:]) if self.pictorial else batch.images.numpy()
            for index, picture in zip(batch.indices, small):
                pictures[images == index] = picture


def _gaps(column: Column, rows: int) -> np.ndarray:
    """Return rows of a column with nothing in them: NaN, -1, white."""
    gap = {"f": np.nan, "i": -1, "u": 255}[np.dtype(column.dtype).kind]
    return np.full((rows, *column.shape), gap, column.dtype)


def _stacked(found: list[Strongest]) -> Strongest:
    """Join the strongest images of single units of one layer."""
    ranks = [one.ranks[BEST] for one in found]
    fields = ("images", "responses", "positions")
    joined = type(ranks[0])(*(np.concatenate([getattr(one, field) for one in ranks]) for field in fields))
    return Strongest({BEST: joined}, np.concatenate([one.dead for one in found]))
