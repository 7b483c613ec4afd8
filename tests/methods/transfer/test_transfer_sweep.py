"""Transfers of a sweep drawn together: which runs belong to one line, one task, one fraction."""

import json

import numpy as np
import pytest

from cnnprobe.methods.transfer import method as transfer
from cnnprobe.plots.style import png


class Table(dict):
    def __init__(self, name, columns, **attributes):
        super().__init__(columns)
        self.name, self.attributes = name, attributes


class Run(dict):
    """What a store gives back of one transfer."""

    def __init__(self, mode, fraction, accuracy, classes=("a", "b"), dprime=None, units=(0, 1, 2)):
        tables = [
            Table("epochs", {"val_accuracy": np.array([0.1, accuracy])}, mode=mode, fraction=fraction),
            Table("confusion", {}, classes=json.dumps(classes)),
        ]
        if dprime is not None:
            columns = {"unit": np.array(units), "best_dprime_after": np.array(dprime, float)}
            tables.append(Table("discrimination/conv1", columns, layer="conv1"))
        super().__init__({table.name: table for table in tables})
        self.attributes = {"model": "net", "dataset": "avatar", "weights": "published"}

    def in_order(self, under):
        return [table for name, table in self.items() if name.startswith(f"{under}/")]


def drawn(runs, overrides):
    made = dict(transfer.compare(runs, overrides))
    assert all(png(figure) for figure in made.values())
    return made


def test_words_that_differ_are_told_apart():
    shared = ["model=net", "method.epochs=3"]
    found = transfer.changing(
        [
            [*shared, "method.mode=full", "seed=0", "dataset.classes=cue", "method.lr=0.1"],
            [*shared, "method.mode=probe", "seed=1", "dataset.classes=room", "method.lr=0.2", "method.fraction=0.1"],
        ]
    )
    assert found == [
        {"dataset": ["classes=cue"], "other": ["lr=0.1"]},
        {"dataset": ["classes=room"], "other": ["lr=0.2"]},
    ]
    assert transfer.changing([["a=1"], ["a=1"]]) == [{"dataset": [], "other": []}] * 2


def test_accuracy_by_fraction_is_the_best_epoch_of_each_run():
    runs, overrides = [], []
    for mode, accuracies in (("full", (0.6, 0.8, 0.9, 0.9)), ("scratch", (0.5, 0.5, 0.7, 0.9))):
        for place, accuracy in enumerate(accuracies):
            fraction, seed = (0.1, 1.0)[place // 2], place % 2
            runs.append(Run(mode, fraction, accuracy))
            overrides.append([f"method.mode={mode}", f"method.fraction={fraction}", f"seed={seed}"])
    made = drawn(runs, overrides)
    assert list(made) == ["label_fractions"]
    (ax,) = made["label_fractions"].axes
    assert ax.get_title() == "avatar (a, b)"
    assert [lines.get_label() for lines in ax.containers] == ["full", "scratch"]
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [0.7, 0.9])
    np.testing.assert_allclose(ax.containers[1].lines[0].get_ydata(), [0.5, 0.8])


def test_features_are_those_of_each_task_from_all_labels():
    runs = [
        Run("full", 1.0, 0.9, dprime=[-2, 0.1, np.nan]),
        Run("full", 1.0, 0.9, dprime=[1, 0.3, np.nan]),
        Run("full", 0.1, 0.5, dprime=[9, 9, 9]),
        Run("full", 1.0, 0.8, ("x", "y", "z"), dprime=[0.2, 3, 1]),
        Run("scratch", 1.0, 0.4, dprime=[9, 9, 9]),
    ]
    words = [("cue", 0, 1, "full"), ("cue", 1, 1, "full"), ("cue", 0, 0.1, "full"), ("room", 0, 1, "full")]
    overrides = [
        [f"dataset.classes={task}", f"seed={seed}", f"method.fraction={fraction}", f"method.mode={mode}"]
        for task, seed, fraction, mode in [*words, ("cue", 0, 1, "scratch")]
    ]
    made = drawn(runs, overrides)
    assert list(made) == ["label_fractions", "features_full"]
    assert [ax.get_title() for ax in made["label_fractions"].axes] == ["avatar classes=cue", "avatar classes=room"]
    found = transfer.features_of([runs[:2], [runs[3]]])
    np.testing.assert_allclose(found["conv1"], [[1.5, 0.2, np.nan], [0.2, 3, 1]])


@pytest.mark.parametrize("other", [Run("full", 1.0, 0.5), Run("full", 1.0, 0.5, dprime=[1, 2], units=(4, 5))])
def test_layers_that_not_every_run_has_are_left_out(other):
    assert transfer.features_of([[Run("full", 1.0, 0.5, dprime=[1, 2, 3])], [other]]) == {}
