"""The progress of a training: its epochs so far, the best of them, and what continuing from here needs."""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from cnnprobe.methods.train.tasks import Task
from cnnprobe.store.reader import TableView
from cnnprobe.store.tables import Column, Rows, Table

EpochColumn = Literal[
    "epoch", "loss", "accuracy", "iou", "explained", "val_loss", "val_accuracy", "val_average_precision", "val_iou",
    "val_explained", "lr", "source_accuracy", "source_average_precision", "source_iou", "source_explained",
]  # fmt: skip
"""Columns of `/epochs`: those of every training, the measures of its task, and what an observer measures besides."""
COMMON: dict[EpochColumn, Column] = {
    "epoch": Column("epoch, from 1", dtype="int64", unit="index"),
    "loss": Column("mean over the training images, as they were learned", dtype="float64"),
    "val_loss": Column(
        "the same loss (smoothed labels, `balance=loss`), mean over the held-out images", dtype="float64"
    ),
    "lr": Column("learning rate of the epoch's last update", dtype="float64"),
}


def columns_of(task: Task, terms: Sequence[str] = ()) -> dict[EpochColumn, Column]:
    """Return the columns of `/epochs` of a task, in their order.

    Args:
        task: its measures.
        terms: names of what the network adds to the loss; each has a column of its own, and one with `val_`.
    """
    learned, held_out = measures_of(task)
    found: dict[EpochColumn, Column] = {"epoch": COMMON["epoch"], "loss": COMMON["loss"]}
    found[learned] = Column(task.words[0], dtype="float64")
    found["val_loss"] = COMMON["val_loss"]
    found[held_out] = Column(task.words[1], dtype="float64")
    found["lr"] = COMMON["lr"]
    for name in terms:
        what = f"{name}, what the network adds to the loss, mean over the"
        found[cast(EpochColumn, name)] = Column(f"{what} training images, as they were learned", dtype="float64")
        found[cast(EpochColumn, f"val_{name}")] = Column(f"{what} held-out images", dtype="float64")
    return found


def about_task(task: Task) -> dict[str, Any]:
    """Return what a task is judged by, for the attributes of `/epochs`."""
    return {"measure": task.measure, "chance": task.chance, "guess": task.guess}


def best_of(values: np.ndarray) -> int:
    """Return the place of the highest of some values, the first of equals; NaN is less than any number."""
    return int(np.argmax(np.where(np.isnan(values), -np.inf, values)))


def measures_of(task: Task) -> tuple[EpochColumn, EpochColumn]:
    """Return the columns of `/epochs` that hold what a task is judged by: of training images and of held-out ones."""
    return cast(EpochColumn, task.learned), cast(EpochColumn, f"val_{task.measure}")


def shown_measures(epochs: TableView[EpochColumn]) -> tuple[EpochColumn | None, EpochColumn]:
    """Return the columns of what a training is judged by: of training images (None: not known), of held-out ones."""
    measure = epochs.attributes.get("measure", "accuracy")
    learned = cast(EpochColumn, measure) if measure in epochs else None
    return learned, cast(EpochColumn, f"val_{measure}")


def epochs_table(
    epochs: int,
    images: int,
    columns: dict[EpochColumn, Column],
    attributes: dict[str, Any] | None = None,
) -> Table[EpochColumn]:
    """Lay out `/epochs`, one row an epoch, with columns and attributes."""
    return Table("epochs", "epoch", epochs, columns, attributes={"images": images} | (attributes or {}))


FORMERLY = {"best_confusion": "best_result"}
"""Names by which trainings were stopped before."""


@dataclass
class Progress:
    """What has been done.

    Args:
        classes: how many, or how many channels.
        epoch, step: finished epochs, and finished updates of the next one.
        seconds, learning_seconds: spent on the unfinished epoch.
        history: of the finished epochs, by column of `/epochs`.
        times: of the finished epochs: seconds for learning and measuring, and training images learned per second,
            measuring apart. They are no results, and stand in `run.json`.
        best_epoch: with the highest measure on the held-out set, from 1, the first of equals; 0: none yet.
        best_result: of the held-out set after it, see `Task.result`.
        kept: name of the last weights kept; they are finite.
    """

    classes: int
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    learning_seconds: float = 0.0
    history: dict[EpochColumn, list[float]] = field(default_factory=dict)
    times: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_result: Tensor | None = None
    kept: str = "none"

    @classmethod
    def of(cls, plain: Any, classes: int, epochs: int, columns: Iterable[EpochColumn]) -> "Progress":
        """Return what `plain` gave, which anyone may have written.

        Args:
            plain: as `plain` returned it.
            classes, epochs: of the training that goes on.
            columns: of its `/epochs`.

        Raises:
            ValueError, TypeError, AttributeError: it is no progress of such a training.
        """
        found = cls(**{FORMERLY.get(name, name): value for name, value in plain.items()})
        numbers = (found.epoch, found.step, found.best_epoch)
        lengths = {len(values) for values in found.history.values()} | {len(found.times)}
        result: Any = found.best_result
        right = all(type(number) is int and number >= 0 for number in numbers) and found.classes == classes
        right &= found.epoch <= epochs and found.best_epoch <= found.epoch and isinstance(found.kept, str)
        right &= (
            lengths == {found.epoch} and set(columns) <= set(found.history) if found.epoch else not found.best_epoch
        )
        right &= all(isinstance(value, int | float) for values in found.history.values() for value in values)
        right &= result is None if not found.best_epoch else result.ndim == 2 and len(result) == classes
        found.seconds, found.learning_seconds = float(found.seconds), float(found.learning_seconds)
        if not right:
            raise ValueError("it is no progress of this training")
        return found

    def clock(self, seconds: float, learning: bool) -> None:
        """Add time to the unfinished epoch."""
        self.seconds += seconds
        self.learning_seconds += seconds if learning else 0.0

    def finish_epoch(self, row: dict[EpochColumn, float], measure: EpochColumn, result: Tensor, shown: float) -> bool:
        """Write down an epoch, in which `shown` images were learned; say whether it is the best so far.

        Args:
            row: of `/epochs`.
            measure: the column by which epochs are compared; NaN is less than any number.
            result: kept of the best one.
            shown: images.
        """
        rate = shown / max(self.learning_seconds, 1e-9)
        self.times.append({"seconds": round(self.seconds, 3), "images_per_second": round(rate, 3)})
        before = self.history[measure][self.best_epoch - 1] if self.best_epoch else math.nan
        best = not self.best_epoch or row[measure] > before or (math.isnan(before) and not math.isnan(row[measure]))
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.step, self.seconds, self.learning_seconds = self.epoch + 1, 0, 0.0, 0.0
        if best:
            self.best_epoch, self.best_result = self.epoch, result
        return best

    def row(self, epoch: int) -> Rows[EpochColumn]:
        """Return the row of `/epochs` of a finished epoch, from 0."""
        return Rows("epochs", epoch, {name: np.array([values[epoch]]) for name, values in self.history.items()})

    def plain(self) -> dict[str, Any]:
        """Return a copy as plain values and tensors; `Progress(**plain)` is the same again."""
        return copy.deepcopy(vars(self))


def copied(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, contiguous, as files of weights want it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def moments_of(optimiser: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    """Return what an optimiser remembers of each parameter, in its own order."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    return [
        {name: copied(value) for name, value in optimiser.state[parameter].items() if value is not None}
        for parameter in parameters
    ]


def put_back(optimiser: torch.optim.Optimizer, moments: list[dict[str, Tensor]]) -> None:
    """Give an optimiser what `moments_of` returned, lying in memory as the parameters do."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for parameter, remembered in zip(parameters, moments):
        for name, value in remembered.items():
            like = torch.empty_like(parameter) if value.shape == parameter.shape else value.to(parameter.device)
            optimiser.state[parameter][name] = like.copy_(value)
