"""Steps of population control beside the ascent: it learns the mapping first and judges by the brain afterwards."""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.images.passes import Source
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.methods.optimize.ascent.objectives import Objective
from cnnprobe.methods.optimize.columns import PreferredColumn
from cnnprobe.methods.optimize.control.population import Brain, OneHot, Population, Reading, Stretch, learn
from cnnprobe.store.tables import Advance, Column, Phase
from cnnprobe.store.unfinished import Unfinished

LOG = logging.getLogger("cnnprobe")
Kind = Literal["stretch", "one-hot"]
KINDS: dict[Kind, type[Stretch]] = {"stretch": Stretch, "one-hot": OneHot}
PREDICTED = 0.1
"""Units of which less of the variance is predicted are warned of: images made for them follow the mapping's errors."""


@dataclass
class Controlling:
    """Controls all units of a brain through a layer of a first network.

    Args:
        brain: the second network and its units; row u of everything here is its u-th unit.
        kind: of the objective.
        reading: what the mapping sees of the layer.
        population: known once it has been learned.
    """

    brain: Brain
    kind: Kind
    reading: Reading = "mean"
    population: Population | None = None

    def columns(self) -> dict[PreferredColumn, Column]:
        """Describe what is stored of each unit."""
        responses = f"{self.brain.criterion} of the unit's map"
        return {
            "brain_response": Column(f"{responses} in the brain, for the image made", unit="activation"),
            "brain_best_natural": Column(f"largest {responses} for an image of the dataset", unit="activation"),
            "stretch_gain": Column("brain_response over brain_best_natural, minus 1; NaN where not positive", unit="%"),
            "one_hot": Column("softmax over the population of z-scored responses of the brain, for the image made"),
            "one_hot_natural": Column("the highest such score of an image of the dataset"),
            "mapping_r2": Column("variance that the mapping predicts in images held out; NaN of a constant unit"),
            "constant": Column("the unit responds equally to all images of the dataset", dtype="bool"),
        }

    def learn(
        self,
        model: nn.Module,
        layer: Layer,
        loaded: Source,
        images: int,
        seed: int,
        unfinished: Unfinished | None = None,
    ) -> Generator[Phase | Advance, None, Objective]:
        """Map the layer to the brain; returns the objective, a row per unit. Warns of what cannot be controlled.

        Args:
            model: the first network.
            layer: of it.
            loaded: natural images, see `images.passes.passing`.
            images: how many.
            seed: of the partition into folds.
            unfinished: keeps the answers so far.

        Raises:
            UserError: no unit varies over the images, or what `population.learn` refuses.
        """
        yield Phase(f"mapping {layer.name} to {self.brain.layer.name} of the brain", images, "images")
        self.population = yield from learn(model, layer, self.brain, loaded, self.reading, seed, images, unfinished)
        constant = self.population.constant
        if constant.all():
            raise UserError(
                f"all {len(constant)} units of {self.brain.layer.name} of the brain respond to all images alike: "
                "nothing can be controlled"
            )
        if constant.any():
            LOG.warning(f"{self._units(constant)} respond to all images alike and cannot be controlled")
        with np.errstate(invalid="ignore"):
            poor = self.population.mapping.r2 < PREDICTED
        if poor.any():
            LOG.warning(f"{self._units(poor)} are hardly predicted from {layer.name} (held-out r2 below {PREDICTED})")
        return KINDS[self.kind](self.population, np.arange(len(constant)))

    def _units(self, which: np.ndarray) -> str:
        units = listing(map(str, self.brain.units[which]))
        return f"{int(which.sum())} of {len(which)} units of {self.brain.layer.name} of the brain ({units})"

    def judged(self, images: np.ndarray, rows: Sequence[int] | np.ndarray) -> dict[PreferredColumn, np.ndarray]:
        """Show images that were made to the brain; returns the columns of some rows.

        Args:
            images: (row, channel, y, x) 0 to 1, NaN where there is none.
            rows: the units they were made for.
        """
        assert self.population is not None, "it has been learned"
        rows = np.asarray(rows, int)
        device = next((p.device for p in self.brain.model.parameters()), torch.device("cpu"))
        made = np.isfinite(images).all(tuple(range(1, images.ndim)))
        responses = np.full((len(images), len(self.brain.units)), np.nan)
        if made.any():
            responses[made] = self.brain.responses(torch.from_numpy(images[made]).to(device))
        found = self.population.judge(responses, rows)
        return {
            "brain_response": found.response,
            "brain_best_natural": found.best_natural,
            "stretch_gain": found.stretch_gain,
            "one_hot": found.one_hot,
            "one_hot_natural": found.best_natural_one_hot,
            "mapping_r2": self.population.mapping.r2[rows],
            "constant": self.population.constant[rows],
        }


def controlled(
    objective: str, brain: Any, name: str | None, units: str | int | list[int], layers: list[Layer]
) -> dict[str, Controlling]:
    """Return by layer how the units of a second network are controlled; nothing for other objectives.

    Args:
        objective: of the ascent.
        brain: the second network: `model`, and `size` of its inputs; or None.
        name: of its layer, or None.
        units: channels of that layer.
        layers: of the first network.

    Raises:
        UserError: the brain or its layer is missing, or given without need.
    """
    kind = next((kind for kind in KINDS if kind == objective), None)
    if kind is None:
        if brain is not None or name is not None:
            raise UserError(f"brain= and brain_layer= are for objective=stretch or one-hot, not {objective}")
        return {}
    if brain is None:
        raise UserError(f"objective={objective} drives units of a second network: brain=RUN, a run of train")
    if name is None:
        known = listing(one.name for one in main_layers(brain.model, brain.size))
        raise UserError(f"objective={objective} needs brain_layer=…; layers of the brain: {known}")
    found = find(brain.model, name, brain.size, "the brain")
    if len(found) > 1:
        raise UserError(f"brain_layer={name} fits {len(found)} layers; one is needed")
    second = Brain(brain.model, found[0], units_of(found[0], units), brain.size)
    return {one.name: Controlling(second, kind) for one in layers}
