"""The strongest images by any objective, against sorting all of them."""

import numpy as np
import torch
from torch import nn

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.optimize.ascent.objectives import Direction
from cnnprobe.methods.optimize.mapping import strongest

SIZE = (3, 9, 9)


def test_the_strongest_images_of_each_row_are_those_of_a_full_sort():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    images = torch.rand(30, *SIZE)
    images[17] = images[4]  # equal responses: the smaller index first
    readable = np.arange(30) != 8
    layer = find(model, "conv1", SIZE)[0]
    directions = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

    def loaded(size):
        for start in range(0, 30, size):
            some = np.arange(start, min(start + size, 30))
            yield Batch(some, images[some], np.full(len(some), -1), readable[some])

    with torch.no_grad():
        means = model(images).mean((2, 3)).double().numpy()
    responses = means @ directions.T.astype(float)
    responses[8] = -np.inf
    for size in (4, 30):
        skipped = np.zeros(30, bool)
        events = strongest(model, layer, Direction("conv1", directions), 6, loaded(size), skipped)
        advanced = 0
        while True:
            try:
                advanced += next(events).count
            except StopIteration as end:
                found = end.value
                break
        assert advanced == 30
        assert np.flatnonzero(skipped).tolist() == [8]
        for row in range(5):
            order = np.argsort(-responses[:, row].round(5), kind="stable")[:6]
            assert found.images[row].tolist() == order.tolist()
            np.testing.assert_allclose(found.responses[row], responses[order, row], rtol=1e-4)


def test_fewer_images_than_asked_for_leave_gaps():
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    layer = find(model, "conv1", SIZE)[0]
    batch = Batch(np.arange(2), torch.rand(2, *SIZE), np.full(2, -1), np.ones(2, bool))
    events = strongest(model, layer, Direction("conv1", np.eye(1, 4, dtype=np.float32)), 3, [batch], np.zeros(2, bool))
    try:
        while True:
            next(events)
    except StopIteration as end:
        found = end.value
    assert found.images[0, 2] == -1 and np.isnan(found.responses[0, 2])
    assert sorted(found.images[0, :2]) == [0, 1]
