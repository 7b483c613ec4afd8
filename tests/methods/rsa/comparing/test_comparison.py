"""Comparisons of dissimilarity matrices against known values, SciPy, rsatoolbox and brute force."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from cnnprobe.methods.rsa.comparing.comparison import COMPARISONS, Comparing, compare
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling

RANDOM = np.random.default_rng(3)
FIRST, SECOND = RANDOM.random((3, 45)), np.round(RANDOM.random((2, 45)), 1)
LINE = pdist(np.arange(12.0)[:, None], "cityblock")[None]
CATEGORIES = pdist(np.repeat([[0.0], [1.0]], 6, 0), "cityblock")[None]


def test_conditions_on_a_line_compared_with_themselves():
    assert np.isclose(compare(LINE, LINE, "spearman")[0, 0], 1)
    assert round(compare(LINE, LINE, "kendall")[0, 0], 4) == 0.8974


def test_a_categorical_model_does_not_reach_1_with_itself():
    assert np.isclose(compare(CATEGORIES, CATEGORIES, "kendall")[0, 0], 2 * 30 * 36 / (66 * 65))


def test_correlations_are_those_of_scipy():
    for one in range(3):
        for other in range(2):
            pair = FIRST[one], SECOND[other]
            assert np.isclose(compare(FIRST, SECOND, "pearson")[one, other], stats.pearsonr(*pair).statistic)
            assert np.isclose(compare(FIRST, SECOND, "spearman")[one, other], stats.spearmanr(*pair).statistic)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("spearman", "spearman"), ("pearson", "corr"), ("kendall", "tau-a"), ("cosine", "cosine"), ("rho-a", "rho-a")],
)
def test_comparisons_are_those_of_rsatoolbox(ours, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.rdm import RDMs
        from rsatoolbox.rdm import compare as peer

        expected = peer(RDMs(FIRST), RDMs(SECOND), method=theirs)
    assert np.allclose(compare(FIRST, SECOND, ours), expected, atol=1e-12)


def test_kendall_by_counting_pairs():
    one, other = np.round(FIRST[0] * 5), SECOND[0]
    signs = np.sign(one[:, None] - one) * np.sign(other[:, None] - other)
    assert np.isclose(compare(one[None], other[None], "kendall")[0, 0], signs.sum() / (45 * 44))


def test_rho_a_is_the_mean_over_ties_broken_at_random():
    """By brute force over many orders of the ties."""
    draws = [
        stats.spearmanr(*(side + 1e-6 * RANDOM.random(45) for side in (np.round(FIRST[0] * 3), SECOND[0]))).statistic
        for _ in range(4000)
    ]
    found = compare(np.round(FIRST[:1] * 3), SECOND[:1], "rho-a")[0, 0]
    assert abs(found - np.mean(draws)) < 4 * np.std(draws) / np.sqrt(len(draws))


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_weights_are_numbers_of_copies(comparison):
    weights = RANDOM.integers(0, 4, 45)
    found = Comparing(FIRST, SECOND, comparison)(weights)
    copies = (np.repeat(side, weights, axis=1) for side in (FIRST, SECOND))
    assert np.allclose(found, compare(*copies, comparison), atol=1e-12)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_pairs_that_are_missing_on_either_side_are_left_out(comparison):
    first, second = FIRST.copy(), SECOND.copy()
    first[1, :9], second[0, 40:] = np.nan, np.nan
    found = compare(first, second, comparison)
    assert np.isclose(found[1, 0], compare(first[[1], 9:40], second[[0], 9:40], comparison)[0, 0])
    assert np.isclose(found[2, 1], compare(FIRST[[2]], SECOND[[1]], comparison)[0, 0])


@pytest.mark.parametrize("comparison", ["spearman", "kendall", "rho-a"])
@pytest.mark.parametrize("scale", [1.0, 1e-60, 1e60])
def test_what_is_equal_but_for_rounding_is_a_tie(comparison, scale):
    """F98: as in the stored matrices, the distances of a picture that is there twice."""
    equal = np.round(FIRST * 4) * 0.3 + 0.1
    apart = equal * (1 + 1e-12 * RANDOM.random(equal.shape))
    assert all(len(np.unique(row)) > 25 for row in apart)
    assert np.allclose(compare(apart * scale, SECOND, comparison), compare(equal, SECOND, comparison), atol=1e-12)
    assert np.allclose(compare(SECOND, apart * scale, comparison), compare(SECOND, equal, comparison), atol=1e-12)
    assert np.allclose(noise_ceiling(apart * scale, comparison), noise_ceiling(equal, comparison), atol=1e-12)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_what_does_not_vary_has_no_correlation(comparison):
    """F53: never 0 or 1 instead."""
    first = np.stack([np.full(45, 0.3), np.full(45, np.nan), FIRST[0]])
    found = compare(first, SECOND, comparison)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2]).all()
    assert np.isnan(compare(FIRST[:, :2], SECOND[:, :2], comparison)).all()  # two pairs
