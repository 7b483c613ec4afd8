"""Map where in the image each unit looks, by sliding an occluder over the images it responds to most."""

import logging
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range, Run
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.images.thumbnails import picture_size
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import place_on, units_of
from cnnprobe.instruments.ranking.strongest import Search, images_per_unit
from cnnprobe.instruments.windows.occluders import grid_of
from cnnprobe.machine.memory import UNBOUNDED
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.rf_map.mapping import FieldColumn, FieldMapping, OcclusionSettings, brightness
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows

LOG = logging.getLogger("cnnprobe")
ORDER = 6
"""Its place in the list of commands."""
BUILT_FROM = ("topk", "record")
"""Commands whose runs `source=` may name."""
IMAGES = 10
"""Per unit, where none are requested."""
LEAST = 3
"""Measured fields without which there is no figure of their sizes."""
ROWS = 16
"""Units shown step by step when none are requested."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str],
    units: str | int | list[int],
    top_images: Annotated[int, Range(1, 1000)] | None,
    patch_size: Annotated[int, Range(1)] | None,
    stride: Annotated[int, Range(1)] | None,
    filling: Literal["noise", "mean", "zero", "blur"],
    draws: Annotated[int, Range(1, 1000)],
    reading: Literal["site", "max", "mean", "anywhere"],
    position: list[Annotated[int, Range(0)]] | None,
    memory: Annotated[float, Range(above=0)] | None,
    precision: Literal["float32", "bfloat16"],
    effective: bool,
    picture: Annotated[int, Range(8, 1024)] | None,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
    source: Run | None,
) -> Measurement:
    """Measure the field of every unit by occlusion (Zhou et al. 2015, section 3.2).

    For each of a unit's `top_images` images and each place of the occluder the discrepancy is the clean response minus
    the occluded one, signed, see `discrepancy`. Each pixel gets the mean over the occluders that covered it; the
    maps of a unit's images are shifted so that the theoretical field of the position that answered is in the middle,
    and averaged: `field` where at least half of the images cover the pixel. What the occluder raises, max(-d, 0), is
    averaged apart: `suppression`. Beside it stands the effective field (Luo et al. 2016): the mean |gradient|.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`.
        units: channels of each layer.
        top_images: images per unit, by the maximum of its map; those to which a rectified unit answers 0 do not count.
            None: 10, or as many as a run of topk has.
        patch_size, stride: of the occluder, px; None: in proportion to 11 and 3 px of an image of 224 px.
        filling: what the occluder shows, see `windows.occluders.fillings`.
        draws: of noise, the same for every image; their mean is the discrepancy.
        reading: what is compared.
        position: of the neuron on its map that is mapped, the same in every layer: images are those to which it
            responds most. None: the one that responds most, of each image its own.
        memory: GB that occluded images may take; None: half of what is free.
        precision: of the occluded passes.
        effective: also take the effective field.
        picture: longer side of the stored pictures, px; None: as large as 128 MB allow.
        pages: units to show step by step; None: the first living ones.
        source: a run of topk or record that has the images.

    Returns:
        one table "units/<layer>" per layer, and "stimuli".

    Raises:
        UserError: no such layer, unit or position, the images are none, the occluder does not fit, or the source lacks
            what is requested.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    if len(dataset.size) != 3:
        raise UserError(f"rf-map occludes images (channel, y, x), got signals of {tuple(dataset.size)}")
    layers = find(model, layer, dataset.size)
    chosen = {found.name: units_of(found, units) for found in layers}
    grid = grid_of(dataset.size[1:], patch_size, stride)
    top_images = images_per_unit(top_images, IMAGES, source)
    search = Search(model, layers, chosen, top_images, len(dataset), source, _site(layers, position, reading, source))
    asked = [pages] if isinstance(pages, int) else pages
    if absent := [page for page in asked or [] if not any(page in own for own in chosen.values())]:
        raise UserError(f"pages={absent[0]}: that unit is not among those mapped")
    if top_images > len(dataset):
        LOG.warning(f"top_images is {top_images}, but there are {len(dataset)} images; the other places stay empty")
    count = sum(map(len, chosen.values())) * (top_images + 1)
    small = picture_size(dataset.size, count, picture)
    kept = resumed.facts
    draws = draws if filling == "noise" else 1
    how = OcclusionSettings(model, dataset, computation, grid, filling, draws, reading, effective)
    bytes_ = None if memory is None else int(memory * 1e9)
    mapped = []
    for one in layers:
        occlusion = Occlusion(model, one, dataset.size, grid, memory=bytes_, precision=precision)
        occlusion.batch = kept.get("batch", {}).get(one.name, occlusion.batch)
        mapped.append(FieldMapping(how, one, chosen[one.name], top_images, small, occlusion))

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        def every(start: int) -> Iterator[Batch]:
            return batches(dataset, **computation.loading, start=start)

        found, skipped = yield from search.run(every, resumed.unfinished)
        yield from skipped_rows(skipped, computation.batch_size)
        how.brightness = yield from brightness(dataset, filling, computation, resumed.unfinished)
        for one in mapped:
            already = resumed.finished.get(one.name, frozenset())
            for event in one.events(found[one.layer.name], already, resumed.unfinished):
                if one.occlusion.batch < UNBOUNDED:
                    kept.setdefault("batch", {})[one.layer.name] = one.occlusion.batch
                yield event

    about: dict[str, Any] = {"top_images": min(top_images, len(dataset)), "patch_size": grid.patch}
    about |= {"stride": grid.stride, "draws": draws, "reading": reading}
    about |= {"image_size": list(dataset.size), "precision": precision}
    about |= {} if position is None else {"position": position}
    shown = [_pages(asked, one.units) for one in mapped]
    tables = [one.table(about | {"order": place, "pages": shown[place]}) for place, one in enumerate(mapped)]
    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), count, "maps", kept)


def _site(
    layers: list[Layer], position: list[int] | None, reading: str, source: Recording | None
) -> tuple[int, ...] | None:
    """Return the position that is mapped; None: of every image that of the largest response.

    Raises:
        UserError: it is not on the map of each layer, or does not go together with another option.
    """
    if position is None:
        return None
    if reading != "site":
        raise UserError(f"position= says which neuron of a map is mapped (reading=site), got reading={reading}")
    if source is not None:
        raise UserError(
            "position= ranks the images by that neuron, the runs of source= by all of the map: leave one out"
        )
    for layer in layers:
        place_on(layer, position)
    return tuple(position)


def _pages(asked: list[int] | None, units: np.ndarray) -> list[int]:
    """Return which of these units were requested; [-1]: to be chosen when they are drawn."""
    return [-1] if asked is None else [page for page in asked if page in units]


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers, units and dead units, and say how large measured fields are beside the theoretical ones."""
    tables: list[TableView[FieldColumn]] = recording.in_order()
    dead = sum(int(table["dead"].sum()) for table in tables)
    ratios = np.concatenate([_sizes(table)["ratio"] for table in tables])
    known = ratios[np.isfinite(ratios)]
    found = {"layers": len(tables), "units": sum(table.row_count for table in tables), "dead": dead}
    if len(known):
        found["median field / theoretical"] = float(np.median(known))
    errors = [table.attributes["engine_error"] for table in tables if table.attributes["precision"] != "float32"]
    if known_errors := [error for error in errors if math.isfinite(error)]:
        found["largest error / response"] = max(known_errors)
    return found


def _sizes(table: TableView[FieldColumn]) -> dict[str, Any]:
    """Return sides of fields, px: theoretical, that within the image; by unit (NaN where unknown) the measured ones.

    `ratio` is the measured side at 0.2 of the peak over the theoretical one (the paper does not state its threshold;
    0.2 takes in nearly all of a field and leaves out the noise).
    """
    own = table.attributes
    size, image = np.array(own["field_size"], float), np.array(own["image_size"][1:], float)
    sides = table["size"]
    found: dict[str, Any] = {"theoretical": math.sqrt(size.prod())}
    found["clipped"] = math.sqrt(np.minimum(size, image).prod())
    found |= {"half": sides[:, 0], "fifth": sides[:, 1], "ratio": sides[:, 1] / found["theoretical"]}
    found["effective"] = table["effective_size"] if table.has("effective_size") else np.full(len(sides), np.nan)
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: by layer, sides of the fields in px, mean ± standard deviation over units."""
    from cnnprobe.plots.style import spread

    tables: list[TableView[FieldColumn]] = recording.in_order()
    sizes = [_sizes(table) for table in tables]
    columns = {
        "layer": [table.attributes["layer"] for table in tables],
        "units": [str(table.row_count) for table in tables],
        "dead": [str(int(table["dead"].sum())) for table in tables],
        "theoretical": [f"{one['theoretical']:.4g}" for one in sizes],
        "in the image": [f"{one['clipped']:.4g}" for one in sizes],
    }
    for name, word in (("half", "at 0.5"), ("fifth", "at 0.2"), ("effective", "effective"), ("ratio", "ratio")):
        columns[word] = [spread(one[name], "{:.2f}" if name == "ratio" else "{:.1f}") for one in sizes]
    return columns


def draw(recording: Recording) -> Figures:
    """Per layer a sheet of all fields and rows that show how they come about; sizes against depth."""
    from cnnprobe.methods.rf_map.figures import field_sheet, unit_rows
    from cnnprobe.methods.rf_map.size_figure import size_by_depth

    about = recording.attributes
    tables: list[TableView[FieldColumn]] = [table for table in recording.in_order() if len(table.rows)]
    for table in tables:
        own, layer = table.attributes, table.name.removeprefix("units/")
        network = f"{own['layer']} of {about['model']} (weights: {about['weights']})"
        occluder = f"{own['patch_size']} px of {own['filling']} every {own['stride']} px; reading: {own['reading']}"
        who = "each unit responds"
        if "position" in own:
            who = f"the neurons at [{','.join(map(str, own['position']))}] respond"
        images = f"the {own['top_images']} images of {about['dataset']} that {who} to most"
        box, image = tuple(own["field_size"]), own["image_size"][1:]
        if any(size > side for size, side in zip(box, image)):
            network += "\ntheoretical field of {:g} × {:g} px, larger than the image of {} × {} px".format(*box, *image)
        title = f"fields of {network}\nmean discrepancy over {images}; occluder: {occluder}"
        yield layer, field_sheet(table["field"], [str(unit) for unit in table["unit"]], title, box, normalised=True)
        rows = f"{network}\n{images}; left: unit, side of its field above 0.2 of the peak\noccluder: {occluder}"
        yield f"{layer}_units", unit_rows(_shown(table, box), rows)
    if not tables:
        return
    sizes = [_sizes(table) for table in tables]
    names = [table.attributes["layer"] for table in tables]
    if sum(int(np.isfinite(one["fifth"]).sum()) for one in sizes) < LEAST:
        return  # nothing to compare
    theoretical, clipped = (np.array([one[name] for one in sizes]) for name in ("theoretical", "clipped"))
    half, fifth, effective = ([one[name] for one in sizes] for name in ("half", "fifth", "effective"))
    title = f"Measured fields of {about['model']} (weights: {about['weights']}) on {about['dataset']}"
    occluder = tables[0].attributes["patch_size"]
    yield "sizes", size_by_depth(names, theoretical, clipped, half, fifth, effective, title, occluder)


def _shown(table: TableView[FieldColumn], box: tuple[float, float]) -> list[Any]:
    """Return the rows of the units requested, or of the first living ones."""
    from cnnprobe.methods.rf_map.figures import UnitRow
    from cnnprobe.plots.sheet import outlines
    from cnnprobe.plots.style import number

    own, units = table.attributes, table["unit"]
    asked = (
        np.isin(units, own["pages"]) if own["pages"] != [-1] else ~table["dead"] & (np.cumsum(~table["dead"]) <= ROWS)
    )
    chosen = np.flatnonzero(asked[: len(table.rows)])
    columns = {
        name: table[name] for name in ("picture", "occluded", "discrepancy", "response", "field", "suppression", "size")
    }
    small = columns["picture"].shape[-2:]
    edges = outlines(table["position"], small, own)
    places = _places(columns["discrepancy"].shape[-2:], own) * np.tile(np.divide(small, own["image_size"][1:]), 2)
    rows = []
    for row in chosen:
        one = {name: values[row] for name, values in columns.items()}
        name = f"{units[row]}\n{number(one['size'][1])} px"
        captions = ["" if math.isnan(value) else number(value) for value in one["response"]]
        shown = one["picture"], edges[row, 0], one["occluded"], one["discrepancy"], places
        rows.append(UnitRow(name, *shown, captions, one["field"], one["suppression"], box))
    return rows


def _places(shape: tuple[int, int], own: dict[str, Any]) -> np.ndarray:
    """Return the edges of a map by place of the occluder, px of the image: top, left, bottom, right.

    Each place stands for the `stride` px about the middle of its occluder.
    """
    first = (own["patch_size"] - own["stride"]) / 2
    return np.array([first, first, *(first + own["stride"] * length for length in shape)])
