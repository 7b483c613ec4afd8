"""Probing leaves no trace: a network comes back from an experiment exactly as it went in."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def untouched(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode, its parameters without gradients, and give it back exactly as it was.

    Restored, whatever happens inside (an error, Ctrl-C): every module's training flag, hooks and children, every
    parameter's identity, `requires_grad` and `.grad`, every buffer's identity and contents, and the attributes of its
    own that a module has (lists, dictionaries and sets with their items). Contents of parameters are not copied:
    nothing that probes may write to them, and what a `forward` writes there stays. Gradients at the input or at
    activations work inside as usual; what `torch.utils.checkpoint` would forget and compute again is kept, see
    `_checkpoints_keep`.
    """
    modules = [(module, module.training, dict(module._modules), _hooks(module)) for module in model.modules()]
    owned = [(module, dict(module._parameters), _buffers(module)) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    attributes = [(module, _attributes(module)) for module in model.modules()]
    try:
        for module, *_ in modules:
            module.training = False  # not .eval(): a network may override train() with more than the flag
        for parameter, *_ in gradients:
            if parameter.is_leaf:
                parameter.requires_grad_(False)
        with _checkpoints_keep():
            yield model
    finally:
        for module, training, children, hooks in modules:
            module.training = training
            _put_back(module._modules, children)
            for name, before in hooks.items():
                _put_back(getattr(module, name), before)
        for module, parameters, buffers in owned:
            _put_back(module._parameters, parameters)
            _put_back(module._buffers, {name: tensor for name, (tensor, _) in buffers.items()})
            for tensor, contents in buffers.values():
                if tensor is not None and not torch.equal(tensor, contents):
                    with torch.no_grad():
                        tensor.copy_(contents)
        for parameter, requires_grad, gradient in gradients:
            if parameter.is_leaf:
                parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        for module, before in attributes:
            _restore(module, before)


@contextmanager
def _checkpoints_keep() -> Iterator[None]:
    """Let gradient checkpointing call its function and nothing more; the numbers are the same, the memory is not saved.

    A checkpoint hides its graph (reentrant) or runs its function again on the way back, where taps would read a second
    time. Both kinds end in these functions of torch; a version of torch that lacks one is left as it is.
    """
    place = torch.utils.checkpoint
    names = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")
    before = {name: getattr(place, name) for name in names if hasattr(place, name)}
    outer = place.CheckpointFunction.__dict__.get("apply")  # of a probe around this one
    place.CheckpointFunction.apply = staticmethod(_called)
    for name in before:
        setattr(place, name, _nothing_around)
    try:
        yield
    finally:
        for name, own in before.items():
            setattr(place, name, own)
        if outer is None:
            del place.CheckpointFunction.apply
        else:
            place.CheckpointFunction.apply = outer


def _called(function: Callable, preserve: bool, *arguments: Any) -> Any:
    return function(*arguments)


def _nothing_around(*_: Any, **__: Any) -> Iterator[None]:
    yield


def _hooks(module: nn.Module) -> dict[str, dict]:
    return {name: dict(getattr(module, name)) for name in _HOOKS if hasattr(module, name)}


def _buffers(module: nn.Module) -> dict[str, tuple]:
    """Return by name: the buffer and a copy. (Versions do not tell: BatchNorm writes its statistics unnoticed.)"""
    return {name: (tensor, None if tensor is None else tensor.clone()) for name, tensor in module._buffers.items()}


OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes of every module; what matters among them is restored one by one."""


def _attributes(module: nn.Module) -> dict[str, tuple]:
    """Return by name what a module keeps beside tensors and modules: the object, and a copy of what it holds."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    kinds = (list, dict, set, deque)
    return {
        name: (value, value.copy() if type(value) in kinds else None)
        for name, value in vars(module).items()
        if name not in OF_TORCH
    }


def _restore(module: nn.Module, before: dict[str, tuple]) -> None:
    """Give a module the attributes that it had."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    own = vars(module)
    for name in [name for name in own if name not in before and name not in OF_TORCH]:
        del own[name]
    for name, (value, held) in before.items():
        own[name] = value
        if held is None:
            continue
        if isinstance(value, dict):
            _put_back(value, held)
        elif list(map(id, value)) != list(map(id, held)):
            value.clear()
            (value.update if isinstance(value, set) else value.extend)(held)


def _put_back(current: dict, before: dict) -> None:
    """Give a dictionary its former items, in place and only where something changed."""
    if [(name, id(item)) for name, item in current.items()] != [(name, id(item)) for name, item in before.items()]:
        current.clear()
        current.update(before)
