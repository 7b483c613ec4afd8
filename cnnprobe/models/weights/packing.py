"""Weights of masked layers without the taps that do not exist: of MouseNet's kernels one in twenty does."""

from collections.abc import Mapping

import torch
from torch import Tensor

MASK, WEIGHT = ".mask", ".weight"


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what a network built with the same options knows already.

    Args:
        state: a network's, by name. "X.mask", where there is one, says which values of "X.weight" exist.

    Returns:
        The state without masks and counters of batches; a masked weight is a vector of the values that exist, in the
        order of its mask, (tap,).

    Raises:
        ValueError: a tap that does not exist has a value.
    """
    small = {}
    for name, value in state.items():
        mask = state.get(_mask_of(name))
        if name.endswith(MASK) or name.endswith("num_batches_tracked"):
            continue
        if mask is not None:
            if value[~mask].any():
                raise ValueError(f"{name} has values where its mask has none")
            value = value[mask]
        small[name] = value
    return small


def unpacked(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with its masks, and its masked weights in their shapes; one that was not packed as it is.

    Args:
        state: of `packed`, or any other.
        own: of a network built with the same options, whose masks are taken. A vector that does not fit them stays
            a vector.
    """
    whole = dict(state)
    for name, value in own.items():
        mask, given = own.get(_mask_of(name)), state.get(name)
        if mask is None or given is None or given.shape == value.shape or given.shape != (int(mask.sum()),):
            continue
        whole[name] = torch.zeros(value.shape, dtype=given.dtype).masked_scatter_(mask.cpu(), given)
        whole.setdefault(name.removesuffix(WEIGHT) + MASK, mask)
    return whole


def _mask_of(weight: str) -> str:
    """Return the name of a weight's mask; for other tensors one that does not exist."""
    return weight.removesuffix(WEIGHT) + MASK if weight.endswith(WEIGHT) else ""
