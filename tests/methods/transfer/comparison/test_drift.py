"""Measures of single units against formulas, scipy and cases whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.transfer.comparison import drift


def test_correlation_is_scipys_where_both_change():
    rng = np.random.default_rng(0)
    before, after = rng.random((40, 4)).astype(np.float32), rng.random((40, 4)).astype(np.float32)
    after[:, 1] = before[:, 1] * 3 + 7
    before[:, 2] = 0.1  # equal answers, whose computed deviation is not exactly 0
    before[5] = np.nan
    found = drift.unit_correlation(before, after)
    kept = np.arange(40) != 5
    for unit in (0, 1, 3):
        assert found[unit] == pytest.approx(stats.pearsonr(before[kept, unit], after[kept, unit])[0], abs=1e-6)
    assert found[1] == pytest.approx(1, abs=1e-6)
    assert np.isnan(found[2])
    assert np.isnan(drift.unit_correlation(before[:2], after[:2])).all()


def test_overlap_counts_images_in_both_lists():
    before = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, -1, -1, -1], [-1, -1, -1, -1], [5, 6, -1, -1]])
    after = np.array([[4, 3, 2, 1], [3, 4, 5, 6], [-1, -1, -1, -1], [-1, -1, -1, -1], [6, -1, -1, -1]])
    np.testing.assert_array_equal(drift.overlap(before, after), [1, 2 / 6, 0, np.nan, 0.5])


def test_selectivity_of_known_units():
    nan = np.nan
    means = np.array([[4.0, 0, 0], [1, 1, 1], [6, 3, 1], [0, 0, 0], [2, -1, 1], [3, nan, 1], [nan, 2, nan]])
    preferred, index = drift.selectivity(means)
    assert preferred.tolist() == [0, -1, 0, -1, 0, 0, -1]
    np.testing.assert_allclose(index, [1, 0, 0.5, nan, nan, 0.5, nan])
    assert drift.selectivity(np.zeros((2, 0)))[0].tolist() == [-1, -1]


def test_tuning_is_compared_over_classes():
    before = np.array([[1.0, 2, 3, np.nan], [1, 2, 3, np.nan]])
    after = np.array([[2.0, 4, 6, np.nan], [3, 2, 1, np.nan]])
    np.testing.assert_allclose(drift.tuning_correlation(before, after), [1, -1])
    assert np.isnan(drift.tuning_correlation(before[:, :2], after[:, :2])).all()
    assert np.isnan(drift.tuning_correlation(np.zeros((2, 0)), np.zeros((2, 0)))).all()


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_weights_change_by_what_was_added(kind):
    torch.manual_seed(0)
    pair = [nn.Sequential(kind(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(2)]
    pair[1].load_state_dict(pair[0].state_dict())
    own = (slice(None), 2) if kind is nn.ConvTranspose2d else (2,)
    with torch.no_grad():
        pair[1][0].weight[own] *= 1.5
    layer = find(pair[0], "0", (3, 8, 8))[0]
    np.testing.assert_allclose(drift.weight_change(*pair, layer), [0, 0, 0.5, 0], atol=1e-6)
    relu = find(pair[0], "2", (3, 8, 8))[0]
    assert np.isnan(drift.weight_change(*pair, relu)).all()


def test_a_new_head_has_no_weights_to_compare():
    pair = [nn.Sequential(nn.Flatten(), nn.Linear(12, classes)) for classes in (3, 5)]
    layer = find(pair[0], "1", (3, 2, 2))[0]
    assert np.isnan(drift.weight_change(*pair, layer)).all()


def test_forgotten_are_those_that_stood_for_something():
    correlation = np.array([0.1, 0.1, 0.9, np.nan, np.nan])
    selective = np.array([0.8, 0.3, 0.8, 0.8, 0.8])
    dead = np.array([False, False, False, True, False])
    assert drift.forgotten(correlation, selective, dead).tolist() == [True, False, False, True, False]
