"""Normalisation stands inside a network and changes nothing else about it."""

import copy

import torch
from torch import nn

from cnnprobe.models.parts.normalisation import CIFAR10, IMAGENET, normalise


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def test_the_network_sees_normalised_images():
    images = torch.rand(2, 3, 8, 8)
    expected = images.clone()
    for channel, (mean, deviation) in enumerate(zip(*IMAGENET)):
        expected[:, channel] = (images[:, channel] - mean) / deviation
    assert torch.allclose(normalise(network(), *IMAGENET)(images), network()(expected), atol=1e-6)


def test_names_paths_and_state_stay_as_they_were():
    plain, normal = network(), normalise(network(), *CIFAR10)
    assert isinstance(normal, nn.Sequential)
    assert type(normal).__name__ == "Sequential"
    assert list(normal.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in normal.named_modules()] == [name for name, _ in plain.named_modules()]
    assert repr(normal) == repr(plain)
    normal.load_state_dict(plain.state_dict())


def test_graph_of_torch_fx_holds_the_normalisation_and_the_layers():
    graph = torch.fx.symbolic_trace(normalise(network(), *CIFAR10)).graph
    targets = [str(node.target) for node in graph.nodes]
    assert targets[0] == "images"
    assert {"channel_mean", "channel_deviation", "0", "1"} <= set(targets)


def test_copies_and_other_types_keep_it():
    model = normalise(network(), *IMAGENET)
    twin = copy.deepcopy(model).double()
    assert twin.channel_mean.dtype == torch.double
    images = torch.rand(1, 3, 8, 8)
    assert torch.allclose(twin(images.double()).float(), model(images), atol=1e-6)
