"""VGG: stacks of 3x3 convolutions, 11 to 19 layers deep (Simonyan, Zisserman 2014, arXiv:1409.1556)."""

from typing import Annotated, Literal

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.torchvision import classifier, image_size

Depth = Literal[11, 13, 16, 19]
Classes = Annotated[int, Range(1)] | None
Side = Annotated[int, Range(1)] | None


def needs(*, depth: Depth, batch_norm: bool, input_size: Side) -> Input:
    """Say which images the network was made for, unless `input_size` says otherwise."""
    return image_size(architecture(depth=depth, batch_norm=batch_norm, input_size=input_size), input_size)


def build(*, num_classes: Classes, depth: Depth, batch_norm: bool, input_size: Side) -> nn.Module:
    """Build torchvision's network in eval() mode with random weights, see `torchvision.classifier`."""
    return classifier(architecture(depth=depth, batch_norm=batch_norm, input_size=input_size), num_classes, input_size)


def architecture(*, depth: Depth, batch_norm: bool, input_size: Side) -> str:
    """Return torchvision's name of the network."""
    return f"vgg{depth}" + ("_bn" if batch_norm else "")
