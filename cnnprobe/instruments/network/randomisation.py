"""Networks with random parameters from the output downwards, or in one block: what do maps show that was learned?

The two model randomisations of Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim (2018), "Sanity checks for saliency
maps", NeurIPS, arXiv:1810.03292, section 3: cascading (the last block, then the last two, …) and independent (one block
at a time, the others as learned).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import parameters_behind
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import ancestors, value_at
from cnnprobe.instruments.network.tracing import CONSTANT, Call, Trace, Value, leaves, trace_anew
from cnnprobe.machine import chance

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
SUMS = ("add", "iadd", "radd")


@dataclass(frozen=True)
class Block:
    """Modules whose parameters are randomised together, by their paths, e.g. a convolution and its BatchNorm."""

    name: str
    modules: tuple[str, ...]


def blocks(model: nn.Module, size: tuple[int, ...], layer: Layer | None = None) -> list[Block]:
    """Return the blocks of a network in the order in which the pass first uses them.

    A block is a module with parameters of its own. A normalisation belongs to the convolution, or to all the
    convolutions whose sum, it normalises; one that normalises something else belongs to the next block. Modules that
    give their parameters to one and the same function are one block.

    Args:
        size: (channel, y, x) or (channel, time) of the images.
        layer: only blocks that act on this layer; None for the network's output.

    Raises:
        UserError: the network cannot take an image of this size.
    """
    written = trace_anew(model, size, learning=True)
    calls = ancestors(written, value_at(written, layer.tap)) if layer else written.calls
    users = _users(model, calls)
    first = {path: index for index in sorted(users, reverse=True) for path in users[index]}
    groups: dict[int, list[str]] = {}  # by the call that uses them first
    for path, index in sorted(first.items(), key=lambda item: item[1]):
        groups.setdefault(index, []).append(path)
    norms = {path for path in first if isinstance(model.get_submodule(path), NORMS)}
    home = {index: first[paths[0]] for index, paths in users.items()}  # by any call: its group
    for index in list(groups):
        if set(groups[index]) <= norms:
            _join(groups, index, _normalised(written, written.calls[index], home), norms)
    return [Block(_name(paths, norms), tuple(paths)) for paths in groups.values()]


def _users(model: nn.Module, calls: Sequence[Call]) -> dict[int, list[str]]:
    """Return by the place of a call the paths of the modules whose parameters it uses.

    Parameters are known by what a call is given, or what that was computed from; failing that (a computation that
    autograd does not see) the module that a call runs in is taken, with those inside it that nothing else calls.
    """
    owners = {path: module for path, module in model.named_modules() if module._parameters}
    owners = {
        path: module for path, module in owners.items() if any(p is not None for p in module._parameters.values())
    }
    of = {id(p): path for path, module in reversed(owners.items()) for p in module._parameters.values()}
    users: dict[int, list[str]] = {}
    for call in calls:
        given = [v.constant for v in leaves((call.arguments, call.keywords), Value) if v.call == CONSTANT]
        behind = {id(parameter) for tensor in given for parameter in parameters_behind(tensor)}
        paths = dict.fromkeys(path for place, path in of.items() if place in behind)
        if paths or call.module in owners:
            users[call.index] = list(paths or [call.module])
    seen = {path for paths in users.values() for path in paths}
    started = {call.module: call.index for call in reversed(calls) if call.module}
    for path in owners.keys() - seen:
        above = ".".join(path.split(".")[:-1])
        while above and above not in started:
            above = ".".join(above.split(".")[:-1])
        if above:
            users.setdefault(started[above], []).append(path)
    return users


def _normalised(written: Trace, norm: Call, home: dict[int, int]) -> list[int]:
    """Return the groups whose results, or whose sum, a normalisation is given; none if it is given something else."""
    waiting, found = list(norm.inputs), []
    while waiting:
        value = waiting.pop()
        if len(written.consumers[value]) > 1:  # a residual stream, which belongs to nobody
            return []
        if value.call in home:
            found.append(home[value.call])
        elif value.call >= 0 and written.calls[value.call].name.strip("_") in SUMS:
            waiting += written.calls[value.call].inputs
        else:
            return []
    return found


def _join(groups: dict[int, list[str]], norm: int, before: list[int], norms: set[str]) -> None:
    """Move a normalisation, and what it sums, into one group: the last one before it, else the next one."""
    before = sorted({index for index in before if index in groups and index < norm})
    if before:
        *others, last = before
        groups[last] = [path for index in (*others, last, norm) for path in groups.pop(index)]
    else:
        later = [index for index in groups if index > norm and not set(groups[index]) <= norms]
        if later:
            groups[min(later)] = groups.pop(norm) + groups[min(later)]
    ordered = sorted(groups.items())
    groups.clear()
    groups.update(ordered)


def _name(paths: list[str], norms: set[str]) -> str:
    """Name a block for its one convolution, or for what normalises their sum."""
    weights = [path for path in paths if path not in norms] or paths
    outer = [path for path in weights if not any(path.startswith(f"{other}.") for other in weights)]
    rest = [path for path in paths if path in norms]
    return (outer[0] if len(outer) == 1 else rest[-1] if rest else " + ".join(outer)) or "own parameters"


def cascading(model: nn.Module, given: Sequence[Block], seed: int) -> AbstractContextManager[Iterator[str]]:
    """Randomise the last block, then the last two, and so on, until no block is as it was learned.

    The network itself is changed and given back bit for bit when the context ends: after an error and when the
    stages were not read to the end, too. A block's random parameters are those of `independent` with the same seed.

    Example:
        with cascading(model, blocks(model, (3, 64, 64)), seed=0) as stages:
            for name in stages:
                maps[name] = gradient(model, images)

    Args:
        model: its parameters are drawn anew by each module's own `reset_parameters`, running statistics included, so
            that what the module guarantees holds (taps that a mask forbids stay 0); weights of convolutions and dense
            layers are then scaled to the variance of He et al. (2015). Parameters that no such function
            changes are drawn from a normal distribution of their own mean and standard deviation.
        given: see `blocks`.
        seed: of the random parameters; a seed gives the same ones on the same kind of device.

    Returns:
        a context with the names of the blocks, last one first; at each the network is randomised down to it.
    """
    return _stages(model, given, seed, keep=True)


def independent(model: nn.Module, given: Sequence[Block], seed: int) -> AbstractContextManager[Iterator[str]]:
    """Randomise one block at a time, last one first, the others as they were learned (see `cascading`)."""
    return _stages(model, given, seed, keep=False)


@contextmanager
def _stages(model: nn.Module, given: Sequence[Block], seed: int, keep: bool) -> Iterator[Iterator[str]]:
    kept = [_copy(model.get_submodule(path) for path in block.modules) for block in given]

    def stages() -> Generator[str, None, None]:
        for place in reversed(range(len(given))):
            own = np.random.SeedSequence([seed, place]).generate_state(1)[0]
            _randomise([model.get_submodule(path) for path in given[place].modules], int(own))
            yield given[place].name
            if not keep:
                kept[place]()

    running = stages()
    try:
        yield running
    finally:
        running.close()
        for restore in kept:
            restore()


def _copy(modules: Iterator[nn.Module]) -> Callable[[], None]:
    """Copy the parameters and buffers of modules; return a function that puts them back as they are now."""
    before = []
    for module in modules:
        for owned in (module._parameters, module._buffers):
            contents = {name: None if tensor is None else tensor.detach().clone() for name, tensor in owned.items()}
            before.append((owned, dict(owned), contents))

    @torch.no_grad()
    def restore() -> None:
        for owned, tensors, contents in before:
            owned.clear()
            owned.update(tensors)
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensor.copy_(contents[name])

    return restore


@torch.no_grad()
def _randomise(modules: Sequence[nn.Module], seed: int) -> None:
    """Draw new parameters for some modules; the generators of the process are left as they were."""
    tensors = [p for module in modules for p in module._parameters.values() if p is not None]
    devices = sorted({p.device.index for p in tensors if p.device.type == "cuda"})
    with chance.forked(devices):
        chance.seed(seed, devices)
        for module in modules:
            learned = {name: p.clone() for name, p in module._parameters.items() if p is not None}
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                    _keep_alive(module.weight)
            for name, before in learned.items():
                if torch.equal(before, module._parameters[name]):
                    _draw(module._parameters[name])


def _keep_alive(weight: Tensor) -> None:
    """Scale weights to the variance of He et al. (2015), which keeps rectified responses as large as what they read.

    torch's own have a sixth of it: in a deep network without BatchNorm nothing would be left at the output, and maps of
    nothing say nothing. Taps that are 0 stay 0.
    """
    energy = weight.square().flatten(1).sum(1).mean()
    if energy > 0:
        weight.mul_((2 / energy).sqrt())


def _draw(parameter: Tensor) -> None:
    """Draw values with the mean and standard deviation of those that are there; equal ones are left."""
    if parameter.is_floating_point() and parameter.numel() > 1:
        parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
