"""vgg: the right network of torchvision, with the number of weights its authors and torchvision give."""

import pytest
import torch

from cnnprobe.instruments.network.about import about
from cnnprobe.models import vgg


@pytest.mark.parametrize(
    ("options", "architecture", "weights"),
    [
        ({"depth": 11, "batch_norm": False}, "vgg11", 132863336),
        ({"depth": 16, "batch_norm": False}, "vgg16", 138357544),
        ({"depth": 19, "batch_norm": True}, "vgg19_bn", 143678248),
    ],
)
def test_architecture_and_number_of_weights(options, architecture, weights):
    """The numbers are those of torchvision's page of models, 1000 classes."""
    options = options | {"input_size": None}
    with torch.device("meta"):
        model = vgg.build(num_classes=None, **options)
    assert vgg.architecture(**options) == architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert not model.training
    needs = vgg.needs(**options)
    assert about(model).input_size == (needs.channels, needs.size, needs.size)
