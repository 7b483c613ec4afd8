"""What traced functions are and what they cost."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnprobe.instruments.layers.multiply_adds import multiply_accumulates
from cnnprobe.instruments.network.calls import alone_rectified, is_rectifier, nonnegative
from cnnprobe.instruments.network.tracing import trace


class Then(nn.Module):
    """A convolution, then a function."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, images):
        return self.function(self.conv(images))


RECTIFIERS = [
    F.relu,
    F.gelu,
    F.silu,
    torch.relu_,
    nn.ReLU6(),
    nn.LeakyReLU(),
    nn.PReLU(),
    lambda maps: maps.clamp(min=0),
    lambda maps: maps.clamp_(0, 1),
    nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
]
OTHERS = [
    torch.sigmoid,
    lambda maps: maps.clamp(min=-1),
    lambda maps: F.hardtanh(maps),
    nn.BatchNorm2d(4),
    nn.Sequential(nn.MaxPool2d(2), nn.ReLU()),
    lambda maps: maps.relu() + maps,
]


@pytest.mark.parametrize("function", RECTIFIERS)
def test_a_rectifier_that_follows_alone_is_where_the_convolution_is_read(function):
    traced = trace(Then(function), (3, 8, 8))
    assert alone_rectified(traced, traced.calls[0]) == traced.calls[-1].outputs[0]
    assert is_rectifier(traced.calls[-1])


@pytest.mark.parametrize("function", OTHERS)
def test_anything_else_leaves_the_convolution_its_own_output(function):
    traced = trace(Then(function), (3, 8, 8))
    assert alone_rectified(traced, traced.calls[0]) == traced.calls[0].outputs[0]


@pytest.mark.parametrize(
    "function, never",
    [
        (F.relu, True),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), True),
        (lambda maps: torch.cat([maps.relu(), maps.sigmoid()], 1), True),
        (lambda maps: torch.cat([maps.relu(), maps], 1), False),
        (nn.LeakyReLU(), False),
        (lambda maps: maps.relu() - 1, False),
        (lambda maps: maps, False),
    ],
)
def test_which_values_are_known_to_be_never_negative(function, never):
    traced = trace(Then(function), (3, 8, 8))
    assert nonnegative(traced, traced.calls[-1].outputs[0]) is never


@pytest.mark.parametrize(
    "function, products",
    [
        (nn.Conv2d(4, 6, (3, 5), padding=(1, 2), groups=2), 64 * 6 * 2 * 15),
        (nn.ConvTranspose2d(4, 6, 3), 64 * 4 * 6 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 7)), 256 * 7),
        (lambda maps: maps.flatten(2) @ maps.flatten(2).mT, 4 * 4 * 64),
        (lambda maps: F.scaled_dot_product_attention(*[maps.flatten(2).mT] * 3), 2 * 64 * 64 * 4),
        (F.relu, 0),
    ],
)
def test_products_are_counted(function, products):
    assert multiply_accumulates(trace(Then(function), (3, 8, 8)).calls[-1]) == products
