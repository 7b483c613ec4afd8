"""Averages of maps against plain loops and against what is known of noise."""

import numpy as np
import pytest

from cnnprobe.methods.gbp.averages import average, counts


def some_maps(images=9, seed=0, signal=1.0, cut=True):
    """Return maps of one template in noise, cut off at different places."""
    random = np.random.default_rng(seed)
    template = random.normal(size=(2, 11, 13))
    maps = (signal * template + random.normal(size=(images, 2, 11, 13))).astype(np.float32)
    covered = np.ones((images, 11, 13), bool)
    for one, top in zip(covered[: images * cut], random.integers(0, 8, images)):
        one[:top] = False
    maps *= covered[:, None]
    return maps, covered, template


def test_mean_and_deviation_are_those_of_a_loop():
    maps, covered, _ = some_maps()
    found = average(maps, covered, 9)
    for channel, y, x in np.ndindex(2, 11, 13):
        values = maps[covered[:, y, x], channel, y, x].astype(np.float64)
        assert found.coverage[channel, y, x] == len(values)
        scaled = [one[channel, y, x] / np.abs(one).max() for one in maps[covered[:, y, x]]]
        if 2 * len(values) < 9:
            assert np.isnan(found.mean[channel, y, x]) and np.isnan(found.sd[channel, y, x])
            continue
        assert np.isclose(found.mean[channel, y, x], values.mean(), atol=1e-6)
        assert np.isclose(found.sd[channel, y, x], values.std(ddof=1), atol=1e-6)
        assert np.isclose(found.normalised[channel, y, x], np.mean(scaled), atol=1e-6)
    assert np.isnan(found.mean).any() and not np.isnan(found.mean).all()


def test_agreement_is_that_of_a_loop():
    maps, covered, _ = some_maps()
    found = average(maps, covered, 9)
    known = ~np.isnan(found.mean[0])
    with_mean = [np.corrcoef(one[:, own & known].ravel(), found.mean[:, own & known].ravel())[0, 1]
                 for one, own in zip(maps, covered)]  # fmt: skip
    assert np.isclose(found.consistency, np.mean(with_mean), atol=1e-5)
    common = covered.all(0)
    pairs = [
        np.corrcoef(maps[i][:, common].ravel(), maps[j][:, common].ravel())[0, 1] for i in range(9) for j in range(i)
    ]
    assert np.isclose(found.pairwise, np.mean(pairs), atol=1e-6)


def test_reliability_is_the_correlation_of_two_means():
    maps, covered, _ = some_maps(16, cut=False)
    found = average(maps, covered, 16)
    assert counts(16).tolist() == [1, 2, 4, 8]
    for n, value in zip(counts(16), found.reliability):
        one, other = maps[0 : 2 * n : 2].mean(0), maps[1 : 2 * n : 2].mean(0)
        assert np.isclose(value, np.corrcoef(one.ravel(), other.ravel())[0, 1], atol=1e-6)


def test_reliability_grows_as_that_of_a_mean_and_noise_has_none():
    """n maps of reliability r give n r / (1 + (n - 1) r) (Spearman, Brown); noise 0, its consistency 1 / sqrt(k)."""
    found, noise = [], []
    for seed in range(20):
        maps, covered, _ = some_maps(64, seed, signal=0.5, cut=False)
        found.append(average(maps, covered, 64).reliability)
        only = average(some_maps(64, seed, signal=0, cut=False)[0], covered, 64)
        noise.append([only.pairwise, only.consistency, only.reliability[-1]])
    single = 0.2  # variance 0.25 of the signal in 1.25
    n = counts(64)
    expected = n * single / (1 + (n - 1) * single)
    assert np.allclose(np.mean(found, 0), expected, atol=0.03)
    pairwise, consistency, reliability = np.mean(noise, 0)
    assert abs(pairwise) < 0.01 and abs(reliability) < 0.05
    assert 0.1 < consistency < 0.15


@pytest.mark.parametrize("k", [1, 2, 3, 100])
def test_numbers_of_stimuli_stop_at_half(k):
    n = counts(k)
    assert n[0] == 1 and (k < 2 or n[-1] <= k / 2 < 2 * n[-1])


def test_one_map_and_maps_of_nothing():
    maps, covered, _ = some_maps(1)
    one = average(maps, covered, 8)
    assert np.isnan([one.consistency, one.pairwise]).all() and np.isnan(one.reliability).all()
    assert np.isnan(one.sd).all() and not np.isnan(one.mean).all()
    nothing = average(np.zeros((4, 2, 5, 5), np.float32), np.ones((4, 5, 5), bool), 4)
    assert not nothing.mean.any() and np.isnan(nothing.consistency) and not nothing.normalised.any()
