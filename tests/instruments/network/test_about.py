"""What a network says about itself, and what is none of our business."""

import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.about import about


class Other(nn.Module):
    """Hands every attribute through that it does not have."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def test_only_the_marked_attribute_is_read():
    """F88."""
    net = nn.Conv2d(3, 2, 3)
    net.input_size, net.classes, net.aliases, net.needs = (32, 32), 4, ["a"], {}
    assert about(net) == cnnprobe.About()
    net.cnnprobe = {"classes": ["a", "b"]}
    assert about(net) == cnnprobe.About()
    net.cnnprobe = cnnprobe.About(input_size=[3, 8, 8], classes=["a", "b"], aliases={"V1": ""})
    assert (about(net).input_size, about(net).classes) == ((3, 8, 8), ("a", "b"))
    assert about(Other(net)) == cnnprobe.About()  # its paths are others there


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"input_size": 32}, r"About\.input_size must be \(channel, y, x\) or \(channel, time\), got 32"),
        ({"input_size": (32,)}, "input_size must be"),
        ({"input_size": (3, 8, -8)}, "input_size must be"),
        ({"classes": 4}, r"About\.classes must be a list of names, got 4"),
        ({"classes": "cat"}, "classes must be a list of names, got 'cat'"),
        ({"classes": [0, 1]}, "classes must be a list of names"),
        ({"aliases": ["a"]}, r"About\.aliases must map names to module paths, got \['a'\]"),
        ({"aliases": {"a": 1}}, "aliases must map"),
        ({"time_step": 0}, r"About\.time_step must be a number of seconds above 0, got 0"),
        ({"time_step": "20 ms"}, "time_step must be a number of seconds above 0, got '20 ms'"),
        ({"lesions": ["a"]}, r"About\.lesions must map names to buffers, got \['a'\]"),
    ],
)
def test_what_is_said_is_checked(given, told):
    with pytest.raises(UserError, match=told):
        cnnprobe.About(**given)


def test_aliases_of_ones_own_network_are_layers_and_must_lead_somewhere():
    """F88."""
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    net.cnnprobe = cnnprobe.About(aliases={"V1": "1"})
    assert find(net, "V1", (3, 8, 8))[0].channels == 2
    net.cnnprobe = cnnprobe.About(aliases={"V1": "7"})
    with pytest.raises(UserError, match=r"no module '7' in the network, for its alias 'V1'.*; .*modules: 0, 1"):
        find(net, "conv1", (3, 8, 8))


def test_as_many_classes_as_are_named():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    net.cnnprobe = cnnprobe.About(classes=["a", "b"])
    with pytest.raises(UserError, match=r"About\.classes names 2 classes, the network has 3 outputs"):
        cnnprobe.measure("topk", model=net, dataset=torch.rand(4, 3, 2, 2), layer="1")
