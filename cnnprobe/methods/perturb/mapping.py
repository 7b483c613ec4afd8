"""Spectral fields of the units of a layer: how the perturbation of every band moves each, and the chance level."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.statistics.correlation import chance, orders, over_draws, partial
from cnnprobe.methods.perturb.perturbation import Kind, Noise, Trials, slopes
from cnnprobe.store.tables import Advance, Column, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

SAVED_UNITS = 32
"""Units that are computed and saved together."""
STILL = 1e-6
"""A response that varies less than this share of the unit's activation over trials does not vary, but for rounding."""
RESPONSES = {"amplitude": "the mean of its map", "phase": "its map's correlation with the original map"}
NullColumn = Literal["amplitude_null", "phase_null"]
"""Levels of chance, of units and of layers."""
LayerColumn = Literal["name", "nyquist", "units", Kind, NullColumn]
"""Columns of the table "layers"."""
UnitColumn = Literal[
    "unit", "size", "dead", Kind, "amplitude_se", "phase_se", "amplitude_partial", "phase_partial", NullColumn,
    "gradient",
]  # fmt: skip
"""Columns of the tables "units/<layer>"."""
ERROR: dict[Kind, UnitColumn] = {"amplitude": "amplitude_se", "phase": "phase_se"}
PARTIAL: dict[Kind, UnitColumn] = {"amplitude": "amplitude_partial", "phase": "phase_partial"}
NULL: dict[Kind, NullColumn] = {"amplitude": "amplitude_null", "phase": "phase_null"}
"""Columns that go with the correlations of a kind."""


@dataclass(frozen=True)
class Chance:
    """What is called more than chance.

    Args:
        permutations: of the trials, from which null levels come.
        level: how often chance alone exceeds the null level in any band.
        seed: of the permutations.
    """

    permutations: int
    level: float
    seed: int

    def orders(self, trials: int) -> list[np.ndarray]:
        """Return the permutations, (trial,) each, a function of the seed and their number."""
        return orders(trials, self.permutations, self.seed)

    def limit(self, largest: np.ndarray) -> np.ndarray:
        """Return the null level from the largest values of the permutations, (permutation, …) to (…)."""
        if not len(largest):
            return np.full(largest.shape[1:], np.nan)
        return np.quantile(largest, 1 - self.level, axis=0, method="higher")


@dataclass
class SpectralFields:
    """The units of one layer.

    Args:
        layer: it.
        units: channels of it.
        noise: with what the images were perturbed.
        test: of chance.
        gradients: whether slopes are measured.
        nyquist: half the rate of the layer's positions, in the unit of the bands; NaN where it has none.
        found: once `events` is through: columns of the layer's row in the table "layers".
    """

    layer: Layer
    units: np.ndarray
    noise: Noise
    test: Chance
    gradients: bool
    nyquist: float
    found: dict[LayerColumn, np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its table."""
        return f"units/{self.layer.group}"

    def table(self, attributes: dict[str, Any]) -> Table[UnitColumn]:
        """Lay out what is stored of the units."""
        columns: dict[UnitColumn, Column] = {
            "unit": Column("channel of the layer", dtype="int64", unit="index", values=self.units),
            "size": Column("root of the mean square of its map, unperturbed", unit="activation"),
            "dead": Column("true where the map is 0 for every image", dtype="bool"),
        }
        whole = (len(self.noise.bands), self.noise.groups)
        for kind in self.noise.kinds:
            axes, shape = ("band", whole[:1]) if kind == "phase" else ("band channel", whole)
            told = f"over images of the perturbation and of {RESPONSES[kind]}"
            columns |= {
                kind: Column(f"correlation {told}, mean over draws; 0: no effect", axes, shape),
                ERROR[kind]: Column("its standard error over draws", axes, shape),
                PARTIAL[kind]: Column("the same correlation given all other bands", axes, shape),
                NULL[kind]: Column(f"|{kind}| that chance exceeds anywhere in a share `level` of permutations"),
            }
        if self.gradients:
            told = "gradient of the mean of its map by the perturbation, at none"
            columns["gradient"] = Column(told, "band channel", whole, unit="activation")
        own = attributes | self.layer.attributes | {"nyquist": self.nyquist}
        return Table(self.name, "unit", len(self.units), columns, SAVED_UNITS, own)

    def events(
        self, trials: Trials, model: nn.Module, images: Tensor | None, unfinished: Unfinished | None = None
    ) -> Iterator[Rows[UnitColumn] | Advance]:
        """Give the rows; `found` is filled.

        Args:
            trials: of `perturbation.Showing`.
            model: any network.
            images: those at which slopes are measured.
            unfinished: keeps the sums over the units that are saved already.
        """
        cells = {kind: torch.from_numpy(trials.perturbation[kind]).double() for kind in self.noise.kinds}
        readable = torch.from_numpy(~trials.skipped)
        cells = {kind: values[:, readable] for kind, values in cells.items()}
        sums = {kind: _Sums(self.test.permutations, values.shape[-1]) for kind, values in cells.items()}
        first, unfinished = 0, unfinished or Unfinished()

        def restore(state: State) -> None:
            nonlocal first
            for kind, total in sums.items():
                put(vars(total), state["sums"][kind])
            first = state["units"]

        kept = {kind: vars(total) for kind, total in sums.items()}
        unfinished.begin(self.name, lambda: {"units": first, "sums": kept}, restore)
        yield Advance(first)
        slope = slopes(model, self.layer, self.units[first:], self.noise, images) if self.gradients else iter(())
        for start in range(first, len(self.units), SAVED_UNITS):
            part = slice(start, start + SAVED_UNITS)
            size = trials.size[self.layer.name][part]
            columns: dict[UnitColumn, np.ndarray] = {"size": size.astype(np.float32), "dead": size == 0}
            for kind, perturbation in cells.items():
                response = torch.from_numpy(trials.response[kind, self.layer.name][..., part]).double()[:, readable]
                columns |= self._correlated(kind, perturbation, response, size, sums[kind])
            if self.gradients:
                columns["gradient"] = np.stack([next(slope)[1] for _ in size])
            first = start + len(size)
            yield Rows(self.name, start, columns)
            yield Advance(len(size))
        unfinished.end(self.name)
        for kind, total in sums.items():
            self.found |= {
                kind: self._folded(kind, torch.from_numpy(total.mean())[:, None])[0],
                NULL[kind]: self.test.limit(total.chance()),
            }

    def _correlated(
        self, kind: Kind, perturbation: Tensor, response: Tensor, size: np.ndarray, total: "_Sums"
    ) -> dict[UnitColumn, np.ndarray]:
        """Return the columns of one kind for some units."""
        still = unmoved(response, torch.from_numpy(size) if kind == "amplitude" else None)
        response = response.masked_fill(still, torch.nan)
        found, error = over_draws(perturbation, response)
        given = partial(perturbation, found)
        bands = self.noise.bands.entries if kind == "amplitude" else self.noise.bands.turned
        empty = torch.from_numpy(np.tile(bands == 0, perturbation.shape[-1] // len(bands)))
        alive = still & torch.from_numpy(size > 0)
        for values in (found, error, given):
            values[:, alive] = 0.0  # such a unit is not moved by any band, which is an answer
            values[empty] = torch.nan
        total.add(found)
        largest = np.full((self.test.permutations, len(size)), np.nan)
        for place, moved in enumerate(chance(perturbation, response, self.test.orders(response.shape[1]))):
            moved[:, alive] = 0.0
            moved[empty] = torch.nan
            total.permuted(place, moved)
            largest[place] = _largest(moved.numpy())
        return {
            kind: self._folded(kind, found),
            ERROR[kind]: self._folded(kind, error),
            PARTIAL[kind]: self._folded(kind, given),
            NULL[kind]: self.test.limit(largest).astype(np.float32),
        }

    def _folded(self, kind: Kind, values: Tensor) -> np.ndarray:
        """Turn (cell, unit) into (unit, band, channel), of phases (unit, band)."""
        folded = values.mT.reshape(values.shape[1], -1, len(self.noise.bands)).mT.float().numpy()
        return folded[..., 0] if kind == "phase" else np.ascontiguousarray(folded)


class _Sums:
    """Mean over units of |correlation|, of what was measured and of every permutation."""

    def __init__(self, permutations: int, cells: int):
        self.measured, self.count = np.zeros(cells), np.zeros(cells)
        self.moved = np.zeros((permutations, cells))

    def add(self, found: Tensor) -> None:
        """Add some units, (cell, unit)."""
        self.measured += np.nansum(np.abs(found.numpy()), 1)
        self.count += torch.isfinite(found).sum(1).numpy()

    def permuted(self, place: int, found: Tensor) -> None:
        """Add the same units under one permutation."""
        self.moved[place] += np.nansum(np.abs(found.numpy()), 1)

    def mean(self) -> np.ndarray:
        """Return (cell,), NaN where no unit has a value."""
        return np.where(self.count > 0, self.measured / np.maximum(self.count, 1), np.nan)

    def chance(self) -> np.ndarray:
        """Return the largest of each permutation over cells, (permutation,)."""
        return _largest((np.where(self.count > 0, self.moved / np.maximum(self.count, 1), np.nan)).T)


def _largest(values: np.ndarray) -> np.ndarray:
    """Return the largest |value| over cells, (cell, …) to (…); NaN where none is known."""
    known = np.isfinite(values)
    return np.where(known.any(0), np.max(np.abs(values), axis=0, initial=0.0, where=known), np.nan)


def unmoved(response: Tensor, size: Tensor | None) -> Tensor:
    """Say which responses do not vary over trials beyond rounding, (draw, trial, unit) to (unit,) bool.

    Args:
        size: (unit,) of the activations they are changes of; None where they are correlations.
    """
    known = torch.isfinite(response)
    count = known.sum(1).clamp(min=1)
    filled = torch.where(known, response, 0.0)
    spread = torch.where(known, filled - filled.sum(1, keepdim=True) / count[:, None], 0.0).square().sum(1) / count
    return known.any(1).all(0) & (spread.sqrt().amax(0) <= STILL * (1.0 if size is None else size))
