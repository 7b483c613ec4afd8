"""Findings about a network from trying it, kept with it for as long as it stays unchanged."""

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Found = TypeVar("Found")
PLAIN = (bool, int, float, complex, str, bytes, type(None))
APART = ("training", "_parameters", "_buffers")
"""Attributes of a module that are no setting, or are looked at as tensors."""
DEEP, MOST, SAMPLES = 2, 64, 8
"""How deep containers are looked into, how many of their items, and how many numbers of a tensor."""
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
        (id(module), *((name, _contents(value, DEEP)) for name, value in vars(module).items() if name not in APART))
        for module in model.modules()
    )
    return settings, tuple(_version(tensor) for tensor in chain(model.parameters(), model.buffers()))


def _contents(value: Any, deep: int) -> Any:
    """Return what changes with a value: itself where it is plain, what it holds where it is a container, and which."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        return _version(value)
    if not deep or isinstance(value, nn.Module):
        return id(value)
    if isinstance(value, Mapping):
        return id(value), tuple((repr(key), _contents(one, deep - 1)) for key, one in islice(value.items(), MOST))
    if isinstance(value, list | tuple | set | deque):
        return id(value), len(value), tuple(_contents(one, deep - 1) for one in islice(value, MOST))
    return id(value), tuple((name, _contents(one, deep - 1)) for name, one in getattr(value, "__dict__", {}).items())


def _version(tensor: Tensor) -> tuple:
    """Return what changes with a tensor and its contents; `.data` is written to unnoticed by its version."""
    version = -1 if tensor.is_inference() else tensor._version
    some: tuple = ()
    if tensor.layout == torch.strided and not tensor.is_meta and tensor.numel() and tensor.device.type == "cpu":
        flat = tensor.detach().reshape(-1)
        some = tuple(flat[:: max(1, len(flat) // SAMPLES)].tolist())
    return id(tensor), version, tensor.dtype, tensor.device, repr(some)
