"""Modules and connections of a recurrence, which the network takes out itself."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe as package
from cnnprobe.errors import UserError
from cnnprobe.methods.lesion.parts import layers_and_parts
from tests.datasets.test_grasps import objects
from tests.models.test_grasp import network
from tests.support.networks.detectors import coloured, measured

SMALL = {"units": 10, "features": 4, "between": 0.2, "step": 0.05}


@pytest.fixture(scope="module")
def dataset():
    return objects(count=12, step=0.05)


def test_names_stand_for_layers_and_then_for_parts():
    model = network(**SMALL)
    found = layers_and_parts(model, ["AIP-F5", "features", "M1", "AIP"], (3, 32, 32))
    assert [(one.name, one.channels, one.kind) for one in found] == [
        ("features", 4, "linear"), ("AIP-F5", 20, "part"), ("M1", 10, "part"), ("AIP", 10, "part")
    ]  # fmt: skip
    assert [one.name for one in layers_and_parts(model, "*-*", (3, 32, 32))] == ["AIP-F5", "F5-M1", "F5-AIP", "M1-F5"]
    with pytest.raises(UserError, match=r"no layer 'AIP-M1' .*; parts: AIP, F5, M1, AIP-F5, F5-M1, F5-AIP, M1-F5"):
        layers_and_parts(model, "AIP-M1", (3, 32, 32))


def test_without_the_way_from_aip_all_objects_are_answered_alike_bit_for_bit(dataset):
    rows = measured(network(**SMALL), dataset, layer=["AIP-F5", "M1-F5"], batch_size=12)
    lesioned, intact = rows["courses", "lesioned"], rows["courses", "intact"]
    assert (lesioned[:, 0] == lesioned[:1, 0]).all()
    assert (intact != intact[:1]).any() and (lesioned[:, 1] != lesioned[:1, 1]).any()


def test_without_m1_the_answer_is_the_bias_of_the_readout(dataset):
    model = network(**SMALL)
    nn.init.normal_(model.readout.bias)
    rows = measured(model, dataset, layer="M1")
    expected = model.readout.bias.detach().numpy()[:, None]
    assert (rows["courses", "lesioned"] == expected).all()


def test_a_lesion_of_nothing_changes_no_bit_and_the_network_is_given_back(dataset):
    model = network(**SMALL)
    before = {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    rows = measured(model, dataset, layer=["AIP", "F5-M1"], share=[0, 0.5, 1], draws=2)
    nothing = rows["lesions", "share"] == 0
    assert nothing.sum() == 2 and (rows["lesions", "unexplained"][nothing] == 0).all()
    assert (rows["courses", "lesioned"][:, nothing] == rows["courses", "intact"][:, None]).all()
    assert (rows["lesions", "unexplained"][~nothing] > 0).all()
    after = dict([*model.named_parameters(), *model.named_buffers()])
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_units_and_connections_are_those_set_to_0_by_hand(dataset):
    """Unit 3 of AIP: its rate reaches nobody; connection 5 of F5 to M1: that weight is 0."""
    model, pixels = network(**SMALL), dataset.load(range(12))[0]
    rows = measured(model, dataset, layer=["AIP", "F5-M1"], units=[3, 5], batch_size=12)
    with torch.no_grad():
        for area in model.areas:
            if hasattr(area, "from_AIP"):
                area.from_AIP[area.places_AIP % 10 == 3] = area.from_AIP[area.places_AIP % 10 == 3].zero_()
                area.from_AIP[area.places_AIP % 10 == 5] = 0
        model.AIP.within[:, [3, 5]] = 0
        expected = model(pixels)
    torch.testing.assert_close(torch.from_numpy(rows["courses", "lesioned"][:, 0]), expected[:6], rtol=1e-5, atol=1e-6)
    other = network(**SMALL)
    with torch.no_grad():
        other.M1.from_F5[[3, 5]] = 0
        expected = other(pixels)
    torch.testing.assert_close(torch.from_numpy(rows["courses", "lesioned"][:, 1]), expected[:6], rtol=1e-5, atol=1e-6)


class Declared(nn.Module):
    """Classes of an image by a recurrence of three steps, in which unit k stands for class k."""

    def __init__(self, lesions=None):
        super().__init__()
        self.register_buffer("spared", torch.ones(4), persistent=False)
        self.register_buffer("halves", torch.full((4,), 0.5))
        self.cnnprobe = package.About(lesions={"memory": "spared"} if lesions is None else lesions)

    def forward(self, given):
        seen = given.mean((2, 3))
        x = seen
        for _ in range(3):
            x = (0.5 * x + seen) * self.spared
        return x


def test_a_network_of_ones_own_declares_parts_and_loses_classes_with_them():
    rows = measured(Declared().eval(), coloured(), layer="memory", units="each")
    assert rows["lesions", "how"].tolist() == ["zero"] * 4
    np.testing.assert_allclose(rows["lesions", "class_after"], 1 - np.eye(4))
    np.testing.assert_allclose(rows["lesions", "difference"], -0.25)


@pytest.mark.parametrize(
    ("lesions", "options", "words"),
    [
        (None, {"how": "swap"}, "how=swap needs a layer of a single pass; memory acts at every step of a recurrence"),
        (None, {"how": ["mean", "zero"]}, "how=mean needs a layer of a single pass"),
        (None, {"units": "best:2", "localizer": "0>1"}, "localizer=0>1 compares responses, memory is a part"),
        (None, {"units": [4]}, "memory has units 0 to 3, got 4"),
        ({"memory": "lost"}, {}, "'memory' is lost, and the network has no buffer of that name"),
        ({"memory": "halves"}, {}, "'memory' is halves, which is no row of ones"),
    ],
)
def test_what_cannot_be_is_refused(lesions, options, words):
    with pytest.raises(UserError, match=words):
        measured(Declared(lesions).eval(), coloured(), **{"layer": "memory"} | options)
