"""SqueezeNet: fire modules of 1x1 and 3x3 convolutions, 1.2 million weights (Iandola et al. 2016, arXiv:1602.07360)."""

from typing import Annotated, Literal

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.torchvision import classifier, image_size

Version = Literal[1.0, 1.1]  # type: ignore[valid-type]  # mypy does not know a Literal of floats; `config.options` does
Classes = Annotated[int, Range(1)] | None
Side = Annotated[int, Range(1)] | None


def needs(*, version: Version, input_size: Side) -> Input:
    """Say which images the network was made for, unless `input_size` says otherwise."""
    return image_size(architecture(version=version, input_size=input_size), input_size)


def build(*, num_classes: Classes, version: Version, input_size: Side) -> nn.Module:
    """Build torchvision's network in eval() mode with random weights, see `torchvision.classifier`."""
    return classifier(architecture(version=version, input_size=input_size), num_classes, input_size)


def architecture(*, version: Version, input_size: Side) -> str:
    """Return torchvision's name of the network."""
    return f"squeezenet{version:.1f}".replace(".", "_")
