"""The effective receptive field: how much a response moves with each pixel (Luo, Li, Urtasun, Zemel 2016)."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.machine.memory import Carried


def gradient_maps(
    model: nn.Module, layer: Layer, images: Tensor, units: np.ndarray, sites: np.ndarray, carried: Carried
) -> np.ndarray:
    """Return |d activation / d pixel|, summed over the channels of the image, for one unit and position per image.

    Args:
        model: any network; it is given back as it was.
        layer: whose units are asked.
        images: (n, channel, y, x); views of one image (`expand`) cost nothing.
        units: (n,) channels of the layer.
        sites: (n, map axis) positions of its map; (n, 0) for a dense layer.
        carried: how many images at once.

    Returns:
        (n, y, x) float32, activation per unit of pixel value.
    """
    found = np.empty((len(images), *images.shape[2:]), np.float32)
    asked: list[tuple] = []
    values: list[Tensor] = []

    def receive(_: Layer, activation: Tensor) -> None:
        values.append(torch.stack([one[index] for one, index in zip(activation, asked)]).sum())

    def measure(some: slice) -> np.ndarray:
        asked[:] = [(int(unit), *map(int, site)) for unit, site in zip(units[some], sites[some])]
        values.clear()
        with torch.enable_grad():
            pixels = images[some].detach().clone().requires_grad_()
            run(pixels * 1)  # a network may write to what it is given, but not to a leaf
            (gradient,) = torch.autograd.grad(values.pop(), pixels)
        return gradient.abs().sum(1).cpu().numpy()

    start = 0
    with tap(model, [layer], receive) as run:
        while start < len(images):
            some = slice(start, min(start + carried.most, len(images)))
            done = carried.attempt(some.stop - start, partial(measure, some))
            if done is not None:
                found[some], start = done, some.stop
    return found
