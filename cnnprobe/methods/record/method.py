"""Record how every unit responds to every image, and what the network decides."""

import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import numpy as np

from cnnprobe.datasets.base.targets import groups_of
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.stimuli_table import say_classes, shared_classes, stimuli_table
from cnnprobe.instruments.images.thumbnails import picture_kind
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.average_precision import average_precision
from cnnprobe.instruments.outputs.explained import explained, explained_by_channel
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.instruments.outputs.overlap import mean_of, overlaps_of
from cnnprobe.methods.contract import Figures, Provided, Resumed
from cnnprobe.methods.record.columns import COUNTS, ImageColumn, PictureColumn, decided
from cnnprobe.methods.record.conditions import conditions_of
from cnnprobe.methods.record.judging import judge_of
from cnnprobe.methods.record.showing import Showing, activation_table
from cnnprobe.methods.record.time_axes import time_axes
from cnnprobe.methods.record.trajectories import Followed, listed, most_conditions, told
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table

LOG = logging.getLogger("cnnprobe")
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
    conditions: str | None,
) -> Measurement:
    """Show every image once and record the layers requested.

    A response is summarised per image and unit: the maximum over the map, its mean, and the place of the
    maximum (the smallest flat index among equals). `keep=maps` stores the whole maps as well.

    Args:
        provided: by the run, see `contract.Provided`.
        layer: names of layers, see `layers.naming.find`; None: only what the network decides.
        keep: what is stored of each map.
        dtype: type of the stored maps.
        conditions: of trajectories along time, see `conditions.conditions_of`.

    Returns:
        tables "images", "stimuli", "pictures" and one "activations/<layer>" per layer; of stored maps that run along
        time also "trajectories/<layer>", "rotations" and "conditions".

    Raises:
        UserError: there is no such layer, or no such factor.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    layers = find(model, layer, dataset.size) if layer else []
    count = len(dataset)
    along = "y x" if len(dataset.size) == 3 else "time"
    known = outputs_of(model, dataset.size, provided.classes, dataset)
    axes = time_axes(layers, model, dataset, known) if keep == "maps" else []
    names = {layer.name: along for layer in layers} | {one.layer.name: "time" for one in axes}
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
        *(activation_table(layer, count, computation.batch_size, keep, dtype, names[layer.name]) for layer in layers),
        stimuli_table(dataset, computation.batch_size),
        shown,
    ]
    start, kept = started(resumed, tables), resumed.facts
    shared = partial(shared_classes, provided.classes, dataset) if one_class else lambda outputs: False
    followed: Followed | None = None
    if axes:
        followed = Followed(axes, conditions_of(dataset, conditions, most_conditions(axes)), dtype, computation.seed)
    showing = Showing(model, layers, keep, shared, kept, known, judge, followed)
    loaded = partial(batches, dataset, **computation.loading)
    rest = loaded(start=start) if start < count else iter(())
    if followed is None:
        if conditions is not None:
            LOG.warning(f"conditions={conditions} is of layers along time with keep=maps: there are none")
        return Measurement(tables, showing.events(rest, shown), count - start, facts=kept)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        if (first := followed.begin(resumed.unfinished, start)) < start:
            yield Phase("recording once more", start - first, "images")
            yield from showing.again(loaded(indices=np.arange(start), start=first))
            yield Phase("recording", count - start, "images")
        yield from showing.events(rest, shown)
        yield from followed.rows()

    return Measurement([*tables, *followed.tables()], events(), count - start, facts=kept)


def started(resumed: Resumed, tables: list[Table[Any]]) -> int:
    """Return how many images a stopped run has finished, in whole batches; its other tables come after them."""
    if not resumed.finished:
        return resumed.start
    begun = [next((first for first in range(0, table.rows, table.batch)
                   if first not in resumed.finished.get(table.name, ())), None) for table in tables]  # fmt: skip
    return min((first for first in begun if first is not None), default=max(table.rows for table in tables))


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
        sums = images["sums"].sum(0)
        found["explained"] = explained(sums)
        groups = groups_of(json.loads(images.attributes["target_names"]))
        found |= {f"explained, {name}": explained(sums[channels]) for name, channels in groups.items()}
    rank = images["rank"]
    if (rank >= 0).any():
        found["top-1"] = float((rank[rank >= 0] == 0).mean())
        if len(json.loads(recording["stimuli"].attributes["classes"])) > 10:
            found["top-5"] = float((rank[rank >= 0] < 5).mean())
    return found | (told(recording["rotations"]) if "rotations" in recording else {})


def summary(recording: Recording) -> dict[str, list[str]]:
    """Return the table that is printed: the dynamics of each layer that runs along time."""
    return listed(recording["rotations"]) if "rotations" in recording else {}


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
    """One contact sheet of the first images; of several classes, maps and courses also how well each is answered.

    Of layers that run along time also the trajectories of their populations.
    """
    from cnnprobe.methods.record import figures, trajectory_figure

    yield from trajectory_figure.all_of(recording)

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
