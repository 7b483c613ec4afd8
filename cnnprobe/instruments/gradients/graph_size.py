"""The memory that the graph of a pass takes: what autograd saves for the backward pass."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.tracing import trace

UNHOOKED = "saved tensor hooks"
"""What torch says where gradients inside of the pass (`torch.func.grad`) cannot be followed."""


def graph_bytes(model: nn.Module, size: tuple[int, ...], run: Callable[[], object]) -> int:
    """Return the bytes that a pass of one image saves for its backward pass, without those of parameters.

    Args:
        model: any network.
        size: (channel, y, x) or (channel, time) of its images.
        run: a pass with gradients; where what it saves cannot be seen, it counts with twice all that it computes.
    """
    seen = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal seen
        seen += tensor.numel() * tensor.element_size()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            run()
    except RuntimeError as error:
        if UNHOOKED not in str(error):
            raise
        run()
        return 8 * sum(math.prod(value.shape) for call in trace(model, size).calls for value in call.outputs)
    return max(0, seen - sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()))
