"""Explained shares against their formula, channel by channel."""

import numpy as np
import pytest
import torch

from cnnprobe.instruments.outputs.explained import explained, explained_by_channel, explained_together, sums_of

GENERATOR = np.random.default_rng(0)
TRUE = GENERATOR.normal(3, 2, (6, 3, 7)).astype(np.float32)
MADE = TRUE + GENERATOR.normal(0, 1, TRUE.shape).astype(np.float32)


def sums(made=MADE, true=TRUE):
    return sums_of(torch.from_numpy(made), torch.from_numpy(true)).sum(0).numpy()


def test_it_is_one_minus_the_errors_over_the_spread_about_each_channels_mean():
    true, made = TRUE.astype(float), MADE.astype(float)
    spread = (true - true.mean((0, 2), keepdims=True)) ** 2
    errors = (true - made) ** 2
    assert explained_by_channel(sums()) == pytest.approx(1 - errors.sum((0, 2)) / spread.sum((0, 2)))
    assert explained(sums()) == pytest.approx(1 - errors.sum() / spread.sum())


def test_several_sets_at_once_are_each_by_itself():
    both = np.stack([sums(), sums(TRUE)])
    assert explained_together(both).tolist() == [explained(sums()), 1]


def test_perfect_the_mean_and_worse():
    assert explained(sums(TRUE)) == 1
    mean = np.broadcast_to(TRUE.mean((0, 2), keepdims=True), TRUE.shape).copy()
    assert explained(sums(mean)) == pytest.approx(0, abs=1e-6)
    assert explained(sums(-TRUE)) < -1


def test_a_constant_channel_has_no_share():
    true = TRUE.copy()
    true[:, 1] = 0.1
    found = explained_by_channel(sums(MADE, true))
    assert np.isnan(found[1]) and np.isfinite(found[[0, 2]]).all()
    assert np.isnan(explained(sums(MADE, np.full_like(TRUE, 0.1))))
