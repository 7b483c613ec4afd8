"""alexnet: the right network of torchvision, with the number of weights its authors and torchvision give."""

import pytest
import torch

from cnnprobe.instruments.network.about import about
from cnnprobe.models import alexnet


@pytest.mark.parametrize(
    ("options", "architecture", "weights"),
    [
        ({}, "alexnet", 61100840),
    ],
)
def test_architecture_and_number_of_weights(options, architecture, weights):
    """The numbers are those of torchvision's page of models, 1000 classes."""
    options = options | {"input_size": None}
    with torch.device("meta"):
        model = alexnet.build(num_classes=None, **options)
    assert alexnet.architecture(**options) == architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert not model.training
    needs = alexnet.needs(**options)
    assert about(model).input_size == (needs.channels, needs.size, needs.size)
