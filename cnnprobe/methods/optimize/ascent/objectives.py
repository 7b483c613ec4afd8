"""The objective that an ascent climbs: a number per image, made of a layer's activations.

One objective serves many images at once: row b of a batch belongs to its own unit, group or direction, so that all
units of a layer are climbed together. With a the activation of a layer, (image, channel, *map):

    neuron     a[u, position]; the position in the middle of the map unless another one is requested
    channel    mean of a[u] over the map
    group      of channels: sum of weight times mean, or log-sum-exp, or the least of the means (all must answer)
    direction  mean over the map of the product with a vector over channels
    contrast   mean of a[u] minus the mean of the other channels (SachsLab's `at_others_expense`)
    layer      mean of a² over all channels: what the layer as a whole amplifies ("dream", Mordvintsev et al. 2015)

A class is the neuron of the network's output. Names after Olah, Mordvintsev, Schubert 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

Activations = dict[str, Tensor]
"""By name of layer: (image, channel, *map)."""
Pooling = Literal["mean", "log-sum-exp", "min"]
"""How the means of a group's members become one number."""
PADDING = -1


class Objective:
    """A number per image and row; made of rows that can be taken apart.

    Attributes:
        name: of the objective, for people.
    """

    name = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers it reads."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """How many it has."""
        raise NotImplementedError

    @property
    def linear(self) -> bool:
        """Whether it is linear in the activation, up to a constant."""
        return False

    def __call__(self, activations: Activations) -> Tensor:
        """Return (row,): each image's value by the row of the same number; as many images as rows."""
        return self.every(activations).diagonal()

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row): the value of every image by every row."""
        raise NotImplementedError

    def response(self, activations: Activations) -> Tensor:
        """Return (image, row): by what images are compared with those that were not made for the objective.

        For one unit the largest value of its map, wherever that is; for what has no map of its own, the objective.
        """
        return self.every(activations)

    def of(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return the objective of some rows, in this order; a row may come several times."""
        raise NotImplementedError


@dataclass(frozen=True)
class _OfLayer(Objective):
    """Reads one layer.

    Args:
        layer: its name.

    Attributes:
        by_row: names of the arrays that have a row for each row.
    """

    layer: str
    by_row: ClassVar[tuple[str, ...]] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The one layer."""
        return (self.layer,)

    @property
    def rows(self) -> int:
        """As many as its arrays have."""
        return len(getattr(self, self.by_row[0]))

    def of(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return the objective of some rows, in this order."""
        return replace(self, **{name: getattr(self, name)[np.asarray(rows)] for name in self.by_row})


@dataclass(frozen=True)
class _OfUnits(_OfLayer):
    """Reads one channel per row.

    Args:
        units: (row,) channels.
    """

    units: np.ndarray
    by_row = ("units",)

    def response(self, activations: Activations) -> Tensor:
        """Return the largest values of the units' maps, (image, row)."""
        activation = activations[self.layer]
        chosen = activation[:, self.index(activation)]
        return chosen.flatten(2).amax(2) if chosen.dim() > 2 else chosen

    def index(self, activation: Tensor) -> Tensor:
        """Return the channels where the activation is."""
        return torch.as_tensor(self.units, device=activation.device)


@dataclass(frozen=True)
class Neuron(_OfUnits):
    """One unit at one position of its map.

    Args:
        position: on the map; None: the middle, the later one where two are equally near.
    """

    position: tuple[int, ...] | None = None
    name, linear = "neuron", True

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        activation = activations[self.layer]
        middle = tuple(side // 2 for side in activation.shape[2:])
        return activation[(slice(None), self.index(activation), *(self.position or middle))]


@dataclass(frozen=True)
class Channel(_OfUnits):
    """The mean of a unit's map."""

    name, linear = "channel", True

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        means = _means(activations[self.layer])
        return means[:, self.index(means)]


@dataclass(frozen=True)
class Contrast(_OfUnits):
    """The mean of a unit's map, at the expense of the other units."""

    name, linear = "contrast", True

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        means = _means(activations[self.layer])
        own = means[:, self.index(means)]
        others = (means.sum(1, keepdim=True) - own) / max(1, means.shape[1] - 1)
        return own - others


@dataclass(frozen=True)
class Group(_OfLayer):
    """Several units together.

    Args:
        members: (row, most) channels; -1 fills up the groups that have fewer.
        weights: (row, most) of the members, for `mean`.
        pooling: how the means of the members become one number.
    """

    members: np.ndarray
    weights: np.ndarray
    pooling: Pooling = "mean"
    name, by_row = "group", ("members", "weights")

    @property
    def linear(self) -> bool:
        """Whether means are added up."""
        return self.pooling == "mean"

    @classmethod
    def made(
        cls, layer: str, groups: Sequence[Sequence[int]], weights: Sequence[Sequence[float]] | None, pooling: Pooling
    ) -> Group:
        """Fill lists of different lengths up; weights of None: 1 by the number of members."""
        most = max(map(len, groups))
        members = np.full((len(groups), most), PADDING, np.int64)
        shares = np.zeros((len(groups), most), np.float32)
        for row, group in enumerate(groups):
            members[row, : len(group)] = group
            shares[row, : len(group)] = 1 / len(group) if weights is None else weights[row]
        return cls(layer, members, shares, pooling)

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        means = _means(activations[self.layer])
        members = torch.as_tensor(self.members, device=means.device)
        values, absent = means[:, members.clamp(min=0)], members < 0  # (image, row, most)
        if self.pooling == "log-sum-exp":
            return values.masked_fill(absent, -torch.inf).logsumexp(2)
        if self.pooling == "min":
            return values.masked_fill(absent, torch.inf).amin(2)
        return (values * torch.as_tensor(self.weights, device=means.device, dtype=means.dtype)).sum(2)


@dataclass(frozen=True)
class Direction(_OfLayer):
    """A direction in the space of a layer's channels.

    Args:
        directions: (row, channel).
    """

    directions: np.ndarray
    name, by_row, linear = "direction", ("directions",), True

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        means = _means(activations[self.layer])
        return means @ torch.as_tensor(self.directions, device=means.device, dtype=means.dtype).T


@dataclass(frozen=True)
class Dream(_OfLayer):
    """All of a layer: the mean square of its activations.

    Args:
        count: rows, all alike.
    """

    count: int = 1
    name = "layer"

    @property
    def rows(self) -> int:
        """As many as are requested."""
        return self.count

    def of(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return as many rows as these."""
        return replace(self, count=len(rows))

    def every(self, activations: Activations) -> Tensor:
        """Return (image, row)."""
        energy = activations[self.layer].square().flatten(1).mean(1)
        return energy[:, None].expand(-1, self.count)


def likeness(activation: Tensor, together: int) -> Tensor:
    """Return how alike images of one group are in a layer: the diversity term (Olah et al. 2017), to be kept low.

    1/n times the sum over pairs i ≠ j of <G_i, G_j>, G the Gram matrix of an image's channels, its norm made 1.

    Args:
        activation: (row, channel, *map).
        together: n, rows of one group; they follow one another.

    Returns:
        (group,), from -(n - 1) to n - 1; for activations that are not negative from 0.
    """
    flat = activation.flatten(2) if activation.dim() > 2 else activation[:, :, None]
    gram = (flat @ flat.transpose(1, 2)).flatten(1)
    gram = (gram / gram.norm(dim=1, keepdim=True).clamp(min=1e-12)).unflatten(0, (-1, together))  # (group, n, C²)
    return (gram.sum(1).square().sum(1) - gram.square().sum((1, 2))) / together


def _means(activation: Tensor) -> Tensor:
    """Return the means of the maps, (image, channel)."""
    return activation.flatten(2).mean(2) if activation.dim() > 2 else activation
