"""Which layers run along time, and when each of their steps is."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets.base.given import Given
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.kinds import outputs_of
from cnnprobe.methods.record.time_axes import time_axes
from cnnprobe.models import convnet
from tests.support.networks.turning import Turning

SIGNALS = torch.zeros(2, 4, 60)
IMAGES = torch.zeros(2, 3, 16, 16)


def along(model, values, layer, rate=None):
    dataset = Given(values)
    dataset.rate = rate
    found = time_axes(find(model.eval(), layer, dataset.size), model, dataset, outputs_of(model, dataset.size, ()))
    return {one.layer.name: one for one in found}


def filters():
    return nn.Sequential(nn.Conv1d(4, 6, 5), nn.MaxPool1d(3), nn.Conv1d(6, 5, 16), nn.Flatten(), nn.Linear(15, 2))


def test_steps_of_filters_are_in_the_middle_of_what_they_see():
    found = along(filters(), SIGNALS, ["0", "1", "2", "3", "4"], rate=100.0)
    assert list(found) == ["0", "1"]  # the third has 3 steps, the last none
    np.testing.assert_allclose(found["0"].times, (2 + np.arange(56)) / 100)
    np.testing.assert_allclose(found["1"].times, (3 + 3 * np.arange(18)) / 100)
    assert (found["0"].step, found["1"].step, found["1"].features) == (0.01, 0.03, 6)
    unknown = along(filters(), SIGNALS, "1")["1"]
    assert np.isnan(unknown.step) and unknown.times.tolist() == list(range(18))


class Recurrent(nn.Module):
    def __init__(self, stack=False):
        super().__init__()
        self.gru, self.seen, self.readout = nn.GRU(4, 7), nn.Identity(), nn.Linear(7, 2)

    def forward(self, signals):
        states = self.seen(self.gru(signals.permute(2, 0, 1))[0].permute(1, 2, 0))
        return self.readout(states[..., -1])


def test_a_recurrence_over_a_signal_has_its_samples():
    found = along(Recurrent(), SIGNALS, ["gru[0]", "seen"], rate=50.0)
    assert {name: (one.step, one.times[-1]) for name, one in found.items()} == {
        "gru[0]": (0.02, 59 / 50), "seen": (0.02, 59 / 50)
    }  # fmt: skip


class OverChannels(nn.Module):
    """Maps (filter, channel, time) of signals."""

    def __init__(self):
        super().__init__()
        self.conv, self.readout = nn.Conv2d(1, 3, (1, 5)), nn.Linear(3, 2)

    def forward(self, signals):
        return self.readout(self.conv(signals[:, None]).mean((2, 3)))


def test_positions_beside_time_are_units_of_their_own():
    axis = along(OverChannels(), SIGNALS, "conv", rate=10.0)["conv"]
    assert (axis.axis, axis.features, len(axis.times), axis.step) == (1, 12, 56, 0.1)
    maps = np.random.default_rng(0).random((2, 3, 4, 56))
    courses = axis.courses(maps)
    np.testing.assert_array_equal(courses[1, 2 * 4 + 3], maps[1, 2, 3])


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.flat, self.readout = nn.Conv2d(3, 4, 5, 4), nn.Flatten(2), nn.Linear(4, 2)

    def forward(self, images):
        return self.readout(self.flat(self.conv(images)).mean(2))


@pytest.mark.parametrize(("model", "layers"), [
    (Tokens(), ["flat", "conv"]),
    (convnet.build(num_classes=8, written="class", input_size=16), ["conv2", "fc1", "logits"]),
])  # fmt: skip
def test_no_layer_of_a_network_for_images_runs_along_time(model, layers):
    assert along(model, IMAGES, layers) == {}


def test_a_network_that_makes_time_says_its_step_or_returns_courses():
    found = along(Turning(), IMAGES, ["rates", "start"])
    assert list(found) == ["rates"]
    assert (found["rates"].step, found["rates"].times[-1]) == (0.02, pytest.approx(0.58))
    found = along(Turning(step=None), IMAGES, "rates")["rates"]
    assert np.isnan(found.step) and found.times[-1] == 29
    stepwise = Tokens()
    stepwise.cnnprobe = cnnprobe.About(time_step=0.5)  # it says that the one axis is time
    assert along(stepwise, IMAGES, "flat")["flat"].step == 0.5
