"""Units and what a dataset varies as numbers: responses to every image, curves over a grid, and what can be read out.

Read out from what, of each layer:

all          all its units
components   their first 16 principal components: as many numbers as a capsule has
capsule      of the layer of class capsules: the one of the image's own class
length       the length of that capsule

A number is read out within each class, since a capsule says how a thing of its own class lies (`decoding.r2`); the
class itself from all units (`decoding.accuracy`).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.varied import Varied
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.images.stimuli_table import skipped_rows, stimuli_table
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.statistics.decoding import LEAST, NONE, Reading, accuracy, r2
from cnnprobe.methods.contract import Provided
from cnnprobe.methods.tuning.responses import Reading as Neurons
from cnnprobe.methods.tuning.responses import Site, missing, respond
from cnnprobe.store.tables import Advance, Column, Measurement, Phase, Rows, Table

LOG = logging.getLogger("cnnprobe")
COMPONENTS = 16
CLASS = "class"
"""What stands among the factors for the class."""
SAVED = 32
"""Units that are saved together."""
Readout = Literal["all", "components", "capsule", "length"]
UnitColumn = Literal["unit", "dead", "curve"]
DecodingColumn = Literal["layer", "readout", "factor", "class", "score", "low", "high", "chance", "images", "features"]
"""Columns of the table "decoding"."""


@dataclass(frozen=True)
class Task:
    """Something that is read out of a layer.

    Args:
        layer: its name.
        readout: from which of its responses.
        factor: what; `CLASS`: the class.
    """

    layer: str
    readout: Readout
    factor: str


def measure(
    provided: Provided,
    layer: str | list[str],
    units: str | int | list[int],
    reading: Neurons,
    pages: list[int] | None,
) -> Measurement:
    """Show every image once, keep what the units respond, and read out of it what the dataset varied.

    Args:
        provided: by the run; its dataset has `varied`.
        layer, units, reading, pages: see `method.compute`.

    Returns:
        tables "units/<layer>" with `curve`; "decoding", unless one factor at a time is stepped through; and "stimuli",
        with a column for every factor.

    Raises:
        UserError: no such layer, unit or page.
    """
    model, dataset, computation, resumed = provided.model, provided.dataset, provided.computation, provided.resumed
    varied = dataset.varied
    assert varied is not None
    layers = find(model, layer, dataset.size)
    chosen = {one.name: units_of(one, units) for one in layers}
    if absent := [page for page in pages or [] if not any(page in own for own in chosen.values())]:
        raise UserError(f"pages={absent[0]}: that unit is not among those measured")
    sites = {one.name: Site(one, chosen[one.name], dataset.size, reading) for one in layers}
    capsules = {one.name: _capsules(model, one, len(chosen[one.name]), dataset) for one in layers}
    tables: list[Table[Any]] = []
    for place, one in enumerate(layers):
        shown = [-1] if pages is None else [page for page in pages if page in chosen[one.name]]
        own = {"order": place, "pages": shown, "reading": reading, "capsule_size": capsules[one.name]}
        tables.append(_units(one, chosen[one.name], len(dataset), own | {"image_size": list(dataset.size)}))
    groups = np.unique(_groups(dataset)).tolist()
    tasks = [] if varied.stepped is not None else _tasks(layers, chosen, capsules, len(groups) > 1, varied)
    decoding = [_decoding(tasks, groups)] if tasks else []
    stimuli = _stimuli(dataset, varied, computation.batch_size)
    how = Decoding(dataset, varied, capsules, groups, computation.seed)

    def events() -> Iterator[Rows[Any] | Advance | Phase]:
        loaded = lambda start: batches(dataset, **computation.loading, start=start)  # noqa: E731
        found = yield from respond(model, sites, loaded, np.zeros(len(dataset)), resumed.unfinished)
        there = resumed.finished
        for start in missing(stimuli, there):
            skipped = np.zeros(min(computation.batch_size, len(dataset) - start), bool)
            yield from skipped_rows(skipped, computation.batch_size, start)
        for one, table in zip(layers, tables):
            for start in missing(table, there):
                curve = found[one.name][start : start + SAVED]
                yield Rows[UnitColumn](table.name, start, {"dead": (curve == 0).all(1), "curve": curve})
        if decoding:
            yield Phase("decoding", len(tasks), "read-outs")
            for place, task in enumerate(tasks):
                start = place * decoding[0].batch
                if start in missing(decoding[0], there):
                    yield Rows[DecodingColumn]("decoding", start, how.scores(task, found[task.layer].T))
                yield Advance()

    return Measurement([*tables, *decoding, stimuli], events(), len(dataset), "images")


def _groups(dataset: ImageSet) -> np.ndarray:
    """Return the group of each image in which numbers are read out: its class; one for all where there are none."""
    known = dataset.labels >= 0
    return np.where(known, dataset.labels, -2) if known.any() else np.zeros(len(dataset), np.int64)


def _capsules(model: nn.Module, layer: Layer, units: int, dataset: ImageSet) -> int:
    """Return the numbers of a capsule in a layer of class capsules that are all measured; 0 of another layer."""
    count = len(dataset.classes)
    holds = layer.name == about(model).capsules and units == layer.channels and count and not layer.map_size
    return layer.channels // count if holds and layer.channels % count == 0 else 0


def _tasks(
    layers: list[Layer], chosen: dict[str, np.ndarray], capsules: dict[str, int], classes: bool, varied: Varied
) -> list[Task]:
    """Return what is read out, layer by layer."""
    tasks = []
    for one in layers:
        whole: list[Readout] = ["all", "components"] if len(chosen[one.name]) > COMPONENTS else ["all"]
        own: list[Readout] = ["capsule", "length"] if capsules[one.name] else []
        tasks += [Task(one.name, readout, CLASS) for readout in whole if classes]
        tasks += [Task(one.name, readout, factor) for factor in varied.values for readout in (*own, *whole)]
    return tasks


@dataclass(frozen=True)
class Decoding:
    """Reads out.

    Args:
        dataset: whose labels are the classes.
        varied: what is read out.
        capsules: numbers of a capsule, by layer; 0 where it has none.
        groups: of images, within which numbers are read out.
        seed: of folds and draws.
    """

    dataset: ImageSet
    varied: Varied
    capsules: dict[str, int]
    groups: list[int]
    seed: int

    def scores(self, task: Task, responses: np.ndarray) -> dict[DecodingColumn, np.ndarray]:
        """Read out one thing: the row of all groups, then one for each.

        Args:
            task: what, and from what.
            responses: (image, unit).
        """
        features, groups = self._features(task, responses.astype(np.float64)), _groups(self.dataset)
        how = Reading(COMPONENTS if task.readout == "components" else None, seed=self.seed)
        if task.factor == CLASS:
            found = accuracy(features, self.dataset.labels, how)
        else:
            values = self.varied.values[task.factor]
            if task.readout in ("capsule", "length"):  # of an image without a class no capsule is its own
                values = np.where(self.dataset.labels >= 0, values, np.nan)
            found = r2(features, values, groups, how)
            if few := [group for group in self.groups if found[group].few]:
                LOG.warning(f"{task.factor} of {task.layer}: not decoded in {len(few)} of {len(self.groups)} classes, "
                            f"which have fewer than {LEAST} images with it")  # fmt: skip
        rows = [found.get(group, NONE) for group in (-1, *self.groups)]
        told: tuple[DecodingColumn, ...] = ("low", "high", "chance", "images")
        numbers: dict[DecodingColumn, np.ndarray] = {
            name: np.array([getattr(row, name) for row in rows]) for name in told
        }
        count = min(features.shape[1], how.components or features.shape[1])
        return {"score": np.array([row.value for row in rows]), **numbers, "features": np.full(len(rows), count)}

    def _features(self, task: Task, responses: np.ndarray) -> np.ndarray:
        if task.readout in ("all", "components"):
            return responses
        size = self.capsules[task.layer]
        capsules = responses.reshape(len(responses), -1, size)
        own = capsules[np.arange(len(responses)), np.maximum(self.dataset.labels, 0)]
        return own if task.readout == "capsule" else np.linalg.norm(own, axis=1, keepdims=True)


def _units(layer: Layer, units: np.ndarray, images: int, about: dict[str, Any]) -> Table[UnitColumn]:
    listed: dict[UnitColumn, Column] = {
        "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
        "dead": Column("true where it responds to no image", dtype="bool"),
        "curve": Column("response to each row of stimuli", "stimulus", (images,), unit="activation"),
    }
    return Table(f"units/{layer.group}", "unit", len(units), listed, SAVED, about | layer.attributes)


def _decoding(tasks: list[Task], groups: list[int]) -> Table[DecodingColumn]:
    """Lay out what is read out: a row for all classes together, then one for each, task by task."""
    per = 1 + len(groups)
    named = {name: np.repeat([getattr(task, name) for task in tasks], per).astype(object)
             for name in ("layer", "readout", "factor")}  # fmt: skip
    words = "all units, their principal components, the capsule of the image's class, or its length"
    columns: dict[DecodingColumn, Column] = {
        "layer": Column("whose responses are read", dtype="str", values=named["layer"]),
        "readout": Column(words, dtype="str", values=named["readout"]),
        "factor": Column("what is read out: a factor, or the class", dtype="str", values=named["factor"]),
        "class": Column("of the images, -1 = the mean over classes", dtype="int64", unit="index",
                        values=np.tile([-1, *groups], len(tasks))),
        "score": Column("R² of a factor, accuracy of the class, of images held out; NaN: none", dtype="float64"),
        "low": Column("lower end of its 95 % interval over images", dtype="float64"),
        "high": Column("upper end of its 95 % interval", dtype="float64"),
        "chance": Column("0 of a factor; share of the largest class", dtype="float64"),
        "images": Column("images that were predicted", dtype="int64", unit="images"),
        "features": Column("numbers it is read from", dtype="int64", unit="1"),
    }  # fmt: skip
    return Table("decoding", "readout", per * len(tasks), columns, per)


def _stimuli(dataset: ImageSet, varied: Varied, batch: int) -> Table[Any]:
    """Describe the images, with a column for each factor."""
    table = stimuli_table(dataset, batch)
    listed: dict[Any, Column] = dict(table.columns)
    for name, values in varied.values.items():
        words = f"{name}, NaN where there is none"
        listed[name] = Column(words, dtype="float64", unit=varied.units[name], values=values)
    if varied.stepped is not None:
        words = "factor that is stepped through, while the others rest"
        listed["stepped"] = Column(words, dtype="str", values=varied.stepped.astype(object))
    units = [varied.units[name] for name in varied.values]
    own = table.attributes | {"factors": list(varied.values), "factor_units": units}
    return Table(table.name, table.row, table.rows, listed, table.batch, own, table.aside)
