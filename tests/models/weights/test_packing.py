"""Weights without the taps that do not exist, and back."""

import pytest
import torch
from torch import nn

from cnnprobe.models import mousenet
from cnnprobe.models.weights.packing import packed, unpacked
from cnnprobe.preparation import weights

OPTIONS = {
    "variant": "mousenet64",
    "readout": "pool4",
    "mask": "per_channel",
    "mask_seed": 3,
    "input_size": 16,
    "upsample_to": None,
}


def network(seed, **options):
    torch.manual_seed(seed)
    return mousenet.build(**{"num_classes": 4} | OPTIONS | options)


def test_packed_weights_are_small_and_come_back_whole():
    model = network(0)
    state = model.state_dict()
    small = packed(state)
    taps = sum(int(value.sum()) for name, value in state.items() if name.endswith(".mask"))
    assert sum(value.numel() for name, value in small.items() if name.endswith("weight") and "conv" in name) == taps
    assert 0 < taps < 0.06 * sum(value.numel() for name, value in state.items() if name.endswith(".mask"))
    other = network(1)
    weights.fit(other, small, "packed", "mousenet")
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_the_number_of_classes_is_found_in_packed_weights():
    assert weights.classes_in(packed(network(0).state_dict()), network(1, num_classes=7)) == 4


def test_a_network_without_masks_is_packed_as_it_is():
    state = nn.Conv2d(2, 3, 5).state_dict()
    small = packed(state)
    assert small.keys() == state.keys()
    assert all(torch.equal(small[name], state[name]) for name in state)
    assert unpacked(small, state).keys() == state.keys()


def test_weights_with_other_masks_do_not_fit():
    """Their numbers of taps differ, so that the vectors stay vectors, which no kernel takes."""
    with pytest.raises(weights.UserError, match=r"of another shape \(first conv\.conv1\.weight"):
        weights.fit(network(0, mask_seed=4), packed(network(0).state_dict()), "packed", "mousenet")


def test_a_tap_that_does_not_exist_may_not_have_a_value():
    state = network(0).state_dict()
    state["conv.conv1.weight"] += 1
    with pytest.raises(ValueError, match=r"conv\.conv1\.weight has values where its mask has none"):
        packed(state)
