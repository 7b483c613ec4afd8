"""The strongest images of every unit: from one pass of the network, or from a run that has already ranked them."""

import logging
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NewType

import numpy as np
import torch
from torch import nn

from cnnprobe.errors import UserError, listing, unknown
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.images.stimuli_table import StimulusColumn
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.ranking import full_sort
from cnnprobe.instruments.ranking.areas import Areas
from cnnprobe.instruments.ranking.top_k import Ranked, Ranker
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Phase
from cnnprobe.store.unfinished import State, Unfinished, put

LOG = logging.getLogger("cnnprobe")
Order = tuple[str, str]
"""How images are sorted: by which criterion (max, mean, area), and which end comes first (top, bottom)."""
BEST: Order = ("max", "top")
ActivationColumn = Literal["max", "mean", "argmax", "maps"]
"""Columns of the tables "activations/<layer>" of record."""
RankColumn = Literal["image", "response", "position", "picture"]
"""What topk stores for each order."""
OrderColumn = NewType("OrderColumn", str)
"""The name of that in one order: "response", "response_mean", "bottom_response", …"""
RankedColumn = Literal["unit", "dead", "threshold"] | RankColumn | OrderColumn
"""Columns of the tables "units/<layer>" of topk."""


@dataclass(frozen=True)
class Strongest:
    """What is known of a layer's units.

    Args:
        ranks: by order, k images for every unit.
        dead: (unit,) bool, true where no image drives the unit; it has no images.
        threshold: (unit,) of the area criterion, or None.
    """

    ranks: dict[Order, Ranked]
    dead: np.ndarray
    threshold: np.ndarray | None = None

    def of(self, units: np.ndarray) -> "Strongest":
        """Return those of some units."""
        ranks = {key: Ranked(r.images[units], r.responses[units], r.positions[units]) for key, r in self.ranks.items()}
        return Strongest(ranks, self.dead[units], None if self.threshold is None else self.threshold[units])


def by_pass(
    model: nn.Module,
    layers: list[Layer],
    ranker: Ranker,
    loaded: Source,
    skipped: np.ndarray,
    unfinished: Unfinished | None = None,
    areas: Areas | None = None,
    position: tuple[int, ...] | None = None,
) -> Generator[Advance, None, dict[str, Strongest]]:
    """Show every image once; returns the strongest by name of layer.

    Args:
        ranker: says by what they are ranked.
        loaded: the images, see `images.passes.passing`.
        skipped: (image,) bool, becomes true where an image could not be read.
        unfinished: keeps the ranking so far.
        areas: rank by area too.
        position: on the maps: images are ranked by the activation there alone, in place of the maximum; None: anywhere.
    """
    receivers = [one for one in (ranker, areas) if one is not None]

    def receive(layer: Layer, activation: torch.Tensor) -> None:
        for one in receivers:
            one.receive(layer, activation if position is None else activation[..., *position])

    with torch.inference_mode(), tap(model, layers, receive) as run:

        def show(part: Batch) -> None:
            for one in receivers:
                one.begin(part.indices, part.readable)
            try:
                run(part.images)
            except BaseException:
                for one in receivers:
                    one.forget()
                raise

        def use(part: Batch, _: None) -> None:
            skipped[part.indices] = ~part.readable

        def take() -> State:
            return {"skipped": skipped, "of": [one.state() for one in receivers]}

        def restore(state: State) -> None:
            skipped[:] = state["skipped"]
            for one, own in zip(receivers, state["of"]):
                one.restore(own)

        how: dict[str, Any] = {"take": take, "restore": restore, "unfinished": unfinished}
        yield from passing("ranking", len(skipped), loaded, show, use, **how)
    return {layer.name: _found(ranker, areas, layer) for layer in layers}


def _found(ranker: Ranker, areas: Areas | None, layer: Layer) -> Strongest:
    name, dead = layer.name, ranker.dead(layer.name)
    ranks = {(c, end): ranker.ranked(name, c, end) for one, c, end in ranker.lists if one == name}
    if areas is None:
        return Strongest(ranks, dead)
    shares, places, levels = areas.result(name)
    for end in ranker.ends:
        ranks["area", end] = full_sort.ranked(shares, places, layer.map_size, ranker.k, dead, end == "bottom")
    return Strongest(ranks, dead, levels)


def of_groups(
    model: nn.Module,
    layer: Layer,
    weights: np.ndarray,
    loaded: Source,
    k: int,
    skipped: np.ndarray,
    unfinished: Unfinished | None = None,
) -> Generator[Advance, None, Strongest]:
    """Find the images to which weighted groups of channels respond most, by the sum of the means of their maps.

    Args:
        weights: (group, channel).
        loaded: the images, see `images.passes.passing`.
        k: how many are kept.
        skipped: (image,) bool, becomes true where an image could not be read.
        unfinished: keeps the responses so far.

    Returns:
        a row for each group; its position is where the weighted sum of the maps is largest.
    """
    responses = np.full((len(weights), len(skipped)), -np.inf)
    places = np.zeros((len(weights), len(skipped)), np.int64)
    every = {"responses": responses, "places": places, "skipped": skipped}
    received: list[torch.Tensor] = []

    def receive(_: Layer, activation: torch.Tensor) -> None:
        own = torch.as_tensor(weights, dtype=activation.dtype, device=activation.device)
        received.append(
            torch.einsum("gc,nci->gni", own, activation.flatten(2) if activation.dim() > 2 else activation[..., None])
        )

    with torch.inference_mode(), tap(model, [layer], receive) as run:

        def show(part: Batch) -> torch.Tensor:
            received.clear()
            run(part.images)
            return received.pop().double().cpu()

        def use(part: Batch, maps: torch.Tensor) -> None:
            responses[:, part.indices] = np.where(part.readable, maps.mean(2).numpy(), -np.inf)
            places[:, part.indices] = maps.argmax(2).numpy()
            skipped[part.indices] = ~part.readable

        how: dict[str, Any] = {"take": lambda: every, "restore": lambda state: put(every, state)}
        yield from passing("ranking", len(skipped), loaded, show, use, unfinished=unfinished, **how)
    images = np.argsort(-responses, 1, kind="stable")[:, :k]
    images = np.pad(images, ((0, 0), (0, k - images.shape[1])), constant_values=-1)
    values = np.where(images >= 0, np.take_along_axis(responses, np.maximum(images, 0), 1), -np.inf)
    images = np.where(np.isfinite(values), images, -1)
    sites = np.unravel_index(np.take_along_axis(places, np.maximum(images, 0), 1), layer.map_size or (1,))
    positions = np.stack(sites[: len(layer.map_size)] or [np.zeros((*images.shape, 0), np.int64)], -1)
    positions = positions.reshape(*images.shape, len(layer.map_size))
    ranks = Ranked(images, np.where(images >= 0, values, np.nan).astype(np.float32), positions)
    return Strongest({BEST: ranks}, np.all(images < 0, 1))


def check_record(source: Recording, layers: list[Layer], criteria: Iterable[str]) -> None:
    """Refuse a run of record that lacks a layer, or the maps that the area criterion needs."""
    recorded: dict[str, TableView[ActivationColumn]] = _layers(source, "activations")
    if not recorded:
        raise UserError("the source run has recorded no layer: record … layer=… does, or leave out source=")
    for layer in layers:
        if layer.name not in recorded:
            raise unknown("layer", layer.name, recorded, of="the source run")
        if "area" in criteria and "maps" not in recorded[layer.name]:
            raise UserError("criterion=area needs whole maps: record with keep=maps, or leave out source=")


def by_record(source: Recording, layer: Layer, orders: Iterable[Order], k: int, quantile: float = 0.995) -> Strongest:
    """Rank what a run of record has stored; the threshold of area is exact over all its images."""
    table: TableView[ActivationColumn] = _layers(source, "activations")[layer.name]
    orders = list(orders)
    responses, threshold = {name: table[name] for name in ("max", "mean")}, None
    if any(criterion == "area" for criterion, _ in orders):
        images, positions = table.row_count, int(np.prod(layer.map_size))
        responses["area"], threshold = full_sort.areas(lambda: table.batches("maps"), images, positions, quantile)
    dead, places = full_sort.dead_units(responses["max"]), np.maximum(table["argmax"], 0)
    ranks = {
        (criterion, end): full_sort.ranked(responses[criterion], places, layer.map_size, k, dead, end == "bottom")
        for criterion, end in orders
    }
    return Strongest(ranks, dead, threshold)


def _check_topk(source: Recording, layers: list[Layer], units: dict[str, np.ndarray], k: int) -> None:
    """Refuse a run of topk that lacks a layer, a unit or the criterion max; warn where it has fewer images."""
    ranked: dict[str, TableView[RankedColumn]] = _layers(source, "units")
    for layer in layers:
        if layer.name not in ranked:
            raise unknown("layer", layer.name, ranked, of="the source run")
        table = ranked[layer.name]
        criteria = table.attributes["criteria"].split()
        if "max" not in criteria:
            raise UserError(
                f"the source run ranked by {listing(criteria)}, needed is criterion=max; or leave out source="
            )
        absent = np.setdiff1d(units[layer.name], table["unit"])
        if len(absent):
            has = listing(str(unit) for unit in table["unit"])
            raise UserError(f"unit {absent[0]} of {layer.name} is not in the source run; it has {has}")
        there = table[_column(table, "image")].shape[1]
        if there < k:
            LOG.warning(
                f"the source run has {there} images per unit of {layer.name}, asked for {k}; going on with {there}"
            )


def _by_topk(source: Recording, layer: Layer, units: np.ndarray, k: int) -> Strongest:
    """Read the ranks by maximum out of a run of topk, for some units; what it lacks is -1 and NaN."""
    table: TableView[RankedColumn] = _layers(source, "units")[layer.name]
    place = {unit: row for row, unit in enumerate(table["unit"].tolist())}
    rows = [place[unit] for unit in units.tolist()]

    def filled(name: RankColumn, gap: float) -> np.ndarray:
        values = table[_column(table, name)][rows][:, :k]
        missing = np.full((len(rows), k - values.shape[1], *values.shape[2:]), gap, values.dtype)
        return np.concatenate([values, missing], axis=1)

    ranks = Ranked(filled("image", -1), filled("response", np.nan), filled("position", -1))
    return Strongest({BEST: ranks}, table["dead"][rows])


def _column(table: TableView[RankedColumn], name: RankColumn) -> RankedColumn:
    """Return what a column of the criterion max is called: plain where it is the main one."""
    return name if table.attributes["criterion"] == "max" else OrderColumn(f"{name}_max")


def _layers(source: Recording, group: str) -> dict[str, TableView[Any]]:
    return {source[name].attributes["layer"]: source[name] for name in source.tables(group)}


def images_per_unit(asked: int | None, usual: int, source: Recording | None) -> int:
    """Return how many images of a unit a method looks at: as asked, else as usual, or as many as a run of topk has.

    Args:
        asked: None: not requested.
        usual: where no run has ranked them already.
        source: that run, or None.
    """
    if asked is not None or source is None or source.attributes["command"] != "topk":
        return usual if asked is None else asked
    tables: dict[str, TableView[RankedColumn]] = _layers(source, "units")
    there = [table[_column(table, "image")].shape[1] for table in tables.values()
             if "max" in table.attributes["criteria"].split()]  # fmt: skip
    return min([usual, *there])


@dataclass(frozen=True)
class Search:
    """Finds the images with the largest maxima, for methods that look at those; made, and refused, before any work.

    Args:
        model: any network.
        layers: of it.
        units: channels by name of layer.
        k: images per unit.
        images: how many the dataset has.
        source: a run of topk or record that has looked already, or None.
        position: on the map of each layer, by which images are ranked in place of the maximum; None: anywhere.

    Raises:
        UserError: the source lacks a layer, a unit, or the criterion max.
    """

    model: nn.Module
    layers: list[Layer]
    units: dict[str, np.ndarray]
    k: int
    images: int
    source: Recording | None = None
    position: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.source is None:
            return
        if self.source.attributes["command"] == "topk":
            _check_topk(self.source, self.layers, self.units, self.k)
        else:
            check_record(self.source, self.layers, ["max"])

    def run(
        self, loaded: Source, unfinished: Unfinished | None = None
    ) -> Generator[Phase | Advance, None, tuple[dict[str, Strongest], np.ndarray]]:
        """Do it; returns the strongest by name of layer, units in the order asked, and which images were skipped.

        Args:
            loaded: the images, see `images.passes.passing`, read only where there is no source.
            unfinished: keeps the ranking so far.
        """
        if self.source is None:
            yield Phase("ranking", self.images, "images")
            skipped = np.zeros(self.images, bool)
            ranker = Ranker(self.layers, self.k)
            how: dict[str, Any] = {"unfinished": unfinished, "position": self.position}
            found = yield from by_pass(self.model, self.layers, ranker, loaded, skipped, **how)
            return {name: self._placed(one.of(self.units[name])) for name, one in found.items()}, skipped
        found = {layer.name: self._stored(self.source, layer) for layer in self.layers}
        stimuli: TableView[StimulusColumn] = self.source["stimuli"]
        return found, stimuli["skipped"]

    def _placed(self, found: Strongest) -> Strongest:
        """Return what was found at one position with that as the place of every response."""
        if self.position is None:
            return found
        best = found.ranks[BEST]
        places = np.where(best.images[..., None] >= 0, np.array(self.position, np.int64), -1)
        return Strongest({BEST: Ranked(best.images, best.responses, places)}, found.dead)

    def _stored(self, source: Recording, layer: Layer) -> Strongest:
        units = self.units[layer.name]
        if source.attributes["command"] == "topk":
            return _by_topk(source, layer, units, self.k)
        return by_record(source, layer, [BEST], self.k).of(units)
