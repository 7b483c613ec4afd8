"""Tasks: what a network learns of its images, by which measure that is judged, and how the result is stored.

    class    one class per image       accuracy; a confusion matrix of images
    present  several may hold          average precision, mean over classes
    map      a class for every pixel   intersection over union, mean over classes without the background, from a
                                       confusion matrix of pixels of all images
    course   values along time         explained share, from sums over all images

The measure of the held-out images decides which epoch is `best`.
"""

import json
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import Target, middle
from cnnprobe.instruments.outputs.average_precision import average_precision
from cnnprobe.instruments.outputs.explained import explained, explained_by_channel, sums_of
from cnnprobe.instruments.outputs.overlap import mean_overlap, overlaps, pixel_confusion
from cnnprobe.store.tables import Column, Rows, Table

Measure = Literal["accuracy", "average_precision", "iou", "explained"]
"""What a task is judged by; columns of `/epochs` are called so, and `val_…` those of the held-out images."""
MEASURES: dict[str, str] = {
    "accuracy": "accuracy",
    "average_precision": "average precision",
    "iou": "intersection over union",
    "explained": "explained share (R²)",
}
"""In the words of figures."""
ResultColumn = Literal["matrix", "accuracy", "iou", "images", "average_precision", "explained"]
"""Columns of the table of the best epoch: "confusion" of classes and maps, "classes" or "channels" of the others."""
RESULTS: dict[str, ResultColumn] = {"confusion": "matrix", "classes": "images", "channels": "explained"}
"""Tables of the best epoch, of which a training has one, each with a column."""


class Task(Protocol):
    """What is counted while a network learns and is judged.

    Attributes:
        measure: see `Measure`.
        words: what it is a share of, for `/epochs`: of the training images, and of the held-out ones.
        learned: what is known of the images as they are learned; another measure where `measure` needs all at once.
        chance: what guessing gives.
        guess: how it guesses.
    """

    measure: ClassVar[Measure]
    learned: ClassVar[Measure]
    words: ClassVar[tuple[str, str]]
    target: Target
    chance: float
    guess: str

    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Return the targets as the outputs lie."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what is added up over the batches of an epoch, float64."""

    def share(self, sums: Tensor) -> float:
        """Return `learned` of such sums."""

    def answers(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what is kept of held-out images; of all batches together, `result` is made."""

    def result(self, answers: Tensor) -> Tensor:
        """Return what is stored of the best epoch, on the CPU."""

    def value(self, result: Tensor) -> float:
        """Return the measure."""

    def table(self, images: int) -> Table[ResultColumn]:
        """Lay out the table of the best epoch."""

    def rows(self, result: Tensor) -> Rows[ResultColumn]:
        """Return its rows."""


class _Aligned:
    """A task whose targets need no fitting to the outputs."""

    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Return the targets as they are."""
        return targets


class OneClass(_Aligned):
    """One class per image."""

    measure: ClassVar[Measure] = "accuracy"
    learned: ClassVar[Measure] = "accuracy"
    words: ClassVar[tuple[str, str]] = (
        "share of training images classified correctly, as they were learned",
        "share of held-out images right, after the epoch, in float32",
    )

    def __init__(self, target: Target):
        self.target, self.classes = target, len(target.names)
        self.chance, self.guess = 1 / max(1, self.classes), "chance"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (right, images)."""
        right = (outputs.argmax(1) == targets).sum()
        return torch.stack([right, right.new_tensor(len(targets))]).double()

    def share(self, sums: Tensor) -> float:
        """Return the accuracy."""
        return float(sums[0] / sums[1])

    def answers(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (image,) cells of the matrix."""
        return targets * self.classes + outputs.argmax(1)

    def result(self, answers: Tensor) -> Tensor:
        """Return (true, predicted) images."""
        return torch.bincount(answers.cpu(), minlength=self.classes**2).view(self.classes, self.classes)

    def value(self, result: Tensor) -> float:
        """Return the accuracy."""
        return int(result.diagonal().sum()) / int(result.sum())

    def table(self, images: int) -> Table[ResultColumn]:
        """Lay out `/confusion`, one row a true class."""
        columns: dict[ResultColumn, Column] = {
            "matrix": Column("images of the true class by predicted class", "predicted", (self.classes,), "int64"),
            "accuracy": Column("share of the class's images classified correctly; NaN without images", dtype="float64"),
        }
        return _table("confusion", "true", self.target.names, columns, images)

    def rows(self, result: Tensor) -> Rows[ResultColumn]:
        """Return the rows of `/confusion`."""
        matrix = result.numpy()
        with np.errstate(invalid="ignore"):  # a class without images
            return Rows("confusion", 0, {"matrix": matrix, "accuracy": np.diag(matrix) / matrix.sum(1)})


class SeveralClasses(_Aligned):
    """Several classes may hold of an image, or none."""

    measure: ClassVar[Measure] = "average_precision"
    learned: ClassVar[Measure] = "accuracy"
    words: ClassVar[tuple[str, str]] = (
        "share of training images whose k classes are the k of the highest scores, as they were learned; of those that "
        "have one",
        "average precision of the held-out images, mean over classes, after the epoch, in float32",
    )

    def __init__(self, target: Target, share: np.ndarray):
        """Take the share of the images that have each class: what average precision guessing gives."""
        self.target, self.classes = target, len(target.names)
        self.chance, self.guess = float(share[share > 0].mean()) if (share > 0).any() else 0.0, "chance"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (right, images that have a class)."""
        some = targets.sum(1) > 0
        order = outputs.argsort(dim=1, descending=True, stable=True)
        there = targets.bool().gather(1, order)
        first = torch.arange(targets.shape[1], device=targets.device) < there.sum(1)[:, None]
        right = ((there & first).sum(1) == there.sum(1)) & some
        return torch.stack([right.sum(), some.sum()]).double()

    def share(self, sums: Tensor) -> float:
        """Return the share of the images of which all classes come first; NaN where none has any."""
        return float(sums[0] / sums[1])

    def answers(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (image, 2, class) scores and truth."""
        return torch.stack([outputs.float(), targets.float()], dim=1)

    def result(self, answers: Tensor) -> Tensor:
        """Return (class, 2): average precision and number of images that have the class."""
        scores, present = answers.cpu().numpy().swapaxes(0, 1)
        found = np.stack([average_precision(scores, present), present.sum(0, dtype=np.float64)], axis=1)
        return torch.from_numpy(found)

    def value(self, result: Tensor) -> float:
        """Return the mean average precision of the classes that are there."""
        there = result[result[:, 1] > 0, 0]
        return float(there.mean()) if len(there) else float("nan")

    def table(self, images: int) -> Table[ResultColumn]:
        """Lay out `/classes`, one row a class."""
        columns: dict[ResultColumn, Column] = {
            "images": Column("held-out images that have the class", dtype="int64"),
            "average_precision": Column("of these images among all; NaN where there are none", dtype="float64"),
        }
        return _table("classes", "class", self.target.names, columns, images)

    def rows(self, result: Tensor) -> Rows[ResultColumn]:
        """Return the rows of `/classes`."""
        columns: dict[ResultColumn, np.ndarray] = {"images": result[:, 1].numpy().astype(np.int64)}
        return Rows("classes", 0, columns | {"average_precision": result[:, 0].numpy()})


class Maps:
    """A class for every pixel."""

    measure: ClassVar[Measure] = "iou"
    learned: ClassVar[Measure] = "iou"
    words: ClassVar[tuple[str, str]] = (
        "intersection over union of the training images, as they were learned, mean over classes but the background",
        "the same of the held-out images, after the epoch, in float32",
    )

    def __init__(self, target: Target):
        self.target, self.classes = target, len(target.names)
        background = len(target.judged) < self.classes
        self.chance, self.guess = 0.0, "all background" if background else "none right"

    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Return the middle of the maps where a network without padding gives smaller ones."""
        size = tuple(outputs.shape[-2:])
        return targets if tuple(targets.shape[-2:]) == size else middle(targets, size)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (true, predicted) pixels."""
        return pixel_confusion(outputs.argmax(1), targets, self.classes).sum(0).double()

    def share(self, sums: Tensor) -> float:
        """Return the mean intersection over union."""
        return mean_overlap(sums.cpu().numpy(), self.target.judged)

    def answers(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (1, true, predicted) pixels of the batch."""
        return pixel_confusion(outputs.argmax(1), targets, self.classes).sum(0, keepdim=True)

    def result(self, answers: Tensor) -> Tensor:
        """Return (true, predicted) pixels."""
        return answers.sum(0).cpu()

    def value(self, result: Tensor) -> float:
        """Return the mean intersection over union."""
        return mean_overlap(result.numpy(), self.target.judged)

    def table(self, images: int) -> Table[ResultColumn]:
        """Lay out `/confusion`, one row a true class."""
        columns: dict[ResultColumn, Column] = {
            "matrix": Column("pixels of the true class by predicted class", "predicted", (self.classes,), "int64"),
            "iou": Column(
                "intersection over union; NaN for a class that is neither true nor predicted", "", (), "float64"
            ),
        }
        return _table("confusion", "true", self.target.names, columns, images)

    def rows(self, result: Tensor) -> Rows[ResultColumn]:
        """Return the rows of `/confusion`."""
        return Rows("confusion", 0, {"matrix": result.numpy(), "iou": overlaps(result.numpy())})


class Courses(_Aligned):
    """Values along time."""

    measure: ClassVar[Measure] = "explained"
    learned: ClassVar[Measure] = "explained"
    words: ClassVar[tuple[str, str]] = (
        "explained share (R²) of the training images' courses, as they were learned",
        "the same of the held-out images, after the epoch, in float32",
    )

    def __init__(self, target: Target):
        self.target = target
        self.chance, self.guess = 0.0, "mean of each channel"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (channel, 4) sums."""
        return sums_of(outputs, targets).sum(0)

    def share(self, sums: Tensor) -> float:
        """Return the explained share of all channels."""
        return explained(sums.cpu().numpy())

    def answers(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (image, channel, 4) sums."""
        return sums_of(outputs, targets)

    def result(self, answers: Tensor) -> Tensor:
        """Return (channel, 4) sums."""
        return answers.sum(0).cpu()

    def value(self, result: Tensor) -> float:
        """Return the explained share of all channels."""
        return explained(result.numpy())

    def table(self, images: int) -> Table[ResultColumn]:
        """Lay out `/channels`, one row a channel."""
        columns: dict[ResultColumn, Column] = {
            "explained": Column("explained share (R²); NaN for a channel that is constant", dtype="float64")
        }
        return _table("channels", "channel", self.target.names, columns, images)

    def rows(self, result: Tensor) -> Rows[ResultColumn]:
        """Return the rows of `/channels`."""
        return Rows("channels", 0, {"explained": explained_by_channel(result.numpy())})


def task_of(held_out: ImageSet) -> Task:
    """Return the task of the images that a training is judged by."""
    target = held_out.target
    if target.kind == "present":
        return SeveralClasses(target, held_out.targets(np.arange(len(held_out)))[0].double().mean(0).numpy())
    return OneClass(target) if target.kind == "class" else Maps(target) if target.kind == "map" else Courses(target)


def _table(
    name: str, axis: str, names: tuple[str, ...], columns: dict[ResultColumn, Column], images: int
) -> Table[ResultColumn]:
    attributes = {"classes": json.dumps(list(names), ensure_ascii=False), "images": images, "checkpoint": "best"}
    return Table(name, axis, len(names), columns, batch=len(names), attributes=attributes)
