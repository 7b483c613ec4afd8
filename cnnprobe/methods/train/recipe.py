"""The recipe of a training: optimiser, learning rate, augmentation; and whether training is possible at all."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.datasets.base.targets import Target
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.augmentation import Augmentation
from cnnprobe.instruments.network.about import Output
from cnnprobe.instruments.outputs.forms import form_for, form_of
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.machine.memory import is_short
from cnnprobe.methods.train.losses import KINDS, Loss, chosen
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
    loss: Literal["auto", "cross-entropy", "squared-error", "margin", "dice", "cross-entropy+dice"]
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

    def loss_and_odds(
        self, model: nn.Module, dataset: ImageSet, pixels: Callable[[], np.ndarray], device: torch.device
    ) -> tuple[Loss, np.ndarray | None]:
        """Return the loss, and how often each image is shown relative to others, None where all are shown once.

        Args:
            model: gives what the images ask, see `check`.
            dataset: the training images.
            pixels: counts (class,) of their pixels, where they have maps.
            device: where the network is.
        """
        target, weights = dataset.target, None
        if self.balance != "none":
            of_images = target.kind == "class"
            counts = np.bincount(dataset.labels, minlength=len(target.names)) if of_images else pixels()
            weights = class_weights(counts)
        odds = weights[dataset.labels] if weights is not None and self.balance == "draw" else None
        factors = torch.from_numpy(weights).float().to(device) if weights is not None and odds is None else None
        form = form_for(model, target.kind)
        kind = chosen(self.loss, form, target.kind, dataset.name)
        return Loss(kind, (form, target.kind), self.label_smoothing, factors, target.judged), odds

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


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Return (class,) weights inverse to the number of a class's images (pixels), 1 on average over these."""
    mean = counts.sum() / np.count_nonzero(counts)
    return np.divide(mean, counts, out=np.zeros(len(counts)), where=counts > 0)


def has_batch_norm(model: nn.Module) -> bool:
    """Say whether a network normalises over the batch, which one image alone does not allow."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def check(model: nn.Module, dataset: ImageSet, held_out: ImageSet, recipe: Recipe, batch_size: int) -> None:
    """Find out before the first update whether `model` can learn `dataset`.

    Raises:
        UserError: too few classes, images without a class, other classes in the held-out set, an output that does
            not fit what the images ask, or options that exclude each other.
    """
    target = dataset.target
    if target.kind != "course" and len(target.names) < 2:
        raise UserError(f"training needs 2 or more classes, {dataset.name} has {len(target.names)}")
    if (held_out.target.kind, held_out.target.names) != (target.kind, target.names):
        raise UserError(f"the held-out set of {dataset.name} has other {_named(target)} than its training set")
    for part, images in (("training", dataset), ("held-out", held_out)):
        if not len(images):
            raise UserError(f"the {part} set of {images.name} has no images")
        if target.kind == "class":
            _check_labels(part, images)
    if target.kind == "class" and len(np.unique(dataset.labels)) < 2:
        raise UserError(
            f"training needs images of 2 or more classes, these {len(dataset)} are all of one (of a limit=first:n?)"
        )
    if recipe.epochs > 1 and MANY <= len(dataset) <= batch_size:
        LOG.warning(
            f"batch_size={batch_size} takes all {len(dataset)} training images at once: one update of the "
            f"weights per epoch; a smaller batch_size, such as {len(dataset) // 8}, makes more of them"
        )
    _check_options(model, dataset, recipe, batch_size)
    form = _form_of_output(model, dataset)
    loss = chosen(recipe.loss, form, target.kind, dataset.name)
    _check_target(recipe, target, loss)
    check_loss(model, dataset, loss)


def _check_labels(part: str, images: ImageSet) -> None:
    outside = np.count_nonzero((images.labels < 0) | (images.labels >= len(images.classes)))
    if outside:
        raise UserError(f"{outside} of the {len(images)} {part} images of {images.name} have no class")


def _named(target: Target) -> str:
    return "channels" if target.kind == "course" else "classes"


def _check_target(recipe: Recipe, target: Target, loss: str) -> None:
    """Refuse options that have no meaning for what the images ask of a network.

    Raises:
        UserError: one of them was given.
    """
    if recipe.balance == "draw" and target.kind != "class":
        more = "; balance=loss weights pixels by their class" if target.kind == "map" else ""
        raise UserError(f"balance=draw needs one class per image, these images have {KINDS[target.kind]}{more}")
    if recipe.balance == "loss" and target.kind not in ("class", "map"):
        raise UserError(f"balance=loss needs one class per image or pixel, these images have {KINDS[target.kind]}")
    if recipe.balance == "loss" and loss == "dice":
        raise UserError("balance=loss weights the cross-entropy of pixels, dice has none; say loss=cross-entropy")
    if recipe.label_smoothing and (loss in ("margin", "dice") or target.kind == "course"):
        raise UserError(f"label_smoothing spreads the target of classes over others, loss={loss} has no such target")
    if target.kind == "course" and recipe.kinds:
        raise UserError(f"augment of images with courses is none: it would move what they are about; "
                        f"got {list(recipe.kinds)}")  # fmt: skip


def check_loss(model: nn.Module, dataset: ImageSet, loss: str) -> None:
    """Warn where the loss is none of what the network returns."""
    if loss != "cross-entropy" or dataset.target.kind not in ("class", "present"):
        return
    found = outputs_of(model, dataset.size, dataset.target.names)
    if found.kind in ("softmax", "sigmoid"):
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


def _form_of_output(model: nn.Module, dataset: ImageSet) -> Output:
    """Return the form of what a network returns, where it fits what the images ask of it.

    Raises:
        UserError: it does not, or the network does not take such images, or has nothing to train.
    """
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
    form = form_of(model, output)
    _check_form(form, output, dataset)
    assert form is not None  # or it has been refused
    return form


def _check_form(form: Output | None, output: Any, dataset: ImageSet) -> None:
    """Refuse what a network returns for two images, where it is none of what they ask."""
    target, shape = dataset.target, tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
    name, count = dataset.name, len(target.names)
    maps = form == "map" or (form is None and len(shape) == 3)
    if target.kind in ("class", "present"):
        if form in ("classes", "existence") and shape == (count,):
            return
        got = f"{shape[0]} outputs" if form in ("classes", "existence") else "something else"
        if form == "map":
            way = (
                f"say dataset.target={dataset.masks_by}"
                if dataset.masks_by
                else (f"{name} has none, shapes has (dataset=shapes dataset.target=mask)")
            )
            got = f"maps ({_by(shape)}), which learn from masks: {way}"
        elif form == "course":
            got = f"courses ({_by(shape)})"
        elif not isinstance(output, Tensor):
            got = f"a {type(output).__name__}: call its logits so, in a dict, dataclass or named tuple"
        raise UserError(f"the network must give one output per class, {count}; it gives {got}")
    given = _by(shape) if shape else f"a {type(output).__name__}"
    if target.kind == "map":
        if not maps:
            raise UserError(f"{name} gives a class for every pixel: that needs a network that returns maps "
                            f"({count} x y x x), this one gives {given}")  # fmt: skip
        beyond = [side for side, whole in zip(shape[1:], target.size) if side > whole or (whole - side) % 2]
        if shape[0] != count or beyond:
            sizes = f"{count} x {_by(target.size)}, or the middle of that"
            raise UserError(f"the maps of {name} have {sizes}; the network gives {given}")
    elif shape != (count, *target.size[1:]):
        raise UserError(f"the courses of {name} have {_by((count, *target.size[1:]))} (channel x time); "
                        f"the network gives {given}")  # fmt: skip


def _by(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
