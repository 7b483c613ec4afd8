"""ResNet: residual blocks, 18 to 152 layers deep (He et al. 2015, arXiv:1512.03385)."""

from typing import Annotated, Literal

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.torchvision import classifier, image_size

Depth = Literal[18, 34, 50, 101, 152]
Classes = Annotated[int, Range(1)] | None
Side = Annotated[int, Range(1)] | None


def needs(*, depth: Depth, input_size: Side) -> Input:
    """Say which images the network was made for, unless `input_size` says otherwise."""
    return image_size(architecture(depth=depth, input_size=input_size), input_size)


def build(*, num_classes: Classes, depth: Depth, input_size: Side) -> nn.Module:
    """Build torchvision's network in eval() mode with random weights, see `torchvision.classifier`."""
    return classifier(architecture(depth=depth, input_size=input_size), num_classes, input_size)


def architecture(*, depth: Depth, input_size: Side) -> str:
    """Return torchvision's name of the network."""
    return f"resnet{depth}"
