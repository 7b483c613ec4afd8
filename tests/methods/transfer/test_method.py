"""The subcommand: what it teaches, what it asks the old readout, what it keeps, and that a stop changes nothing."""

import copy
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import cnnprobe
from cnnprobe.config import catalogue
from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.readout import readout_of
from cnnprobe.methods.transfer import method as transfer
from cnnprobe.methods.transfer.comparison import forgetting
from cnnprobe.methods.transfer.label_fraction import label_fraction
from cnnprobe.plots.style import png
from cnnprobe.store.tables import Checkpoint, Rows
from tests.support.images.blobs import OPTIONS, Blobs, network

CONFIGS = Path(__file__).parents[3] / "configs"
OWN = {
    "mode": "full",
    "blocks": None,
    "stage_epochs": 1,
    "rates": None,
    "fraction": 1.0,
    "old_task": None,
    "forgetting": "none",
    "compared": 16,
    "top_images": 3,
    "most_changed": 0,
    "layer": None,
    "units": "all",
}
OLD = SimpleNamespace(run="train/net-blobs/v001", dataset=Blobs(24, 3))
OLD.dataset.fingerprint = "of the old images"


def measured(**changes):
    given = {"model": network(), "dataset": Blobs(33, 0, classes=2), "held_out": Blobs(20, 1, classes=2)}
    return cnnprobe.measure("transfer", **given | {"device": "cpu", "workers": 0} | OPTIONS | OWN | changes)


def taken(measurement):
    """Return the columns that were given, by table, without times, and the checkpoints by name."""
    tables = {
        t.name: {n: [] if c.values is None else [c.values] for n, c in t.columns.items()} for t in measurement.tables
    }
    kept, starts = {}, Counter()
    for event in measurement.events:
        if isinstance(event, Rows):
            starts[event.table, event.start] += 1
            for name, values in event.columns.items():
                tables[event.table][name].append(values)
        elif isinstance(event, Checkpoint):
            kept[event.name] = event
    assert set(starts.values()) <= {1}
    rows = {
        table: {name: np.concatenate(parts) for name, parts in columns.items() if parts}
        for table, columns in tables.items()
    }
    return rows, kept, starts


def same(one, other):
    assert one.keys() == other.keys()
    for table in one:
        assert one[table].keys() == other[table].keys(), table
        for name, values in one[table].items():
            where = f"{table}/{name}"
            if values.dtype == object:
                assert values.tolist() == other[table][name].tolist(), where
            else:
                assert np.array_equal(values, other[table][name], equal_nan=values.dtype.kind == "f"), where


@pytest.fixture(scope="module")
def whole():
    """A transfer with everything in it, fewer steps of ascent than usual: what `recording` makes of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forgetting, "STEPS", 4)
        yield recording(old_task=OLD, forgetting="auto", most_changed=1, layer=["conv1"], epochs=1)


def test_every_option_has_its_default_and_no_other_one():
    page = yaml.safe_load((CONFIGS / "method/transfer.yaml").read_text(encoding="utf-8"))
    options = set(catalogue.options_of("transfer"))
    assert set(page["method"]) - {"name"} == options - {"layer", "units"}
    assert set(page) == {"weights", "method", "layer", "units", "batch_size"}
    train = yaml.safe_load((CONFIGS / "method/train.yaml").read_text(encoding="utf-8"))
    assert {key: page["method"][key] for key in train["method"] if key != "name"} == {
        key: value for key, value in train["method"].items() if key != "name"
    }


def test_tables_are_known_before_and_filled_after(whole):
    every = {"epochs", "confusion", "blocks", "old_task", "discrimination/conv1", "forgetting/conv1", "layers"}
    assert set(whole) == every | {"changed"}
    for name, table in whole.items():
        for column, values in table.items():
            declared = table.declared.columns[column]
            assert values.shape == (table.declared.rows, *declared.shape), (name, column)
            assert values.dtype == np.dtype("object" if declared.dtype == "str" else declared.dtype), (name, column)
    assert json.loads(whole["old_task"].attributes["classes"]) == ["0", "1", "2"]
    assert json.loads(whole["confusion"].attributes["classes"]) == ["0", "1"]
    assert whole["layers"].attributes["images"] == 15  # the share of 16 in 24, of 3 classes of 8


def test_the_old_task_is_what_the_old_readout_says_on_the_body_of_each_epoch():
    rows, kept, _ = taken(measured(old_task=OLD, checkpoints="all", lr=0.5))
    images, labels = OLD.dataset.pixels.float() / 255, OLD.dataset.labels

    def answers(weights):
        whole = network()
        old = {f"6.{name}": value for name, value in kept["old_readout"].weights.items()}
        whole.load_state_dict({name: value for name, value in weights.items() if not name.startswith("6.")} | old)
        with torch.no_grad():
            return whole.eval()(images).argmax(1).numpy()

    with torch.no_grad():
        start = network()(images).argmax(1).numpy()
    assert np.array_equal(answers(kept["epoch=000"].weights), start)
    by_epoch = [answers(kept[f"epoch=00{epoch}"].weights) for epoch in (1, 2)]
    assert rows["epochs"]["source_accuracy"] == pytest.approx([(own == labels).mean() for own in by_epoch])
    for moment, own in enumerate((start, by_epoch[-1])):
        assert rows["old_task"]["accuracy"][moment] == (own == labels).mean()
        for label in range(3):
            assert rows["old_task"]["right"][moment, label] == (own[labels == label] == label).sum()
    assert rows["old_task"]["images"].tolist() == [[8, 8, 8]] * 2
    assert kept["old_readout"].about == {"module": "6", "num_classes": 3}


def test_without_an_old_task_its_accuracy_is_not_a_number():
    for changes in ({}, {"old_task": "auto"}, {"old_task": OLD, "mode": "scratch"}):
        rows, kept, _ = taken(measured(epochs=1, **changes))
        assert np.isnan(rows["epochs"]["source_accuracy"]).all()
        assert "old_task" not in rows
        assert ("old_readout" in kept) == ("mode" not in changes)


class Planted(ImageSet):
    """Images of 2 x 2 px whose 12 values are two Gaussian clouds, one a class, that overlap."""

    in_memory = True

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(count) % 2)
        apart = np.linspace(-0.05, 0.05, 12)
        values = 0.5 + 0.1 * rng.normal(size=(count, 12)) + np.where(labels[:, None] == 1, apart, -apart)
        self.values = torch.from_numpy(values.astype(np.float32)).view(count, 3, 2, 2)
        names = [str(number) for number in range(count)]
        super().__init__(name="planted", names=names, labels=labels, classes=("a", "b"), size=(3, 2, 2))
        self.source_size = self.size

    def fingerprint_of(self, indices):
        return "planted"

    def load_source(self, indices):
        return self.values[torch.as_tensor(indices)], np.ones(len(indices), bool)


def test_a_probe_reaches_what_the_closed_form_does():
    """7.T7: within 1 % of the ridge solution on the same planted features."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 2), nn.Flatten(), nn.BatchNorm1d(12, affine=False), nn.Linear(12, 4)).eval()
    with torch.no_grad():  # a turn of the 12 values, and statistics that suit them
        nn.init.orthogonal_(model[0].weight)
        model[2].running_mean.copy_(model[:2](torch.full((1, 3, 2, 2), 0.5))[0])
        model[2].running_var.fill_(0.1**2)
    train, held_out = Planted(1200, 0), Planted(3000, 1)
    with torch.no_grad():
        features = [model[:3](images.values).numpy() for images in (train, held_out)]
    ridge = linear_model.RidgeClassifier(alpha=1e-3).fit(features[0], train.labels)
    expected = ridge.score(features[1], held_out.labels)
    assert 0.8 < expected < 0.95
    rule = {"mode": "probe", "epochs": 6, "lr": 0.1, "weight_decay": 0.0, "augment": "none", "batch_size": 100}
    rows, _, _ = taken(measured(model=model, dataset=train, held_out=held_out, **rule))
    assert rows["epochs"]["val_accuracy"][-1] == pytest.approx(expected, abs=0.01)
    with torch.no_grad():
        assert np.array_equal(model[:3](held_out.values).numpy(), features[1])


@pytest.mark.parametrize("changes", [{"mode": "staged", "optimizer": "adamw", "lr": 0.01}, {"mode": "partial"}])
def test_stopped_after_any_batch_it_goes_on_to_the_same_bits(changes):
    """During learning, measuring, asking the old task, comparing; the network and all rows."""
    changes |= {"old_task": OLD, "forgetting": "auto", "layer": ["conv1"], "epochs": 2}
    model = network()
    whole, kept, starts = taken(measured(model=model, **changes))
    stops = 0
    for batches in (1, 3, 5, 7, 9, 12, 15):
        calls = iter(range(1000))
        before = measured(should_stop=lambda calls=calls, n=batches: next(calls) >= n, **changes)
        early, saved, done = taken(before)
        stops += done != starts
        finished = {}
        for table, start in done:
            finished.setdefault(table, set()).add(start)
        finished = {table: frozenset(rows) for table, rows in finished.items()}
        again = network()
        more = measured(
            model=again, state=saved["last"].resume if "last" in saved else None, finished=finished, **changes
        )
        late, _, others = taken(more)
        assert not set(done) & set(others)
        assert set(done) | set(others) == set(starts)
        joined = {}
        for table, columns in whole.items():
            joined[table] = {}
            for name, values in columns.items():
                parts = [part[table][name] for part in (early, late) if name in part[table]]
                joined[table][name] = parts[0] if len(parts[0]) == len(values) else np.concatenate(parts)
        same(whole, joined)
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), (batches, name)
    assert stops >= 5
    assert {"best", "last", "old_readout"} <= set(kept)


def test_what_learned_stands_in_the_store():
    made = measured(mode="staged", stage_epochs=1, blocks=0)
    tables = {table.name: table for table in made.tables}
    blocks = {name: column.values for name, column in tables["blocks"].columns.items()}
    assert blocks["modules"].tolist() == ["0 1", "6"]
    assert blocks["share"].tolist() == [[0, 0.1], [1, 1]]
    assert blocks["parameters"].tolist() == [6 * 27 + 6 + 12, 14]
    assert blocks["batch_norms"].tolist() == [1, 0]
    assert tables["blocks"].attributes == {"stage_epochs": 1}
    about = tables["epochs"].attributes
    assert (about["mode"], about["fraction"], about["trained"], about["readout"]) == ("staged", 1.0, 1.0, "6")
    probe = next(table for table in measured(mode="probe").tables if table.name == "epochs")
    assert probe.attributes["trained"] == pytest.approx(14 / 194)


def test_only_the_chosen_labels_are_learned():
    """Images that are not chosen are pure noise that would kill the network, were they shown."""
    data = Blobs(60, 0, classes=2)
    chosen = label_fraction(data.labels, 0.2, 0)
    assert len(chosen) == 12
    spoiled = copy.copy(data)
    spoiled.pixels = data.pixels.clone()
    spoiled.pixels[np.setdiff1d(np.arange(60), chosen)] = 255
    (one, _, _), (other, _, _) = (taken(measured(dataset=images, fraction=0.2)) for images in (data, spoiled))
    same(one, other)
    assert next(t for t in measured(fraction=0.2).tables if t.name == "epochs").attributes["images"] == 6


def test_scratch_learns_the_network_as_it_comes():
    model = network(2)
    _, kept, _ = taken(measured(model=model, mode="scratch", epochs=1))
    assert all(torch.equal(kept["epoch=000"].weights[name], value) for name, value in network(2).state_dict().items())


def test_the_new_readout_is_drawn_from_the_seed():
    weights = [taken(measured(seed=seed, epochs=1))[1]["epoch=000"].weights for seed in (0, 0, 1)]
    assert torch.equal(weights[0]["6.weight"], weights[1]["6.weight"])
    assert not torch.equal(weights[0]["6.weight"], weights[2]["6.weight"])
    assert torch.equal(weights[0]["0.weight"], weights[2]["0.weight"])


def test_a_network_is_given_back_able_to_learn():
    model = network()
    model[0].bias.requires_grad_(False)
    expected = [parameter.requires_grad for parameter in model.parameters()]
    for stop in (None, 2):
        calls = iter(range(1000))
        taken(measured(model=model, mode="probe", should_stop=lambda: stop is not None and next(calls) >= stop))  # noqa: B023
        assert [parameter.requires_grad for parameter in model.parameters()] == expected
        assert not model.training
        assert readout_of(model, (3, 8, 8)).classes == 2


@pytest.mark.parametrize(("mode", "is_told"), [("full", True), ("scratch", True), ("probe", False)])
def test_what_is_taught_although_it_was_frozen_is_named(mode, is_told, caplog):
    model = network()
    model[0].requires_grad_(False)
    _, kept, _ = taken(measured(model=model, mode=mode, epochs=1))
    changed = not torch.equal(kept["epoch=001"].weights["0.weight"], kept["epoch=000"].weights["0.weight"])
    assert changed == is_told
    assert [text for text in caplog.messages if "frozen" in text] == (
        [f"0: frozen in the network as it is given; mode={mode} teaches them all the same"] if is_told else []
    )


class Pair(nn.Sequential):
    """A network that returns two tables (image, column)."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(192, 3))

    def forward(self, images):
        return super().forward(images), images.flatten(1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mode": "staged", "stage_epochs": 2}, "stage_epochs must be less than the 2 epochs of staged, got 2"),
        ({"mode": "partial", "blocks": 2}, "blocks must be at most 1 below the readout 6, got 2"),
        ({"forgetting": "old"}, "forgetting=old needs an old task; name a run by old_task=RUN"),
        ({"forgetting": "new", "layer": ["conv1", "logits"]}, "layer logits is the readout"),
        ({"forgetting": "new", "layer": "6"}, "layer 6 is the readout"),
        ({"rates": [0.0]}, "nothing would learn"),
        ({"model": nn.Sequential(nn.Conv2d(3, 3, 8, groups=3), nn.Flatten())}, "no readout to replace: 0 is a conv"),
        ({"model": Pair()}, "no readout to replace: the network returns a tuple of 2, of which it is not known"),
        (
            {"dataset": Blobs(9, 0, classes=1), "held_out": Blobs(9, 1, classes=1)},
            "needs 2 or more classes, blobs has 1",
        ),
        ({"old_task": SimpleNamespace(run="x", dataset=Blobs(9, 0, classes=4))}, "blobs has 4 classes, .* 6 has 3"),
    ],
)
def test_mistakes_come_before_anything_is_computed(changes, told):
    with pytest.raises(UserError, match=told):
        measured(**changes)


def test_all_layers_are_compared_but_the_readout():
    """F17."""
    model, size = network(), (3, 8, 8)
    every = {layer.name for layer in find(model, "all", size) if layer.module != "6"} - {"logits"}
    for words in ("all", ["all"]):
        assert {layer.name for layer in transfer.compared_layers(model, readout_of(model, size), words, size)} == every


@pytest.mark.parametrize(("label", "count"), [(-1, 1), (7, 2)])
def test_labels_out_of_range_are_told(label, count):
    """F42."""
    images = Blobs(12, 0, classes=2)
    images.labels[:count] = label
    with pytest.raises(UserError, match=f"{count} of the 12 training images of blobs have no class"):
        measured(dataset=images)


class Fake(dict):
    """What figures are given: arrays by name, and attributes."""

    def __init__(self, items, declared, rows):
        super().__init__(items)
        self.attributes, self.declared, self.rows = declared.attributes, declared, range(rows)
        self.row_count = declared.rows


class Recording(dict):
    """A store with all of its tables."""

    def in_order(self, under):
        return [self[name] for name in self if name.startswith(f"{under}/")]


def recording(**changes):
    measurement = measured(**changes)
    rows, _, starts = taken(measurement)
    made = Recording()
    for table in measurement.tables:
        gone = {name: np.zeros((0, *column.shape)) for name, column in table.columns.items()}
        there = any(name == table.name for name, _ in starts) or table.name == "blocks"
        columns = gone | rows[table.name] if there else gone
        made[table.name] = Fake(columns, table, table.rows if there else 0)
    made.attributes = {"model": "net", "dataset": "blobs"}
    return made


def test_the_headline_is_the_first_best_epoch_with_its_interval_and_the_old_task():
    made = recording(old_task=OLD)
    made["epochs"] |= {"val_accuracy": np.array([0.5, 0.8]), "source_accuracy": np.array([0.4, 0.3])}
    made["confusion"] |= {"matrix": np.array([[8, 2], [2, 8]])}
    made["old_task"] |= {"accuracy": np.array([0.9, 0.2])}
    found = transfer.headline(made)
    assert found["95 % low"] == pytest.approx(0.5634, abs=5e-5)  # 16 of 20, Clopper and Pearson's tables
    assert found["95 % high"] == pytest.approx(0.9427, abs=5e-5)
    rest = {key: value for key, value in found.items() if key not in ("95 % low", "95 % high")}
    assert rest == {"val_accuracy": 0.8, "at epoch": 2, "old task": 0.3, "old task before": 0.9}
    assert set(transfer.headline(recording())) == {"val_accuracy", "95 % low", "95 % high", "at epoch"}


def test_figures_of_a_finished_and_of_a_stopped_transfer(whole):
    drawn = [name for name, figure in transfer.draw(whole) if png(figure)]
    assert {"learning", "confusion", "forgetting", "selectivity", "overwritten", "changed_units"} <= set(drawn)
    given = {"old_task": OLD, "forgetting": "auto", "layer": ["conv1"], "most_changed": 1}
    stopped = recording(**given, should_stop=lambda: True)
    assert [name for name, figure in transfer.draw(stopped) if png(figure)] == []


def test_from_python_a_file_is_not_needed():
    given = {"model": network(), "dataset": Blobs(33, 0, classes=2), "held_out": Blobs(20, 1, classes=2)}
    plain = {"epochs": 1, "forgetting": "none", "precision": "float32"}
    rows = list(cnnprobe.measure("transfer", **given, **plain))
    assert [row.table for row in rows] == ["epochs", "confusion", "confusion"]
    rows = list(cnnprobe.measure("transfer", **given | {"model": network()}, **plain, old_task=OLD))
    assert [row.table for row in rows] == ["old_task", "epochs", "confusion", "confusion", "old_task"]
