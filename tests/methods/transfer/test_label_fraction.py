"""Shares of the labels: of every class the same, at least one image, the smaller inside the larger."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from cnnprobe.methods.transfer.label_fraction import label_fraction

SHARES = [0.001, 0.01, 0.03, 0.1, 0.29, 0.3, 0.5, 0.9, 1.0]


def labels(seed=0):
    """Classes of 200, 100, 7 and 1 images, and 20 of no class, mixed."""
    return np.random.default_rng(seed).permutation(np.repeat([0, 1, 2, 3, -1], [200, 100, 7, 1, 20]))


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        (0.01, {0: 2, 1: 1, 2: 1, 3: 1}),
        (0.1, {0: 20, 1: 10, 2: 1, 3: 1}),
        (0.29, {0: 58, 1: 29, 2: 2, 3: 1}),
        (0.5, {0: 100, 1: 50, 2: 4, 3: 1}),
        (1.0, {0: 200, 1: 100, 2: 7, 3: 1}),
    ],
)
def test_every_class_keeps_its_share_and_at_least_one(share, counts):
    given = labels()
    assert Counter(given[label_fraction(given, share, seed=0)].tolist()) == counts


def test_smaller_shares_are_parts_of_larger_ones_and_each_image_is_there_once():
    given = labels()
    chosen = [label_fraction(given, share, seed=4) for share in SHARES]
    for smaller, larger in pairwise(chosen):
        assert set(smaller) <= set(larger)
        assert np.array_equal(smaller, np.unique(smaller))


def test_the_seed_decides_and_other_classes_do_not():
    given = labels()
    first, same, other = (label_fraction(given, 0.1, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    alone = np.where(given == 0, 0, -1)
    assert np.array_equal(label_fraction(alone, 0.1, 0), first[given[first] == 0])


def test_the_choice_is_even_over_the_class():
    """Of 40 draws of half a class, every image is in some and missing in others; about half on average."""
    given = np.zeros(60, int)
    often = sum(np.isin(np.arange(60), label_fraction(given, 0.5, seed)) for seed in range(40))
    assert often.min() > 5
    assert often.max() < 35
    assert often.mean() == 20
