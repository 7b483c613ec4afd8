"""One batch of rows: what it shows to the network, and the limits of its pixels."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.optimize.ascent.climb import Climb, limits, network, parametrisation
from cnnprobe.methods.optimize.ascent.objectives import Channel
from cnnprobe.methods.optimize.ascent.presets import Settings, preset_of


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True)).eval()


def test_activations_of_several_layers_are_not_overwritten_by_what_follows():
    model, images = net(), torch.rand(2, 3, 12, 12)
    with network(model, find(model, ["0", "2"], (3, 12, 12))) as show:
        seen = show(images)
    torch.testing.assert_close(seen["0"], model[0](images))
    assert (seen["0"] < 0).any()
    torch.testing.assert_close(seen["2"], model[2](model[1](model[0](images))))


def test_the_limits_are_those_of_the_settings_or_of_the_signals():
    statistics = Statistics(torch.zeros(2), torch.eye(2), low=-3.0, high=4.0)
    assert limits(Settings("pixel"), statistics) == (-3.0, 4.0)
    assert limits(Settings("pixel", box=(-1.0, 1.0)), statistics) == (-1.0, 1.0)
    assert limits(Settings("pixel", boxed=False), statistics, during=True) is None
    assert limits(Settings("pixel", boxed=False), statistics) == (-3.0, 4.0)
    assert limits(Settings("pixel", box=None), statistics) is None


@pytest.mark.parametrize("layer", ["conv2", "2"])
def test_rows_that_have_come_to_rest_are_let_go(layer):
    """Of a linear network in a box every row ends in a corner, and then stands still."""
    model = net()
    for convolution in (model[0], model[2]):
        convolution.weight.data.abs_()
        convolution.bias.data.fill_(0.1)
    size, statistics = (3, 10, 10), Statistics.plain(3)
    layers = find(model, layer, size)
    settings = preset_of("pytorch-cnn-visualizations", steps=200, lr=0.1, boxed=True)
    with network(model, layers) as show:
        objective = Channel(layers[0].name, np.arange(3))
        climb = Climb(show, objective, settings, parametrisation(settings, size, statistics), statistics)
        climb.begin([np.random.default_rng(row) for row in range(3)], 1, "cpu")
        assert (climb.folded is not None) == (layer == "2")
        for start in range(0, 200, 50):
            if len(climb.alive):
                climb.steps(start, start + 50)
        assert not len(climb.alive)
        climb.end()
    assert climb.verdicts == ["", "", ""]
    torch.testing.assert_close(climb.best_images, torch.ones(3, *size))
    with torch.no_grad():
        expected = model(torch.ones(1, *size))[0, :3].mean((1, 2))
    torch.testing.assert_close(climb.best_value, expected, rtol=1e-4, atol=1e-4)
    assert torch.isnan(climb.trace[:, -1]).all()
