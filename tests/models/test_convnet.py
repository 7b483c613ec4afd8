"""The network of the first lesson: its sizes, and that both ways of writing it are one network."""

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.models import convnet


def network(written="class", input_size=32, classes=10):
    return convnet.build(num_classes=classes, written=written, input_size=input_size)


def test_both_styles_give_the_same_bits():
    one, other = network("class"), network("sequential")
    other.load_state_dict(dict(zip(other.state_dict(), one.state_dict().values(), strict=True)))
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(one(images), other(images))


@pytest.mark.parametrize("written", ["class", "sequential"])
def test_sizes_are_3_5_5_8_8_2048_128_10(written):
    shapes = [tuple(value.shape[:2]) for name, value in network(written).state_dict().items() if "weight" in name]
    assert shapes == [(5, 3), (5, 5), (8, 5), (8, 8), (128, 2048), (10, 128)]


def test_the_first_dense_layer_follows_the_input():
    assert network(input_size=64).fc1.in_features == 8 * 32 * 32
    with torch.no_grad():
        assert network(input_size=64, classes=3)(torch.rand(2, 3, 64, 64)).shape == (2, 3)


def test_ten_classes_unless_told_and_eval_mode():
    model = network(classes=None)
    assert model.fc2.out_features == 10
    assert not model.training


def test_odd_sides_are_refused():
    with pytest.raises(UserError, match=r"input_size must be even for convnet .* got 31"):
        network(input_size=31)


def test_needs_is_what_was_asked():
    needs = convnet.needs(written="class", input_size=64)
    assert (needs.channels, needs.size, needs.resize) == (3, 64, 64)
