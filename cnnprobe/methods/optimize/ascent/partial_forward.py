"""The last module of a pass, computed only as far as an objective needs it.

Folded: where a layer is the output of a convolution or a dense module, and an objective is linear in the layer, it is
linear in the module's input x as well: J(x) = <K, x> + J(0), K the gradient, which is the same for every x. So each row
needs one product instead of the module's forward and backward pass over all of its channels.

Narrowed: where BatchNorm or a rectifier follows the convolution and each row reads one channel, each row's own filter
alone is applied to its own input: a grouped convolution with a group per row.
"""

from dataclasses import dataclass, replace
from typing import TypeGuard

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import is_rectifier
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, run, value_at
from cnnprobe.instruments.network.tracing import Call, Value, trace
from cnnprobe.methods.optimize.ascent.objectives import Channel, Neuron, Objective

AFFINE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def affine_module(model: nn.Module, layers: list[Layer]) -> nn.Module | None:
    """Return the module whose output is the only layer, if it is affine and nothing else acts on it."""
    if (
        len(layers) != 1
        or not layers[0].plain
        or layers[0].tap.function
        or layers[0].tap.call
        or layers[0].tap.part is not None
    ):
        return None
    module = model.get_submodule(layers[0].tap.module)
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    plain = type(module) in AFFINE and layers[0].channel_axis == 1 and not hooked
    return module if plain else None


def narrowed_module(
    model: nn.Module, layers: list[Layer], size: tuple[int, ...]
) -> tuple[nn.Module | None, tuple[Call, ...]]:
    """Return the convolution that the only layer comes from, and the BatchNorm and rectifiers behind it.

    Args:
        size: (channel, y, x) or (channel, time) of the images.

    Returns:
        None and nothing where there is no such chain.
    """
    if len(layers) != 1 or not layers[0].plain or layers[0].channel_axis != 1:
        return None, ()
    seen = trace(model, size)
    tail: list[Call] = []
    try:
        call: Call | None = seen.calls[value_at(seen, layers[0].tap).call]
        while call and (call.name == "batch_norm" or (is_rectifier(call) and "prelu" not in call.name)):
            tail.insert(0, call)
            call = seen.calls[call.inputs[0].call] if call.inputs[0].call >= 0 else None
    except Unrepeatable:
        return None, ()
    if not tail or call is None or call.name not in ("conv1d", "conv2d"):
        return None, ()
    module = model.get_submodule(call.module)
    calls = sum(one.path == call.module for one in seen.modules)
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    plain = type(module) in (nn.Conv1d, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros"
    return (module, tuple(tail)) if plain and calls == 1 and not hooked else (None, ())


@dataclass(frozen=True)
class Folded:
    """A linear objective with the module before it.

    Args:
        weights: (row, *input of the module), K.
        offsets: (row,), J(0).
    """

    weights: Tensor
    offsets: Tensor

    @classmethod
    def of_module(cls, module: nn.Module, name: str, objective: Objective, example: Tensor) -> "Folded":
        """Fold them.

        Args:
            module: affine.
            name: of the layer.
            objective: linear, as many rows as there are in `example`.
            example: any input of the module, (row, …).
        """
        with torch.enable_grad():
            nothing = torch.zeros_like(example).requires_grad_()
            value = objective({name: module.forward(nothing)})  # without the hooks that read it
            (weights,) = torch.autograd.grad(value.sum(), nothing)
        return cls(weights.contiguous(), value.detach())

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return (row,): each input's value by the row of the same number."""
        return (inputs * self.weights).flatten(1).sum(1) + self.offsets

    def of(self, rows: Tensor) -> "Folded":
        """Return some rows."""
        return Folded(self.weights[rows], self.offsets[rows])


@dataclass(frozen=True)
class Narrowed:
    """What each row reads of a convolution, through what follows it.

    Args:
        module: the convolution.
        tail: what follows.
        objective: of one channel per row.
    """

    module: nn.Module
    tail: tuple[Call, ...]
    objective: Channel | Neuron

    @staticmethod
    def suits(objective: Objective) -> TypeGuard[Channel | Neuron]:
        """Say whether each row of an objective reads a channel of its own."""
        return type(objective) in (Channel, Neuron)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return (row,): each input's value by the row of the same number, (row, …) the inputs of the module."""
        module, rows = self.module, len(inputs)
        units = torch.as_tensor(self.objective.units, device=inputs.device)
        bias = None if module.bias is None else module.bias[units]
        convolve = nn.functional.conv2d if isinstance(module, nn.Conv2d) else nn.functional.conv1d
        side_by_side = inputs.reshape(1, -1, *inputs.shape[2:])
        settings = module.stride, module.padding, module.dilation, rows
        maps = convolve(side_by_side, module.weight[units], bias, *settings).transpose(0, 1)  # (row, 1, *map)
        for call in self.tail:
            maps = _normalised(call, maps, units) if call.name == "batch_norm" else run(call, {call.inputs[0]: maps})[0]
        own = replace(self.objective, units=self.objective.units * 0)
        return own({self.objective.layer: maps})

    def of(self, rows: Tensor) -> "Narrowed":
        """Return some rows."""
        return replace(self, objective=self.objective.of(rows.cpu().numpy()))


def _normalised(call: Call, maps: Tensor, units: Tensor) -> Tensor:
    """Apply the channel of a BatchNorm that each row reads to its map (row, 1, *map)."""
    given = [call.argument(*of) for of in (("running_mean", 1), ("running_var", 2), ("weight", 3), ("bias", 4))]
    shape = (-1, *[1] * (maps.dim() - 1))
    known = (one.constant if isinstance(one, Value) else None for one in given)
    mean, variance, gain, shift = (None if one is None else one[units].view(shape) for one in known)
    found = (maps - mean) * (variance + call.argument("eps", 7, 1e-5)).rsqrt()
    found = found if gain is None else found * gain
    return found if shift is None else found + shift
