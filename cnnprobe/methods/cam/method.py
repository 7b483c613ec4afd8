"""Show which parts of an image are evidence for a class: class activation maps, and how well they find the object."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range, Run
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import (
    StimulusColumn,
    images_of,
    say_classes,
    shared_classes,
    skipped_rows,
    stimuli_table,
)
from cnnprobe.instruments.images.thumbnails import picture_size
from cnnprobe.instruments.layers.naming import find, last_map
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import Outputs, outputs_of
from cnnprobe.instruments.ranking.strongest import BEST, Search
from cnnprobe.methods.cam.class_choice import Choice, asked_classes, class_count
from cnnprobe.methods.cam.columns import JUDGED, ClassColumn, MapColumn, PictureColumn, SummaryColumn
from cnnprobe.methods.cam.cue_combination import CueCombination
from cnnprobe.methods.cam.grids import displacement
from cnnprobe.methods.cam.localisation import laid
from cnnprobe.methods.cam.mapping import ClassMapping, names_json
from cnnprobe.methods.cam.maps import ClassMaps
from cnnprobe.methods.cam.regions import Region, RegionChoice, Regions, deepest_map, regions_of
from cnnprobe.methods.cam.votes import LAYER, votes_of
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Measurement, Phase, Rows

LOG = logging.getLogger("cnnprobe")
ORDER = 9
"""Its place in the list of commands."""
BUILT_FROM = ("topk", "record")
"""Commands whose runs `source=` may name."""
SHOWN = 8
"""Images whose predictions are drawn, and classes whose images are, when none are requested."""
SHEET = 48
"""Images on the sheet of a class at most."""


def compute(
    provided: Provided,
    *,
    layer: str | None,
    kind: Literal["cam", "gradcam", "guided-gradcam", "layercam", "scorecam", "cccam", "votes"],
    region: Literal["predicted", "truth", "all"] | list[Annotated[int, Range(0)]],
    top_classes: Annotated[int, Range(1, 1000)],
    class_: int | str | list[int | str] | None,
    own_class: bool,
    images: int | str | list[int | str],
    evaluate: bool,
    finer: bool,
    filling: Literal["mean", "zero"],
    extend: bool,
    draws: Annotated[int, Range(10, 100000)],
    picture: Annotated[int, Range(8, 1024)] | None,
    pages: Annotated[int, Range(0)] | list[Annotated[int, Range(0)]] | None,
    source: Run | None,
) -> Measurement:
    """Map the evidence for classes (what the kinds are: `maps`, `cue_combination`).

    Args:
        provided: by the run, see `contract.Provided`.
        layer: name of a layer with a map, see `layers.naming.find`; None: see `layers.naming.last_map`, and of a
            network that gives a class for every pixel `regions.deepest_map`.
        kind: of map.
        region: of a network that gives a class for every pixel: whose scores are summed, see `regions`.
        top_classes: how many classes are mapped for each image, those with the largest logits.
        class_: index or name of the class, or classes, mapped instead for every image.
        own_class: also the class an image is labelled with, where it is not among the top.
        images: indices, ranges, "all", or "best:32": those with the largest logit of the one class requested.
        evaluate: compare the maps with the truth, where the dataset knows it.
        finer: cccam: maps from the base without its max-pooling.
        filling: scorecam: see `maps.ClassMaps`.
        extend: guided-gradcam: see `gradients.backward_rules.Rules`.
        draws: cccam: of the bootstrap.
        picture: longer side of the stored pictures, px; None: as large as 128 MB allow.
        pages: images whose predictions are drawn; None: the first 8.
        source: a run of topk or record of layer=logits that has ranked the images, for images=best:N.

    Returns:
        tables "images" (a row for each image and class), "pictures", "stimuli"; "localisation" where the truth is
        known, "classes" for cccam.

    Raises:
        UserError: the network is no classifier, the layer has no map, the kind has no meaning for the network, or there
            is no such class or image.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    if len(dataset.size) != 3:
        raise UserError(f"cam maps images (channel, y, x), got signals of {tuple(dataset.size)}")
    known, shared, names = _outputs(provided, region, kind)
    count = known.classes
    if kind == "votes":
        votes_of(model)
        layer = layer or LAYER
    read = _layer(model, layer, dataset.size, isinstance(known, Regions))
    fixed = asked_classes(class_, names, count)
    search, chosen = _images(images, fixed, model, dataset, source, known)
    if kind != "votes" and not isinstance(known, Regions) and (displaced := displacement(read, dataset.size)):
        LOG.warning(displaced)
    number = len(chosen) if search is None else min(search.k, len(dataset))
    top = min(top_classes, count)
    choice: Choice | RegionChoice = Choice(top, fixed, own_class and shared and not fixed and top < count)
    if isinstance(known, Regions):
        top = min(top, len(known.judged))
        choice = RegionChoice(top, fixed, isinstance(region, list))
    judged = evaluate and bool({"cue", "boxes"} & set(dataset.truth(int(chosen[0]) if search is None else 0)))
    shown = [pages] if isinstance(pages, int) else pages
    if shown and search is None and (absent := [page for page in shown if page not in chosen]):
        raise UserError(f"pages={absent[0]}: that image is not among those mapped")
    if kind == "cccam":
        assert not isinstance(known, Regions)  # or it has been refused
        engine: Any = CueCombination(model, read, dataset.size, finer, known)
    else:
        engine = ClassMaps(model, read, dataset.size, kind, extend, filling, known)
    kept = resumed.facts
    size = picture_size(dataset.size, number, picture)
    mapping = ClassMapping(engine, dataset, choice, number, shared, judged, size, draws, computation, kept)  # fmt: skip

    def every(start: int) -> Iterator[Batch]:
        return batches(dataset, **computation.loading, start=start)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        indices = chosen
        if search is not None:
            if "chosen" not in kept:
                found, _ = yield from search.run(every, resumed.unfinished)
                kept["chosen"] = [int(i) for i in found[search.layers[0].name].ranks[BEST].images[0][:number]]
            indices = np.array(kept["chosen"], np.int64)
        yield from mapping.events(indices, resumed.finished, resumed.unfinished)
        skipped = np.isin(np.arange(len(dataset)), [i for part in kept.get("skipped", {}).values() for i in part])
        yield from skipped_rows(skipped, computation.batch_size)

    about: dict[str, Any] = {"kind": kind, "image_size": list(dataset.size), "classes": names_json(names)}
    about |= {"shared": shared, "outputs": known.kind}
    about |= {"region": known.word} if isinstance(known, Regions) else {}
    about |= {"fixed": list(fixed), "top_classes": top, "pages": [-1] if shown is None else shown}
    grid = getattr(engine, "grid", None)
    about |= {"finer": bool(getattr(engine, "finer", False))} | (grid.attributes if grid else read.attributes)
    tables = mapping.tables(about, chosen if search is None else None)
    return Measurement([*tables, stimuli_table(dataset, computation.batch_size)], events(), number, "images", kept)


def _outputs(provided: Provided, region: Region, kind: str) -> tuple[Outputs | Regions, bool, tuple[str, ...]]:
    """Return what the network returns, whether the labels are its classes, and their names."""
    model, dataset, classes = provided.model, provided.dataset, tuple(provided.classes)
    regions = regions_of(model, dataset, region, kind)
    if regions is not None:
        named = dataset.target.names if dataset.target.kind == "map" else ()
        return regions, False, classes or (named if len(named) == regions.classes else ())
    class_count(model, dataset.size)
    known = outputs_of(model, dataset.size, classes, dataset).tell()
    shared = shared_classes(classes, dataset, known.classes)
    say_classes(classes, dataset, known.classes)
    return known, shared, classes or (tuple(dataset.classes) if shared else ())


def _layer(model: nn.Module, name: str | None, size: tuple[int, ...], maps: bool) -> Layer:
    if name is None:
        return deepest_map(model, size) if maps else last_map(model, size)
    found = find(model, name, size)
    if len(found) > 1:
        raise UserError(f"cam reads one layer, {name} are {len(found)}: {listing(one.name for one in found)}")
    return found[0]


def _images(
    spec: Any,
    fixed: tuple[int, ...],
    model: nn.Module,
    dataset: ImageSet,
    source: Recording | None,
    known: Outputs | Regions,
) -> tuple[Search | None, np.ndarray]:
    """Return the search for the best images of a class, or None and the indices requested."""
    best = re.fullmatch(r"best:([1-9]\d*)", str(spec))
    if not best:
        if source is not None:
            raise UserError("source= has the ranking for images=best:N with class=…; leave it out")
        return None, images_of(spec, len(dataset))
    if len(fixed) != 1:
        raise UserError(f"images={spec} are those of one class; say class=…")
    if known.binary and fixed != (1,):
        raise UserError(f"images={spec}: the one output of the network is the score of class 1; say class=1")
    (logits,) = find(model, "logits", dataset.size)
    if known.before is not None and known.before.channels == logits.channels:  # a softmax has another order of images
        logits = replace(known.before, name="scores")
    fixed = (0,) if known.binary else fixed
    k = min(int(best[1]), len(dataset))
    return Search(model, [logits], {logits.name: np.array(fixed)}, k, len(dataset), source), np.zeros(0, np.int64)


def headline(recording: Recording) -> dict[str, Any]:
    """Count images and maps, and say how well they point."""
    table: TableView[MapColumn] = recording["images"]
    rows = table["class"] >= 0
    found: dict[str, Any] = {"layer": table.attributes["layer"]}
    found |= {"images": len(np.unique(table["image"][rows])), "maps": int(rows.sum())}
    found["without evidence"] = int(table["silent"].sum())
    if undefined := int(np.isnan(table["evidence"][rows]).sum()):
        found["undefined"] = undefined
    if "localisation" in recording:
        judged: TableView[SummaryColumn] = recording["localisation"]
        row = {name: judged[name][0] for name in ("pointing", "pointing_chance")}
        found |= {name.replace("_", " "): float(value) for name, value in row.items() if np.isfinite(value)}
    return found


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: how maps point, overlap and lie on the object, by class, beside chance."""
    if "localisation" not in recording:
        maps: TableView[MapColumn] = recording["images"]
        names, classes = _names(recording), maps["class"]
        first = classes[(maps["rank"] == 0) & (classes >= 0)]
        often = sorted(set(first.tolist()), key=lambda c: (-int((first == c).sum()), c))[:10]
        return {"most often first": [names(c) for c in often], "images": [str(int((first == c).sum())) for c in often]}
    table: TableView[SummaryColumn] = recording["localisation"]
    names = _names(recording)
    order = [row for row, images in enumerate(table["images"]) if images or not row][:12]
    judging: SummaryColumn = "judged" if table.has("judged") else "images"
    columns = {
        "class": ["mean over classes" if c < 0 else names(c) for c in table["class"][order]],
        "images": [
            str(count) if count == judged else f"{count} ({judged} judged)"
            for count, judged in zip(table["images"][order], table[judging][order])
        ],
    }
    for name, measured in JUDGED.items():
        ends = [table[column][order] for column in measured]
        columns[name] = [
            f"{a:.2f} ({low:.2f} to {high:.2f})".replace(" (nan to nan)", "") if np.isfinite(a) else "-"
            for a, low, high, _ in zip(*ends)
        ]
        columns[f"chance of {name}"] = [f"{chance:.2f}" if np.isfinite(chance) else "-" for chance in ends[3]]
    columns["localised"] = [f"{share:.2f}" if np.isfinite(share) else "-" for share in table["localised"][order]]
    return columns


def _names(recording: Recording) -> Any:
    """Return a function that names a class of the network."""
    names = json.loads(recording["images"].attributes["classes"])
    return lambda index: names[index] if 0 <= index < len(names) else f"class {index}"


WORDS = {
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "guided-gradcam": "Guided Grad-CAM",
    "layercam": "LayerCAM",
    "scorecam": "Score-CAM",
    "cccam": "ccCAM",
    "votes": "Votes of capsules",
}


def draw(recording: Recording) -> Figures:
    """The predictions of some images with the map of each; the images of each class sorted by logit; class means."""
    about, own = recording.attributes, recording["images"].attributes
    if not len(recording["pictures"].rows):
        return
    layer = f"{own['layer']} of {about['model']} (weights: {about['weights']}) on {about['dataset']}"
    region = f", region={own['region']}" if "region" in own else ""
    title = f"{WORDS[own['kind']]}{region}: {layer}"
    yield from _predictions(recording, title)
    yield from _sheets(recording, title)
    if "localisation" in recording and len(recording["localisation"].rows):
        from cnnprobe.methods.cam.figures import localisation_points

        judged: TableView[SummaryColumn] = recording["localisation"]
        names = _names(recording)
        rows = np.flatnonzero(judged["images"] > 0)[: SHOWN * 2]
        called = ["mean over classes" if c < 0 else names(c) for c in judged["class"][rows]]
        labels = [f"{name}, n = {images}" for name, images in zip(called, judged["images"][rows])]
        ends = {name: np.stack([judged[column][rows] for column in columns], 1) for name, columns in JUDGED.items()}
        yield "localisation", localisation_points(ends, labels, f"{title}\nmaps of {judged.attributes['of']}")
    if "classes" in recording and len(recording["classes"].rows):
        from cnnprobe.methods.cam.figures import mean_figure

        table: TableView[ClassColumn] = recording["classes"]
        names = _names(recording)
        rows = np.flatnonzero(table["images"] > 0)[:SHOWN]
        kinds: tuple[ClassColumn, ...] = ("mean_map", "mean_ratio", "contrast", "contrast_ratio")
        maps = np.stack([table[name][rows] for name in kinds], 1)
        labels = [f"{names(c)}\n{n} images" for c, n in zip(table["class"][rows], table["images"][rows])]
        heads = ("mean map", "mean / standard error", "less the other classes", "bootstrap ratio of it")
        yield "classes", mean_figure(maps, labels, heads, title)


def _tables(recording: Recording) -> tuple[TableView[MapColumn], TableView[PictureColumn], np.ndarray]:
    """Return the maps, the pictures of their images, and the labels of all images."""
    stimuli: TableView[StimulusColumn] = recording["stimuli"]
    return recording["images"], recording["pictures"], stimuli.known("label")


def _predictions(recording: Recording, title: str) -> Figures:
    from cnnprobe.methods.cam.figures import Prediction, prediction_rows
    from cnnprobe.plots.style import number

    table, pictures, labels = _tables(recording)
    names, own, per = _names(recording), table.attributes, table.attributes["per_image"]
    there = pictures["image"][: len(table.rows) // per]
    asked = own["pages"] if own["pages"] != [-1] else there[there >= 0][:SHOWN]
    columns = {name: table[name] for name in ("class", "rank", "probability", "logit", "map")}
    guided = table["guided"] if own["kind"] == "guided-gradcam" else None
    rows: list[Prediction] = []
    shown: list[np.ndarray] = []
    for place in np.flatnonzero(np.isin(there, asked)):
        part = slice(place * per, (place + 1) * per)
        one = {name: values[part] for name, values in columns.items()}
        used = one["class"] >= 0
        label = int(labels[there[place]])
        truth = f"\n{names(label)}" if own["shared"] and label >= 0 else ""
        captions = [
            f"{names(c)}\n{rank + 1}." + (f" {number(100 * p)} %" if np.isfinite(p) else "")
            for c, rank, p in zip(one["class"][used], one["rank"][used], one["probability"][used])
        ]
        right = (one["class"][used] == label) & bool(own["shared"])
        outline = pictures["truth"][place] if pictures.has("truth") else None
        head, maps = f"image {there[place]}{truth}", laid(one["map"][used], own)
        rows.append(Prediction(head, pictures["pixels"][place], maps, captions, right, outline))
        if guided is not None:
            shown.append(guided[part][used])
    words = f"{title}\nthe classes that rank first, left to right" if not own["fixed"] else title
    yield "predictions", prediction_rows(rows, words)
    if guided is not None:
        from cnnprobe.methods.cam.figures import guided_rows

        yield "guided", guided_rows(rows, shown, words)


def _sheets(recording: Recording, title: str) -> Figures:
    """One sheet for each class: its images with the map of that class, by logit."""
    from cnnprobe.methods.cam.figures import class_sheet
    from cnnprobe.plots.style import number

    table, pictures, labels = _tables(recording)
    names, own, per = _names(recording), table.attributes, table.attributes["per_image"]
    pixels = pictures["pixels"]
    classes, ranks, logits, maps, images = (
        table[name][: len(pixels) * per] for name in ("class", "rank", "logit", "map", "image")
    )
    owners = labels[np.maximum(images, 0)]
    counts = {int(c): int(((classes == c) & (owners == c)).sum()) for c in np.unique(classes[classes >= 0])}
    often = [c for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 1 and own["shared"]]
    for wanted in own["fixed"] or often[:SHOWN]:
        mine = (classes == wanted) & ((owners == wanted) | (not own["shared"]))
        if not mine.any():
            mine = classes == wanted
        rows = np.flatnonzero(mine)
        rows = rows[np.argsort(-logits[rows], kind="stable")]
        said, total = "", len(rows)
        if total > SHEET:  # the whole range, evenly
            rows = rows[np.linspace(0, total - 1, SHEET).round().astype(int)]
            said = f"; {SHEET} of {total}, evenly over the order"
        wrong = ranks[rows] != 0
        of = names(wanted)
        whose = "of the class" if own["shared"] and (owners[rows] == wanted).all() else "shown"
        words = f"{title}\nmaps of {of} for the images {whose}, largest logit first{said}; framed: classified otherwise"
        captions = [f"image {images[row]}\n{number(logits[row])}" for row in rows]
        outlines = pictures["truth"][rows // per] if pictures.has("truth") else None
        name = re.sub(r"[^\w-]+", "_", str(of))[:40]
        shown = laid(maps[rows], own)
        yield f"class_{wanted}_{name}", class_sheet(pixels[rows // per], shown, captions, wrong, words, outlines)
