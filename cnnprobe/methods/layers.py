"""List what is in a network: its layers, their size and cost, and how much of the image each unit sees."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnprobe.errors import listing
from cnnprobe.instruments.fields.check import checked
from cnnprobe.instruments.fields.phases import phases_of
from cnnprobe.instruments.fields.rules import geometries
from cnnprobe.instruments.layers.connections import FROM_IMAGE, connections, values_of
from cnnprobe.instruments.layers.multiply_adds import apart, per_image, uncounted
from cnnprobe.instruments.layers.naming import layers_of, left_out, main_layers
from cnnprobe.instruments.network.calls import parameters
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import Trace, Value, trace
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Rows, Table

if TYPE_CHECKING:  # the list does without matplotlib
    from cnnprobe.plots.architecture import Box

LOG = logging.getLogger("cnnprobe")
ORDER = 3
"""Its place in the list of commands."""
LayerColumn = Literal[
    "name", "module", "kind", "reads", "channels", "map_size", "parameters", "macs", "field_size", "field_stride",
    "field_start", "position_size", "aligned", "field_note",
]  # fmt: skip
"""Columns of the table "layers"."""
ConnectionColumn = Literal["read", "reader"]
"""Columns of the table "connections"."""
BOXES = 80
"""Layers up to which their connections are drawn."""


def compute(provided: Provided, *, kind: Literal["main", "all"]) -> Measurement:
    """Run the network once on a noise image and describe its layers in the order in which they are computed.

    The receptive field is the theoretical one (Araujo, Norris, Sim 2019, Distill): the field of position u of a map is
    the interval from field_start + u field_stride, field_size px long, along each axis of the image. It is compared
    with the network: where a position sees pixels beyond it, the whole image is given, and `field_note` says so. Where
    positions see unlike parts of it (behind an up-convolution), it is the hull of all, and `position_size` tells how
    much a single one sees.

    Args:
        provided: by the run, see `contract.Provided`.
        kind: "main": convolutions by their short names, dense layers, areas; "all": also the output of every module.

    Returns:
        tables "layers" and "connections". `map_size` has as many axes as the largest map, and as the image at least; a
        missing axis is -1 (a dense layer has no map). The attribute `macs` is what an image costs in the whole pass,
        each operation once, also what a forward computes outside of these layers. Layers that cannot be had for each
        image are warned of, and so are sums of products that are not counted.

    Raises:
        UserError: the network cannot take such an image.
    """
    model, size = provided.model, provided.dataset.size
    found = checked(model, main_layers(model, size) if kind == "main" else layers_of(model, size), size)
    lacking = left_out(model, size, every=kind == "all")
    for why, names in lacking.items():
        LOG.warning(f"left out: {listing(names)}: {why}")
    axes = len(size) - 1
    seen = trace(model, size)
    if names := uncounted(seen):
        LOG.warning(f"multiply-adds of {listing(names)} are not counted")
    if names := [name for name in apart(seen, model) if name not in chain(*lacking.values())]:
        LOG.warning(
            f"{listing(names, 4)}: made without the image or out of sight, not among the layers; multiply-adds count "
            "where they are seen and done for each image"
        )
    totals = {"parameters": parameters(model), "macs": per_image(model, size), "input_size": list(size)}
    table = Table("layers", "layer", len(found), _columns(found, axes), batch=max(1, len(found)), attributes=totals)
    values = values_of(seen, found)
    pairs = np.array(connections(seen, values), np.int64).reshape(-1, 2)
    sizes = _of_positions(seen, found, values, axes)
    return Measurement([table, _connected(pairs)], _rows(found, sizes, table), total=len(found), counts="layers")


def _of_positions(seen: Trace, layers: list[Layer], values: list[Value | None], axes: int) -> np.ndarray:
    """Return (layer, axis, 2) the least and the largest field of a single position, px; NaN where that is unknown."""
    sizes = np.array([layer.field.size for layer in layers], float).reshape(-1, axes, 1).repeat(2, 2)
    if all(layer.field.aligned or layer.field.whole for layer in layers):
        return sizes
    followed = phases_of(seen, geometries(seen))
    for own, layer, value in zip(sizes, layers, values):
        if layer.field.aligned or layer.field.whole:
            continue
        own[:] = np.nan
        for axis, phases in followed.get(value, {}).items() if value is not None else ():
            own[axis] = phases.sizes[0], phases.sizes[-1]
    return sizes


def _connected(pairs: np.ndarray) -> Table[ConnectionColumn]:
    """Lay out which layers read which."""
    columns: dict[ConnectionColumn, Column] = {
        "read": Column("row of layers that is read, -1 = the image", dtype="int64", unit="index", values=pairs[:, 0]),
        "reader": Column("row of layers that is made from it", dtype="int64", unit="index", values=pairs[:, 1]),
    }
    return Table("connections", "connection", len(pairs), columns, max(1, len(pairs)), aside=True)


def _columns(layers: list[Layer], axes: int) -> dict[LayerColumn, Column]:
    def words(description: str, name: str) -> Column:
        values = np.array([getattr(layer, name) for layer in layers], dtype=object)
        return Column(description, dtype="str", values=values)

    along: dict[str, Any] = {"axes": "axis", "shape": (axes,)}
    positions = max([axes, *(len(layer.map_size) for layer in layers)])
    return {
        "name": words("name to request the layer by", "name"),
        "module": words("path of the module", "module"),
        "kind": words(
            "convolution, linear, nonlinearity, norm, pool, attention, dropout, area, block or other", "kind"
        ),
        "reads": words("where the name is read", "reads"),
        "channels": Column("number of units", dtype="int64"),
        "map_size": Column(
            "positions (z y x; y x; time; tokens); -1 where there is none", "map_axis", (positions,), "int64"
        ),
        "parameters": Column(
            "of the module; of a function, the numbers of its kernel and bias, if they are no buffers,"
            " also of one that is computed",
            dtype="int64",
        ),
        "macs": Column("multiply-accumulate operations per image", dtype="int64"),
        "field_size": Column("side of the theoretical receptive field", **along, unit="px"),
        "field_stride": Column("step of the field between positions; 0: all see the whole image", **along, unit="px"),
        "field_start": Column("first pixel of the field of position 0", **along, unit="px"),
        "position_size": Column(
            "least and largest field of a single position, of which the field is the hull; NaN: unknown",
            *("axis end", (axes, 2)),
            unit="px",
        ),
        "aligned": Column("all paths from the image have the same stride and centre", dtype="bool"),
        "field_note": words("what the field owes to operations without a formula, or to a measurement", "note"),
    }


def _rows(layers: list[Layer], sizes: np.ndarray, table: Table[LayerColumn]) -> Iterator[Rows[LayerColumn] | Advance]:
    positions = table.columns["map_size"].shape[0]
    columns: dict[LayerColumn, list[Any]] = {
        "channels": [layer.channels for layer in layers],
        "map_size": [[*layer.map_size, *[-1] * (positions - len(layer.map_size))] for layer in layers],
        "parameters": [layer.parameters for layer in layers],
        "macs": [layer.macs for layer in layers],
        "field_size": [layer.field.size for layer in layers],
        "field_stride": [layer.field.stride for layer in layers],
        "field_start": [layer.field.start for layer in layers],
        "position_size": list(sizes),
        "aligned": [layer.field.aligned for layer in layers],
    }
    if layers:
        yield Rows("layers", 0, {name: np.array(values, table.columns[name].dtype) for name, values in columns.items()})
    yield Advance(len(layers))


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers, and the network's parameters and operations."""
    layers: TableView[LayerColumn] = recording["layers"]
    cost = f"{_millions(layers.attributes['macs'])} million per image"
    return {"layers": len(layers.rows), "parameters": layers.attributes["parameters"], "multiply-adds": cost}


def _millions(count: int) -> str:
    return f"{count / 1e6:,.0f}" if count >= 1e9 else f"{count / 1e6:.4g}"


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: one column of texts per property, sides as "y x" where they differ."""
    layers: TableView[LayerColumn] = recording["layers"]

    def sides(name: LayerColumn) -> list[str]:
        rows = [row[:1] if len(set(row)) == 1 else row for row in layers[name].tolist()]
        return ["x".join(f"{value:g}" for value in row) for row in rows]

    maps = [[side for side in row if side >= 0] for row in layers["map_size"].tolist()]
    found = {
        "name": layers["name"].tolist(),
        "module": layers["module"].tolist(),
        "read at": [reads if reads != module else "" for reads, module in zip(layers["reads"], layers["module"])],
        "kind": layers["kind"].tolist(),
        "units": [str(count) for count in layers["channels"]],
        "map": ["x".join(map(str, row)) or "-" for row in maps],
        "parameters": [f"{count:,}" for count in layers["parameters"]],
        "MACs (M)": [_millions(count) for count in layers["macs"]],
        "field": sides("field_size"),
        **({"one position": own} if any(own := single_fields(layers)) else {}),
        "stride": sides("field_stride"),
        "start": sides("field_start"),
    }
    has_map = np.any(layers["map_size"] > 0, axis=1)  # a dense layer sees all there is
    notes = [str(note) if map_ else "" for note, map_ in zip(layers["field_note"], has_map)]
    return found | ({"note on the field": notes} if any(notes) else {})


def single_fields(layers: TableView[LayerColumn]) -> list[str]:
    """Say how much a single position of each layer sees, px along each axis; "" where that is its field."""
    found: list[str] = []
    if "position_size" not in layers:  # of an older version
        return found
    for sizes, hull in zip(layers["position_size"].tolist(), layers["field_size"].tolist()):
        ends = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in sizes]
        same = all(low == high == size for (low, high), size in zip(sizes, hull))
        unknown = any(low != low for low, _ in sizes)
        found.append("" if same else "?" if unknown else "x".join(ends[:1] if len(set(ends)) == 1 else ends))
    return found


def draw(recording: Recording) -> Figures:
    """Field size and map size of every layer, in the order in which they are computed; levels where maps grow again."""
    from cnnprobe.plots.architecture import architecture
    from cnnprobe.plots.style import SERIES, figure, plain

    table: TableView[LayerColumn] = recording["layers"]
    if not len(table.rows):
        return
    names = [plain(name, most=28) for name in table["name"]]
    depth = np.arange(len(names))
    title = f"Layers of {recording.attributes.get('model', 'the network')}"
    made = figure(max(5, min(16, 1.5 + 0.17 * len(names))), 5, title)
    fields, maps = made.subplots(2, 1, sharex=True)
    image = max(table.attributes["input_size"][1:])
    fields.axhline(image, color=SERIES[5], linestyle="--", linewidth=1, label="the image")
    sizes, sides = table["field_size"], np.where(table["map_size"] < 0, np.nan, table["map_size"])
    words = ("y", "x") if sizes.shape[1] == 2 else ("time",)
    own = words if sides.shape[1] == len(words) else tuple(f"axis {axis + 1}" for axis in range(sides.shape[1]))
    if (
        own == ("y", "x")
        and np.array_equal(sizes[:, 0], sizes[:, 1])
        and np.array_equal(sides[:, 0], sides[:, 1], equal_nan=True)
    ):
        words = own = ("y and x",)
    for plot, values, names_of_axes in ((fields, sizes, words), (maps, sides, own)):
        for axis, word in enumerate(names_of_axes):
            style = {"color": SERIES[axis], "markersize": 4 - axis, "linewidth": 1, "label": word}
            plot.plot(depth, values[:, axis], "o-", **style)
    if any(single_fields(table)):
        ends = np.stack([table["position_size"].min((1, 2)), table["position_size"].max((1, 2))])
        fields.vlines(depth, *ends, color=SERIES[3], linewidth=1)
        fields.plot(np.tile(depth, 2), ends.ravel(), "_", color=SERIES[3], label="one position")
    if own != words:
        maps.legend(frameon=False, fontsize=7)
    fields.set_ylabel("theoretical field (px)")
    maps.set_ylabel("map (positions)")
    fields.legend(frameon=False, fontsize=7)
    maps.set_xticks(depth, names, rotation=90, fontsize=6)
    made.align_ylabels()
    yield "layers", made
    if "connections" in recording.tables():
        boxes, edges = _levels(table, recording["connections"])
        maps = [(read, reader) for read, reader in edges if np.prod(boxes[read].sides) > 1]  # a gate is none
        if len(boxes) <= BOXES and grows_again([box.level for box in boxes], maps):
            yield "architecture", architecture(boxes, edges, f"Levels of {recording.attributes.get('model')}")


def grows_again(levels: list[float], edges: list[tuple[int, int]]) -> bool:
    """Say whether maps shrink on the way through a network, and later grow.

    Args:
        levels: of its layers, larger is coarser.
        edges: (read, reader) pairs of them.
    """
    return any(levels[reader] > levels[read] for read, reader in edges) and any(
        levels[reader] < levels[read] for read, reader in edges
    )


def _levels(
    table: TableView[LayerColumn], connected: TableView[ConnectionColumn]
) -> tuple[list["Box"], list[tuple[int, int]]]:
    """Return the image and the layers as boxes, each value once, and (read, reader) pairs of these."""
    from cnnprobe.plots.architecture import Box

    image, said = table.attributes["input_size"], single_fields(table)
    names, reads, kinds = table["name"], table["reads"].tolist(), table["kind"]
    sizes, hulls = table["position_size"].max((1, 2)), table["field_size"].max(1)
    levels = _depths(table)
    boxes, places = [Box("image", image[0], tuple(image[1:]), 0.0, "1", 0.0)], {FROM_IMAGE: 0}
    for row in (row for row, place in enumerate(reads) if reads.index(place) == row):
        names_here = [other for other, place in enumerate(reads) if place == reads[row]]
        named = next((other for other in names_here if kinds[other] == "area"), row)
        size = hulls[row] if np.isnan(sizes[row]) else sizes[row]
        sides = tuple(int(side) for side in table["map_size"][row] if side >= 0)
        places[row] = len(boxes)
        words = said[row].replace(" to ", "–") or f"{hulls[row]:g}"
        share = float(size) / max(image[1:])
        boxes.append(Box(names[named], int(table["channels"][row]), sides, levels[row], words, share))
    pairs = zip(connected["read"].tolist(), connected["reader"].tolist())
    return _skips_first(boxes, [(places[one], places[other]) for one, other in pairs if {one, other} <= places.keys()])


def _depths(table: TableView[LayerColumn]) -> np.ndarray:
    """Return (layer,) how coarse maps are: log2 of their stride; where all see the whole image, their share of it."""
    image = np.log2(np.array(table.attributes["input_size"][1:], float)).mean()
    strides, sides = np.abs(table["field_stride"]), table["map_size"].astype(float)
    stepped = (strides > 0).all(1)
    sides = np.where(sides > 0, sides, np.nan)
    with np.errstate(invalid="ignore"):
        missed = image - np.log2(np.nan_to_num(sides, nan=1.0)).sum(1) / np.maximum(np.isfinite(sides).sum(1), 1)
    found = np.where(stepped, np.log2(np.where(strides > 0, strides, 1)).mean(1), missed)
    for place in np.flatnonzero(~stepped & stepped.any()):  # beside the layers with maps of about that size
        near = np.abs(missed[stepped] - missed[place])
        found[place] = found[stepped][near.argmin()] if near.min() < 0.5 else missed[place]
    return (2 * found).round() / 2


def _skips_first(boxes: list["Box"], edges: list[tuple[int, int]]) -> tuple[list["Box"], list[tuple[int, int]]]:
    """Put what comes across a level before what comes up into it, where neither is made from the other."""
    order, made = list(range(len(boxes))), set(edges)
    latest = [max((read for read, reader in edges if reader == place), default=-1) for place in order]
    for place in range(len(order) - 1):
        one, other = order[place : place + 2]
        if boxes[one].level == boxes[other].level and (one, other) not in made and latest[other] < latest[one]:
            order[place : place + 2] = [other, one]
    at = {old: new for new, old in enumerate(order)}
    return [boxes[old] for old in order], sorted((at[one], at[other]) for one, other in edges)
