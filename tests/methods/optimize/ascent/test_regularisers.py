"""Penalties and changes of pixels against plain formulas."""

import numpy as np
import pytest
import torch

from cnnprobe.methods.optimize.ascent.regularisers import Regularisers, blurred, total_variation


def pixels(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_total_variation_is_half_the_mean_squared_difference_of_neighbours():
    images = pixels(2, 3, 5, 7)
    for image, found in zip(images.numpy(), total_variation(images)):
        down = [(image[c, y + 1, x] - image[c, y, x]) ** 2 for c in range(3) for y in range(4) for x in range(7)]
        right = [(image[c, y, x + 1] - image[c, y, x]) ** 2 for c in range(3) for y in range(5) for x in range(6)]
        assert float(found) == pytest.approx(np.mean(down) / 2 + np.mean(right) / 2, rel=1e-5)
    assert total_variation(pixels(1, 2, 9)) == pytest.approx(float(np.mean(np.diff(pixels(1, 2, 9)) ** 2)) / 2)


def test_penalties_add_up_and_count_from_the_mean():
    images, mean = pixels(2, 3, 4, 4), torch.tensor([0.1, 0.2, 0.3])
    expected = 2 * (images - mean[:, None, None]).square().sum((1, 2, 3)) + 3 * total_variation(images)
    torch.testing.assert_close(Regularisers(l2=2, tv=3).penalty(images, mean), expected)
    assert not Regularisers().penalty(images, mean).any()


def test_a_point_is_blurred_into_a_gaussian():
    image = torch.zeros(1, 2, 41, 41)
    image[0, 1, 20, 20] = 1
    found = blurred(image, 1.5)[0, 1].numpy()
    y, x = np.mgrid[-20:21, -20:21]
    expected = np.exp(-(x**2 + y**2) / 2 / 1.5**2)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=3e-6)
    torch.testing.assert_close(blurred(torch.full((1, 1, 9, 12), 0.7), 2.0), torch.full((1, 1, 9, 12), 0.7))
    assert blurred(pixels(2, 3, 50), 1.0).shape == (2, 3, 50)


def test_the_faintest_pixels_are_cleared_in_every_row():
    values = pixels(3, 3, 10, 10)
    expected = values.numpy().copy()
    for image in expected:
        norm = np.linalg.norm(image, axis=0)
        image[:, norm < np.percentile(norm, 30)] = 0
    Regularisers(small_norm=0.3).settle(values, torch.zeros_like(values), 1)
    np.testing.assert_array_equal(values.numpy(), expected)
    assert (values[0, 0] == 0).sum() == 30


def test_pixels_that_matter_least_are_cleared():
    values, gradient = pixels(2, 3, 9, 9), pixels(4, 3, 9, 9)[2:]
    expected = values.numpy().copy()
    for image, slope in zip(expected, gradient.numpy()):
        matter = np.abs((image * slope).sum(0))
        image[:, matter < np.percentile(matter, 90)] = 0
    Regularisers(small_contribution=0.9).settle(values, gradient, 1)
    np.testing.assert_array_equal(values.numpy(), expected)


def test_decay_and_blur_come_when_they_are_due():
    rule = Regularisers(decay=0.25, blur=1.0, blur_every=3)
    assert rule.after_steps and not Regularisers(l2=1, tv=1).after_steps
    first, third = pixels(1, 1, 8, 8), pixels(1, 1, 8, 8)
    rule.settle(first, first, 1)
    torch.testing.assert_close(first, 0.75 * pixels(1, 1, 8, 8))
    rule.settle(third, third, 3)
    torch.testing.assert_close(third, blurred(0.75 * pixels(1, 1, 8, 8), 1.0))
