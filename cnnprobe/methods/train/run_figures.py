"""Figures of a training from its store, whatever it was taught; those of transfer are the same."""

import json
from typing import Any

from matplotlib.figure import Figure

from cnnprobe.methods.contract import Figures
from cnnprobe.methods.train.epochs import EpochColumn, shown_measures
from cnnprobe.methods.train.figures import learning_curves
from cnnprobe.methods.train.matrix_figure import confusion_matrix
from cnnprobe.methods.train.tasks import MEASURES, RESULTS, ResultColumn
from cnnprobe.plots.scores import scores
from cnnprobe.store.reader import Recording, TableView


def curves(recording: Recording, title: str, **old: Any) -> Figure:
    """Return the learning curves.

    Args:
        recording: of train, or of transfer.
        title: above them.
        old: of the old task, see `figures.learning_curves`.
    """
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
