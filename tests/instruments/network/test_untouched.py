"""A network comes back from probing as it went in."""

import pytest
import torch
from torch import nn

from cnnprobe.instruments.network.untouched import untouched
from tests.support.networks import planted


@pytest.fixture
def model():
    """A network with everything that probing could disturb: gradients, mixed modes, a frozen part, the user's hooks."""
    model = planted.Block().train()
    model.bn2.eval()
    model.conv2.weight.requires_grad_(False)
    model.conv1.register_forward_hook(lambda *_: None)
    model.register_forward_pre_hook(lambda *_: None)
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    return model


def state(model):
    tensors = {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    parameters = [
        (id(p), p.requires_grad, id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()
    ]
    modules = [
        (id(m), m.training, list(m._modules.items()), list(m._forward_hooks.items()), list(m._backward_hooks.items()),
         list(m._forward_pre_hooks.items()))
        for m in model.modules()
    ]  # fmt: skip
    return tensors, parameters, modules


def assert_same(before, after):
    assert before[2] == after[2]
    for (name, (identity, values)), (other, (other_identity, others)) in zip(before[0].items(), after[0].items()):
        assert (name, identity) == (other, other_identity) and torch.equal(values, others)
    for old, new in zip(before[1], after[1]):
        assert old[:3] == new[:3] and (old[3] is None or torch.equal(old[3], new[3]))


def disturb(model):
    """Do what must not be left behind."""
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.conv1.register_forward_pre_hook(lambda *_: None)
    model.bn1.running_mean.add_(1)
    model.bn1.num_batches_tracked.add_(3)
    model.bn2.running_var = torch.zeros(3)
    model.relu = nn.Identity()
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    model.conv1.weight.grad = torch.zeros(3, 3, 3, 3)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_everything_is_put_back(model, error):
    for parameter in model.parameters():
        parameter.grad = None  # what backward adds to is the method's own mistake: it needs gradients it never has
    before = state(model)
    try:
        with untouched(model):
            disturb(model)
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        assert error
    assert_same(before, state(model))


def test_gradients_of_the_parameters_survive_gradients_at_the_input(model):
    before = state(model)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with untouched(model):
        model(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert_same(before, state(model))


def test_train_of_the_network_is_not_called():
    class Own(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("called")

    with untouched(Own(2, 2)) as model:
        assert not model.training
    assert model.training


class Remembers(nn.Module):
    """A network that keeps what it sees: a number, a list, a dictionary, a set, a new attribute."""

    def __init__(self):
        super().__init__()
        self.seen, self.sides, self.by_side, self.different, self.frozen = 0, [1], {1: 2}, {3}, (4,)

    def forward(self, x):
        self.seen += len(x)
        self.sides.append(x.shape[-1])
        self.by_side[x.shape[-1]] = x
        self.different.add(x.shape[-1])
        self.frozen += (5,)
        self.last = x
        return x


def test_what_a_forward_keeps_is_taken_from_it():
    """F84: attributes are the same objects with the same items; those that are new are gone."""
    model = Remembers()
    before = {name: (value, repr(value)) for name, value in vars(model).items()}
    with untouched(model):
        model(torch.zeros(2, 3, 8, 8))
        assert model.seen == 2 and len(model.sides) == 2
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value and repr(value) == words for name, (value, words) in before.items())
