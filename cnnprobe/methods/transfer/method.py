"""Teach a network another task, and follow what becomes of the old one: learning curves, confusion, forgetting."""

import json
import logging
import re
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range, Run
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.instruments.outputs.readout import Readout, must_answer_in_training, new_readout, put, readout_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.train.epochs import EpochColumn, about_task, best_of, epochs_table, shown_measures
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.recipe import Recipe, check
from cnnprobe.methods.train.tasks import MEASURES, RESULTS, ResultColumn
from cnnprobe.methods.transfer.as_it_came import as_it_came
from cnnprobe.methods.transfer.comparison.columns import FeatureColumn, LayerColumn, UnitColumn
from cnnprobe.methods.transfer.comparison.forgetting import Forgetting
from cnnprobe.methods.transfer.comparison.task_features import TaskFeatures
from cnnprobe.methods.transfer.confusion import Confusion
from cnnprobe.methods.transfer.course import OBSERVED, Course, OldTaskColumn, Source, blocks_table, observed
from cnnprobe.methods.transfer.inputs import image_sets as image_sets
from cnnprobe.methods.transfer.inputs import inputs as inputs
from cnnprobe.methods.transfer.inputs import reads as reads
from cnnprobe.methods.transfer.label_fraction import image_fraction
from cnnprobe.methods.transfer.old_task import OldTask
from cnnprobe.methods.transfer.protocols import Protocol
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Measurement, Table

LOG = logging.getLogger("cnnprobe")
ORDER = 2
"""Its place in the list of commands."""
LEARNS = True
"""It changes the weights."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str] | None,
    units: str | int | list[int | str],
    mode: Literal["probe", "partial", "full", "staged", "scratch"],
    blocks: Annotated[int, Range(0)] | None,
    stage_epochs: Annotated[int, Range(1)],
    rates: list[Annotated[float, Range(0)]] | None,
    fraction: Annotated[float, Range(above=0, maximum=1)],
    old_task: Run | None,
    forgetting: Literal["auto", "old", "new", "none"],
    compared: Annotated[int, Range(2)],
    top_images: Annotated[int, Range(1)],
    most_changed: Annotated[int, Range(0)],
    recipe: Recipe,
) -> Measurement:
    """Teach `model` what `dataset` asks, in place: its readout is replaced, the rest learns as the mode says.

    Args:
        provided: by the run, see `contract.Provided`.
        layer, units: compared before and after; None: the main layers.
        mode, blocks, stage_epochs, rates: see `protocols.Protocol`.
        fraction: share of the training images that is learned, the same of each class; by number where images have
            none.
        old_task: what the old readout is asked about after each epoch: an object with `dataset` and `run`; a word or
            None: nothing.
        forgetting: whose images units are compared on before and after: of the old task, the new one, the old one
            where there is one, or no comparison at all. From scratch there is nothing to forget.
        compared: images at most for that.
        top_images: of a unit, that are compared.
        most_changed: units whose fields and preferred images are compared.
        recipe: every choice of the training.

    Returns:
        Measurement of `/epochs`, the table of the best epoch (see train), `/blocks` (what learned, how fast); with an
        old task, `/old_task`; and the comparisons: `/discrimination/<layer>`, `/forgetting/<layer>`, `/layers`,
        `/changed`. Checkpoints are those of train; their readout is the new one. The old one is kept as
        `old_readout`.

    Raises:
        UserError: the network cannot learn this, has no readout of its own, or not so many blocks; while it runs, the
            training diverged or memory is short.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    if mode == "staged" and stage_epochs >= recipe.epochs:
        raise UserError(f"stage_epochs must be less than the {recipe.epochs} epochs of staged, got {stage_epochs}")
    scratch = mode == "scratch"
    old = readout_of(model, dataset.size)
    seed, held_out = computation.seed, provided.images_to_judge_by()
    source = None
    if not scratch and old_task is not None and not isinstance(old_task, str):
        source = Source(
            old_task.run, OldTask(model, old, old_task.dataset, computation, preload=recipe.preload), compared, seed
        )
    if forgetting == "old" and source is None and not scratch:
        raise UserError("forgetting=old needs an old task; name a run by old_task=RUN")
    layers = compared_layers(model, old, layer, dataset.size) if forgetting != "none" else []
    before = as_it_came(model, dataset.size) if layers else None
    count = len(dataset.target.names) * _per_name(model, old, dataset)
    if not scratch or old.classes != count:
        put(model, old.path, new_readout(old.module, count, seed))
    check(model, dataset, held_out, recipe, computation.batch_size)
    new = readout_of(model, dataset.size)
    must_answer_in_training(model, new, dataset.size)
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    protocol = Protocol(model, new, dataset.size, mode=mode, blocks=blocks, stage_epochs=stage_epochs, rates=rates)
    thawed = protocol.taught(frozen)
    if protocol.unused and mode in ("full", "staged", "scratch"):
        LOG.warning(f"{listing(protocol.unused)}: not used in a pass, and not taught")
    if thawed:
        LOG.warning(f"{listing(thawed)}: frozen in the network as it is given; mode={mode} teaches them all the same")
    shown = dataset if fraction == 1 else dataset.part(image_fraction(dataset, fraction, seed))
    asked_name, asked_column = observed(source)
    training = Training(
        *(model, shown, held_out, recipe, computation),
        groups=protocol.groups,
        begin=protocol.begin,
        observe=lambda: {asked_name: source.task.value() if source else np.nan},
        state=resumed.state,
        should_stop=provided.should_stop,
    )
    looks = []
    if layers:
        judged = some(held_out, compared, seed)
        asked = some(source.task.dataset, compared, seed) if source and forgetting != "new" else judged
        given: dict[str, Any] = {"units": units, "most_changed": most_changed, "top_images": top_images}
        looks = comparisons((before, model), layers, None if scratch else asked, judged, computation, **given)
    course = Course(training, source, None if scratch else old, looks, resumed.finished, resumed.unfinished)
    attributes = {"mode": mode, "fraction": float(fraction), "trained": protocol.trained(), "readout": new.path}
    attributes |= {"precision": training.precision.number, **about_task(training.task)}
    tables: list[Table[Any]] = [
        epochs_table(recipe.epochs, len(shown), training.columns | {asked_name: asked_column}, attributes),
        training.task.table(len(held_out)),
        blocks_table(protocol),
        *([source.table()] if source else []),
        *(table for look in looks for table in look.tables()),
    ]
    facts = {"epochs": training.progress.times}
    return Measurement(tables, course.events(), total=recipe.epochs * len(shown), counts="images", facts=facts)


def comparisons(
    networks: tuple[nn.Module, nn.Module],
    layers: list[Layer],
    old: Any,
    new: Any,
    computation: Computation,
    *,
    units: str | int | list[int | str],
    most_changed: int,
    top_images: int,
) -> list[Forgetting | TaskFeatures]:
    """Return what compares the network before with the one after.

    Args:
        networks: before and after.
        layers: of both.
        old: images that units are compared on; None: they are not.
        new: images of the new task; d' of units is that of their classes, where each has one.
        computation: device, loaders, batch size and seed.
        units, most_changed, top_images: see `comparison.forgetting.Forgetting`.
    """
    given: dict[str, Any] = {"units": units, "computation": computation}
    made: list[Forgetting | TaskFeatures] = []
    if new.target.kind == "class":
        made.append(TaskFeatures(*networks, layers, new, **given))
    if old is not None:
        made.append(Forgetting(*networks, layers, old, **given, k=top_images, most_changed=most_changed))
    return made


def compared_layers(
    model: nn.Module, old: Readout, layer: str | list[str] | None, size: tuple[int, ...]
) -> list[Layer]:
    """Return the layers requested, by default the main layers; without the readout, which is another one afterwards.

    Raises:
        UserError: no such layer, or it is the readout, which "all" leaves out.
    """
    found = main_layers(model, size) if layer is None else find(model, layer, size)
    kept = [one for one in found if one.module != old.path and one.name != "logits"]
    words = [layer] if isinstance(layer, str) else layer or []
    if words and "all" not in words and len(kept) < len(found):
        raise UserError(f"layer {listing({one.name for one in found} - {one.name for one in kept})} is the readout")
    return kept


def some(dataset: ImageSet, count: int, seed: int) -> Any:
    """Return about `count` images at most, the same share of each class; all of them where none of theirs is known."""
    if len(dataset) <= count or (dataset.target.kind == "class" and not (dataset.labels >= 0).any()):
        return dataset
    return dataset.part(image_fraction(dataset, count / len(dataset), seed))


def _per_name(model: nn.Module, old: Readout, dataset: ImageSet) -> int:
    """Return how many outputs a readout has for each class or channel: of courses, it may give all samples at once."""
    if dataset.target.kind != "course":
        return 1
    shape = outputs_of(model, dataset.size, ()).shape
    return max(1, old.classes // shape[0]) if len(shape) == 2 else 1


def headline(recording: Recording) -> dict[str, Any]:
    """Return the best measure on the held-out images, e.g. accuracy, and its epoch; the old task then and before.

    An accuracy has its 95 % interval, of independent images; that the epoch was chosen for its accuracy on the same
    ones is not in it.
    """
    epochs: TableView[EpochColumn] = recording["epochs"]
    _, held_out = shown_measures(epochs)
    best = best_of(epochs[held_out])
    found: dict[str, Any] = {held_out: float(epochs[held_out][best])}
    if held_out == "val_accuracy":
        confusion: TableView[ResultColumn] = recording["confusion"]
        low, high = Confusion(confusion["matrix"]).interval if confusion.attributes["images"] else (np.nan, np.nan)
        found |= {"95 % low": low, "95 % high": high}
    found["at epoch"] = int(epochs["epoch"][best])
    if "old_task" in recording:
        old: TableView[OldTaskColumn] = recording["old_task"]
        measure = old.attributes.get("measure", "accuracy")
        found["old task"] = float(epochs[OBSERVED[measure][0]][best])
        found["old task before"] = float(old[measure][0])
    return found


def draw(recording: Recording) -> Figures:
    """Draw the learning curves of both tasks and the confusion matrix."""
    epochs: TableView[EpochColumn] = recording["epochs"]
    if not len(epochs["epoch"]):
        return
    share, task = epochs.attributes["fraction"], _task(recording.attributes["dataset"], _classes(recording))
    part = f", {100 * share:.3g} % of the labels" if share < 1 else ""
    title = f"{recording.attributes['model']} is taught {task}: {epochs.attributes['mode']}{part}"
    from cnnprobe.methods.train.run_figures import curves, result_figures

    asked: dict[str, Any] = {}
    if "old_task" in recording:
        old: TableView[OldTaskColumn] = recording["old_task"]
        measure = old.attributes.get("measure", "accuracy")
        before = old[measure]
        asked |= {"old_accuracy": epochs[OBSERVED[measure][0]], "old_before": before[0] if len(before) else np.nan}
        asked["old_chance"] = old.attributes.get("chance", 1 / max(1, len(json.loads(old.attributes["classes"]))))
        if f"val_{measure}" != shown_measures(epochs)[1]:
            asked["old_measure"] = MEASURES[measure]
    yield "learning", curves(recording, title, **asked)
    words = "held-out images, best weights"
    if shown_measures(epochs)[1] == "val_accuracy" and len(matrix := recording["confusion"]["matrix"]):
        low, high = Confusion(matrix).interval
        words += f"; accuracy {low:.3f} to {high:.3f} (95 %)"
    yield from result_figures(recording, f"{title}: {words}")
    yield from _features(recording, title)
    yield from _forgotten(recording, title)


def _classes(recording: Recording) -> list[str]:
    """Return the names of what was learned: classes, or channels of courses."""
    table = next(recording[name] for name in RESULTS if name in recording)
    return json.loads(table.attributes["classes"])


def _task(dataset: str, classes: list[str]) -> str:
    """Name a task by its images and its classes, which tell tasks on the same images apart."""
    return f"{dataset} ({', '.join(classes) if len(classes) < 4 else f'{len(classes)} classes'})"


def _features(recording: Recording, title: str) -> Figures:
    """Draw which units tell the classes apart, where that has been measured."""
    from cnnprobe.methods.transfer.figures.discrimination import task_features

    tables: list[TableView[FeatureColumn]] = [
        table for table in recording.in_order("discrimination") if len(table.rows)
    ]
    if tables:
        about = tables[0].attributes
        units = {table.attributes["layer"]: dict(table) for table in tables}
        words = f"{title}\nunits that tell its classes apart, on {about['images']} held-out images"
        yield "features", task_features(units, json.loads(about["classes"]), words)


def _forgotten(recording: Recording, title: str) -> Figures:
    """Draw what changed, where the comparison has been made whole."""
    from cnnprobe.methods.transfer.figures import forgetting

    if "layers" not in recording or not 0 < len(recording["layers"].rows) == recording["layers"].row_count:
        return
    layers: TableView[LayerColumn] = recording["layers"]
    tables: list[TableView[UnitColumn]] = recording.in_order("forgetting")
    units = {table.attributes["layer"]: dict(table) for table in tables}
    changed: TableView[UnitColumn] | None = None
    if "changed" in recording and len(recording["changed"].rows):
        changed = recording["changed"]
    about = (changed or layers).attributes
    about = about | {"classes": json.loads(about["classes"])}
    words = f"{title}\ncompared on {about['images']} images of {_task(about['dataset'], about['classes'])}"
    yield from forgetting.figures(units, dict(layers), None if changed is None else dict(changed), about, words)


def compare(recordings: list[Recording], overrides: list[list[str]]) -> Figures:
    """Draw the runs of a sweep together: accuracy by share of labels and mode, and features of different tasks.

    Args:
        recordings: of the runs.
        overrides: of each, as typed.
    """
    from cnnprobe.methods.transfer.figures.discrimination import differing_features
    from cnnprobe.methods.transfer.figures.label_fractions import accuracy_by_fraction

    epochs: list[TableView[EpochColumn]] = [one["epochs"] for one in recordings]
    modes, fractions = ([table.attributes[key] for table in epochs] for key in ("mode", "fraction"))
    classes = [_classes(one) for one in recordings]
    names = [one.attributes["dataset"] for one in recordings]
    varied = changing(overrides)
    lines = [" ".join([mode, *words["other"]]) for mode, words in zip(modes, varied)]
    if any(words["dataset"] for words in varied):
        tasks = [" ".join([name, *words["dataset"]]) for name, words in zip(names, varied)]
    else:
        tasks = [_task(name, own) for name, own in zip(names, classes)]
    measures = [shown_measures(table)[1] for table in epochs]
    values = np.array([table[name][best_of(table[name])] for table, name in zip(epochs, measures)])
    chance = {task: table.attributes.get("chance", 1 / len(own)) for task, own, table in zip(tasks, classes, epochs)}
    network = f"{recordings[0].attributes['model']} (weights: {recordings[0].attributes['weights']})"
    title = f"{network} is taught from a share of the labels: best epoch of each run"
    for name in dict.fromkeys(measures):  # runs are compared by the same measure alone
        own = [place for place, measure in enumerate(measures) if measure == name]
        word = name.removeprefix("val_")
        given = (values[own], [lines[place] for place in own], [tasks[place] for place in own], title, chance)
        drawn = accuracy_by_fraction(np.array(fractions)[own], *given, MEASURES.get(word, word))
        yield "label_fractions" + (f"_{word}" if len(set(measures)) > 1 else ""), drawn
    for line in dict.fromkeys(line for line, mode in zip(lines, modes) if mode != "scratch"):
        some = [place for place, own in enumerate(lines) if own == line]
        most = max(fractions[place] for place in some)
        runs = {task: [recordings[p] for p in some if tasks[p] == task and fractions[p] == most] for task in tasks}
        runs = {task: own for task, own in runs.items() if own}
        dprime = features_of(list(runs.values()))
        if len(runs) > 1 and dprime:
            words = (
                f"{network} is taught {len(runs)} tasks: {line}\nunits that tell the classes of each task apart, after"
            )
            yield f"features_{re.sub('[^A-Za-z0-9.-]+', '_', line)}", differing_features(dprime, list(runs), words)


def changing(overrides: list[list[str]]) -> list[dict[str, list[str]]]:
    """Return what runs differ in: by run the overrides of the `dataset`, without that word, and all `other` ones.

    Left out are mode, fraction and seed, which every run has, and what is the same in all.

    Args:
        overrides: of each run, "key=value".
    """
    shared = set.intersection(*map(set, overrides)) if overrides else set()
    found = []
    for words in overrides:
        own = [word.removeprefix("method.") for word in words if word not in shared]
        own = [word for word in own if word.partition("=")[0] not in ("mode", "fraction", "seed")]
        of_dataset = [word for word in own if word.startswith("dataset")]
        kept = {"dataset": [word.removeprefix("dataset.") for word in of_dataset if not word.startswith("dataset=")]}
        found.append(kept | {"other": [word for word in own if word not in of_dataset]})
    return found


def features_of(tasks: list[list[Recording]]) -> dict[str, np.ndarray]:
    """Return by layer |d'| of each unit for its best class, (task, unit), the mean over the runs of a task.

    Layers that not all of the runs have looked at, or of which they have other units, are left out.
    """
    found = {}
    tables: list[TableView[FeatureColumn]] = tasks[0][0].in_order("discrimination") if tasks else []
    for table in tables:
        every: list[list[TableView[FeatureColumn]]] = [
            [run[table.name] for run in runs if table.name in run] for runs in tasks
        ]
        whole = all(len(own) == len(runs) for own, runs in zip(every, tasks))
        if whole and all(np.array_equal(one["unit"], table["unit"]) for own in every for one in own):
            values = [np.mean([np.abs(one["best_dprime_after"]) for one in own], 0) for own in every]
            found[table.attributes["layer"]] = np.stack(values)
    return found
