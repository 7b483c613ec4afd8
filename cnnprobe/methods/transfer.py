"""Teach a network another task, and follow what becomes of the old one: learning curves, confusion, forgetting."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.engine.confusion import Confusion
from cnnprobe.engine.label_fraction import label_fraction
from cnnprobe.engine.old_task import OldTask, share_right
from cnnprobe.engine.progress import confusion_table, copied, epochs_table
from cnnprobe.engine.protocols import Protocol
from cnnprobe.engine.readout import Readout, new_readout, put, readout_of
from cnnprobe.engine.recipe import Recipe, check
from cnnprobe.engine.training import Training
from cnnprobe.errors import UserError
from cnnprobe.options import Range, Run
from cnnprobe.records import Checkpoint, Column, Measurement, Phase, Rows, Table

SOURCE = {
    "source_accuracy": Column(
        "share of the old task's images answered right with the old readout, after the epoch; NaN without an old task",
        dtype="float64",
    )
}
MOMENTS = ("before", "after")
"""Of asking about the old task class by class: the network as it came, and after the last epoch."""


def compute(
    *,
    model: nn.Module,
    dataset: Any,
    held_out: Any,
    device: str,
    workers: int,
    seed: int,
    batch_size: Annotated[int, Range(1)],
    mode: Literal["probe", "partial", "full", "staged", "scratch"],
    blocks: Annotated[int, Range(0)] | None,
    stage_epochs: Annotated[int, Range(1)],
    rates: list[Annotated[float, Range(0)]] | None,
    fraction: Annotated[float, Range(above=0, maximum=1)],
    old_task: Run | None,
    epochs: Annotated[int, Range(1)],
    lr: Annotated[float, Range(above=0)],
    optimizer: Literal["sgd", "adam", "adamw"],
    momentum: Annotated[float, Range(0, below=1)],
    weight_decay: Annotated[float, Range(0)],
    schedule: Literal["cosine", "step", "constant"],
    warmup: Annotated[float, Range(0)],
    step_epochs: Annotated[int, Range(1)],
    step_factor: Annotated[float, Range(above=0, maximum=1)],
    loss: Literal["cross-entropy", "squared-error"],
    label_smoothing: Annotated[float, Range(0, below=1)],
    balance: Literal["none", "loss", "draw"],
    clip: Annotated[float, Range(above=0)] | None,
    augment: list[Literal["crop", "resized-crop", "flip", "colour"]] | Literal["none"],
    crop_padding: Annotated[int, Range(1)],
    crop_scale: Annotated[float, Range(above=0, maximum=1)],
    colour: Annotated[float, Range(above=0, below=1)],
    precision: Literal["auto", "float32", "tf32", "bfloat16"],
    channels_last: bool | Literal["auto"],
    preload: bool | Literal["auto"],
    checkpoints: list[int] | Literal["log", "all"],
    save_minutes: Annotated[float, Range(above=0)],
    finished: dict[str, frozenset[int]] | None = None,
    state: dict[str, Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Measurement:
    """Teach `model` the classes of `dataset`, in place: its readout is replaced, the rest learns as the mode says.

    Args:
        model: with the weights it starts from, gives (image, old class); of mode scratch, random weights.
        dataset, held_out: image sets of the new task; every image has a class.
        device: torch device.
        workers: loader processes.
        seed: of the new readout, the labels that are kept, the order of images, their augmentation and dropout.
        mode, blocks, stage_epochs, rates: see `engine.protocols.Protocol`.
        fraction: share of the training images that is learned, the same of each class.
        old_task: what the old readout is asked about after each epoch: an object with `dataset` and `run`; a word or
            None: nothing.
        finished: rows there are already, by table.
        state: what the checkpoint `last` of a stopped transfer has as `resume`.
        should_stop: asked after every batch; True ends with the checkpoint `last`.

    Returns:
        Measurement of `/epochs`, `/confusion`, `/blocks` (what learned, how fast) and, with an old task, `/old_task`.
        Checkpoints are those of train; their readout is the new one. The old one is kept as `old_readout`.

    Raises:
        UserError: the network cannot learn this, has no readout of its own, or not so many blocks; while it runs, the
            training diverged or memory is short.
    """
    recipe = Recipe(
        seed=seed,
        batch_size=batch_size,
        epochs=epochs,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=warmup,
        step_epochs=step_epochs,
        step_factor=step_factor,
        loss=loss,
        label_smoothing=label_smoothing,
        balance=balance,
        clip=clip,
        augment=augment,
        crop_padding=crop_padding,
        crop_scale=crop_scale,
        colour=colour,
        precision=precision,
        channels_last=channels_last,
        preload=preload,
        checkpoints=checkpoints,
        save_minutes=save_minutes,
    )
    if mode == "staged" and stage_epochs >= epochs:
        raise UserError(f"stage_epochs must be less than the {epochs} epochs of staged, got {stage_epochs}")
    old = readout_of(model, dataset.size)
    source = None
    if mode != "scratch" and old_task is not None and not isinstance(old_task, str):
        where = {"device": device, "workers": workers, "batch_size": batch_size, "preload": preload}
        source = Source(old_task.run, OldTask(model, old, old_task.dataset, **where))
    if mode != "scratch" or old.classes != len(dataset.classes):
        put(model, old.path, new_readout(old.module, len(dataset.classes), seed))
    check(model, dataset, held_out, recipe)
    new = readout_of(model, dataset.size)
    plan = {"mode": mode, "blocks": blocks, "stage_epochs": stage_epochs, "rates": rates}
    protocol = Protocol(model, new, dataset.size, **plan)
    shown = dataset if fraction == 1 else dataset.part(label_fraction(dataset.labels, fraction, seed))
    training = Training(
        model,
        shown,
        held_out,
        recipe,
        device=device,
        workers=workers,
        groups=protocol.groups,
        begin=protocol.begin,
        observe=lambda: {"source_accuracy": source.task.accuracy() if source else np.nan},
        state=state,
        should_stop=should_stop,
    )
    course = Course(training, source, old if mode != "scratch" else None, finished or {})
    attributes = {"mode": mode, "fraction": float(fraction), "trained": protocol.trained(), "readout": new.path}
    tables = [
        epochs_table(epochs, len(shown), SOURCE, attributes),
        confusion_table(tuple(dataset.classes), len(held_out)),
        blocks_table(protocol),
        *([source.table()] if source else []),
    ]
    return Measurement(tables, course.events(), total=epochs * len(shown), counts="images")


@dataclass(frozen=True)
class Source:
    """The old task and the run it is known from."""

    run: str
    task: OldTask

    def table(self) -> Table:
        """Lay out `/old_task`, one row a moment."""
        dataset = self.task.dataset
        classes = (len(dataset.classes),)
        columns = {
            "moment": Column("when the network was asked", dtype="object", values=np.array(MOMENTS, object)),
            "accuracy": Column("share of the images answered right with the old readout", dtype="float64"),
            "images": Column("images of each class that can be read", "class", classes, "int64"),
            "right": Column("of these, answered right", "class", classes, "int64"),
        }
        names = json.dumps(list(dataset.classes), ensure_ascii=False)
        about = {"run": self.run, "dataset": dataset.name, "fingerprint": dataset.fingerprint, "classes": names}
        return Table("old_task", "moment", len(MOMENTS), columns, attributes=about)

    def asked(self, moment: str) -> Rows:
        """Ask now."""
        counts = self.task.right_by_class()
        row = {"accuracy": np.array([share_right(counts)]), "images": counts[None, :, 0], "right": counts[None, :, 1]}
        return Rows("old_task", MOMENTS.index(moment), row)


@dataclass(frozen=True)
class Course:
    """The course of a transfer: the old task before, the training, the old task after."""

    training: Training
    source: Source | None
    old: Readout | None
    finished: dict[str, frozenset[int]]

    def events(self) -> Iterator[Any]:
        """Give every event; rows that are there already are left out."""
        model = self.training.model
        learning = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            for event in self._events():
                if not isinstance(event, Rows) or event.start not in self.finished.get(event.table, ()):
                    yield event
        finally:
            for parameter, needed in learning:
                parameter.requires_grad_(needed)

    def _events(self) -> Iterator[Any]:
        training, source = self.training, self.source
        if self.old is not None and training.state is None:
            weights = {name: copied(value) for name, value in self.old.module.state_dict().items()}
            yield Checkpoint("old_readout", weights, {"module": self.old.path, "num_classes": self.old.classes})
        if source is not None and 0 not in self.finished.get("old_task", ()):
            yield Phase("old task", len(source.task.dataset), "images")
            yield source.asked("before")
            yield Phase("learning", training.recipe.epochs * len(training.dataset), "images")
        yield from training.events(len(self.finished.get("epochs", ())))
        if training.stopped:
            return
        if source is not None:
            yield source.asked("after")


def blocks_table(protocol: Protocol) -> Table:
    """Lay out `/blocks`: what learned, and how fast; known from the start."""
    blocks, stages = protocol.blocks, protocol.shares.shape[1]
    columns = {
        "modules": Column(
            "paths of its modules, the readout last",
            dtype="object",
            values=np.array([" ".join(block.modules) for block in blocks], object),
        ),
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


def headline(recording: Any) -> dict[str, Any]:
    """Return the best accuracy on the held-out images, its 95 % interval and epoch; the old task then and before."""
    epochs, images = recording["epochs"], recording["confusion"].attributes["images"]
    best = int(np.argmax(epochs["val_accuracy"]))
    low, high = Confusion(recording["confusion"]["matrix"]).interval if images else (np.nan, np.nan)
    found = {
        "val_accuracy": float(epochs["val_accuracy"][best]),
        "95 % from": low,
        "to": high,
        "at epoch": int(epochs["epoch"][best]),
    }
    if "old_task" in recording:
        found["old task"] = float(epochs["source_accuracy"][best])
        found["before"] = float(recording["old_task"]["accuracy"][0])
    return found


def draw(recording: Any) -> Iterator[tuple[str, Any]]:
    """Draw the learning curves of both tasks and the confusion matrix."""
    from cnnprobe.figures.curves import learning_curves
    from cnnprobe.figures.matrix import confusion_matrix

    epochs, confusion = recording["epochs"], recording["confusion"]
    classes, matrix = json.loads(confusion.attributes["classes"]), confusion["matrix"]
    names = recording.attributes["model"], recording.attributes["dataset"], epochs.attributes["mode"]
    share = epochs.attributes["fraction"]
    title = "{} is taught {} ({}".format(*names) + (f", {100 * share:.3g} % of the labels)" if share < 1 else ")")
    curves = {name: epochs[name] for name in ("epoch", "loss", "val_loss", "accuracy", "val_accuracy", "lr")}
    if "old_task" in recording:
        before = recording["old_task"]["accuracy"]
        curves |= {"old_accuracy": epochs["source_accuracy"], "old_before": before[0] if len(before) else np.nan}
    yield "learning", learning_curves(**curves, chance=1 / len(classes), title=title)
    if len(matrix):  # written last: not there yet while a training goes on
        low, high = Confusion(matrix).interval
        words = f"held-out images, best weights; accuracy {low:.3f} to {high:.3f} (95 %)"
        yield "confusion", confusion_matrix(matrix, classes, title=f"{title}: {words}")
