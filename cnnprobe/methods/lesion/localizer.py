"""A localizer: the units of a layer that respond more to one class of images than to another, by d′.

As in functional imaging, units are chosen on half of the images and the effect of their lesion is measured on the other
half (Kriegeskorte et al. 2009, Nature Neuroscience 12:535, on circular analysis).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, place_of
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.methods.lesion.lesions import groups_of
from cnnprobe.store.tables import Advance, Column, Rows, Table
from cnnprobe.store.unfinished import State, Unfinished, put

LocalizerColumn = Literal["dprime", "preferred", "other", "chosen"]
"""Columns of the tables "localizer/<layer>"."""
REST = "rest"
"""Stands for the images of all other classes."""


@dataclass(frozen=True)
class Contrast:
    """Two sets of images, of which half serve to find units.

    Args:
        words: as asked, "landmark>room".
        sides: (image,) int64 of the images that localise: 0 the preferred class, 1 the other one.
        localising: (image,) their indices in the dataset, rising.
        measured: (image,) indices of the images that lesions are measured with.
    """

    words: str
    sides: np.ndarray
    localising: np.ndarray
    measured: np.ndarray


def contrast(words: str, dataset: ImageSet, seed: int) -> Contrast:
    """Divide the images of a dataset; half of the images of every class, drawn at random, are for measuring.

    Args:
        words: "CLASS_A>CLASS_B"; CLASS_B may be "rest", all others.
        dataset: an image set with labels.
        seed: of the halves.

    Raises:
        UserError: no such class, or fewer than four images of one.
    """
    parts = [part.strip() for part in words.split(">")]
    if len(parts) != 2 or not all(parts):
        raise UserError(f"localizer must be CLASS_A>CLASS_B, the classes that units are to tell apart, got {words!r}")
    of = [_labels(part, dataset, place) for place, part in enumerate(parts)]
    labels = dataset.labels
    of[1] = of[1] - of[0] if parts[1] == REST else of[1]
    if of[0] & of[1]:
        raise UserError(f"localizer={words} compares a class with itself")
    rng = np.random.default_rng([seed, len(dataset)])
    first = np.zeros(len(dataset), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        first[rng.permutation(places)[: len(places) // 2]] = True
    side = np.full(len(dataset), -1)
    for place, own in enumerate(of):
        side[np.isin(labels, list(own))] = place
        if (count := int((side == place).sum())) < 4 or int((first & (side == place)).sum()) < 2:
            raise UserError(f"localizer={words} needs 4 images or more of each side, {parts[place]} has {count}")
    localising = np.flatnonzero(first & (side >= 0))
    return Contrast(words, side[localising], localising, np.flatnonzero(~first))


def _labels(name: str, dataset: ImageSet, place: int) -> set[int]:
    names = list(dataset.classes)
    if place and name == REST and REST not in names:
        return set(range(len(names)))
    return {place_of(name, names, "class", of=dataset.name, plural="classes", offered=[*names, *[REST] * place])}


class Moments:
    """Mean and variance of the responses of the units of a layer to the two sides.

    The response is the mean of a unit's map.
    """

    def __init__(self, channels: int):
        self.count, self.mean, self.square = np.zeros(2), np.zeros((2, channels)), np.zeros((2, channels))

    def add(self, responses: np.ndarray, sides: np.ndarray) -> None:
        """Take in responses (image, unit) of images of some sides (Chan et al. 1983, the variance of joined sets)."""
        for side in (0, 1):
            own = responses[sides == side].astype(np.float64)
            if not len(own):
                continue
            before, now = self.count[side], self.count[side] + len(own)
            mean = own.mean(0)
            step = mean - self.mean[side]
            self.square[side] += np.square(own - mean).sum(0) + step**2 * before * len(own) / now
            self.mean[side] += step * len(own) / now
            self.count[side] = now

    def dprime(self) -> np.ndarray:
        """Return (unit,): difference of the means over the root of the mean variance; NaN where nothing varies."""
        variance = (self.square / np.maximum(self.count - 1, 1)[:, None]).mean(0)
        difference = self.mean[0] - self.mean[1]
        return np.divide(difference, np.sqrt(variance), out=np.full(len(difference), np.nan), where=variance > 0)


class Localizer:
    """Finds, for some layers, the units that prefer the first class of a contrast.

    Args:
        model: any network; it is given back as it was.
        layers: of it.
        contrast: the images.
        spec: how many units are to be found: "best:8", "best:5%".
    """

    def __init__(self, model: nn.Module, layers: list[Layer], contrast: Contrast, spec: str):
        self.model, self.layers, self.contrast, self.spec = model, layers, contrast, spec
        self.moments = {layer.name: Moments(layer.channels) for layer in layers}
        self.read = np.zeros(len(contrast.localising), bool)

    def run(self, loaded: Source, unfinished: Unfinished | None) -> Iterator[Advance]:
        """Show the images that localise.

        Args:
            loaded: those images, see `images.passes.passing`.
            unfinished: keeps what there is so far.
        """
        found: dict[str, np.ndarray] = {}

        def receive(layer: Layer, activation: Tensor) -> None:
            flat = activation.float().reshape(*activation.shape[:2], -1)
            found[layer.name] = flat.mean(-1).cpu().numpy()

        def use(part: Batch, responses: dict[str, np.ndarray]) -> None:
            places = np.searchsorted(self.contrast.localising, part.indices)
            self.read[places] = part.readable
            own = part.readable & np.all([np.isfinite(values).all(1) for values in responses.values()], axis=0)
            sides = self.contrast.sides[places[own]]
            for name, values in responses.items():
                self.moments[name].add(values[own], sides)

        def state() -> State:
            return {"read": self.read, "moments": {name: dict(vars(one)) for name, one in self.moments.items()}}

        def restore(kept: State) -> None:
            put({"read": self.read}, kept)
            for name, one in self.moments.items():
                put(vars(one), kept["moments"][name])

        with torch.inference_mode(), tap(self.model, self.layers, receive) as run:

            def show(part: Batch) -> dict[str, np.ndarray]:
                run(part.images)
                return dict(found)

            yield from passing(
                "localizer", len(self.contrast.localising), loaded, show, use, take=state, restore=restore,
                unfinished=unfinished,
            )  # fmt: skip

    def best(self, layer: Layer) -> np.ndarray:
        """Return the channels of a layer with the largest d′; of equal ones the first.

        Raises:
            UserError: fewer have one.
        """
        (group,) = groups_of(layer, self.spec)
        count = group.count
        dprime = self.moments[layer.name].dprime()
        known = int(np.isfinite(dprime).sum())
        if known < count:
            raise UserError(
                f"units={self.spec}: {known} of the {layer.channels} units of {layer.name} respond to "
                f"{self.contrast.words} with anything that varies"
            )
        return np.sort(np.argsort(np.where(np.isfinite(dprime), -dprime, np.inf), kind="stable")[:count])

    def tables(self) -> list[Table[LocalizerColumn]]:
        """Lay out what was found, a table for each layer."""
        a, b = self.contrast.words.split(">")
        columns: dict[LocalizerColumn, Column] = {
            "dprime": Column("d′: difference of the mean responses to the two classes over the root of the mean "
                             "variance; NaN where nothing varies"),
            "preferred": Column(f"mean response to {a.strip()}", unit="activation"),
            "other": Column(f"mean response to {b.strip()}", unit="activation"),
            "chosen": Column("whether it is among the best", dtype="bool"),
        }  # fmt: skip
        return [
            Table(f"localizer/{layer.group}", "unit", layer.channels, columns, layer.channels,
                  layer.attributes | {"contrast": self.contrast.words}, aside=True)
            for layer in self.layers
        ]  # fmt: skip

    def rows(self) -> Iterator[Rows[LocalizerColumn]]:
        """Give the rows of all layers."""
        for layer in self.layers:
            own = self.moments[layer.name]
            columns: dict[LocalizerColumn, np.ndarray] = {
                "dprime": own.dprime().astype(np.float32),
                "preferred": own.mean[0].astype(np.float32),
                "other": own.mean[1].astype(np.float32),
                "chosen": np.isin(np.arange(layer.channels), self.best(layer)),
            }
            yield Rows(f"localizer/{layer.group}", 0, columns)
