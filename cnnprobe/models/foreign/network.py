"""A network that somebody else wrote, made ready to be measured: eager, normalising its images, giving its logits.

What is compiled, scripted, traced or exported runs where no layer can be read. Wrappers for several devices are put
aside for the network within. That stays as it is: its module paths, the keys of its state dict, its values.
"""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.findings import kept
from cnnprobe.machine import chance
from cnnprobe.models.foreign.returned import as_logits, entries_of
from cnnprobe.models.weights import extra_state

LOG = logging.getLogger("cnnprobe")
BUFFERS = ("_cnnprobe_mean", "_cnnprobe_deviation")


@contextmanager
def as_written() -> Iterator[None]:
    """Make `torch.compile`, `torch.jit.script` and `torch.jit.trace` hand back what they are given, meanwhile.

    They make a network faster, not another one; what runs in them cannot be read layer by layer.
    """
    compiler, state = torch.compile, torch.jit._state
    enabled = bool(state._enabled)

    def left_out(model: Any = None, **_: Any) -> Any:
        return model if model is not None else left_out

    torch.compile = left_out
    state.disable()
    try:
        yield
    finally:
        torch.compile = compiler
        if enabled:
            state.enable()


def plain(model: Any, of: str) -> nn.Module:
    """Return a network as it was written: out of its wrappers, not compiled.

    Args:
        model: what somebody hands over.
        of: who, for messages: "net.py: build returned".

    Raises:
        UserError: it is no network, or one that cannot be read layer by layer.
    """
    if isinstance(model, torch.export.ExportedProgram):
        raise _unreadable(of, "an exported program (torch.export)")
    if not isinstance(model, nn.Module):
        raise UserError(f"{of} a {type(model).__name__}, a torch.nn.Module is needed")
    model = _within(model)
    for path, module in list(model.named_modules()):
        if (kind := _closed(module)) is not None:
            raise _unreadable(of, f"a network whose {path} is {kind}" if path else kind)
        for name, child in module._modules.items():
            if child is not None and _within(child) is not child:
                module._modules[name] = _within(child)
        vars(module).pop("_compiled_call_impl", None)  # by module.compile()
    return model


def _closed(module: nn.Module) -> str | None:
    """Say what a module is that cannot be read layer by layer; None for any other."""
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript"
    graph = vars(module).get("_graph", vars(module).get("graph"))
    lowered = isinstance(graph, torch.fx.Graph) and any(
        isinstance(n.target, torch._ops.OpOverload) for n in graph.nodes
    )
    return "an exported program (torch.export)" if lowered else None


def handed_over(model: Any, size: tuple[int, ...] | None = None, command: str = "") -> nn.Module:
    """Return a network that a program hands over, which is not changed: itself, or a copy of its outermost module.

    The copy shares everything with it, and gives the logits out of what it returns.

    Args:
        model: a network, in any mode.
        size: (channel, y, x) or (channel, time) of the images it is shown; None where it is shown none.
        command: what is done with it, see `check`.

    Raises:
        UserError: it cannot be measured.
    """
    of = "model is"
    if isinstance(model, nn.Module):
        model = _within(model)
        for path, module in model.named_modules():
            if "_compiled_call_impl" in vars(module) or (path and _within(module) is not module):
                raise _unreadable(of, f"a network with a compiled or parallel part, {path or 'itself'}")
    model = plain(model, of)
    if lazy := _lazy(model):
        raise UserError(f"model has a lazy layer, {lazy[0]}; show it an image first")
    if (why := problem(model)) is not None:
        raise UserError(f"{of} a network whose {why}")
    if size is None:
        return model
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad(), as_it_was(model):
            output = model(_image(model, size))
        if not isinstance(output, Tensor) or command in ("train", "transfer"):
            model = adopt(copy.copy(model))
            model.training = False
        check(model, size, command)
    except (RuntimeError, ValueError, TypeError, IndexError):
        pass  # told by the command, where it shows its own images
    finally:
        for module, training in modes:
            module.training = training
    return model


def _unreadable(of: str, what: str) -> UserError:
    return UserError(f"{of} {what}, whose layers cannot be read; return the network that it was made from")


def _within(module: nn.Module) -> nn.Module:
    """Return the network in wrappers of torch that compute nothing."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules:
            module = module._orig_mod
        else:
            return module


def problem(model: nn.Module) -> str | None:
    """Say why a network cannot be measured as it is, "NAME is of type float16; …"; None where it can."""
    for name, value in model.state_dict().items():
        if name.endswith(extra_state.KEY):
            continue
        if not isinstance(value, Tensor) or value.is_quantized:
            kind = type(value).__name__ if not isinstance(value, Tensor) else "quantised tensor"
            return f"{name} is a {kind}; a quantised network cannot be probed, the one it was made from can"
        if nn.parameter.is_lazy(value):
            continue
        if value.is_meta:
            return f"{name} has no values (it is on the device meta)"
        if value.dtype != torch.float32 and (value.is_floating_point() or value.is_complex()):
            way = "keep it as torch.view_as_real gives it" if value.is_complex() else "return the network.float()"
            return f"{name} is of type {str(value.dtype).removeprefix('torch.')}; {way}"
    return None


def materialise(model: nn.Module, size: tuple[int, ...], name: str, said: int | None = None) -> None:
    """Give lazy layers their shapes, by one pass over a black image of the size of the images.

    Args:
        model: in eval() mode.
        size: (channel, y, x) or (channel, time).
        name: of the network, for messages.
        said: channels that the options say it takes.

    Raises:
        UserError: the pass fails, or some layer is still without a shape.
    """
    if not _lazy(model):
        return
    try:
        with torch.no_grad():
            model(torch.zeros(1, *size))
    except Exception as error:  # a network may raise anything
        shape, reason = "x".join(map(str, size)), " ".join(str(error).split())[:160] or type(error).__name__
        channels = f"; images of model.channels={said} come from dataset=arrays or dataset=manufactured"
        way = channels if said not in (None, size[0]) else ""
        raise UserError(f"{name} has lazy layers and takes no image of {shape}: {reason}{way}") from None
    if left := _lazy(model):
        raise UserError(f"{name}: the lazy layer of {left[0]} gets no shape from an image; give it one in the file")


def _lazy(model: nn.Module) -> list[str]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, value in tensors if nn.parameter.is_lazy(value)]


class _Foreign(nn.Module):
    """Put in front of a network's class: normalises images, if so asked, and gives the logits of what is returned."""

    def forward(self, images: Tensor) -> Any:
        """Run the network on (image, channel, y, x), values 0 to 1."""
        images = taken(self, images)
        output = (self.__dict__.get("_cnnprobe_forward") or super().forward)(images)
        return as_logits(self, None, output)


def taken(model: nn.Module, images: Tensor) -> Tensor:
    """Return images (image, channel, …), values 0 to 1, as the network's own forward gets them."""
    if not isinstance(model, _Foreign) or model._buffers.get(BUFFERS[0]) is None:
        return images
    mean, deviation = (model.get_buffer(name).view(-1, *[1] * (images.ndim - 2)) for name in BUFFERS)
    return (images - mean) / deviation


def adopt(model: nn.Module, mean: list[float] | None = None, deviation: list[float] | None = None) -> nn.Module:
    """Make a network normalise its images and give its logits, without another module around it (see `normalisation`).

    Args:
        model: of (image, channel, …).
        mean, deviation: one per channel, or one for all; None is 0 and 1.

    Returns:
        The same object.

    Raises:
        UserError: its class cannot be extended.
    """
    own = type(model)
    if issubclass(own, _Foreign):
        return model
    try:
        model.__class__ = type(own.__name__, (_Foreign, own), {"__module__": own.__module__, "__doc__": own.__doc__})
    except TypeError as error:
        raise UserError(f"a network of class {own.__name__} cannot be measured: {error}") from None
    if "forward" in vars(model):  # put there by hand
        model._cnnprobe_forward = vars(model).pop("forward")
    if model._forward_hooks:  # of the user's own, which may make something else of what it returns
        model.register_forward_hook(as_logits)
    if mean is not None or deviation is not None:
        for name, values in zip(BUFFERS, (mean or [0.0], deviation or [1.0])):
            model.register_buffer(name, torch.tensor(values), persistent=False)
    return model


def unsaved(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a network that its state dict leaves out, by name: filter banks, masks, tables."""
    saved = model.state_dict().keys()
    return {
        name: value
        for name, value in model.named_buffers()
        if name not in saved and name not in BUFFERS and value.layout == torch.strided and not value.is_meta
    }


def check(model: nn.Module, size: tuple[int, ...], command: str) -> None:
    """Find out whether a network answers an image for itself alone and always alike, with the classes it says.

    Args:
        model: in eval() mode, takes such images.
        size: (channel, y, x) or (channel, time) of the images.
        command: what is done with it. Those that measure responses are refused; a training, and `layers`, are warned.

    Raises:
        UserError: the network's answer depends on the other images of a batch, or on chance.
    """
    reason, drawn = _batch_statistics(model), False
    if reason is None:
        reason, drawn = kept(model, ("differs", tuple(size)), lambda: _differs(model, size))
    if reason is not None and command not in ("train", "transfer", "layers"):
        raise UserError(reason)
    if reason is None and drawn:
        reason = (
            "the network draws random numbers in eval mode; its responses to one image were equal in every trial, but "
            "its responses may differ by chance"
        )
    if reason is not None:
        LOG.warning(reason)


def _batch_statistics(model: nn.Module) -> str | None:
    """Name a BatchNorm that has no statistics of its own, or goes by those of the batch in eval mode as well."""
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.running_mean is None or module.training):
            lacks = f"{path} has no running statistics (track_running_stats=False)"
            lacks = lacks if module.running_mean is None else f"{path} stays in training mode after eval()"
            return f"{lacks}: the network's response to an image depends on the others in its batch"
    return None


def _differs(model: nn.Module, size: tuple[int, ...]) -> tuple[str | None, bool]:
    """Show a network one image alone and behind another; say so where it answers otherwise, or names other classes.

    Returns:
        Why it is refused, None where it is not; and whether it drew random numbers, though it answered alike.
    """
    image = _image(model, size)
    with torch.no_grad(), chance.forked():
        before = chance.standing()
        with as_it_was(model):
            first = _tensors(model(image.clone()))  # it may write into it
        draws = image.device.type != "cpu" or before != chance.standing()
        with as_it_was(model):
            model(1 - image.flip(-1) / 2)  # what it keeps of the first image it is shown is none of the next
            begun = chance.standing()
            times = 3 if draws else 1  # chance may leave a few numbers as they are
            others = [_tensors(model(image.clone())) for _ in range(times)]
            drawn = begun != chance.standing()  # not at its first image alone
    names = about(model).classes
    if names and len(first) == 1 and first[0].ndim == 2 and first[0].shape[1] != len(names):
        raise UserError(f"About.classes names {len(names)} classes, the network has {first[0].shape[1]} outputs")
    if all(map(partial(_same, first), others)):
        return None, drawn
    return (
        "the network answers the same image differently each time, in eval mode: dropout that is always on "
        "(F.dropout wants training=self.training), noise, or a state that it changes"
    ), drawn


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        own.shape == its.shape and torch.allclose(own, its, rtol=1e-4, atol=1e-6, equal_nan=True)
        for own, its in zip(one, other)
    )


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Give every module back the attributes and the buffers that it had, also where a pass has written into them."""
    before = [
        (module, dict(vars(module)), {n: (b, b.clone()) for n, b in module._buffers.items() if b is not None})
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for module, attributes, buffers in before:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
            for name, (buffer, contents) in buffers.items():
                module._buffers[name] = buffer
                if not torch.equal(buffer, contents):  # one that is written to counts as changed, see `findings`
                    with torch.no_grad():
                        buffer.copy_(contents)


def _image(model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Return an image of noise, (1, *size), always the same, where the network is and of its type."""
    own = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.rand(1, *size, generator=torch.Generator().manual_seed(0)).to(own.device, own.dtype)


def _tensors(output: Any) -> list[Tensor]:
    """Return the tensors of real numbers that a network returns, in order."""
    if isinstance(output, Tensor):
        return [output.detach().float().clone()] if not output.is_complex() else []
    named = entries_of(output)
    entries = named.values() if named is not None else output if isinstance(output, tuple | list) else ()
    return [tensor for entry in entries for tensor in _tensors(entry)]
