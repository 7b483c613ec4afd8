"""A network that cannot take the images says so, and which it could take."""

import os
import signal
import time

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.machine.signals import Stop, StoppedError
from cnnprobe.models import alexnet, convnet
from cnnprobe.models.foreign import network as foreign
from cnnprobe.models.parts import inputs
from cnnprobe.models.parts.inputs import check_fits


@pytest.fixture(scope="module")
def small_alexnet():
    return alexnet.build(num_classes=2, input_size=None)


def test_alexnet_needs_63_pixels(small_alexnet):
    """F22: 11 from stride 4 gives 15, two poolings leave 1: 62 px would leave nothing."""
    with pytest.raises(UserError, match=r"^alexnet needs images of at least 63 px, dataset gives 32$"):
        check_fits(small_alexnet, "alexnet", (3, 32, 32))
    check_fits(small_alexnet, "alexnet", (3, 63, 63))


def test_one_channel_into_three_is_refused(small_alexnet):
    """F22."""
    with pytest.raises(UserError, match=r"^alexnet takes images of 3 channels, dataset gives 1$"):
        check_fits(small_alexnet, "alexnet", (1, 64, 64))


def test_signals_into_a_network_for_images_are_refused(small_alexnet):
    """F22."""
    with pytest.raises(UserError, match=r"^alexnet takes images, dataset gives signals$"):
        check_fits(small_alexnet, "alexnet", (3, 500))


class Leaving(nn.Module):
    def forward(self, images):
        raise SystemExit(0)


class Nothing(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))[:, :0]


@pytest.mark.parametrize(
    ("model", "told"),
    [(Leaving(), r"it ends the program \(sys\.exit\(0\)\)$"), (Nothing(), "it returns nothing, a tensor of 1x0$")],
)
def test_a_network_that_leaves_or_answers_nothing_is_told(model, told):
    """F22: leaving with status 0 would look like success."""
    with pytest.raises(UserError, match=rf"^odd takes no image of 8 px: {told}"):
        check_fits(model, "odd", (3, 8, 8))


@pytest.mark.parametrize("side", [16, 64])
def test_a_network_for_one_size_names_it(side):
    """F22."""
    model = convnet.build(num_classes=10, written="class", input_size=32)
    with pytest.raises(UserError, match=rf"^convnet needs images of 32 px and no others, dataset gives {side}$"):
        check_fits(model, "convnet", (3, side, side))
    check_fits(model, "convnet", (3, 32, 32))


def test_channels_are_told_for_a_network_without_a_size_of_its_own():
    with pytest.raises(UserError, match=r"^mine takes images of 3 channels, dataset gives 1$"):
        check_fits(nn.Conv2d(3, 1, 5), "mine", (1, 16, 16))


def test_signals_have_a_least_length_too():
    model = nn.Sequential(nn.Conv1d(2, 1, 50, stride=10), nn.Conv1d(1, 1, 4))
    with pytest.raises(UserError, match=r"^mine needs images of at least 80 px, dataset gives 40$"):
        check_fits(model, "mine", (2, 40))


def test_a_network_that_takes_nothing_says_why():
    """F22."""

    class Broken(nn.Module):
        def forward(self, images):
            raise KeyError("no such\nthing")

    with pytest.raises(UserError, match=r"^mine takes no image of 8 px: 'no such.*thing'$"):
        check_fits(Broken(), "mine", (3, 8, 8))


def test_nothing_is_changed_by_the_check():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_fits(model, "mine", (3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Mean(nn.Module):
    """A layer, and the mean over all axes behind its channels."""

    def __init__(self, layer, axes=(), asks=lambda given: given):
        super().__init__()
        self.layer, self.axes, self.asks = layer, axes, asks

    def forward(self, given):
        out = self.layer(self.asks(given))
        return (out[0] if isinstance(out, tuple) else out).mean(self.axes) if self.axes else out


class Pair(Mean):
    def forward(self, image, mask):
        return super().forward(image * mask)


OTHER = {
    "signals": (Mean(nn.Conv1d(4, 6, 5), (2,)), "signals of 4 channels"),
    "volumes": (Mean(nn.Conv3d(2, 6, 3), (2, 3, 4)), r"volumes \(image, 2 channels, z, y, x\), which cannot be probed"),
    "rows": (Mean(nn.Linear(20, 3)), "rows of 20 numbers, which cannot be probed"),
    "sequences": (Mean(nn.LSTM(7, 6, batch_first=True), (1,)), r"sequences \(image, time, 7 numbers\)"),
    "tokens": (Mean(nn.Embedding(50, 6), (1,)), r"whole numbers \(tokens\), which cannot be probed"),
    "two inputs": (Pair(nn.Conv2d(3, 6, 3), (2, 3)), r"2 inputs \(image, mask\) instead of one"),
    "a dictionary": (
        Mean(nn.Conv2d(3, 6, 3), (2, 3), lambda given: given["pixels"]),
        r"a dictionary of inputs \('pixels'\) instead of an image",
    ),
    "another side and channels": (nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 3)), "images of 1x28x28"),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_network_for_something_else_than_images_says_for_what(name):
    """F22: in one line without torch's words."""
    model, told = OTHER[name]
    with pytest.raises(UserError, match=rf"^custom takes {told}.*, dataset gives images of 3x40x40$"):
        check_fits(foreign.adopt(model.eval()), "custom", (3, 40, 40))


def test_the_options_that_fit_ones_own_network_are_said():
    """F22: a smaller side is found too."""
    flat = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 30 * 30, 3))
    with pytest.raises(UserError, match=r"32 px and no others, dataset gives 224; say model\.input_size=32$"):
        check_fits(flat, "custom", (3, 224, 224))
    with pytest.raises(UserError, match=r"of 2 channels, dataset gives 3; say model\.channels=2$"):
        check_fits(Mean(nn.Conv2d(2, 6, 3), (2, 3)), "custom", (3, 40, 40))
    with pytest.raises(UserError, match=r"^custom takes images of 3 channels, dataset gives signals of 8x224$"):
        check_fits(Mean(nn.Conv2d(3, 6, 3), (2, 3)), "custom", (8, 224))


class Streams(nn.Module):
    """Colours go through one convolution, what stands behind them through another, which is written first."""

    def __init__(self, depth=1):
        super().__init__()
        self.depth, self.colours = nn.Conv2d(depth, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return (self.colours(images[:, :3]) + self.depth(images[:, 3:])).mean((2, 3))


@pytest.mark.parametrize("depth, channels", [(1, 4), (4, 7)])
def test_the_channels_of_streams_are_those_that_the_whole_network_takes(depth, channels):
    """F95: the first convolution that is written sees a part of the channels only."""
    told = rf"^custom takes images of {channels} channels, dataset gives 3; say model\.channels={channels}$"
    with pytest.raises(UserError, match=told):
        check_fits(Streams(depth), "custom", (3, 32, 32))
    check_fits(Streams(depth), "custom", (channels, 32, 32))


def test_what_was_said_already_is_not_advised():
    """F95: model.channels=1 was the advice for model.channels=1."""
    way = r"dataset=arrays \(your own images in a file\) or dataset=manufactured$"
    with pytest.raises(UserError, match=rf"^custom takes images of 1 channel, dataset gives 3; say {way}"):
        check_fits(nn.Conv2d(1, 2, 3), "custom", (3, 32, 32), said=1, fixed=True)
    with pytest.raises(UserError, match=rf"1 channel, dataset gives 3; say model\.channels=1 and {way}"):
        check_fits(nn.Conv2d(1, 2, 3), "custom", (3, 32, 32), fixed=True)
    with pytest.raises(
        UserError, match=r"takes images of 4 channels, dataset gives 3$"
    ):  # what works and was said first
        check_fits(Streams(), "custom", (3, 32, 32), said=4)


@pytest.mark.parametrize("asks", [inputs._failure, inputs._names])
def test_a_signal_is_no_exit_of_the_network(asks):
    """F103: what ends this process while sizes are tried says nothing about them."""

    class Ended(nn.Conv2d):
        def forward(self, images):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with Stop().listening() as stop, pytest.raises(StoppedError), stop.at_once():
        asks(Ended(1, 1, 1), (1, 4, 4))
