"""What lesions cost beside as many bare passes from the lesioned layer on.

    python benchmarks/lesion.py                    # about two minutes on two cores
    python benchmarks/lesion.py --images 600 --units 256

*bare* is the part of the network behind the layer, written as an `nn.Sequential`, run once for each unit on the
activations of the images. *lesion* is all that `lesion units=each how=zero` does with them: the part before the layer,
every unit set to 0 in turn, the part behind it, decisions and changes of the outputs. Shortest of interleaved
repetitions. Random weights, noise images, float32.
"""

import argparse

import numpy as np
import torch
import torchvision
from clock import shortest
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.lesion.lesioning import Answers, Lesioning
from cnnprobe.methods.lesion.lesions import Group, Lesion

LIMIT = 1.3
"""Times the bare passes that lesions may take."""


def alexnet() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return AlexNet, and its parts before and behind the 256 units of its fourth convolution."""
    model = torchvision.models.alexnet(weights=None).eval()
    return model, model.features[:10], nn.Sequential(model.features[10:], model.avgpool, nn.Flatten(), model.classifier)


def resnet() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return ResNet-18, and its parts before and behind the 256 units of its third stage."""
    model = torchvision.models.resnet18(weights=None).eval()
    front = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2, model.layer3)
    return model, front, nn.Sequential(model.layer4, model.avgpool, nn.Flatten(), model.fc)


SUBJECTS = [("AlexNet", alexnet, "conv4"), ("ResNet-18", resnet, "layer3")]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--images", type=int, default=16)
    words.add_argument("--units", type=int, default=64)
    words.add_argument("--batch", type=int, default=16, help="images that pass together")
    asked = words.parse_args()
    size = (3, 224, 224)
    print(f"{asked.images} images, {asked.units} units, {torch.get_num_threads()} threads")
    print(f"{'network':<12}{'bare s':>9}{'lesion s':>11}{'ratio':>8}   at most {LIMIT}")
    for name, build, place in SUBJECTS:
        torch.manual_seed(0)
        model, front, behind = build()
        images = torch.rand(asked.images, *size)
        dataset = given_images(images)
        (layer,) = find(model, place, size)
        units = [np.array([unit]) for unit in range(asked.units)]
        lesions = [Lesion(layer, Group(str(unit), 1, units[unit]), "zero") for unit in range(asked.units)]
        known = outputs_of(model, size, (), None)
        with torch.inference_mode():
            activations = [front(part) for part in images.split(asked.batch)]

        def bare(parts: list = activations, behind: nn.Module = behind) -> None:
            with torch.inference_mode():
                for part in parts:
                    for _ in range(asked.units):
                        behind(part)

        def lesion(model: nn.Module = model, known=known, lesions=lesions, units=units, dataset=dataset) -> None:
            answers = Answers.empty(1, len(lesions), asked.images, known.classes)
            work = Lesioning(model, size, known, lesions, units)
            loaded = batches(dataset, batch_size=asked.batch)
            list(work.run(lambda _: ((batch, batch) for batch in loaded), answers))

        seconds = shortest(bare, lesion)
        ratio = seconds[1] / seconds[0]
        verdict = "holds" if ratio <= LIMIT else "does not hold"
        print(f"{name:<12}{seconds[0]:>9.2f}{seconds[1]:>11.2f}{ratio:>8.2f}   {verdict}")


if __name__ == "__main__":
    main()
