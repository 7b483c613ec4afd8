"""AlexNet: five convolutions and three dense layers (Krizhevsky 2014, arXiv:1404.5997, the version of torchvision)."""

from typing import Annotated

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.torchvision import classifier, image_size

Classes = Annotated[int, Range(1)] | None
Side = Annotated[int, Range(1)] | None


def needs(*, input_size: Side) -> Input:
    """Say which images the network was made for, unless `input_size` says otherwise."""
    return image_size(architecture(input_size=input_size), input_size)


def build(*, num_classes: Classes, input_size: Side) -> nn.Module:
    """Build torchvision's network in eval() mode with random weights, see `torchvision.classifier`."""
    return classifier(architecture(input_size=input_size), num_classes, input_size)


def architecture(*, input_size: Side) -> str:
    """Return torchvision's name of the network."""
    return "alexnet"
