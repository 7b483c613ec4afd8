"""The filters are the weights, times whatever scales the pixels before; later layers have none."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.tuning.first_filters import filters_of
from cnnprobe.models import convnet, squeezenet
from tests.support.networks.planted import Bare, identity, signals

SIZE = (3, 32, 32)


def test_a_convolution_on_pixels_has_its_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 7, stride=2, padding=2), nn.ReLU(), nn.Conv2d(5, 4, 7))
    for name in ("conv1", "0"):
        (layer,) = find(model, name, SIZE)
        np.testing.assert_allclose(filters_of(model, layer, SIZE), model[0].weight.detach(), atol=1e-6)
    for name in ("conv2", "1", "2"):
        (layer,) = find(model, name, SIZE)
        assert filters_of(model, layer, SIZE) is None, name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_scales_the_pixels_before_is_in_it():
    torch.manual_seed(0)
    model = convnet.build(num_classes=4, written="class", input_size=32)  # subtracts 0.5, divides by 0.25
    (layer,) = find(model, "conv1", SIZE)
    np.testing.assert_allclose(filters_of(model, layer, SIZE), 4 * model.conv1.weight.detach(), rtol=1e-5, atol=1e-6)


def test_a_layer_in_a_network_of_functions_or_signals_has_none():
    model = Bare()
    assert filters_of(model, find(model, "conv1", SIZE)[0], SIZE) is None
    model = signals()
    assert filters_of(model, find(model, "conv1", (2, 64))[0], (2, 64)) is None


def test_a_blur_before_it_is_noticed():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 4, 5))
    assert filters_of(model, find(model, "conv1", SIZE)[0], SIZE) is None


def test_dilation_leaves_holes():
    model = nn.Sequential(nn.Conv2d(3, 2, 3, dilation=2))
    found = filters_of(model, find(model, "conv1", SIZE)[0], SIZE)
    assert found.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(found[:, :, ::2, ::2], model[0].weight.detach(), atol=1e-6)
    assert not found[:, :, 1::2].any()


def test_a_point_and_the_network_of_squeezes():
    assert filters_of(identity(3), find(identity(3), "conv1", SIZE)[0], SIZE).shape == (3, 3, 1, 1)
    model = squeezenet.build(num_classes=10, version=1.1, input_size=64)
    assert filters_of(model, find(model, "conv1", (3, 64, 64))[0], (3, 64, 64)).shape == (64, 3, 3, 3)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_weights_that_are_made_of_others_are_those_of_a_pass(norm):
    """F97: the attribute that the older kind leaves is on the device, and of the type, that it was made on."""
    torch.manual_seed(0)
    model = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU()).double().eval()
    found = filters_of(model, find(model, "0", SIZE)[0], SIZE)
    model(torch.rand(1, *SIZE).double())  # the attribute is that of this pass now
    np.testing.assert_allclose(found, model[0].weight.detach(), atol=1e-9)
