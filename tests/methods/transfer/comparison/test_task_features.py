"""Units that tell classes apart by construction, before and after."""

import numpy as np
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison.task_features import TaskFeatures
from cnnprobe.store.tables import Advance, Phase, Rows
from tests.support.images.blobs import Blobs


def network(order):
    """Unit u is the largest pixel of colour order[u] that is brighter than half; -1: silent."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(192, 3))
    with torch.no_grad():
        model[0].weight.zero_()
        for unit, colour in enumerate(order):
            if colour >= 0:
                model[0].weight[unit, colour] = 1
    return model


def measured(images, **changes):
    before, after = network([0, 1, 2]), network([2, 1, -1])
    given = {"units": "all", "computation": Computation(batch_size=8)}
    return TaskFeatures(before, after, find(before, ["conv1", "3"], images.size), images, **given | changes)


def test_each_unit_stands_for_the_class_of_its_colour():
    images = Blobs(60, 0)
    events = list(measured(images).events({}))
    rows = {event.table: event.columns for event in events if isinstance(event, Rows)}
    assert list(rows) == ["discrimination/conv1", "discrimination/3"]
    units = rows["discrimination/conv1"]
    assert units["best_class_before"].tolist() == [0, 1, 2]
    assert units["best_class_after"].tolist() == [2, 1, -1]
    assert (units["best_dprime_before"] > 3).all() and np.isnan(units["dprime_after"][2]).all()
    pixels = images.load(np.arange(60))[0].numpy()[:, 0] / 255
    largest = pixels.reshape(60, -1).max(1)
    own, rest = largest[images.labels == 0], largest[images.labels != 0]
    expected = (own.mean() - rest.mean()) / np.sqrt((own.var(ddof=1) + rest.var(ddof=1)) / 2)
    np.testing.assert_allclose(units["dprime_before"][0, 0], expected, rtol=1e-4)
    counted = sum(event.count for event in events if isinstance(event, Advance))
    assert counted == sum(event.total for event in events if isinstance(event, Phase)) == 120


def test_rows_fit_the_tables_and_finished_ones_are_not_made_again():
    one = measured(Blobs(30, 0), units=[2, 0])
    tables = {table.name: table for table in one.tables()}
    (rows,) = (event for event in one.events({"discrimination/3": {0}}) if isinstance(event, Rows))
    table = tables[rows.table]
    assert table.name == "discrimination/conv1" and table.columns["unit"].values.tolist() == [2, 0]
    for name, column in table.columns.items():
        if column.values is None:
            assert rows.columns[name].shape == (2, *column.shape)
            assert rows.columns[name].dtype == np.dtype(column.dtype)
    assert list(one.events({"discrimination/3": {0}, "discrimination/conv1": {0}})) == []
