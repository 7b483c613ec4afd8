"""What the rows of a layer stand for."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.optimize.targets import targets

GIVEN = {"position": None, "groups": None, "group_weights": None, "pooling": "mean", "direction": None, "control": {}}


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return find(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "conv1", (3, 8, 10))[0]


def named(layer, objective, units=(2, 0), classes=(), **given):
    climbed, ids, aside = targets(layer, np.array(units), objective, GIVEN | given, classes)
    assert climbed.rows == len(ids) == len(aside["name"].values)
    return climbed, ids.tolist(), list(aside["name"].values)


def test_rows_of_units_have_their_numbers_and_classes_their_names(layer):
    for objective in ("channel", "neuron", "contrast"):
        climbed, ids, names = named(layer, objective)
        assert (climbed.name, ids, names) == (objective, [2, 0], ["2", "0"])
    climbed, ids, names = named(layer, "class", classes=tuple("abcd"))
    assert (climbed.name, ids, names) == ("neuron", [2, 0], ["c", "a"])
    assert named(layer, "class", classes=("a", "b"))[2] == ["2", "0"]


def test_groups_and_directions_are_numbered(layer):
    climbed, ids, names = named(layer, "group", groups=[[0, 3], [1]], group_weights=[[1.0, -1.0], [2.0]])
    assert (ids, names) == ([0, 1], ["0 + 3", "1"])
    assert climbed.weights.tolist() == [[1, -1], [2, 0]]
    assert named(layer, "group")[2] == ["2 + 0"]
    assert named(layer, "direction", direction=[[1.0, 0, 0, 0], [0, 1.0, 0, 0]])[1:] == (
        [0, 1],
        ["direction 0", "direction 1"],
    )
    assert named(layer, "layer")[1:] == ([0], ["conv1"])


def test_directions_may_lie_in_a_file(layer, tmp_path):
    np.save(tmp_path / "d.npy", np.eye(3, 4))
    climbed, *_ = named(layer, "direction", direction=str(tmp_path / "d.npy"))
    np.testing.assert_array_equal(climbed.directions, np.eye(3, 4))
    np.save(tmp_path / "bad.npy", np.full(4, np.nan))
    with pytest.raises(UserError, match="direction must have 4 finite numbers, one per channel of conv1"):
        named(layer, "direction", direction=str(tmp_path / "bad.npy"))


@pytest.mark.parametrize(
    ("objective", "options", "told"),
    [
        ("channel", {"groups": [[0, 3]]}, "groups= belongs to objective=group, got objective=channel"),
        ("channel", {"direction": [1.0, 2.0]}, "direction= belongs to objective=direction"),
        ("channel", {"position": [1, 1]}, "position= belongs to objective=neuron"),
        ("class", {"pooling": "min"}, "pooling= belongs to objective=group"),
        ("group", {"groups": [[0, 1]], "group_weights": [[1.0, 9.0]], "pooling": "min"}, "weighted mean.*pooling=min"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(layer, objective, options, told):
    """F95: the images would be those without it."""
    with pytest.raises(UserError, match=told):
        named(layer, objective, **options)


def test_a_position_lies_on_the_map(layer):
    assert named(layer, "neuron", position=[5, 7])[0].position == (5, 7)
    for wrong in ([6, 0], [0, 8], [1]):
        with pytest.raises(UserError, match="is not on the map of conv1, which is 6 x 8"):
            named(layer, "neuron", position=wrong)
