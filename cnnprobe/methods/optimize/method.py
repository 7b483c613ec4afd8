"""Make the image that each unit prefers, by gradient ascent on its response."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range, Run
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.image_statistics import Statistics, measured
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.images.thumbnails import picture_size
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.snapshots import half_time
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.outputs.kinds import class_scores
from cnnprobe.instruments.ranking.best_worst import check_ends, ends_of, ranked
from cnnprobe.instruments.ranking.strongest import BEST, Search
from cnnprobe.instruments.ranking.top_k import Ranked
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.optimize import rendered_results
from cnnprobe.methods.optimize.ascent.presets import Changes, Settings
from cnnprobe.methods.optimize.columns import PreferredColumn
from cnnprobe.methods.optimize.control.session import controlled
from cnnprobe.methods.optimize.inputs import inputs as inputs
from cnnprobe.methods.optimize.inputs import reads as reads
from cnnprobe.methods.optimize.mapping import AscentSettings, Preferring, strongest
from cnnprobe.methods.optimize.rendered import makes_no_ascent, render
from cnnprobe.methods.optimize.targets import OF_UNITS, targets
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows
from cnnprobe.store.unfinished import Unfinished

ORDER = 8
"""Its place in the list of commands."""
BUILT_FROM = ("topk", "record")
"""Commands whose runs `source=` may name."""
MOMENTS = True
"""It follows several moments of learning."""

LOOK = 500
"""Images at most from which colours and amplitudes of the dataset are taken."""
ROWS = 16
"""Units shown beside their strongest images."""
COMPARED = 4
"""Units whose images by several presets and starts are shown."""
Preset = Literal[
    "standard", "yosinski-1", "yosinski-2", "yosinski-3", "yosinski-4", "pytorch-cnn-visualizations", "olah-2017",
    "lucid", "simonyan", "maco",
]  # fmt: skip


def compute(
    provided: Provided,
    *,
    layer: str | list[str] | None,
    units: str | int | list[int],
    objective: Literal[
        "channel", "neuron", "group", "direction", "class", "contrast", "layer", "stretch", "one-hot", "rendered"
    ],
    position: list[Annotated[int, Range(0)]] | None,
    groups: list[list[Annotated[int, Range(0)]]] | None,
    group_weights: list[list[float]] | None,
    pooling: Literal["mean", "log-sum-exp", "min"],
    direction: str | list[float] | list[list[float]] | None,
    preset: Preset | list[Preset],
    changes: Changes,
    starts: Annotated[int, Range(1, 1000)],
    natural: bool,
    top_images: Annotated[int, Range(1, 1000)],
    picture: Annotated[int, Range(8, 1024)] | None,
    source: Run | None,
    brain: Run | None,
    brain_layer: str | None,
    along: Literal["dimensions", "components"],
) -> Measurement:
    """Make the preferred image of every unit: activation maximisation (Erhan et al. 2009), regularised.

    All units of a layer climb together, see `ascent.rows`. Objectives are those of `ascent.objectives`, settings
    those of `ascent.presets`.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; None: the output, for objective="class".
        units: channels of each layer, "best:8" and "worst:8" by gain; members of the group where no groups are given.
        objective, position, groups, group_weights, pooling, direction: what climbs.
        preset: settings by name; the image kept comes from the first, the others stand beside it.
        changes: what replaces values of the presets.
        starts: images per unit.
        natural: whether the strongest natural images are found.
        top_images: how many per unit.
        picture: longer side of their stored pictures, px; None: as large as 128 MB allow.
        source: a run of topk or record that has them.
        brain, brain_layer: the second network of stretch and one-hot (`model`, and `size` of its inputs), and its
            layer, whose channels are `units`.
        along: the directions that objective="rendered" moves.

    Returns:
        one table "units/<layer>" per layer, and "stimuli".

    Raises:
        UserError: no such layer, unit, class or preset, or options that do not go together.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    given: dict[str, Any]
    if objective == "rendered":
        given = {"position": position, "groups": groups, "group_weights": group_weights, "pooling": pooling}
        given |= {"direction": direction, "preset": preset, "starts": starts, "natural": natural, "picture": picture}
        makes_no_ascent(given | {"brain": brain, "brain_layer": brain_layer} | vars(changes))
        return render(provided, layer, units, top_images, source, along)
    if along != "dimensions":
        raise UserError(f"along={along} is of objective=rendered, got objective={objective}")
    names = [preset] if isinstance(preset, str) else list(dict.fromkeys(preset))
    presets: dict[str, Settings] = {name: changes.of(name) for name in names}
    if changes.diversity and starts < 2:
        raise UserError("diversity is between the images of one unit: starts must be 2 or more")
    layers = _layers(model, layer, objective, dataset.size)
    control = controlled(objective, brain, brain_layer, units, layers)
    ends = ends_of(units)
    of_layer = objective in (*OF_UNITS, "group")
    spec = "all" if ends else units
    chosen = {one.name: units_of(one, spec) if of_layer else np.zeros(0, np.int64) for one in layers}
    if ends:
        if objective not in OF_UNITS or not natural:
            raise UserError(f"units={units} ranks units by their gain over natural images: with objective={objective}, "
                            f"natural={str(natural).lower()} there is none")  # fmt: skip
        check_ends(ends, units, min(map(len, chosen.values())))
    k = min(top_images, len(dataset)) if natural else 0
    search = _search(model, layers, chosen, k, dataset, source, objective)
    how = AscentSettings(model, dataset, computation, presets, starts, provided.moments)
    given = {"position": position, "groups": groups, "group_weights": group_weights, "pooling": pooling}
    given |= {"direction": direction, "control": control}
    classes = provided.classes or tuple(dataset.classes)
    rows = [targets(one, chosen[one.name], objective, given, classes) for one in layers]
    small = picture_size(dataset.size, sum(len(ids) for _, ids, _ in rows) * max(k, 1), picture)
    small = small if len(dataset.size) == 3 else tuple(dataset.size)
    kept = resumed.facts
    made = []
    for one, (climbed, ids, aside) in zip(layers, rows):
        most = kept.get("rows", {}).get(one.name)
        count = sum(number for _, number in ends) if ends else None
        made.append(Preferring(how, one, climbed, ids, k, small, aside, most, control.get(one.name), count))

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        def every(start: int) -> Iterator[Batch]:
            return batches(dataset, **computation.loading, start=start)

        how.statistics = yield from _statistics(dataset, presets, computation)
        for one in made:
            if one.control:
                one.objective = yield from one.control.learn(
                    model, one.layer, every, len(dataset), computation.seed, resumed.unfinished
                )
        found, skipped = yield from _natural(search, made, every, k, len(dataset), resumed.unfinished)
        yield from skipped_rows(skipped, computation.batch_size)
        for one in made:
            already, own = resumed.finished.get(one.name, frozenset()), found.get(one.layer.name)
            if ends and one.layer.name not in kept.get("ranked", {}):
                scores = yield from one.scores(found[one.layer.name], resumed.unfinished)
                kept.setdefault("ranked", {})[one.layer.name] = ranked(np.arange(len(one.ids)), scores, ends)
            for event in one.events(own, already, kept.get("ranked", {}).get(one.layer.name), resumed.unfinished):
                if one.carried.most < one.first:
                    kept.setdefault("rows", {})[one.layer.name] = one.carried.most
                yield event

    about = {"objective": objective, "preset": next(iter(presets)), "image_size": list(dataset.size), "starts": starts}
    tables = [one.table(about | {"order": place}) for place, one in enumerate(made)]
    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), LOOK, "images", kept)


def _layers(model: nn.Module, asked: str | list[str] | None, objective: str, size: tuple[int, ...]) -> list[Layer]:
    if asked is None and objective != "class":
        names = [one.name for one in main_layers(model, size)]
        raise UserError(f"needs layer=…; layers of the model: {listing(names)}")
    return [class_scores(model, size)] if asked is None else find(model, asked, size)


def _search(
    model: nn.Module,
    layers: list[Layer],
    chosen: dict[str, np.ndarray],
    k: int,
    dataset: ImageSet,
    source: Recording | None,
    objective: str,
) -> Search | None:
    """Return the search for natural images where rows are units; None where none is requested, or rows are not."""
    if source is not None and (objective not in OF_UNITS or not k):
        raise UserError(f"source= has the images of single units, not of objective={objective} with natural={k > 0}")
    return Search(model, layers, chosen, k, len(dataset), source) if k and objective in OF_UNITS else None


def _natural(
    search: Search | None,
    made: list[Preferring],
    every: Callable[[int], Iterator[Batch]],
    k: int,
    images: int,
    unfinished: Unfinished | None,
) -> Generator[Phase | Advance, None, tuple[dict[str, Ranked], np.ndarray]]:
    """Find the strongest natural images; returns them by name of layer, and which images were skipped."""
    skipped, found = np.zeros(images, bool), {}
    if search is not None:
        strong, skipped = yield from search.run(every, unfinished)
        return {name: one.ranks[BEST] for name, one in strong.items()}, skipped
    for one in made if k else ():
        yield Phase(f"ranking for {one.layer.name}", images, "images")
        ranking = strongest(one.how.model, one.layer, one.known_objective, k, every, skipped, unfinished)
        found[one.layer.name] = yield from ranking
    return found, skipped


def _statistics(
    dataset: ImageSet, presets: dict[str, Settings], computation: Computation
) -> Generator[Phase | Advance, None, Statistics]:
    """Take colours and amplitudes from some images of the dataset."""
    count = min(LOOK, len(dataset))
    look = np.sort(np.random.default_rng(computation.seed).choice(len(dataset), count, replace=False))
    yield Phase("colours of the images", count, "images")
    amplitudes = any(settings.parametrisation == "maco" for settings in presets.values())
    found = measured(
        lambda: batches(dataset, **replace(computation, device="cpu").loading, indices=look),
        dataset.size,
        amplitudes=amplitudes,
    )
    yield Advance(count)
    return found


def headline(recording: Recording) -> dict[str, Any]:
    """Count images, and say by how much they exceed the strongest natural images."""
    if (moved := rendered_results.table_of(recording)) is not None:
        return rendered_results.headline(moved)
    tables: list[TableView[PreferredColumn]] = recording.in_order()
    gains = np.concatenate([table["gain"] for table in tables])
    failed = sum(int((table["best_step"] < 0).sum()) for table in tables)
    found = {"layers": len(tables), "images": sum(table.row_count for table in tables) - failed}
    if failed:
        found["failed"] = failed
    if np.isfinite(gains).any():
        found["median response / best natural"] = float(1 + np.median(gains[np.isfinite(gains)]) / 100)
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: by layer, medians over units."""
    if (moved := rendered_results.table_of(recording)) is not None:
        return rendered_results.summary(moved)
    tables: list[TableView[PreferredColumn]] = recording.in_order()
    columns = {
        "layer": [table.attributes["layer"] for table in tables],
        "images": [str(int((table["best_step"] >= 0).sum())) for table in tables],
        "failed": [str(int((table["best_step"] < 0).sum())) for table in tables],
    }
    medians: dict[str, PreferredColumn] = {"response": "response", "with transforms": "response_transformed"}
    medians |= {"best natural": "best_natural", "gain %": "gain"}
    for word, name in medians.items():
        columns[word] = [_median(table[name]) for table in tables]
    return columns


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):.4g}" if len(known) else "-"


def draw(recording: Recording) -> Figures:
    """Per layer a sheet of all images, rows beside the strongest images, presets and starts compared, the ascent."""
    from cnnprobe.methods.optimize.figures import beside_top_images, preferred_sheet, progress, regulariser_comparison
    from cnnprobe.methods.optimize.figures import control as control_figure

    if (moved := rendered_results.table_of(recording)) is not None:
        yield from rendered_results.draw(recording, moved)
        return
    about = recording.attributes
    tables: list[TableView[PreferredColumn]] = recording.in_order()
    for table in tables:
        own, layer = table.attributes, table.name.removeprefix("units/")
        if not len(table.rows):
            continue
        network = f"{own['layer']} of {about['model']} (weights: {about['weights']})"
        names, made = _names(table), f"objective: {own['objective']}; preset: {own['preset']}"
        numbers: dict[PreferredColumn, np.ndarray] = {name: table[name] for name in ("response", "best_natural")}
        title = f"preferred images of {network}\n{made}"
        under = "below: response" + (" / best natural image's" if np.isfinite(numbers["best_natural"]).any() else "")
        yield layer, preferred_sheet(table["image"], names, f"{title}; {under}", _captions(numbers))
        if table.has("picture"):
            shown = np.flatnonzero(table["best_step"] >= 0)[:ROWS]
            columns: dict[PreferredColumn, np.ndarray] = {
                name: table[name][shown] for name in ("image", "picture", "response", "natural_response")
            }
            words = [
                [_number(value) for value in (own_response, *natural)]
                for own_response, natural in zip(columns["response"], columns["natural_response"])
            ]
            chosen = [names[row] for row in shown]
            title_beside = f"{title}; below: response"
            yield (
                f"{layer}_beside",
                beside_top_images(columns["image"], columns["picture"], chosen, words, title_beside),
            )
        if table.has("variants"):
            yield f"{layer}_presets", regulariser_comparison(*_compared(table, names), f"preferred images of {network}")
        if table.has("one_hot"):
            stretch = table["stretch_gain"] if own["objective"] == "stretch" else None
            scores = (table["one_hot"], table["one_hot_natural"]) if stretch is None else (None, None)
            title_control = f"control of another network's units through {network}, judged by that other network"
            yield f"{layer}_control", control_figure(names, title_control, stretch, *scores)
        climbs = own["objective"] in ("neuron", "class") and np.isfinite(numbers["best_natural"]).any()
        reference = numbers["best_natural"] if climbs else None
        traces, best = table["trace"], np.minimum(table["best_step"], table["trace"].shape[1] - 1)
        yield f"{layer}_progress", progress(traces, names, f"ascent of {network}\n{made}", reference, best)
    yield from _learning(recording)


def _names(table: TableView[PreferredColumn]) -> list[str]:
    """Return what the images are for."""
    return list(table["name"]) if table.has("name") else [str(unit) for unit in table["unit"]]


def _learning(recording: Recording) -> Figures:
    """Draw the images at every moment of learning, how fine they are, and when they are half way."""
    from cnnprobe.plots.over_training import centroid_curves, half_times, strip

    about = recording.attributes
    tables: list[TableView[PreferredColumn]] = [
        table for table in recording.in_order() if table.has("learned_image") and len(table.rows)
    ]
    if not tables:
        return
    network = f"{about['model']} (weights: {about['weights']})"
    moments, epochs = list(tables[0].attributes["moments"]), np.array(tables[0].attributes["epochs"], float)
    for table in tables:
        title = f"preferred images of {table.attributes['layer']} of {network} during learning"
        images = table["learned_image"][:ROWS]
        yield f"{table.name.removeprefix('units/')}_learning", strip(images, moments, _names(table)[:ROWS], title)
    layers = [table.attributes["layer"] for table in tables]
    finer = [table["learned_centroid"] for table in tables]
    title = f"how fine preferred images of {network} are during learning"
    yield "learning_frequency", centroid_curves(epochs, finer, layers, title, moments)
    title = f"half-times of preferred images of {network}\nby the response of the final network to them"
    halves = [np.array([half_time(epochs, share) for share in _shares(table["learned_final"])]) for table in tables]
    yield "learning_half_times", half_times(halves, layers, title, epochs)


def _shares(responses: np.ndarray) -> np.ndarray:
    """Return responses (unit, moment) divided by the last of each unit; NaN where that is not positive."""
    last = responses[:, -1:]
    return responses / np.where(last > 0, last, np.nan)


def _captions(numbers: dict[PreferredColumn, np.ndarray]) -> list[str]:
    """Return the response and, where it is known, that to the best natural image."""
    return [" / ".join(_number(value) for value in pair if np.isfinite(value)) for pair in zip(*numbers.values())]


def _number(value: float) -> str:
    from cnnprobe.plots.style import number

    return number(value) if np.isfinite(value) else ""


def _compared(
    table: TableView[PreferredColumn], names: list[str]
) -> tuple[np.ndarray, list[str], list[str], list[list[str]]]:
    """Return images, names of presets and columns, and captions, of the first units that have an image."""
    shown = np.flatnonzero(table["best_step"] >= 0)[:COMPARED]
    variants, responses = table["variants"][shown], table["variant_response"][shown]  # (unit, preset, start, …)
    starts = variants.shape[2]
    images = np.moveaxis(variants, 1, 0)
    images = images.reshape(images.shape[0], -1, *images.shape[3:])  # (preset, unit and start, …)
    captions = [[_number(value) for value in row] for row in np.moveaxis(responses, 1, 0).reshape(len(images), -1)]
    columns = [
        f"{names[row]}, start {start + 1}" if starts > 1 else names[row] for row in shown for start in range(starts)
    ]
    return images, list(table.attributes["presets"]), columns, captions
