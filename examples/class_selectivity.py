"""Measure how selective each unit is for one class of images.

    cnnprobe class-selectivity method.file=class_selectivity.py model=convnet dataset=avatar layer=conv3

The index of Morcos, Barrett, Rabinowitz and Botvinick (2018), On the importance of single directions for
generalization, ICLR: (highest - others) / (highest + others), of the mean response of a unit to the images
of the class it responds to most, and of the average of its mean responses to those of each other class. The response to
an image is the mean of the unit's map; 0: all classes alike, 1: one class alone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.stimuli_table import stimuli_table
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.methods.contract import Figures, Provided
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Advance, Column, Measurement, Rows, Table


def compute(provided: Provided, *, layer: str | list[str], rectified: bool = True) -> Measurement:
    """Lay out a row for each unit, and return the pass over the images that fills them.

    Args:
        provided: by the run.
        layer: layers to read: names of `cnnprobe layers`, a list [conv1,conv3], a pattern conv*, or all
        rectified: negative activations count as 0; without that the index of a unit has no bounds.
    """
    dataset, classes = provided.dataset, provided.dataset.classes
    if len(classes) < 2:
        raise UserError(f"class-selectivity needs images of two or more classes; {dataset.name} has {len(classes)}")
    layers = find(provided.model, layer, dataset.size)
    tables = [
        Table(
            f"units/{one.group}", "unit", one.channels,
            {
                "selectivity": Column("(highest - others) / (highest + others) of the mean responses by class"),
                "preferred": Column("class of the highest mean response", dtype="int64", unit="index"),
                "response": Column("mean response to images of a class", "class", (len(classes),), unit="activation"),
            },
            batch=one.channels, attributes=one.attributes | {"order": order},
        )
        for order, one in enumerate(layers)
    ]  # fmt: skip
    tables.append(stimuli_table(dataset, provided.computation.batch_size))
    return Measurement(tables, _events(provided, layers, rectified), len(dataset))


def _events(provided: Provided, layers: list[Layer], rectified: bool) -> Iterator[Advance | Rows]:
    """Sum the responses to each class over one pass; then give the rows of each layer."""
    count = len(provided.dataset.classes)
    sums = {layer.name: np.zeros((layer.channels, count)) for layer in layers}
    images = np.zeros(count)
    labels = np.zeros(0, np.int64)  # of the batch that is shown, -1 where an image counts for no class

    def receive(layer: Layer, activation: Tensor) -> None:
        values = (activation.clamp(min=0) if rectified else activation).flatten(2).mean(2)
        for image, label in enumerate(labels):
            if label >= 0:
                sums[layer.name][:, label] += values[image].double().cpu().numpy()

    with torch.inference_mode(), tap(provided.model, layers, receive) as show:
        for batch in batches(provided.dataset, **provided.computation.loading):
            labels = np.where(batch.readable, batch.labels, -1)
            show(batch.images)
            yield Rows("stimuli", int(batch.indices[0]), {"skipped": ~batch.readable})
            images += np.bincount(labels[labels >= 0], minlength=count)
            yield Advance(len(batch))
    for layer in layers:
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN: a class without images, a unit without an index
            means = sums[layer.name] / images
            shown = np.where(images, means, -np.inf)
            highest = shown.max(axis=1)
            others = (np.nansum(means, axis=1) - highest) / ((images > 0).sum() - 1)
            index = (highest - others) / (highest + others)
        columns = {"selectivity": index, "preferred": shown.argmax(axis=1), "response": means}
        yield Rows(f"units/{layer.group}", 0, columns)


def headline(recording: Recording) -> dict[str, Any]:
    """Return the mean index of each layer."""
    return {table.attributes["layer"]: mean_index(table["selectivity"]) for table in recording.in_order()}


def mean_index(values: np.ndarray) -> float:
    """Return the mean over the units that have an index (unit,); NaN where none has."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def draw(recording: Recording) -> Figures:
    """Give one figure: the index of every unit, by layer."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    tables = recording.in_order()
    for place, table in enumerate(tables):
        values = np.sort(table["selectivity"])
        axes.plot(place + np.linspace(-0.3, 0.3, len(values)), values, "o", color="C0", alpha=0.6, markersize=4)
        axes.plot([place - 0.35, place + 0.35], [mean_index(values)] * 2, color="k", label=None if place else "mean")
    axes.set_xticks(range(len(tables)), [table.attributes["layer"] for table in tables])
    axes.set(ylabel="class selectivity of a unit", ylim=(-0.02, 1.02))
    about = recording.attributes
    axes.set_title(f"{about['model']}, {about['dataset']}, weights: {about['weights']}", fontsize="medium")
    axes.legend(frameon=False)
    yield "selectivity", figure
