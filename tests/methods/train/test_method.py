"""The subcommand: its options, its tables, its figures, and that it leaves nothing to guess."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import cnnprobe
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from cnnprobe.methods.train import method as train
from cnnprobe.plots.style import png
from cnnprobe.store.tables import Checkpoint, Rows
from tests.support.images.blobs import OPTIONS, Blobs, network

CONFIGS = Path(__file__).parents[3] / "configs"


def measured(**changes):
    given = {"model": network(), "dataset": Blobs(33, 0), "held_out": Blobs(20, 1), "device": "cpu", "workers": 0}
    return cnnprobe.measure("train", **given | OPTIONS | changes)


def options_of(path):
    return yaml.safe_load((CONFIGS / path).read_text(encoding="utf-8"))


def test_every_option_has_its_default_and_no_other_one():
    page = options_of("method/train.yaml")
    options = set(catalogue.options_of("train"))
    assert set(page["method"]) - {"name"} == options
    assert page["batch_size"] == 64
    assert set(OPTIONS) == options | {"seed", "batch_size"}


@pytest.mark.parametrize("path", ["mousenet-cifar10.yaml", "mousenet-cifar10-short.yaml"])
def test_experiments_set_options_there_are(path):
    page = options_of(f"experiment/{path}")
    assert set(page["method"]) <= set(options_of("method/train.yaml")["method"])
    assert set(page["model"]) <= set(options_of("model/mousenet.yaml"))


def test_the_tables_are_known_before_and_filled_after():
    measurement = measured()
    tables = {table.name: table for table in measurement.tables}
    assert set(tables) == {"epochs", "confusion"}
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "lr"} <= set(tables["epochs"].columns)
    assert json.loads(tables["confusion"].attributes["classes"]) == ["0", "1", "2"]
    filled = {name: [] for name in tables}
    for event in measurement.events:
        if isinstance(event, Rows):
            table = tables[event.table]
            assert len(event) == table.batch
            assert set(event.columns) == set(table.columns)
            for name, values in event.columns.items():
                assert values.shape[1:] == table.columns[name].shape
                assert values.dtype == np.dtype(table.columns[name].dtype)
            filled[event.table] += range(event.start, event.start + len(event))
    assert filled == {"epochs": [0, 1], "confusion": [0, 1, 2]}
    assert measurement.total == 66


def test_checkpoints_say_what_a_probe_needs_to_know():
    events = [event for event in measured().events if isinstance(event, Checkpoint)]
    about = events[0].about
    assert (about["num_classes"], about["classes"], about["input_size"]) == (3, ["0", "1", "2"], [3, 8, 8])
    for event in events:
        json.dumps(event.about, allow_nan=False)


def test_mistakes_come_before_anything_is_computed():
    with pytest.raises(UserError, match="training needs 2 or more classes, blobs has 1"):
        measured(model=network(1), dataset=Blobs(9, 0, classes=1), held_out=Blobs(9, 1, classes=1))


class Fake(dict):
    """What figures are given: arrays by name, and attributes."""

    def __init__(self, items, **attributes):
        super().__init__(items)
        self.attributes = attributes


def recording(stop=None):
    """What the store would give back of a training, finished or not."""
    calls = iter(range(1000))
    measurement = measured(should_stop=lambda: stop is not None and next(calls) >= stop)
    columns = {
        t.name: {name: np.zeros((0, *column.shape)) for name, column in t.columns.items()} for t in measurement.tables
    }
    for event in measurement.events:
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                columns[event.table][name] = np.concatenate([columns[event.table][name], values])
    tables = {t.name: Fake(columns[t.name], **t.attributes) for t in measurement.tables}
    return Fake(tables, model="net", dataset="blobs")


def test_figures_of_a_finished_and_of_a_stopped_training():
    assert [name for name, figure in train.draw(recording()) if png(figure)] == ["learning", "confusion"]
    assert [name for name, figure in train.draw(recording(stop=6)) if png(figure)] == ["learning"]
    assert [name for name, figure in train.draw(recording(stop=0)) if png(figure)] == []


def test_the_headline_is_the_first_best_epoch():
    epochs = {"epoch": [1, 2, 3], "val_accuracy": [0.5, 0.75, 0.75]}
    made = train.headline({"epochs": Fake({name: np.array(values) for name, values in epochs.items()})})
    assert made == {"best val_accuracy": 0.75, "at epoch": 2}


def test_rows_come_one_by_one_from_python():
    first = next(iter(measured()))
    assert isinstance(first, SimpleNamespace)
    assert first.table == "epochs"
    assert 0 <= first.val_accuracy <= 1
