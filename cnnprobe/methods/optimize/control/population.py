"""Population control: images that drive chosen units of a second network, the brain, found through a first one.

After Bashivan, Kar, DiCarlo 2019 (Science 364, eaav9436), with units of an independently trained network in place of
recorded neurons. A ridge regression maps a layer of the first network to the responses y_n of the brain's units over
natural images; ascent through the first network raises one of two scores of the predicted responses of a target t:

    stretch   y_t
    one-hot   exp(z_t) / sum_n exp(z_n),   z_n = (y_n - mean_n) / deviation_n over the natural images

Control is judged by the responses of the brain itself to the images that were made:

    stretch gain    100 (y_t - best natural y_t) / best natural y_t   percent
    one-hot score   beside the highest one-hot score of any natural image

Their readout is separable in space and channel; this one is not constrained.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.statistics.ridge import Mapping, ridge
from cnnprobe.methods.optimize.ascent.objectives import Objective
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished

Reading = Literal["mean", "map"]
"""What the mapping sees of the first network's layer: the mean of each channel's map, or every position."""
LARGEST = 4 * 2**30
"""Bytes of the features of all natural images, float64, at most."""


def features(activation: Tensor, reading: Reading) -> Tensor:
    """Return features (image, f) of an activation (image, channel, *map): f is channel, or channel x positions."""
    if reading == "mean":
        return activation.flatten(2).mean(2) if activation.dim() > 2 else activation
    return activation.flatten(1)


def fitted(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return images as another network takes them: resized (bilinear, antialiased), grey repeated or colours averaged.

    Args:
        images: (image, channel, y, x) or (image, channel, time), 0 to 1.
        size: (channel, y, x) or (channel, time) of the other network.

    Raises:
        UserError: signals are requested and images given, or the channels cannot be matched.
    """
    if tuple(images.shape[1:]) == tuple(size):
        return images
    channels = images.shape[1]
    if len(size) != images.dim() - 1 or (channels != size[0] and 1 not in (channels, size[0])):
        had, wanted = (" x ".join(map(str, shape)) for shape in (images.shape[1:], size))
        raise UserError(f"the brain takes inputs of {wanted}, the images made are {had}")
    if channels != size[0]:
        images = images.repeat(1, size[0], *[1] * (len(size) - 1)) if channels == 1 else images.mean(1, keepdim=True)
    if tuple(images.shape[2:]) == tuple(size[1:]):
        return images
    if len(size) == 2:
        return functional.interpolate(images, size[1:], mode="linear", align_corners=False)
    return functional.interpolate(images, size[1:], mode="bilinear", align_corners=False, antialias=True)


@dataclass(frozen=True)
class Brain:
    """The second network, and the units of it that are controlled.

    Args:
        model: any network.
        layer: of it.
        units: (n,) channels of the layer.
        size: (channel, y, x) or (channel, time) of its inputs.
        criterion: how a map becomes one response: its largest value, or its mean.
    """

    model: nn.Module
    layer: Layer
    units: np.ndarray
    size: tuple[int, ...]
    criterion: Literal["max", "mean"] = "mean"

    @contextmanager
    def answering(self) -> Iterator[Callable[[Tensor], np.ndarray]]:
        """Hand out a function from images (image, channel, y, x) 0 to 1 of any size to responses (image, unit)."""
        found: list[np.ndarray] = []

        def receive(layer: Layer, activation: Tensor) -> None:
            chosen = activation[:, torch.as_tensor(self.units, device=activation.device)]
            if chosen.dim() > 2:
                chosen = chosen.flatten(2)
                chosen = chosen.amax(2) if self.criterion == "max" else chosen.mean(2)
            found.append(chosen.double().cpu().numpy())

        def answer(images: Tensor) -> np.ndarray:
            found.clear()
            with torch.inference_mode():
                run(fitted(images, self.size))
            return found.pop()

        with tap(self.model, [self.layer], receive) as run:
            yield answer

    def responses(self, images: Tensor, batch_size: int = 64) -> np.ndarray:
        """Return responses (image, unit) to images (image, channel, y, x), 0 to 1, of any size."""
        with self.answering() as answer:
            return np.concatenate([np.zeros((0, len(self.units))), *map(answer, images.split(batch_size))])


@dataclass(frozen=True)
class Population:
    """What is known of the brain's units: their responses to natural images and how they are predicted.

    Args:
        mapping: from the features of a layer of the first network.
        natural: (image, unit) responses of the brain.
        layer: name of the first network's layer.
        reading: of its features.
    """

    mapping: Mapping
    natural: np.ndarray
    layer: str
    reading: Reading

    @property
    def constant(self) -> np.ndarray:
        """(unit,) bool: answers all natural images alike, cannot be a target and is left out of one-hot scores."""
        return self.mapping.constant

    @property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each unit over the natural images, (unit,) each; 1 for a constant one."""
        return self.natural.mean(0), np.where(self.constant, 1.0, self.natural.std(0))

    def one_hot(self, responses: np.ndarray) -> np.ndarray:
        """Return the softmax (…, unit) of z-scored responses (…, unit) over the units that vary; NaN for the others."""
        mean, deviation = self.scale
        z = np.where(self.constant, -np.inf, (responses - mean) / deviation)
        shares = np.exp(z - z.max(-1, keepdims=True))
        return np.where(self.constant, np.nan, shares / shares.sum(-1, keepdims=True))

    def judge(self, responses: np.ndarray, targets: Sequence[int] | np.ndarray) -> "Control":
        """Say how well the brain's units were controlled.

        Args:
            responses: (target, unit) of the brain to the image made for each target.
            targets: (target,) places in the population.
        """
        places = np.asarray(targets, int)
        own = responses[np.arange(len(places)), places]
        best = self.natural.max(0)[places]
        base = np.where((best > 0) & ~self.constant[places], best, np.nan)
        scores = self.one_hot(responses)[np.arange(len(places)), places]
        return Control(own, best, 100 * (own - best) / base, scores, self.one_hot(self.natural).max(0)[places])


@dataclass(frozen=True)
class Control:
    """How well a population was controlled, (target,) each; NaN of a constant unit.

    Args:
        response: of the brain to the image made.
        best_natural: its largest response to a natural image.
        stretch_gain: percent; NaN where the largest natural response is not positive.
        one_hot: score of the image made, 0 to 1.
        best_natural_one_hot: the highest score of a natural image.
    """

    response: np.ndarray
    best_natural: np.ndarray
    stretch_gain: np.ndarray
    one_hot: np.ndarray
    best_natural_one_hot: np.ndarray


def learn(
    model: nn.Module,
    layer: Layer,
    brain: Brain,
    loaded: Source,
    reading: Reading = "mean",
    seed: int = 0,
    images: int | None = None,
    unfinished: Unfinished | None = None,
) -> Generator[Advance, None, Population]:
    """Show natural images to both networks and map one to the other; returns the population.

    Args:
        model: the first network.
        layer: of it.
        brain: the second one.
        loaded: images as the first network takes them, see `images.passes.passing`; what cannot be read is left out.
        reading: what the mapping sees of the layer.
        seed: of the partition into folds.
        images: how many; None: all that are loaded.
        unfinished: keeps the answers so far.

    Raises:
        UserError: too few images, too many features, nothing that varies.
    """
    seen, answers, current = [], [], []
    with (
        torch.inference_mode(),
        tap(model, [layer], lambda _, activation: current.append(features(activation, reading).cpu().numpy())) as run,
        brain.answering() as answer,
    ):

        def show(part: Batch) -> tuple[np.ndarray, np.ndarray]:
            current.clear()
            run(part.images)
            return current.pop()[part.readable], answer(part.images)[part.readable]

        def use(_: Batch, answered: tuple[np.ndarray, np.ndarray]) -> None:
            seen.append(answered[0])
            answers.append(answered[1])
            _check_size(sum(map(len, seen)), seen[-1].shape[1], reading)

        def restore(state: State) -> None:
            seen[:], answers[:] = state["seen"], state["answers"]

        def take() -> State:
            return {"seen": seen, "answers": answers}

        name = f"mapping {layer.name}"
        yield from passing(name, images, loaded, show, use, take=take, restore=restore, unfinished=unfinished)
    if not seen:
        raise UserError("population control needs natural images to map one network to the other, got none")
    natural = np.concatenate(answers)
    return Population(ridge(np.concatenate(seen), natural, seed=seed), natural, layer.name, reading)


def _check_size(images: int, count: int, reading: Reading) -> None:
    if images * count * 8 > LARGEST:
        raise UserError(
            f"{count} features of {images} images are more than {LARGEST >> 30} GiB: take fewer images (limit=)"
            + (", or the mean of each map" if reading == "map" else "")
        )


@dataclass(frozen=True)
class Stretch(Objective):
    """The predicted response y_t; each row has its own target t. A constant target gives no gradient.

    Args:
        population: mapped from a layer of the network that the objective is used with.
        targets: (row,) places in the population.
    """

    population: Population
    targets: np.ndarray
    readout: dict = field(default_factory=dict, repr=False, compare=False)
    name = "stretch"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer of the first network."""
        return (self.population.layer,)

    @property
    def rows(self) -> int:
        """As many as targets."""
        return len(self.targets)

    def of(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return the objective of some rows, in this order."""
        return replace(self, targets=np.asarray(self.targets)[np.asarray(rows)])

    def every(self, activations: dict[str, Tensor]) -> Tensor:
        """Return the predicted responses, (image, row)."""
        return self.predicted(activations)[:, self.targets]

    def predicted(self, activations: dict[str, Tensor]) -> Tensor:
        """Return the predicted responses of the whole population, (image, unit)."""
        seen = features(activations[self.population.layer], self.population.reading)
        key = seen.dtype, seen.device
        if key not in self.readout:
            self.readout[key] = [torch.as_tensor(part).to(seen) for part in self._readout()]
        weights, bias = self.readout[key]
        return seen @ weights + bias

    def _readout(self) -> tuple[np.ndarray, np.ndarray]:
        return self.population.mapping.weights, self.population.mapping.bias


@dataclass(frozen=True)
class OneHot(Stretch):
    """The logarithm of the predicted one-hot score of each row's target; exp of it is the score.

    The logarithm has the same optimum and, image by image, a gradient of the same direction; it does not vanish where
    another unit of the population wins by far.

    Raises:
        UserError: fewer than two units of the population vary over the natural images.
    """

    name = "one-hot"

    def __post_init__(self) -> None:
        varying = int((~self.population.constant).sum())
        if varying < 2:
            raise UserError(f"one-hot sets a unit apart from others: it needs two units that vary, got {varying}")

    def every(self, activations: dict[str, Tensor]) -> Tensor:
        """Return log softmax(z) at each target, (image, row)."""
        z = self.predicted(activations)  # the readout of this objective gives z-scores
        left_out = torch.as_tensor(self.population.constant, device=z.device)
        scores = z.masked_fill(left_out, -torch.inf).log_softmax(1)
        return scores.masked_fill(left_out, -torch.inf)[:, self.targets]  # a second time: without a gradient

    def response(self, activations: dict[str, Tensor]) -> Tensor:
        """Return the predicted one-hot scores themselves, 0 to 1, (image, row)."""
        return self.every(activations).exp()

    def _readout(self) -> tuple[np.ndarray, np.ndarray]:
        mapping, (mean, deviation) = self.population.mapping, self.population.scale
        return mapping.weights / deviation, (mapping.bias - mean) / deviation
