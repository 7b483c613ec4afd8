"""Effective fields against the closed formula of uniform stacks, and against single gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.windows.centred_maps import TWO_SIGMA, canvas_of, moments, side_above
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.rf_map.effective_field import gradient_maps
from tests.support.networks import planted


@pytest.mark.parametrize(
    ("depth", "sigma", "share"), [(5, 1.826, 0.66), (10, 2.582, 0.49), (20, 3.651, 0.36), (40, 5.164, 0.26)]
)
def test_a_stack_of_uniform_kernels_has_the_width_of_repeated_boxes(depth, sigma, share):
    """2.T4: sigma = sqrt(n (9 - 1) / 12); four sigmas over the theoretical size fall like 1 / sqrt(n)."""
    layers = [nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64) for _ in range(depth)]
    for layer in layers:
        nn.init.constant_(layer.weight, 1 / 9)
    model, side = nn.Sequential(*layers), 2 * depth + 5
    last = find(model.float(), f"conv{depth}", (1, side, side))[0]
    model.double()
    images = torch.rand(2, 1, side, side, dtype=torch.float64)
    maps = gradient_maps(model, last, images, [0, 0], [[side // 2, side // 2]] * 2, Carried(8))
    canvas = canvas_of(last.field, (side, side), 0)
    mean, _ = canvas.mean(maps, np.full((2, 2), side // 2))
    centre, width = moments(mean, canvas.middle)
    np.testing.assert_allclose(centre, 0, atol=1e-4)
    np.testing.assert_allclose(width, sigma, atol=1e-3)
    np.testing.assert_allclose(width, math.sqrt(depth * 8 / 12), atol=1e-3)
    assert canvas.sides == (2 * depth + 1,) * 2
    assert 4 * width[0] / canvas.sides[0] == pytest.approx(share, abs=0.01)
    # a Gaussian of that width exceeds 4.55 % of its peak on a disc of radius sigma sqrt(2 ln 22)
    assert side_above(mean, TWO_SIGMA) == pytest.approx(
        sigma * math.sqrt(2 * math.pi * math.log(1 / TWO_SIGMA)), rel=0.06
    )


def network():
    """Rectifiers in place, BatchNorm, a network that writes to its input."""

    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True),
            )  # fmt: skip

        def forward(self, images):
            return self.body(images.sub_(0.5)).flatten(1)

    torch.manual_seed(0)
    return Writes()


@pytest.mark.parametrize("most", [1, 2, 64])
def test_each_map_is_the_gradient_of_its_own_unit_and_position(most):
    model = network().eval()
    layer = find(model, "conv2", (3, 12, 12))[0]
    images = torch.rand(5, 3, 12, 12)
    units, sites = np.array([0, 4, 2, 2, 1]), np.array([[0, 0], [3, 2], [1, 1], [2, 3], [3, 3]])
    maps = gradient_maps(model, layer, images, units, sites, Carried(most))
    for image, unit, (y, x), found in zip(images, units, sites, maps):
        pixels = image[None].clone().requires_grad_()
        response = model.body(pixels - 0.5)[0, unit, y, x]
        expected = torch.autograd.grad(response, pixels)[0][0].abs().sum(0)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-7)
        (top, bottom), (left, right) = layer.field.region((y, x))
        outside = found.copy()
        outside[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1] = 0
        assert not outside.any()


def test_images_and_network_are_left_as_they_were():
    model = network()
    model.body[0].weight.grad = torch.ones_like(model.body[0].weight)
    layer = find(model, "conv2", (3, 12, 12))[0]
    images, before = torch.rand(2, 3, 12, 12), {name: value.clone() for name, value in model.state_dict().items()}
    kept = images.clone()
    with torch.no_grad():  # the caller may have switched gradients off
        gradient_maps(model, layer, images, [0, 1], [[0, 0], [1, 1]], Carried(8))
    assert torch.equal(images, kept)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (model.body[0].weight.grad == 1).all()


def test_a_dense_unit_has_no_position():
    torch.manual_seed(0)
    model = planted.Functional().eval()
    layer = find(model, "dense", (3, 10, 10))[0]
    image = torch.rand(3, 10, 10)
    maps = gradient_maps(model, layer, image.expand(2, -1, -1, -1), [1, 0], np.zeros((2, 0), int), Carried(8))
    pixels = image[None].clone().requires_grad_()
    expected = torch.autograd.grad(model(pixels)[0, 1], pixels)[0][0].abs().sum(0)
    np.testing.assert_allclose(maps[0], expected.numpy(), rtol=1e-4, atol=1e-8)
