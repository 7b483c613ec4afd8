"""Compare layers with a brain, or with other references, by their dissimilarity matrices."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range, Run
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.statistics.dissimilarity import upper
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.rsa.analysis import SAMPLES, LayerColumn, MatrixAnalysis, ReferenceColumn
from cnnprobe.methods.rsa.brain.brain_maps import BrainMaps, MapColumn, searched
from cnnprobe.methods.rsa.brain.drawing import courses, searches, slices, spread
from cnnprobe.methods.rsa.brain.drawing import volumes as volumes
from cnnprobe.methods.rsa.brain.time_courses import TimeCourses
from cnnprobe.methods.rsa.comparing.comparison import MEASURES
from cnnprobe.methods.rsa.inputs import inputs as inputs
from cnnprobe.methods.rsa.inputs import reads as reads
from cnnprobe.methods.rsa.references.conditions import ConditionColumn, PictureColumn
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows

ORDER = 12
"""Its place in the list of commands."""

SHOWN = 36
"""Layers at most whose matrices are drawn."""
COMPARED = 12
"""References at most that are drawn beside the closest layer."""
PLANES = 4
"""References at most whose stimuli are shown in a plane."""
PANELS = 6
"""References up to which each has a panel; more make a map."""
SUBJECTS = 4
"""Subjects at most whose searchlights are drawn; the files in `maps` are of all."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str] | None,
    reference: Run | list[str] | None,
    reference_axes: list[Literal["subject", "session", "time", "region", "stimulus", "pair"]] | None,
    order: Run | None,
    conditions: Literal["image", "class"],
    metric: Literal["correlation", "spearman", "euclidean", "cosine", "mahalanobis", "crossnobis"],
    comparison: Literal["spearman", "pearson", "kendall", "cosine", "rho-a"],
    controls: list[Literal["pixels", "random"]] | None,
    bootstrap: Annotated[int, Range(0, 100000)],
    over: Literal["conditions", "subjects", "both"],
    permutations: Annotated[int, Range(0, 1000000)],
    searchlight: Run | list[str] | None,
    mask: Run | None,
    radius: Annotated[float, Range(above=0)] | str,
    sphere: Literal["open", "closed"],
    min_voxels: Annotated[float, Range(0)] | Literal["all"],
) -> Measurement:
    """Make the dissimilarity matrix of every layer and compare it with references.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; None: areas, or convolutions and dense layers; and the logits.
        reference: see `references.given.given_references`; on the command line see `references.named.load`.
        reference_axes: what the axes of a reference beside its conditions are, or all its axes.
        order: of the rows of files without names; it says how the files of the command line are read, see
            `references.matching.rows_of`.
        conditions: every image by itself, or classes with their images as repeats.
        metric: of dissimilarity, see `statistics.dissimilarity` and `noise_distances`.
        comparison: of matrices, see `comparing.comparison`.
        controls: rows beside the layers: the pixels, the same layers with random weights.
        bootstrap: draws behind the intervals, see `matrix_uncertainty`.
        over: what is drawn again.
        permutations: of the conditions' labels, behind p; and of the signs of the maps of several subjects, at most.
        searchlight: volumes of a brain, see `brain.brain_maps.BrainMaps`; on the command line `brain.volumes.subjects`.
        mask: bool (x, y, z); on the command line a file, see `brain.volumes.mask`.
        radius: of the sphere, see `brain.brain_maps.radius_of`.
        sphere: whether its surface belongs to it (closed) or not.
        min_voxels: of a sphere that must lie inside the mask: a number, a share below 1, or all.

    Returns:
        tables "layers", "references", "differences", "conditions", "stimuli", "pictures"; "courses", "moments" and
        "regions" of each reference with times or regions; "searchlight" of each volume, their "masks", and "group".

    Raises:
        UserError: no such layer, a reference or a volume that does not fit, or fewer than 3 conditions.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    if mask is not None and searchlight is None:
        raise UserError("mask= is of the volumes of searchlight=…, which is missing")
    analysis = MatrixAnalysis(
        model, _layers(model, layer, dataset.size), dataset, reference, reference_axes, tuple(controls or ()),
        conditions == "class", metric, comparison, bootstrap, over, permutations, computation,
    )  # fmt: skip
    names, kinds = ([getattr(row, word) for row in analysis.rows] for word in ("name", "kind"))
    further: list[TimeCourses | BrainMaps] = [
        TimeCourses(analysis.references, names, kinds, comparison, bootstrap, over, computation.seed)
    ]
    if searchlight is not None:
        further.append(
            BrainMaps(searchlight, mask, names, kinds, analysis.count, metric, comparison, radius, sphere == "closed",
                      min_voxels, permutations, computation.seed)
        )  # fmt: skip

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        yield from analysis.events(resumed.unfinished)
        for one in further:
            yield from one.events(upper(analysis.matrices), resumed.unfinished)

    tables = [table for one in (analysis, *further) for table in one.tables()]
    return Measurement(tables, events(), len(dataset), "images")


def _layers(model: nn.Module, spec: str | list[str] | None, size: tuple[int, ...]) -> list[Layer]:
    if spec is not None:
        return find(model, spec, size)
    main, (output,) = main_layers(model, size), find(model, "logits", size)
    named = [name for name in about(model).aliases if not re.fullmatch(r"conv\d+", name)]
    if named:  # areas, not every connection between them
        places = {layer.tap: place for place, layer in enumerate(main)}
        main = sorted(find(model, named, size), key=lambda layer: places.get(layer.tap, len(places)))
    elif main and main[-1].kind == "linear" and main[-1].channels == output.channels:
        main.pop()  # the output by another name
    return find(model, [*(layer.name for layer in main), "logits"], size)


def headline(recording: Recording) -> dict[str, Any]:
    """Say which layer is closest to each reference, and how close."""
    table: TableView[LayerColumn] = recording["layers"]
    conditions: TableView[ConditionColumn] = recording["conditions"]
    own = np.flatnonzero(table["kind"] == "layer")
    found: dict[str, Any] = {"layers": len(own), "conditions": len(conditions["name"])}
    if searches(recording):
        found |= searched(recording["masks"], [recording[name] for name in searches(recording)])
    if "references" in recording:
        references: TableView[ReferenceColumn] = recording["references"]
        for place, name in enumerate(references["name"][:4]):
            values = table["similarity"][own, place]
            if np.isfinite(values).any():
                best = own[np.nanargmax(values)]
                found[f"closest to {name}"] = f"{table['name'][best]} ({table['similarity'][best, place]:.3f})"
    for name in ["group"] if "group" in recording else searches(recording)[:SUBJECTS]:
        maps: TableView[MapColumn] = recording[name]
        best = _best(maps["peak"], maps["kind"] == "layer")
        if best is not None:
            found[f"peak in {name.rpartition('/')[2]}"] = f"{maps['name'][best]} ({maps['peak'][best]:.3f})"
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: the closest layer to each reference, beside controls and noise ceiling."""
    if "references" not in recording:
        return {}
    table: TableView[LayerColumn] = recording["layers"]
    references: TableView[ReferenceColumn] = recording["references"]
    kinds, names, similarity = table["kind"], table["name"], table["similarity"]
    columns: dict[str, list[str]] = {"reference": [str(name) for name in references["name"]]}
    closest = [_best(similarity[:, place], kinds == "layer") for place in range(len(references["name"]))]
    low, high, p = table["similarity_low"], table["similarity_high"], table["p_corrected"]
    columns["closest layer"] = ["-" if row is None else str(names[row]) for row in closest]
    columns[table.attributes["comparison"]] = [
        "-" if row is None else f"{similarity[row, n]:.3f}{_interval(low[row, n], high[row, n])}"
        for n, row in enumerate(closest)
    ]
    columns["p, corrected"] = ["-" if row is None else f"{p[row, n]:.3g}" for n, row in enumerate(closest)]
    for kind, words in (("random", "random weights, best"), ("pixels", "pixels")):
        if (kinds == kind).any():
            rows = [_best(similarity[:, place], kinds == kind) for place in range(len(closest))]
            columns[words] = ["-" if row is None else f"{similarity[row, n]:.3f}" for n, row in enumerate(rows)]
    if references.has("rows"):  # a store may be older
        columns["rows"] = [str(words) for words in references["rows"]]
        columns["axes"] = [str(words) or "-" for words in references["axes"]]
    ends = zip(references["noise_lower"], references["noise_upper"], references["subjects"])
    alone = {1: "one subject"}
    columns["noise ceiling"] = [f"{a:.3f} to {b:.3f}" if np.isfinite(a) else alone.get(n, "-") for a, b, n in ends]
    return columns


def _interval(low: float, high: float) -> str:
    """Return " (low to high)"; nothing where it is not known."""
    return f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""


def _best(values: np.ndarray, rows: np.ndarray) -> int | None:
    """Return the row with the largest value among some rows; None where there is none."""
    known = np.flatnonzero(rows & np.isfinite(values))
    return int(known[values[known].argmax()]) if len(known) else None


def draw(recording: Recording) -> Figures:
    """Matrices in one scale; the closest layer beside each reference; similarity by layer; stimuli in a plane."""
    table, about = recording["layers"], recording.attributes
    if not len(table.rows):  # they come last, all at once
        return
    title = f"{about['model']} (weights: {about['weights']}) on {about['dataset']}"
    yield from _matrices(recording, title)
    if "references" in recording:
        yield from _similarity(recording, table.attributes["comparison"], title)
    yield from _embedding(recording, title)
    for name in recording.tables():
        if not len(recording[name].rows):
            continue
        if name.startswith("courses/"):
            yield from courses(recording, name.partition("/")[2], title)
        elif name == "group" or name in searches(recording)[:SUBJECTS]:
            yield from slices(recording, name, title)


def _matrices(recording: Recording, title: str) -> Figures:
    from cnnprobe.methods.rsa.figures.matrices import matrix_grid, matrix_pair

    table: TableView[LayerColumn] = recording["layers"]
    conditions: TableView[ConditionColumn] = recording["conditions"]
    order, sorted_by = _order(conditions["label"])
    names, kinds, matrices = table["name"], table["kind"], table["rdm"][:, order][:, :, order]
    shown = spread(np.flatnonzero(kinds != "random"), SHOWN)
    words, found = [str(names[row]) for row in shown], [matrices[row] for row in shown]
    pictures = _pictures(recording, order)
    of = "classes" if table.attributes["conditions"] == "class" else "stimuli"
    title = f"Dissimilarity ({table.attributes['metric']}) of {len(order)} {of}{sorted_by}: {title}"
    if "references" in recording:
        references: TableView[ReferenceColumn] = recording["references"]
        if len(references["name"]) > COMPARED:
            title += f"\nthe first {COMPARED} of {len(references['name'])} references"
        others = references["rdm"][:COMPARED, order][:, :, order]
        words = [f"reference:\n{name}" for name in references["name"][:COMPARED]] + words
        found = [*others, *found]
        for place, (name, other) in enumerate(zip(references["name"], others)):
            best = _best(table["similarity"][:, place], kinds == "layer")
            if best is not None:
                pair = f"{name} (reference)", f"{names[best]}, the closest layer"
                told = [f"{word}: {references[word][place] or '-'}" for word in ("rows", "axes") if word in references]
                read = "\n".join([title, *(["reference: " + "; ".join(told)] if told else [])])
                yield f"closest-{place + 1}", matrix_pair((other, matrices[best]), pair, pictures, read)
    yield "matrices", matrix_grid(np.stack(found), words, title)


def _order(labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the order of conditions in a figure, by class where there are several, and what to say of it."""
    if len(np.unique(labels[labels >= 0])) < 2:
        return np.arange(len(labels)), ""
    return np.argsort(np.where(labels < 0, labels.max() + 1, labels), kind="stable"), " sorted by class"


def _pictures(recording: Recording, order: np.ndarray) -> np.ndarray | None:
    """Return a picture of each condition in this order; None where not every one has one."""
    if "pictures" not in recording:
        return None
    pictures: TableView[PictureColumn] = recording["pictures"]
    return pictures["pixels"][order] if len(pictures["pixels"]) >= len(order) else None


def _similarity(recording: Recording, comparison: str, title: str) -> Figures:
    from cnnprobe.methods.rsa.figures.matrices import Curve, Panel, similarity_by_layer

    table: TableView[LayerColumn] = recording["layers"]
    references: TableView[ReferenceColumn] = recording["references"]
    kinds = table["kind"]
    columns = {name: table[name] for name in ("similarity", "similarity_low", "similarity_high", "p_corrected")}
    layers, names = np.flatnonzero(kinds == "layer"), references["name"]
    title = f"Similarity of dissimilarity matrices: {title}"
    shown = [str(name) for name in table["name"][layers]]
    if len(names) > PANELS:
        from cnnprobe.methods.rsa.figures.time_maps import region_map

        p = columns["p_corrected"][layers]
        drawn = region_map(columns["similarity"][layers], shown, list(names), title, MEASURES[comparison], p)
        yield "similarity", drawn
        return

    def curve(rows: np.ndarray, place: int) -> Curve:
        return Curve(*(values[rows, place] for values in columns.values()))

    panels, random = [], np.flatnonzero(kinds == "random")
    for place, name in enumerate(names):
        pixels = columns["similarity"][kinds == "pixels", place]
        count = references["subjects"][place]
        people = f" ({count} subjects)" if count > 1 else "" if count else " (no values)"
        ceiling = references["noise_lower"][place], references["noise_upper"][place]
        panels.append(
            Panel(f"{name}{people}", curve(layers, place), curve(random, place) if len(random) else None,
                  pixels[0] if len(pixels) else np.nan, ceiling)
        )  # fmt: skip
    sample = SAMPLES[table.attributes["over"]]
    yield "similarity", similarity_by_layer(panels, shown, MEASURES[comparison], title, sample)


def _embedding(recording: Recording, title: str) -> Figures:
    from cnnprobe.methods.rsa.figures.embedding import embedding_panels

    table: TableView[LayerColumn] = recording["layers"]
    conditions: TableView[ConditionColumn] = recording["conditions"]
    own = np.flatnonzero(table["kind"] == "layer")
    rows, shown = [own[0], own[-1]], []
    if "references" in recording:
        references: TableView[ReferenceColumn] = recording["references"]
        first = range(min(PLANES, len(references["name"])))
        best = [_best(table["similarity"][:, place], table["kind"] == "layer") for place in first]
        rows = [row for row in best if row is not None] + rows
        panels = zip(references["embedding"][:PLANES], references["stress"], references["name"])
        # categories are piles, not places
        shown = [(points, stress, f"{name} (reference)") for points, stress, name in panels
                 if len(np.unique(points.round(4), axis=0)) > len(points) / 2]  # fmt: skip
    shown += [(table["embedding"][row], table["stress"][row], str(table["name"][row])) for row in dict.fromkeys(rows)]
    points, stress, words = zip(*shown)
    if not np.isfinite(points).any():
        return
    what = "Stimuli in a plane, close together where their patterns are similar (metric scaling)"
    labels = [str(name) for name in conditions["name"]]
    pictures = _pictures(recording, np.arange(len(labels)))
    yield "embedding", embedding_panels(points, stress, words, pictures, f"{what}: {title}", labels)
