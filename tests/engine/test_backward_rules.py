"""Backward rules against values by hand, against custom autograd functions, and in every way a rectifier is written."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from occluding import textured
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnprobe.engine.backward_rules import Rules
from cnnprobe.engine.layers import find
from cnnprobe.engine.probing import untouched
from cnnprobe.engine.recording import tap
from cnnprobe.errors import UserError


def assigned(values):
    copy = values * 1
    copy[copy < 0] = 0
    return copy


class InPlace(nn.Module):
    """An in-place rectifier that is made inside forward."""

    def forward(self, values):
        return nn.ReLU(inplace=True)(values * 1)


WAYS = {
    "F.relu": F.relu,
    "F.relu in place": lambda z: F.relu(z * 1, inplace=True),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "made in forward": InPlace(),
    "method": lambda z: z.relu(),
    "method in place": lambda z: (z * 1).relu_(),
    "torch.relu": torch.relu,
    "clamp": lambda z: z.clamp(min=0),
    "clamp of a tensor": lambda z: torch.clamp(z, min=torch.zeros(1)),
    "clamp_min": lambda z: z.clamp_min(0),
    "clip": lambda z: torch.clip(z, 0),
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros(())),
    "maximum, other way round": lambda z: torch.maximum(torch.zeros(()), z),
    "max": lambda z: torch.max(z, torch.zeros_like(z)),
    "fmax": lambda z: torch.fmax(z, torch.zeros(1)),
    "where": lambda z: torch.where(z > 0, z, 0.0),
    "where with zeros": lambda z: torch.where(z >= 0, z, torch.zeros_like(z)),
    "method where": lambda z: z.where(z > 0, torch.zeros(1)),
    "times its sign": lambda z: z * (z > 0),
    "its sign times": lambda z: (z > 0) * z,
    "times a float mask": lambda z: z * (z > 0).float(),
    "times in place": lambda z: (z * 1).mul_(z > 0),
    "masked_fill": lambda z: z.masked_fill(z < 0, 0),
    "masked_fill in place": lambda z: (z * 1).masked_fill_(z <= 0, 0.0),
    "assigned": assigned,
    "leaky with slope 0": lambda z: F.leaky_relu(z, 0.0),
    "relu6": F.relu6,
    "hardtanh": lambda z: F.hardtanh(z, 0.0, 9.0),
}
W1, W2 = torch.tensor([1.0, 2, 0, -1]), torch.tensor([0.0, 1, 3, 1])
BY_HAND = {  # y = relu(w1 x) - relu(w2 x): both rectifiers on, then the first one off
    (1.0, 1, 1, 1): {"gradient": (1.0, 1, -3, -2), "deconvnet": (1.0, 2, 0, -1), "guided": (1.0, 2, 0, -1)},
    (-3.0, 0, 1, 1): {"gradient": (0.0, -1, -3, -1), "deconvnet": (1.0, 2, 0, -1), "guided": (0.0, 0, 0, 0)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", BY_HAND)
def test_two_rectifiers_by_hand(way, point):
    """Exact; the rule may be changed between two backward passes over one graph."""
    x = torch.tensor(point, requires_grad=True)
    with Rules() as rules:
        a, b = WAYS[way](torch.stack([W1 @ x, W2 @ x]))
        y = a - b
    assert sum(rules.watch(y).values()) == 1
    for rule, expected in BY_HAND[point].items():
        rules.rule = rule
        assert torch.autograd.grad(y, x, retain_graph=True)[0].tolist() == list(expected), rule


def test_relu6_lets_through_where_it_does_forwards():
    x = torch.tensor([-1.0, 3, 8], requires_grad=True)
    for rule, expected in (("guided", [0.0, 1, 0]), ("deconvnet", [1.0, 1, 1])):
        with Rules(rule) as rules:
            y = F.relu6(x).sum()
        rules.watch(y)
        assert torch.autograd.grad(y, x)[0].tolist() == expected


def test_redirected_wakes_silent_images_only():
    x = torch.tensor([[-1.0, -2], [1.0, -2]], requires_grad=True)
    with Rules("redirected") as rules:
        y = (F.relu(x) * torch.tensor([2.0, -1])).sum()
    rules.watch(y)
    assert torch.autograd.grad(y, x)[0].tolist() == [[2.0, 0], [2.0, 0]]


def test_a_product_with_another_mask_is_no_rectifier():
    x = torch.tensor([1.0, -2, 3], requires_grad=True)
    with Rules("guided") as rules:
        y = -(x * torch.tensor([1.0, 1, 0])).sum() + torch.where(torch.tensor([True, True, False]), x, 0.0).sum() * 2
    assert rules.watch(y) == {}
    assert torch.autograd.grad(y, x)[0].tolist() == [1.0, 1, 0]


SMOOTH = {
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "leaky ReLU": nn.LeakyReLU(),
    "PReLU": nn.PReLU(),
    "ELU or SELU": nn.ELU(),
    "softplus": nn.Softplus(),
    "hard swish": nn.Hardswish(),
    "hard sigmoid": nn.Hardsigmoid(),
    "hard tanh": nn.Hardtanh(),
    "Mish": nn.Mish(),
    "CELU": nn.CELU(),
    "log-sigmoid": nn.LogSigmoid(),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_other_nonlinearities_are_refused_by_name_or_extended(name):
    x = torch.tensor([0.3, -0.2], requires_grad=True)
    for rule in ("guided", "deconvnet"):
        with (
            Rules(rule) as rules,
            pytest.raises(UserError, match=f"rule={rule} .* the network has {name};.*extend=true"),
        ):
            rules.watch(SMOOTH[name](x).sum())
        with Rules(rule, extend=True) as rules:
            y = (SMOOTH[name](x) * torch.tensor([1.0, -1])).sum()
        assert rules.watch(y) == {name: 1}
        found = torch.autograd.grad(y, x)[0]
        slope = torch.autograd.grad(SMOOTH[name](x).sum(), x)[0]
        assert torch.allclose(found, torch.stack([slope[0] if rule == "guided" else torch.ones(()), torch.zeros(())]))
    with Rules("gradient") as rules:
        assert rules.watch(SMOOTH[name](x).sum()) == {name: 1}


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="no backward rule 'guded'; there are gradient, guided, deconvnet, redirected"):
        Rules("guded")


# ---- published networks against functions with a backward pass of their own ------------------------------------------


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(context, values, high):
        context.save_for_backward(values)
        context.high = high
        return values.clamp(0, high)

    @staticmethod
    def backward(context, signal):
        (values,) = context.saved_tensors
        return signal * (signal > 0) * (values > 0) * (values < context.high), None


class Deconvnet(Guided):
    @staticmethod
    def backward(context, signal):
        return signal.clamp(min=0), None


class Replaced(TorchFunctionMode):
    """Puts a function with its own backward pass in place of the rectifiers of torchvision's networks."""

    def __init__(self, function):
        super().__init__()
        self.function, self.count = function, 0

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = function.__name__
        if name in ("relu", "relu_", "relu6", "hardtanh", "hardtanh_"):
            high = 6.0 if name != "relu" and name != "relu_" else float("inf")
            self.count += 1
            return self.function.apply(arguments[0], high)
        return function(*arguments, **(keywords or {}))


NETWORKS = {
    "alexnet": (torchvision.models.alexnet, 96, "features.8"),
    "vgg11": (torchvision.models.vgg11, 64, "features.13"),
    "resnet18": (torchvision.models.resnet18, 64, "layer3.0"),
    "squeezenet1_1": (torchvision.models.squeezenet1_1, 64, "features.7"),
    "densenet121": (torchvision.models.densenet121, 64, "features.denseblock2"),
    "googlenet": (lambda: torchvision.models.googlenet(init_weights=False, aux_logits=False), 64, "inception4a"),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 64, "features.7"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks(name):
    """F21: An inner unit and a logit, both rules: relative error 0, every rectifier counted."""
    build, side, inner = NETWORKS[name]
    torch.manual_seed(0)
    model = textured(build())
    images = torch.rand(2, 3, side, side)
    layers = find(model, [inner, "logits"], (3, side, side))
    for rule, function in (("guided", Guided), ("deconvnet", Deconvnet)):
        ours, theirs = Rules(rule), Replaced(function)
        for layer in layers:
            maps = []
            for mode in (ours, theirs):
                pixels, values = images.clone().requires_grad_(), []
                theirs.count = 0
                with tap(model, [layer], lambda _, a, values=values: values.append(a)) as run, mode:
                    run(pixels * 1)
                signal = values[0].flatten(1).amax(1).sum()
                if mode is ours:
                    counted = sum(ours.watch(signal).values())
                maps.append(torch.autograd.grad(signal, pixels)[0])
            assert counted == theirs.count > 0
            assert maps[1].abs().max() > 0
            assert torch.equal(*maps), f"{rule} {layer.name}"


def test_nothing_is_left_on_the_network():
    """F21."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.rand(1, 3, 8, 8, requires_grad=True)
    with untouched(model), Rules("guided") as rules:
        y = model(pixels).sum()
        rules.watch(y)
        torch.autograd.grad(y, pixels)
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
