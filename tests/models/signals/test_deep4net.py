"""Deep4Net: the published network in two dimensions gives the same, its size, its names."""

import pytest
import torch
from torch.nn import functional

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find, main_layers
from cnnprobe.models.signals import deep4net

OPTIONS = {"input_size": 500, "channels": 8, "filters": 25, "filter_size": 10, "dropout": 0.5}


def network(classes=4, **options):
    return deep4net.build(num_classes=classes, **OPTIONS | options)


def test_it_is_the_published_network_in_one_dimension():
    torch.manual_seed(0)
    model = network(channels=3, filters=4)
    signals = torch.randn(2, 3, 500)

    def ending(values, norm):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        values = values * scale[:, None, None] + shift[:, None, None]
        values = torch.where(values > 0, values, values.exp() - 1)
        return functional.max_pool2d(values, (1, 3))

    with torch.no_grad():
        for norm in (model.block1[2], model.block2[2], model.block3[2], model.block4[2]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        over_time = functional.conv2d(signals[:, None], model.block1[0].weight[:, :, None], model.block1[0].bias)
        space = model.block1[1].weight.view(4, 3, 4).permute(0, 2, 1)[..., None]
        values = ending(functional.conv2d(over_time, space), model.block1[2])
        for block in (model.block2, model.block3, model.block4):
            values = ending(functional.conv2d(values, block[1].weight[:, :, None]), block[2])
        logits = functional.conv2d(values, model.readout.weight[:, :, None], model.readout.bias).flatten(1)
        assert torch.allclose(model(signals), logits, atol=1e-4)


def test_its_parameters_are_counted():
    count = 10 * 25 + 25 + 25 * 8 * 25 + 2 * 25
    count += sum(10 * a * b + 2 * b for a, b in ((25, 50), (50, 100), (100, 200)))
    count += 200 * 4 * 1 + 4
    assert sum(p.numel() for p in network().parameters()) == count


def test_each_block_samples_a_third_as_often():
    """At 250 Hz: 83, 28, 9 and 3 Hz (Hartmann et al. 2018 name the first three)."""
    blocks = find(network(), ["block1", "block2", "block3", "block4"], (8, 500))
    assert [block.field.stride for block in blocks] == [(3,), (9,), (27,), (81,)]
    assert [block.map_size for block in blocks] == [(163,), (51,), (14,), (1,)]
    assert [layer.channels for layer in main_layers(network(), (8, 500))] == [200, 25, 50, 100, 200, 4]


def test_signals_that_are_too_short_are_refused():
    with pytest.raises(UserError, match=r"input_size must be 441 or more for deep4net .* got 440"):
        network(input_size=440)
    assert network(input_size=441)(torch.zeros(1, 8, 441)).shape == (1, 4)
    assert deep4net.needs(**OPTIONS).channels == 8
