"""Images shown to a network batch by batch: what its layers respond, and what it answers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.stimuli_table import skipped_rows
from cnnprobe.instruments.images.thumbnails import thumbnails
from cnnprobe.instruments.network.activations import tap, warn_of_nan
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.instruments.ranking.strongest import ActivationColumn
from cnnprobe.machine.memory import UNBOUNDED, Carried, in_parts
from cnnprobe.methods.record.columns import ImageColumn, PictureColumn
from cnnprobe.methods.record.judging import Judge
from cnnprobe.methods.record.trajectories import Followed
from cnnprobe.store.tables import Advance, Column, Name, Rows, Table

Answers = tuple[dict[str, dict[ActivationColumn, np.ndarray]], dict[ImageColumn, np.ndarray], dict[str, np.ndarray]]
"""Of some images: what is recorded, by group of a layer, what the network decides, and what is drawn of that."""


def activation_table(
    layer: Layer, images: int, batch: int, keep: str, dtype: str, along: str = "y x"
) -> Table[ActivationColumn]:
    """Lay out what is stored of one layer; a map of one axis is along `time` where that is said."""
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
        judge: compares that with what the images ask beyond their class; None: they ask no more.
        followed: the populations whose trajectories are drawn; None: there are none.
    """

    model: nn.Module
    layers: list[Layer]
    keep: str
    shared: Callable[[int], bool]
    facts: dict[str, Any]
    known: Outputs
    judge: Judge | None = None
    followed: Followed | None = None

    def again(self, loaded: Iterable[Batch]) -> Iterator[Advance]:
        """Follow populations through images whose rows are finished, and of which a stopped run has kept nothing."""
        assert self.followed is not None  # or there were none to be shown again
        carried = Carried(UNBOUNDED)
        found: dict[str, np.ndarray] = {}

        def receive(layer: Layer, activation: Tensor) -> None:
            found[layer.group] = activation.float().cpu().numpy().copy()

        layers = [one.layer for one in self.followed.axes]
        with torch.inference_mode(), tap(self.model, layers, receive) as run:

            def show(part: Batch) -> dict[str, np.ndarray]:
                run(part.images)
                return dict(found)

            for batch in loaded:
                maps = joined([answer for _, answer in in_parts(batch, carried, show)])
                self.followed.add(maps, batch.readable)
                yield Advance(len(batch))

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
                said = decisions(outputs, part, self.shared, self.known)
                drawn: dict[str, np.ndarray] = {}
                if self.judge is not None:
                    judged, drawn = self.judge.answers(outputs, part)
                    said |= judged
                return dict(found), said, drawn

            for batch in loaded:
                parts: list[Answers] = [answer for _, answer in in_parts(batch, carried, show)]
                if carried.most < UNBOUNDED:
                    self.facts["batch"] = carried.most
                first = int(batch.indices[0])
                for layer in self.layers:
                    columns = joined([recorded[layer.group] for recorded, _, _ in parts])
                    _blank(columns, ~batch.readable)
                    responses = torch.from_numpy(columns["max"])
                    warn_of_nan(layer.name, responses, batch.indices, batch.readable)
                    yield Rows(f"activations/{layer.group}", first, columns)
                if first < shown.rows:
                    drawn = joined([answer for _, _, answer in parts])
                    yield Rows("pictures", first, self._pictures(batch, drawn, shown, shown.rows - first))
                yield from skipped_rows(~batch.readable, len(batch), first)
                yield Rows("images", first, joined([decided for _, decided, _ in parts]))
                if self.followed is not None:
                    groups = [one.layer.group for one in self.followed.axes]
                    maps = {group: joined([recorded[group] for recorded, _, _ in parts])["maps"] for group in groups}
                    self.followed.add(maps, batch.readable)
                yield Advance(len(batch))

    def _pictures(
        self, batch: Batch, drawn: dict[str, np.ndarray], shown: Table[PictureColumn], most: int
    ) -> dict[PictureColumn, np.ndarray]:
        """Return what is drawn of the first images of a batch."""
        size = shown.columns["pixels"].shape[1:]
        pictures: dict[PictureColumn, np.ndarray] = {"pixels": thumbnails(batch.images[:most], size)}
        if self.judge is not None:
            some = {name: values[:most] for name, values in drawn.items()}
            pictures |= self.judge.pictures(some, batch.indices[:most], size)
        return pictures


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
