"""Find the images of a dataset that each unit responds to most."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range, Run
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import StimulusColumn, skipped_rows, stimuli_table
from cnnprobe.instruments.images.thumbnails import Album, picture_kind, picture_size
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.ranking.areas import Areas
from cnnprobe.instruments.ranking.strongest import (
    Order,
    OrderColumn,
    RankColumn,
    RankedColumn,
    Strongest,
    by_pass,
    by_record,
    check_record,
)
from cnnprobe.instruments.ranking.top_k import Ranker
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished

LOG = logging.getLogger("cnnprobe")
ORDER = 5
"""Its place in the list of commands."""
BUILT_FROM = ("record",)
"""Commands whose runs `source=` may name."""
Criterion = Literal["max", "mean", "area"]
SHOWN = 12
"""Images per unit on a sheet at most; the store has all k."""
SAVED_UNITS = 32
"""Units that are saved together."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str],
    units: str | int | list[int],
    k: Annotated[int, Range(1, 1000)],
    criterion: Criterion | list[Criterion],
    quantile: Annotated[float, Range(above=0, below=1)],
    bottom: bool,
    crop: bool,
    picture: Annotated[int, Range(8, 1024)] | None,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
    source: Run | None,
) -> Measurement:
    """Rank the images for every unit, in one pass for all layers and criteria.

    The response of unit u to an image is, by criterion: the maximum of its map, its mean, or its area: the
    share of positions above T_u, the level that u exceeds at a share 1 - `quantile` of all positions of all images
    (Bau et al. 2017, section 3.1). Larger responses go first, of equal ones the smaller image index. A unit that
    answers no image is dead.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`.
        units: channels of each layer.
        k: images per unit.
        criterion: one or several; the first one is stored under the plain names.
        quantile: for area.
        bottom: also rank the images each unit responds to least.
        crop: pictures show the field of the maximum instead of the whole image.
        picture: longer side of the stored pictures, px; None: as large as 128 MB allow.
        pages: units to draw a page of.
        source: a record run to rank from, instead of running the network again.

    Returns:
        one table "units/<layer>" per layer, and "stimuli".

    Raises:
        UserError: no such layer or unit, or the source lacks what is requested.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    layers = find(model, layer, dataset.size)
    criteria = list(dict.fromkeys([criterion] if isinstance(criterion, str) else criterion))
    ends = ["top", "bottom"] if bottom else ["top"]
    chosen = {found.name: units_of(found, units) for found in layers}
    count = sum(map(len, chosen.values())) * k * len(criteria) * len(ends)
    size = picture_size(dataset.size, count, picture)
    asked = [pages] if isinstance(pages, int) else list(pages or [])
    if absent := [page for page in asked if not any(page in own for own in chosen.values())]:
        raise UserError(f"pages={absent[0]}: that unit is not among those ranked")
    if k > len(dataset):
        LOG.warning(f"k is {k}, but there are {len(dataset)} images; the other places stay empty")
    if source is not None:
        check_record(source, layers, criteria)
    about = {"criteria": " ".join(criteria), "ends": " ".join(ends), "quantile": quantile, "crop": crop}
    about |= {"criterion": criteria[0], "image_size": list(dataset.size), "pages": asked}
    lists = [Sorting(name, end, criteria[0]) for name in criteria for end in ends]
    areas = Areas(layers, chosen, len(dataset), quantile) if "area" in criteria and source is None else None

    def loaded(start: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        return batches(dataset, **computation.loading, indices=indices, start=start)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        skipped = np.zeros(len(dataset), bool)
        if source is not None:
            stimuli: TableView[StimulusColumn] = source["stimuli"]
            skipped = stimuli["skipped"]
            orders = [one.order for one in lists]
            found = {one.name: by_record(source, one, orders, k, quantile) for one in layers}
            yield Advance(len(dataset))
        else:
            ranker = Ranker(layers, k, [name for name in criteria if name != "area"], bottom)
            found = yield from by_pass(model, layers, ranker, loaded, skipped, resumed.unfinished, areas)
        found = {name: answer.of(chosen[name]) for name, answer in found.items()}
        yield from _rows(layers, found, lists, Pictures(size, crop, loaded), resumed.unfinished)
        yield from skipped_rows(skipped, computation.batch_size)

    tables = [_table(one, chosen[one.name], lists, k, size, about) for one in layers]
    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), len(dataset))


@dataclass(frozen=True)
class Sorting:
    """One way of sorting the images: by which criterion, which end first; and how its columns are called."""

    criterion: str
    end: str
    main: str

    @property
    def order(self) -> Order:
        """The same for the engine."""
        return self.criterion, self.end

    def column(self, name: RankColumn) -> OrderColumn:
        """Return a column's name: plain for the main criterion, "response_mean" for another, "bottom_…" for least."""
        return OrderColumn(self.named(name))

    def named(self, name: str) -> str:
        """Return any name for this order, as columns have it."""
        suffix = "" if self.criterion == self.main else f"_{self.criterion}"
        return f"{'bottom_' if self.end == 'bottom' else ''}{name}{suffix}"


@dataclass(frozen=True)
class Pictures:
    """How pictures are made: (channel, y, x), cut to the field or not, and where the images come from."""

    size: tuple[int, ...]
    crop: bool
    loaded: Any


def _table(
    layer: Layer, units: np.ndarray, lists: list[Sorting], k: int, size: tuple[int, ...], about: dict
) -> Table[RankedColumn]:
    places = {0: "1", 1: "position", 2: "y x", 3: "z y x"}.get(len(layer.map_size), "index")
    axes, (kind, unit) = "k channel y x" if len(size) == 3 else "k channel time", picture_kind(size)
    columns: dict[RankedColumn, Column] = {
        "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
        "dead": Column("true where no image drives the unit", dtype="bool"),
    }
    for one in lists:
        order = f"{one.criterion}, {'best' if one.end == 'top' else 'least'} first"
        measure = "share of the map" if one.criterion == "area" else "activation"
        columns |= {
            one.column("image"): Column(f"row of /stimuli, by {order}", "k", (k,), "int64", "index"),
            one.column("response"): Column(f"response, by {order}", "k", (k,), "float32", measure),
            one.column("position"): Column(
                f"place of the maximum on the map ({places})", "k yx", (k, len(layer.map_size)), "int64", "index"
            ),
            one.column("picture"): Column("the image, made small", axes, (k, *size), kind, unit),
        }
        if one.criterion == "area":
            columns["threshold"] = Column(
                "level above which a position counts, exceeded at a share 1 - quantile of all", unit="activation"
            )
    own = about | layer.attributes | {"rectified": layer.rectified}
    own["pages"] = [page for page in about["pages"] if page in units]
    return Table(f"units/{layer.group}", "unit", len(units), columns, SAVED_UNITS, own)


def _rows(
    layers: list[Layer],
    found: dict[str, Strongest],
    lists: list[Sorting],
    pictures: Pictures,
    unfinished: Unfinished | None,
) -> Iterator[Rows[RankedColumn] | Advance | Phase]:
    """Hand over the units of every layer, with the pictures of their images."""
    ranks = {(layer.name, one): found[layer.name].ranks[one.order] for layer in layers for one in lists}
    fields = {layer.name: layer.field for layer in layers}

    def field(key: tuple[str, Sorting], place: int) -> Any:
        positions = ranks[key].positions
        return fields[key[0]].region(positions.reshape(-1, positions.shape[-1])[place].tolist())

    album = Album({key: rank.images for key, rank in ranks.items()}, pictures.size)
    try:
        needed = album.images()
        yield Phase("pictures", len(needed), "pictures")
        yield from album.fill(partial(pictures.loaded, indices=needed), field if pictures.crop else None, unfinished)
        for layer in layers:
            answers = found[layer.name]
            for start in range(0, len(answers.dead), SAVED_UNITS):
                part = slice(start, start + SAVED_UNITS)
                columns: dict[RankedColumn, np.ndarray] = {"dead": answers.dead[part]}
                if answers.threshold is not None:
                    columns["threshold"] = answers.threshold[part]
                for one in lists:
                    rank = answers.ranks[one.order]
                    columns |= {
                        one.column("image"): rank.images[part],
                        one.column("response"): rank.responses[part],
                        one.column("position"): rank.positions[part],
                        one.column("picture"): album.rows((layer.name, one), part),
                    }
                yield Rows(f"units/{layer.group}", start, columns)
    finally:
        album.close()


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers, units and dead units."""
    tables: list[TableView[RankedColumn]] = [recording[name] for name in recording.tables("units")]
    dead = sum(int(table["dead"].sum()) for table in tables)
    return {"layers": len(tables), "units": sum(table.row_count for table in tables), "dead": dead}


def draw(recording: Recording) -> Figures:
    """One sheet per layer and sorting, and a page for every requested unit."""
    from cnnprobe.plots.style import number

    about = recording.attributes
    for group in recording.tables("units"):
        table: TableView[RankedColumn] = recording[group]
        own, layer = table.attributes, group.removeprefix("units/")
        if not len(table.rows):
            continue
        network = f"{own['layer']} of {about['model']} (weights: {about['weights']})"
        for criterion in own["criteria"].split():
            for end in own["ends"].split():
                one = Sorting(criterion, end, own["criterion"])
                best = table[one.column("response")][:, 0]
                rows = zip(table["unit"], best, table["dead"])
                names = [f"{unit}\n{'dead' if dead else number(value)}" for unit, value, dead in rows]
                order = f"{'highest' if end == 'top' else 'lowest'} {criterion}"
                shown = f"{'signals' if len(own['image_size']) == 2 else 'images'} of {about['dataset']}"
                row = f"each row: the {shown} with the {order}; left: unit, its {criterion} for the first"
                title = f"{network}\n{row}\n{_box(own)}"
                yield one.named(layer), _sheet(table, one, names, title)
        for unit in own["pages"]:
            if unit not in table["unit"]:  # not yet
                continue
            yield f"{layer}_unit{unit}", _page(recording, table, unit, network)


def _sheet(table: TableView[RankedColumn], one: Sorting, names: list[str], title: str) -> Any:
    """Draw the sheet of one layer and sorting: pictures in boxes, or traces with the field shaded."""
    from cnnprobe.plots.sheet import unit_sheet
    from cnnprobe.plots.traces import unit_traces

    pictures = table[one.column("picture")][:, :SHOWN]
    silent = _silent(table, one)[:, :SHOWN] if one.end == "top" else np.zeros(pictures.shape[:2], bool)
    if pictures.ndim == 4:  # (unit, k, channel, time)
        pictures[silent] = np.nan
        return unit_traces(pictures, names, _spans(table, one, pictures.shape[-1]), title)
    pictures[silent] = 255
    return unit_sheet(pictures, names, _boxes(table, one, pictures.shape[-2:]), title)


def _box(own: dict[str, Any]) -> str:
    signals = len(own["image_size"]) == 2
    if not any(own["field_stride"]):
        why = f": {note}" if (note := own.get("field_note")) and len(own["map_size"]) else ""
        return f"every unit sees the whole {'signal' if signals else 'image'}{why}"
    field = "x".join(str(round(side)) for side in own["field_size"]) + (" samples" if signals else " px")
    return f"cut to the field of the maximum, {field}" if own["crop"] else (
        f"{'shaded' if signals else 'box'}: field of the maximum, {field}")  # fmt: skip


def _spans(table: TableView[RankedColumn], one: Sorting, samples: int) -> np.ndarray | None:
    from cnnprobe.plots.traces import spans_of

    if table.attributes["crop"]:
        return None
    spans = spans_of(table[one.column("position")], samples, table.attributes)
    spans[_silent(table, one)] = np.nan
    return spans


def _boxes(table: TableView[RankedColumn], one: Sorting, picture: tuple[int, ...]) -> np.ndarray | None:
    from cnnprobe.plots.sheet import outlines

    own = table.attributes
    if own["crop"]:
        return None
    edges = outlines(table[one.column("position")], picture, own)
    edges[_silent(table, one)] = np.nan
    return edges[:, :SHOWN]


def _silent(table: TableView[RankedColumn], one: Sorting) -> np.ndarray:
    """Say where a rectified unit does not answer, (unit, k): such an image is shown blank, its maximum has no place."""
    return np.asarray(table.attributes["rectified"]) & (table[one.column("response")] <= 0)


def _page(recording: Recording, table: TableView[RankedColumn], unit: int, network: str) -> Any:
    from cnnprobe.plots.sheet import unit_page
    from cnnprobe.plots.style import number
    from cnnprobe.plots.traces import captioned_traces

    own = table.attributes
    stimuli: TableView[StimulusColumn] = recording["stimuli"]
    names, labels, classes = stimuli.known("name"), stimuli.known("label"), json.loads(stimuli.attributes["classes"])
    row = int(np.flatnonzero(table["unit"] == unit)[0])
    pictures = table["picture"][row]
    captions = [
        f"{classes[labels[i]] if 0 <= labels[i] < len(classes) else names[i]}\n{number(value)}" if i >= 0 else ""
        for i, value in zip(table["image"][row], table["response"][row])
    ]
    title = f"unit {unit} of {network}\n{own['criterion']} of its map; {_box(own)}"
    main = Sorting(own["criterion"], "top", own["criterion"])
    if pictures.ndim == 3:  # (k, channel, time)
        spans = _spans(table, main, pictures.shape[-1])
        return captioned_traces(pictures, captions, None if spans is None else spans[row], title)
    boxes = _boxes(table, main, pictures.shape[-2:])
    return unit_page(pictures, captions, None if boxes is None else boxes[row], title)
