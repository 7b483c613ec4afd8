"""The tally of an epoch: losses update by update, and what the task counts of the images as they are learned."""

from typing import Any

import torch
from torch import Tensor

from cnnprobe.methods.train.epochs import copied
from cnnprobe.methods.train.tasks import Task

LOSS, COUNT, TERMS = range(3)
"""Columns of the losses, one row an update: of the loss, images, and what the network itself adds to the loss."""


class Tally:
    """What an unfinished epoch has added up; losses stay on the device until they are looked at.

    Args:
        task: what is counted.
        updates: of an epoch.
        terms: how many the network adds to the loss.
        device: where the network is.
    """

    def __init__(self, task: Task, updates: int, terms: int, device: torch.device):
        self.task, self.looked = task, 0
        self.losses = torch.zeros(updates, TERMS + terms, dtype=torch.float64, device=device)
        self.sums: Tensor | None = None
        """See `Task.sums`; None: no image was learned."""

    def write(self, step: int, loss: Tensor, owned: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Write down an update, and count what the network answered."""
        row = self.losses[step]
        row[LOSS], row[COUNT], row[TERMS:] = loss, len(targets), owned
        sums = self.task.sums(outputs, targets)
        self.sums = sums if self.sums is None else self.sums + sums

    @property
    def shown(self) -> float:
        """How many images were learned."""
        return float(self.losses[:, COUNT].sum())

    def look(self, step: int) -> tuple[int, float] | None:
        """Look at the losses since the last look; return the first update, from 0, whose loss is not finite, and it."""
        losses = self.losses[self.looked : step].sum(1)
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            return self.looked + int(wrong[0]), float(losses[int(wrong[0])])
        self.looked = step
        return None

    def means(self) -> dict[int, float]:
        """Return the mean over the images of the loss, and of each term behind it, by column; of an epoch's end."""
        losses = self.losses.cpu()
        count = losses[:, COUNT]
        return {place: float((losses[:, place] * count).sum()) / self.shown for place in range(losses.shape[1])}

    def share(self) -> float:
        """Return what the task measures of the images as they were learned."""
        assert self.sums is not None  # an image was learned
        return self.task.share(self.sums.cpu())

    def clear(self) -> None:
        """Begin an epoch."""
        self.losses.zero_()
        self.looked, self.sums = 0, None

    def plain(self) -> dict[str, Tensor]:
        """Return a copy as tensors."""
        return {"tally": copied(self.losses)} | ({} if self.sums is None else {"sums": copied(self.sums)})

    def put_back(self, state: dict[str, Any]) -> None:
        """Take what `plain` gave, or what was left by versions that knew accuracy alone: loss, right, images.

        Raises:
            RuntimeError, KeyError, …: it is of another training.
        """
        losses, sums = state["tally"], state.get("sums")
        if sums is None and losses.shape[1] == TERMS + 1 > self.losses.shape[1]:
            losses, sums = losses[:, [0, 2]], losses[:, 1:].sum(0)
        self.losses.copy_(losses)
        self.sums = sums.to(self.losses.device) if sums is not None and self.shown else None
