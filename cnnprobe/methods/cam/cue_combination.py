"""Cue combination: class activation maps for any head (ccCAM).

Ghosh, Dal Maso, Roig, Mitsis, Boudrias 2018 (arXiv:1805.11704; steps after their published code). A cue is the map
A_f of one unit; its weight for a class is what its removal costs the images of that class:

    W_fc = sum over images n of class c of (e_nf - e_n) / E_nf

with e_n the negative log-likelihood of c, e_nf the same with A_f set to 0 at all positions, E_nf the sum of A_f² over
positions (an image with E_nf = 0 adds nothing). A weight is positive where the cue is evidence for the class. The map
of an image is sum_f W_fc A_f, with A_f from the base without its max-pooling, which is finer.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.rounding import in_double
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.split_network import Head, WholeHead, cut
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.machine.memory import Carried, is_short
from cnnprobe.methods.cam.class_choice import Choose, class_count
from cnnprobe.methods.cam.columns import ClassColumn
from cnnprobe.methods.cam.grids import Grid
from cnnprobe.methods.cam.maps import Found

HELD = 64 * 2**20
"""Bytes that the activations with one cue removed may take, about."""


class CueCombination:
    """Weighs the cues of one layer, and makes maps with the weights.

    Args:
        model: any classifier; it is not changed.
        layer: whose maps are the cues.
        size: (channel, y, x) of the images.
        finer: maps from the base without its max-pooling.
        known: what the network returns; None: logits.

    Attributes:
        shape: (y, x) of the maps.
        weights: (class, cue) float64, NaN for classes without images; known after the images were weighed.

    Raises:
        UserError: the network is no classifier, the layer has no map, or the base cannot do without max-pooling.
    """

    def __init__(
        self, model: nn.Module, layer: Layer, size: tuple[int, ...], finer: bool = True, known: Outputs | None = None
    ):
        self.model, self.layer, self.use_finer = model, layer, finer
        count = class_count(model, size)
        self.outputs = known or Outputs("logits", count)
        self.classes = self.outputs.classes
        if self.outputs.kind == "unknown":
            raise UserError("kind=cccam needs probabilities of classes, which the outputs of this network are not")
        if self.outputs.altered:
            raise UserError(
                "kind=cccam needs the probabilities of classes, which this network clamps, scales or shifts"
            )
        self.grid = Grid(model, layer, size)
        self.shape = self.grid.shape
        with untouched(model), torch.inference_mode():
            self.head = cut(model, layer, size, self.outputs.before)
            self.exact = _exact(model, layer, size, self.outputs.before)
            if finer:
                self.shape = tuple(self.head.finer(noise_image(model, size)).shape[2:])
        self.finer = finer and self.shape != self.grid.shape
        if finer and len(self.shape) != 2:
            self.finer, self.shape = False, self.grid.shape
        one = 8 * layer.channels * math.prod(layer.map_size)
        self.carried = Carried(int(np.clip(HELD / one, 1, 512)), "batch of removed cues")
        self.pieces = Carried(max(1, int(HELD / (4 * layer.channels * math.prod(self.shape)))), "batch of finer maps")
        self.total = np.zeros((self.classes, layer.channels))
        self.count = np.zeros(self.classes, np.int64)

    @property
    def weights(self) -> np.ndarray:
        """(class, cue): the sums so far."""
        return np.where(self.count[:, None] > 0, self.total, np.nan)

    def weigh(self, images: Tensor, labels: np.ndarray | None) -> np.ndarray:
        """Add what the removal of each cue costs some images; returns it, (image, cue) float64.

        Args:
            images: (image, channel, y, x).
            labels: (image,) their classes, -1: not used; None: what the network decides.
        """
        with untouched(self.model), torch.inference_mode():
            activation, sides = self.head.base(images)
            logits = self._scores(self.head, activation, sides)
            classes = logits.argmax(1).cpu().numpy() if labels is None else labels
            costs = np.zeros((len(images), self.layer.channels))
            for row in np.flatnonzero(classes >= 0):
                own = {value: tensor[row : row + 1] for value, tensor in sides.items()}
                costs[row] = self._costs(activation[row], own, int(classes[row]))
        for place, label in enumerate(classes):
            if label >= 0:
                self.total[label] += costs[place]
                self.count[label] += 1
        return costs

    def _costs(self, activation: Tensor, sides: dict, label: int) -> np.ndarray:
        """Return (cue,) of one image.

        They are computed in double precision where the network allows it: the cost of a faint cue is smaller than the
        rounding error of single precision, and it is divided by a small E_nf.
        """
        size = activation.double().square().flatten(1).sum(1)  # E_nf
        there = torch.nonzero(size > 0)[:, 0]
        costs = torch.zeros(len(activation), dtype=torch.float64, device=activation.device)
        head = self.head
        if self.exact is not None:
            head, activation = self.exact, activation.double()
            sides = {value: one.double() if one.is_floating_point() else one for value, one in sides.items()}

        def likelihood(activation: Tensor, sides: dict) -> Tensor:
            scores = self._scores(head, activation, sides)
            return self.outputs.log_probabilities(scores.double())[:, label]

        before, start = -likelihood(activation[None], sides), 0
        while start < len(there):
            some = there[start : start + self.carried.most]

            def removed(some: Tensor = some) -> Tensor:
                without = activation.expand(len(some), *activation.shape).clone()
                without[torch.arange(len(some)), some] = 0
                own = {value: tensor.expand(len(some), *tensor.shape[1:]) for value, tensor in sides.items()}
                return -likelihood(without, own)

            after = self.carried.attempt(len(some), removed)
            if after is not None:
                costs[some] = (after - before) / size[some]
                start += len(some)
        return costs.cpu().numpy()

    def _scores(self, head: Head | WholeHead, activation: Tensor, sides: dict) -> Tensor:
        """Return the scores of the classes (image, class)."""
        return self.outputs.scores(*head.ends(activation, sides))

    def maps(self, images: Tensor, labels: Tensor, choose: Choose) -> Found:
        """Map images with the weights, see `maps.ClassMaps.maps`."""
        weights = torch.as_tensor(self.weights, dtype=torch.float32, device=images.device)
        parts, start = [], 0
        with untouched(self.model), torch.inference_mode():
            while start < len(images):
                some = slice(start, min(start + self.pieces.most, len(images)))
                done = self.pieces.attempt(
                    some.stop - start,
                    partial(lambda some: self._maps(images[some], lambda y: choose(y, labels[some]), weights), some),
                )
                if done is not None:
                    parts.append(done)
                    start = some.stop
        logits, classes, maps = (torch.cat(one).cpu() for one in zip(*parts))
        evidence = maps.double().mean((2, 3)).float()
        return Found(logits.float().numpy(), classes.numpy(), maps.numpy(), evidence.numpy())

    def _maps(self, images: Tensor, choose: Any, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        activation, sides = self.head.base(images)
        logits = self._scores(self.head, activation, sides)
        classes = choose(logits)
        if self.finer:
            activation = self.head.finer(images)
        else:
            activation = self.grid.of(activation)
        maps = torch.einsum("nkc,ncyx->nkyx", weights[classes.clamp(min=0)], activation.float())
        maps[classes < 0] = float("nan")
        return logits, classes, maps


def _exact(model: nn.Module, layer: Layer, size: tuple[int, ...], before: Layer | None) -> Head | WholeHead | None:
    """Return the head in double precision, None where the network cannot be computed in it."""
    try:
        exact = in_double(model, size)
        with untouched(exact):
            return cut(exact, layer, size, before)
    except Exception as error:  # whatever stands in a network that was never seen before
        if is_short(error):
            raise
        return None


@dataclass
class ClassMeans:
    """Means of maps by class, and how sure they and their differences are; fed in the order of the images.

    The bootstrap draws images again with replacement within each class: each image counts a Poisson(1) number of times
    (Hanley, MacGibbon 2006), which depends on the seed and the image alone.

    Args:
        draws: of the bootstrap.
        seed: of the draws.
    """

    draws: int
    seed: int
    maps: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    images: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, label: int, image: int, values: np.ndarray) -> None:
        """Add the map (y, x) of an image for its class."""
        if np.isfinite(values).all():
            self.maps[label].append(values.astype(np.float32))
            self.images[label].append(image)

    def state(self) -> dict:
        """Return everything, for `restore`."""
        maps = {label: np.stack(own) for label, own in self.maps.items() if own}
        return {"maps": maps, "images": {label: self.images[label] for label in maps}}

    def restore(self, state: dict) -> None:
        """Go on from what other means of the same images knew."""
        for label, own in state["maps"].items():
            self.maps[label], self.images[label] = list(own), list(state["images"][label])

    def of(self, labels: list[int], shape: tuple[int, ...]) -> dict[ClassColumn, np.ndarray]:
        """Return by name, a row for each of some classes; NaN where there are too few images.

        mean_map: (y, x). mean_ratio: the mean over its bootstrap standard error. contrast: the mean less the mean of
        the other classes' means. contrast_ratio: the contrast over its bootstrap standard error. images: how many.
        """
        present = [label for label in labels if self.maps[label]]
        means = {label: np.stack(self.maps[label]).mean(0, dtype=np.float64) for label in present}
        drawn = {label: self._drawn(label) for label in present if len(self.maps[label]) > 1}
        gap = np.full((len(labels), *shape), np.nan, np.float32)
        maps: tuple[ClassColumn, ...] = ("mean_map", "mean_ratio", "contrast", "contrast_ratio")
        found = {name: gap.copy() for name in maps}
        for row, label in enumerate(labels):
            others = [other for other in present if other != label]
            if label not in means:
                continue
            found["mean_map"][row] = means[label]
            if label in drawn:
                found["mean_ratio"][row] = _ratio(means[label], drawn[label])
            if others:
                found["contrast"][row] = means[label] - np.mean([means[other] for other in others], 0)
            if others and label in drawn and all(other in drawn for other in others):
                rest = np.mean([drawn[other] for other in others], 0)
                found["contrast_ratio"][row] = _ratio(found["contrast"][row], drawn[label] - rest)
        found["images"] = np.array([len(self.maps[label]) for label in labels], np.int64)
        return found

    def _drawn(self, label: int) -> np.ndarray:
        """Return the means of the bootstrap's samples, (draw, y, x)."""
        times = np.stack([self._times(image) for image in self.images[label]], 1).astype(np.float64)  # (draw, image)
        times[times.sum(1) == 0] = 1.0
        flat = np.stack(self.maps[label]).reshape(len(self.maps[label]), -1)
        means = (times @ flat) / times.sum(1, keepdims=True)
        return means.reshape(self.draws, *self.maps[label][0].shape)

    def _times(self, image: int) -> np.ndarray:
        return np.random.default_rng([self.seed, image]).poisson(1.0, self.draws)


def _ratio(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return values over the standard error; NaN where nothing varies."""
    error = drawn.std(0, ddof=1)
    varies = error > 1e-12 * max(float(np.abs(values).max()), 1e-300)
    return np.divide(values, error, out=np.full(np.shape(values), np.nan), where=varies)
