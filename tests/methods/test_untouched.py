"""What probing promises: every method gives a network back exactly as it was handed over (F59)."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe import catalogue
from cnnprobe.datasets import manufactured, shapes
from cnnprobe.records import Rows

PROBING = {
    "layers": {"size": (3, 32, 32)},
    "record": {"layer": ["conv1", "conv2"], "batch_size": 8},
    "topk": {"layer": ["conv1", "conv2"], "batch_size": 8, "criterion": ["max", "mean", "area"], "k": 3},
    "rf-map": {"layer": ["conv1", "conv2"], "batch_size": 8, "top_images": 2, "patch_size": 8, "stride": 8},
    "gbp": {"layer": ["conv1", "conv2"], "batch_size": 8, "top_images": 4, "sanity": True},
    "cam": {"batch_size": 8, "top_classes": 3},
    "optimize": {"layer": ["conv1", "conv2"], "batch_size": 8, "steps": 4, "top_images": 2},
    "perturb": {"layer": ["conv1", "conv2"], "batch_size": 8, "kind": "both", "draws": 2, "gradient_images": 4},
    "rsa": {"layer": ["conv1", "conv2"], "batch_size": 8, "bootstrap": 4, "permutations": 4},
    "tuning": {"layer": ["conv1", "conv2"], "batch_size": 8},
}


class Network(nn.Module):
    """BatchNorm, dropout, an in-place rectifier used twice, one frozen parameter."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(6, 4, 3)
        self.out = nn.Linear(4, 8)
        self.second.bias.requires_grad_(False)

    def forward(self, images):
        x = self.act(self.norm(self.first(images)))
        x = self.act(self.second(self.drop(x)))
        return self.out(x.mean((2, 3)))


def handed_over():
    """Return a network in train mode, but for one part, with gradients and a hook of its owner."""
    torch.manual_seed(0)
    model = Network()
    model.drop.eval()
    model(torch.rand(4, 3, 32, 32)).sum().backward()
    calls = []
    model.first.register_forward_hook(lambda *_: calls.append(1))
    return model, calls


def state_of(model):
    """Return everything that may not change, identities included."""
    return {
        "modes": [module.training for module in model.modules()],
        "modules": [id(module) for module in model.modules()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [
            (p.requires_grad, id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()
        ],
        "hooks": [list(module._forward_hooks) + list(module._forward_pre_hooks) for module in model.modules()],
        "threads": torch.is_grad_enabled(),
    }


def same(one, other):
    for name in ("modes", "modules", "hooks", "threads"):
        assert one[name] == other[name], name
    for name, value in one["values"].items():
        assert torch.equal(value, other["values"][name]), name
    for (needs, place, value), (needs_now, place_now, value_now) in zip(one["gradients"], other["gradients"]):
        assert (needs, place) == (needs_now, place_now)
        assert value is None or torch.equal(value, value_now)


def images():
    return shapes.build(size=32, count=24, split="test", seed=0, contrast=0.15, noise=0.02)


def stimuli():
    options = {"channels": 3, "families": "all", "orientations": 4, "frequencies": 2, "lowest": 0.1, "highest": 0.2}
    return manufactured.build(size=32, **options, phases=3, contrasts=[0.5], extent=0.5)


def arguments(command, model):
    given = {"model": model} | PROBING[command]
    if command == "tuning":
        return given | {"dataset": stimuli()}
    return given if command == "layers" else given | {"dataset": images()}


def test_every_probing_method_is_tried_here():
    assert set(PROBING) == set(catalogue.commands()) - {"train", "transfer"}


@pytest.mark.parametrize("command", PROBING)
def test_a_network_comes_back_as_it_was(command):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    assert list(cnnprobe.measure(command, **arguments(command, model)))
    same(before, state_of(model))


@pytest.mark.parametrize("command", ["record", "topk", "rf-map", "gbp", "cam", "optimize", "rsa", "tuning"])
@pytest.mark.parametrize("error", [RuntimeError("planted"), KeyboardInterrupt()])
def test_also_after_an_error_or_an_interrupt_inside(command, error):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    measurement = cnnprobe.measure(command, **arguments(command, model))
    count = 0

    def breaking(*_):
        nonlocal count
        count += 1
        if count == 2:
            raise error

    handle = model.second.register_forward_hook(breaking)
    with pytest.raises(type(error)):
        list(measurement.events)
    handle.remove()
    same(before, state_of(model))


@pytest.mark.parametrize("command", ["record", "topk", "rf-map", "gbp", "cam", "optimize", "rsa", "tuning"])
def test_also_when_the_reader_stops_half_way(command):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    measurement = cnnprobe.measure(command, **arguments(command, model))
    next(iter(measurement.events))
    measurement.close()
    same(before, state_of(model))


@pytest.mark.parametrize("command", ["record", "topk", "rf-map", "gbp", "cam", "optimize", "rsa", "tuning"])
def test_a_network_in_train_mode_is_probed_as_in_eval_mode(command):
    """Dropout off, running statistics of BatchNorm: the same rows."""

    def rows(model):
        found = {}
        for event in cnnprobe.measure(command, **arguments(command, model)).events:
            if isinstance(event, Rows):
                found |= {(event.table, event.start, name): values for name, values in event.columns.items()}
        return found

    training, judging = rows(handed_over()[0]), rows(handed_over()[0].eval())
    assert training.keys() == judging.keys()
    for key, values in training.items():
        assert np.array_equal(values, judging[key], equal_nan=values.dtype.kind == "f"), key
