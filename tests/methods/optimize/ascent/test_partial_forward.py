"""Folding the last module must not change an objective or its gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.optimize.ascent.climb import network
from cnnprobe.methods.optimize.ascent.objectives import Channel, Contrast, Direction, Dream, Group, Neuron
from cnnprobe.methods.optimize.ascent.partial_forward import Folded, Narrowed, affine_module, narrowed_module
from cnnprobe.methods.optimize.ascent.presets import preset_of
from cnnprobe.methods.optimize.ascent.rows import ascending
from tests.support.occluding import textured

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


def chain(rectifier, norm=True, **settings):
    torch.manual_seed(0)
    steps = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3, **settings)]
    return textured(nn.Sequential(*steps, *([nn.BatchNorm2d(4)] if norm else []), rectifier))


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.GELU(), nn.ReLU6()])
@pytest.mark.parametrize(
    "settings", [{}, {"norm": False, "bias": False}, {"stride": 2, "padding": 1, "dilation": 2}, {"padding": "same"}]
)
def test_a_narrowed_convolution_gives_the_same_value_and_gradient(rectifier, settings):
    model, size = chain(rectifier, **settings), (3, 14, 13)
    (layer,) = find(model, str(len(model) - 1), size)
    module, tail = narrowed_module(model, [layer], size)
    assert module is model[2] and len(tail) == len(model) - 3
    inputs = torch.randn(3, 5, 12, 11, requires_grad=True)
    for objective in (Channel(layer.name, UNITS), Neuron(layer.name, UNITS), Neuron(layer.name, UNITS, (1, 2))):
        plain = objective({layer.name: model[2:](inputs * 1)})
        narrowed = Narrowed(module, tail, objective)
        torch.testing.assert_close(narrowed(inputs), plain, rtol=1e-4, atol=1e-5)
        one, other = (torch.autograd.grad(value.sum(), inputs)[0] for value in (narrowed(inputs), plain))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        some = torch.tensor([2, 0])
        torch.testing.assert_close(narrowed.of(some)(inputs[some]), plain[some], rtol=1e-4, atol=1e-5)


def test_signals_are_narrowed_too():
    model = textured(
        nn.Sequential(nn.Conv1d(2, 5, 5), nn.ELU(), nn.Conv1d(5, 4, 3, stride=2), nn.BatchNorm1d(4), nn.ELU())
    )
    (layer,) = find(model, "4", (2, 30))
    module, tail = narrowed_module(model, [layer], (2, 30))
    inputs, objective = torch.randn(3, 5, 26), Channel(layer.name, UNITS)
    plain = objective({layer.name: model[2:](inputs)})
    torch.testing.assert_close(Narrowed(module, tail, objective)(inputs), plain, rtol=1e-4, atol=1e-5)


class Sum(nn.Module):
    def __init__(self, shared):
        super().__init__()
        self.conv, self.shared = nn.Conv2d(3, 3, 3, padding=1), shared

    def forward(self, images):
        maps = self.conv(self.conv(images)) if self.shared else self.conv(images) + images
        return maps.relu()


def test_what_is_no_such_chain_runs_whole():
    size = (3, 12, 12)
    for model, name in (
        (Sum(shared=False), "conv1"),
        (Sum(shared=True), "conv2"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4)), "1"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.ReLU()), "1"),
        (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()), "1"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), "2"),
        (nn.Sequential(nn.Flatten(), nn.Linear(432, 4), nn.ReLU()), "2"),
    ):
        layers = find(model.eval(), name, size)
        assert narrowed_module(model, layers, size) == (None, ()), name
    assert not Narrowed.suits(Contrast("a", UNITS))
    assert not Narrowed.suits(Dream("a", 2))


@pytest.mark.parametrize("redirect", [0, 4])
def test_an_ascent_is_the_same_with_and_without(monkeypatch, redirect):
    model, size = chain(nn.ReLU()), (3, 14, 13)
    (layer,) = find(model, "4", size)
    settings = replace(preset_of("standard"), steps=12, redirect=redirect)
    found = []
    for narrowed in (True, False):
        if not narrowed:
            monkeypatch.setattr("cnnprobe.methods.optimize.ascent.climb.narrowed_module", lambda *_: (None, ()))
        work = ascending(model, [layer], Channel("4", UNITS), size, settings, [(0, unit) for unit in UNITS])
        try:
            while True:
                next(work)
        except StopIteration as end:
            found.append(end.value)
    np.testing.assert_allclose(found[0].images, found[1].images, atol=2e-4)
    np.testing.assert_allclose(found[0].trace, found[1].trace, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[0].response, found[1].response, rtol=1e-3)
