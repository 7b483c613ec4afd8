"""The area criterion: levels and areas against numpy's quantile of everything."""

import numpy as np
import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.ranking import areas
from cnnprobe.instruments.ranking.areas import Areas, Largest
from tests.support.networks import planted


def expected(maps, share):
    """Return areas and levels of (image, unit, position) by sorting everything."""
    levels = np.quantile(maps.swapaxes(0, 1).reshape(maps.shape[1], -1), share, axis=1)
    return (maps > levels[:, None]).mean(2), levels


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.9, 0.995, 0.9999])
@pytest.mark.parametrize("batch", [1, 7, 40])
@pytest.mark.parametrize("few", [1, 100, 2**20])
def test_level_and_areas_are_those_of_a_full_sort_however_images_arrive(share, batch, few, monkeypatch):
    """F99: the level is exact, not that of a first look; also where most are zeros or equal, and of both layouts."""
    monkeypatch.setattr(areas, "FEW", few)
    maps = torch.randn(40, 5, 30, generator=torch.Generator().manual_seed(1))
    maps[:, 1] = maps[:, 1].clamp(min=1.5)  # a sparse unit
    maps[:, 2] = maps[:, 2].round()
    maps[:, 3] = -2.0
    maps[:, 4] *= torch.arange(40.0)[:, None] + 1  # a few images have all large values, and they come last
    for axis in (2, 1):
        largest = Largest(5, 40, 30, share)
        for part in torch.arange(40).split(batch):
            given = maps[part] if axis == 2 else maps[part].swapaxes(1, 2)
            largest.add(given, part.numpy(), np.ones(len(part), bool), axis)
        shares, levels = largest.result()
        right, exact = expected(maps.double().numpy(), share)
        np.testing.assert_allclose(levels, exact, rtol=1e-5, atol=1e-6)
        right[:, 3] = 0
        np.testing.assert_allclose(shares, right, atol=1e-6)


def test_only_the_upper_share_is_kept_of_many():
    random = np.random.default_rng(0)
    largest = Largest(2, 200, 5000, 0.995)
    for image in range(200):
        maps = np.stack([random.random(5000), random.exponential(size=5000)]).astype(np.float32)
        largest.add(torch.from_numpy(maps)[None], np.array([image]), np.ones(1, bool))
    _, (uniform, exponential) = largest.result()
    assert abs(uniform - 0.995) < 0.002 and abs(exponential - np.log(200)) < 0.1  # 1.T3
    largest._drop()
    assert len(largest.pieces[0][2]) <= 2 * 0.005 * 200 * 5000 + 2


def test_images_that_are_not_seen_count_nowhere():
    model = planted.identity()
    layers = find(model, "conv1", (1, 5, 7))
    images = torch.randn(6, 1, 5, 7)
    bad = torch.cat([images, torch.full((1, 1, 5, 7), torch.inf), images[:1]])
    found = Areas(layers, {"conv1": np.arange(1)}, 8, 0.9)
    found.begin(np.arange(8), np.arange(8) < 7)
    found.receive(layers[0], bad)
    shares, places, levels = found.result("conv1")
    np.testing.assert_allclose(levels, [np.quantile(images.numpy(), 0.9)], rtol=1e-5)
    assert np.isnan(shares[6:]).all() and np.isclose(shares[:6].sum() * 35, (images > levels[0]).sum())
    assert places[:6, 0].tolist() == images.flatten(1).argmax(1).tolist()


def test_what_a_failed_pass_gave_is_forgotten(monkeypatch):
    monkeypatch.setattr(areas, "FEW", 1)
    layers = find(planted.identity(), "conv1", (1, 4, 4))
    images = torch.randn(6, 1, 4, 4)
    found = Areas(layers, {"conv1": np.arange(1)}, 6, 0.8)
    for part in torch.arange(6).split(3):
        found.begin(part.numpy(), np.ones(3, bool))
        found.receive(layers[0], images[part] + 100)
        found.forget()
        found.begin(part.numpy(), np.ones(3, bool))
        found.receive(layers[0], images[part])
    assert found.result("conv1")[2] == pytest.approx(np.quantile(images.numpy(), 0.8), rel=1e-5)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    """F99: no level of less than all images in its place."""
    monkeypatch.setattr(areas, "free_memory", lambda device: 10**6)
    layers = find(planted.identity(), "conv1", (1, 40, 40))
    with pytest.raises(UserError, match=r"keeps 0.5 % of all activations of 20000 images: .* GB, 0.0 are free; fewer"):
        Areas(layers, {"conv1": np.arange(1)}, 20000, 0.995)
