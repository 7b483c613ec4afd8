"""Moments of learning: a network as it was at several times of its training, one after the other in one network.

What a network has learned is its state dict, and those buffers that it leaves out (`persistent=False`) which are others
than they were built: a running mean, a memory of images. A state without them means that they are as built.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine.memory import is_short

OURS = "_cnnprobe"
"""How names begin that this package gives to attributes of a network."""
BUILT = f"{OURS}_built"
"""Attribute of a module: its buffers as built, by name, of those in whose place learned ones were put."""


@dataclass(frozen=True)
class Moment:
    """The weights of a network at one moment of its training.

    Args:
        label: its name, e.g. "epoch=003", "update=000064".
        epoch: how many times the network had seen the training images, 0 before training, a fraction within an epoch;
            NaN where that is not known.
        load: reads its state (see `put`), all entries of the network's own, on the CPU; read anew each time, so that
            only one moment need be in memory.
    """

    label: str
    epoch: float
    load: Callable[[], dict[str, Tensor]]


def as_built(model: nn.Module) -> dict[str, Tensor | None]:
    """Return copies, on the CPU, of the buffers that are not in a network's state dict, by name, as it was built."""
    found = {}
    for name, module, own in _left_out(model):
        built = vars(module).get(BUILT, {}).get(own, module._buffers.get(own))
        found[name] = None if built is None else built.detach().cpu().clone()
    return found


def changed(model: nn.Module, built: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return the buffers that are not in a network's state dict and are others than they were, by name.

    Args:
        model: a network.
        built: what `as_built` returned.
    """
    now = ((name, module._buffers.get(own)) for name, module, own in _left_out(model))
    return {
        name: value
        for name, value in now
        if value is not None and value.layout == torch.strided and not _same(value, built.get(name))
    }


def whole(model: nn.Module) -> dict[str, Tensor]:
    """Return all that a network has learned: its state dict, and the buffers that are others than they were built."""
    return model.state_dict() | changed(model, as_built(model))


def expected(model: nn.Module, state: Mapping[str, Tensor], learned: Iterable[str]) -> dict[str, Tensor]:
    """Return the buffers of a file that belong to a network which leaves them out of its state dict.

    Args:
        model: the network.
        state: of the file.
        learned: the names there, as they are written beside it.

    Returns:
        by the names of the network, in which it may have another prefix.
    """
    names = [name for name in learned if name in state]
    return {
        own: state[name]
        for own, _, _ in _left_out(model)
        for name in names
        if f".{own}".endswith(f".{name}") or f".{name}".endswith(f".{own}")
    }


def put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a state, as `whole` returns it, into a network; buffers that it lacks become as they were built.

    Raises:
        RuntimeError: names or shapes are not those of the network.
    """
    left_out = list(_left_out(model))
    apart = {name for name, _, _ in left_out}
    model.load_state_dict({name: value for name, value in state.items() if name not in apart})
    for name, module, own in left_out:
        if name not in state and own not in vars(module).get(BUILT, {}):
            continue
        now = module._buffers.get(own)
        built = vars(module).setdefault(BUILT, {})
        built.setdefault(own, None if now is None else now.detach().cpu().clone())
        value = state.get(name, built[own])
        if now is not None and value is not None and (now.shape, now.dtype) == (value.shape, value.dtype):
            with torch.no_grad():
                now.copy_(value)
        else:
            place = next((p.device for p in model.parameters()), torch.device("cpu"))
            module._buffers[own] = None if value is None else value.to(place)


def _left_out(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Give the buffers that a state dict leaves out: name, module, and name in the module."""
    for path, module in model.named_modules():
        for own in sorted(getattr(module, "_non_persistent_buffers_set", ())):
            if not own.startswith(OURS):
                yield f"{path}.{own}" if path else own, module, own


def _same(value: Tensor, other: Tensor | None) -> bool:
    """Say whether two tensors are equal, NaN to NaN."""
    if other is None or (value.shape, value.dtype) != (other.shape, other.dtype):
        return False
    value = value.detach().cpu()
    return bool(((value == other) | ((value != value) & (other != other))).all())


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
            put(model, moment.load())
            yield model
    finally:
        with torch.no_grad():
            for parameter, values in kept:
                parameter.copy_(values)


def copy_of(model: nn.Module) -> nn.Module:
    """Return a network of its own that is as another one is now.

    Tensors that were computed from others (weight_norm, spectral_norm and pruning leave those of the last pass in a
    module) are copied by value; what has no copy and no parts (a lock, an open file) is shared.

    Raises:
        UserError: something else in it has no copy.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever stands in a network that was never seen before
        if is_short(error):
            raise
    whole = {
        id(one): one
        for module in model.modules()
        for one in (module, *module._parameters.values(), *module._buffers.values())
    }
    ready: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_modules", "_parameters", "_buffers"):
                _make_ready(value, ready, whole, {})
    try:
        return copy.deepcopy(model, ready)
    except Exception as error:
        if is_short(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"the network cannot be copied: {reason}") from None


def _make_ready(value: Any, ready: dict[int, Any], whole: dict[int, Any], seen: dict[int, Any]) -> None:
    """Find out what in a value has no copy, and write down, by its id, what stands for it in the copy.

    Args:
        value: an attribute of a module, or something in one.
        ready: is added to.
        whole: what is copied with the network, and not looked into here.
        seen: what was looked at.
    """
    if any(id(value) in known for known in (ready, whole, seen)):
        return
    seen[id(value)] = value
    if isinstance(value, Tensor):
        if not value.is_leaf:
            ready[id(value)] = value.detach().clone()
        return
    try:
        copy.deepcopy(value, whole | ready)
    except Exception as error:
        if is_short(error):
            raise
        parts = _parts(value)
        for part in parts:
            _make_ready(part, ready, whole, seen)
        if not parts:
            ready[id(value)] = value


def _parts(value: Any) -> list[Any]:
    """Return what something that has no copy is made of."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    return [value.__self__] if hasattr(value, "__self__") else list(getattr(value, "__dict__", {}).values())


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
