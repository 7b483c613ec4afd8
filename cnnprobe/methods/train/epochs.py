"""The progress of a training: its epochs so far, the best of them, and what continuing from here needs."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.store.tables import Column, Rows, Table

EpochColumn = Literal["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "source_accuracy"]
"""Columns of `/epochs`, those of every training first; then what an observer measures besides."""
ConfusionColumn = Literal["matrix", "accuracy"]
"""Columns of `/confusion`."""
EPOCH: dict[EpochColumn, Column] = {
    "epoch": Column("epoch, from 1", dtype="int64", unit="index"),
    "loss": Column("mean over the training images, as they were learned", dtype="float64"),
    "accuracy": Column("share of training images classified correctly, as they were learned", dtype="float64"),
    "val_loss": Column(
        "the same loss (smoothed labels, `balance=loss`), mean over the held-out images", dtype="float64"
    ),
    "val_accuracy": Column("share of held-out images right, after the epoch, in float32", dtype="float64"),
    "lr": Column("learning rate of the epoch's last update", dtype="float64"),
}


def epochs_table(
    epochs: int, images: int, more: dict[EpochColumn, Column] | None = None, attributes: dict[str, Any] | None = None
) -> Table[EpochColumn]:
    """Lay out `/epochs`, one row an epoch, with the columns of what an observer measures besides, and attributes."""
    return Table("epochs", "epoch", epochs, EPOCH | (more or {}), attributes={"images": images} | (attributes or {}))


def confusion_table(classes: tuple[str, ...], images: int) -> Table[ConfusionColumn]:
    """Lay out `/confusion`, one row a true class, of the held-out images under the weights `best`."""
    columns: dict[ConfusionColumn, Column] = {
        "matrix": Column("images of the true class by predicted class", "predicted", (len(classes),), "int64"),
        "accuracy": Column("share of the class's images classified correctly; NaN without images", dtype="float64"),
    }
    attributes = {"classes": json.dumps(list(classes), ensure_ascii=False), "images": images, "checkpoint": "best"}
    return Table("confusion", "true", len(classes), columns, batch=len(classes), attributes=attributes)


@dataclass
class Progress:
    """What has been done.

    Args:
        classes: how many.
        epoch, step: finished epochs, and finished updates of the next one.
        seconds, learning_seconds: spent on the unfinished epoch.
        history: of the finished epochs, by column of `/epochs`.
        times: of the finished epochs: seconds for learning and measuring, and training images learned per second,
            measuring apart. They are no results, and stand in `run.json`.
        best_epoch: with the highest accuracy on the held-out set, from 1, the first of equals; 0: none yet.
        best_confusion: (true, predicted) images of the held-out set after it.
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
    best_confusion: Tensor | None = None
    kept: str = "none"

    @classmethod
    def of(cls, plain: Any, classes: int, epochs: int) -> "Progress":
        """Return what `plain` gave, which anyone may have written.

        Raises:
            ValueError, TypeError, AttributeError: it is no progress of such a training.
        """
        found = cls(**plain)
        numbers = (found.epoch, found.step, found.best_epoch)
        lengths = {len(values) for values in found.history.values()} | {len(found.times)}
        confusion: Any = found.best_confusion
        right = all(type(number) is int and number >= 0 for number in numbers) and found.classes == classes
        right &= found.epoch <= epochs and found.best_epoch <= found.epoch and isinstance(found.kept, str)
        right &= lengths == {found.epoch} and set(EPOCH) <= set(found.history) if found.epoch else not found.best_epoch
        right &= all(isinstance(value, int | float) for values in found.history.values() for value in values)
        right &= confusion is None if not found.best_epoch else confusion.shape == (classes, classes)
        found.seconds, found.learning_seconds = float(found.seconds), float(found.learning_seconds)
        if not right:
            raise ValueError("it is no progress of this training")
        return found

    def clock(self, seconds: float, learning: bool) -> None:
        """Add time to the unfinished epoch."""
        self.seconds += seconds
        self.learning_seconds += seconds if learning else 0.0

    def finish_epoch(self, row: dict[EpochColumn, float], confusion: Tensor, shown: float) -> bool:
        """Write down an epoch, in which `shown` images were learned; say whether it is the best so far."""
        rate = shown / max(self.learning_seconds, 1e-9)
        self.times.append({"seconds": round(self.seconds, 3), "images_per_second": round(rate, 3)})
        best = not self.best_epoch or row["val_accuracy"] > self.history["val_accuracy"][self.best_epoch - 1]
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.step, self.seconds, self.learning_seconds = self.epoch + 1, 0, 0.0, 0.0
        if best:
            self.best_epoch, self.best_confusion = self.epoch, confusion
        return best

    def row(self, epoch: int) -> Rows[EpochColumn]:
        """Return the row of `/epochs` of a finished epoch, from 0."""
        return Rows("epochs", epoch, {name: np.array([values[epoch]]) for name, values in self.history.items()})

    def confusion(self) -> Rows[ConfusionColumn]:
        """Return the rows of `/confusion`."""
        assert self.best_confusion is not None  # the first epoch is the best one so far
        matrix = self.best_confusion.numpy()
        with np.errstate(invalid="ignore"):  # a class without images
            return Rows("confusion", 0, {"matrix": matrix, "accuracy": np.diag(matrix) / matrix.sum(1)})

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
