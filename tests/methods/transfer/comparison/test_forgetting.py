"""Two networks compared: unchanged, with units in another order, and with units that were overwritten on purpose."""

import copy
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.layers.naming import find
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison import forgetting
from cnnprobe.methods.transfer.comparison.forgetting import Forgetting
from cnnprobe.store.tables import Advance, Phase, Rows
from tests.support.images.blobs import Blobs


class Noise(ImageSet):
    """Images of independent pixels, in two classes."""

    in_memory = True

    def __init__(self, count, size=(3, 12, 12), seed=0):
        self.pixels = torch.rand(count, *size, generator=torch.Generator().manual_seed(seed))
        names = [f"noise {number}" for number in range(count)]
        super().__init__(
            name="noise", names=names, labels=np.arange(count) % 2, classes=["a", "b"], size=size, source_size=size
        )

    def load_source(self, indices):
        return self.pixels[torch.as_tensor(np.asarray(indices))], np.ones(len(indices), bool)


def network(units=24):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, units, 3), nn.BatchNorm2d(units), nn.ReLU(), nn.Conv2d(units, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    with torch.no_grad():
        model[0].weight -= model[0].weight.mean((1, 2, 3), keepdim=True)  # not one and the same answer to brightness
    return model


def compared(before, after, images, names=("conv1", "conv2"), batch_size=16, seed=0, **changes):
    given = {"units": "all", "computation": Computation(batch_size=batch_size, seed=seed), "k": 4, "most_changed": 0}
    return Forgetting(before, after, find(before, list(names), images.size), images, **given | changes)


def rows_of(comparison, finished=None):
    """Run it; return the columns by table, checked against the layout."""
    tables = {table.name: table for table in comparison.tables()}
    columns = defaultdict(dict)
    for event in comparison.events(finished or {}):
        if isinstance(event, Rows):
            table = tables[event.table]
            assert event.start % table.batch == 0 and len(event) == min(table.batch, table.rows - event.start)
            written = {name: column for name, column in table.columns.items() if column.values is None}
            assert set(event.columns) == set(written)
            for name, values in event.columns.items():
                assert values.shape[1:] == written[name].shape, name
                assert np.dtype(values.dtype) == np.dtype(written[name].dtype), name
                whole = columns[event.table].setdefault(name, [])
                whole.append(values)
    return {table: {name: np.concatenate(parts) for name, parts in own.items()} for table, own in columns.items()}


def test_a_network_that_did_not_change_forgot_nothing():
    model = network()
    found = rows_of(compared(model, copy.deepcopy(model), Noise(40)))
    layers = found["layers"]
    np.testing.assert_allclose(layers["cka"], 1, atol=1e-9)
    np.testing.assert_allclose(layers["rdm_drift"], 0, atol=1e-9)
    assert layers["forgotten"].tolist() == [0, 0] and layers["compared"].tolist() == [40, 40]
    for name in ("conv1", "conv2"):
        units = found[f"forgetting/{name}"]
        living = ~units["dead_before"]
        assert living.sum() > 3
        np.testing.assert_allclose(units["correlation"][living], 1, atol=1e-9)
        np.testing.assert_array_equal(units["overlap"][living], 1)
        np.testing.assert_array_equal(units["weight_change"], 0)
        np.testing.assert_array_equal(units["class_before"], units["class_after"])


def test_units_in_another_order_are_seen_by_units_and_not_by_layers():
    """A cyclic order: no unit keeps its number."""
    before = network()
    after = copy.deepcopy(before)
    order = torch.arange(24).roll(1)
    with torch.no_grad():
        for parameter in (after[0].weight, after[0].bias, after[1].weight, after[1].bias):
            parameter.copy_(parameter[order].clone())
        after[3].weight.copy_(after[3].weight[:, order].clone())
    images, k = Noise(200), 20
    found = rows_of(compared(before, after, images, k=k))
    np.testing.assert_allclose(found["layers"]["cka"], 1, atol=1e-6)
    np.testing.assert_allclose(found["layers"]["rdm_drift"], 0, atol=1e-6)
    moved, kept = found["forgetting/conv1"], found["forgetting/conv2"]
    np.testing.assert_allclose(kept["correlation"][~kept["dead_before"]], 1, atol=1e-5)
    assert abs(np.mean(moved["correlation"])) < 0.1
    assert np.mean(moved["overlap"]) == pytest.approx(k / (2 * len(images) - k), abs=0.05)
    assert (moved["weight_change"] > 0.5).all()


def red_detector(weight):
    """Unit 0 answers the first colour, that of class 0 of the blobs; unit 1 the second; unit 2 nothing."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor([weight, 1.0, 0.0]))[:, :, None, None])
        model[0].bias.copy_(torch.tensor([-0.49, -0.49, -1]))  # darkest blobs of another class stay below
    return model


def overwritten(before):
    """Unit 0 reads the third colour now, the mark of another class."""
    after = copy.deepcopy(before)
    with torch.no_grad():
        after[0].weight[0, :, 0, 0] = torch.tensor([0.0, 0, 1])
    return after


def test_an_overwritten_detector_is_found(monkeypatch):
    monkeypatch.setattr(forgetting, "STEPS", 4)
    before = red_detector(1.0)
    after, images = overwritten(before), Blobs(36, 0)
    found = rows_of(compared(before, after, images, ["conv1"], most_changed=2))
    units = found["forgetting/conv1"]
    assert units["class_before"][:2].tolist() == [0, 1] and units["class_after"][:2].tolist() == [2, 1]
    assert (units["selectivity_before"][:2] > 0.8).all()
    assert units["forgotten"].tolist() == [True, False, False]
    assert units["overlap"][:2].tolist() == [0, 1]
    assert units["weight_change"][0] == pytest.approx(2**0.5) and np.isnan(units["weight_change"][2])
    assert units["dead_before"].tolist() == [False, False, True] and np.isnan(units["correlation"][2])
    assert found["layers"]["forgotten"].tolist() == [1]
    top = images.labels[units["image_before"][:2]]
    assert (top == [[0], [1]]).all()
    changed = found["changed"]
    assert units["changed"].tolist() == [True, False, False]
    assert changed["unit"].tolist() == [0, -1] and changed["layer"].tolist() == [0, -1]  # no other one changed
    assert changed["forgotten"].tolist() == [True, False]
    assert changed["image_after"][0].tolist() == units["image_after"][0].tolist()
    pixels = images.load(units["image_before"][0])[0].numpy()
    np.testing.assert_array_equal(changed["picture_before"][0], pixels)


def test_a_unit_that_fell_silent_is_among_the_changed(monkeypatch):
    monkeypatch.setattr(forgetting, "STEPS", 2)
    before = red_detector(1.0)
    after = copy.deepcopy(before)
    with torch.no_grad():
        after[0].bias[1] = -5
        after[0].weight[0] *= 0.9
        after[0].bias[2] = 1  # speaks now, but did not before
    found = rows_of(compared(before, after, Blobs(36, 0), ["conv1"], most_changed=3))
    assert found["changed"]["unit"].tolist() == [1, 0, -1]
    assert found["changed"]["forgotten"].tolist() == [True, False, False]
    assert np.isnan(found["changed"]["correlation"][0])
    assert (found["changed"]["image_after"][0] == -1).all() and (found["changed"]["picture_after"][0] == 255).all()
    assert (found["changed"]["picture_before"][2] == 255).all()


def test_it_goes_on_where_it_was_stopped(monkeypatch):
    monkeypatch.setattr(forgetting, "STEPS", 2)
    before = network()
    after, images = copy.deepcopy(before), Noise(24)
    with torch.no_grad():
        after[0].weight.add_(torch.randn(after[0].weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    whole = rows_of(compared(before, after, images, most_changed=2))
    part = rows_of(compared(before, after, images, most_changed=2), {"forgetting/conv1": {0}, "layers": {0}})
    assert set(part) == {"forgetting/conv2", "layers", "changed"}
    for name in ("forgetting/conv2", "changed"):
        for column, values in part[name].items():
            np.testing.assert_array_equal(values, whole[name][column])
    np.testing.assert_array_equal(part["layers"]["cka"], whole["layers"]["cka"][1:])
    done = {"forgetting/conv1": {0}, "forgetting/conv2": {0}, "layers": {0, 1}, "changed": {0}}
    assert list(compared(before, after, images, most_changed=2).events(done)) == []


def test_both_networks_are_given_back_and_batches_do_not_matter():
    before, after = network(), network()
    before.train()
    with torch.no_grad():
        after[0].weight.mul_(-1)
    states = [copy.deepcopy(model.state_dict()) for model in (before, after)]
    one = rows_of(compared(before, after, Noise(30)))
    other = rows_of(compared(before, after, Noise(30), batch_size=7))
    for model, state in zip((before, after), states):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert before.training and before[1].training
    for table in one:
        for name, values in one[table].items():
            np.testing.assert_allclose(values, other[table][name], atol=1e-5, err_msg=f"{table} {name}")


def test_some_units_only():
    model = network()
    some = rows_of(compared(model, network(), Noise(20), units=[5, 2]))
    every = rows_of(compared(model, network(), Noise(20)))
    for name, values in some["forgetting/conv1"].items():
        np.testing.assert_array_equal(values, every["forgetting/conv1"][name][[5, 2]])


def test_layers_are_compared_on_some_of_many_images(monkeypatch):
    monkeypatch.setattr(forgetting, "COMPARED", 12)
    found = rows_of(compared(network(), network(), Noise(30)))
    assert found["layers"]["compared"].tolist() == [12, 12]
    assert len(compared(network(), network(), Noise(30), seed=1).compared) == 12


def test_another_head_is_refused():
    before, after = network(), network()
    after[7] = nn.Linear(6, 2)
    with pytest.raises(ValueError, match="7 has 3 units before and 2 after"):
        compared(before, after, Noise(10), ["7"])


def test_progress_is_counted(monkeypatch):
    monkeypatch.setattr(forgetting, "STEPS", 3)
    events = list(compared(network(), network(), Noise(20), most_changed=2).events({}))
    phases = [event for event in events if isinstance(event, Phase)]
    assert [phase.name for phase in phases[:2]] == ["responses before", "responses after"]
    total, counted = sum(phase.total for phase in phases), sum(e.count for e in events if isinstance(e, Advance))
    assert counted == total
