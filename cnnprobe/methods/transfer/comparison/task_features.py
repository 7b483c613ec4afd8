"""Units that tell the classes of a task apart, in the initial network and in the one that has learned the task."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison.columns import SIDES, FeatureColumn, FeaturePart, Side, feature_column
from cnnprobe.methods.transfer.comparison.discrimination import discriminability, strongest_class
from cnnprobe.methods.transfer.comparison.responses import answers
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished


class TaskFeatures:
    """Measures d' of every unit for every class of a task, see `discrimination.discriminability`.

    A unit's response to an image is the maximum of its map. Tables: `/discrimination/<layer>`, a row a unit.

    Args:
        before, after: networks of one architecture, on the device; they are given back as they were.
        layers: of both.
        images: an image set with classes: held-out images of the task.
        units: channels of each layer, see `layers.naming.units_of`.
        computation: device, loaders, batch size.

    Raises:
        UserError: no such unit.
    """

    def __init__(
        self,
        before: nn.Module,
        after: nn.Module,
        layers: list[Layer],
        images: ImageSet,
        *,
        units: str | int | list[int | str],
        computation: Computation,
    ):
        self.networks, self.layers, self.images = (before, after), layers, images
        self.computation = computation
        self.units = {layer.name: units_of(layer, units) for layer in layers}

    def tables(self) -> list[Table[FeatureColumn]]:
        """Lay out every table."""
        classes = self.images.classes
        about = {"dataset": self.images.name, "images": len(self.images)}
        about["classes"] = json.dumps(list(classes), ensure_ascii=False)
        made = []
        for place, layer in enumerate(self.layers):
            units = self.units[layer.name]
            channel = Column("channel of the layer", dtype="int64", unit="index", values=units)
            columns: dict[FeatureColumn, Column] = {"unit": channel}
            for side in SIDES:
                sided: dict[FeaturePart, Column] = {
                    "dprime": Column(f"d' for each class against the others, {side}", "class", (len(classes),)),
                    "best_class": Column(f"with the largest |d'|, {side}; -1: none", dtype="int64", unit="index"),
                    "best_dprime": Column(f"d' for that class, {side}"),
                }
                columns |= {feature_column(part, side): column for part, column in sided.items()}
            own = about | layer.attributes | {"order": place}
            made.append(Table(_name(layer), "unit", len(units), columns, len(units), own))
        return made

    def events(
        self, finished: dict[str, frozenset[int]], unfinished: Unfinished | None = None
    ) -> Iterator[Rows[FeatureColumn] | Advance | Phase]:
        """Measure them.

        Args:
            finished: by table, first rows of the batches there are already.
            unfinished: keeps the answers so far.
        """
        missing = [layer for layer in self.layers if 0 not in finished.get(_name(layer), ())]
        if not missing:
            return
        found: dict[str, dict[FeatureColumn, np.ndarray]] = {layer.name: {} for layer in missing}
        for side, model in zip(SIDES, self.networks):
            yield Phase(f"task features {side}", len(self.images), "images")
            how: dict[str, Any] = {"name": f"features/{side}", "unfinished": unfinished}
            seen = yield from answers(model, missing, self.images, np.zeros(0, np.int64), self.computation, **how)
            for layer in missing:
                some = seen[layer.name].largest[:, self.units[layer.name]]
                found[layer.name] |= self._columns(some, side)
        for layer in missing:
            yield Rows(_name(layer), 0, found[layer.name])
        if unfinished is not None:
            unfinished.drop("features")

    def _columns(self, responses: np.ndarray, side: Side) -> dict[FeatureColumn, np.ndarray]:
        values = discriminability(responses, self.images.labels, len(self.images.classes))
        which, best = strongest_class(values)
        return {
            feature_column("dprime", side): values.astype(np.float32),
            feature_column("best_class", side): which,
            feature_column("best_dprime", side): best.astype(np.float32),
        }


def _name(layer: Layer) -> str:
    return f"discrimination/{layer.group}"
