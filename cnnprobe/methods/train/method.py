"""Train a network on a dataset, and keep how it learned: curves, confusion matrix, weights along the way."""

import json
from typing import TYPE_CHECKING, Any, cast

from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.train.epochs import EpochColumn, about_task, best_of, epochs_table
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.recipe import Recipe, check
from cnnprobe.methods.train.tasks import MEASURES, ResultColumn
from cnnprobe.store.reader import Recording, TableView
from cnnprobe.store.tables import Measurement, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDER = 1
"""Its place in the list of commands."""
LEARNS = True
"""It changes the weights."""
RESULTS: dict[str, ResultColumn] = {"confusion": "matrix", "classes": "images", "channels": "explained"}
"""Tables of the best epoch, of which a training has one, each with a column."""


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
        Measurement of `/epochs` and the table of the best epoch: `/confusion` of images or of pixels, `/classes` where
        an image may have several, `/channels` of courses. Its events hold, beside their rows, the checkpoints
        `update=000000` (untrained), 1, 2, 4, … within the first epoch, `epoch=000` and the epochs requested,
        `best` (highest measure of the task on the held-out set, the first of equals) and, after every epoch, `last`.

    Raises:
        UserError: the network cannot learn this; while it runs, the training diverged or memory is short.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    held_out = provided.images_to_judge_by()
    check(model, dataset, held_out, recipe, computation.batch_size)
    training = Training(
        model, dataset, held_out, recipe, computation, state=resumed.state, should_stop=provided.should_stop
    )
    about = {"precision": training.precision.number, **about_task(training.task)}
    epochs = epochs_table(recipe.epochs, len(dataset), training.columns, about)
    tables: list[Table[Any]] = [epochs, training.task.table(len(held_out))]
    facts = {"epochs": training.progress.times}
    return Measurement(
        tables, training.events(resumed.start), total=recipe.epochs * len(dataset), counts="images", facts=facts
    )


def headline(recording: Recording) -> dict[str, Any]:
    """Return the best measure on the held-out images, e.g. accuracy, and its epoch."""
    epochs: TableView[EpochColumn] = recording["epochs"]
    _, held_out = shown_measures(epochs)
    best = best_of(epochs[held_out])
    return {f"best {held_out}": float(epochs[held_out][best]), "at epoch": int(epochs["epoch"][best])}


def draw(recording: Recording) -> Figures:
    """Draw the learning curves, and how the best weights judge the held-out images."""
    epochs: TableView[EpochColumn] = recording["epochs"]
    if not len(epochs["epoch"]):
        return
    title = f"{recording.attributes['model']} learns {recording.attributes['dataset']}"
    yield "learning", curves(recording, title)
    yield from result_figures(recording, f"{title}: held-out images, best weights")


def curves(recording: Recording, title: str, **old: Any) -> "Figure":
    """Return the learning curves.

    Args:
        recording: of train, or of transfer.
        title: above them.
        old: of the old task, see `figures.learning_curves`.
    """
    from cnnprobe.methods.train.figures import learning_curves

    epochs: TableView[EpochColumn] = recording["epochs"]
    learned, held_out = shown_measures(epochs)
    about = epochs.attributes
    chance, guess = about.get("chance"), about.get("guess", "chance")
    if chance is None:  # of a version that knew one class per image alone
        chance = 1 / len(json.loads(recording["confusion"].attributes["classes"]))
    return learning_curves(
        epoch=epochs["epoch"],
        loss=epochs["loss"],
        val_loss=epochs["val_loss"],
        lr=epochs["lr"],
        learned=None if learned is None else epochs[learned],
        held_out=epochs[held_out],
        measure=MEASURES.get(name := held_out.removeprefix("val_"), name),
        chance=chance,
        guess=guess,
        title=title,
        **old,
    )


def result_figures(recording: Recording, title: str) -> Figures:
    """Give the figure of the table of the best epoch, where it has been written: it comes last."""
    from cnnprobe.methods.train.matrix_figure import confusion_matrix
    from cnnprobe.methods.train.scores_figure import scores

    name = next((one for one in RESULTS if one in recording), "confusion")
    table: TableView[ResultColumn] = recording[name]
    if not len(table[RESULTS[name]]):
        return
    classes = json.loads(table.attributes["classes"])
    if name == "confusion":
        overlap = [table["iou"]] if "iou" in table else []  # of pixels
        yield "confusion", confusion_matrix(table["matrix"], classes, title, *overlap)
    elif name == "classes":
        count = table["images"]
        guessed = count / max(1, table.attributes["images"])
        what = "average precision"
        yield (
            "classes",
            scores(table["average_precision"], classes, what, title, guessed, [f"{n} images" for n in count]),
        )
    else:
        yield "channels", scores(table["explained"], classes, "explained share (R²)", title)


def shown_measures(epochs: TableView[EpochColumn]) -> tuple[EpochColumn | None, EpochColumn]:
    """Return the columns of what a training is judged by: of training images (None: not known), of held-out ones."""
    measure = epochs.attributes.get("measure", "accuracy")
    learned = cast(EpochColumn, measure) if measure in epochs else None
    return learned, cast(EpochColumn, f"val_{measure}")
