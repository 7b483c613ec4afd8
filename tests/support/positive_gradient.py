"""Which pixels can act on units of a layer, measured: the support of a gradient through a network made positive.

Backpropagation with weights replaced by 1/fan-in, rectifiers by the identity, maxima by averages: no path cancels or is
closed. It shares no code with the algebra.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnprobe.instruments.layers.naming import Layer
from cnnprobe.instruments.network.activations import tap


class _Positive(TorchFunctionMode):
    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        name = getattr(function, "__name__", "").removesuffix("_")
        if name in ("relu", "hardtanh", "gelu", "dropout"):
            return arguments[0].clone()
        if name == "max_pool2d":
            given = dict(zip(("kernel_size", "stride", "padding", "dilation"), arguments[1:])) | keywords
            assert given.pop("dilation", 1) == 1 and not given.pop("return_indices", False)
            return F.avg_pool2d(arguments[0], **given)
        return function(*arguments, **keywords)


def support(model: nn.Module, layer: Layer, size: tuple[int, ...], position: tuple[int, ...]) -> torch.Tensor:
    """Return (y, x) bool: the pixels that can act on any unit of `layer` at `position` of its map."""
    positive = copy.deepcopy(model).double().eval()
    for module in positive.modules():
        for name, parameter in module.named_parameters(recurse=False):
            parameter.data.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else name == "weight")
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    image = torch.ones((1, *size), dtype=torch.float64, requires_grad=True)
    sums = []
    with _Positive(), tap(positive, [layer], lambda _, a: sums.append(a[(0, slice(None), *position)].sum())) as run:
        run(image)
    (gradient,) = torch.autograd.grad(sums[0], image)
    return gradient[0].sum(0) != 0
