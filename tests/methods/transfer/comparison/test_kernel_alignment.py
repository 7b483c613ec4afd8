"""Centred kernel alignment: what it does not see, its bias, and the unbiased estimate against its definition."""

import math

import numpy as np
import pytest
import torch

from cnnprobe.methods.transfer.comparison.kernel_alignment import linear_cka


def gaussian(images, features, seed):
    return torch.randn(images, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("debiased", [False, True])
def test_rotation_and_scale_are_not_seen(debiased):
    first = gaussian(60, 12, 0)
    rotation = torch.linalg.qr(gaussian(12, 12, 1))[0]
    assert linear_cka(first, first, debiased=debiased) == pytest.approx(1, abs=1e-6)
    assert linear_cka(first, 3 * first @ rotation + 5, debiased=debiased) == pytest.approx(1, abs=1e-6)


def test_the_plain_form_is_its_formula_over_features():
    first, second = gaussian(30, 7, 2), gaussian(30, 11, 3)
    second[:, :7] += first
    x, y = ((one - one.mean(0)).numpy() for one in (first, second))
    norm = np.linalg.norm
    expected = norm(y.T @ x) ** 2 / norm(x.T @ x) / norm(y.T @ y)
    assert linear_cka(first, second, debiased=False) == pytest.approx(expected, rel=1e-10)


def criterion(first, second):
    """The unbiased criterion term by term, as Song et al. (2012, equation 5) write it."""
    images = len(first)
    k, m = ((one @ one.T).numpy() for one in (first, second))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    ones = np.ones(images)
    terms = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((images - 1) * (images - 2))
    return (terms - 2 / (images - 2) * (ones @ k @ m @ ones)) / (images * (images - 3))


def test_the_debiased_form_is_that_of_the_unbiased_criterion():
    first, second = gaussian(25, 40, 4) + 3, gaussian(25, 9, 5) - 1
    second[:, :5] += first[:, :5]
    expected = criterion(first, second) / math.sqrt(criterion(first, first) * criterion(second, second))
    assert linear_cka(first, second) == pytest.approx(expected, rel=1e-8)


def test_independent_noise_looks_alike_only_to_the_plain_form():
    pairs = [(gaussian(100, 64, 2 * seed), gaussian(100, 64, 2 * seed + 1)) for seed in range(20)]
    plain = np.mean([linear_cka(*pair, debiased=False) for pair in pairs])
    debiased = np.mean([linear_cka(*pair) for pair in pairs])
    assert plain == pytest.approx(0.39, abs=0.03)
    assert debiased == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_debiased_form_finds_the_shared_variance(share):
    found = []
    for seed in range(20):
        first = gaussian(200, 64, 2 * seed)
        found.append(linear_cka(first, share**0.5 * first + (1 - share) ** 0.5 * gaussian(200, 64, 2 * seed + 1)))
    assert np.mean(found) == pytest.approx(share, abs=0.03)


def test_where_nothing_changes_there_is_no_number():
    first = gaussian(10, 4, 6)
    for constant in (torch.zeros(10, 3), torch.full((10, 3), 0.1)):
        assert math.isnan(linear_cka(first, constant))
        assert math.isnan(linear_cka(constant, first, debiased=False))
    assert math.isnan(linear_cka(first[:3], first[:3]))
    assert linear_cka(first[:4], first[:4]) == pytest.approx(1)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="5 and of 6 images"):
        linear_cka(torch.zeros(5, 2), torch.zeros(6, 2))
