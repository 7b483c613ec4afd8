"""Forgetting in a network: every unit and every layer compared before and after it learned something else."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.layers.naming import layers_of
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison import drift
from cnnprobe.methods.transfer.comparison.changed_units import Chosen, Overwritten
from cnnprobe.methods.transfer.comparison.columns import SIDES, LayerColumn, UnitColumn, UnitPart, unit_column
from cnnprobe.methods.transfer.comparison.discrimination import class_means
from cnnprobe.methods.transfer.comparison.kernel_alignment import alignment, gram
from cnnprobe.methods.transfer.comparison.responses import Answers, answers, blocks
from cnnprobe.store.tables import Advance, Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished

LOG = logging.getLogger("cnnprobe")
COMPARED = 500
"""Images at most on which whole layers are compared: dissimilarities grow with the square of their number."""
STEPS = 128
"""Of the ascent to a preferred image."""


class Forgetting:
    """Compares two networks of one architecture, unit by unit and layer by layer.

    A unit's response to an image is the maximum of its map. The tables are `/forgetting/<layer>`, a row a unit;
    `/layers`, a row a layer; and `/changed`, a row for each of the most changed units: first those that were forgotten
    (see `drift.forgotten`), then by the correlation of their responses; as many rows are empty as there are too few.

    Args:
        before, after: the networks, on the device; they are given back as they were.
        layers: of `before`; not the readout, if that is a new one.
        images: an image set, best with classes: held-out images of the old task.
        units: channels of each layer, see `layers.naming.units_of`.
        computation: device, loaders, batch size; and the seed of the images that layers are compared on, and of the
            noise of occluders and of preferred images.
        k: strongest images per unit.
        most_changed: rows of `/changed`; 0: no such table.

    Raises:
        UserError: no such unit.
        ValueError: a layer has another number of units afterwards.
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
        k: int,
        most_changed: int,
    ):
        self.networks, self.layers, self.images = (before, after), layers, images
        self.computation = computation
        self.classes = images.classes if (np.asarray(images.labels) >= 0).any() else ()
        if not self.classes:
            LOG.warning("forgetting of classes needs images with classes: units and layers are compared by r, CKA and "
                        "dissimilarities alone")  # fmt: skip
        self.units = {layer.name: units_of(layer, units) for layer in layers}
        now = {layer.name: layer.channels for layer in layers_of(after, images.size)}
        for layer in layers:
            if layer.channels != now.get(layer.name, layer.channels):
                raise ValueError(f"{layer.name} has {layer.channels} units before and {now[layer.name]} after")
        self.k = min(k, len(images))
        if k >= len(images):
            LOG.warning(f"units are compared on {len(images)} images, top_images is {k}: all overlap, whatever changed")
        count = min(COMPARED, len(images))
        self.compared = np.sort(np.random.default_rng(computation.seed).choice(len(images), count, replace=False))
        rows = min(most_changed, sum(map(len, self.units.values())))
        given: dict[str, Any] = {"rows": rows, "k": self.k, "steps": STEPS, "computation": computation}
        self.shown = Overwritten(self.networks, layers, images, **given) if rows else None

    def tables(self) -> list[Table[Any]]:
        """Lay out every table."""
        about = {"dataset": self.images.name, "images": len(self.images), "k": self.k}
        about["classes"] = json.dumps(list(self.classes), ensure_ascii=False)
        made: list[Table[Any]] = []
        for place, layer in enumerate(self.layers):
            own, units = about | layer.attributes | {"order": place}, self.units[layer.name]
            made.append(Table(_name(layer), "unit", len(units), self._unit(units), len(units), own))
        columns: dict[LayerColumn, Column] = self._layer() | {
            "name": Column("layer", dtype="str", values=np.array([layer.name for layer in self.layers], dtype=object)),
            "module": Column(
                "module path", dtype="str", values=np.array([layer.module for layer in self.layers], dtype=object)
            ),
        }
        made.append(Table("layers", "layer", len(self.layers), columns, attributes=about))
        if self.shown:
            made.append(self.shown.table(_changed(), about))
        return made

    def _unit(self, units: np.ndarray) -> dict[UnitColumn, Column]:
        """Describe what is stored of these units of a layer."""
        k, classes = (self.k,), (len(self.classes),)
        columns: dict[UnitColumn, Column] = {
            "unit": Column("channel of the layer", dtype="int64", unit="index", values=units),
            "correlation": Column("Pearson's r of its responses to all images before and after", dtype="float64"),
            "overlap": Column("share of the strongest images of either that are those of both", dtype="float64"),
            "weight_change": Column("||w' - w|| / ||w|| of the weights that lead to it", dtype="float64"),
            "tuning_correlation": Column("Pearson's r over classes of its mean responses", dtype="float64"),
            "changed": Column("true where its response to any image has changed", dtype="bool"),
            "forgotten": Column(f"r < {drift.LOST} (or dead), selectivity before > {drift.SELECTIVE}", dtype="bool"),
        }
        for side in SIDES:
            own: dict[UnitPart, Column] = {
                "image": Column(f"row of /stimuli, strongest first, {side}", "k", k, "int64", "index"),
                "response": Column(f"maximum of its map, {side}", "k", k, unit="activation"),
                "dead": Column(f"true where no image drives it, {side}", dtype="bool"),
                "class": Column(f"class it responds to most, {side}; -1: none", dtype="int64", unit="index"),
                "selectivity": Column(f"(m_max - m_rest) / (m_max + m_rest) of class means, {side}", dtype="float64"),
                "tuning": Column(f"mean response by class, {side}", "class", classes, unit="activation"),
            }
            columns |= {unit_column(part, side): column for part, column in own.items()}
        return columns

    def _layer(self) -> dict[LayerColumn, Column]:
        """Describe what is stored of a layer."""
        return {
            "cka": Column("debiased linear CKA of its patterns before and after", dtype="float64"),
            "cka_biased": Column("the plain form; large at few images whatever they are", dtype="float64"),
            "rdm_drift": Column("1 - Spearman's r of its dissimilarity matrices", dtype="float64"),
            "compared": Column("images behind these", dtype="int64", unit="images"),
            "features": Column("of a pattern: units times blocks of positions", dtype="int64"),
            "correlation": Column("median over units of r", dtype="float64"),
            "selectivity_before": Column("mean over units", dtype="float64"),
            "selectivity_after": Column("mean over units", dtype="float64"),
            "forgotten": Column("units", dtype="int64", unit="units"),
            "dead_before": Column("units", dtype="int64", unit="units"),
            "dead_after": Column("units", dtype="int64", unit="units"),
        }

    def events(
        self, finished: dict[str, frozenset[int]], unfinished: Unfinished | None = None
    ) -> Iterator[Rows[Any] | Advance | Phase]:
        """Compare them.

        Args:
            finished: by table, first rows of the batches there are already.
            unfinished: keeps what has no row yet.
        """
        wanted = [(table.name, start) for table in self.tables() for start in range(0, table.rows, table.batch)]
        if all(start in finished.get(name, ()) for name, start in wanted):
            return
        seen = []
        for side, model in zip(SIDES, self.networks):
            yield Phase(f"responses {side}", len(self.images), "images")
            how: dict[str, Any] = {"name": f"forgetting/{side}", "unfinished": unfinished}
            seen.append((yield from answers(model, self.layers, self.images, self.compared, self.computation, **how)))
        found, strongest = {}, {}
        for place, layer in enumerate(self.layers):
            pair = tuple(one[layer.name] for one in seen)
            strongest[layer.name] = tuple(one.strongest(self.k).of(self.units[layer.name]) for one in pair)
            found[layer.name] = rows = self._compared(layer, pair, strongest[layer.name])
            if 0 not in finished.get(_name(layer), ()):
                yield Rows(_name(layer), 0, rows)
            if place not in finished.get("layers", ()):
                yield Rows("layers", place, self._summed(layer, pair, rows))
        if self.shown and 0 not in finished.get("changed", ()):
            chosen, columns = self._chosen(found, strongest, self.shown.rows)
            yield from self.shown.events(chosen, columns, unfinished)

    def _compared(
        self, layer: Layer, pair: tuple[Answers, ...], strongest: tuple[Strongest, ...]
    ) -> dict[UnitColumn, np.ndarray]:
        """Return the columns of the units of a layer."""
        units, (before, after) = self.units[layer.name], (one.largest for one in pair)
        columns: dict[UnitColumn, np.ndarray] = {"correlation": drift.unit_correlation(before, after)[units]}
        columns["changed"] = ((before != after) & (np.isfinite(before) | np.isfinite(after))).any(0)[units]
        columns["weight_change"] = drift.weight_change(*self.networks, layer, self.images.size)[units]
        classes = len(self.classes)
        for side, one, best in zip(SIDES, pair, strongest):
            means = class_means(one.largest, self.images.labels, classes)[units]
            preferred, selective = drift.selectivity(means)
            own: dict[UnitPart, np.ndarray] = {"image": best.ranks[BEST].images, "response": best.ranks[BEST].responses}
            own |= {"class": preferred, "selectivity": selective, "dead": best.dead, "tuning": means.astype(np.float32)}
            columns |= {unit_column(part, side): values for part, values in own.items()}
        columns["overlap"] = drift.overlap(columns["image_before"], columns["image_after"])
        columns["tuning_correlation"] = drift.tuning_correlation(columns["tuning_before"], columns["tuning_after"])
        columns["forgotten"] = drift.forgotten(
            columns["correlation"], columns["selectivity_before"], columns["dead_after"]
        )
        return columns

    def _summed(
        self, layer: Layer, pair: tuple[Answers, ...], rows: dict[UnitColumn, np.ndarray]
    ) -> dict[LayerColumn, np.ndarray]:
        """Return the row of a layer."""
        finite = torch.stack([one.patterns.isfinite().all(1) for one in pair]).all(0)
        before, after = (one.patterns[finite] for one in pair)
        kernels = [gram(patterns) for patterns in (before, after)]
        row: dict[LayerColumn, Any] = {"cka": alignment(*kernels), "cka_biased": alignment(*kernels, debiased=False)}
        row |= {"rdm_drift": drift.matrix_drift(before, after), "compared": int(finite.sum())}
        row["features"] = layer.channels * int(np.prod(blocks(layer, len(self.compared)), dtype=np.int64))
        row["correlation"] = _over_units(np.median, rows["correlation"])
        for mean in ("selectivity_before", "selectivity_after"):
            row[mean] = _over_units(np.mean, rows[mean])
        for count in ("forgotten", "dead_before", "dead_after"):
            row[count] = int(rows[count].sum())
        return {name: np.array([row[name]], column.dtype) for name, column in self._layer().items()}

    def _chosen(
        self, found: dict[str, dict[UnitColumn, np.ndarray]], strongest: dict[str, tuple[Strongest, ...]], most: int
    ) -> tuple[list[Chosen], dict[UnitColumn, np.ndarray]]:
        """Choose the most changed units; return them, and the columns that say why."""
        order = []
        for place, layer in enumerate(self.layers):
            rows = found[layer.name]
            for own in np.flatnonzero(~rows["dead_before"] & rows["changed"]):
                r = rows["correlation"][own]
                if np.isfinite(r) or rows["dead_after"][own]:  # a unit that fell silent has no r: as if 0
                    order.append((not rows["forgotten"][own], r if np.isfinite(r) else 0.0, place, int(own)))
        chosen, columns = [], {name: np.full(most, gap) for name, gap in _GAPS.items()}
        for at, (_, _, place, row) in enumerate(sorted(order)[:most]):
            name = self.layers[place].name
            one = np.array([row])
            unit = int(self.units[name][row])
            before, after = strongest[name]
            chosen.append(Chosen(place, unit, (before.of(one), after.of(one))))
            columns["layer"][at], columns["unit"][at] = place, unit
            for column in set(_GAPS) - {"layer", "unit"}:
                columns[column][at] = found[name][column][row]
        return chosen, columns


_GAPS: dict[UnitColumn, float] = {
    "layer": -1, "unit": -1, "correlation": np.nan, "overlap": np.nan, "weight_change": np.nan,
    "selectivity_before": np.nan, "selectivity_after": np.nan, "class_before": -1, "class_after": -1,
    "forgotten": False,
}  # fmt: skip


def _changed() -> dict[UnitColumn, Column]:
    """Describe what is stored of a unit that changed, beside what it looks like."""
    return {
        "layer": Column("place of its layer in the attribute `layers`; -1: no unit", dtype="int64", unit="index"),
        "unit": Column("channel of that layer", dtype="int64", unit="index"),
        "correlation": Column("Pearson's r of its responses before and after; NaN: dead after", dtype="float64"),
        "overlap": Column("share of the strongest images of either that are those of both", dtype="float64"),
        "weight_change": Column("||w' - w|| / ||w|| of the weights that lead to it", dtype="float64"),
        "selectivity_before": Column("for a class, before", dtype="float64"),
        "selectivity_after": Column("for a class, after", dtype="float64"),
        "class_before": Column("class it responds to most, before; -1: none", dtype="int64", unit="index"),
        "class_after": Column("class it responds to most, after; -1: none", dtype="int64", unit="index"),
        "forgotten": Column("see /forgetting", dtype="bool"),
    }


def _name(layer: Layer) -> str:
    return f"forgetting/{layer.group}"


def _over_units(reduce: Any, values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(reduce(known)) if len(known) else np.nan
