"""The copy with which a network is compared: it stays as it was, or one line says why there is none."""

import threading

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.methods.transfer.as_it_came import as_it_came

SIZE = (3, 8, 8)


def network():
    torch.manual_seed(0)
    first = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def test_it_stays_what_it_was():
    """F99."""
    model, images = network(), torch.rand(2, *SIZE)
    model.lock = threading.Lock()
    before = model(images).detach()
    made = as_it_came(model, SIZE)
    with torch.no_grad():
        model[0].weight_orig[0] += 1
        model[4].weight.mul_(2)
    assert torch.equal(made(images), before) and not torch.equal(model(images), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["forward", "hook"])
def test_a_copy_that_computes_with_the_network_itself_is_refused(kind):
    """F99: nothing was forgotten, whatever was learned."""
    model = network()
    if kind == "forward":
        inner = nn.Sequential(*model)
        model.forward = lambda images: inner(images)
    else:
        model[1].register_forward_hook(lambda module, given, output: output + model[4].bias.sum())
    with pytest.raises(UserError, match=r"cannot be copied: a function in it reads .* forgetting=none does without"):
        as_it_came(model, SIZE)


def test_what_cannot_be_copied_is_told_with_the_way_out():
    """F99: it was a traceback."""

    class Uncopied:
        def __init__(self, inside):
            self.inside = inside

        def __reduce_ex__(self, version):
            raise TypeError("cannot pickle this")

    model = network()
    model.own = Uncopied(model)
    with pytest.raises(UserError, match=r"^the network cannot be copied: cannot pickle this; forgetting=none does"):
        as_it_came(model, SIZE)
