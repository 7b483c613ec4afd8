"""Show which pixels drive each unit: guided backpropagation and its relatives, averaged over its strongest images."""

import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range, Run
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.outputs.kinds import class_scores
from cnnprobe.instruments.ranking.best_worst import check_ends, ends_of, places, ranked
from cnnprobe.instruments.ranking.strongest import Search, Strongest, images_per_unit, of_groups
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.gbp.gradients import Recipe
from cnnprobe.methods.gbp.mapping import GradientMapping, GradientSettings, MapColumn, Score
from cnnprobe.methods.gbp.sanity import Sanity, SanityColumn, verdict
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows, Table

LOG = logging.getLogger("cnnprobe")
ORDER = 7
"""Its place in the list of commands."""
BUILT_FROM = ("topk", "record")
"""Commands whose runs `source=` may name."""
MOMENTS = True
"""It follows several moments of learning."""
IMAGES = 100
"""Per unit, where none are requested."""
ROWS = 16
"""Units shown step by step when none are requested."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str] | None,
    units: str | int | list[int | str],
    rule: Literal["guided", "deconvnet", "gradient", "input-x-gradient", "smoothgrad", "integrated"],
    target: Literal["neuron", "channel", "channel-abs", "group", "class"],
    groups: list[list[Annotated[int, Range(0)]]] | None,
    group_weights: list[list[float]] | None,
    top_images: Annotated[int, Range(1, 100000)] | None,
    keep: Annotated[int, Range(0, 1000)],
    plain: bool,
    extend: bool,
    samples: Annotated[int, Range(1)],
    level: Annotated[float, Range(above=0)],
    squares: bool,
    steps: Annotated[int, Range(1)],
    ranking: Literal["consistency", "pairwise", "low_share"],
    display: Literal["signed", "clipped", "stretched", "grey"] | None,
    sanity: bool,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
    source: Run | None,
) -> Measurement:
    """Map what drives units (Springenberg et al. 2015, and what `gradients` lists).

    For each of a unit's `top_images` images the signal starts with 1 at the neuron that answered most and goes back to
    the pixels. The maps are cut out around that neuron's theoretical field, laid on top of each other and averaged,
    signed; mean, standard deviation, coverage, and how well the images agree stand in the store.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; None with target=class: the logits.
        units: channels of each layer; "best:8" and "worst:8" are those that rank first and last.
        rule, target, plain, extend, samples, level, squares, steps: see `gradients.Recipe`.
        groups: of target=group: lists of channels; None: all of `units` are one group.
        group_weights: of the members of each group; None: all 1.
        top_images: images per unit, by the maximum of its map; those to which a rectified unit answers 0 do not count.
            None: 100, or as many as a run of topk has.
        keep: of them, those whose maps are stored one by one.
        ranking: what best and worst mean, a column of one number per unit.
        display: of the figures; None: signed for crops, clipped (heavy tails cut) for whole images.
        sanity: also compare the maps of a few units with those of randomised networks, see `sanity`.
        pages: units to show step by step; None: the first living ones.
        source: a run of topk or record that has the images.

    Returns:
        one table "units/<layer>" per layer, "sanity/<layer>" if requested, and "stimuli".

    Raises:
        UserError: no such layer or unit, the rule has no meaning for this network, or the source lacks what is asked
            for.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    if len(dataset.size) != 3:
        raise UserError(f"gbp maps images (channel, y, x), got signals of {tuple(dataset.size)}")
    layers = _layers(model, layer, target, dataset.size)
    gathered = _groups(groups, group_weights, target, layers, units)
    ends = None if gathered else ends_of(units)
    chosen = {
        one.name: np.arange(len(gathered)) if gathered else units_of(one, "all" if ends else units) for one in layers
    }
    if ends:
        check_ends(ends, units, min(map(len, chosen.values())))
    asked = [pages] if isinstance(pages, int) else pages
    if not ends and (absent := [page for page in asked or [] if not any(page in own for own in chosen.values())]):
        raise UserError(f"pages={absent[0]}: that unit is not among those mapped")
    if gathered and source is not None:
        raise UserError("target=group ranks the images by the response of each group: leave out source=")
    top_images = images_per_unit(top_images, IMAGES, source)
    if top_images > len(dataset):
        LOG.warning(f"top_images is {top_images}, but there are {len(dataset)} images; means are over those there are")
    search = None if gathered else Search(model, layers, chosen, top_images, len(dataset), source)
    recipe = Recipe(rule, "neuron" if target == "class" else target, gathered, plain, extend, samples, level, squares,
                    steps, computation.seed)  # fmt: skip
    how = GradientSettings(model, dataset, computation, recipe, top_images, min(keep, top_images), provided.moments)
    mapped = [GradientMapping(how, one, chosen[one.name]) for one in layers]
    checks = [Sanity(one, None if ends else asked, computation.seed) for one in mapped] if sanity else []
    kept = resumed.facts

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        def every(start: int) -> Iterator[Batch]:
            return batches(dataset, **computation.loading, start=start)

        if search is None:
            skipped = np.zeros(len(dataset), bool)
            yield Phase("ranking", len(dataset), "images")
            weights = np.zeros((len(gathered), layers[0].channels))
            for row, group in zip(weights, gathered):
                row[list(group)] = list(group.values())
            ranked_groups = of_groups(model, layers[0], weights, every, top_images, skipped, resumed.unfinished)
            found = {layers[0].name: (yield from ranked_groups)}
        else:
            found, skipped = yield from search.run(every, resumed.unfinished)
        yield from skipped_rows(skipped, computation.batch_size)
        for one in mapped:
            strongest: Strongest = found[one.layer.name]
            if ends:
                if one.layer.name not in kept.get("ranked", {}):
                    scores = yield from one.scores(strongest, ranking, resumed.unfinished)
                    kept.setdefault("ranked", {})[one.layer.name] = ranked(one.units, scores, ends)
                rows = np.array(kept["ranked"][one.layer.name])
                strongest, one.units = strongest.of(rows), rows
            yield from one.events(strongest, resumed.finished.get(one.name, frozenset()), resumed.unfinished)
            for check in checks:
                if check.layer is one.layer and not resumed.finished.get(check.name):
                    yield from check.events(strongest, one.units, resumed.unfinished)

    about: dict[str, Any] = {"top_images": min(top_images, len(dataset)), "rule": rule, "target": target}
    about |= {"seed": computation.seed, "groups": json.dumps(gathered), "image_size": list(dataset.size)}
    about |= {"ranking": ranking, "ends": json.dumps(ends or []), "plain": plain}
    rows = sum(count for _, count in ends) if ends else 0
    tables: list[Table[Any]] = []
    for place, one in enumerate(mapped):
        shown = [-1] if asked is None else [page for page in asked if ends or page in one.units]
        units_known = None if ends else one.units
        look = display or ("signed" if one.canvas.recentred else "clipped")
        own = about | {"order": place, "pages": shown, "display": look}
        tables.append(one.table(units_known, rows or len(one.units), own))
    tables += [check.table() for check in checks]
    count = len(dataset)
    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), count, "images", kept)


def _layers(model: nn.Module, layer: str | list[str] | None, target: str, size: tuple[int, ...]) -> list[Layer]:
    if target == "class":
        if layer not in (None, "logits"):
            raise UserError(f"target=class maps the logits: leave out layer= (got {layer}), or say target=neuron")
        return [class_scores(model, size)]
    if layer is None:
        names = [one.name for one in main_layers(model, size)]
        raise UserError(f"needs layer=… (or target=class); layers of the model: {listing(names)}")
    return find(model, layer, size)


def _groups(
    groups: list[list[int]] | None, weights: list[list[float]] | None, target: str, layers: list[Layer], units: Any
) -> tuple[dict[int, float], ...]:
    """Return by group the weight of each member by channel; () where no groups are mapped."""
    if target != "group":
        if groups is not None or weights is not None:
            raise UserError(f"groups= belongs to target=group, got target={target}")
        return ()
    if len(layers) > 1:
        raise UserError(f"groups lie in one layer, got {len(layers)} layers")
    if groups is not None and units != "all":
        raise UserError("units are either one group (units=) or listed by group (groups=), got both")
    members = [units_of(layers[0], group).tolist() for group in groups or [units]]
    weights = weights or [[1.0] * len(group) for group in members]
    there, given = ([str(len(group)) for group in lists] for lists in (members, weights))
    if given != there:
        raise UserError(
            f"group_weights must be one for each member of each group: {listing(there)} members, "
            f"{listing(given)} weights"
        )
    return tuple(dict(zip(group, map(float, own))) for group, own in zip(members, weights))


def headline(recording: Recording) -> dict[str, Any]:
    """Count layers, units and dead units, and say how well the images of a unit agree."""
    tables: list[TableView[MapColumn]] = recording.in_order()
    dead = sum(int(table["dead"].sum()) for table in tables)
    found = {"layers": len(tables), "units": sum(table.row_count for table in tables), "dead": dead}
    agreement = np.concatenate([table["consistency"] for table in tables])
    if np.isfinite(agreement).any():
        found["median consistency"] = float(np.nanmedian(agreement))
    residuals = [np.abs(table["residual"]) for table in tables if table.has("residual")]
    if residuals and np.isfinite(np.concatenate([one.ravel() for one in residuals])).any():
        found["largest residual"] = float(np.nanmax([np.nanmax(one) for one in residuals]))
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: by layer, what agreed, mean ± standard deviation over units."""
    from cnnprobe.plots.style import spread

    tables: list[TableView[MapColumn]] = recording.in_order()
    columns = {
        "layer": [table.attributes["layer"] for table in tables],
        "units": [str(table.row_count) for table in tables],
        "dead": [str(int(table["dead"].sum())) for table in tables],
        "rectifiers": [table.attributes["rectifiers"] or "none" for table in tables],
    }
    words: dict[Score, str]
    words = {"consistency": "consistency", "pairwise": "of two maps", "low_share": "low frequencies"}
    for name, word in words.items():
        columns[word] = [spread(table[name]) for table in tables]
    return columns


def draw(recording: Recording) -> Figures:
    """Per layer a sheet of all mean maps and rows that show how they come about; agreement against stimuli."""
    from cnnprobe.methods.gbp.figures import gradient_rows, mean_sheet
    from cnnprobe.methods.gbp.trust_figures import reliability_curves

    about = recording.attributes
    tables: list[TableView[MapColumn]] = recording.in_order()
    curves = {}
    for table in tables:
        own, layer = table.attributes, table.name.removeprefix("units/")
        if not len(table.rows):
            continue
        network = f"{own['layer']} of {about['model']} (weights: {about['weights']})"
        images = f"the {own['top_images']} images of {about['dataset']} that each unit responds to most"
        box = tuple(own["field_size"]) if own["recentred"] else None
        if box and any(size > side for size, side in zip(box, own["image_size"][1:])):
            network += "\ntheoretical field of {:g} × {:g} px, larger than the image".format(*box)
        title = f"{_words(own)}: {network}\nmean over {images}"
        names, agreement = _names(table), table["consistency"]
        captions = [f"{one:.2f}" if np.isfinite(one) else "" for one in agreement]
        remark = "\nbelow the number: consistency" + (f"; framed: by {own['ranking']}" if own["ends"] != "[]" else "")
        ends = places(json.loads(own["ends"]))
        look = {"captions": captions, "display": own["display"]} | ends
        yield layer, mean_sheet(table["mean_map"], names, title + remark, box, **look)
        if own["plain"] and own["rule"] in ("guided", "deconvnet", "smoothgrad", "integrated", "input-x-gradient"):
            words = f"plain gradient: {network}\nmean over {images}"
            look["captions"] = ()
            yield f"{layer}_gradient", mean_sheet(table["gradient_map"], names, words, box, **look)
        rows = _shown(table, names, box)
        yield f"{layer}_units", gradient_rows(rows, f"{_words(own)}: {network}\n{images}", display=own["display"])
        curves[own["layer"]] = (np.array(own["counts"]), table["reliability"])
    if curves:
        title = (
            f"Agreement of {about['model']} (weights: {about['weights']}) on {about['dataset']}: two means of n maps"
        )
        yield "reliability", reliability_curves(curves, title)
    yield from _learning(recording)
    yield from _sanity(recording)


def _learning(recording: Recording) -> Figures:
    """Per layer the strip of mean maps over training; spatial frequencies and half-times of all layers."""
    from cnnprobe.plots.over_training import centroid_curves, half_times, strip

    about, every = recording.attributes, recording.in_order()
    tables: list[TableView[MapColumn]]
    tables = [table for table in every if len(table.attributes["moments"]) and len(table.rows)]
    for table in tables:
        own, layer = table.attributes, table.name.removeprefix("units/")
        title = f"{_words(own)} while learning: {own['layer']} of {about['model']} ({about['weights']})\n"
        title += (
            f"mean over the {own['top_images']} images of {about['dataset']} that each unit responds to most at the end"
        )
        look = {"display": own["display"]}
        yield f"{layer}_learning", strip(table["learned_map"], own["moments"], _names(table), title, **look)
    if tables:
        own, names = tables[0].attributes, [table.attributes["layer"] for table in tables]
        epochs, network = np.array(own["epochs"], float), f"{about['model']} ({about['weights']})"
        title = f"Mean maps of {network} on {about['dataset']}, {_words(own)}"
        frequencies = [table["learned_centroid"] for table in tables]
        yield "learning_frequency", centroid_curves(epochs, frequencies, names, title, own["moments"])
        halves = [table["half_time"] for table in tables]
        title = f"When the mean maps of {network} were half way to the last"
        yield "learning_half_times", half_times(halves, names, title, epochs)


def _sanity(recording: Recording) -> Figures:
    """Per layer and kind of randomisation the maps of one image, and the likeness of all."""
    from cnnprobe.methods.gbp.trust_figures import sanity_figure

    about = recording.attributes
    for name in recording.tables("sanity"):
        table: TableView[SanityColumn] = recording[name]
        layer = name.removeprefix("sanity/")
        own, stages = table.attributes, np.array([str(block) for block in table["block"]])
        kinds = np.array([str(kind) for kind in table["kind"]])
        if not len(table.rows) or table["unit"][0, 0] < 0:
            continue
        units: TableView[MapColumn] = recording[f"units/{layer}"]
        row = int(np.flatnonzero(units["unit"] == table["unit"][0, 0])[0])
        picture = units["picture"][row, 0]
        for kind in ("cascading", "independent"):
            shown = np.flatnonzero((kinds == kind) | (kinds == ""))
            alike = table["likeness"][shown][..., table["unit"][0] >= 0].transpose(1, 2, 0, 3)
            title = f"{own['layer']} of {about['model']} (weights: {about['weights']}) randomised, {kind}; unit "
            title += f"{table['unit'][0, 0]} above, {int((table['unit'][0] >= 0).sum())} maps below"
            labels = {"rules": own["rules"], "stages": ["untouched", *stages[shown][1:]], "measures": own["measures"]}
            sentence = verdict(own["rules"], alike[:, :2, 1:])
            maps = table["map"][shown].transpose(1, 0, 2, 3, 4)
            yield (
                f"{layer}_sanity_{kind}",
                sanity_figure(picture, maps, alike, **labels, sentence=sentence, title=title),
            )


def _words(own: dict[str, Any]) -> str:
    """Say what the maps are."""
    rules = {"gradient": "gradient", "guided": "guided backpropagation", "deconvnet": "deconvnet"}
    rules |= {"input-x-gradient": "image × gradient", "integrated": "integrated gradients", "smoothgrad": "SmoothGrad"}
    targets = {"neuron": "the strongest neuron", "channel": "the channel's mean", "group": "a group of channels"}
    targets |= {"channel-abs": "the sum of |activations| of the channel", "class": "the logit"}
    return f"{rules[own['rule']]} of {targets[own['target']]}"


def _names(table: TableView[MapColumn]) -> list[str]:
    """Return what units are called in figures: their number, or the channels of a group."""
    if groups := json.loads(table.attributes["groups"]):
        words = [[c if weight == 1 else f"{weight:g}×{c}" for c, weight in group.items()] for group in groups]
        return [" + ".join(parts) for parts in words][: len(table.rows)]
    return [str(unit) for unit in table["unit"]]


def _shown(table: TableView[MapColumn], names: list[str], box: tuple[float, float] | None) -> list[Any]:
    """Return the rows of the units requested, or of the first living ones."""
    from cnnprobe.methods.gbp.figures import GradientRow
    from cnnprobe.plots.style import number

    own, units = table.attributes, table["unit"]
    alive = ~table["dead"]
    asked = np.isin(units, own["pages"]) if own["pages"] != [-1] else alive & (np.cumsum(alive) <= ROWS)
    columns = {name: table[name] for name in ("picture", "map", "mean_map", "coverage", "response", "consistency")}
    rows = []
    for row in np.flatnonzero(asked[: len(table.rows)]):
        one = {name: values[row] for name, values in columns.items()}
        name = f"{names[row]}\nresponse {number(one['response'][0])}\nconsistency {one['consistency']:.2f}"
        name = name.replace("nan", "–")  # of one image there is none
        captions = ["" if np.isnan(value) else number(value) for value in one["response"]]
        outlines = np.full((len(one["picture"]), 4), np.nan)
        rows.append(
            GradientRow(name, one["picture"], outlines, one["map"], captions, one["mean_map"], one["coverage"][0], box)
        )
    return rows
