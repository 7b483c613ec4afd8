"""Show manufactured stimuli with one factor each and find out what every unit is tuned to."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.tuning import varied, varied_results
from cnnprobe.methods.tuning.contrast_response import naka_rushton
from cnnprobe.methods.tuning.first_filters import filters_of
from cnnprobe.methods.tuning.gabor_table import KINDS, GaborColumn, fitted, gabor_table
from cnnprobe.methods.tuning.gabors import ACCEPTED, CHROMATIC, LEAST, fit_gabors
from cnnprobe.methods.tuning.mapping import (
    FAMILIES,
    STILL,
    WORDS,
    Curves,
    Design,
    FactorColumn,
    UnitColumn,
    columns,
    numbers,
)
from cnnprobe.methods.tuning.recorded_cells import CellColumn, recorded_cells
from cnnprobe.methods.tuning.responses import Site, missing, respond
from cnnprobe.methods.tuning.varied_results import factors_of
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table

ORDER = 11
"""Its place in the list of commands."""

SAVED_UNITS, SAVED_FITS = 32, 8
"""Units, and fitted filters, that are saved together."""
ROWS = 12
"""Units whose curves are drawn when none are requested."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str],
    units: str | int | list[int],
    reading: Literal["centre", "max"],
    strength: Literal["mean", "max", "f1"],
    subtract: bool,
    gabor: bool | None,
    cells: str | None,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
) -> Measurement:
    """Measure the tuning of units, of any layers in one pass.

    The formulas stand with their sources in `curves` (bandwidth, circular variance, selectivity, F1/F0),
    `contrast_response` and `gabors`. A response is cut at 0 first, as a firing rate is. The direction
    index of still images is NaN, and says why.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`.
        units: channels of each layer.
        reading: which neuron of a unit answers, see `responses`.
        strength: how the answers to the phases of a grating become one number, see `curves.strength`.
        subtract: take the answer to the blank image off first.
        gabor: fit Gabors to the filters of a first convolution; None: where there is one of 5 px and more.
        cells: CSV file with the columns n_x and n_y, for comparison.
        pages: units whose curves are drawn; None: the first living ones.

    Returns:
        one table "units/<layer>" per layer with `curve`, the response to each row of "stimuli"; "gabor/<layer>" of
        first layers; and "stimuli", with a column for every factor.

    Raises:
        UserError: no such layer or unit, the dataset has no factors, or Gabors are requested where there are none.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    asked = [pages] if isinstance(pages, int) else pages
    if dataset.varied is not None:
        options = {"strength=f1": strength == "f1", "subtract=true": subtract, "gabor=true": bool(gabor)}
        _of_gratings(options | {"cells": bool(cells)}, dataset)
        return varied.measure(provided, layer, units, reading, asked)
    factors = _factors(dataset)
    if strength == "f1" and reading == "max":
        raise UserError("strength=f1 follows one neuron through the phases: say reading=centre")
    layers = find(model, layer, dataset.size)
    chosen = {one.name: units_of(one, units) for one in layers}
    if absent := [page for page in asked or [] if not any(page in own for own in chosen.values())]:
        raise UserError(f"pages={absent[0]}: that unit is not among those measured")
    sites = {one.name: Site(one, chosen[one.name], dataset.size, reading) for one in layers}
    recorded = recorded_cells(cells)
    design, finished = Design(factors, strength, subtract), resumed.finished
    filters = _filters(model, layers, chosen, dataset.size, gabor)
    about = {"reading": reading, "strength": strength, "subtract": subtract, "image_size": list(dataset.size)}
    tables: list[Table[UnitColumn]] = []
    for place, one in enumerate(layers):
        shown = [-1] if asked is None else [page for page in asked if page in chosen[one.name]]
        own = about | {"order": place, "pages": shown, "position": sites[one.name].position}
        own |= {"families": " ".join(FAMILIES), "direction": STILL}
        tables.append(_unit_table(one, chosen[one.name], len(dataset), own))
    gabors = [gabor_table(one, chosen[one.name], filters[one.name], SAVED_FITS)
              for one in layers if one.name in filters]  # fmt: skip
    stimuli = _stimuli(dataset, factors, getattr(dataset, "units", {}), computation.batch_size)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        if missing(stimuli, finished) or any(missing(table, finished) for table in tables):
            loaded = lambda start: batches(dataset, **computation.loading, start=start)  # noqa: E731
            found = yield from respond(model, sites, loaded, factors["reach"], resumed.unfinished)
            for start in missing(stimuli, finished):
                skipped = np.zeros(min(computation.batch_size, len(dataset) - start), bool)
                yield from skipped_rows(skipped, computation.batch_size, start)
            for one, table in zip(layers, tables):
                for start in missing(table, finished):
                    curve = found[one.name][start : start + SAVED_UNITS]
                    measured = numbers(design, curve, reading == "centre")
                    yield Rows[UnitColumn](table.name, start, measured | {"curve": curve})
        if gabors:
            yield Phase("fitting Gabors", sum(fits.rows for fits in gabors), "filters")
        for fits in gabors:
            planes = fits.columns["plane"].values
            assert planes is not None  # see `gabor_table`
            for start in range(0, fits.rows, SAVED_FITS):
                flat = planes[start : start + SAVED_FITS]
                if start in missing(fits, finished):
                    yield Rows(fits.name, start, fitted(fit_gabors(flat)))
                yield Advance(len(flat))

    return Measurement([*tables, *gabors, *recorded, stimuli], events(), len(dataset), "images")


def _factors(dataset: ImageSet) -> dict[FactorColumn, np.ndarray]:
    """Return the factors of manufactured stimuli; UserError where there are none."""
    factors = getattr(dataset, "factors", None)
    if not isinstance(factors, dict):
        of_part = isinstance(getattr(getattr(dataset, "whole", None), "factors", None), dict)
        without = " without limit=" if of_part else ""
        raise UserError(
            f"tuning shows dataset=manufactured{without} or poses, whose factors are known; got {dataset.name}"
        )
    return factors


def _of_gratings(options: dict[str, bool], dataset: ImageSet) -> None:
    """Refuse options that are of manufactured stimuli alone."""
    if given := [name for name, used in options.items() if used]:
        raise UserError(f"{given[0]} is of the gratings and filters of dataset=manufactured; {dataset.name} has none")


def _filters(
    model: nn.Module, layers: list[Layer], chosen: dict[str, np.ndarray], size: tuple[int, ...], gabor: bool | None
) -> dict[str, np.ndarray]:
    """Return the filters (unit, channel, y, x) of the layers that have such for Gabors, by name."""
    if gabor is False:
        return {}
    found = {one.name: filters_of(model, one, size) for one in layers}
    first = {name: one for name, one in found.items() if one is not None}
    fitting = {name: one for name, one in first.items() if min(one.shape[2:]) >= LEAST and one.shape[2] == one.shape[3]}
    if gabor and not first:
        raise UserError(f"gabor=true needs a first convolution, got {listing(found)}")
    if gabor and not fitting:
        sides = listing(f"{one.shape[2]} x {one.shape[3]}" for one in first.values())
        raise UserError(
            f"Gabors have 8 parameters: they are fitted to square filters of {LEAST} px and more, got {sides}"
        )
    return {name: one[chosen[name]] for name, one in fitting.items()}


def _unit_table(layer: Layer, units: np.ndarray, stimuli: int, about: dict[str, Any]) -> Table[UnitColumn]:
    listed: dict[UnitColumn, Column] = {
        "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
        **columns(),
        "curve": Column("response to each row of stimuli", "stimulus", (stimuli,), unit="activation"),
    }
    own = about | layer.attributes | {"rectified": layer.rectified}
    return Table(f"units/{layer.group}", "unit", len(units), listed, SAVED_UNITS, own)


def _stimuli(
    dataset: ImageSet, factors: dict[FactorColumn, np.ndarray], units: dict[str, str], batch: int
) -> Table[FactorColumn]:
    """Describe the stimuli, with a column for each factor."""
    table = stimuli_table(dataset, batch)
    factors, listed = dict(factors), dict[FactorColumn, Column](table.columns.items())
    for text in ("family", "word"):
        listed[text] = Column(text, dtype="str", values=factors.pop(text))
    words = "share of the image's side within which neurons are read; 0: the one in the middle"
    listed["reach"] = Column(words, dtype="float64", values=factors.pop("reach"))
    for name, values in factors.items():
        words = f"{name}, NaN where there is none"
        listed[name] = Column(words, dtype="float64", unit=units[name], values=values)
    return Table(table.name, table.row, table.rows, listed, table.batch, table.attributes, table.aside)


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers, units and dead units; how sharp and how simple they are, or what can be read out of them."""
    if factors_of(recording):
        return varied_results.headline(recording)
    tables: list[TableView[UnitColumn]] = recording.in_order()
    found: dict[str, Any] = {"layers": len(tables), "units": sum(table.row_count for table in tables)}
    found["dead"] = sum(int(table["dead"].sum()) for table in tables)
    spread = np.concatenate([table["circular_variance"] for table in tables])
    ratio = np.concatenate([table["f1_f0"] for table in tables])
    if np.isfinite(spread).any():
        found["median circular variance"] = float(np.nanmedian(spread))
    if np.isfinite(ratio).any():
        found["simple"] = f"{float((ratio[np.isfinite(ratio)] > 1).mean()):.0%}"
    fits: list[TableView[GaborColumn]] = [recording[name] for name in recording.tables("gabor")]
    if fits:
        kinds = np.concatenate([table["kind"] for table in fits])
        found["Gabors"] = f"{int((kinds == KINDS.index('gabor')).sum())} of {len(kinds)}"
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: by layer the medians over units, or what can be read out of it."""
    if factors_of(recording):
        return varied_results.summary(recording)
    tables: list[TableView[UnitColumn]] = recording.in_order()
    columns = {
        "layer": [table.attributes["layer"] for table in tables],
        "units": [str(table.row_count) for table in tables],
        "dead": [str(int(table["dead"].sum())) for table in tables],
    }
    shown: dict[UnitColumn, str] = {"circular_variance": "circular variance", "bandwidth": "half width (degrees)"}
    shown |= {"preferred_frequency": "frequency (c/px)", "frequency_bandwidth": "octaves", "f1_f0": "F1/F0"}
    for name, word in shown.items():
        columns[word] = [_median(table[name]) for table in tables]
    columns["simple"] = [_share(table["f1_f0"]) for table in tables]
    return columns


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):.3g}" + (f" ({len(known)})" if len(known) < len(values) else "") if len(known) else "-"


def _share(ratio: np.ndarray) -> str:
    known = ratio[np.isfinite(ratio)]
    return f"{(known > 1).mean():.0%}" if len(known) else "-"


def draw(recording: Recording) -> Figures:
    """Per layer the polar curves of all units and all curves of some; histograms of layers; Gabors and their plane.

    Of images that a dataset varies: see `varied_results.draw`.
    """
    if factors_of(recording):
        yield from varied_results.draw(recording)
        return
    from cnnprobe.methods.tuning.figures import polar_sheet, population, unit_curves

    about = recording.attributes
    network = f"{about['model']} (weights: {about['weights']})"
    stimuli: TableView[FactorColumn] = recording["stimuli"]
    if len(stimuli.rows) < stimuli.row_count:  # they come first
        return
    layers = {}
    tables: list[TableView[UnitColumn]] = recording.in_order()
    for table in tables:
        own, layer = table.attributes, table.name.removeprefix("units/")
        if not len(table.rows):
            continue
        design = Design({name: stimuli[name] for name in stimuli}, own["strength"], own["subtract"])
        curves = design.curves(table["curve"])
        title = f"{own['layer']} of {network}, {_reading(own)}"
        if curves.gratings is not None:
            angles, shapes = curves.gratings.orientations, curves.gratings.orientation
            words = [f"{v:.2f}, {w:.0f}°" for v, w in zip(table["circular_variance"], table["bandwidth"])]
            words = [word.replace("nan°", "–").replace("nan", "–") for word in words]
            names = [str(unit) for unit in table["unit"]]
            yield layer, polar_sheet(shapes, angles, names, words, f"Orientation: {title}")
            layers[own["layer"]] = {name: table[name] for name in table}
        rows = _shown(table, curves)
        if rows:
            yield f"{layer}_units", unit_curves(rows, f"Responses of units: {title}")
    if layers:
        yield "population", population(layers, f"Tuning of the units of {network}")
    yield from _gabors(recording, network)


def _reading(own: dict[str, Any]) -> str:
    """Say which neuron answers, and what of its answers."""
    at_centre = "the neuron that looks at the middle of the image"
    which = (
        {"centre": at_centre, "max": "the maximum of the map"}[own["reading"]] if own["map_size"] else "the only neuron"
    )
    kinds = {"mean": "mean over phases", "max": "best phase", "f1": "first harmonic over phases"}
    return f"{which}; gratings: {kinds[own['strength']]}" + (", blank subtracted" if own["subtract"] else "")


def _shown(table: TableView[UnitColumn], curves: Curves) -> list[tuple[str, list[Any]]]:
    """Return the panels of the units requested, or of the first living ones."""
    own, alive = table.attributes, ~table["dead"]
    asked = np.isin(table["unit"], own["pages"]) if own["pages"] != [-1] else alive & (np.cumsum(alive) <= ROWS)
    columns: dict[UnitColumn, np.ndarray] = {name: table[name] for name in table if name != "curve"}
    rows = []
    for row in np.flatnonzero(asked[: len(table.rows)]):
        one = {name: values[row] for name, values in columns.items()}
        name = f"unit {one['unit']}\npeak {one['peak']:.3g}\nblank {one['rest']:.3g}".replace("nan", "–")
        rows.append((name, panels_of(one, curves, int(row))))
    return rows


def panels_of(one: dict[UnitColumn, Any], curves: Curves, row: int) -> list[Any]:
    """Return the panels of one unit.

    Args:
        one: its columns.
        curves: of all units.
        row: its place among them.
    """
    from cnnprobe.methods.tuning.figures import Panel

    found = []
    if (waves := curves.gratings) is not None:
        wide, half = one["bandwidth"], waves.orientation[row].max() / 2
        note = f"best {one['preferred']:.0f}°, ± {wide:.0f}°, var. {one['circular_variance']:.2f}"
        ends = (one["preferred"] - wide, one["preferred"] + wide, half)
        found.append(Panel("line", waves.orientations, waves.orientation[row], "orientation (degrees)", note, ends))
        note = f"best {one['preferred_frequency']:.3f}, {one['frequency_bandwidth']:.1f} octaves"
        ends = (one["frequency_low"], one["frequency_high"], waves.frequency[row].max() / 2)
        found.append(Panel("log", waves.frequencies, waves.frequency[row], "frequency (cycles per px)", note, ends))
        note = f"F1/F0 {one['f1_f0']:.2f}"
        found.append(Panel("line", waves.phases, waves.phase[row], "phase (degrees)", note))
    if curves.contrast is not None:
        contrasts, curve = curves.contrast
        x = np.geomspace(contrasts[0], contrasts[-1], 50)
        fit = naka_rushton(x, curves.rest[row], one["contrast_largest"], one["contrast_half"], one["contrast_exponent"])
        note = f"n {one['contrast_exponent']:.1f}, c50 {one['contrast_half']:.2f}"
        line = (x, fit) if np.isfinite(fit).all() else None
        found.append(Panel("log", contrasts, curve[row], "contrast", note, None, line))
    for name, values in curves.values.items():
        y = curves.others[name][row]
        if name == "bars":  # along the bars, as they lie on the screen
            note = f"best {one['preferred_bar']:.0f}°, var. {one['bars_variance']:.2f}"
            angles = np.concatenate([values + 90, values + 270])
            found.append(Panel("polar", angles, np.tile(y, 2), "bar (along it)", note))
        elif name == "corners":
            note = f"best {one['preferred_direction']:.0f}°, var. {one['corners_variance']:.2f}"
            found.append(Panel("polar", values, y, "corner opens to", note))
        elif name == "colours":
            note = f"best {one['preferred_hue']:.0f}°, var. {one['colours_variance']:.2f}"
            found.append(Panel("hues", values, y, "hue (degrees)", note))
        elif name == "brightness":
            found.append(Panel("line", values, y, "brightness of a disc"))
        else:
            note = f"sparseness {one[WORDS[name][1]]:.2f}"
            found.append(Panel("words", values, y, name, note))
    return [replace(panel, note=panel.note.replace("nan", "–")) for panel in found]


def _gabors(recording: Recording, network: str) -> Figures:
    """Per first layer the filters with their fits, and the plane of shapes."""
    from cnnprobe.methods.tuning.gabor_figures import GaborRow, gabor_sheet, shape_plane

    for name in recording.tables("gabor"):
        table: TableView[GaborColumn] = recording[name]
        layer = name.removeprefix("gabor/")
        if not len(table.rows):
            continue
        kinds, rows = table["kind"], []
        for row in range(len(table.rows)):
            numbers_shown = f"{KINDS[kinds[row]]}, {table['explained'][row]:.2f}"
            if kinds[row] == KINDS.index("gabor"):
                numbers_shown += f", {table['orientation'][row]:.0f}°, {table['frequency'][row]:.2f} c/px"
            note = numbers_shown.replace("nan", "–")
            weights, flat, fit = (table[column][row] for column in ("filter", "plane", "fit"))
            rows.append(GaborRow(str(table["unit"][row]), weights, flat, fit, note))
        title = f"Filters of {table.attributes['layer']} of {network} and the Gabors fitted to them"
        yield f"{layer}_gabors", gabor_sheet(rows, f"{title}\nbelow: kind, explained variance, orientation, frequency")
        fitted = kinds != KINDS.index("other")
        cells, source = np.zeros((0, 2)), ""
        if "cells" in recording:
            given: TableView[CellColumn] = recording["cells"]
            cells, source = np.stack([given["n_x"], given["n_y"]], 1), given.attributes["file"]
        n_x, n_y, symmetry, chromatic = (table[column][fitted] for column in ("n_x", "n_y", "symmetry", "chromatic"))
        words = (
            f"Shapes of the filters of {table.attributes['layer']} of {network}\n{int(fitted.sum())} of {len(kinds)} "
        )
        words += f"are fitted (explained variance {ACCEPTED} or more)"
        yield f"{layer}_shapes", shape_plane(n_x, n_y, symmetry, chromatic > CHROMATIC, cells, words, source)
