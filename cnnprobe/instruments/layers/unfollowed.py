"""Layers that could not be traced back to the image, yet change with it: through NumPy or compiled code."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.tracing import CONSTANT, Trace, Value, noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance

UNITS = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention, nn.RNNBase, torch.jit.ScriptModule)
"""Modules with units, which would be missed."""


def unfollowed(model: nn.Module, written: Trace) -> dict[str, str]:
    """Return modules with units whose output is another one for another image, though no trace shows why; and a reason.

    Weights that a network makes of its parameters, and codes of positions, are the same for every image.

    Args:
        model: any network; it is given back as it was.
        written: a pass of it.
    """
    outputs = {call.path: call.output for call in written.modules if call.path}
    lost = tuple(
        path
        for path, output in outputs.items()
        if isinstance(output, Value) and output.call == CONSTANT and isinstance(model.get_submodule(path), UNITS)
    )
    if not lost:
        return {}
    left = "what it is made from leaves torch (numpy()), and is lost there"
    reason = left if "numpy" in written.readers else "how it comes from the image cannot be followed"
    found = kept(model, ("unfollowed", written.size, lost), lambda: _changing(model, lost, written.size))
    return dict.fromkeys(found, reason)


def _changing(model: nn.Module, paths: tuple[str, ...], size: tuple[int, ...]) -> list[str]:
    """Return the modules, of some, whose output is another one for another image."""
    shown: list[dict[str, Tensor]] = []

    def keeping(path: str) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if isinstance(output, Tensor):
                shown[-1][path] = output.detach().clone()

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keeping(path)) for path in paths]
    try:
        with untouched(model), chance.forked(), torch.inference_mode(False), torch.no_grad():
            for seed in range(2):
                chance.seed(0)
                shown.append({})
                model(noise_image(model, size, seed))
    finally:
        for handle in handles:
            handle.remove()
    one, other = shown
    return [
        path
        for path in paths
        if path in one and path in other
        if one[path].shape != other[path].shape or not torch.equal(one[path], other[path])
    ]
