"""Mahalanobis and crossnobis distances against rsatoolbox and scikit-learn; crossnobis has no bias."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from cnnprobe.instruments.statistics.dissimilarity import Products
from cnnprobe.methods.rsa import noise_distances as engine
from cnnprobe.methods.rsa.noise_distances import crossnobis, mahalanobis, shrinkage, whitened


def repeats(conditions=5, count=6, features=12, seed=0, signal=1.0):
    """Patterns (repeat, feature) with noise that differs by feature and is shared by some; their conditions."""
    random = np.random.default_rng(seed)
    means = signal * random.normal(size=(conditions, features))
    mixing = np.eye(features) * random.uniform(0.5, 2, features) + 0.2
    noise = random.normal(size=(count, conditions, features)) @ mixing
    return (means + noise).reshape(-1, features), np.tile(np.arange(conditions), count)


def shrunk(patterns, groups):
    """Noise covariance by scikit-learn, with the divisor of rsatoolbox (residual degrees of freedom)."""
    residuals = patterns - np.stack([patterns[groups == group].mean(0) for group in groups])
    covariance, share = ledoit_wolf(residuals, assume_centered=True)
    return covariance * len(patterns) / (len(patterns) - len(np.unique(groups))), share


@pytest.mark.parametrize("features", [12, 200])
def test_whitened_products_are_those_of_the_inverse_covariance(features):
    patterns, groups = repeats(features=features)
    every = np.ones(len(groups), bool)
    covariance, share = shrunk(patterns, groups)
    inner = torch.from_numpy(patterns @ patterns.T)
    assert np.allclose(
        whitened(inner, groups, every, features), patterns @ np.linalg.inv(covariance) @ patterns.T, rtol=1e-8
    )
    residuals = patterns - np.stack([patterns[groups == group].mean(0) for group in groups])
    assert np.isclose(shrinkage(torch.from_numpy(residuals @ residuals.T), features), share, rtol=1e-10)


def test_mahalanobis_is_its_formula():
    patterns, groups = repeats(features=30)
    inverse = np.linalg.inv(shrunk(patterns, groups)[0])
    means = np.stack([patterns[groups == group].mean(0) for group in range(5)])
    found = mahalanobis(Products().add(patterns), groups).numpy()
    for a in range(5):
        for b in range(5):
            assert np.isclose(found[a, b], np.sqrt((means[a] - means[b]) @ inverse @ (means[a] - means[b])), atol=1e-7)


def test_crossnobis_is_that_of_rsatoolbox(monkeypatch):
    """With one and the same noise for all pairs of folds, which is what it takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm
    patterns, groups = repeats(count=5)
    inverse = np.linalg.inv(shrunk(patterns, groups)[0])
    data = Dataset(patterns, obs_descriptors={"condition": groups, "fold": np.arange(25) // 5})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = calc_rdm(data, "crossnobis", descriptor="condition", cv_descriptor="fold", noise=inverse)
    monkeypatch.setattr(engine, "whitened", lambda *_: torch.from_numpy(patterns @ inverse @ patterns.T))
    found = crossnobis(Products().add(patterns), groups)
    assert np.allclose(found[np.triu_indices(5, 1)], peer.dissimilarities[0], rtol=1e-8)


def test_the_noise_of_a_pair_of_folds_is_that_of_the_others():
    """By brute force; two conditions have a repeat more."""
    patterns, groups = repeats(conditions=3, count=5)
    patterns, groups = patterns[:-1], groups[:-1]
    fold = np.arange(len(groups)) // 3 % 4
    expected = []
    for m in range(4):
        for n in range(m):
            other = (fold != m) & (fold != n)
            inverse = np.linalg.inv(shrunk(patterns[other], groups[other])[0])
            one, two = (patterns[(groups == 0) & (fold == k)].mean(0) - patterns[(groups == 2) & (fold == k)].mean(0)
                        for k in (m, n))  # fmt: skip
            expected.append(one @ inverse @ two / 12)
    found = crossnobis(Products().add(patterns), groups)
    assert np.isclose(found[0, 2], np.mean(expected), rtol=1e-8) and torch.equal(found, found.T)


@pytest.mark.slow
def test_crossnobis_of_equal_patterns_is_0_on_average_and_can_be_negative():
    found = [
        crossnobis(Products().add(patterns), groups)[0, 1].item()
        for patterns, groups in (repeats(count=5, seed=seed, signal=0) for seed in range(400))
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error and np.min(found) < -5 * error < 0


def test_what_has_no_repeats_or_no_noise_has_no_distance():
    """F53."""
    patterns, groups = repeats(conditions=4, count=4)
    patterns[3] = np.nan  # leaves condition 3 with three repeats
    found = crossnobis(Products().add(patterns), groups).numpy()
    assert np.isnan(found[3]).all() and np.isfinite(found[:3, :3]).all()
    still, groups = np.repeat(patterns[:3], 2, 0), np.repeat(np.arange(3), 2)
    assert mahalanobis(Products().add(still), groups).isnan().all()
    assert crossnobis(Products().add(patterns[:3]), np.arange(3)).isnan().all()
