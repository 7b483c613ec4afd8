"""Record how every unit responds to every image, and what the network decides."""

import json
from functools import partial
from typing import Any, Literal

import numpy as np

from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.stimuli_table import say_classes, shared_classes, stimuli_table
from cnnprobe.instruments.images.thumbnails import picture_kind
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.average_precision import average_precision
from cnnprobe.instruments.outputs.explained import explained, explained_by_channel
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.instruments.outputs.overlap import mean_of, overlaps_of
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.record.columns import COUNTS, ImageColumn, PictureColumn, decided
from cnnprobe.methods.record.judging import judge_of
from cnnprobe.methods.record.showing import Showing, activation_table
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Column, Measurement, Table

ORDER = 4
"""Its place in the list of commands."""

SHOWN = 64
"""Images on the contact sheet."""
SIDE = 96
"""Largest side of a picture on it, px."""
SAMPLES = 1000
"""Most samples of a signal on it."""


def compute(
    provided: Provided,
    *,
    layer: str | list[str] | None,
    keep: Literal["summary", "maps"],
    dtype: Literal["float32", "float16"],
) -> Measurement:
    """Show every image once and record the layers requested.

    A response is summarised per image and unit: the maximum over the map, its mean, and the place of the
    maximum (the smallest flat index among equals). `keep=maps` stores the whole maps as well.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; None: only what the network decides.
        keep: what is stored of each map.
        dtype: type of the stored maps.

    Returns:
        tables "images", "stimuli", "pictures" and one "activations/<layer>" per layer.

    Raises:
        UserError: there is no such layer.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    layers = find(model, layer, dataset.size) if layer else []
    count = len(dataset)
    along = "y x" if len(dataset.size) == 3 else "time"
    known = outputs_of(model, dataset.size, provided.classes, dataset)
    judge = judge_of(known, dataset, provided.classes)
    of_rows = known.form not in ("map", "course")
    if of_rows:  # what maps and courses are compared with, or why not, has been said
        known.tell()
    if one_class := dataset.target.kind == "class":
        say_classes(provided.classes, dataset, known.classes)
    pixels = Column("the image, made small", f"channel {along}", small(dataset.size), *picture_kind(dataset.size))
    drawn: dict[PictureColumn, Column] = {"pixels": pixels}
    drawn |= judge.shown(small(dataset.size)) if judge else {}
    shown: Table[PictureColumn] = Table(
        "pictures", "image", min(SHOWN, count), drawn, batch=computation.batch_size, aside=True
    )
    said = {"classes": json.dumps(list(provided.classes), ensure_ascii=False)}
    said["outputs"] = known.form if known.form and known.form != "classes" else known.kind
    columns = decided(dataset) | (judge.columns() if judge else {})
    tables: list[Table[Any]] = [
        Table("images", "image", count, columns, computation.batch_size, said | (judge.attributes() if judge else {})),
        *(activation_table(layer, count, computation.batch_size, keep, dtype, along) for layer in layers),
        stimuli_table(dataset, computation.batch_size),
        shown,
    ]
    loaded = batches(dataset, **computation.loading, start=resumed.start)
    kept = resumed.facts
    shared = partial(shared_classes, provided.classes, dataset) if one_class else lambda outputs: False
    showing = Showing(model, layers, keep, shared, kept, known, judge)
    return Measurement(tables, showing.events(loaded, shown), count - resumed.start, facts=kept)


def small(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a picture on the contact sheet: whole divisions of the image's sides."""
    step = max(1, -(-max(size[1:]) // (SIDE if len(size) == 3 else SAMPLES)))
    return (size[0], *(-(-side // step) for side in size[1:]))


def headline(recording: Recording) -> dict[str, Any]:
    """Count images, and say how well the network answers them, by what they ask."""
    images: TableView[ImageColumn] = recording["images"]
    found: dict[str, Any] = {"images": len(images.rows)}
    asked = images.attributes.get("target", "class")
    if asked == "present":
        judged = images["all_found"] >= 0
        some = images["present"][judged].any(1)
        found["average_precision"] = average(precisions(images))
        found["all found"] = float(images["all_found"][judged][some].mean()) if some.any() else np.nan
    elif asked == "map":
        found["iou"] = float(mean_of(overlap(images), images.attributes["judged"]))
    elif asked == "course":
        found["explained"] = explained(images["sums"].sum(0))
    rank = images["rank"]
    if (rank >= 0).any():
        found["top-1"] = float((rank[rank >= 0] == 0).mean())
        if len(json.loads(recording["stimuli"].attributes["classes"])) > 10:
            found["top-5"] = float((rank[rank >= 0] < 5).mean())
    return found


def precisions(images: TableView[ImageColumn]) -> np.ndarray:
    """Return (class,) average precisions of the images that can be judged."""
    judged = images["all_found"] >= 0
    return average_precision(images["scores"][judged], images["present"][judged])


def overlap(images: TableView[ImageColumn]) -> np.ndarray:
    """Return (class,) intersections over union of all images together."""
    return overlaps_of(*(images[name].sum(0) for name in COUNTS))


def average(values: np.ndarray) -> float:
    """Return the mean of what is a number, NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def draw(recording: Recording) -> Figures:
    """One contact sheet of the first images; of several classes, maps and courses also how well each is answered."""
    from cnnprobe.methods.record import figures

    images: TableView[ImageColumn] = recording["images"]
    if not len(images.rows) or not len(recording["pictures"].rows):
        return
    asked = images.attributes.get("target", "class")
    if asked == "map":
        yield "images", figures.outlined(recording, headline(recording)["iou"])
        yield "classes", figures.scored(recording, overlap(images), "intersection over union")
        if "by_edge" in images:  # not in runs of older versions
            yield "borders", figures.by_distance(recording)
        return
    yield "images", figures.sheet(recording)
    if asked == "present":
        judged = images["all_found"] >= 0
        count = images["present"][judged].sum(0, dtype=np.int64)
        notes = [f"{number} images" for number in count]
        guessed = count / max(1, judged.sum())
        yield "classes", figures.scored(recording, precisions(images), "average precision", guessed, notes)
    elif asked == "course":
        yield "courses", figures.courses(recording)
        shares = explained_by_channel(images["sums"].sum(0))
        yield "channels", figures.scored(recording, shares, "explained share (R²)")
