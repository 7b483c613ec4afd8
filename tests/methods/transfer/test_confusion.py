"""Accuracy, its interval, recall, precision and kappa: against published figures, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binomtest

from cnnprobe.methods.transfer.confusion import Confusion

AVATAR = np.array([[24821, 1637], [1884, 25714]])
"""Geometry and landmark of the AvatarNet experiment (its README); the rows are taken as the truth."""


def test_the_avatarnet_experiment():
    """7.T6: the figures that follow from its matrix."""
    found = Confusion(AVATAR)
    assert found.images == 54056
    assert found.accuracy == pytest.approx(0.934863845, abs=5e-10)
    assert found.standard_error == pytest.approx(0.0011, abs=5e-5)
    assert found.recall == pytest.approx([0.9381, 0.9317], abs=5e-5)
    assert found.precision == pytest.approx([0.9295, 0.9401], abs=5e-5)
    assert found.kappa == pytest.approx(0.870, abs=5e-4)


def test_the_interval_is_the_exact_one_of_scipy():
    expected = binomtest(24821 + 25714, 54056).proportion_ci(0.95, method="exact")
    assert Confusion(AVATAR).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_by_class_and_beyond_chance_as_scikit_learn_has_it():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    answers = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 3, 300))
    found = Confusion(metrics.confusion_matrix(truth, answers))
    precision, recall, _, _ = metrics.precision_recall_fscore_support(truth, answers)
    assert found.recall == pytest.approx(recall)
    assert found.precision == pytest.approx(precision)
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(truth, answers))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, answers))


def test_what_is_not_known_is_not_a_number():
    empty = Confusion(np.zeros((2, 2), int))
    assert np.isnan([empty.accuracy, empty.standard_error, empty.kappa, *empty.interval, *empty.recall]).all()
    one = Confusion(np.array([[3, 0], [0, 0]]))
    assert (one.accuracy, one.recall[0]) == (1, 1)
    assert np.isnan([one.recall[1], one.precision[1], one.kappa]).all()
