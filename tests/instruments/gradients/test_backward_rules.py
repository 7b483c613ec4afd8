"""Backward rules against values by hand, against custom autograd functions, and in every way a rectifier is written."""

import gc
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.instruments.gradients.backward_rules import Rules, _Acting
from cnnprobe.instruments.gradients.nonlinearities import Plan, plan_of
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Tap
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.methods.gbp.gradients import Gradients, Recipe
from tests.support.calling import Told
from tests.support.networks.rectifying import NONE, WAYS, Function, Net
from tests.support.occluding import textured

W1, W2 = torch.tensor([1.0, 2, 0, -1]), torch.tensor([0.0, 1, 3, 1])
BY_HAND = {  # y = relu(w1 x) - relu(w2 x): both rectifiers on, then the first one off
    (1.0, 1, 1, 1): {"gradient": (1.0, 1, -3, -2), "deconvnet": (1.0, 2, 0, -1), "guided": (1.0, 2, 0, -1)},
    (-3.0, 0, 1, 1): {"gradient": (0.0, -1, -3, -1), "deconvnet": (1.0, 2, 0, -1), "guided": (0.0, 0, 0, 0)},
}


class Difference(nn.Module):
    """relu(w1 x) - relu(w2 x), of a batch (image, 4)."""

    def __init__(self, way):
        super().__init__()
        self.way, self.weights = way, nn.Parameter(torch.stack([W1, W2]))

    def forward(self, x):
        a, b = self.way(F.linear(x, self.weights)).unbind(1)
        return (a - b)[:, None]


def passed(model, point, rule="gradient", extend=False):
    """Return the rules and the output of one pass over x (image, 4), ready to go back."""
    x = torch.tensor([point] if not isinstance(point[0], (list, tuple)) else point).requires_grad_()
    given = x * 1
    rules = Rules(plan_of(model, [SimpleNamespace(tap=Tap(""))], x.shape[1:]), rule, extend)
    with rules.show(given):
        y = model(given)
    rules.watch()
    return rules, x, y


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", BY_HAND)
def test_two_rectifiers_by_hand(way, point):
    """F87: exact; the rule may be changed between two backward passes over one graph."""
    if way == "clamp to 1" or (way.startswith("times its shifted") and 0 in point):
        point = tuple(one / 8 for one in point)
    rules, x, y = passed(Difference(WAYS[way]), point)
    for rule, expected in BY_HAND[next(one for one in BY_HAND if one[0] * point[0] > 0)].items():
        rules.rule = rule
        assert torch.autograd.grad(y.sum(), x, retain_graph=True)[0][0].tolist() == list(expected), rule


class Alone(nn.Module):
    """An operation, and a weight for each of its outputs."""

    def __init__(self, way, weights):
        super().__init__()
        self.way, self.weights = way, nn.Parameter(torch.tensor(weights), requires_grad=False)

    def forward(self, x):
        return (self.way(x) * self.weights).sum(1, keepdim=True)


def test_relu6_lets_through_where_it_does_forwards():
    for rule, expected in (("guided", [0.0, 1, 0]), ("deconvnet", [1.0, 1, 1])):
        _, x, y = passed(Alone(lambda z: F.relu6(z * 1), [1.0, 1, 1]), [-1.0, 3, 8], rule)
        assert torch.autograd.grad(y.sum(), x)[0][0].tolist() == expected


@pytest.mark.parametrize("way", ["F.relu", "plus what is below", "half of its size and itself"])
def test_redirected_wakes_silent_images_only(way):
    """F87: also where the signal leaves by several ways, whose sum counts."""
    model = Alone(lambda z: WAYS[way](z * 1), [2.0, -1])
    _, x, y = passed(model, [[-1.0, -2], [1.0, -2]], "redirected")
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [[2.0, 0], [2.0, 0]]


def test_a_product_with_another_mask_is_no_rectifier():
    mask = torch.tensor([1.0, 1, 0])

    def way(z):
        return -(z * mask) + 2 * torch.where(torch.tensor([True, True, False]), z, 0.0)

    rules, x, y = passed(Alone(way, [1.0, 1, 1]), [1.0, -2, 3], "guided")
    assert rules.plan.counts == {}
    assert torch.autograd.grad(y.sum(), x)[0][0].tolist() == [1.0, 1, 0]


@pytest.mark.parametrize("name", NONE)
def test_other_nonlinearities_are_refused_by_name_or_extended(name):
    """F87: never the plain gradient under another name."""
    model, said = Net(NONE[name]), name.partition(",")[0]
    plan = plan_of(model, find(model, "conv2#1", (3, 6, 6)), (3, 6, 6))
    for rule in ("guided", "deconvnet"):
        with pytest.raises(UserError, match=rf"rule={rule} .* the network has {re.escape(said)};.*extend=true"):
            Rules(plan, rule)
        Rules(plan, rule, extend=True)
    Rules(plan, "gradient")


@pytest.mark.parametrize("name", ["GELU", "SiLU", "tanh", "sin", "leaky ReLU"])
def test_extended_rules_clamp_the_signal(name):
    """Guided: then goes on by its own derivative; deconvnet: as it is."""
    for rule in ("guided", "deconvnet"):
        _, x, y = passed(Alone(lambda z: NONE[name](z * 1), [1.0, -1]), [0.3, -0.2], rule, extend=True)
        (slope, _) = torch.autograd.functional.jacobian(lambda z: NONE[name](z).sum(), torch.tensor([0.3, -0.2]))
        expected = [[float(slope) if rule == "guided" else 1.0, 0.0]]
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [pytest.approx(expected[0])]


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="no backward rule 'guded'; there are gradient, guided, deconvnet, redirected"):
        Rules(Plan(), "guded")


class Changing(nn.Module):
    """Rectifies some images only."""

    def forward(self, x):
        return (F.relu(x * 1) if float(x.detach().sum()) > 1 else x * 1).sum(1, keepdim=True)


def test_a_network_that_does_something_else_is_told():
    """F87: the pass is compared with the one in which the rectifiers were found."""
    passed(Changing(), [1.0, 1, 1, 1], "guided")
    with pytest.raises(UserError, match="the same with every image"):
        passed(Changing(), [-1.0, 0, 0, 0], "guided")


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


LONG = ("vgg11", "alexnet", "densenet121", "googlenet")
"""Of these, what takes longest."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NETWORKS]
)
def test_published_networks(name):
    """F21: An inner unit and a logit, both rules: relative error 0, every rectifier counted."""
    build, side, inner = NETWORKS[name]
    torch.manual_seed(0)
    model = textured(build())
    images = torch.rand(2, 3, side, side)
    layers = find(model, [inner, "logits"], (3, side, side))
    for rule, function in (("guided", Guided), ("deconvnet", Deconvnet)):
        theirs = Replaced(function)
        for layer in layers:
            maps, ours = [], Rules(plan_of(model, [layer], (3, side, side)), rule)
            for mode in (ours, theirs):
                pixels, values = images.clone().requires_grad_(), []
                theirs.count = 0
                given = pixels * 1
                with tap(model, [layer], lambda _, a, values=values: values.append(a)) as run, mode:
                    run(given)
                signal = values[0].flatten(1).amax(1).sum()
                if mode is ours:
                    ours.watch()
                    counted = sum(ours.plan.counts.values())
                maps.append(torch.autograd.grad(signal, pixels)[0])
            assert counted == theirs.count > 0
            assert maps[1].abs().max() > 0
            assert torch.equal(*maps), f"{rule} {layer.name}"


def test_nothing_is_left_on_the_network():
    """F21."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.rand(1, 3, 8, 8, requires_grad=True)
    plan = plan_of(model, find(model, "2", (3, 8, 8)), (3, 8, 8))
    with untouched(model), Rules(plan, "guided") as rules:
        y = model(pixels).sum()
        rules.watch()
        torch.autograd.grad(y, pixels)
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- every spelling in a network, by crops and by whole images, against transposed convolutions ----------------------


def by_hand(model, image, unit, place, rule, top):
    """Return the map of a neuron of the second convolution, of whole images."""
    below = model.conv1(image[None])
    signal = torch.zeros(1, 4, 6, 6)
    signal[0, unit, place[0], place[1]] = 1
    back = [lambda s, one=one: F.conv_transpose2d(s, one.weight, padding=1) for one in (model.conv2, model.conv1)]
    signal = back[0](signal).clamp(min=0)
    return back[1](signal * ((below > 0) & (below < top)) if rule == "guided" else signal)[0]


@pytest.mark.parametrize("way", WAYS)
def test_maps_of_every_spelling_are_those_by_hand(way):
    """F87: guided and deconvnet."""
    model, size = Net(WAYS[way]), (3, 6, 6)
    image = torch.rand(size, generator=torch.Generator().manual_seed(8))
    top = {"relu6": 6.0, "hardtanh": 9.0, "clamp to 1": 1.0}.get(way, torch.inf)
    (layer,) = find(model, "conv2#1", size)
    for rule in ("guided", "deconvnet"):
        with Gradients(model, layer, size, Recipe(rule)) as gradients, torch.no_grad():
            found = gradients.maps(image[None], np.zeros(1, int), np.array([2]), np.array([[3, 2]]))
            right = by_hand(model, image, 2, (3, 2), rule, top)
        (top_row, left), (_, high, wide) = found.corners[0], found.values[0].shape
        padded = F.pad(right, (9, 9, 9, 9))[:, top_row + 9 : top_row + 9 + high, left + 9 : left + 9 + wide]
        assert right.abs().max() > 0
        assert np.allclose(found.values[0], padded, atol=1e-6), (rule, gradients.engine)


def test_a_pass_leaves_nothing_behind():
    """F54: what stands in the graph of a pass goes with it, also where several nonlinearities follow each other."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    for rule in ("gradient", "guided", "deconvnet", "redirected"):
        _, x, y = passed(model, (1.0, 1, 1, 1), rule)
        torch.autograd.grad(y.sum(), x)
        passed(model, (1.0, 1, 1, 1), rule)
    del x, y
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is _Acting]


class Rectifying(nn.Module):
    def __init__(self, rectifier):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.rectifier = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), rectifier
        self.head = nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.rectifier(self.b(self.rectifier(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize("rule", ["gradient", "guided", "deconvnet"])
def test_a_rectifier_with_its_own_backward_is_one(rule):
    """F87: also directly behind a convolution; inside of the function no gradient is read."""
    images, found = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)), []
    for rectifier in (Function.apply, F.relu):
        model = Rectifying(rectifier).eval()
        assert find(model, "conv1", (3, 12, 12))[0].tap.function == ("" if rectifier is not F.relu else "relu")
        with Told() as lines:
            given = {"layer": ["a", "b"], "rule": rule, "top_images": 2, "sanity": False}
            measured = cnnprobe.measure("gbp", model=model, dataset=images, **given)
            rows = [row for row in measured if row.table == "units/b"]
        assert not any("gradient" in line for line in lines)
        found.append(rows)
    for own, plain in zip(*found, strict=True):
        assert own.row == plain.row
        np.testing.assert_allclose(own.mean_map, plain.mean_map, atol=1e-7)


class Rescaling(nn.Module):
    """On and off cells that rectify the image; with `reads`, Python reads a value of it, and images pass one by one."""

    def __init__(self, reads):
        super().__init__()
        torch.manual_seed(1)
        self.reads = reads
        self.first, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        if self.reads and x.max() > 1.5:  # bytes
            x = x / 255
        x = torch.cat([x * (x > 0), (0.5 - x).relu()], 1)
        return self.head(self.last(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("target", ["neuron", "class"])
@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
def test_every_image_has_its_rule_where_they_pass_one_by_one(rule, target):
    """F87: not the last or the first of a batch alone."""
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    how = {
        "layer": "logits" if target == "class" else "last",
        "rule": rule,
        "top_images": 5,
        "keep": 5,
        "sanity": False,
    }
    maps = []
    for reads in (True, False):
        store = cnnprobe.measure("gbp", model=Rescaling(reads).eval(), dataset=images, **how)
        columns = [event.columns["map"] for event in store.events if "map" in getattr(event, "columns", {})]
        maps.append(np.concatenate(columns))
    assert np.abs(maps[1]).max() > 1e-4
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-6 * np.abs(maps[1]).max())


def test_guided_class_maps_and_redirected_ascent_where_images_pass_one_by_one():
    """F87."""
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    found = []
    for reads in (True, False):
        model = Rescaling(reads).eval()
        with torch.no_grad():
            model.last.bias.copy_(torch.tensor([0.1, 0.1, 0.1, -9.0]))  # a silent unit
        events = list(cnnprobe.measure("cam", model=model, dataset=images, layer="last", kind="guided-gradcam").events)
        guided = np.concatenate(
            [event.columns["guided"] for event in events if "guided" in getattr(event, "columns", {})]
        )
        how = {"layer": "last", "units": [0, 3], "steps": 8}
        events = list(cnnprobe.measure("optimize", model=model, dataset=images, **how).events)
        climbed = np.concatenate(
            [event.columns["image"] for event in events if "image" in getattr(event, "columns", {})]
        )
        found.append((guided, climbed))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


class Mixed(nn.Module):
    """Multiplies in 16 bits inside its forward."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.norm(self.b(self.a(x).relu())).relu().mean((2, 3))).float()


@pytest.mark.parametrize("layer", ["a", "b", "norm", "head"])
def test_ascent_under_autocast(layer):
    """F87: the last module is not run apart from the others, whose numbers have 16 bits."""
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    model = Mixed().eval()
    how = {"layer": layer, "units": [0, 1], "steps": 8}
    events = list(cnnprobe.measure("optimize", model=model, dataset=images, **how).events)
    (columns,) = [event.columns for event in events if "image" in getattr(event, "columns", {})]
    assert np.isfinite(columns["response"]).all()
    if layer == "head":
        with torch.no_grad():
            answers = model(torch.from_numpy(np.asarray(columns["image"])).reshape(2, 3, 12, 12))
        np.testing.assert_allclose(columns["response"].ravel(), answers.diagonal(), rtol=0.02)


class Partly(nn.Module):
    """Between two convolutions something is written into half of the channels; or the same by joining halves."""

    def __init__(self, write, joined=False):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.write, self.joined = write, joined
        self.eval()

    def forward(self, x):
        x = self.first(x)
        if self.joined:
            x = torch.cat([self.write(x[:, :2].clone()), x[:, 2:]], 1)
        else:
            self.write(x[:, :2])
        return F.relu(self.second(x)).mean((2, 3))


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize("write", [lambda y: y.relu_(), lambda y: y.clamp_(min=0), lambda y: F.relu(y, inplace=True)])
def test_what_is_written_into_a_part_of_a_value_is_refused(write, extend):
    """F87: autograd has it inside of the writing, where no rule can act; never the plain gradient there."""
    model = Partly(write)
    plan = plan_of(model, find(model, "logits", (3, 6, 6)), (3, 6, 6))
    assert plan.counts == {"ReLU": 2}
    for rule in ("guided", "deconvnet"):
        with pytest.raises(UserError, match=rf"rule={rule} cannot act where the network writes ReLU into a part"):
            Rules(plan, rule, extend)
    Rules(plan, "gradient")


def test_a_gain_that_is_written_into_a_part_is_none():
    """F87: guided maps are those of the network that joins the parts."""
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    found = []
    for model in (Partly(lambda y: y.mul_(2)), Partly(lambda y: 2 * y, joined=True)):
        (layer,) = find(model, "logits", (3, 6, 6))
        with Gradients(model, layer, (3, 6, 6), Recipe(rule="guided")) as gradients:
            found.append(gradients.maps(image, np.zeros(1, int), np.array([1]), np.zeros((1, 0), int)).values)
        assert gradients.rectifiers == {"ReLU": 1}
    np.testing.assert_allclose(*found, atol=1e-7)
