"""squeezenet: the right network of torchvision, with the number of weights its authors and torchvision give."""

import pytest
import torch

from cnnprobe.instruments.network.about import about
from cnnprobe.models import squeezenet


@pytest.mark.parametrize(
    ("options", "architecture", "weights"),
    [
        ({"version": 1.0}, "squeezenet1_0", 1248424),
        ({"version": 1.1}, "squeezenet1_1", 1235496),
    ],
)
def test_architecture_and_number_of_weights(options, architecture, weights):
    """The numbers are those of torchvision's page of models, 1000 classes."""
    options = options | {"input_size": None}
    with torch.device("meta"):
        model = squeezenet.build(num_classes=None, **options)
    assert squeezenet.architecture(**options) == architecture
    assert sum(parameter.numel() for parameter in model.parameters()) == weights
    assert not model.training
    needs = squeezenet.needs(**options)
    assert about(model).input_size == (needs.channels, needs.size, needs.size)


def test_images_are_227_px_from_256_for_the_first_version():
    first, second = (squeezenet.needs(version=version, input_size=None) for version in (1.0, 1.1))
    assert (first.size, first.resize) == (227, 256)
    assert (second.size, second.resize) == (224, 256)


def test_number_of_classes_and_names_of_modules():
    model = squeezenet.build(num_classes=7, version=1.1, input_size=None)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    assert isinstance(model.get_submodule("features.0"), torch.nn.Conv2d)
