"""Find the frequencies on which each unit depends: perturb the spectrum of images or signals, measure the change."""

import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.gradients.arrival import arrives
from cnnprobe.instruments.images.batches import batches, readable
from cnnprobe.instruments.images.stimuli_table import say_classes, shared_classes, skipped_rows, stimuli_table
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.perturb.bands import OPPONENT, Bands, image_bands, signal_bands
from cnnprobe.methods.perturb.mapping import NULL, Chance, LayerColumn, SpectralFields, UnitColumn
from cnnprobe.methods.perturb.perturbation import KINDS, Kind, Noise, Showing, Trials, deviation
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table

LOG = logging.getLogger("cnnprobe")
ORDER = 10
"""Its place in the list of commands."""
RINGS = 6
"""Bands of spatial frequency where none are requested."""
SLOPES = 16
"""Signals at which gradients are taken where nothing else is requested."""
SEEN = 256
"""Signals from which the standard deviation is taken."""
BandColumn = Literal["frequency", "orientation", "low", "high", "entries"]
"""Columns of the table "axes"."""
AccuracyColumn = Literal["perturbation", "accuracy", "kept", "images"]
"""Columns of the table "accuracy"."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str],
    units: str | int | list[int | str],
    kind: Literal["amplitude", "phase", "both"],
    bands: Annotated[int, Range(1, 100000)] | list[Annotated[float, Range(0)]] | None,
    orientations: Annotated[int, Range(1, 180)],
    spacing: Literal["linear", "octave"],
    colour: Literal["luminance", "opponent"],
    noise: Literal["additive", "gain"] | None,
    scale: Annotated[float, Range(above=0)] | None,
    draws: Annotated[int, Range(1, 100000)],
    permutations: Annotated[int, Range(0, 100000)],
    level: Annotated[float, Range(above=0, below=1)],
    gradient_images: Annotated[int, Range(0)] | None,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
) -> Measurement:
    """Correlate random changes of the spectrum with what they do to units (Hartmann, Schirrmeister, Ball 2018).

    Amplitude: noise on the amplitude of every band and channel; the response of a unit is the change of the mean of its
    map, perturbed minus original. Phase: every band turned by an angle uniform from -pi to pi, the same in all
    channels; the response is the correlation of the perturbed map with the original, the perturbation |angle|. Both are
    correlated over images, and the correlations averaged over draws of the noise.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; all are read in one pass.
        units: channels of each layer.
        kind: what is perturbed.
        bands, orientations, spacing: see `bands`.
        colour: of images: one gain for all channels, or one for each of luminance, red-green and yellow-blue.
        noise: amplitudes get normal noise added and are cut at 0, or are multiplied by its exponential. What is
            correlated is the noise as it was drawn.
        scale: standard deviation of the noise; of added noise in amplitudes of signals of standard deviation 1.
        draws: perturbations of each image in each way.
        permutations: of the images, from which null levels come.
        level: how often chance exceeds a null level, in any band.
        gradient_images: at which the gradient is also taken; None: 16 of signals, 0 of images.
        pages: units to show in full; None: the most strongly moved ones.

    Returns:
        one table "units/<layer>" per layer, "layers", "axes" (the bands), "accuracy" and "stimuli".

    Raises:
        UserError: no such layer or unit, or bands or colours that such images do not have.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    seed = computation.seed
    layers = find(model, layer, dataset.size)
    chosen = {one.name: units_of(one, units) for one in layers}
    asked = [pages] if isinstance(pages, int) else list(pages or [])
    if absent := [page for page in asked if not any(page in own for own in chosen.values())]:
        raise UserError(f"pages={absent[0]}: that unit is not among those measured")
    if len(dataset) < 3:
        raise UserError(f"perturb correlates over images: 3 or more are needed, got {len(dataset)}")
    flat = len(dataset.size) == 2
    if colour == "opponent" and (flat or dataset.size[0] != 3):
        raise UserError(f"colour=opponent needs images of 3 channels, got {'x'.join(map(str, dataset.size))}")
    places = _bands(dataset, bands, orientations, spacing)
    noise = noise or ("additive" if flat else "gain")

    def loaded(start: int = 0, count: int = len(dataset)) -> Iterator[Any]:
        return batches(dataset, **computation.loading, start=start, indices=np.arange(min(count, len(dataset))))

    unit = deviation(loaded(count=SEEN)) if noise == "additive" else 1.0
    scale = scale or (1.0 if noise == "additive" else 0.15)
    groups = dataset.size[0] if flat else 3 if colour == "opponent" else 1
    added = noise == "additive"
    if added and not flat and groups != dataset.size[0]:
        raise UserError("noise=additive has noise for each channel: it is for signals; images take noise=gain")
    kinds: tuple[Kind, ...] = KINDS if kind == "both" else (kind,)
    how = Noise(
        places.to(computation.device),
        kinds,
        groups,
        not added,
        scale * unit,
        colour == "opponent",
        draws,
        seed,
    )
    _check_room(how, len(dataset))
    slopes = (SLOPES if flat else 0) if gradient_images is None else gradient_images
    test = Chance(permutations, level, seed)
    grows = slopes > 0 and "amplitude" in kinds
    fields = [SpectralFields(one, chosen[one.name], how, test,
                             grows and arrives(model, one, dataset.size, "the gradient"),
                             _nyquist(one, dataset)) for one in layers]  # fmt: skip
    known = outputs_of(model, dataset.size, provided.classes, dataset).tell()
    say_classes(provided.classes, dataset, known.classes)
    about = {"draws": draws, "noise": noise, "scale": scale, "deviation": unit, "level": level, "seed": seed,
             "permutations": permutations, "kinds": " ".join(kinds), "pages": asked,
             "channels": json.dumps(_channels(dataset, colour))}  # fmt: skip
    tables: list[Table[Any]] = [one.table(about | {"order": place}) for place, one in enumerate(fields)]
    tables += [_layers_table(fields, how), _axes_table(places, dataset), _accuracy_table(kinds)]
    passes = len(dataset) * (1 + len(how.passes()))

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        trials = Trials.empty(how, chosen, len(dataset), known)
        yield Phase("perturbing", passes, "images")
        yield from Showing(model, layers, chosen, how, decide=True).run(loaded, trials, resumed.unfinished)
        for place, one in enumerate(fields):
            yield Phase(f"correlations of {one.layer.name}", len(one.units), "units")
            images = readable(loaded(count=slopes)) if one.gradients else None
            yield from one.events(trials, model, images, resumed.unfinished)
            yield Rows("layers", place, {name: np.asarray(values)[None] for name, values in one.found.items()})
        yield Rows("accuracy", 0, _accuracies(trials, kinds, dataset, provided.classes))
        yield from skipped_rows(trials.skipped, computation.batch_size)

    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), passes)


def _bands(dataset: ImageSet, bands: int | list[float] | None, orientations: int, spacing: str) -> Bands:
    if len(dataset.size) == 2:
        return signal_bands(dataset.size[1], getattr(dataset, "rate", None), bands)
    return image_bands((dataset.size[1], dataset.size[2]), bands or RINGS, orientations, spacing)


def _check_room(how: Noise, images: int) -> None:
    """Refuse what would not fit into memory."""
    from cnnprobe.machine.memory import free_memory

    needed = images * how.draws * len(how.bands) * (how.groups + 1) * 12  # bytes: once float32, once float64
    free = free_memory(torch.device("cpu"))
    if needed > free / 2:
        raise UserError(
            f"{len(how.bands)} bands of {how.groups} channels, {how.draws} draws and {images} images need "
            f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; fewer bands=, draws= or limit="
        )


def _nyquist(layer: Layer, dataset: ImageSet) -> float:
    """Return half the rate at which a layer's positions sample the image; NaN where it has no positions."""
    stride = max(map(abs, layer.field.stride), default=0) if layer.map_size else 0
    rate = (getattr(dataset, "rate", None) if len(dataset.size) == 2 else None) or 1.0
    return rate / 2 / stride if stride else float("nan")


def _channels(dataset: ImageSet, colour: str) -> list[str]:
    if len(dataset.size) == 2:
        return list(dataset.channel_names or map(str, range(dataset.size[0])))
    return list(OPPONENT) if colour == "opponent" else ["all"]


def _layers_table(fields: list[SpectralFields], how: Noise) -> Table[LayerColumn]:
    names = np.array([one.layer.name for one in fields], dtype=object)
    columns: dict[LayerColumn, Column] = {
        "name": Column("of the layer", dtype="str", values=names),
        "nyquist": Column("half the rate of the layer's positions, NaN where it has none", unit=how.bands.unit,
                          values=np.array([one.nyquist for one in fields], np.float32)),
        "units": Column("how many were measured", dtype="int64", values=np.array([len(f.units) for f in fields])),
    }  # fmt: skip
    for kind in how.kinds:
        wide = ("band channel", (len(how.bands), how.groups)) if kind == "amplitude" else ("band", (len(how.bands),))
        columns[kind] = Column(f"mean over units of |{kind}|", *wide)
        columns[NULL[kind]] = Column("what chance exceeds anywhere in a share `level` of permutations")
    return Table("layers", "layer", len(fields), columns, 1)


def _axes_table(places: Bands, dataset: ImageSet) -> Table[BandColumn]:
    columns: dict[BandColumn, Column] = {
        "frequency": Column("centre of the band", unit=places.unit, values=places.frequency),
        "orientation": Column("of the wave's normal, y downwards; NaN for signals", unit="degrees",
                              values=places.orientation),
        "low": Column("lower edge", unit=places.unit, values=places.low),
        "high": Column("upper edge", unit=places.unit, values=places.high),
        "entries": Column("entries of the Fourier transform", dtype="int64", values=places.entries),
    }  # fmt: skip
    planted = [list(one) for one in getattr(dataset, "planted", ())]
    own = {"unit": places.unit, "planted": json.dumps(planted), "size": list(dataset.size)}
    return Table("axes", "band", len(places), columns, attributes=own)


def _accuracy_table(kinds: tuple[Kind, ...]) -> Table[AccuracyColumn]:
    names = np.array(["none", *kinds], dtype=object)
    columns: dict[AccuracyColumn, Column] = {
        "perturbation": Column("what was perturbed, in the first draw", dtype="str", values=names),
        "accuracy": Column("share of labelled images decided rightly, NaN where that is unknown"),
        "kept": Column("share of images decided as without perturbation, NaN where nothing is decided"),
        "images": Column("how many were decided", dtype="int64"),
    }
    return Table("accuracy", "perturbation", len(names), columns, batch=len(names), aside=True)


def _accuracies(
    trials: Trials, kinds: tuple[Kind, ...], dataset: ImageSet, classes: tuple[str, ...]
) -> dict[AccuracyColumn, np.ndarray]:
    """Return what the perturbations cost."""
    plain = trials.decisions["none"]
    decided = plain >= 0
    labelled = decided & (dataset.labels >= 0) & shared_classes(classes, dataset, trials.outputs)
    rows = [trials.decisions[kind] for kind in ("none", *kinds)]

    def share(right: np.ndarray, among: np.ndarray) -> float:
        return float(right[among].mean()) if among.any() else float("nan")

    return {
        "accuracy": np.array([share(one == dataset.labels, labelled) for one in rows], np.float32),
        "kept": np.array([share(one == plain, decided) for one in rows], np.float32),
        "images": np.full(len(rows), decided.sum()),
    }


def headline(recording: Recording) -> dict[str, Any]:
    """Count units, and say what the perturbations cost in accuracy."""
    tables = recording.in_order()
    found: dict[str, Any] = {"layers": len(tables), "units": sum(table.row_count for table in tables)}
    cost: TableView[AccuracyColumn] = recording["accuracy"]
    for name, accuracy, kept in zip(cost["perturbation"], cost["accuracy"], cost["kept"]):
        if name == "none" and np.isfinite(accuracy):
            found["accuracy"] = float(accuracy)
        elif name != "none" and np.isfinite(kept):
            right = f", accuracy {accuracy:.4f}" if np.isfinite(accuracy) else ""
            found[f"{name} noise"] = f"keeps {kept:.4f} of the decisions{right}"
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: by layer, units moved beyond chance, and the strongest band of each kind."""
    from cnnprobe.plots.style import number

    tables: list[TableView[UnitColumn]] = recording.in_order()
    axes: TableView[BandColumn] = recording["axes"]
    layers: TableView[LayerColumn] = recording["layers"]
    columns = {
        "layer": [table.attributes["layer"] for table in tables],
        "units": [str(table.row_count) for table in tables],
        "dead": [str(int(table["dead"].sum())) for table in tables],
    }
    kinds: list[Kind] = tables[0].attributes["kinds"].split()
    for kind in kinds:
        moved = [_largest(table[kind]) > table[NULL[kind]] for table in tables]
        columns[f"{kind}: above chance"] = [str(int(one.sum())) for one in moved]
        columns["strongest" if kind == "amplitude" else "strongest phase"] = [
            _strongest(row, axes) for row in layers[kind]
        ]
    return columns | {f"Nyquist ({axes.attributes['unit']})": [number(value) for value in layers["nyquist"]]}


def _largest(values: np.ndarray) -> np.ndarray:
    flat = np.abs(values.reshape(len(values), -1))
    return np.max(flat, axis=1, initial=0.0, where=np.isfinite(flat))


def _strongest(values: np.ndarray, axes: TableView[BandColumn]) -> str:
    flat = np.where(np.isfinite(values), values, -1).reshape(len(axes["frequency"]), -1)
    if flat.max() <= 0:
        return "-"
    band, channel = np.unravel_index(flat.argmax(), flat.shape)
    turn = axes["orientation"][band]
    where = f", {turn:g}°" if np.isfinite(turn) else f", channel {channel}" if flat.shape[1] > 1 else ""
    edges = f"{axes['low'][band]:.3g}-{axes['high'][band]:.3g} {axes.attributes['unit']}"
    return f"{edges}{where}: {flat.max():.3f}"


def draw(recording: Recording) -> Figures:
    """Per layer unit x frequency, and channel x frequency (signals) or polar fields (images); all against depth."""
    from cnnprobe.methods.perturb import figures

    axes: TableView[BandColumn] = recording["axes"]
    about = recording.attributes
    bands = figures.Axes(
        frequency=axes["frequency"],
        orientation=axes["orientation"],
        edges=np.stack([axes["low"], axes["high"]], 1),
        unit=axes.attributes["unit"],
        planted=json.loads(axes.attributes["planted"]),
    )
    tables: list[TableView[UnitColumn]] = recording.in_order()
    layers: TableView[LayerColumn] = recording["layers"]
    for place, table in enumerate(tables):
        if len(table.rows) < table.row_count or len(layers.rows) <= place:
            continue
        own = table.attributes
        kinds: list[Kind] = own["kinds"].split()
        title = f"{own['layer']} of {about['model']} (weights: {about['weights']}), {about['dataset']}"
        fields = {kind: table[kind] for kind in kinds}
        nulls = {kind: table[NULL[kind]] for kind in fields}
        shown = figures.Units(table["unit"], fields, nulls, json.loads(own["channels"]), own["pages"])
        name = table.name.removeprefix("units/")
        yield f"{name}_units", figures.unit_matrix(shown, bands, own["nyquist"], title)
        if "amplitude" not in fields:
            continue
        if bands.flat:
            means = layers["amplitude"][place], float(layers["amplitude_null"][place])
            yield f"{name}_channels", figures.channel_maps(shown, bands, means, title)
        else:
            yield f"{name}_fields", figures.polar_fields(shown, bands, title)
    if len(layers.rows) == layers.row_count:
        kinds = tables[0].attributes["kinds"].split()
        values = {kind: layers[kind] for kind in kinds}
        title = f"{about['model']} (weights: {about['weights']}), {about['dataset']}"
        yield "depth", figures.depth(list(layers["name"]), values, layers["nyquist"], bands, title)
