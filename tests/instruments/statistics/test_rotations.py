"""Trajectories whose dynamics are known: rotations, decay, sequences, nothing; and permutations that judge rightly."""

from itertools import combinations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.stats import kstest

from cnnprobe.instruments.statistics.rotations import Dynamics, dynamics, p_of, permuted, planes, trajectories


def linear(speeds, decay=0.0, conditions=7, steps=40, units=20, seed=0):
    """Return (condition, time, unit) of x + (sum of planes omega K - decay) x in orthogonal planes."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((units, 2 * len(speeds))))[0]
    flow = np.zeros((2 * len(speeds),) * 2) - decay * np.eye(2 * len(speeds))
    for plane, speed in enumerate(speeds):
        flow[2 * plane + 1, 2 * plane], flow[2 * plane, 2 * plane + 1] = speed, -speed
    x = [rng.standard_normal((conditions, len(flow)))]
    for _ in range(steps - 1):
        x.append(x[-1] + x[-1] @ flow.T)
    return np.stack(x, 1) @ axes.T


def smooth(values, width=3):
    return gaussian_filter1d(values, width, axis=1)


def judged(activity, seed, permutations):
    """Return R² of the skew-symmetric matrix and of any, p of the first and of their ratio, and the mean by chance."""
    components = trajectories(activity).components
    found, random = dynamics(components), np.random.default_rng([seed, 1])
    chance = [dynamics(permuted(components, random)) for _ in range(permutations)]
    skew = np.array([one.skew_r2 for one in chance])
    p = p_of(found.skew_r2, skew), p_of(found.ratio, np.array([one.ratio for one in chance]))
    return found.skew_r2, found.r2, *p, skew.mean()


@pytest.mark.parametrize("speeds", [[0.1], [0.3, 0.1]])
def test_planted_rotations_are_found_with_their_angle(speeds):
    found = trajectories(linear(speeds))
    fitted = dynamics(found.components)
    assert fitted.skew_r2 == pytest.approx(1, abs=1e-9) and fitted.r2 == pytest.approx(1, abs=1e-9)
    turning = planes(found.components, fitted)
    assert sorted(one.angle for one in turning) == pytest.approx(sorted(np.arctan(speeds)), rel=1e-6)
    assert sum(one.r2 for one in turning) == pytest.approx(fitted.skew_r2)
    assert sum(one.variance for one in turning) == pytest.approx(1)
    assert turning[0].r2 == max(one.r2 for one in turning)
    for one in turning:  # counter-clockwise, each by its angle
        z = one.activity[..., 0] + 1j * one.activity[..., 1]
        np.testing.assert_allclose(np.angle(z[:, 1:] / z[:, :-1]), one.angle, rtol=1e-5)


def test_decay_is_linear_and_no_rotation():
    found = trajectories(linear([0.0, 0.0], decay=0.1))
    fitted = dynamics(found.components)
    assert (fitted.r2, fitted.skew_r2) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    assert planes(found.components, fitted) == []
    chance = np.array([dynamics(permuted(found.components, np.random.default_rng(one))).skew_r2 for one in range(5)])
    assert p_of(fitted.skew_r2, chance) == 1


def test_a_sequence_that_is_the_same_for_all_leaves_nothing():
    """Where rounding alone tells conditions apart, too."""
    peak, time = np.linspace(3, 26, 12), np.arange(30.0)[:, None]
    bumps = np.exp(-((time - peak) ** 2) / 18)
    for activity in (np.stack([bumps] * 5), np.stack([bumps * (1 + 1e-7 * one) for one in range(5)]), bumps[None]):
        found = trajectories(activity)
        assert found.components.shape == (*activity.shape[:2], 0) and found.share == 0
        assert found.mean.shape == (30, 3) and found.mean_variance.sum() < 1
        fitted = dynamics(found.components)
        assert np.isnan([fitted.r2, fitted.skew_r2, fitted.ratio]).all()
        assert planes(found.components, fitted) == [] and np.isnan(p_of(fitted.skew_r2, np.zeros(3)))


def test_what_never_changes_has_no_dynamics():
    still = np.repeat(np.random.default_rng(0).standard_normal((6, 1, 8)), 9, 1)
    found = trajectories(still)
    assert found.share == 1 and found.mean.shape == (9, 0)
    assert np.isnan(dynamics(found.components).r2)
    assert np.isnan(trajectories(np.zeros((3, 4, 5))).share)


def test_components_are_those_of_a_singular_value_decomposition():
    activity = smooth(np.random.default_rng(1).standard_normal((6, 20, 15))) + np.sin(np.arange(20))[:, None]
    found = trajectories(activity)
    left = (activity - activity.mean(0)).reshape(-1, 15)
    first, sizes, _ = np.linalg.svd(left, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.components.reshape(-1, 6)), np.abs((first * sizes)[:, :6]), atol=1e-9)
    np.testing.assert_allclose(found.variance, (sizes**2 / (sizes**2).sum())[:6])
    about = activity - activity.mean((0, 1))
    assert found.share == pytest.approx((left**2).sum() / (about**2).sum())
    own = np.linalg.svd(activity.mean(0) - activity.mean((0, 1)))[1] ** 2
    np.testing.assert_allclose(found.mean_variance, (own / own.sum())[:3])


def test_the_skew_symmetric_matrix_is_the_best_of_all():
    """Against the least squares solution over an explicit basis of such matrices."""
    components = smooth(np.random.default_rng(2).standard_normal((5, 12, 6)), 1)
    before, change = components[:, :-1].reshape(-1, 6), np.diff(components, axis=1).reshape(-1, 6)
    basis = []
    for row, column in combinations(range(6), 2):
        one = np.zeros((6, 6))
        one[row, column], one[column, row] = 1, -1
        basis.append(one)
    design = np.stack([(before @ one.T).ravel() for one in basis], 1)
    weights = np.linalg.lstsq(design, change.ravel(), rcond=None)[0]
    best = np.tensordot(weights, basis, 1)
    fitted = dynamics(components)
    np.testing.assert_allclose(fitted.skew, best, atol=1e-12)
    left = ((change - before @ best.T) ** 2).sum() / (change**2).sum()
    assert fitted.skew_r2 == pytest.approx(1 - left, abs=1e-12)
    assert fitted.r2 > fitted.skew_r2 > 0
    assert sum(one.r2 for one in planes(components, fitted)) == pytest.approx(fitted.skew_r2)


def test_a_permutation_keeps_covariance_means_and_courses():
    components = trajectories(smooth(np.random.default_rng(3).standard_normal((40, 30, 12)))).components
    made = permuted(components, np.random.default_rng(0))
    flat, moved = components.reshape(-1, 6), made.reshape(-1, 6)
    np.testing.assert_allclose(moved.T @ moved, flat.T @ flat, atol=1e-9 * (flat**2).sum())
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-12)
    for own, other in zip(np.moveaxis(made, 2, 0), np.moveaxis(components, 2, 0)):  # another condition's
        alike = np.corrcoef(own, other)[: len(own), len(own) :]
        assert np.median(alike.max(1)) > 0.9 and (alike.argmax(1) == np.arange(40)).mean() < 0.3


def test_permutations_find_what_is_planted_and_nothing_where_there_is_nothing():
    for seed in range(3):
        noise = 0.1 * np.random.default_rng([seed, 2]).standard_normal((8, 30, 20))
        turning = linear([0.3, 0.15], steps=30, conditions=8, seed=seed)
        skew, free, p, p_ratio, chance = judged(turning + noise, seed, 99)
        assert p == p_ratio == 0.01 and chance < 0.5 < skew < free
    found = []
    for seed in range(40):
        own = smooth(np.random.default_rng([seed, 3]).standard_normal((8, 24, 12)))
        found.append(judged(own, seed, 19)[2:4])
    assert kstest(np.array(found)[:, 0], "uniform").pvalue > 0.001
    assert np.mean(np.array(found) <= 0.1, axis=0).max() <= 0.25


@pytest.mark.slow
@pytest.mark.parametrize("latent", [0, 4])
def test_p_is_uniform_where_components_do_not_belong_together(latent):
    """Of units that are independent, and of units that share a few courses."""
    found = []
    for seed in range(400):
        random = np.random.default_rng([seed, 4])
        own = smooth(random.standard_normal((8, 30, latent or 20)))
        own = own @ random.standard_normal((latent, 20)) if latent else own
        found.append(judged(own, seed, 39)[2:4])
    shares = np.mean(np.array(found) <= 0.05, axis=0)
    assert (shares > 0.01).all() and (shares < 0.11).all(), shares


def test_tuned_units_that_peak_one_after_the_other_turn_no_more_than_they_do_otherwise():
    """The representational model of Michaels et al. 2016: it looks rotational, the share of rotation does not tell."""
    random = np.random.default_rng(0)
    angles, preferred = 2 * np.pi * np.arange(8) / 8, random.uniform(0, 2 * np.pi, 60)
    time, lag = np.arange(30)[:, None] - 15, random.normal(0, 4, 60)
    activity = np.cos(angles[:, None, None] - preferred) * np.exp(-((time - lag) ** 2) / 32)
    skew, _, p, p_ratio, chance = judged(activity, 0, 99)
    assert skew > 2 * chance and p <= 0.02
    assert p_ratio > 0.1


def test_a_sequence_whose_strength_alone_depends_on_the_condition_passes_for_a_rotation():
    """Lebedev et al. 2019: what no permutation of conditions tells apart, and the page of `record` says so."""
    peak, time = np.linspace(3, 26, 30), np.arange(30.0)[:, None]
    strength = np.random.default_rng(0).uniform(0.5, 1.5, (8, 1, 1))
    skew, free, p, p_ratio, _ = judged(strength * np.exp(-((time - peak) ** 2) / 18), 0, 99)
    assert (round(skew, 2), round(free, 2)) == (0.81, 0.96) and p == p_ratio == 0.01


def test_the_ratio_of_nothing_is_nothing():
    assert Dynamics(0.0, 0.0, np.zeros((1, 1))).ratio == 0
    assert np.isnan(Dynamics(np.nan, np.nan, np.zeros((0, 0))).ratio)
