"""What probing promises: every method gives a network back exactly as it was handed over (F59)."""

import pytest
import torch

from tests.support.calling import Network, called, joined, same_rows
from tests.support.described import taking
from tests.support.device import ASKED


def handed_over():
    """Return a network in train mode, but for one part, with gradients and a hook of its owner."""
    torch.manual_seed(0)
    model = Network()
    model.drop.eval()
    model.to(ASKED or "cpu")
    model(torch.rand(4, 3, 32, 32).to(ASKED or "cpu")).sum().backward()
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


@pytest.mark.parametrize("command", taking("test_a_network_comes_back_as_it_was"))
def test_a_network_comes_back_as_it_was(command):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    assert list(called(command, model))
    same(before, state_of(model))


@pytest.mark.parametrize("command", taking("test_also_after_an_error_or_an_interrupt_inside"))
@pytest.mark.parametrize("error", [RuntimeError("planted"), KeyboardInterrupt()])
def test_also_after_an_error_or_an_interrupt_inside(command, error):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    measurement = called(command, model)
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


@pytest.mark.parametrize("command", taking("test_also_when_the_reader_stops_half_way"))
def test_also_when_the_reader_stops_half_way(command):
    """F59."""
    model, _ = handed_over()
    before = state_of(model)
    measurement = called(command, model)
    next(iter(measurement.events))
    measurement.close()
    same(before, state_of(model))


@pytest.mark.parametrize("command", taking("test_a_network_in_train_mode_is_probed_as_in_eval_mode"))
def test_a_network_in_train_mode_is_probed_as_in_eval_mode(command):
    """Dropout off, running statistics of BatchNorm: the same rows."""
    training, judging = (joined(called(command, model)) for model in (handed_over()[0], handed_over()[0].eval()))
    same_rows(training, judging)
