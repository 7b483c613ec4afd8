"""Noise ceilings against the closed formula for simulated subjects, and against rsatoolbox."""

import warnings

import numpy as np
import pytest

from cnnprobe.engine.matrix_comparison import compare
from cnnprobe.engine.noise_ceiling import noise_ceiling


def test_ceilings_of_simulated_subjects_are_those_of_the_formula():
    """For subjects of signal and noise of the same variance: upper .7416, lower .6708, truth .7071 for ten of them."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(20):
        truth = random.normal(size=4000)
        subjects = truth + random.normal(size=(10, 4000))
        own = compare(subjects, truth[None], "pearson").mean()
        found.append((*noise_ceiling(subjects, "pearson"), own))
    lower, upper, true = np.mean(found, axis=0)
    v, n = 1.0, 10
    assert abs(upper - np.sqrt((1 + v / n) / (1 + v))) < 0.004 and round(np.sqrt((1 + v / n) / (1 + v)), 4) == 0.7416
    assert abs(lower - 1 / np.sqrt((1 + v) * (1 + v / (n - 1)))) < 0.004
    assert abs(true - 1 / np.sqrt(1 + v)) < 0.004 and lower < true < upper


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("spearman", "spearman"), ("pearson", "corr"), ("kendall", "tau-a"), ("cosine", "cosine"), ("rho-a", "rho-a")],
)
def test_ceilings_are_those_of_rsatoolbox(ours, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
        from rsatoolbox.rdm import RDMs

        subjects = np.random.default_rng(1).random((4, 66)) + np.random.default_rng(2).random(66)
        expected = boot_noise_ceiling(RDMs(subjects), method=theirs)
    assert np.allclose(noise_ceiling(subjects, ours), expected, atol=1e-10)


def test_a_single_subject_or_no_common_pair_has_no_ceiling():
    one = np.random.default_rng(0).random((2, 10))
    assert np.isnan(noise_ceiling(one[:1], "spearman")).all()
    one[0, :5], one[1, 5:] = np.nan, np.nan
    assert np.isnan(noise_ceiling(one, "spearman")).all()


def test_pairs_missing_in_one_subject_are_left_out_for_all():
    subjects = np.random.default_rng(0).random((3, 20))
    missing = subjects.copy()
    missing[1, 3] = np.nan
    assert np.allclose(noise_ceiling(missing, "pearson"), noise_ceiling(np.delete(subjects, 3, 1), "pearson"))
