"""What each operation does is told by itself on a grid, whatever it is called."""

import pytest
import torch
import torch.nn.functional as F

from cnnprobe.instruments.gradients.nonlinearities import plan_of, profile
from cnnprobe.instruments.layers.naming import find
from tests.support.networks.rectifying import NONE, WAYS, Net


def below(way, layer="conv2#1", size=(3, 6, 6)):
    model = Net(way)
    return plan_of(model, find(model, layer, size), size)


@pytest.mark.parametrize("name", WAYS)
def test_every_spelling_of_a_rectifier_is_one(name):
    """F87."""
    plan = below(WAYS[name])
    assert plan.strange == []
    assert plan.counts == {"ReLU6" if name in ("relu6", "hardtanh", "clamp to 1") else "ReLU": 1}


@pytest.mark.parametrize("name", NONE)
def test_every_other_nonlinearity_is_named(name):
    """F87."""
    assert below(NONE[name]).strange == [name.partition(",")[0]]


LINEAR = {
    "scaled": lambda z: 3 * z - 1,
    "flipped": lambda z: z.flip(-1).roll(1, 2),
    "two ways": lambda z: F.relu(z) - F.relu(-z),
    "half": lambda z: z.half().float(),
    "dropout": lambda z: F.dropout(z, 0.5, training=False),
    "other positions": lambda z: z.flatten(2).softmax(2).unflatten(2, (6, 6)),
    "norm": lambda z: F.layer_norm(z, z.shape[1:]),
    "largest": lambda z: F.max_pool2d(z, 3, 1, 1) + z.amax((2, 3), keepdim=True),
    "attention": lambda z: F.scaled_dot_product_attention(z, z, z),
    "a constant mask": lambda z: z * (torch.arange(6) > 2),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_or_mixes_positions_is_none(name):
    """F87: of relu(z) - relu(-z) the sum is z."""
    assert below(LINEAR[name]).counts == {}


def test_rectifiers_are_found_between_what_is_linear():
    """F87: behind a shift, a change of sign, a sum of two paths, in a join of both signs, twice in one network."""
    assert below(lambda z: F.relu(z - 1) * -2).counts == {"ReLU": 1}
    assert below(lambda z: torch.cat([F.relu(z), F.relu(-z)], 1)[:, 2:6]).counts == {"ReLU": 2}
    assert below(lambda z: z + F.relu(z)).counts == {"ReLU": 1}
    assert below(lambda z: torch.tanh(F.relu(z))).counts == {"ReLU": 1, "tanh": 1}
    assert below(lambda z: F.relu(z), "logits").counts == {"ReLU": 2}


def test_a_function_of_numbers_is_told_from_one_of_places():
    """F87: a slope for each channel, a mean over all, a table of few numbers."""
    assert profile(lambda z: F.prelu(z, torch.linspace(0, 1, 4)), (1, 4, 5, 5))[0] is None
    assert profile(lambda z: z / z.sum(), (1, 4, 5, 5))[0] is None
    assert profile(lambda z: 2.5 * z.clamp(min=0), (1, 3)) == ("ReLU", 2.5)
    assert profile(lambda z: z.clamp(0, 3), (1, 2))[0] == "ReLU6"
    assert profile(lambda z: -z.clamp(min=0), (1, 40))[0] == "other"
    assert profile(lambda z: z.log(), (1, 40))[0] == "other"
    assert profile(lambda z: F.softplus(z, 20), (1, 40))[0] == "other"
