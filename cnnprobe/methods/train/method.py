"""Train a network on a dataset, and keep how it learned: curves, confusion matrix, weights along the way."""

from typing import Any

from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.methods.train.epochs import EpochColumn, about_task, best_of, epochs_table, shown_measures
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
    from cnnprobe.methods.train.run_figures import curves, result_figures

    title = f"{recording.attributes['model']} learns {recording.attributes['dataset']}"
    yield "learning", curves(recording, title)
    yield from result_figures(recording, f"{title}: held-out images, best weights")
