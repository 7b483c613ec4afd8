"""Train a network on a dataset, and keep how it learned: curves, confusion matrix, weights along the way."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.methods.train.epochs import confusion_table, epochs_table
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.recipe import Recipe, check
from cnnprobe.store.tables import Measurement


def compute(
    *,
    model: nn.Module,
    dataset: Any,
    held_out: Any,
    device: str,
    workers: int,
    seed: int,
    batch_size: Annotated[int, Range(1)],
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
    start: int = 0,
    state: dict[str, Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Measurement:
    """Train `model`, in place.

    Args:
        model: takes (image, channel, y, x) or (signal, channel, time), gives (image, class).
        dataset, held_out: image sets; every image has a class.
        device: torch device.
        workers: loader processes.
        seed: of the order of images, their augmentation and dropout.
        start: epochs whose rows there are already.
        state: what the checkpoint `last` of a stopped training has as `resume`; the network need not hold its weights.
        should_stop: asked after every batch; True ends with the checkpoint `last`.

    Returns:
        Measurement of tables `/epochs` and `/confusion`. Its events hold, beside their rows, the checkpoints
        `update=000000` (untrained), 1, 2, 4, … within the first epoch, `epoch=000` and the epochs asked for,
        `best` (highest accuracy on the held-out set, the first of equals) and, after every epoch, `last`.

    Raises:
        UserError: the network cannot learn this; while it runs, the training diverged or memory is short.
    """
    recipe = Recipe.of(locals())
    check(model, dataset, held_out, recipe)
    training = Training(
        model, dataset, held_out, recipe, device=device, workers=workers, state=state, should_stop=should_stop
    )
    about = {"precision": training.precision.number}
    confusion = confusion_table(tuple(dataset.classes), len(held_out))
    tables = [epochs_table(epochs, len(dataset), attributes=about), confusion]
    facts = {"epochs": training.progress.times}
    return Measurement(tables, training.events(start), total=epochs * len(dataset), counts="images", facts=facts)


def headline(recording: Any) -> dict[str, Any]:
    """Return the best accuracy on the held-out images, and its epoch."""
    epochs = recording["epochs"]
    best = int(np.argmax(epochs["val_accuracy"]))
    return {"best val_accuracy": float(epochs["val_accuracy"][best]), "at epoch": int(epochs["epoch"][best])}


def draw(recording: Any) -> Iterator[tuple[str, Any]]:
    """Draw the learning curves and the confusion matrix."""
    from cnnprobe.methods.train.figures import learning_curves
    from cnnprobe.methods.train.matrix_figure import confusion_matrix

    epochs, confusion = recording["epochs"], recording["confusion"]
    classes, matrix = json.loads(confusion.attributes["classes"]), confusion["matrix"]
    title = f"{recording.attributes['model']} learns {recording.attributes['dataset']}"
    curves = {name: epochs[name] for name in ("epoch", "loss", "val_loss", "accuracy", "val_accuracy", "lr")}
    if not len(curves["epoch"]):
        return
    yield "learning", learning_curves(**curves, chance=1 / len(classes), title=title)
    if len(matrix):  # written last: not there yet while a training goes on
        yield "confusion", confusion_matrix(matrix, classes, title=f"{title}: held-out images, best weights")
