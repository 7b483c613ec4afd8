"""The readout of a classifier: the layer that gives one output per class, found, made anew, put in place of another."""

import copy
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.calls import KINDS
from cnnprobe.instruments.network.conduct import handed
from cnnprobe.instruments.network.tracing import Trace, Value, trace
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance

LOG = logging.getLogger("cnnprobe")
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
"""By the number of axes of the map."""
AFFINE = re.compile(
    "view|reshape|flatten|(un)?squeeze|contiguous|clone|__getitem__|permute|transpose|t|float|to|type|mean|sum|"
    "(feature_)?(alpha_)?dropout([123]d)?|(adaptive_)?avg_pool[123]d|add_?|sub_?|mul_?|div_?|neg_?|"
    "__i?(add|sub|mul|truediv)__|__r(add|sub|mul)__|__neg__"
)
"""Functions that move, average, scale or shift numbers by constants, by name."""


@dataclass(frozen=True)
class Readout:
    """Where a network's readout stands.

    Args:
        path: of the module, e.g. "classifier.1".
        module: a linear layer, or a convolution whose channels are the classes (SqueezeNet, Deep4Net).
        classes: how many outputs it has.
    """

    path: str
    module: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    classes: int


def readout_of(model: nn.Module, size: tuple[int, ...]) -> Readout:
    """Find the readout: the last linear layer or convolution, where only it and what has no weights make the logits.

    Args:
        model: a classifier, gives (image, class).
        size: (channel, y, x) or (channel, time) of the images.

    Raises:
        UserError: there is no such layer: logits are a sum of several, come from a function on bare parameters, or
            from a layer that is used more than once.
    """
    written = trace(model, size)
    path, _ = _last_layer(model, written)
    module = model.get_submodule(path)
    if isinstance(several := written.modules[-1].output, (tuple, dict)):
        kind = f"{type(several).__name__} of {len(several)}"
        raise UserError(
            f"no readout to replace: the network returns a {kind}, of which it is not known what the logits are; "
            "return them alone, or in a dict as `logits`"
        )
    if not path:
        raise UserError("no readout to replace: the logits must come from one linear layer or convolution of its own")
    times = sum(one.path == path for one in written.modules)
    if times != 1:
        raise UserError(f"no readout to replace: the logits come from {path}, which is used {times} times in a pass")
    if isinstance(module, nn.Linear):
        return Readout(path, module, module.out_features)
    if module.groups != 1:
        raise UserError(f"no readout to replace: {path} is a convolution in {module.groups} groups")
    return Readout(path, module, module.out_channels)


def ends_in_layer(model: nn.Module, size: tuple[int, ...]) -> tuple[bool, bool]:
    """Say whether outputs come from one call of a linear layer or convolution, and whether by it alone.

    Args:
        model, size: see `readout_of`.

    Returns:
        there: what has no weights may stand behind it.
        alone: nothing but what moves, averages, scales or shifts its numbers does.
    """
    path, alone = _last_layer(model, trace(model, size))
    return bool(path), alone


def _last_layer(model: nn.Module, written: Trace) -> tuple[str, bool]:
    """Go back from the logits, as long as one value is made from one, to the first linear layer or convolution.

    Returns:
        path: of its module, "" where there is none.
        alone: see `ends_in_layer`.
    """
    value, alone = written.modules[-1].output, True
    while isinstance(value, Value) and value.call >= 0:
        call = written.calls[value.call]
        if KINDS.get(call.name) in ("linear", "convolution"):
            module = model.get_submodule(call.module)
            own = isinstance(module, (nn.Linear, *CONVOLUTIONS.values()))
            return (call.module, alone) if own else ("", False)
        before = set(call.inputs)
        if len(before) != 1 or KINDS.get(call.name) in ("norm", "attention"):
            break
        alone = alone and len(call.inputs) == 1 and AFFINE.fullmatch(call.name) is not None
        (value,) = before
    return "", False


def must_answer_in_training(model: nn.Module, readout: Readout, size: tuple[int, ...]) -> None:
    """Refuse a network that answers by another layer in training mode: its new readout would learn nothing.

    Args:
        model: in any mode; it is given back as it was.
        readout: by which it answers in eval mode.
        size: see `readout_of`.
    """
    weight = next(model.parameters())
    images = torch.rand(4, *size, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)
    learned = [one for one in readout.module.parameters() if one.is_floating_point()]
    own: tuple[Tensor | None, ...] = ()
    with untouched(model), chance.forked(), torch.enable_grad():
        for module in model.modules():
            module.training = True
        for one in learned:
            one.requires_grad_(True)
        outputs = handed(model, images)
        if outputs.requires_grad:
            own = torch.autograd.grad(outputs.sum(), learned, allow_unused=True)
    if all(one is None for one in own):
        raise UserError(
            f"the logits come from {readout.path} in eval mode, but not in training mode (an exit that is taken in one "
            "mode only?): a new readout would learn nothing; let forward do the same in both"
        )


def new_readout(module: nn.Module, classes: int, seed: int) -> nn.Module:
    """Return a layer of the same kind with another number of classes, drawn by PyTorch's own start for that kind.

    Its weights have the names that those of the old one have: weight_norm, spectral_norm, pruning (with a mask of ones)
    and parametrisations without weights of their own are put on it as well.

    Args:
        module: a linear layer or convolution.
        classes: outputs of the new one.
        seed: of its weights; the same seed gives the same weights on every device.
    """
    bias, like = module.bias is not None, next(module.parameters())
    with chance.forked(), torch.device("cpu"):
        chance.seed(seed, None)
        if isinstance(module, nn.Linear):
            made = nn.Linear(module.in_features, classes, bias=bias)
        else:
            kind = CONVOLUTIONS[len(module.kernel_size)]
            same = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "padding_mode")}
            made = kind(module.in_channels, classes, module.kernel_size, bias=bias, **same)
        _make_weights_as_in(module, made)
    made.train(module.training)
    return made.to(device=like.device, dtype=like.dtype)


def _make_weights_as_in(module: nn.Module, made: nn.Module) -> None:
    """Let a layer make its weights of others as another one does."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # it is the network that has the older kind
                WeightNorm.apply(made, hook.name, hook.dim)
        elif isinstance(hook, SpectralNorm):
            SpectralNorm.apply(made, hook.name, hook.n_power_iterations, hook.dim, hook.eps)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.identity(made, hook._tensor_name)
    if not parametrize.is_parametrized(module):
        return
    for name, several in module.parametrizations.items():
        for one in several:
            if isinstance(one, parametrizations._SpectralNorm):
                parametrizations.spectral_norm(made, name, getattr(one, "n_power_iterations", 1), one.eps, one.dim)
                continue
            try:
                if one.state_dict():
                    raise ValueError("it keeps tensors for the classes that there were")
                parametrize.register_parametrization(made, name, copy.deepcopy(one), unsafe=several.unsafe)
            except Exception as error:  # a parametrisation of the user's own may raise anything
                why = f"the new readout goes without {type(one).__name__} of {name} ({error})"
                LOG.warning(f"{why}: weights= will not take what it learns for this network")


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a place of the network, in the place of the one that stands there."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


@contextmanager
def instead(model: nn.Module, path: str, module: nn.Module) -> Iterator[nn.Module]:
    """Give the network with another module at a place; afterwards its own stands there again."""
    own = model.get_submodule(path)
    put(model, path, module)
    try:
        yield model
    finally:
        put(model, path, own)


@torch.no_grad()
def right_by_class(outputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (class, 2): of the images of each class, how many there are and how many are answered right.

    Args:
        outputs: (image, class).
        labels: (image,); images of no class (-1) do not count.
        classes: how many.
    """
    known = labels >= 0
    right = known & (outputs.argmax(1) == labels) & outputs.isfinite().all(1)  # argmax takes NaN for the largest
    return torch.stack([torch.bincount(labels[which], minlength=classes) for which in (known, right)], dim=1).cpu()
