"""Layers that tell images apart by rounding alone, beside those that tell them apart by little."""

import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.layers.rounding import only_rounding
from tests.support.calling import Told

SIZE = (3, 16, 16)


def network(norm: nn.Module, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(8)
    made = nn.Sequential(nn.Conv2d(3, 8, 5, bias=False), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    made[0].weight.data *= scale
    return made.eval()


def test_means_of_maps_that_are_normalised_are_rounding():
    """F98: their patterns had dissimilarities, intervals and p values."""
    model = network(nn.InstanceNorm2d(8))
    with Told() as lines:
        layers = find(model, ["conv1", "1", "2", "logits"], SIZE)
    assert list(only_rounding(model, layers, SIZE)) == ["2", "logits"]
    assert [line.partition(":")[0] for line in lines] == [
        f"layer '{name}' of the model does not depend on the image but for rounding" for name in ("2", "logits")
    ]
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_small_responses_are_none(scale):
    """F98."""
    model = network(nn.Identity(), scale)
    layers = find(model, ["conv1", "2", "logits"], SIZE)
    assert list(only_rounding(model, layers, SIZE)) == []


def test_a_network_that_cannot_be_computed_in_double_precision_is_not_judged():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(nn.InstanceNorm2d(8))

        def forward(self, images):
            return self.net(images.float())

    model = Single().eval()
    with Told() as lines:
        assert only_rounding(model, find(model, "net.2", SIZE), SIZE) == {} and lines == []


def test_what_is_constant_is_not_called_rounding():
    model = network(nn.Identity(), 0.0)
    assert only_rounding(model, find(model, ["conv1", "2"], SIZE), SIZE) == {}
