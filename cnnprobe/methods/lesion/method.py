"""Take units out of a network and measure what is lost: accuracy, class by class, against lesions at random."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import groups_of
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import say_classes, shared_classes, skipped_rows, stimuli_table
from cnnprobe.instruments.outputs.kinds import Outputs, outputs_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.lesion.columns import (
    Fit,
    ImageColumn,
    fit_rows,
    fits_table,
    image_rows,
    images_table,
    mask_rows,
    mask_tables,
)
from cnnprobe.methods.lesion.courses import CourseColumn, CourseEffects, Courses
from cnnprobe.methods.lesion.effects import Effects, LesionColumn, Measure
from cnnprobe.methods.lesion.examples import Examples, PictureColumn
from cnnprobe.methods.lesion.lesioning import COUNTS, Answers, Lesioning, Means
from cnnprobe.methods.lesion.lesions import Lesion, derangement, lesions_of, ways_of
from cnnprobe.methods.lesion.localizer import Contrast, Localizer, contrast
from cnnprobe.methods.lesion.parts import is_part, layers_and_parts
from cnnprobe.methods.lesion.pixels import Maps, PixelEffects
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows, Table

LOG = logging.getLogger("cnnprobe")
ORDER = 13
"""Its place in the list of commands."""
LISTED = 24
"""Rows of the table that is printed."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str],
    units: str | int | list[int | str | list[int | str]],
    how: Literal["auto", "swap", "mean", "zero"] | list[Literal["swap", "mean", "zero"]],
    share: Annotated[float, Range(0, 1)] | list[Annotated[float, Range(0, 1)]],
    draws: Annotated[int, Range(1, 10000)],
    controls: Annotated[int, Range(0, 100000)],
    localizer: str | None,
    measure: Literal["auto", "accuracy", "iou", "explained", "changed", "unexplained"],
) -> Measurement:
    """Silence units, and compare what the network does with what it did (Morcos et al. 2018; Zhou et al. 2018).

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, and of parts that the network declares, see `parts`; each is lesioned by itself.
        units: which of their units, see `lesions.groups_of`.
        how: what stands in for the activation of a unit, see `lesioning`; several are made side by side. auto: see
            `lesions.ways_of`.
        share: of the units, or several shares.
        draws: random choices of a share between 0 and 1.
        controls: random lesions of as many other units of the layer, beside each.
        localizer: "CLASS_A>CLASS_B", see `localizer.contrast`: lesions are measured on the half of the images that it
            does not use.
        measure: what is lost, see `effects.Measure`; auto: accuracy where labels are classes of the network,
            intersection over union where masks are, explained share where courses are; else decisions, else outputs.

    Returns:
        tables "lesions" (a row each), "images" (what is decided), "masks/<layer>" (which units), "pictures", "stimuli";
        "localizer/<layer>" where there is one, and "courses" of networks that return such.

    Raises:
        UserError: no such layer, unit or class; a measure that such a network or dataset does not have.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    layers = layers_and_parts(model, layer, dataset.size)
    ways = ways_of(how, layers)
    shares = sorted({float(one) for one in (share if isinstance(share, list) else [share])})
    if not shares:
        raise UserError("share must be a number from 0 to 1 or several, got none")
    seed = computation.seed
    lesions = lesions_of(layers, units, ways, shares, draws, controls)
    halves = _halves(localizer, lesions, dataset, seed)
    shown = np.arange(len(dataset)) if halves is None else halves.measured
    if "swap" in ways and len(shown) < 2:
        raise UserError(f"how=swap needs 2 or more images, got {len(shown)}; say how=mean or how=zero")
    labels = np.asarray(dataset.labels)[shown]
    known = _known(model, dataset, provided.classes)
    effects = _effects(known, lesions, labels, provided, measure)
    fitted = None if isinstance(known, Outputs) else known
    _check_room(len(lesions), len(shown), fitted)
    partner = shown[derangement(len(shown), seed)]

    loaded = partial(_loaded, dataset, computation, fitted)

    pairs = partial(_pairs, loaded, shown, partner if "swap" in ways else None)
    finder = None if halves is None else Localizer(model, layers, halves, lesions[0].group.name)
    averaged = list({one.layer.name: one.layer for one in lesions if one.how == "mean"}.values())
    by: Fit = "explained" if isinstance(known, Courses) else "iou"
    examples = Examples(dataset, lesions, shown, partner, computation, known if isinstance(known, Maps) else None)
    layout = images_table if fitted is None else partial(fits_table, by=by)
    tables: list[Table[Any]] = [
        layout(shown, labels, len(lesions), computation.batch_size),
        _lesions_table(effects, fitted, provided, localizer),
        *mask_tables(lesions),
        *(finder.tables() if finder else ()),
        examples.table(),
        *([known.table(len(lesions), len(shown))] if isinstance(known, Courses) else ()),
        stimuli_table(dataset, computation.batch_size),
    ]
    passes = len(shown) * len(lesions)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        if finder is not None:
            yield Phase("localizing", len(finder.contrast.localising), "images")
            yield from finder.run(partial(loaded, finder.contrast.localising), resumed.unfinished)
        sets = [_units_of(one, finder, seed) for one in lesions]
        means = Means(model, averaged)
        if averaged:
            yield Phase("averaging", len(shown), "images")
            yield from means.run(len(shown), partial(loaded, shown), resumed.unfinished)
        yield Phase("lesioning", passes, "images")
        sizes = len(layers), len(lesions), len(shown), known.classes
        answers = Answers.empty(
            *sizes, *(((fitted.counted, fitted.numbers), fitted.dtype, fitted.kept) if fitted else ())
        )
        work = Lesioning(model, dataset.size, known, lesions, sets, means.of(computation.device))
        yield from work.run(pairs, answers, resumed.unfinished)
        found = effects.values(answers)
        yield from mask_rows(lesions, sets)
        yield from finder.rows() if finder else ()
        if fitted is None:
            yield from image_rows(answers, computation.batch_size)
            yield from examples.rows(answers, found["loss"], labels if effects.shared else None)
        else:
            fits = fitted.fits(answers)
            yield from fit_rows(*fits, computation.batch_size, by)
            yield from examples.of_maps(answers, found["loss"], fits[0] - fits[1], work)
        if isinstance(known, Courses):
            yield known.rows(answers, dataset, shown)
        yield Rows("lesions", 0, found)
        yield from skipped_rows(_skipped(len(dataset), shown, answers, finder), computation.batch_size)

    return Measurement(tables, events(), passes)


def _listed(names: Sequence[str]) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _pairs(
    loaded: Callable[[np.ndarray, int], Iterator[Batch]], shown: np.ndarray, partner: np.ndarray | None, start: int
) -> Iterator[tuple[Batch, Batch]]:
    """Load images from a place on, each batch with the images whose activations stand in, where they do."""
    own = loaded(shown, start)
    return ((batch, batch) for batch in own) if partner is None else zip(own, loaded(partner, start))


def _empty(fitted: Maps | Courses | None, layers: int, lesions: int, images: int, classes: int) -> Answers:
    """Return the place for what the network does."""
    if fitted is None:
        return Answers.empty(layers, lesions, images, classes)
    counted = fitted.counted, fitted.numbers
    return Answers.empty(layers, lesions, images, classes, counted, fitted.dtype, fitted.kept)


def _loaded(
    dataset: ImageSet, computation: Computation, fitted: Maps | Courses | None, indices: np.ndarray, start: int
) -> Iterator[Batch]:
    """Load images from a place on, with their maps or courses where it is compared with these."""
    targets = bool(fitted and fitted.known)
    return batches(dataset, **computation.loading, indices=indices, start=start, targets=targets)


def _lesions_table(
    effects: Effects, fitted: Maps | Courses | None, provided: Provided, localizer: str | None
) -> Table[LesionColumn]:
    """Lay out what is measured of each lesion."""
    names = list(provided.dataset.classes) if fitted is None else fitted.all_names
    about = {"measure": effects.measure, "localizer": localizer or "", "seed": provided.computation.seed}
    about |= {"classes": _listed(names), "outputs": _listed(provided.classes)}
    return Table("lesions", "lesion", len(effects.lesions), effects.columns(), len(effects.lesions), about)


def _known(model: nn.Module, dataset: ImageSet, classes: tuple[str, ...]) -> Outputs | Maps | Courses:
    """Return what a network returns: maps of classes, courses, or one class of an image.

    Raises:
        UserError: it is none of them.
    """
    if (found := Maps.of(model, dataset, classes) or Courses.of(model, dataset, classes)) is not None:
        return found
    known = outputs_of(model, dataset.size, classes, dataset).tell()
    if not known.count:
        raise UserError(f"lesion compares the outputs of a network, one row for each image; {known.remark}")
    return known


def _effects(
    known: Outputs | Maps | Courses, lesions: list[Lesion], labels: np.ndarray, provided: Provided, measure: str
) -> Effects:
    """Return what is made of the answers of a network."""
    if isinstance(known, Maps):
        measured = known.measure(measure)
        return PixelEffects(lesions, labels, known.counted, known.known, measured, known, provided.computation.seed)
    if isinstance(known, Courses):
        measured = known.measure(measure)
        return CourseEffects(lesions, labels, known.counted, known.known, measured, known, provided.computation.seed)
    dataset, classes = provided.dataset, provided.classes
    say_classes(classes, dataset, known.classes)
    shared = shared_classes(classes, dataset, known.classes)
    return Effects(lesions, labels, len(dataset.classes), shared, _measure(measure, shared, labels, known))


def _halves(words: str | None, lesions: list[Lesion], dataset: ImageSet, seed: int) -> Contrast | None:
    """Return the images that a localizer and the lesions are shown, None where there is no localizer."""
    searched = [one for one in lesions if one.group.units is None]
    if words is None:
        if searched:
            raise UserError(
                f"units={searched[0].group.name} needs localizer=CLASS_A>CLASS_B, the classes to tell apart"
            )
        return None
    if not searched:
        raise UserError(f"localizer={words} finds units=best:N; say how many")
    if parts := [one.layer.name for one in lesions if is_part(one.layer)]:
        raise UserError(f"localizer={words} compares responses, {parts[0]} is a part of a recurrence and no layer")
    return contrast(words, dataset, seed)


def _measure(asked: str, shared: bool, labels: np.ndarray, known: Outputs) -> Measure:
    """Return what is lost, by what can be known."""
    if asked == "iou":
        raise UserError("measure=iou needs a network that gives a class for every pixel, this one gives one for each "
                        "image; say measure=accuracy, changed or unexplained")  # fmt: skip
    judged, decides = shared and bool((labels >= 0).any()), known.single and known.kind != "unknown"
    if asked == "explained":
        raise UserError("measure=explained needs a network that returns courses; say measure=accuracy, changed or "
                        "unexplained")  # fmt: skip
    if asked == "accuracy" and not judged:
        raise UserError("measure=accuracy needs images with classes of the network; say measure=changed or unexplained")
    if asked == "changed" and not decides:
        raise UserError("measure=changed needs a network that decides for one class; say measure=unexplained")
    if asked == "auto":
        return "accuracy" if judged and decides else "changed" if decides else "unexplained"
    return asked  # type: ignore[return-value]  # one of the other three


def _check_room(lesions: int, images: int, fitted: Maps | Courses | None) -> None:
    """Refuse what would not fit into memory."""
    from cnnprobe.machine.memory import free_memory

    each = 12 if fitted is None else 12 + np.dtype(fitted.dtype).itemsize * COUNTS * fitted.counted
    needed, free = lesions * images * each, free_memory("cpu")
    if needed > free / 2:
        raise UserError(
            f"{lesions} lesions and {images} images need {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; "
            "fewer units=, draws=, controls= or limit="
        )


def _units_of(lesion: Lesion, finder: Localizer | None, seed: int) -> np.ndarray:
    units = lesion.group.units
    if units is None:
        assert finder is not None  # units=best:N without one was refused
        units = finder.best(lesion.layer)
    return lesion.units(units, seed)


def _skipped(images: int, shown: np.ndarray, answers: Answers, finder: Localizer | None) -> np.ndarray:
    skipped = np.zeros(images, bool)
    skipped[shown] = ~answers.read
    if finder is not None:
        skipped[finder.contrast.localising] = ~finder.read
    return skipped


def headline(recording: Recording) -> dict[str, Any]:
    """Count lesions, and say which costs most."""
    table: TableView[LesionColumn] = recording["lesions"]
    if not len(table.rows):
        return {"lesions": table.row_count}
    own = table["control"] < 0
    found: dict[str, Any] = {"lesions": int(own.sum())}
    if controls := int((~own).sum()):
        found["controls"] = controls
    before, loss = table["before"][own], table["loss"][own]
    if np.isfinite(before).any():
        found[_fit(table)] = float(before[0])
        for name, values in group_values(table, "group_before").items():
            found[f"{name}, {_fit(table)}"] = float(values[0])
    if np.isfinite(loss).any():
        worst = int(np.nanargmax(loss))
        words = f"{table['target'][own][worst]} ({table['how'][own][worst]})"
        found["largest loss"] = f"{loss[worst]:.4f} by {words}"
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: the lesions that cost most, or all in their order where they are few."""
    table: TableView[LesionColumn] = recording["lesions"]
    if not len(table.rows):
        return {}
    rows = np.flatnonzero(table["control"] < 0)
    loss = np.nan_to_num(table["loss"], nan=-np.inf)
    if len(rows) > LISTED:
        rows = rows[np.argsort(-loss[rows], kind="stable")][:LISTED]

    def written(column: LesionColumn, form: str = "{:.3f}") -> list[str]:
        return [form.format(value) if np.isfinite(value) else "-" for value in table[column][rows]]

    found = {
        "lesion": [str(name) for name in table["target"][rows]],
        "by": [str(way) for way in table["how"][rows]],
        "units": [str(count) for count in table["units"][rows]],
    }
    if len(set(table["share"].tolist())) > 1:
        found["share"] = written("share", "{:g}")
    if np.isfinite(table["before"]).any():
        ends = zip(written("after"), written("difference", "{:+.3f}"), written("difference_low", "{:+.3f}"),
                   written("difference_high", "{:+.3f}"))  # fmt: skip
        found[f"{_fit(table)} (change, 95 % interval)"] = [f"{a} ({d}, {low} to {high})" for a, d, low, high in ends]
    for name, values in group_values(table, "group_after").items():
        found[f"{name}: 1 - R²"] = [f"{1 - value:.3f}" if np.isfinite(value) else "-" for value in values[rows]]
    if np.isfinite(table["changed"]).any():
        found["decided otherwise"] = written("changed")
    found["unexplained"] = written("unexplained")
    if np.isfinite(table["p"]).any():
        found["p"] = written("p")
    if preferred := table.attributes["localizer"].partition(">")[0].strip():
        place = json.loads(table.attributes["classes"]).index(preferred)
        found[f"p of {preferred}"] = [f"{value:.3f}" if np.isfinite(value) else "-"
                                      for value in table["class_p"][rows, place]]  # fmt: skip
    return found


def _fit(table: TableView[LesionColumn]) -> str:
    """Return what is lost, in words."""
    return _FITS.get(table.attributes["measure"], "intersection over union" if "class_pixels" in table else "accuracy")


_FITS = {"accuracy": "accuracy", "iou": "intersection over union", "explained": "explained share"}


def group_values(table: TableView[LesionColumn], column: LesionColumn) -> dict[str, np.ndarray]:
    """Return (lesion,) explained shares by group of channels, {} where channels have no groups."""
    if column not in table:
        return {}
    names = groups_of(json.loads(table.attributes["classes"]))
    return {name: table[column][:, place] for place, name in enumerate(names)}


def draw(recording: Recording) -> Figures:
    """Loss by target; by share; unit by unit; by class; and images that are decided otherwise."""
    from cnnprobe.methods.lesion import figures

    table: TableView[LesionColumn] = recording["lesions"]
    if not len(table.rows):
        return
    about = recording.attributes
    title = f"{about['model']} (weights: {about['weights']}), {about['dataset']}"
    lesions = figures.Lesions.of(table)
    if lesions.measure == "explained":
        from cnnprobe.methods.lesion import course_figures

        courses: TableView[CourseColumn] = recording["courses"]
        yield from course_figures.all_of(lesions, courses, title)
    yield from figures.all_of(lesions, title)
    pictures: TableView[PictureColumn] = recording["pictures"]
    images: TableView[ImageColumn] = recording["images"]
    if len(pictures.rows) and (pictures["image"] >= 0).any():
        yield "examples", figures.examples(lesions, pictures, images, title)
