"""The filters of a first layer as they act on the pixels of the image."""

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.gradients.arrival import arrives
from cnnprobe.instruments.layers.naming import layers_of
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.tracing import noise_image


def filters_of(model: nn.Module, layer: Layer, size: tuple[int, ...]) -> np.ndarray | None:
    """Return what each unit of a first convolution weighs the pixels with, (unit, channel, y, x) float64.

    It is the gradient of one neuron of the convolution's own output, at the neuron nearest the middle of the image:
    weights, masks and whatever scales the pixels before (normalisation) are in it, what follows is not. A BatchNorm of
    negative gain behind the convolution turns the sign; the shape is the same.

    Args:
        model: any network; it is given back as it was.
        layer: a convolution by its short name or its path.
        size: (channel, y, x) of the images.

    Returns:
        None where the layer is no two-dimensional convolution, or something before it mixes pixels.
    """
    try:
        module = model.get_submodule(layer.module)
    except AttributeError:
        return None
    if not isinstance(module, nn.Conv2d) or len(size) != 3:
        return None
    own = next((one for one in layers_of(model, size) if one.tap == Tap(layer.module)), None)
    sides = tuple((side - 1) * step + 1 for side, step in zip(module.kernel_size, module.dilation))
    if (
        own is None
        or own.field.size != sides
        or own.field.stride != tuple(module.stride)
        or own.channels != module.out_channels
    ):
        return None
    position = tuple((side - 1) // 2 for side in own.map_size)
    region = [(int(first), int(last) + 1) for first, last in own.field.region(position)]
    if any(first < 0 or stop > side for (first, stop), side in zip(region, size[1:])):
        return None
    if not arrives(model, own, size, "the filter"):
        return None
    image = torch.full_like(noise_image(model, size), 0.5, requires_grad=True)
    neurons: list[Tensor] = []
    with tap(
        model, [own], lambda _, activation: neurons.extend(activation[(0, slice(None), *position)].unbind())
    ) as run:
        run(image)
        gradients = [torch.autograd.grad(one, image, retain_graph=True)[0][0] for one in neurons]
    (top, bottom), (left, right) = region
    return torch.stack([one[:, top:bottom, left:right] for one in gradients]).double().cpu().numpy()
