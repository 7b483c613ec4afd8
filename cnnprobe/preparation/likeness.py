"""The network that given weights belong to, identified by the names and shapes of its tensors."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from cnnprobe.models import convnet, mousenet
from cnnprobe.models.parts import anatomy
from cnnprobe.models.torchvision import classifier

ARCHITECTURES = (
    *("alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg16_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "vit_b_16", "vit_b_32", "densenet121", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "googlenet", "inception_v3", "convnext_tiny"),
)
ENOUGH = 0.8  # share of tensors that must agree; a number of classes of its own costs a network two of them


def nearest(state: Mapping[str, Tensor], other_than: str = "") -> str | None:
    """Return the network whose tensors agree best in name and shape, e.g. "squeezenet1_0"; None where none does.

    Args:
        state: weights by name.
        other_than: name of a network that is out of the question.
    """
    shapes = {(name, tuple(value.shape)) for name, value in state.items()}
    best, share = None, ENOUGH
    for name, model in _candidates():
        own = {(key, tuple(value.shape)) for key, value in model.state_dict().items()}
        agreement = len(own & shapes) / max(1, len(own | shapes))
        if agreement > share and name != other_than:
            best, share = name, agreement
    return best


def of_torchvision(state: Mapping[str, Tensor]) -> str | None:
    """Return which network of torchvision without BatchNorm a state is of, under any prefix; None for any other."""
    for first in ("features.0.weight", "conv_proj.weight"):  # of AlexNet, SqueezeNet, VGG; of transformers
        for name in state:
            if name == first or name.endswith(f".{first}"):
                prefix = name.removesuffix(first)
                within = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                like = nearest(within)
                return like if like in ARCHITECTURES else None
    return None


def _candidates() -> Iterator[tuple[str, nn.Module]]:
    """Build networks without memory, one after the other."""
    with torch.device("meta"):
        for variant in ("mousenet64", "mousenet32", "mousenet64_may2020", "mousenet64_oct2020"):
            table = anatomy.network(variant)
            yield variant, mousenet.MouseNet(table, anatomy.masks(table, "per_channel", 0), 10, "pool4", 64)
        for written in ("class", "sequential"):
            yield f"convnet written={written}", convnet.build(num_classes=10, written=written, input_size=32)
        for architecture in ARCHITECTURES:
            yield architecture, classifier(architecture, 1000, None)
