"""Conditions by which trajectories are told apart."""

import numpy as np
import pytest
import torch

from cnnprobe.datasets import signals
from cnnprobe.datasets.base.given import Given
from cnnprobe.datasets.base.imageset import limited
from cnnprobe.errors import UserError
from cnnprobe.methods.record.conditions import conditions_of


def labelled(labels, classes):
    made = Given(torch.zeros(len(labels), 3, 4, 4))
    made.labels, made.classes = np.array(labels), classes
    return made


def test_classes_where_there_are_three_or_more_else_images():
    found = conditions_of(labelled([3, 0, -1, 3, 1], ("a", "b", "c", "d")), None)
    assert (found.of, found.names, found.groups.tolist()) == ("class", ("a", "b", "d"), [2, 0, -1, 2, 1])
    assert found.table().columns["images"].values.tolist() == [1, 1, 2]
    two = conditions_of(labelled([0, 1, 1], ("a", "b")), None)
    assert (two.of, two.names, two.groups.tolist()) == ("image", ("000000", "000001", "000002"), [0, 1, 2])
    assert conditions_of(labelled([0, 1, 1], ("a", "b")), "class").names == ("a", "b")


def test_a_factor_has_its_levels_in_their_order():
    made = signals.build(size=32, channels=4, rate=100.0, frequencies=[9.0, 20.0, 31.0], strength=1.0, spread=0.0,
                         slope=1.0, count=12, split="test", seed=0)  # fmt: skip
    part = limited(made, "first:7")
    found = conditions_of(part, "frequency")
    assert (found.of, found.names) == ("frequency", ("9", "20", "31"))
    assert found.groups.tolist() == part.labels.tolist()
    assert conditions_of(made, "channel").names == ("0", "2")  # counted round
    with pytest.raises(UserError, match=r"conditions must be class, image, or a factor: amplitude, channel, frequency, "
                       r"phase, got 'size'"):  # fmt: skip
        conditions_of(part, "size")


def test_what_a_dataset_does_not_know_is_refused():
    with pytest.raises(UserError, match=r"conditions must be class, image \(given knows no factors\), got 'size'"):
        conditions_of(Given(torch.zeros(3, 3, 4, 4)), "size")
    with pytest.raises(UserError, match="conditions=class needs images with classes, given has none; say image"):
        conditions_of(Given(torch.zeros(3, 3, 4, 4)), "class")


def test_of_many_there_are_some_evenly_spaced():
    found = conditions_of(Given(torch.zeros(298, 3, 2, 2)), None)
    assert len(found.names) == 100 and found.sample == "100 of 298 images, evenly spaced"
    assert found.names[:2] == ("000000", "000003") and found.names[-1] == "000297"
    assert found.groups[:5].tolist() == [0, -1, -1, 1, -1]
    assert found.table().attributes["sample"] == found.sample
