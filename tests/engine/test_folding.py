"""Folding the last module must not change an objective or its gradient."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.engine.climb import network
from cnnprobe.engine.folding import Folded, affine_module
from cnnprobe.engine.layers import find
from cnnprobe.engine.objectives import Channel, Contrast, Direction, Dream, Group, Neuron

UNITS = np.array([2, 0, 1])


def made(name):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    return [
        Neuron(name, UNITS),
        Channel(name, UNITS),
        Contrast(name, UNITS),
        Direction(name, vectors),
        Group.made(name, [[0, 1], [3], [2, 0]], [[1, -2], [3], [1, 1]], "mean"),
    ]


@pytest.mark.parametrize(
    ("last", "size"),
    [
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 9, 11)),
        (nn.Conv2d(3, 4, 3, padding=2, padding_mode="circular", bias=False), (3, 8, 8)),
        (nn.Conv1d(3, 4, 5, dilation=2), (3, 20)),
        (nn.Linear(3, 4), (3,)),
    ],
)
def test_value_and_gradient_are_those_of_the_module(last, size):
    torch.manual_seed(0)
    inputs = torch.randn(3, *size, requires_grad=True)
    for objective in made("a"):
        assert objective.linear
        plain = objective({"a": last(inputs)})
        folded = Folded.of_module(last, "a", objective, inputs.detach())(inputs)
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
        for one, other in zip(*(torch.autograd.grad(value.sum(), inputs) for value in (folded, plain))):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    part = Folded.of_module(last, "a", made("a")[1], inputs.detach()).of(torch.tensor([2, 0]))
    torch.testing.assert_close(part(inputs[[2, 0]]), made("a")[1]({"a": last(inputs)})[[2, 0]], rtol=1e-4, atol=1e-5)


def test_what_is_not_linear_says_so():
    assert not Dream("a", 2).linear
    assert not Group.made("a", [[0, 1]], None, "min").linear
    assert not Group.made("a", [[0, 1]], None, "log-sum-exp").linear


def test_only_a_lone_affine_module_without_foreign_hooks_is_folded():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval()
    size = (3, 12, 12)
    assert affine_module(model, find(model, "2", size)) is model[2]
    assert affine_module(model, find(model, "1", size)) is None
    assert affine_module(model, find(model, ["0", "2"], size)) is None
    model[2].register_forward_hook(lambda module, inputs, output: output * 2)
    assert affine_module(model, find(model, "2", size)) is None


def test_the_network_stops_before_the_module_and_no_hook_is_left():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval()
    images = torch.rand(2, 3, 12, 12)
    with network(model, find(model, "2", (3, 12, 12))) as show:
        inputs = show.before(images)
        assert torch.equal(inputs, model[:2](images))
        assert not model[2]._forward_pre_hooks
        torch.testing.assert_close(show(images)["2"], model[2].forward(inputs))
    assert not model[2]._forward_hooks
