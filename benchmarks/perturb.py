"""What perturb costs beside the bare network on the same images.

    python benchmarks/perturb.py                     # about three minutes on two cores
    python benchmarks/perturb.py --images 16 --draws 4

*bare* is one forward pass of the network, cut behind the deepest layer asked for, over as many images as are perturbed:
images times draws. *perturb* is all that perturb does with them: the originals, the noise, both Fourier transforms, the
network, and the mean of every map. Shortest of interleaved repetitions. Random weights, noise images, float32.
"""

import argparse

import numpy as np
import torch
import torchvision
from clock import shortest
from torch import Tensor, nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.methods.perturb.bands import image_bands, signal_bands
from cnnprobe.methods.perturb.perturbation import Noise, Showing, Trials
from cnnprobe.models import mousenet
from cnnprobe.models.signals import deep4net

LIMIT = 1.3
"""Times the bare forward passes that perturb may take."""


def resnet() -> nn.Module:
    return torchvision.models.resnet18(weights=None).eval()


def mouse() -> nn.Module:
    options = {"variant": "mousenet64", "readout": "pool4", "mask": "per_channel", "mask_seed": 2021}
    return mousenet.build(num_classes=10, input_size=None, upsample_to=None, **options).eval()


def deep() -> nn.Module:
    sizes = {"input_size": 500, "channels": 8, "filters": 25, "filter_size": 10}
    return deep4net.build(num_classes=4, dropout=0.5, **sizes)


SUBJECTS = [
    ("ResNet-18", resnet, (3, 224, 224), ["conv1", "layer4"]),
    ("MouseNet", mouse, (3, 64, 64), ["VISp4", "VISp5"]),
    ("Deep4Net", deep, (8, 500), ["block1", "block4"]),
]


def measure(model: nn.Module, names: list[str], images: Tensor, draws: int) -> tuple[float, float]:
    """Return seconds of the bare passes and of perturb."""
    dataset, size = given_images(images), tuple(images.shape[1:])
    layers = find(model, names, size)
    flat = len(size) == 2
    bands = signal_bands(size[1], None, None) if flat else image_bands(size[1:], 6, 6, "linear")
    noise = Noise(bands, ("amplitude",), size[0] if flat else 1, not flat, 1.0 if flat else 0.15, False, draws, 0)
    units = {layer.name: np.arange(layer.channels) for layer in layers}

    def bare() -> None:
        with torch.inference_mode(), tap(model, layers, lambda *_: None) as run:
            for _ in range(draws):
                run(images)

    def perturb() -> None:
        trials = Trials.empty(noise, units, len(images))
        list(Showing(model, layers, units, noise, False).run(batches(dataset, batch_size=len(images)), trials))

    return tuple(shortest(bare, perturb))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--images", type=int, default=64, help="in a batch")
    words.add_argument("--draws", type=int, default=10, help="perturbations of each image, as perturb does by itself")
    words.add_argument("--only", help="name of one network")
    asked = words.parse_args()
    print(f"{asked.images} images, {asked.draws} draws, {torch.get_num_threads()} threads")
    print(f"{'network':<12}{'bare s':>9}{'perturb s':>11}{'ratio':>8}   at most {LIMIT}")
    for name, build, size, names in SUBJECTS:
        if asked.only not in (None, name):
            continue
        torch.manual_seed(0)
        model, images = build(), torch.rand(asked.images, *size)
        bare, perturb = measure(model, names, images, asked.draws)
        ratio = perturb / bare
        print(f"{name:<12}{bare:>9.2f}{perturb:>11.2f}{ratio:>8.2f}   {'holds' if ratio <= LIMIT else 'does not hold'}")


if __name__ == "__main__":
    main()
