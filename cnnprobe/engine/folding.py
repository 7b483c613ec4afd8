"""The last affine module of a pass, folded into a linear objective: what comes behind it need not be computed.

Where a layer is the output of a convolution or a dense module, and an objective is linear in the layer, it is linear in
the module's input x as well: J(x) = <K, x> + J(0), K the gradient, which is the same for every x. So each row needs one
product instead of the module's forward and backward pass over all of its channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnprobe.engine.objectives import Objective
from cnnprobe.engine.taps import Layer

AFFINE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def affine_module(model: nn.Module, layers: list[Layer]) -> nn.Module | None:
    """Return the module whose output is the only layer, if it is affine and nothing else acts on it."""
    if len(layers) != 1 or layers[0].tap.function or layers[0].tap.call or layers[0].tap.part is not None:
        return None
    module = model.get_submodule(layers[0].tap.module)
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    plain = type(module) in AFFINE and layers[0].channel_axis == 1 and not hooked
    return module if plain else None


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
