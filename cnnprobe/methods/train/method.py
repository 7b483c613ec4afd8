"""Train a network on a dataset, and keep how it learned: curves, confusion matrix, weights along the way."""

import json
from typing import Any

import numpy as np

from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.train.epochs import ConfusionColumn, EpochColumn, confusion_table, epochs_table
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.recipe import Recipe, check
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Measurement, Table

ORDER = 1
"""Its place in the list of commands."""
LEARNS = True
"""It changes the weights."""


def compute(
    provided: Provided,
    *,
    recipe: Recipe,
) -> Measurement:
    """Train `model`, in place.

    Args:
        provided: by the run, see `contract.Provided`; every image has a class.
        recipe: every choice of the training.

    Returns:
        Measurement of tables `/epochs` and `/confusion`. Its events hold, beside their rows, the checkpoints
        `update=000000` (untrained), 1, 2, 4, … within the first epoch, `epoch=000` and the epochs requested,
        `best` (highest accuracy on the held-out set, the first of equals) and, after every epoch, `last`.

    Raises:
        UserError: the network cannot learn this; while it runs, the training diverged or memory is short.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    held_out = provided.images_to_judge_by()
    check(model, dataset, held_out, recipe, computation.batch_size)
    training = Training(
        model, dataset, held_out, recipe, computation, state=resumed.state, should_stop=provided.should_stop
    )
    about = {"precision": training.precision.number}
    confusion = confusion_table(tuple(dataset.classes), len(held_out))
    tables: list[Table[Any]] = [epochs_table(recipe.epochs, len(dataset), attributes=about), confusion]
    facts = {"epochs": training.progress.times}
    return Measurement(
        tables, training.events(resumed.start), total=recipe.epochs * len(dataset), counts="images", facts=facts
    )


def headline(recording: Recording) -> dict[str, Any]:
    """Return the best accuracy on the held-out images, and its epoch."""
    epochs: TableView[EpochColumn] = recording["epochs"]
    best = int(np.argmax(epochs["val_accuracy"]))
    return {"best val_accuracy": float(epochs["val_accuracy"][best]), "at epoch": int(epochs["epoch"][best])}


def draw(recording: Recording) -> Figures:
    """Draw the learning curves and the confusion matrix."""
    from cnnprobe.methods.train.figures import learning_curves
    from cnnprobe.methods.train.matrix_figure import confusion_matrix

    epochs: TableView[EpochColumn] = recording["epochs"]
    confusion: TableView[ConfusionColumn] = recording["confusion"]
    classes, matrix = json.loads(confusion.attributes["classes"]), confusion["matrix"]
    title = f"{recording.attributes['model']} learns {recording.attributes['dataset']}"
    curves: dict[str, Any] = {
        name: epochs[name] for name in ("epoch", "loss", "val_loss", "accuracy", "val_accuracy", "lr")
    }
    if not len(curves["epoch"]):
        return
    yield "learning", learning_curves(**curves, chance=1 / len(classes), title=title)
    if len(matrix):  # written last: not there yet while a training goes on
        yield "confusion", confusion_matrix(matrix, classes, title=f"{title}: held-out images, best weights")
