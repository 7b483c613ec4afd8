"""ViT: a transformer on patches of the image (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from typing import Annotated, Literal

from torch import nn

from cnnprobe.config.options import Range
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.torchvision import classifier, image_size

Kind = Literal["b_16", "b_32", "l_16", "l_32", "h_14"]
Classes = Annotated[int, Range(1)] | None
Side = Annotated[int, Range(1)] | None


def needs(*, kind: Kind, input_size: Side) -> Input:
    """Say which images the network was made for, unless `input_size` says otherwise."""
    return image_size(architecture(kind=kind, input_size=input_size), input_size)


def build(*, num_classes: Classes, kind: Kind, input_size: Side) -> nn.Module:
    """Build torchvision's network in eval() mode with random weights, see `torchvision.classifier`."""
    return classifier(architecture(kind=kind, input_size=input_size), num_classes, input_size)


def architecture(*, kind: Kind, input_size: Side) -> str:
    """Return torchvision's name of the network."""
    return f"vit_{kind}"
