"""The judgement of a network by the held-out images, gathered batch by batch: loss, measure of the task, result."""

from typing import Any, cast

import torch
from torch import Tensor

from cnnprobe.errors import UserError
from cnnprobe.methods.train.epochs import EpochColumn, copied, measures_of
from cnnprobe.methods.train.losses import Loss
from cnnprobe.methods.train.tasks import Task


class Judging:
    """What was asked of the held-out images since the last epoch.

    Args:
        task: what is counted.
        loss: what is minimised.
        terms: names of what the network itself adds to it.
        name: of the dataset.
    """

    def __init__(self, task: Task, loss: Loss, terms: tuple[str, ...], name: str):
        self.task, self.loss, self.terms, self.name = task, loss, terms, name
        self.batches: list[tuple[Tensor, ...]] = []
        """Of each, () where none of its images can be read: terms of the loss, answers, what the network adds."""

    def add(self, outputs: Tensor, targets: Tensor, owned: Tensor) -> None:
        """Add a batch: outputs of the network, targets as they lie, and (term,) what the network adds to the loss."""
        found = self.loss.terms(outputs, targets), self.task.answers(outputs, targets)
        self.batches.append((*found, owned.expand(len(outputs), -1)) if self.terms else found)

    def skip(self) -> None:
        """Add a batch none of whose images can be read."""
        self.batches.append(())

    def result(self) -> tuple[Tensor, dict[EpochColumn, float]]:
        """Return the result, see `Task.result`, and columns of `/epochs`; the next epoch is judged anew.

        Raises:
            UserError: none of the images can be read.
        """
        asked, self.batches = [one for one in self.batches if one], []
        if not asked:
            raise UserError(f"no batch of the held-out images of {self.name} has enough that can be read")
        terms, answers, *owned = (torch.cat(parts) for parts in zip(*asked))
        result = self.task.result(answers)
        found: dict[EpochColumn, float] = {"val_loss": float(self.loss.total(terms.double()))}
        found[measures_of(self.task)[1]] = self.task.value(result)
        for name, value in zip(self.terms, owned[0].double().mean(0).tolist() if owned else ()):
            found[cast(EpochColumn, f"val_{name}")] = value
        return result, found

    def plain(self) -> list[list[Tensor]]:
        """Return copies of what was asked so far."""
        return [[copied(one) for one in several] for several in self.batches]

    def put_back(self, plain: Any, device: torch.device) -> None:
        """Go on from what `plain` gave.

        Raises:
            ValueError: it is of another training.
        """
        self.batches = [tuple(one.to(device) for one in several) for several in plain]
        if any(len(one) not in (0, 2 + bool(self.terms)) for one in self.batches):
            raise ValueError("it is of another training")
