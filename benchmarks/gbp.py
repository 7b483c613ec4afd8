"""What gradient maps cost: guided backpropagation of a layer's units beside captum and beside the bare network.

    python benchmarks/gbp.py                       # about four minutes on two cores
    python benchmarks/gbp.py --pairs 64

A pair is a unit and one of its strongest images; the map is that of the neuron at the unit's maximum. *captum* is
captum.attr.NeuronGuidedBackprop for all pairs in one batch, each with its own neuron; its networks have rectifiers that
are modules and not in place, as it needs. *bare* is forward and backward of the network cut behind the layer on whole
images, without any rule. Shortest of interleaved repetitions. Random weights, noise images, float32.
"""

import argparse
import copy
import math
import warnings

import numpy as np
import torch
import torchvision
from clock import shortest
from torch import Tensor, nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations, tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.methods.gbp.gradients import Gradients, Maps, Recipe
from cnnprobe.models import mousenet


def alexnet() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.alexnet(weights=None).eval()


def mouse() -> nn.Module:
    torch.manual_seed(0)
    options = {"variant": "mousenet64", "readout": "pool4", "mask": "per_channel", "mask_seed": 2021}
    return mousenet.build(num_classes=10, input_size=None, upsample_to=None, **options).eval()


SUBJECTS = [
    ("AlexNet", alexnet, 224, ["conv1", "conv3", "conv5"]),
    ("MouseNet", mouse, 64, ["VISp4", "VISp2/3"]),
]


def pairs_of(
    model: nn.Module, layer: Layer, size: tuple[int, ...], count: int
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return images (n, …), units and the positions of their maxima."""
    images = torch.rand((count, *size), generator=torch.Generator().manual_seed(0))
    units = np.arange(count) % layer.channels
    with torch.no_grad():
        maps = activations(model, [layer], images)[layer.name][np.arange(count), units]
    positions = np.stack(np.unravel_index(maps.flatten(1).argmax(1).numpy(), layer.map_size), 1)
    return images, units, positions


def peer_of(model: nn.Module, layer: Layer) -> tuple[nn.Module, nn.Module]:
    """Return a copy with rectifiers that are not in place, and the module that gives the layer's activation."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    path, _, _ = layer.reads.partition(" ")
    return twin, twin.get_submodule(path)


class Cut(nn.Module):
    """A network as far as a layer."""

    def __init__(self, model: nn.Module, layer: Layer):
        super().__init__()
        self.model, self.layer = model, layer
        self.received: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        with tap(self.model, [self.layer], lambda _, activation: self.received.append(activation)) as run:
            run(images * 1)
        return self.received.pop()


def by_captum(model: nn.Module, module: nn.Module, images: Tensor, units: np.ndarray, positions: np.ndarray) -> Tensor:
    from captum.attr import NeuronGuidedBackprop

    rows, where = torch.arange(len(images)), torch.as_tensor(positions).unbind(1)

    def neuron(output: Tensor) -> Tensor:
        return output[(rows, torch.as_tensor(units), *where)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NeuronGuidedBackprop(model, module).attribute(images.clone().requires_grad_(), neuron).detach()


def bare(cut: Cut, images: Tensor, units: np.ndarray, positions: np.ndarray) -> Tensor:
    pixels = images.clone().requires_grad_()
    output = cut(pixels)
    value = output[(torch.arange(len(images)), torch.as_tensor(units), *torch.as_tensor(positions).unbind(1))].sum()
    return torch.autograd.grad(value, pixels)[0]


def laid_back(maps: Maps, size: tuple[int, ...]) -> np.ndarray:
    """Lay crops back into images."""
    side = maps.values.shape[2:]
    padded = np.zeros((len(maps.values), size[0], size[1] + 2 * side[0], size[2] + 2 * side[1]), np.float32)
    for one, values, (top, left) in zip(padded, maps.values, maps.corners + np.array(side)):
        one[:, top : top + side[0], left : left + side[1]] = values
    return padded[:, :, side[0] : side[0] + size[1], side[1] : side[1] + size[2]]


def main() -> None:
    """Print a line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=48, help="of image and unit")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{asked.pairs} pairs, {asked.threads} threads; ms per pair")
    print(f"{'network':9}{'layer':9}{'ours':>8}{'captum':>9}{'ratio':>8}{'bare':>8}"
          f"{'ours/bare':>11}{'difference':>12}  crop")  # fmt: skip
    ratios: list[float] = []
    for name, build, side, layers in SUBJECTS:
        model, size = build(), (3, side, side)
        for word in layers:
            layer = find(model, word, size)[0]
            images, units, positions = pairs_of(model, layer, size, asked.pairs)
            twin, module = peer_of(model, layer)
            cut = Cut(twin, find(twin, word, size)[0])
            with Gradients(model, layer, size, Recipe("guided")) as gradients:
                indices = np.arange(len(images))

                def ours() -> Maps:
                    return gradients.maps(images, indices, units, positions)

                theirs = by_captum(twin, module, images, units, positions)
                difference = np.abs(laid_back(ours(), size) - theirs.numpy()).max() / theirs.abs().max().item()
                spent = shortest(
                    ours,
                    lambda: bare(cut, images, units, positions),
                    lambda: by_captum(twin, module, images, units, positions),
                )
            per = [1e3 * one / len(images) for one in spent]
            ratios.append(per[2] / per[0])
            crop = "x".join(str(w.length) for w in gradients.crops.window) if gradients.crops else gradients.engine
            print(f"{name:9}{word:9}{per[0]:8.2f}{per[2]:9.1f}{ratios[-1]:8.1f}{per[1]:8.1f}{per[0] / per[1]:11.3f}"
                  f"{difference:12.1e}  {crop}", flush=True)  # fmt: skip
    print(f"geometric mean of the ratios: {math.exp(np.mean(np.log(ratios))):.1f}")


if __name__ == "__main__":
    main()
