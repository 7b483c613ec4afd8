"""The course of a transfer: the old task before, the training, the old task after, and what changed in between."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cnnprobe.instruments.outputs.readout import Readout
from cnnprobe.methods.train.epochs import EpochColumn, copied
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.tasks import MEASURES, Measure
from cnnprobe.methods.transfer.old_task import OldTask, share_right
from cnnprobe.methods.transfer.protocols import Protocol
from cnnprobe.store.tables import Advance, Checkpoint, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished

OBSERVED: dict[Measure, tuple[EpochColumn, str]] = {
    "accuracy": ("source_accuracy", "share of the old task's images classified right"),
    "average_precision": ("source_average_precision", "average precision of the old task's images, mean over classes"),
    "iou": ("source_iou", "intersection over union of the old task's images, mean over classes but the background"),
    "explained": ("source_explained", "explained share (R²) of the old task's courses"),
}
"""Column of `/epochs` besides those of train, and what it holds, by what the old task is judged by."""
MOMENTS = ("before", "after")
"""Of asking about the old task class by class: the network as it came, and after the last epoch."""
OldTaskColumn = Literal[
    "moment", "accuracy", "average_precision", "iou", "explained", "recoverable", "images", "right"
]  # fmt: skip
"""Columns of `/old_task`."""
BlockColumn = Literal["modules", "parameters", "share", "batch_norms"]
"""Columns of `/blocks`."""


@dataclass(frozen=True)
class Source:
    """The old task and the run it is known from.

    Args:
        run: as shown.
        task: its images and the old readout.
        most: images at most that a new readout for it is tried on.
        seed: of these.
    """

    run: str
    task: OldTask
    most: int
    seed: int

    def table(self) -> Table[OldTaskColumn]:
        """Lay out `/old_task`, one row a moment."""
        dataset = self.task.dataset
        when = Column("when the network was tested", dtype="object", values=np.array(MOMENTS, object))
        about = {"run": self.run, "dataset": dataset.name, "fingerprint": dataset.fingerprint}
        about["classes"] = json.dumps(list(dataset.target.names), ensure_ascii=False)
        if (measure := self.task.task.measure) != "accuracy":
            words = f"{MEASURES[measure]} of the images with the old readout"
            own: dict[OldTaskColumn, Column] = {"moment": when, measure: Column(words, dtype="float64")}
            more = {"measure": measure, "chance": self.task.task.chance}
            return Table("old_task", "moment", len(MOMENTS), own, attributes=about | more)
        classes = (len(dataset.classes),)
        columns: dict[OldTaskColumn, Column] = {
            "moment": when,
            "accuracy": Column("share of the images classified correctly with the old readout", dtype="float64"),
            "recoverable": Column(
                "the same with a linear readout fitted anew (ridge, to other images); NaN: too few images of a class",
                dtype="float64",
            ),
            "images": Column("images of each class that can be read", "class", classes, "int64"),
            "right": Column("of these, classified correctly", "class", classes, "int64"),
        }
        return Table("old_task", "moment", len(MOMENTS), columns, attributes=about)

    def asked(self, moment: str) -> Rows[OldTaskColumn]:
        """Ask now, and return the row of a moment."""
        if (measure := self.task.task.measure) != "accuracy":
            return Rows("old_task", MOMENTS.index(moment), {measure: np.array([self.task.value()])})
        counts = self.task.right_by_class()
        row: dict[OldTaskColumn, np.ndarray] = {"accuracy": np.array([share_right(counts)])}
        row |= {"images": counts[None, :, 0], "right": counts[None, :, 1]}
        row["recoverable"] = np.array([self.task.recoverable(self.most, self.seed)])
        return Rows("old_task", MOMENTS.index(moment), row)


def observed(source: Source | None) -> tuple[EpochColumn, Column]:
    """Return the column of `/epochs` besides those of train, of accuracy where there is no old task."""
    name, words = OBSERVED["accuracy" if source is None else source.task.task.measure]
    return name, Column(f"{words} with the old readout, after the epoch; NaN: no old task", dtype="float64")


class Course:
    """Everything that happens in a transfer, in order; stopped anywhere, it goes on to the same bits.

    Args:
        training: of the network with its new readout.
        source: the old task; None: there is none.
        old: the old readout, kept as a checkpoint; None: there was none.
        comparisons: of the network before with the one after, each with `events(finished, unfinished)`.
        finished: by table, first rows of the batches there are already; they are not given again.
        unfinished: keeps what the comparisons have no row of yet.
    """

    def __init__(
        self,
        training: Training,
        source: Source | None,
        old: Readout | None,
        comparisons: Sequence[Any],
        finished: dict[str, frozenset[int]],
        unfinished: Unfinished | None = None,
    ):
        self.training, self.source, self.old = training, source, old
        self.comparisons, self.finished, self.unfinished = comparisons, finished, unfinished or Unfinished()

    def events(self) -> Iterator[Rows[Any] | Advance | Phase | Checkpoint]:
        """Do it. Which parameters require a gradient is afterwards as it was."""
        learning = [(parameter, parameter.requires_grad) for parameter in self.training.model.parameters()]
        try:
            for event in self._learned():
                if not self._there(event):
                    yield event
            if self.training.stopped:
                return
            for comparison in self.comparisons:
                for event in comparison.events(self.finished, self.unfinished):
                    yield event
                    if self.training.should_stop() and self.unfinished.keep():
                        return
        finally:
            for parameter, needed in learning:
                parameter.requires_grad_(needed)

    def _learned(self) -> Iterator[Rows[Any] | Advance | Phase | Checkpoint]:
        training, source = self.training, self.source
        if self.old is not None and training.state is None:
            weights = {name: copied(value) for name, value in self.old.module.state_dict().items()}
            yield Checkpoint("old_readout", weights, {"module": self.old.path, "num_classes": self.old.classes})
        if source is not None and MOMENTS.index("before") not in self.finished.get("old_task", ()):
            yield Phase("old task", len(source.task.dataset), "images")
            yield source.asked("before")
        yield Phase("learning", training.recipe.epochs * len(training.dataset), "images")
        yield from training.events(len(self.finished.get("epochs", ())))
        if source is not None and not training.stopped:
            yield source.asked("after")

    def _there(self, event: Any) -> bool:
        return isinstance(event, Rows) and event.start in self.finished.get(event.table, ())


def blocks_table(protocol: Protocol) -> Table[BlockColumn]:
    """Lay out `/blocks`: what learned, and how fast; known from the start."""
    blocks, stages = protocol.blocks, protocol.shares.shape[1]
    modules = np.array([" ".join(block.modules) for block in blocks], object)
    columns: dict[BlockColumn, Column] = {
        "modules": Column("paths of its modules, the readout last", dtype="object", values=modules),
        "parameters": Column("weights it has", dtype="int64", values=np.array([block.size for block in blocks])),
        "share": Column(
            "share of the learning rate; 0: it rests, and its BatchNorm keeps its statistics",
            "stage",
            (stages,),
            "float64",
            values=protocol.shares,
        ),
        "batch_norms": Column(
            "BatchNorm layers it has", dtype="int64", values=np.array([block.batch_norms for block in blocks])
        ),
    }
    first = {"stage_epochs": protocol.first} if stages > 1 else {}
    return Table("blocks", "block", len(blocks), columns, attributes=first, aside=True)
