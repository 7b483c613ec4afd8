"""Dissimilarity matrices against SciPy and rsatoolbox, in pieces, in batches, and where they have no meaning (F53)."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from cnnprobe.instruments.statistics import dissimilarity as engine
from cnnprobe.instruments.statistics.dissimilarity import (
    Products,
    dissimilarity,
    dissimilarity_matrix,
    ranks,
    square,
    step,
    upper,
)

RANDOM = np.random.default_rng(0)
PATTERNS = RANDOM.normal(size=(7, 40)) + 3 * RANDOM.normal(size=(7, 1)) + RANDOM.normal(size=40)


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_distances_are_those_of_scipy(metric):
    found = dissimilarity_matrix(PATTERNS, metric).numpy()
    assert np.allclose(found, squareform(pdist(PATTERNS, metric)), atol=1e-12)
    assert (np.diag(found) == 0).all() and (found == found.T).all()


def test_rank_correlation_is_that_of_scipy_with_ties():
    tied = np.round(PATTERNS)
    assert np.array_equal(ranks(torch.from_numpy(tied)).numpy(), stats.rankdata(tied, axis=1))
    expected = 1 - stats.spearmanr(tied.T).statistic
    assert np.allclose(dissimilarity_matrix(tied, "spearman").numpy(), expected, atol=1e-12)


def test_matrices_are_those_of_rsatoolbox():
    """Its "euclidean" is the squared distance over the number of channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm
    data = Dataset(PATTERNS)
    ours = upper(dissimilarity_matrix(PATTERNS, "correlation"))
    assert np.allclose(calc_rdm(data, "correlation").dissimilarities[0], ours, atol=1e-10)
    distance = upper(dissimilarity_matrix(PATTERNS, "euclidean"))
    assert np.allclose(calc_rdm(data, "euclidean").dissimilarities[0], distance**2 / 40, atol=1e-10)


@pytest.mark.parametrize("metric", engine.METRICS)
def test_systems_in_front_are_taken_one_by_one(metric):
    several = RANDOM.normal(size=(2, 3, 5, 20)).astype(np.float32)
    found = dissimilarity_matrix(several, metric)
    for place in np.ndindex(2, 3):
        assert torch.allclose(found[place], dissimilarity_matrix(several[place], metric), atol=1e-12)


def test_pieces_on_the_grid_of_features_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(engine, "ELEMENTS", 9 * 512)
    patterns = torch.randn(9, 512 * 7 + 100, generator=torch.Generator().manual_seed(1)) + 5
    assert step(9) == 512
    whole = Products().add(patterns)
    parts = Products()
    for piece in patterns.split(1024, 1):
        parts.add(piece)
    assert torch.equal(whole.inner, parts.inner) and torch.equal(whole.total, parts.total)
    assert np.allclose(dissimilarity(whole, "correlation"), 1 - np.corrcoef(patterns.double()), atol=1e-12)


def test_a_large_common_mean_costs_no_precision():
    """float32 alone would be wrong in the second place."""
    shifted = (PATTERNS + 1e4).astype(np.float32)
    expected = squareform(pdist(shifted.astype(np.float64), "correlation"))
    assert np.allclose(dissimilarity_matrix(shifted), expected, atol=1e-7)


@pytest.mark.parametrize(("metric", "undefined"), [("correlation", [1, 2]), ("spearman", [1, 2]), ("cosine", [1])])
def test_a_constant_pattern_has_no_correlation(metric, undefined):
    """F53: NaN, never 0 or 1."""
    patterns = RANDOM.normal(size=(5, 30)).astype(np.float32)
    patterns[1], patterns[2] = 0, 0.1
    found = dissimilarity_matrix(patterns, metric).numpy()
    missing = np.zeros((5, 5), bool)
    missing[undefined] = missing[:, undefined] = True
    assert np.array_equal(np.isnan(found), missing)
    assert np.isfinite(dissimilarity_matrix(patterns, "euclidean").numpy()).all()


@pytest.mark.parametrize("metric", engine.METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pattern_that_is_not_finite_takes_only_its_own_pairs_away(metric, bad):
    patterns = RANDOM.normal(size=(4, 30))
    clean = dissimilarity_matrix(patterns, metric).numpy()
    patterns[3, 5] = bad
    found = dissimilarity_matrix(patterns, metric).numpy()
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    assert np.allclose(found[:3, :3], clean[:3, :3], atol=1e-12)


@pytest.mark.parametrize("metric", engine.METRICS)
def test_equal_patterns_are_at_distance_0(metric):
    """Exactly: what is left of rounding would have ranks."""
    patterns = np.repeat(RANDOM.normal(size=(1, 1000)), 3, 0).astype(np.float32) * 100
    assert (dissimilarity_matrix(patterns, metric) == 0).all()


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_means_of_groups_are_the_means_of_their_patterns(metric):
    groups = np.array([1, 0, 1, -1, 2, 0, 1])
    means = np.stack([PATTERNS[groups == group].mean(0) for group in range(3)])
    found = dissimilarity(Products().add(PATTERNS).means(groups), metric)
    assert np.allclose(found, squareform(pdist(means, metric)), atol=1e-10)
    broken = PATTERNS.copy()
    broken[6], broken[4] = np.nan, np.inf
    means[1], means[2] = PATTERNS[[0, 2]].mean(0), np.nan
    found = dissimilarity(Products().add(broken).means(groups), metric)
    assert np.allclose(found[:2, :2], squareform(pdist(means[:2], metric)), atol=1e-10) and found[2].isnan().all()


def test_upper_triangles_and_back():
    matrix = squareform(np.arange(10.0))
    assert upper(matrix).tolist() == list(range(10)) and np.array_equal(square(upper(matrix)), matrix)
    stack = np.stack([matrix, 2 * matrix])
    assert np.array_equal(square(upper(stack)), stack)
    assert [engine.conditions_of(pairs) for pairs in (0, 1, 3, 4, 4186)] == [1, 2, 3, None, 92]
    with pytest.raises(ValueError, match="4 values are no upper triangle"):
        square(np.zeros(4))
