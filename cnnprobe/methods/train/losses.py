"""Losses of a training, by what the network returns and what the images ask of it.

A loss gives terms per image, and one number of the terms of any number of images: so the loss of a held-out set does
not depend on how it is cut into batches, also where it is no mean over images (Dice).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cnnprobe.datasets.base.targets import NOT_COUNTED, Kind, one_hot
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import Output

Name = Literal["cross-entropy", "squared-error", "margin", "dice", "cross-entropy+dice"]
FITTING: dict[tuple[Output, Kind], tuple[Name, ...]] = {
    ("classes", "class"): ("cross-entropy", "squared-error"),
    ("classes", "present"): ("cross-entropy",),
    ("existence", "class"): ("margin", "cross-entropy"),
    ("existence", "present"): ("margin", "cross-entropy"),
    ("map", "map"): ("cross-entropy", "dice", "cross-entropy+dice"),
    ("course", "course"): ("squared-error",),
}
"""Losses of each pair of output and target that go together; loss=auto is the first."""
UPPER, LOWER, ABSENT = 0.9, 0.1, 0.5
"""Margins of the lengths of capsules, and the weight of classes that are not there (Sabour et al. 2017, equation 4)."""
KINDS: dict[Kind, str] = {
    "class": "one class per image",
    "present": "several classes per image",
    "map": "a class for every pixel",
    "course": "courses",
}
"""What images ask of a network, in words."""
INTERSECTION, SUMS = 0, 1
"""Of a map: what its Dice terms are of each class, products and sums of probability and truth."""


@dataclass(frozen=True)
class Loss:
    """What is minimised.

    Cross-entropy of the softmax, or half the squared distance between outputs and target, the one-hot vector of the
    class (Nielsen 2015, Neural networks and deep learning, equation 6). Smoothing moves a share of the target from the
    class to all classes evenly (Szegedy et al. 2016, section 7). Of outputs that stand each for itself, or of images
    that may have several classes, the cross-entropy is binary, of each class, and their mean is taken.

    Margin: the sum over classes of max(0, 0.9 - L)² where the class is there, of 0.5 max(0, L - 0.1)² where it is not,
    L being the length of a capsule, the sigmoid of its log-odds (Sabour et al. 2017, equation 4).

    Of maps: the cross-entropy of the pixels that count, mean over them; soft Dice, 1 - mean over the classes that are
    judged of (2 Σpg + 1) / (Σp + Σg + 1), sums over all pixels of all images, p the softmax; or both added.

    Of courses: the squared difference, mean over channels and time.

    Args:
        kind: see `FITTING`.
        of: what the network returns and what the images ask of it.
        smoothing: share of the target that is spread.
        weights: (class,) multiplies the loss of its images, or of its pixels; None: 1.
        judged: classes of which the Dice loss is the mean, see `targets.Target.judged`.
    """

    kind: Name
    of: tuple[Output, Kind] = ("classes", "class")
    smoothing: float = 0.0
    weights: Tensor | None = None
    judged: tuple[int, ...] = ()

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (image,) losses, or (image, term) of which `total` makes one.

        Args:
            outputs: of the network.
            targets: see `targets.Target`; of a map as large as the outputs.
        """
        return _TERMS[self.of[0], self.of[1] == "present"](self, outputs, targets)

    def total(self, terms: Tensor) -> Tensor:
        """Return the loss of images from their terms."""
        if terms.ndim == 1:
            return terms.mean()
        entropy, both = terms[:, 0].mean(), terms[:, 1:].view(len(terms), 2, -1).sum(0)
        ratio = (2 * both[INTERSECTION] + 1) / (both[SUMS] + 1)
        overlap = 1 - ratio[list(self.judged)].mean()
        return overlap if self.kind == "dice" else overlap + entropy

    def _of_classes(self, outputs: Tensor, labels: Tensor) -> Tensor:
        if self.kind == "cross-entropy":
            losses = functional.cross_entropy(outputs, labels, label_smoothing=self.smoothing, reduction="none")
        else:
            classes = outputs.shape[1]
            target = functional.one_hot(labels, classes) * (1 - self.smoothing) + self.smoothing / classes
            losses = 0.5 * (outputs - target).square().sum(1)
        return losses if self.weights is None else losses * self.weights[labels]

    def _of_one_existing(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = self._of_each(outputs, one_hot(labels, outputs.shape[1]))
        return losses if self.weights is None else losses * self.weights[labels]

    def _of_each(self, outputs: Tensor, present: Tensor) -> Tensor:
        target = present.to(outputs.dtype)
        if self.kind == "margin":
            length = outputs.sigmoid()
            short, long = (UPPER - length).clamp(min=0).square(), (length - LOWER).clamp(min=0).square()
            return (target * short + ABSENT * (1 - target) * long).sum(1)
        target = target * (1 - self.smoothing) + self.smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)

    def _of_maps(self, outputs: Tensor, targets: Tensor) -> Tensor:
        labels, counted = targets.long(), targets != NOT_COUNTED
        entropy = outputs.new_zeros(len(outputs))
        if self.kind != "dice":
            how = {"label_smoothing": self.smoothing, "ignore_index": NOT_COUNTED, "reduction": "none"}
            losses = functional.cross_entropy(outputs, labels, **how)  # 0 where it is not counted
            if self.weights is not None:
                losses = losses * self.weights[labels.where(counted, 0)]
            entropy = losses.flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)
        if self.kind == "cross-entropy":
            return entropy
        probable = outputs.softmax(1) * counted[:, None]
        classes = torch.arange(outputs.shape[1], device=outputs.device)
        true = (labels[:, None] == classes[:, None, None]).to(outputs.dtype)
        both = ((probable * true).flatten(2).sum(2), (probable + true).flatten(2).sum(2))
        return torch.cat([entropy[:, None], *both], dim=1)

    def _of_courses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().flatten(1).mean(1)


_TERMS: dict[tuple[Output, bool], Callable[[Loss, Tensor, Tensor], Tensor]] = {
    ("classes", False): Loss._of_classes,
    ("classes", True): Loss._of_each,
    ("existence", False): Loss._of_one_existing,
    ("existence", True): Loss._of_each,
    ("map", False): Loss._of_maps,
    ("course", False): Loss._of_courses,
}
"""By what the network returns, and whether several classes may hold."""


def chosen(asked: Name | Literal["auto"], output: Output, target: Kind, name: str) -> Name:
    """Return the loss that goes with what a network returns and what the images ask of it.

    Args:
        asked: by the user.
        output, target: a pair of `FITTING`.
        name: of the dataset.

    Raises:
        UserError: another one was asked for.
    """
    fitting = FITTING[output, target]
    if asked == "auto":
        return fitting[0]
    if asked in fitting:
        return asked
    possible = " or ".join(f"loss={one}" for one in fitting)
    if asked == "margin" and output == "classes":
        why = "a network of capsules, whose outputs stand each for itself (About.output existence)"
        got = "this one gives classes"
    elif "dice" in asked:
        why, got = "images with masks (dataset.target=mask where a dataset has them)", f"{name} has {KINDS[target]}"
    else:
        why, got = _WANTS[asked], f"this one learns {KINDS[target]} of {name}"
    raise UserError(f"loss={asked} needs {why}, {got}; possible: {possible}")


_WANTS: dict[str, str] = {
    "cross-entropy": "classes",
    "squared-error": "one class per image or courses, and a network whose classes exclude each other",
    "margin": "a network of capsules (About.output existence)",
}
