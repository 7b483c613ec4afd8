"""Record how every unit responds to every image, and what the network decides."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.stimuli_table import (
    StimulusColumn,
    say_classes,
    shared_classes,
    skipped_rows,
    stimuli_table,
)
from cnnprobe.instruments.images.thumbnails import picture_kind, thumbnails
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap, warn_of_nan
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import Outputs, outputs_of
from cnnprobe.instruments.ranking.strongest import ActivationColumn
from cnnprobe.machine.memory import UNBOUNDED, Carried, in_parts
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Advance, Column, Measurement, Name, Rows, Table

ORDER = 4
"""Its place in the list of commands."""

SHOWN = 64
"""Images on the contact sheet."""
SIDE = 96
"""Largest side of a picture on it, px."""
SAMPLES = 1000
"""Most samples of a signal on it."""
ImageColumn = Literal["name", "label", "prediction", "rank"]
"""Columns of the table "images"; those of "activations/<layer>": see `ActivationColumn`."""
PictureColumn = Literal["pixels"]
"""Columns of the table "pictures"."""
Answers = tuple[dict[str, dict[ActivationColumn, np.ndarray]], dict[ImageColumn, np.ndarray]]
"""Of some images: what is recorded, by group of a layer, and what the network decides."""


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
    known = outputs_of(model, dataset.size, provided.classes, dataset).tell()
    say_classes(provided.classes, dataset, known.classes)
    decided: dict[ImageColumn, Column] = {
        "name": Column("name of the image", dtype="str", values=np.array(dataset.names, dtype=object)),
        "label": Column("class in the dataset, -1 = unknown", dtype="int64", unit="index", values=dataset.labels),
        "prediction": Column("class the network decides for, in its own order, -1 = none", "", (), "int64", "index"),
        "rank": Column(
            "place of the label among the outputs, 0 = best, -1 = cannot be compared", "", (), "int64", "index"
        ),
    }
    pixels = Column("the image, made small", f"channel {along}", small(dataset.size), *picture_kind(dataset.size))
    shown: Table[PictureColumn] = Table(
        "pictures", "image", min(SHOWN, count), {"pixels": pixels}, batch=computation.batch_size, aside=True
    )
    names = {"classes": json.dumps(list(provided.classes), ensure_ascii=False), "outputs": known.kind}
    tables: list[Table[Any]] = [
        Table("images", "image", count, decided, batch=computation.batch_size, attributes=names),
        *(activation_table(layer, count, computation.batch_size, keep, dtype, along) for layer in layers),
        stimuli_table(dataset, computation.batch_size),
        shown,
    ]
    loaded = batches(dataset, **computation.loading, start=resumed.start)
    kept = resumed.facts
    showing = Showing(model, layers, keep, partial(shared_classes, provided.classes, dataset), kept, known)
    return Measurement(tables, showing.events(loaded, shown), count - resumed.start, facts=kept)


def small(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a picture on the contact sheet: whole divisions of the image's sides."""
    step = max(1, -(-max(size[1:]) // (SIDE if len(size) == 3 else SAMPLES)))
    return (size[0], *(-(-side // step) for side in size[1:]))


def activation_table(
    layer: Layer, images: int, batch: int, keep: str, dtype: str, along: str = "y x"
) -> Table[ActivationColumn]:
    """Lay out what is stored of one layer; a map of one axis is along `time` where images are signals."""
    units = (layer.channels,)
    columns: dict[ActivationColumn, Column] = {
        "max": Column("largest activation of the map", "unit", units, "float32", "activation"),
        "mean": Column("mean activation of the map", "unit", units, "float32", "activation"),
        "argmax": Column("flat index (row by row) of the maximum on the map", "unit", units, "int32", "index"),
    }
    if keep == "maps":
        one = "time" if along == "time" else "position"
        names = {2: ("y", "x"), 3: ("z", "y", "x")}.get(len(layer.map_size), (one,) * len(layer.map_size))
        axes = " ".join(["channel", *names])
        columns["maps"] = Column("activation", axes, (layer.channels, *layer.map_size), dtype, "activation")
    return Table(f"activations/{layer.group}", "image", images, columns, batch, layer.attributes)


@dataclass
class Showing:
    """Shows images to a network, batch by batch.

    Args:
        model: any network; it is given back as it was.
        layers: that are recorded.
        keep: what is stored of each map.
        shared: says whether so many outputs are of the classes of the labels.
        facts: `batch`, how many images fit in memory at once, is noted there where it is fewer than requested.
        known: what the network returns.
    """

    model: nn.Module
    layers: list[Layer]
    keep: str
    shared: Callable[[int], bool]
    facts: dict[str, Any]
    known: Outputs

    def events(self, loaded: Iterable[Batch], shown: Table[PictureColumn]) -> Iterator[Rows[Any] | Advance]:
        """Hand over the rows of every batch, those of the images on the contact sheet with their pictures."""
        most = self.facts.get("batch")
        carried = Carried(most if isinstance(most, int) and most > 0 else UNBOUNDED)
        found: dict[str, dict[ActivationColumn, np.ndarray]] = {}

        def receive(layer: Layer, activation: Tensor) -> None:
            found[layer.group] = reduced(activation, self.keep)

        with torch.inference_mode(), tap(self.model, self.layers, receive, complete=True) as run:

            def show(part: Batch) -> Answers:
                outputs = run(part.images)
                return dict(found), decisions(outputs, part, self.shared, self.known)

            for batch in loaded:
                parts: list[Answers] = [answer for _, answer in in_parts(batch, carried, show)]
                if carried.most < UNBOUNDED:
                    self.facts["batch"] = carried.most
                first = int(batch.indices[0])
                for layer in self.layers:
                    columns = joined([recorded[layer.group] for recorded, _ in parts])
                    _blank(columns, ~batch.readable)
                    responses = torch.from_numpy(columns["max"])
                    warn_of_nan(layer.name, responses, batch.indices, batch.readable)
                    yield Rows(f"activations/{layer.group}", first, columns)
                if first < shown.rows:
                    size = shown.columns["pixels"].shape[1:]
                    pictures: dict[PictureColumn, np.ndarray]
                    pictures = {"pixels": thumbnails(batch.images[: shown.rows - first], size)}
                    yield Rows("pictures", first, pictures)
                yield from skipped_rows(~batch.readable, len(batch), first)
                yield Rows("images", first, joined([decided for _, decided in parts]))
                yield Advance(len(batch))


def joined(parts: list[dict[Name, np.ndarray]]) -> dict[Name, np.ndarray]:
    """Return the columns of a batch from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reduced(activation: Tensor, keep: str) -> dict[ActivationColumn, np.ndarray]:
    """Reduce an activation (image, channel, …) to what is stored of it."""
    flat = activation.reshape(*activation.shape[:2], -1)
    columns: dict[ActivationColumn, np.ndarray] = {
        "max": flat.amax(-1).float().cpu().numpy(),
        "mean": flat.float().mean(-1).cpu().numpy(),
        "argmax": flat.argmax(-1).int().cpu().numpy(),
    }
    if keep == "maps":
        columns["maps"] = activation.float().cpu().numpy().copy()
    return columns


def decisions(
    outputs: Any, batch: Batch, shared: Callable[[int], bool], known: Outputs
) -> dict[ImageColumn, np.ndarray]:
    """Return the class the network decides for, and the place of the true one; -1 where there is none.

    Args:
        outputs: of the network.
        batch: the images.
        shared: says whether so many classes are those of the labels.
        known: what the outputs are.
    """
    prediction = np.full(len(batch), -1, np.int64)
    rank = np.full(len(batch), -1, np.int64)
    decided = batch.readable
    if (scores := known.scores(outputs)) is not None:
        values = scores.float().cpu()
        warn_of_nan("logits", values, batch.indices, batch.readable)
        chosen = known.chosen(values)
        decided = decided & (chosen >= 0).numpy()
        prediction = chosen.numpy()
        labels = torch.from_numpy(batch.labels)
        valid = (labels >= 0) & (labels < values.shape[1])
        if shared(values.shape[1]) and bool(valid.any()):
            own = values.gather(1, labels.clamp(0, values.shape[1] - 1)[:, None])
            earlier = torch.arange(values.shape[1]) < labels[:, None]  # as of equal ones is chosen
            rank = torch.where(valid, ((values > own) | ((values == own) & earlier)).sum(1), -1).numpy()
    prediction[~decided] = rank[~decided] = -1
    return {"prediction": prediction, "rank": rank}


def _blank(columns: dict[ActivationColumn, np.ndarray], rows: np.ndarray) -> None:
    """Mark the rows of images that were never seen."""
    for values in columns.values():
        values[rows] = np.nan if values.dtype.kind == "f" else -1


def headline(recording: Recording) -> dict[str, Any]:
    """Count images, and how many were decided rightly."""
    images: TableView[ImageColumn] = recording["images"]
    found: dict[str, Any] = {"images": len(images.rows)}
    rank = images["rank"]
    if (rank >= 0).any():
        found["top-1"] = float((rank[rank >= 0] == 0).mean())
        if len(json.loads(recording["stimuli"].attributes["classes"])) > 10:
            found["top-5"] = float((rank[rank >= 0] < 5).mean())
    return found


def draw(recording: Recording) -> Figures:
    """One contact sheet: the first images with their class, and those decided wrongly framed."""
    from cnnprobe.plots.sheet import contact_sheet
    from cnnprobe.plots.traces import captioned_traces

    images: TableView[ImageColumn] = recording["images"]
    pictures: TableView[PictureColumn] = recording["pictures"]
    stimuli: TableView[StimulusColumn] = recording["stimuli"]
    pixels = pictures["pixels"][: len(images.rows)]
    if not len(pixels):
        return
    classes = json.loads(stimuli.attributes["classes"])
    own = json.loads(images.attributes["classes"]) or classes
    labels, predictions = images["label"][: len(pixels)], images["prediction"][: len(pixels)]
    wrong = images["rank"][: len(pixels)] > 0
    captions = []
    skipped = stimuli["skipped"][: len(pixels)]
    for label, said, bad, unread in zip(labels, predictions, wrong, skipped):
        truth = classes[label] if 0 <= label < len(classes) else "?"
        captions.append(
            f"{truth}\n→ {own[said] if 0 <= said < len(own) else said}" if bad else "unreadable" if unread else truth
        )
    about = recording.attributes
    note = f"; framed: classified otherwise by {about['model']}, weights {about['weights']}" if wrong.any() else ""
    title = f"{about['dataset']}: first {len(pixels)} {'signals' if pixels.ndim == 3 else 'images'}{note}"
    if pixels.ndim == 3:
        yield "images", captioned_traces(pixels, captions, None, title, wrong)
    else:
        yield "images", contact_sheet(pixels, captions, wrong, title)
