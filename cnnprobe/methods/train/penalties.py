"""Terms that a network itself adds to the loss: `network.penalties(images, outputs, targets)`, by name, weighted.

A decoder's reconstruction error, the squared rates of a recurrence: what belongs to the network and not to the recipe.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance

NAME = "penalties"
Penalties = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]


def penalties_of(model: nn.Module) -> Penalties | None:
    """Return what a network adds to the loss, None where it adds nothing; a `__getattr__` of its own is not asked."""
    found = inspect.getattr_static(model, NAME, None)
    return getattr(model, NAME) if inspect.isfunction(found) else None


def names_of(model: nn.Module, dataset: ImageSet, others: Iterable[str]) -> tuple[str, ...]:
    """Return the names of what a network adds to the loss, in its order.

    Args:
        model: in any mode; it is given back as it was.
        dataset: whose first image is shown twice.
        others: columns of `/epochs`, which may not be called so.

    Raises:
        UserError: what it gives is not one number by name, or has the name of a column.
    """
    own = penalties_of(model)
    if own is None:
        return ()
    device = next(model.parameters()).device
    images = torch.full((2, *dataset.size), 0.5, device=device)
    targets = dataset.targets([0, 0])[0].to(device)
    with untouched(model), chance.forked(), torch.no_grad():
        model.eval()
        found: Any = own(images, model(images), targets)
    right = isinstance(found, dict) and all(
        isinstance(name, str) and name.isidentifier() and isinstance(value, Tensor) and value.numel() == 1
        for name, value in found.items()
    )
    if not right:
        raise UserError(f"{NAME} of the network must return a dict of one number by name, each weighted already")
    if taken := [name for name in found if name in (*others, *(f"val_{one}" for one in others))]:
        raise UserError(f"{NAME} of the network calls a term {taken[0]!r}, as a column of /epochs is called")
    return tuple(found)
