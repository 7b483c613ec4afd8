"""Quantiles per unit, and the first look."""

import math

import numpy as np
import pytest
import torch

from cnnprobe.engine.layers import find
from cnnprobe.engine.quantiles import Thresholds, UpperQuantile, first_look
from tests import planted


def test_a_million_values_give_the_quantile_of_their_distribution():
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(10**6), rng.exponential(size=10**6)]).astype(np.float32)
    quantile = UpperQuantile(0.995, 10**6)
    for part in np.split(values, 20, axis=1):
        quantile.update(torch.from_numpy(part))
    uniform, exponential = quantile.result().tolist()
    assert abs(uniform - 0.995) < 0.002 and abs(exponential - math.log(200)) < 0.1
    assert quantile.largest.numel() < 0.02 * values.size  # only the upper share is kept


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("split", [[97], [1] * 97, [50, 47]])
def test_it_is_numpys_quantile_however_the_values_arrive(share, split):
    values = torch.randn(3, 97, generator=torch.Generator().manual_seed(1))
    quantile = UpperQuantile(share, 97)
    for part in values.split(split, dim=1):
        quantile.update(part)
    np.testing.assert_allclose(quantile.result().numpy(), np.quantile(values.numpy(), share, axis=1), rtol=1e-5)


def test_fewer_values_than_announced():
    quantile = UpperQuantile(0.9, 1000)
    assert math.isnan(quantile.result())
    quantile.update(torch.arange(11.0)[None])
    assert quantile.result().tolist() == [9.0]


def test_all_positions_of_small_maps_are_looked_at_and_images_with_nan_left_out():
    model = planted.identity()
    layers = find(model, "conv1", (1, 5, 7))
    images = torch.randn(6, 1, 5, 7)
    bad = torch.cat([images, torch.full((1, 1, 5, 7), torch.nan)])
    look = Thresholds(layers, 0.9, images=7, seed=0)
    look.receive(layers[0], bad[:3])
    look.receive(layers[0], bad[3:])
    np.testing.assert_allclose(look.result()["conv1"], [np.quantile(images.numpy(), 0.9)], rtol=1e-5)


def test_of_large_maps_random_positions_are_looked_at_the_same_for_the_same_seed():
    model = planted.identity()
    layers = find(model, "conv1", (1, 200, 200))
    images = torch.rand(4, 1, 200, 200)
    results = []
    for seed in (0, 0, 1):
        look = Thresholds(layers, 0.9, images=4, seed=seed)
        look.receive(layers[0], images)
        results.append(look.result()["conv1"].item())
    assert results[0] == results[1] != results[2]
    assert all(abs(result - 0.9) < 0.015 for result in results)  # 5 standard errors of 16384 values


def test_the_first_look_is_a_small_share_of_the_images():
    assert [len(first_look(count, seed=0)) for count in (1, 20, 100, 1000, 100_000)] == [1, 20, 32, 50, 512]
    look = first_look(1000, seed=3)
    assert (np.diff(look) > 0).all() and np.array_equal(look, first_look(1000, seed=3))
