"""Intervals of means against the exact ones of shares, and against weights drawn by brute force."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from cnnprobe.instruments.statistics.mean_interval import mean_interval, share_interval


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (1, 3), (934, 1000), (50535, 54056)])
def test_the_interval_of_a_share_is_that_of_scipy(right, count):
    expected = binomtest(right, count).proportion_ci(0.95, method="exact")
    assert share_interval(right, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert all(math.isnan(end) for end in share_interval(0, 0))


@pytest.mark.parametrize(("right", "count"), [(0, 2), (2, 2), (1, 3), (7, 40), (934, 1000)])
def test_of_hits_and_misses_the_interval_of_the_mean_is_the_exact_one(right, count):
    """F99: also where all are hits or misses."""
    expected = binomtest(right, count).proportion_ci(0.95, method="exact")
    found = mean_interval([[1.0] * right + [0.0] * (count - right)])
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("groups", [[[0.2, 0.7]], [[0.1, 0.15, 0.4, 0.9]], [[0.3, 0.3, 1.0], [0.05, 0.2]]])
def test_ends_are_quantiles_of_means_with_uniform_weights_and_one_value_more(groups):
    random, count = np.random.default_rng(0), sum(map(len, groups))
    for side, end in ((0, lambda values: values), (1, lambda values: 1 - values)):
        values = [end(np.array(one)) * count / len(groups) / len(one) for one in groups]
        drawn = random.dirichlet(np.ones(count + 1), 400_000) @ np.append(np.concatenate(values), 0)
        assert end(mean_interval(groups)[side]) == pytest.approx(np.quantile(drawn, 0.025), abs=4e-3)


def test_of_many_values_it_is_the_normal_one():
    values = np.random.default_rng(3).beta(2, 5, 6000)
    low, high = mean_interval([values])
    half = 1.959964 * values.std(ddof=1) / math.sqrt(6000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_one_value_has_no_interval_and_equal_ones_have_a_width():
    """F53 and F99: never 0 where it is not known."""
    assert all(math.isnan(end) for groups in ([], [[]], [[0.5]], [[], [1.0]]) for end in mean_interval(groups))
    low, high = mean_interval([[0.5] * 4])
    assert low < 0.35 and high > 0.65
    assert mean_interval([[0.0, 0.0]]) == pytest.approx((0, 1 - math.sqrt(0.025)), abs=1e-6)
