"""A network at moments of its training: as it was then inside, as it came outside; when a feature was half there."""

import math
import threading
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.snapshots import Moment, at, copy_of, half_time
from tests.support.networks import planted


class Learner(planted.Block):
    """A network with everything that must come back: a frozen weight, gradients, a NaN, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(2), persistent=False)
        self.conv2.weight.requires_grad_(False)
        self.bn2.bias.data[0] = float("nan")
        self.train()
        self(torch.rand(2, 3, 8, 8)).nansum().backward()


def bits(model):
    """Return what every parameter and buffer is and holds, and every module's mode, gradient and children."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    held = [(name, id(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors]
    learning = [(p.requires_grad, None if p.grad is None else p.grad.numpy().tobytes()) for p in model.parameters()]
    return held, learning, [(name, id(module), module.training) for name, module in model.named_modules()]


def moment(seed):
    torch.manual_seed(seed)
    state = planted.Block().state_dict()
    return Moment(f"epoch={seed:03d}", float(seed), lambda: {name: value.clone() for name, value in state.items()})


def test_inside_the_network_is_that_of_the_moment():
    model, images = Learner(), torch.rand(2, 3, 8, 8)
    for seed in (1, 2):
        then = planted.Block().eval()
        then.load_state_dict(moment(seed).load())
        with at(model, moment(seed)) as given, torch.no_grad():
            assert given is model
            assert torch.equal(model(images), then(images))


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_network_is_given_back_bit_for_bit(error):
    model = Learner()
    before = bits(model)
    try:
        with at(model, moment(3)):
            model.train()(torch.rand(2, 3, 8, 8)).sum()  # BatchNorm writes its statistics
            model.conv1.weight.data.fill_(7)
            model.bn1.weight = nn.Parameter(torch.zeros(3))
            model.shift.zero_()
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        assert error
    assert bits(model) == before


def test_weights_that_do_not_fit_leave_the_network_as_it_was():
    model = Learner()
    before = bits(model)
    wrong = Moment("epoch=001", 1.0, lambda: moment(1).load() | {"bn2.running_var": torch.ones(9)})
    with pytest.raises(RuntimeError, match=r"bn2\.running_var"), at(model, wrong):
        raise AssertionError("never reached")
    assert bits(model) == before


def test_a_moment_is_read_when_it_is_asked_for_and_not_before():
    read = []
    late = Moment("last", math.nan, lambda: read.append("now") or moment(1).load())
    model = planted.Block()
    assert read == []
    for times in (1, 2):
        with at(model, late):
            assert len(read) == times


@pytest.mark.parametrize(
    ("epochs", "likeness", "expected"),
    [
        ([0, 1, 2, 3], [0, 0.25, 0.75, 1], 1.5),  # half way is 0.5, in the middle between the second and the third
        ([0, 4], [0.2, 1], 2),  # a straight line
        ([0, 1, 2, 8], [-1, -0.5, 0.5, 1], 1.5),  # from the opposite
        ([0, 1, 2], [0.5, 0.75, 1], 1),  # exactly there
        ([0, 1, 2, 3], [0, 0.6, 0.3, 1], 1 / 1.2),  # the first time counts
        ([0, math.nan, 2], [0, 0.9, 1], 1),  # a moment at an unknown epoch
        ([0, 1, 2], [0, math.nan, 1], 1),  # a moment without a feature
        ([0, 0.25, 1], [0, 1, 1], 0.125),  # within the first epoch
    ],
)
def test_half_time_is_where_a_line_crosses_half_of_the_way(epochs, likeness, expected):
    assert half_time(np.array(epochs), np.array(likeness)) == pytest.approx(expected)


@pytest.mark.parametrize("likeness", [[0, 0.1, 0.2], [1, 1, 1], [math.nan] * 3, [0.0]])
def test_there_is_no_half_time_where_there_was_no_way_or_it_was_never_half_made(likeness):
    assert math.isnan(half_time(np.arange(len(likeness)), np.array(likeness)))
    assert math.isnan(half_time(np.zeros(0), np.zeros(0)))


def test_moments_out_of_order_are_a_mistake():
    with pytest.raises(ValueError, match="in order of learning"):
        half_time(np.array([1, 0]), np.array([0, 1]))
    with pytest.raises(ValueError, match="moment"):
        half_time(np.array([0, 1]), np.array([0, 0.5, 1]))


class Odd(nn.Module):
    """Weights made of others; locks, which have no copy, by themselves, in a dictionary and in an object."""

    def __init__(self):
        super().__init__()
        self.one = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
        self.two, self.three = prune.random_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.5), nn.Linear(4, 2)
        self.lock, self.kept = threading.Lock(), {"lock": threading.Lock(), "seen": [torch.zeros(2)]}
        self.object = types.SimpleNamespace(lock=threading.Lock(), factor=torch.ones(()))
        self.made = 2 * self.three.bias

    def forward(self, x):
        with self.lock, self.kept["lock"]:
            return self.three(self.two(self.one(x)).relu().mean((2, 3))) * self.object.factor + self.made


def test_a_copy_answers_as_the_network_did_whatever_that_learns():
    """F99: what is computed from parameters, and a lock, ended transfer in a traceback."""
    torch.manual_seed(0)
    model, images = Odd().eval(), torch.rand(2, 3, 8, 8)
    before = model(images).detach().clone()
    made = copy_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
        model.object.factor.fill_(7)
        model.kept["seen"][0].fill_(7)
    assert torch.equal(made(images), before)
    assert not torch.equal(model(images), before)
    assert made.kept["seen"][0].tolist() == [0, 0]
    assert made.lock is model.lock and type(made) is Odd
    assert not {id(p) for p in made.parameters()} & {id(p) for p in model.parameters()}


def test_what_has_no_copy_is_told_in_one_line():
    class Uncopied:
        def __init__(self, inside):
            self.inside = inside

        def __deepcopy__(self, memo):
            raise RuntimeError("not\nthis one")

    model = nn.Sequential(nn.Linear(2, 2))
    model.own = Uncopied(model[0])
    with pytest.raises(UserError, match=r"^the network cannot be copied: not this one$"):
        copy_of(model)
