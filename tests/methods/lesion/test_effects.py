"""Losses, and how often random lesions lose as much."""

import numpy as np
import pytest
from scipy.stats import binomtest

from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.lesion.effects import Effects, chance
from cnnprobe.methods.lesion.lesioning import Answers
from cnnprobe.methods.lesion.lesions import Group, Lesion
from tests.support.networks.detectors import Detectors


def lesions(*controls, how="zero"):
    """Return lesions of one unit, each with so many controls."""
    (layer,) = find(Detectors().eval(), "conv1", (4, 5, 5))
    group = Group("0", 1, np.array([0]))
    return [Lesion(layer, group, how, control=control) for count in controls for control in range(-1, count)]


def test_p_counts_the_controls_behind_a_lesion_and_itself():
    """F99."""
    loss = np.array([0.3, 0.3, 0.1, 0.2, 0.5, 0.1, 0.9, 0.05, 0.0])
    found = chance(lesions(3, 0, 2, 0), loss)
    expected = [(1 + 1) / 4, *[np.nan] * 3, np.nan, (1 + 1) / 3, *[np.nan] * 3]
    np.testing.assert_allclose(found, np.array(expected, np.float32))


def test_controls_without_a_loss_do_not_count():
    """F99: they have lost neither less nor more; infinitely much is more."""
    loss = np.array([0.3, 0.1, np.nan, 0.4, 0.3, np.nan, np.nan, 0.3, np.inf, np.nan])
    found = chance(lesions(3, 2, 2), loss)
    expected = [(1 + 1) / 3, *[np.nan] * 3, np.nan, *[np.nan] * 2, (1 + 1) / 2, *[np.nan] * 2]
    np.testing.assert_allclose(found, np.array(expected, np.float32))


def test_columns_are_those_of_a_count_by_hand():
    """Ten images of two classes, one unread and one whose partner is unread."""
    labels = np.array([0, 1] * 5)
    answers = Answers.empty(1, 2, 10, 2)
    answers.read[:], answers.partner_read[:] = True, True
    answers.read[9] = answers.partner_read[8] = False
    answers.intact[0] = [0, 1, 0, 1, 0, 1, 0, 0, 1, -1]
    answers.decided[:] = [1, 1, 0, 1, 0, 0, 0, 0, 1, -1]
    answers.moved[:] = np.arange(10) / 10
    answers.moments[:] = [[9, 9], [9, 0], [18, 9]]  # variances 1 and 1
    swap, zero = lesions(0, how="swap")[0], lesions(0)[0]
    found = Effects([swap, zero], labels, 2, True, "accuracy").values(answers)
    assert found["images"].tolist() == [8, 9]
    np.testing.assert_allclose(found["before"], [7 / 8, 7 / 9], rtol=1e-6)
    np.testing.assert_allclose(found["after"], [5 / 8, 5 / 9], rtol=1e-6)
    np.testing.assert_allclose(found["loss"], [2 / 8, 2 / 9], rtol=1e-6)
    np.testing.assert_allclose(found["changed"], [2 / 8, 2 / 9], rtol=1e-6)
    np.testing.assert_allclose(found["unexplained"], [2.8 / 8 / 2, 3.6 / 9 / 2], rtol=1e-6)
    np.testing.assert_allclose(found["class_before"][0], [1, 3 / 4], rtol=1e-6)
    np.testing.assert_allclose(found["class_after"][0], [3 / 4, 2 / 4], rtol=1e-6)
    np.testing.assert_allclose(found["class_changed"][0], [1 / 4, 1 / 4], rtol=1e-6)
    exact = binomtest(2, 8).proportion_ci(0.95, "exact")
    assert (found["changed_low"][0], found["changed_high"][0]) == pytest.approx((exact.low, exact.high), rel=1e-5)


def test_intervals_of_the_change_hold_the_truth_as_often_as_they_say():
    """F99: Of few images, of which a lesion spoils one in ten: 95 % at least."""
    rng, held = np.random.default_rng(0), 0
    labels = np.zeros(20, np.int64)
    for _ in range(200):
        answers = Answers.empty(1, 1, 20, 2)
        answers.read[:] = True
        answers.intact[0] = rng.random(20) < 0.2
        answers.decided[0] = np.where(rng.random(20) < 0.1, 1, answers.intact[0])
        found = Effects(lesions(0), labels, 0, True, "accuracy").values(answers)
        held += found["difference_low"][0] <= -0.08 <= found["difference_high"][0]
    assert held >= 0.95 * 200 - 6
