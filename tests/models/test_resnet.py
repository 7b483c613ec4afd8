"""resnet: the right network of torchvision, with the number of weights its authors and torchvision give."""

import pytest
import torch

from cnnprobe.instruments.network.about import about
from cnnprobe.models import resnet


@pytest.mark.parametrize(
    ("options", "architecture", "weights"),
    [
        ({"depth": 18}, "resnet18", 11689512),
        ({"depth": 50}, "resnet50", 25557032),
        ({"depth": 152}, "resnet152", 60192808),
    ],
)
def test_architecture_and_number_of_weights(options, architecture, weights):
    """The numbers are those of torchvision's page of models, 1000 classes."""
    options = options | {"input_size": None}
    with torch.device("meta"):
        model = resnet.build(num_classes=None, **options)
    assert resnet.architecture(**options) == architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert not model.training
    needs = resnet.needs(**options)
    assert about(model).input_size == (needs.channels, needs.size, needs.size)
