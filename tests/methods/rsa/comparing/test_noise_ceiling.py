"""Noise ceilings against the closed formula for simulated subjects, and against rsatoolbox."""

import warnings

import numpy as np
import pytest

from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling


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


@pytest.mark.parametrize("comparison", ["spearman", "pearson", "cosine", "kendall", "rho-a"])
def test_a_subject_counts_over_the_pairs_it_has(comparison):
    """F99: brute force, subject by subject, of the pairs that one and the others have."""
    subjects = np.random.default_rng(0).random((4, 30)) + np.arange(30) / 10
    subjects[0, :9], subjects[1, 5:15], subjects[3, 20], subjects[:, 29] = np.nan, np.nan, np.nan, np.nan
    lower, upper = [], []
    for one, own in enumerate(subjects):
        pooled = []
        for group in (np.delete(np.arange(4), one), np.arange(4)):
            column = []
            for pair in range(30):
                there = [subject for subject in group if np.isfinite(subjects[subject, pair])]
                mean = np.mean([_form(subjects[subject], comparison)[pair] for subject in there] or [np.nan])
                column.append(mean.round(12))  # equal means are equal
            pooled.append(np.array(column))
        both = [np.isfinite(own) & np.isfinite(other) for other in pooled]
        made = [compare(own[some][None], other[some][None], comparison)[0, 0] for some, other in zip(both, pooled)]
        lower.append(made[0])
        upper.append(made[1])
    assert np.allclose(noise_ceiling(subjects, comparison), (np.mean(lower), np.mean(upper)), atol=1e-12)


def _form(values: np.ndarray, comparison: str) -> np.ndarray:
    known, made = np.isfinite(values), np.full(len(values), np.nan)
    there = values[known]
    if comparison == "cosine":
        made[known] = there / np.linalg.norm(there) * len(there) ** 0.5
    elif comparison == "pearson":
        made[known] = (there - there.mean()) / there.std()
    else:
        made[known] = (np.argsort(np.argsort(there)) + 1 - (len(there) + 1) / 2) / len(there)  # all numbers differ
    return made
