"""A layer, and where it is read."""

from dataclasses import replace

import pytest

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.layer import Tap
from tests.support.networks import planted


@pytest.mark.parametrize(
    "tap, words",
    [
        (Tap("features.1"), "features.1"),
        (Tap("relu", 1), "relu (call 2)"),
        (Tap("rnn", part=0), "rnn[0]"),
        (Tap("", function="relu"), "relu()"),
        (Tap("block", 1, "relu_", nth=1), "block: relu_() 2 (call 2)"),
        (Tap(""), "the output"),
    ],
)
def test_a_tap_says_where_it_reads(tap, words):
    assert str(tap) == words


def test_a_name_in_a_store_and_of_a_file_is_no_path():
    (layer,) = find(planted.grey(), "conv1", (1, 9, 20))
    assert replace(layer, name="VISp2/3").group == "VISp23"
    assert replace(layer, name="a\\b\x1b/..#2").group == "ab..#2"


def test_a_store_is_told_the_module_the_map_and_the_field():
    (layer,) = find(planted.grey(), "conv1", (1, 9, 20))
    attributes = layer.attributes
    assert (attributes["module"], attributes["layer"], attributes["map_size"]) == ("0", "conv1", [7, 10])
    assert [attributes[f"field_{name}"] for name in ("size", "stride", "start")] == [[3, 5], [1, 2], [0, -2]]
