"""Protocols of transfer: which blocks of a network learn in which epoch, and how fast.

| mode    | learns                                   | share of the learning rate, from the readout down |
|---------|------------------------------------------|---------------------------------------------------|
| probe   | the readout                              | 1                                                 |
| partial | the readout and the last blocks          | 1, below 0.1                                      |
| full    | everything                               | 1, below 0.1                                      |
| staged  | as partial for some epochs, then as full | 1, below 0.1                                      |
| scratch | everything, from random weights          | 1                                                 |

A block that does not learn keeps its running statistics as well: it stays in eval mode (`train.modes`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.calls import parameters_behind
from cnnprobe.instruments.network.tracing import IMAGE, Trace, Value, leaves, trace_anew
from cnnprobe.instruments.outputs.readout import Readout

RATES = {"probe": [1.0], "partial": [1.0, 0.1], "full": [1.0, 0.1], "staged": [1.0, 0.1], "scratch": [1.0]}
"""Shares of the learning rate, of the readout first, then of each block below it; the last one holds further down."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Block:
    """A part of a network that learns or rests as a whole.

    Args:
        modules: paths, in order of running, e.g. ("features.0",) or ("conv.conv4", "conv.conv5", "norm.VISl4").
        parameters: its own and those of everything below it.
        batch_norms: how many BatchNorm layers it has.
    """

    modules: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    batch_norms: int

    @property
    def size(self) -> int:
        """How many weights it has."""
        return sum(parameter.numel() for parameter in self.parameters)


class Protocol:
    """What learns in which epoch of a transfer.

    Args:
        model: with its new readout in place.
        readout: that readout.
        size: (channel, y, x) or (channel, time) of the images.
        mode: see the table of this module.
        blocks: last blocks that learn with the readout in partial and in the first stage of staged; None: 1 and 0.
        stage_epochs: epochs of the first stage of staged.
        rates: shares of the learning rate instead of those of the mode; of staged, of its second stage.

    Attributes:
        blocks: in order of depth, the readout last.
        shares: (block, stage) of the learning rate; 0 where a block rests.
        unused: modules with parameters that a pass does not use: they never learn.

    Raises:
        UserError: more blocks than there are, blocks of a mode that has none to choose, or a stage in which nothing
            learns.
    """

    def __init__(
        self,
        model: nn.Module,
        readout: Readout,
        size: tuple[int, ...],
        *,
        mode: str,
        blocks: int | None = None,
        stage_epochs: int = 0,
        rates: Sequence[float] | None = None,
    ):
        self.model = model
        self.blocks = blocks_of(model, readout, size)
        inside = {parameter for block in self.blocks for parameter in block.parameters}
        self.unused = [
            path for path in _paths(model, "", readout.path) if not inside & set(model.get_submodule(path).parameters())
        ]
        below = len(self.blocks) - 1
        if blocks is not None and mode not in ("partial", "staged"):
            raise UserError(f"blocks={blocks} is for mode=partial and staged, not for {mode}")
        if blocks is None:
            blocks = 1 if mode == "partial" else 0
        if mode in ("partial", "staged") and blocks > below:
            raise UserError(f"blocks must be at most {below} below the readout {readout.path}, got {blocks}")
        own = list(rates) if rates is not None else RATES[mode]
        learning = {"probe": 0, "partial": blocks}.get(mode, below)
        stages = [(own, learning)]
        if mode == "staged" and stage_epochs:
            stages = [(RATES["partial"], blocks), *stages]
        self.first = stage_epochs if len(stages) > 1 else 0
        self.shares = np.stack([_shares(len(self.blocks), *stage) for stage in stages], axis=1)
        if not self.shares.any(0).all():
            raise UserError(f"rates={own}: in mode={mode} nothing would learn, all of its shares are 0")
        self.learning = [number for number, shares in enumerate(self.shares) if shares.any()]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all that ever learns, as `train.loop.Training` takes them; a group is a block."""
        return [
            {"params": list(self.blocks[block].parameters), "factor": self.shares[block, 0]} for block in self.learning
        ]

    def taught(self, parameters: Collection[nn.Parameter]) -> list[str]:
        """Return the modules of blocks that ever learn in which any of these parameters is."""
        modules = [path for block in self.learning for path in self.blocks[block].modules]
        return [path for path in modules if not set(parameters).isdisjoint(self.model.get_submodule(path).parameters())]

    def begin(self, epoch: int, groups: list[dict[str, Any]]) -> None:
        """Let the blocks of an epoch learn, and no others.

        Args:
            epoch: from 0.
            groups: of the optimiser, in the order of `groups`.
        """
        shares = self.shares[:, self.stage(epoch)]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        for group, block in zip(groups, self.learning, strict=True):
            group["factor"] = shares[block]
            for parameter in self.blocks[block].parameters:
                parameter.requires_grad_(bool(shares[block]))

    def stage(self, epoch: int) -> int:
        """Return the stage an epoch, from 0, belongs to."""
        return int(epoch >= self.first) if self.shares.shape[1] > 1 else 0

    def trained(self) -> float:
        """Return the share of the network's weights that ever learn."""
        total = sum(parameter.numel() for parameter in self.model.parameters())
        return sum(self.blocks[block].size for block in self.learning) / total


def _shares(count: int, rates: Sequence[float], learning: int) -> np.ndarray:
    """Return the shares of blocks in order of depth, of which the last one is the readout."""
    downward = [rates[min(place, len(rates) - 1)] if place <= learning else 0.0 for place in range(count)]
    return np.array(downward[::-1])


def blocks_of(model: nn.Module, readout: Readout, size: tuple[int, ...]) -> list[Block]:
    """Return the blocks of a network in the order in which they are finished, the readout last.

    A block is a convolution, a dense layer, or a module that computes by itself (a Fire module, a residual block);
    lists of modules, and modules that hold a list of blocks, are taken apart. BatchNorm and the like, a layer of its
    own, joins the blocks it reads from: an area of MouseNet is one block with all its convolutions. A module whose
    parameters alone are used (a kernel that is standardised in the forward above) is one where they are, or part of the
    block that uses them. Parameters that belong to no such module join the first block; modules that are not used in a
    pass belong to none.
    """
    written = trace_anew(model, size, learning=True)
    paths = [path for path in _paths(model, "", readout.path) if path != readout.path]
    owners = [_owner(call.module, paths) for call in written.calls]
    lent = _lent(model, written, owners, [path for path in paths if path not in owners])
    finished = {path: number for number, path in enumerate(owners) if path is not None}
    joined = {path: path for path in finished}
    joined |= {path: owner for path, call in lent.items() if (owner := owners[call]) is not None}
    finished |= {path: finished[joined[path]] for path in lent if path not in finished}
    for path in sorted(finished, key=finished.__getitem__):
        if not any(parameter.ndim > 1 for parameter in model.get_submodule(path).parameters()):
            for source in _sources(written, owners, path):
                joined = {one: path if other == joined[source] else other for one, other in joined.items()}
    together: dict[str, list[str]] = {}
    for path in sorted(finished, key=finished.__getitem__):
        together.setdefault(joined[path], []).append(path)
    members = sorted(together.values(), key=lambda block: finished[block[-1]])
    blocks = [_block(model, tuple(block)) for block in members]
    bare = tuple(parameter for module in _open(model, paths) for parameter in module.parameters(recurse=False))
    if bare and blocks:
        first = blocks[0]
        blocks[0] = Block(first.modules, (*bare, *first.parameters), first.batch_norms)
    return _each_once([*blocks, _block(model, (readout.path,))])


def _lent(model: nn.Module, written: Trace, owners: list[str | None], paths: list[str]) -> dict[str, int]:
    """Return by path of a module that is not called the last call that uses its parameters.

    Args:
        owners: by call, the path it belongs to; a call of none is given to the module whose parameters it uses.
        paths: of modules that are not called.
    """
    own = {path: set(model.get_submodule(path).parameters()) for path in paths}
    found: dict[str, int] = {}
    for call in written.calls if own else []:
        made_from = [parameters_behind(value.constant) for value in leaves((call.arguments, call.keywords), Value)]
        for path, parameters in own.items():
            if parameters & set().union(*made_from):
                owners[call.index] = owners[call.index] or path
                found[path] = call.index
    return found


def _each_once(blocks: list[Block]) -> list[Block]:
    """Leave a parameter that several blocks share to the last of them."""
    taken: set[nn.Parameter] = set()
    kept = []
    for block in reversed(blocks):
        own = tuple(parameter for parameter in block.parameters if parameter not in taken)
        taken.update(own)
        kept.append(Block(block.modules, own, block.batch_norms))
    return kept[::-1]


def _block(model: nn.Module, paths: tuple[str, ...]) -> Block:
    modules = [model.get_submodule(path) for path in paths]
    parameters = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
    norms = sum(isinstance(inner, _BatchNorm) for module in modules for inner in module.modules())
    return Block(paths, tuple(parameters), norms)


def _paths(module: nn.Module, path: str, readout: str) -> list[str]:
    """Return the paths of the modules with parameters that are not taken apart."""
    if next(module.parameters(), None) is None:
        return []
    children = dict(module.named_children())
    holds_readout = not path or readout.startswith(f"{path}.")
    apart = isinstance(module, CONTAINERS) or holds_readout or any(_lists_blocks(child) for child in module.modules())
    if not children or not apart:
        return [path]
    return [
        found
        for name, child in children.items()
        for found in _paths(child, f"{path}.{name}" if path else name, readout)
    ]


def _lists_blocks(module: nn.Module) -> bool:
    """Say whether a module is a list of two or more modules that have modules with parameters inside."""
    inside = [
        child for child in module.children() if any(next(c.parameters(), None) is not None for c in child.children())
    ]
    return isinstance(module, CONTAINERS) and len(inside) > 1


def _open(model: nn.Module, paths: list[str]) -> list[nn.Module]:
    """Return the modules that were taken apart: those above a path."""
    return [
        module for name, module in model.named_modules() if any(not name or p.startswith(f"{name}.") for p in paths)
    ]


def _owner(path: str, paths: list[str]) -> str | None:
    return next((own for own in paths if path == own or path.startswith(f"{own}.")), None)


def _sources(written: Trace, owners: list[str | None], path: str) -> set[str]:
    """Return the blocks a module reads from, past everything that belongs to none."""
    found, seen = set(), set()
    waiting = [value for call, owner in zip(written.calls, owners) if owner == path for value in call.inputs]
    while waiting:
        value = waiting.pop()
        if value in seen or value.call <= IMAGE:
            continue
        seen.add(value)
        owner = owners[value.call]
        if owner is None:
            waiting += written.calls[value.call].inputs
        elif owner != path:
            found.add(owner)
    return found
