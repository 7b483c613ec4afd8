"""Measures of single units against formulas, scipy and cases whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import prune

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
    np.testing.assert_allclose(drift.weight_change(*pair, layer, (3, 8, 8)), [0, 0, 0.5, 0], atol=1e-6)
    relu = find(pair[0], "2", (3, 8, 8))[0]
    assert np.isnan(drift.weight_change(*pair, relu, (3, 8, 8))).all()


def test_a_new_head_has_no_weights_to_compare():
    pair = [nn.Sequential(nn.Flatten(), nn.Linear(12, classes)) for classes in (3, 5)]
    layer = find(pair[0], "1", (3, 2, 2))[0]
    assert np.isnan(drift.weight_change(*pair, layer, (3, 2, 2))).all()


def test_forgotten_are_those_that_stood_for_something():
    correlation = np.array([0.1, 0.1, 0.9, np.nan, np.nan])
    selective = np.array([0.8, 0.3, 0.8, 0.8, 0.8])
    dead = np.array([False, False, False, True, False])
    assert drift.forgotten(correlation, selective, dead).tolist() == [True, False, False, True, False]


SIZE = (3, 8, 8)


def made_of(weight):
    """Return a network whose first weights are made of others, and how they are read: from the outputs of an image."""
    return nn.Sequential(weight(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()


def masked(module):
    return prune.custom_from_mask(module, "weight", torch.ones_like(module.weight).index_fill(0, torch.tensor(1), 0))


OTHERS = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "parametrised": nn.utils.parametrizations.weight_norm,
    "pruned": masked,
}


@torch.no_grad()
def used(model):
    """Return the weights of the first layer by its answers to images of one pixel, (unit, weight)."""
    flat = [model[0](pixel[None])[0, :, 0, 0] - model[0].bias for pixel in torch.eye(27).view(27, 3, 3, 3)]
    return torch.stack(flat, 1).double().numpy()


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", OTHERS)
def test_weights_made_of_others_change_by_what_a_pass_uses(kind):
    """F99: those of the last pass before something was learned or loaded were compared: 0.5 where nothing changed."""
    torch.manual_seed(0)
    first, loaded, learned = (made_of(OTHERS[kind]) for _ in range(3))
    with torch.no_grad():
        for _, parameter in first.named_parameters():
            parameter.mul_(torch.linspace(0.5, 2, parameter.numel()).view(parameter.shape))
    for other in (loaded, learned):
        other.load_state_dict(first.state_dict())
    layer = find(first, "0", SIZE)[0]
    expected = [0, np.nan, 0, 0] if kind == "pruned" else [0, 0, 0, 0]
    np.testing.assert_allclose(drift.weight_change(first, loaded, layer, SIZE), expected, atol=1e-6)
    with torch.no_grad():
        next(p for p in learned[0].parameters() if p.ndim == 4).add_(0.05)
    made, after = made_of(OTHERS[kind]), used(learned)
    made.load_state_dict(first.state_dict())
    before = used(made)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    assert np.nanmax(expected) > 0.01
    np.testing.assert_allclose(drift.weight_change(first, learned, layer, SIZE), expected, atol=1e-5)
