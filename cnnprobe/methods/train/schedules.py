"""Schedules of a training: the learning rate of every update, and the moments at which the weights are kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the number of updates made; it has no state that a resume could lose.

    Args:
        kind: "constant"; "step", times `step_factor` after every `step_epochs` epochs; "cosine", half a
            period down to 0 (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts).
        lr: the highest learning rate.
        updates_per_epoch: updates of the weights in one epoch.
        epochs: epochs of the whole training.
        warmup: epochs of linear rise to the highest learning rate (Goyal et al. 2017, section 2.2).
    """

    kind: str
    lr: float
    updates_per_epoch: int
    epochs: int
    warmup: float = 0.0
    step_epochs: int = 1
    step_factor: float = 0.1

    def __call__(self, update: int) -> float:
        """Return the learning rate of one update, counted from 0."""
        rise = round(self.warmup * self.updates_per_epoch)
        if update < rise:
            return self.lr * (update + 1) / rise
        if self.kind == "step":
            return self.lr * self.step_factor ** (update // self.updates_per_epoch // self.step_epochs)
        if self.kind == "cosine":
            fall = max(self.updates_per_epoch * self.epochs - rise, 1)
            return self.lr * 0.5 * (1 + math.cos(math.pi * (update - rise) / fall))
        return self.lr


def kept_updates(updates_per_epoch: int) -> list[int]:
    """Return the updates within the first epoch after which weights are kept: 0 (untrained), 1, 2, 4, 8, …"""
    return [0, *(2**power for power in range((updates_per_epoch - 1).bit_length()))]


def kept_epochs(asked: Sequence[int] | Literal["log", "all"], epochs: int) -> set[int]:
    """Return the epochs after which weights are kept, 0 being the untrained network.

    Args:
        asked: epochs; "log" for 1, 2, 4, 8, …; or "all".
        epochs: how many there are; epochs beyond the last one are left out.
    """
    if asked == "all":
        return set(range(epochs + 1))
    if asked == "log":
        return {0, epochs, *(2**power for power in range(epochs.bit_length()))}
    return {0, *(int(epoch) for epoch in asked if epoch <= epochs)}
