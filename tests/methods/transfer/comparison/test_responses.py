"""Answers to images against running the network on all of them at once."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.ranking.strongest import BEST
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison import responses as module
from cnnprobe.methods.transfer.comparison.responses import answers, blocks
from tests.support.images.blobs import Blobs

SIZE = (3, 8, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip


def measured(model, images, patterns, names=("conv1", "conv2", "5"), batch_size=7):
    layers = find(model, list(names), images.size)
    work = answers(model, layers, images, patterns, Computation(batch_size=batch_size))
    advanced = 0
    while True:
        try:
            advanced += next(work).count
        except StopIteration as end:
            return end.value, advanced


def test_every_layer_is_read_in_one_pass():
    model, images, kept = network(), Blobs(30, 0), np.array([0, 3, 4, 17, 29])
    calls = []
    model.register_forward_pre_hook(lambda *given: calls.append(len(given[1][0])) if len(given[1][0]) > 1 else None)
    found, advanced = measured(model, images, kept)
    assert calls[-5:] == [7, 7, 7, 7, 2] and advanced == 30
    with torch.no_grad():
        first = model[:2](images.load(np.arange(30))[0].float() / 255)
        whole = [first, model[2](first), model[2:](first)]
    for one, maps in zip(found.values(), whole):
        flat = maps.reshape(30, maps.shape[1], -1)
        np.testing.assert_allclose(one.largest, flat.amax(2).numpy(), rtol=1e-5, atol=1e-6)
        reached = flat.gather(2, torch.from_numpy(one.places).long()[..., None])[..., 0]
        np.testing.assert_allclose(reached.numpy(), one.largest, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.patterns.numpy(), maps[kept].flatten(1).numpy(), rtol=1e-4, atol=1e-6)


def test_the_strongest_are_those_of_a_sort():
    found, _ = measured(network(), Blobs(30, 0), np.arange(4))
    one = found["conv2"].strongest(6)
    for unit in range(4):
        order = np.argsort(-found["conv2"].largest[:, unit], kind="stable")[:6]
        assert one.ranks[BEST].images[unit].tolist() == order.tolist()


def test_an_image_that_cannot_be_read_has_no_answer():
    found, _ = measured(network(), Blobs(20, 0, broken=6), np.arange(20))
    gone = [5, 11, 17]
    for one in found.values():
        assert np.flatnonzero(np.isnan(one.largest).any(1)).tolist() == gone
        assert one.patterns.isnan().all(1).nonzero()[:, 0].tolist() == gone
        assert not np.isin(one.strongest(20).ranks[BEST].images, gone).any()


def test_large_maps_are_averaged_to_what_fits(monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 4 * 10 * 5 * 9)
    model, images = network(), Blobs(10, 0)
    layers = find(model, ["conv1", "conv2", "5"], SIZE)
    assert [blocks(layer, 10) for layer in layers] == [(3, 3), (3, 3), ()]
    found, _ = measured(model, images, np.arange(10))
    with torch.no_grad():
        maps = model[:2](images.load(np.arange(10))[0].float() / 255)
    blocked = maps.unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean((3, 5))
    np.testing.assert_allclose(found["conv1"].patterns.numpy(), blocked.flatten(1).numpy(), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 30])
def test_batches_do_not_matter(batch_size):
    one, _ = measured(network(), Blobs(30, 0), np.arange(0, 30, 2))
    other, _ = measured(network(), Blobs(30, 0), np.arange(0, 30, 2), batch_size=batch_size)
    for name in one:
        np.testing.assert_allclose(one[name].largest, other[name].largest, atol=1e-5)
        np.testing.assert_allclose(one[name].patterns, other[name].patterns, atol=1e-5)
