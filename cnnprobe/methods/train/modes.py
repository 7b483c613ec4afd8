"""Train mode for what learns, eval mode for what rests: running statistics included."""

from functools import cached_property

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import parameters_behind
from cnnprobe.instruments.network.conduct import handed
from cnnprobe.instruments.network.tracing import (
    IMAGE,
    Call,
    Trace,
    Value,
    leaves,
    noise_image,
    trace_anew,
)
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance

IMAGES = 4
"""Of noise, that tell which buffers a pass in train mode writes to."""


class Modes:
    """The modes of the modules of a network that learns, of which a part may rest: its parameters require no gradient.

    A module with parameters of its own learns where one of them does. One without them that keeps running statistics (a
    normalisation, a module of the user's own) learns where one of the parameters does that its input comes from. Where
    statistics are of more than one layer (of a module that holds others), or of the images, `strict` decides.

    Args:
        model: any network.
        size: (channel, y, x) or (channel, time) of the images.
        strict: these learn only where all that they hold does, of the images where all of the network does; else where
            anything does.
    """

    def __init__(self, model: nn.Module, size: tuple[int, ...], strict: bool):
        self.model, self.size, self.strict = model, size, strict

    def learn(self) -> None:
        """Put what learns into train mode, and what rests into eval mode."""
        self.model.train()
        for module in self.model.modules():
            own = list(module.parameters(recurse=False))
            if own:
                module.train(any(parameter.requires_grad for parameter in own))
        if not all(parameter.requires_grad for parameter in self.model.parameters()):
            for module, (parameters, every) in self.statistics.items():
                learns = [parameter.requires_grad for parameter in parameters]
                module.training = all(learns) if every else any(learns)  # of itself alone: dropout inside goes on

    @cached_property
    def statistics(self) -> dict[nn.Module, tuple[set[Tensor], bool]]:
        """By module that keeps statistics: the parameters that it goes by, and whether every one of them must learn."""
        changing = _keep_statistics(self.model, self.size)
        if not changing:
            return {}
        written, known = trace_anew(self.model, self.size, learning=True), set(self.model.parameters())
        used: set[Tensor] = set().union(*(_parameters_of(call, known) for call in written.calls))
        seen = {call.module for call in written.calls}
        found = {}
        for path, module in self.model.named_modules():
            if module in changing and (path in seen or not _is_inside_of_one_with_parameters(self.model, path)):
                holds = used.intersection(module.parameters())
                before = set() if holds else _parameters_before(written, path, known)
                found[module] = (before, False) if before else (holds or used, self.strict)
        return found


def _keep_statistics(model: nn.Module, size: tuple[int, ...]) -> set[nn.Module]:
    """Return the modules without parameters of their own whose buffers a pass in train mode writes to."""
    images = torch.cat([noise_image(model, size, seed) for seed in range(IMAGES)])
    before = {
        module: {name: None if buffer is None else buffer.clone() for name, buffer in module._buffers.items()}
        for module in model.modules()
        if module._buffers and next(module.parameters(recurse=False), None) is None
    }
    if not before:
        return set()
    with untouched(model), chance.forked(), torch.no_grad():
        for module in model.modules():
            module.training = True
        handed(model, images)
        return {module for module, buffers in before.items() if not _same(buffers, module._buffers)}


def _same(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> bool:
    pairs = [(buffer, other.get(name)) for name, buffer in one.items()]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def _is_inside_of_one_with_parameters(model: nn.Module, path: str) -> bool:
    """Say whether a module is set by one above it: it belongs to its parameters (their parametrisation)."""
    parts = path.split(".")
    above = (model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts)))
    return any(next(module.parameters(recurse=False), None) is not None for module in above)


def _parameters_of(call: Call, known: set[Tensor]) -> set[Tensor]:
    """Return the parameters that what a call got is made from, beside what depends on the image."""
    constants = [value.constant for value in leaves((call.arguments, call.keywords), Value)]
    return known & set().union(*map(parameters_behind, constants))


def _parameters_before(written: Trace, path: str, known: set[Tensor]) -> set[Tensor]:
    """Return the parameters of the nearest calls before a module that have any."""
    own = [call for call in written.calls if call.module == path or call.module.startswith(f"{path}.")]
    waiting, seen, found = [value for call in own for value in call.inputs], set(), set()
    while waiting:
        value = waiting.pop()
        if value in seen or value.call <= IMAGE:
            continue
        seen.add(value)
        parameters = _parameters_of(written.calls[value.call], known)
        found |= parameters
        waiting += () if parameters else written.calls[value.call].inputs
    return found
