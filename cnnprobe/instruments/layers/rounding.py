"""Layers that tell images apart by rounding alone: means of normalised maps, what a symmetry makes constant.

In exact arithmetic such values are the same for every image. In float32 they are not, and correlations, ranks and
intervals of them look like any others.
"""

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.snapshots import copy_of
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

SMALL = 1e-4
"""Largest difference between unlike images that is looked at twice, as a share of the largest value, or of 1."""
LESS = 0.1
"""Share of that difference that is left in double precision, at most, where it was rounding."""


class _Everything(set):
    """What a network was told already, of one whose warnings are those of another."""

    def __contains__(self, _: object) -> bool:
        return True


def only_rounding(model: nn.Module, layers: list[Layer], size: tuple[int, ...]) -> dict[str, str]:
    """Return by name the layers in which four unlike images differ by rounding alone, with by how much, in words.

    Where they hardly differ, they are shown to the network in double precision. One that cannot be copied or computed
    so is not judged.

    Args:
        model: any network; it is given back as it was.
        layers: of it.
        size: (channel, y, x) or (channel, time) of the images.
    """
    known: dict[Tap, str] = kept(model, ("rounding", tuple(size)), dict)
    missing = [layer for layer in layers if layer.tap not in known]
    if missing:
        try:
            known |= dict.fromkeys((layer.tap for layer in missing), "") | _judged(model, missing, size)
        except Exception as error:  # whatever stands in a network that was never seen before
            if is_short(error):
                raise
            known |= dict.fromkeys((layer.tap for layer in missing), "")
    return {layer.name: known[layer.tap] for layer in layers if known[layer.tap]}


def in_double(model: nn.Module, size: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network in double precision, whose warnings are left to the network itself.

    Raises:
        Exception: any, where it cannot be copied or tried so.
    """
    exact = copy_of(model)
    made: dict[int, Tensor] = {}
    for module in exact.modules():  # not by .double(), which changes tensors where they are: not every device can
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and tensor.is_floating_point():
                double = tensor.detach().double()
                double = nn.Parameter(double, tensor.requires_grad) if name in module._parameters else double
                setattr(module, name, made.setdefault(id(tensor), double))
    conduct_of(exact, tuple(size)).told = _Everything()
    return exact


def _judged(model: nn.Module, layers: list[Layer], size: tuple[int, ...]) -> dict:
    images = _unlike(noise_image(model, size))
    spreads = _spreads(model, layers, images)
    doubtful = [one for one in layers if 0 < spreads[one.name][0] < SMALL * max(1.0, spreads[one.name][1])]
    if not doubtful:
        return {}
    exact, found = in_double(model, size), {}
    for one, (spread, _) in zip(doubtful, _spreads(exact, doubtful, images.double()).values()):
        before = spreads[one.name][0]
        if spread < LESS * before:
            found[one.tap] = f"unlike images differ in it by {before:.1g}, and by {spread:.1g} in double precision"
    return found


def _unlike(noise: Tensor) -> Tensor:
    """Return four images: noise, weak noise, a ramp, and one of two halves."""
    ramp = torch.linspace(0, 1, noise.shape[-1]).to(noise).expand_as(noise)
    return torch.cat([noise, 0.3 * noise, ramp, (ramp.flip(-1) > 0.5).to(noise)])


def _spreads(model: nn.Module, layers: list[Layer], images: Tensor) -> dict[str, tuple[float, float]]:
    """Return by name of layer the largest difference of a value between two images, and the largest value."""
    ends: dict[str, tuple[Tensor, Tensor]] = {}

    def receive(layer: Layer, activation: Tensor) -> None:
        values = activation.detach().nan_to_num(0, 0, 0)
        low, high = ends.get(layer.name, (values[0], values[0]))
        ends[layer.name] = torch.minimum(low, values.amin(0)), torch.maximum(high, values.amax(0))

    with tap(model, layers, receive) as run, chance.forked(), torch.no_grad():
        chance.seed(0)  # a network may draw numbers
        for image in images.split(1):  # a batch is for what handles it to judge
            run(image)
    return {name: (float((high - low).max()), float(max(high.max(), -low.min()))) for name, (low, high) in ends.items()}
