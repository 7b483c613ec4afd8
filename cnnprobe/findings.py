"""What was found out about a network by trying it, kept with it for as long as it stays as it is."""

import weakref
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from typing import Any, TypeVar

from torch import Tensor, nn

Found = TypeVar("Found")
PLAIN = (bool, int, float, str, type(None))
_KEPT: dict[int, tuple[weakref.ref, tuple, dict[Hashable, Any]]] = {}


def kept(model: nn.Module, key: Hashable, find: Callable[[], Found]) -> Found:
    """Return what `find` finds out about a network; found anew where the network is another one than it was.

    Args:
        model: any network.
        key: what is found out, and of what else it depends.
        find: returns something that does not hold the network, which would never be freed then.
    """
    known, state, found = _KEPT.get(id(model), (None, (), {}))
    now = state_of(model)
    if known is None or known() is not model or state != now:
        found = {}
        place = id(model)
        _KEPT[place] = weakref.ref(model, lambda _: _KEPT.pop(place, None)), now, found
    if key not in found:
        found[key] = find()
    return found[key]


def state_of(model: nn.Module) -> tuple:
    """Return what tells a network from what it was: modules, their plain settings but for their mode, and tensors."""
    settings = tuple(
        (id(module), *((name, value) for name, value in _plain(vars(module).items()) if name != "training"))
        for module in model.modules()
    )
    tensors = tuple(_version(tensor) for tensor in chain(model.parameters(), model.buffers()))
    return settings, tensors


def _plain(items: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return attributes that are a number, a word, or a short list of them."""
    found = []
    for name, value in items:
        if isinstance(value, PLAIN):
            found.append((name, value))
        elif type(value) in (tuple, list) and len(value) <= 16 and all(isinstance(one, PLAIN) for one in value):
            found.append((name, tuple(value)))
    return found


def _version(tensor: Tensor) -> tuple:
    """Return what changes with the contents of a tensor; a buffer that is measured with keeps both."""
    version = -1 if tensor.is_inference() else tensor._version
    return id(tensor), version, tensor.dtype, tensor.device
