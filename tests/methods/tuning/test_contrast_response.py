"""Fits of curves that were made by the formula, and refusals of those that were not."""

import numpy as np
import pytest

from cnnprobe.methods.tuning.contrast_response import fit_contrast, naka_rushton

CONTRASTS = np.array([0.0625, 0.125, 0.25, 0.5, 1.0])


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("half", [0.1, 0.3, 0.7])
def test_a_planted_curve_is_found(exponent, half):
    curve = naka_rushton(CONTRASTS, 3.0, 40.0, half, exponent)
    fit = fit_contrast(curve[None], CONTRASTS, np.array([3.0]))
    assert fit.exponent[0] == pytest.approx(exponent, rel=1e-4)
    assert fit.half[0] == pytest.approx(half, rel=1e-4)
    assert fit.largest[0] == pytest.approx(40, rel=1e-4)
    assert fit.explained[0] == pytest.approx(1, abs=1e-9)


def test_a_line_has_exponent_1_and_does_not_saturate():
    fit = fit_contrast((5 * CONTRASTS)[None], CONTRASTS, np.zeros(1))
    assert fit.exponent[0] == pytest.approx(1, abs=0.05)
    assert np.isnan(fit.half[0])
    assert np.isnan(fit.largest[0])
    assert fit.explained[0] > 0.999


def test_what_it_does_not_describe_is_not_reported():
    curves = np.array([[1.0, 0, 1, 0, 1], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0]])
    fit = fit_contrast(curves, CONTRASTS, np.zeros(3))
    assert fit.explained[0] < 0.8
    assert np.isnan(fit.exponent).all()
    assert np.isnan(fit.explained[1:]).all()


def test_a_step_between_two_contrasts_has_no_exponent():
    fit = fit_contrast(np.array([[0.0, 0, 0, 2, 12]]), CONTRASTS, np.zeros(1))
    assert fit.explained[0] > 0.99
    assert np.isnan([fit.exponent[0], fit.half[0], fit.largest[0]]).all()


def test_the_scale_of_the_responses_changes_only_the_scale():
    curve = naka_rushton(CONTRASTS, 0.0, 1.0, 0.2, 2.0)
    fit = fit_contrast(np.stack([curve, 1e6 * curve, 1e-6 * curve]), CONTRASTS, np.zeros(3))
    assert fit.half == pytest.approx([0.2] * 3, rel=1e-4)
    assert fit.largest == pytest.approx([1, 1e6, 1e-6], rel=1e-4)


def test_two_contrasts_are_too_few():
    assert np.isnan(fit_contrast(np.ones((2, 2)), CONTRASTS[:2], np.zeros(2)).explained).all()
