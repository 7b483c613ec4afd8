"""The recipe of a training: loss, optimiser, learning rate, augmentation; and whether training is possible at all."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.augmentation import Augmentation
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.machine.memory import is_short
from cnnprobe.methods.train.schedules import Schedule

LOG = logging.getLogger("cnnprobe")
MANY = 32
"""Training images from which on a warning says that all of them are one batch."""


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training, as the options of `cnnprobe train` name them (configs/method/train.yaml)."""

    epochs: Annotated[int, Range(1)]
    lr: Annotated[float, Range(above=0)]
    optimizer: Literal["sgd", "adam", "adamw"]
    momentum: Annotated[float, Range(0, below=1)]
    weight_decay: Annotated[float, Range(0)]
    schedule: Literal["cosine", "step", "constant"]
    warmup: Annotated[float, Range(0)]
    step_epochs: Annotated[int, Range(1)]
    step_factor: Annotated[float, Range(above=0, maximum=1)]
    loss: Literal["cross-entropy", "squared-error"]
    label_smoothing: Annotated[float, Range(0, below=1)]
    balance: Literal["none", "loss", "draw"]
    clip: Annotated[float, Range(above=0)] | None
    augment: list[Literal["crop", "resized-crop", "flip", "colour"]] | Literal["none"]
    crop_padding: Annotated[int, Range(1)]
    crop_scale: Annotated[float, Range(above=0, maximum=1)]
    colour: Annotated[float, Range(above=0, below=1)]
    precision: Literal["auto", "float32", "tf32", "bfloat16"]
    channels_last: bool | Literal["auto"]
    preload: bool | Literal["auto"]
    checkpoints: list[int] | Literal["log", "all"]
    save_minutes: Annotated[float, Range(above=0)]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of random changes of the images; none for `augment="none"`."""
        return () if self.augment == "none" else tuple(self.augment)

    def augmentation(self, seed: int) -> Augmentation:
        """Return the random changes of the images."""
        return Augmentation(self.kinds, seed, self.crop_padding, self.crop_scale, self.colour)

    def rates(self, updates_per_epoch: int) -> Schedule:
        """Return the learning rate by update."""
        steps = (self.warmup, self.step_epochs, self.step_factor)
        return Schedule(self.schedule, self.lr, updates_per_epoch, self.epochs, *steps)

    def optimiser(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of parameter groups, in one fused kernel; weight decay acts on every parameter."""
        common = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": True}
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=self.momentum, **common)
        return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer](groups, **common)


@dataclass(frozen=True)
class Loss:
    """What is minimised, per image.

    Cross-entropy of the softmax, or half the squared distance between outputs and target, the one-hot vector of the
    class (Nielsen 2015, Neural networks and deep learning, equation 6). Smoothing moves a share of the target from the
    class to all classes evenly (Szegedy et al. 2016, section 7).

    Args:
        kind: "cross-entropy" or "squared-error".
        smoothing: that share.
        weights: (class,) multiplies the loss of its images; None: 1.
    """

    kind: str
    smoothing: float = 0.0
    weights: Tensor | None = None

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return (image,) from outputs (image, class) and labels (image,)."""
        if self.kind == "cross-entropy":
            losses = functional.cross_entropy(outputs, labels, label_smoothing=self.smoothing, reduction="none")
        else:
            classes = outputs.shape[1]
            target = functional.one_hot(labels, classes) * (1 - self.smoothing) + self.smoothing / classes
            losses = 0.5 * (outputs - target).square().sum(1)
        return losses if self.weights is None else losses * self.weights[labels]


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return (class,) weights inverse to the number of a class's images, 1 on average over the images."""
    counts = np.bincount(labels, minlength=classes)
    return np.divide(len(labels) / np.count_nonzero(counts), counts, out=np.zeros(classes), where=counts > 0)


def has_batch_norm(model: nn.Module) -> bool:
    """Say whether a network normalises over the batch, which one image alone does not allow."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def check(model: nn.Module, dataset: ImageSet, held_out: ImageSet, recipe: Recipe, batch_size: int) -> None:
    """Find out before the first update whether `model` can learn `dataset`.

    Raises:
        UserError: too few classes, images without a class, other classes in the held-out set, an output that does
            not fit the classes, or options that exclude each other.
    """
    if len(dataset.classes) < 2:
        raise UserError(f"training needs 2 or more classes, {dataset.name} has {len(dataset.classes)}")
    if tuple(held_out.classes) != tuple(dataset.classes):
        raise UserError(f"the held-out set of {dataset.name} has other classes than its training set")
    for part, images in (("training", dataset), ("held-out", held_out)):
        if not len(images):
            raise UserError(f"the {part} set of {images.name} has no images")
        outside = np.count_nonzero((images.labels < 0) | (images.labels >= len(images.classes)))
        if outside:
            raise UserError(f"{outside} of the {len(images)} {part} images of {images.name} have no class")
    if len(np.unique(dataset.labels)) < 2:
        raise UserError(
            f"training needs images of 2 or more classes, these {len(dataset)} are all of one (of a limit=first:n?)"
        )
    if recipe.epochs > 1 and MANY <= len(dataset) <= batch_size:
        LOG.warning(
            f"batch_size={batch_size} takes all {len(dataset)} training images at once: one update of the "
            f"weights per epoch; a smaller batch_size, such as {len(dataset) // 8}, makes more of them"
        )
    _check_options(model, dataset, recipe, batch_size)
    _check_output(model, dataset)
    check_loss(model, dataset, recipe)


def check_loss(model: nn.Module, dataset: ImageSet, recipe: Recipe) -> None:
    """Warn where the loss is none of what the network returns."""
    found = outputs_of(model, dataset.size, tuple(dataset.classes))
    if recipe.loss == "cross-entropy" and found.kind in ("softmax", "sigmoid"):
        LOG.warning(
            f"the network ends in its own {found.kind}, and cross-entropy takes the softmax of that once more: it "
            f"learns slowly, and the loss is none of its probabilities; return the scores, or take loss=squared-error"
        )


def _check_options(model: nn.Module, dataset: ImageSet, recipe: Recipe, batch_size: int) -> None:
    if batch_size == 1 and has_batch_norm(model):
        raise UserError("batch_size must be 2 or more for a network with BatchNorm, got 1")
    if recipe.warmup > recipe.epochs:
        raise UserError(f"warmup must be at most the {recipe.epochs} epochs, got {recipe.warmup:g}")
    if not isinstance(recipe.checkpoints, str):
        outside = [epoch for epoch in recipe.checkpoints if not 0 <= epoch <= recipe.epochs]
        if outside:
            raise UserError(f"checkpoints must be epochs from 0 to {recipe.epochs}, got {outside[0]}")
    if len(dataset.size) == 2 and set(recipe.kinds) - {"crop"}:
        raise UserError(f"augment of signals is none or [crop], got {list(recipe.kinds)}")


def _check_output(model: nn.Module, dataset: ImageSet) -> None:
    training = model.training
    parameter = next(model.parameters(), None)
    if parameter is None or not any(p.requires_grad for p in model.parameters()):
        raise UserError("the network has nothing to train")
    try:
        with torch.no_grad():
            images = torch.zeros(2, *dataset.size, device=parameter.device)  # of one, squeeze() would drop the axis
            output = model.eval()(images)
    except RuntimeError as error:
        if is_short(error):
            raise
        size = "x".join(map(str, dataset.size))
        raise UserError(f"the network does not take images of {size}: {str(error).splitlines()[0]}") from None
    finally:
        model.train(training)
    if not isinstance(output, Tensor) or output.shape != (len(images), len(dataset.classes)):
        per_image = isinstance(output, Tensor) and output.ndim == 2 and len(output) == len(images)
        got = f"{output.shape[1]} outputs" if per_image else "something else"
        if not isinstance(output, Tensor):
            got = f"a {type(output).__name__}: call its logits so, in a dict, dataclass or named tuple"
        raise UserError(f"the network must give one output per class, {len(dataset.classes)}; it gives {got}")
