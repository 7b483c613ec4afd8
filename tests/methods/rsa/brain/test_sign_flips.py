"""Group maps: every flip by hand, planted effects, and how often chance is called an effect."""

from itertools import product

import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.brain.sign_flips import sign_flips


def maps(subjects=6, layers=2, shape=(3, 4, 2), seed=0):
    return np.random.default_rng(seed).normal(size=(subjects, layers, *shape))


def test_every_flip_is_that_of_a_loop():
    values = maps()
    values[:, 1, 0, 0, 0] += 3
    mean, p, flips = sign_flips(values, draws=64, seed=0)
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-12)

    def statistic(flipped):
        variance = flipped.var(0, ddof=1)
        return flipped.mean(0) / np.sqrt((variance + variance.mean()) / 2 / 6)

    signs = np.reshape(list(product([1, -1], repeat=6)), (64, 6, 1, 1, 1, 1))
    largest = np.array([statistic(values * one).max() for one in signs])
    expected = (largest >= statistic(values)[..., None] - 1e-9).mean(-1)
    np.testing.assert_allclose(p, expected)
    assert flips == 64 and p[1, 0, 0, 0] == p.min() <= 3 / 64


def test_a_strong_effect_does_not_hide_a_weaker_one():
    values = maps() * 0.1
    values[:, 0, 0, 0, 0] += 3
    values[:, 1, 2, 1, 1] += 0.6
    _, p, _ = sign_flips(values, draws=64, seed=0)
    assert p[0, 0, 0, 0] == 1 / 64 and p[1, 2, 1, 1] < 0.05 and (p < 0.05).sum() == 2


def test_drawn_flips_come_near_to_all_of_them():
    values = maps(10)
    values[:, 0, 1, 1, 1] += 1.2
    _, every, _ = sign_flips(values, draws=1024, seed=0)
    _, drawn, flips = sign_flips(values, draws=1000, seed=1)
    assert flips == 1001 and 0 < np.abs(every - drawn).max() < 0.06
    np.testing.assert_array_equal(drawn, sign_flips(values, draws=1000, seed=1)[1])


def test_p_values_hold_for_all_voxels_together():
    """Of 120 groups without any effect about one in twenty has a voxel with p <= 0.05 anywhere."""
    smallest = [np.nanmin(sign_flips(maps(7, seed=seed), draws=128, seed=0)[1]) for seed in range(120)]
    assert 0.01 <= np.mean(np.array(smallest) <= 0.05) <= 0.10


def test_a_voxel_that_a_subject_lacks_is_left_out(monkeypatch):
    values = maps()
    values[2, 0, 1, 1, 1] = np.nan
    whole = sign_flips(values, draws=64, seed=0)
    assert np.isnan(whole[0]).sum() == np.isnan(whole[1]).sum() == 1 == np.isnan(whole[1][0, 1, 1, 1])
    monkeypatch.setattr("cnnprobe.methods.rsa.brain.sign_flips.TOGETHER", 100)
    np.testing.assert_allclose(sign_flips(values, draws=64, seed=0)[1], whole[1])
    assert np.isnan(sign_flips(values * np.nan, draws=64, seed=0)[1]).all()


def test_one_subject_is_no_group():
    with pytest.raises(UserError, match="2 or more, got those of 1"):
        sign_flips(maps(1), draws=10, seed=0)
