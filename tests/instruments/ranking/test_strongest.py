"""The strongest images from a pass are those of a plain sort; runs as sources: tests/runs/test_execute.py."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.ranking.strongest import BEST, Search, by_pass, of_groups
from cnnprobe.instruments.ranking.top_k import Ranker
from cnnprobe.store.tables import Advance, Phase


def finished(generator):
    """Return what a generator gave, and what it returned."""
    given = []
    while True:
        try:
            given.append(next(generator))
        except StopIteration as end:
            return given, end.value


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU()).eval()
    nn.init.constant_(model[0].bias, 1.0)  # every unit answers something
    nn.init.constant_(model[2].bias, 2.0)
    return model


IMAGES = torch.rand(20, 1, 9, 9, generator=torch.Generator().manual_seed(1))


def test_a_search_gives_the_largest_maxima_and_their_places(network):
    layers = find(network, "conv*", (1, 9, 9))
    units = {"conv1": np.array([3, 0]), "conv2": np.array([1])}
    loaded = batches(given_images(IMAGES), batch_size=6)
    events, (found, skipped) = finished(Search(network, layers, units, 4, 20).run(loaded))
    assert events == [Phase("ranking", 20, "images"), *[Advance(n) for n in (6, 6, 6, 2)]]
    assert not skipped.any()
    with torch.no_grad():
        maps = {"conv1": network[:2](IMAGES).numpy(), "conv2": network(IMAGES).numpy()}
    for name, own in units.items():
        best = found[name].ranks[BEST]
        for row, unit in enumerate(own):
            largest = maps[name][:, unit].max((1, 2))
            expected = sorted(range(20), key=lambda i: (-largest[i], i))[:4]
            assert best.images[row].tolist() == expected
            for image, response, (y, x) in zip(expected, best.responses[row], best.positions[row]):
                np.testing.assert_allclose(response, largest[image], rtol=1e-5)
                np.testing.assert_allclose(maps[name][image, unit, y, x], largest[image], rtol=1e-6)


def test_groups_are_ranked_by_their_weighted_means(network):
    layer = find(network, "conv1", (1, 9, 9))[0]
    weights = np.array([[0.0, 1, 0, 0], [1, 0, -2, 0.5]])
    skipped = np.ones(20, bool)
    loaded = list(batches(given_images(IMAGES), batch_size=6))
    loaded[1].readable[0] = False  # image 6
    events, found = finished(of_groups(network, layer, weights, loaded, 19, skipped))
    assert events == [Advance(n) for n in (6, 6, 6, 2)]
    assert np.flatnonzero(skipped).tolist() == [6]
    with torch.no_grad():
        maps = np.einsum("gc,ncyx->gnyx", weights, network[:2](IMAGES).numpy())
    best = found.ranks[BEST]
    for row, own in enumerate(maps):
        means = own.mean((1, 2))
        expected = sorted(set(range(20)) - {6}, key=lambda image: -means[image])
        assert best.images[row].tolist() == expected
        np.testing.assert_allclose(best.responses[row], means[expected], rtol=1e-5)
        places = [np.unravel_index(own[image].argmax(), own[image].shape) for image in expected]
        assert best.positions[row].tolist() == [list(map(int, place)) for place in places]
    assert not found.dead.any()
    _, more = finished(of_groups(network, layer, weights, loaded, 25, skipped))
    assert (more.ranks[BEST].images[:, 19:] == -1).all() and np.isnan(more.ranks[BEST].responses[:, 19:]).all()


def test_a_pass_ranks_by_every_order_and_marks_what_could_not_be_read(network):
    layer = find(network, "conv1", (1, 9, 9))
    loaded = list(batches(given_images(IMAGES), batch_size=20))
    loaded[0].readable[5] = False
    skipped = np.zeros(20, bool)
    ranker = Ranker(layer, 3, ["mean", "max"], bottom=True)
    _, found = finished(by_pass(network, layer, ranker, loaded, skipped))
    assert np.flatnonzero(skipped).tolist() == [5]
    assert set(found["conv1"].ranks) == {(c, end) for c in ("mean", "max") for end in ("top", "bottom")}
    with torch.no_grad():
        means = np.delete(network[:2](IMAGES).mean((2, 3)).numpy(), 5, axis=0)
    np.testing.assert_allclose(found["conv1"].ranks["mean", "bottom"].responses[:, 0], means.min(0), rtol=1e-5)
    some = found["conv1"].of(np.array([2]))
    assert np.array_equal(some.ranks[BEST].images, found["conv1"].ranks[BEST].images[[2]])
    assert some.dead.shape == (1,)
