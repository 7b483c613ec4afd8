"""How alike maps are, against other people's programs and against what is known without computing."""

import numpy as np
import pytest
from scipy import stats

from cnnprobe.methods.gbp.likeness import MEASURES, hog, likeness, scaled, spearman, ssim


def smooth(seed, shape):
    """Return maps 0 to 1 with structure: noise, summed along both axes."""
    values = np.random.default_rng(seed).normal(size=shape).cumsum(-1).cumsum(-2)
    return scaled(values)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_correlation_is_scipys_with_and_without_ties(levels):
    random = np.random.default_rng(levels)
    a, b = random.integers(0, levels, (2, 6, 4, 9)) / 7
    b[3:] += a[3:]
    expected = [stats.spearmanr(one.ravel(), other.ravel()).statistic for one, other in zip(a, b)]
    assert np.allclose(spearman(a, b), expected, rtol=0, atol=1e-12)


def test_rank_correlation_by_hand():
    """Ranks 1 2.5 2.5 4 against 4 3 2 1: the textbook's product of deviations."""
    a, b = np.array([[1, 2, 2, 9.0]]), np.array([[8, 7, 6, 5.0]])
    assert spearman(a, b)[0] == pytest.approx(-4.5 / np.sqrt(4.5 * 5))
    assert np.isnan(spearman(a, a * 0)[0])


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 64, 41), (1, 11, 30), (2, 224, 224)])
def test_structural_similarity_is_that_of_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = smooth(0, shape), smooth(1, shape)
    b = 0.7 * a + 0.3 * b
    look = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    expected = [metrics.structural_similarity(one, other, **look) for one, other in zip(a, b)]
    assert np.allclose(ssim(a, b), expected, rtol=0, atol=1e-10)


def test_structural_similarity_by_the_formula_of_one_window():
    """A map as large as the window has one: equation 13 of Wang et al. written out."""
    a, b = np.random.default_rng(0).random((2, 1, 5, 5))
    edge = np.exp(-((np.arange(5) - 2.0) ** 2) / 4.5)
    weights = np.outer(edge, edge) / np.outer(edge, edge).sum()
    ma, mb = (weights * a[0]).sum(), (weights * b[0]).sum()
    va, vb = (weights * (a[0] - ma) ** 2).sum(), (weights * (b[0] - mb) ** 2).sum()
    both = (weights * (a[0] - ma) * (b[0] - mb)).sum()
    expected = (2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert ssim(a, b)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 48, 48), (2, 64, 64), (1, 100, 60), (1, 224, 224), (2, 32, 32), (1, 10, 40)])
def test_histograms_of_gradients_are_those_of_scikit_image(shape):
    feature = pytest.importorskip("skimage.feature")
    maps = smooth(2, shape)
    side = min(16, min(shape[1:]) // 3)
    expected = [feature.hog(one, pixels_per_cell=(side, side), cells_per_block=(3, 3)) for one in maps]
    assert np.allclose(hog(maps), expected, rtol=0, atol=1e-6)  # its sums are in single precision


def test_edges_go_to_the_bin_of_their_gradient():
    """A ramp to the right has its gradient at 0 degrees, one downwards at 90: the bins 0 and 4 of 20 degrees each."""
    ramp = np.broadcast_to(np.linspace(0, 1, 48), (1, 48, 48))
    for maps, expected in ((ramp, 0), (ramp.swapaxes(1, 2), 4)):
        histograms = hog(maps).reshape(9, 9)
        assert (histograms[:, expected] > 0.3).all()
        assert np.delete(histograms, expected, 1).max() < 0.04


def test_a_map_is_like_itself_and_like_itself_on_another_scale():
    maps = np.random.default_rng(3).normal(size=(2, 3, 32, 32))
    assert np.allclose(likeness(maps, maps), 1)
    assert np.allclose(likeness(maps, 1e-9 * maps), 1, atol=1e-9)
    assert likeness(maps, maps).shape == (len(MEASURES), 2)


def test_only_the_signed_measure_sees_the_sign():
    maps = np.random.default_rng(4).normal(size=(1, 1, 32, 32))
    assert np.allclose(likeness(maps, -maps)[:, 0], [1, -1, 1, 1])


def test_unrelated_noise_is_not_alike():
    a, b = np.random.default_rng(5).normal(size=(2, 4, 3, 64, 64))
    assert np.abs(likeness(a, b)[:3]).max() < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 50), (3, 2, 2), (1, 3, 40), (2, 7, 7)])
def test_maps_of_any_size_have_a_likeness_at_most_one(shape):
    a, b = np.random.default_rng(6).normal(size=(2, 2, *shape))
    values = likeness(a, b)
    assert np.max(values, initial=0, where=~np.isnan(values)) <= 1 + 1e-12
    assert np.isfinite(values[2]).all() == (shape != (1, 1, 1))
    assert np.isfinite(values[3]).all() == (min(shape[1:]) >= 3)  # nothing on a line has an orientation


def test_what_is_not_a_number_spoils_its_own_map_only():
    a, b = np.random.default_rng(7).normal(size=(2, 3, 1, 16, 16))
    whole = likeness(a, b)
    a[1, 0, 3, 3], b[2, 0, 0, 0] = np.nan, np.inf
    values = likeness(a, b)
    assert np.isnan(values[:, 1:]).all()
    assert np.array_equal(values[:, 0], whole[:, 0])


def test_constant_maps_have_no_likeness_and_none_warns():
    """Not even to a map that is almost empty, whose structural similarity to an empty one is nearly 1."""
    empty, spot = np.zeros((1, 1, 32, 32)), np.zeros((1, 1, 32, 32))
    spot[..., 3, 3] = 1
    assert ssim(empty[0], spot[0])[0] > 0.8
    for constant in (empty, empty - 2):
        assert np.isnan(likeness(constant, spot)).all()
        assert np.isnan(likeness(spot, constant)).all()
    assert likeness(empty[:0], empty[:0]).shape == (4, 0)
