"""Curves against closed formulas: von Mises, Gaussian, cosine, and what half-wave rectification makes of them."""

import numpy as np
import pytest

from cnnprobe.methods.tuning import curves as tc

ANGLES = np.arange(24) * 7.5


def gaussian(centre, sigma):
    """Return a Gaussian curve around 180 degrees."""
    away = (ANGLES - centre + 90) % 180 - 90
    return np.exp(-(away**2) / 2 / sigma**2)[None]


@pytest.mark.parametrize("centre", [0.0, 3.0, 44.0, 91.0, 178.0])
@pytest.mark.parametrize("sigma", [12.0, 18.0, 25.0])
def test_half_width_of_a_gaussian_is_1_18_sigma(centre, sigma):
    preferred, width = tc.half_width(gaussian(centre, sigma), ANGLES)
    assert abs((preferred[0] - centre + 90) % 180 - 90) < 0.3
    assert width[0] == pytest.approx(sigma * np.sqrt(2 * np.log(2)), abs=0.6)


@pytest.mark.parametrize("period", [180, 360])
def test_angles_are_below_the_period_as_they_are_stored(period):
    """F98: a rounding below 0 is 0, not the period, in single precision."""
    angles = np.array([-1e-17, -1e-9, 0.0, period, period - 1e-9, 2 * period - 1e-17, 17.0, -17.0])
    found = tc.within(angles, period)
    assert np.float32(found).tolist() == [0, 0, 0, 0, 0, 0, 17, period - 17]
    assert np.isnan(tc.within(np.nan, period))


def test_a_curve_that_never_falls_to_half_has_no_half_width():
    preferred, width = tc.half_width(2 + gaussian(30, 20), ANGLES)
    assert preferred[0] == pytest.approx(30, abs=0.2)
    assert np.isnan(width[0])
    preferred, width = tc.half_width(np.zeros((1, 24)), ANGLES)
    assert np.isnan([preferred[0], width[0]]).all()


@pytest.mark.parametrize("kappa", [0.5, 2.0, 5.0])
def test_circular_variance_of_a_von_mises_curve_is_1_minus_a_ratio_of_bessel_functions(kappa):
    from scipy.special import i0, i1

    curve = np.exp(kappa * np.cos(np.radians(2 * (ANGLES - 37))))[None]
    assert tc.circular_variance(curve, ANGLES)[0] == pytest.approx(1 - i1(kappa) / i0(kappa), abs=1e-9)
    assert tc.circular_variance(curve * 7, ANGLES)[0] == pytest.approx(tc.circular_variance(curve, ANGLES)[0])


def test_the_ends_of_circular_variance_and_orientation_index():
    flat, single = np.full((1, 24), 3.0), np.eye(24)[[5]]
    assert tc.circular_variance(flat, ANGLES)[0] == pytest.approx(1)
    assert tc.circular_variance(single, ANGLES)[0] == pytest.approx(0)
    assert tc.orientation_index(flat, ANGLES)[0] == 0
    assert tc.orientation_index(single, ANGLES)[0] == 1
    nothing = np.zeros((1, 24))
    assert np.isnan(tc.circular_variance(nothing, ANGLES)[0])
    assert np.isnan(tc.orientation_index(nothing, ANGLES)[0])


def test_the_index_interpolates_where_no_orthogonal_was_shown():
    angles = np.arange(9) * 20.0  # 90 is half way between 80 and 100
    curve = np.array([[9.0, 0, 0, 0, 1, 3, 0, 0, 0]])
    assert tc.orientation_index(curve, angles)[0] == pytest.approx((9 - 2) / (9 + 2))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.1])
def test_harmonics_of_rectified_cosines(shift):
    """F1/F0 is pi/2 for half a wave, 0 for none, 2 for a single phase; F1 is exact with 8 phases, the mean nearly."""
    turns = 2 * np.pi * np.arange(8) / 8
    wave = np.maximum(np.cos(turns + shift), 0)
    assert tc.strength(wave, "f1") == pytest.approx(0.5)
    assert tc.strength(wave, "mean") == pytest.approx(1 / np.pi, rel=1 - np.pi / 8 / np.tan(np.pi / 8) + 1e-9)
    assert tc.strength(wave, "max") == pytest.approx(1, abs=1 - np.cos(np.pi / 8) + 1e-9)
    assert tc.modulation_ratio(wave) == pytest.approx(np.pi / 2, rel=0.055)
    assert np.angle(tc.harmonic(wave)) == pytest.approx(shift)
    assert tc.modulation_ratio(np.ones(8)) == pytest.approx(0)
    assert tc.modulation_ratio(np.eye(8)[2]) == pytest.approx(2)
    assert np.isnan(tc.modulation_ratio(np.zeros(8)))


@pytest.mark.parametrize("n_x", [0.25, 0.3, 0.4, 0.5])
def test_octaves_of_a_gaussian_passband(n_x):
    """A Gabor of n_x = sigma f passes exp(-2 (pi n_x)^2 (u / f - 1)^2): the formula's bandwidth, and the table's."""
    waves = np.geomspace(0.01, 0.4, 60)
    curve = np.exp(-2 * (np.pi * n_x) ** 2 * (waves / 0.1 - 1) ** 2)[None]
    best, low, high = tc.octaves(curve, waves)
    assert best[0] == pytest.approx(0.1, rel=0.01)
    assert np.log2(high / low)[0] == pytest.approx(tc.gabor_octaves(n_x), rel=0.02)
    table = {0.3: 2.11, 0.4: 1.47, 0.5: 1.14}
    assert tc.gabor_octaves(n_x) == pytest.approx(table.get(n_x, tc.gabor_octaves(n_x)), abs=0.005)
    assert np.isnan(tc.gabor_octaves(0.18))


def test_low_pass_and_high_pass_curves_have_one_side_only():
    waves = np.geomspace(0.03, 0.4, 12)
    falling = np.exp(-np.arange(12) / 2.0)
    best, low, high = tc.octaves(np.stack([falling, falling[::-1]]), waves)
    assert best.tolist() == pytest.approx([waves[0], waves[-1]])
    assert np.isnan(low).tolist() == [True, False]
    assert np.isnan(high).tolist() == [False, True]


def test_half_height_is_found_by_hand_on_straight_lines():
    curve = np.array([[0.0, 2, 4, 4, 1, 0]])
    # parabola through 2, 4, 4: peak 4.25 half a step on; half 2.125 lies at step 1.0625 and at 3 + 1.875 / 3
    place, height = tc.peak(curve, False)
    assert (place[0], height[0]) == (2.5, 4.25)
    low, high = tc.half_height(curve, False)
    assert 2.5 - low[0] == pytest.approx(1 + 0.125 / 2)
    assert 2.5 + high[0] == pytest.approx(3 + 1.875 / 3)


def test_sparseness():
    assert tc.sparseness(np.eye(5)[[2]])[0] == pytest.approx(1)
    assert tc.sparseness(np.full((1, 5), 4.0))[0] == pytest.approx(0)
    assert np.isnan(tc.sparseness(np.zeros((1, 5)))[0])
    half = np.array([[1.0, 1, 0, 0]])
    assert tc.sparseness(half)[0] == pytest.approx((1 - 0.25 / 0.5) / 0.75)


def test_rates_are_cut_at_nothing_after_the_blank_is_taken_off():
    assert tc.rates(np.array([[-1.0, 2]])).tolist() == [[0, 2]]
    assert tc.rates(np.array([[-1.0, 2]]), np.array([1.5])).tolist() == [[0, 0.5]]


def test_a_grid_needs_every_combination_once():
    factors = {"a": np.array([1.0, 0, 0, 1, 9]), "b": np.array([0.0, 0, 5, 5, 9])}
    where = np.array([True, True, True, True, False])
    (a, b), index = tc.grid(factors, ("a", "b"), where)
    assert (a.tolist(), b.tolist(), index.tolist()) == ([0, 1], [0, 5], [[1, 2], [0, 3]])
    with pytest.raises(ValueError, match="not every combination of a and b"):
        tc.grid(factors, ("a", "b"), np.array([True, True, True, False, False]))
