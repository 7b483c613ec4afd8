"""Moments of learning: a network as it was at several times of its training, one after the other in one network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.untouched import untouched


@dataclass(frozen=True)
class Moment:
    """The weights of a network at one moment of its training.

    Args:
        label: its name, e.g. "epoch=003", "update=000064".
        epoch: how many times the network had seen the training images, 0 before training, a fraction within an epoch;
            NaN where that is not known.
        load: reads its state dict, all entries of the network's own, on the CPU; read anew each time, so that only one
            moment need be in memory.
    """

    label: str
    epoch: float
    load: Callable[[], dict[str, Tensor]]


@contextmanager
def at(model: nn.Module, moment: Moment) -> Iterator[nn.Module]:
    """Give the network as it was at a moment, ready to be probed (see `untouched.untouched`).

    Whatever happens inside, the network is given back bit for bit, with the weights it came with. One copy of them is
    kept meanwhile.

    Args:
        model: of the same architecture as the one that learned, on any device.
        moment: the moment.

    Raises:
        RuntimeError: names or shapes of its weights are not those of the network.
    """
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    try:
        with untouched(model):
            model.load_state_dict(moment.load())
            yield model
    finally:
        with torch.no_grad():
            for parameter, values in kept:
                parameter.copy_(values)


def half_time(epochs: np.ndarray, likeness: np.ndarray) -> float:
    """Return when a feature had come half way to what it became.

    Half way is the middle between its first likeness and 1, reached for the first time, by linear interpolation between
    the moments on both sides.

    Args:
        epochs: (moment,) in order of learning; moments at an unknown epoch (NaN) are left out.
        likeness: (moment,) of the feature with the final one, 1 for the same; NaN where there was no feature.

    Returns:
        The epoch; NaN where the way was never half made, or there was none to make: the first likeness is 1 already.

    Raises:
        ValueError: the arrays differ in length, or epochs go backwards.
    """
    epochs, likeness = np.asarray(epochs, np.float64), np.asarray(likeness, np.float64)
    if epochs.shape != likeness.shape or epochs.ndim != 1:
        raise ValueError(f"epochs are {epochs.shape} and likeness {likeness.shape}; needed are two of (moment,)")
    known = np.isfinite(epochs) & np.isfinite(likeness)
    epochs, likeness = epochs[known], likeness[known]
    if (np.diff(epochs) < 0).any():
        raise ValueError("epochs must be in order of learning")
    if not len(likeness) or likeness[0] >= 1:
        return float("nan")
    half = (likeness[0] + 1) / 2
    there = np.flatnonzero(likeness >= half)
    if not len(there):
        return float("nan")
    after = there[0]
    before = after - 1
    share = (half - likeness[before]) / (likeness[after] - likeness[before])
    return float(epochs[before] + share * (epochs[after] - epochs[before]))
