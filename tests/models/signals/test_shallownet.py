"""ShallowNet: band power written down once more, its size, its names."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.instruments.network.about import about
from cnnprobe.models.signals import shallownet

OPTIONS = {"input_size": 500, "channels": 8, "filters": 40, "filter_size": 25, "pool_size": 75, "pool_stride": 15}


def network(classes=4, **options):
    return shallownet.build(num_classes=classes, **OPTIONS | {"dropout": 0.5} | options)


def test_it_is_the_logarithm_of_mean_power():
    """The network in two dimensions, as it is published: filters over time, then over channels, square, mean, log."""
    torch.manual_seed(0)
    model = network(channels=5, filters=6)
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.conv_time.bias.normal_()
        signals = torch.randn(3, 5, 500)
        over_time = functional.conv2d(signals[:, None], model.conv_time.weight[:, :, None], model.conv_time.bias)
        space = model.conv_space.weight.view(6, 5, 6).permute(0, 2, 1)[..., None]  # (filter, filter, channel, 1)
        mixed = functional.conv2d(over_time, space)[:, :, 0].numpy()
        scale = np.sqrt(model.norm.running_var.numpy() + 1e-5)
        power = ((mixed - model.norm.running_mean.numpy()[:, None]) / scale[:, None]) ** 2
        means = np.stack([power[..., 15 * i : 15 * i + 75].mean(-1) for i in range(27)], -1)
        logits = np.einsum("nft,cft->nc", np.log(means), model.readout.weight.numpy()) + model.readout.bias.numpy()
        assert np.allclose(model(signals).numpy(), logits, atol=1e-3)


def test_its_parameters_are_counted():
    model = network()
    count = 25 * 40 + 40 + 40 * 8 * 40 + 2 * 40 + 40 * 27 * 4 + 4
    assert sum(p.numel() for p in model.parameters()) == count
    assert not model.training and about(model).input_size == (8, 500)


def test_its_layers_have_names_and_fields():
    model = network()
    names = [layer.name for layer in main_layers(model, (8, 500))]
    assert names == ["conv1", "conv2", "power", "conv3"]
    power = find(model, "power", (8, 500))[0]
    assert (power.channels, power.map_size, power.field.size, power.field.stride) == (40, (27,), (99,), (15,))


def test_silence_has_the_smallest_power():
    model = network()
    with torch.no_grad():
        assert torch.isfinite(model(torch.zeros(1, 8, 500))).all()
    assert isinstance(model.log, nn.Module)
    assert float(model.log(torch.zeros(1))) == pytest.approx(np.log(1e-6), abs=1e-5)


def test_signals_that_are_too_short_are_refused():
    with pytest.raises(UserError, match=r"input_size must be 99 or more for shallownet .* got 98"):
        network(input_size=98)
    needs = shallownet.needs(dropout=0.5, **OPTIONS)
    assert (needs.channels, needs.size) == (8, 500)
