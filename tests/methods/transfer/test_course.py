"""What a course lays out, and that what is there already is not given again."""

import copy

import numpy as np

from cnnprobe.instruments.outputs.readout import new_readout, put, readout_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.transfer.course import MOMENTS, Course, Source
from cnnprobe.methods.transfer.old_task import OldTask
from cnnprobe.store.tables import Checkpoint, Phase, Rows
from tests.support.images.blobs import COMPUTATION, Blobs, network, recipe


class Comparison:
    """Says that it was asked, and with what."""

    def __init__(self):
        self.asked = []

    def events(self, finished, unfinished=None):
        self.asked.append(finished)
        yield Rows("compared", 0, {"value": np.zeros(1)})


def course(finished=None, stop=None):
    model = network()
    old = readout_of(model, (3, 8, 8))
    images = Blobs(24, 3)
    images.fingerprint = "of the old images"
    task = OldTask(model, old, images, Computation(batch_size=7), preload="auto")
    put(model, old.path, new_readout(old.module, 2, 0))
    data = Blobs(33, 0, classes=2), Blobs(20, 1, classes=2)
    training = Training(model, *data, recipe(), COMPUTATION, should_stop=stop)
    source, comparison = Source("train/x/v001", task, 20, 0), Comparison()
    return Course(training, source, copy.deepcopy(old), [comparison], finished or {}), comparison


def rows(events):
    return [(event.table, event.start) for event in events if isinstance(event, Rows)]


def test_before_training_after_and_then_the_comparison():
    made, comparison = course()
    events = list(made.events())
    confusion = [("confusion", 0)]
    assert rows(events) == [("old_task", 0), ("epochs", 0), ("epochs", 1), *confusion, ("old_task", 1), ("compared", 0)]
    assert next(event.name for event in events if isinstance(event, Checkpoint)) == "old_readout"
    assert [event.name for event in events if isinstance(event, Phase)] == ["old task", "learning"]
    assert comparison.asked == [{}]


def test_what_is_there_is_not_given_again():
    finished = {"old_task": frozenset([0]), "confusion": frozenset([0]), "epochs": frozenset([0])}
    made, comparison = course(finished)
    events = list(made.events())
    assert rows(events) == [("epochs", 1), ("old_task", 1), ("compared", 0)]
    assert [event.name for event in events if isinstance(event, Phase)] == ["learning"]
    assert comparison.asked == [finished]


def test_stopped_nothing_comes_behind():
    calls = iter(range(100))
    made, comparison = course(stop=lambda: next(calls) >= 2)
    events = list(made.events())
    assert rows(events) == [("old_task", 0)]
    assert events[-1].name == "last"
    assert comparison.asked == []


def test_the_old_task_by_class_adds_up():
    made, _ = course()
    table = made.source.table()
    assert (table.rows, table.columns["moment"].values.tolist()) == (2, list(MOMENTS))
    row = made.source.asked("after")
    assert row.start == 1
    assert row.columns["accuracy"][0] == row.columns["right"].sum() / row.columns["images"].sum()
    assert set(row.columns) == set(table.columns) - {"moment"}
