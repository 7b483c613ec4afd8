"""Weights are recognised by the names and shapes of their tensors."""

import pytest
import torch

from cnnprobe.models import resnet
from cnnprobe.preparation import likeness


@pytest.fixture(scope="module")
def state():
    with torch.device("meta"):
        return resnet.build(num_classes=7, depth=34, input_size=None).state_dict()


def test_a_network_is_recognised_with_another_number_of_classes(state):
    assert likeness.nearest(state) == "resnet34"


@pytest.mark.slow
def test_a_part_of_a_network_and_strangers_are_not(state):
    assert likeness.nearest(dict(list(state.items())[:50])) is None
    assert likeness.nearest({"a": torch.ones(1)}) is None


def test_the_network_itself_is_no_answer(state):
    assert likeness.nearest(state, other_than="resnet34") is None
