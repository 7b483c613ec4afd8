"""d' against its definition in a loop, and against Gaussians of a known distance."""

import numpy as np
import pytest

from cnnprobe.methods.transfer.comparison.discrimination import class_means, discriminability, strongest_class


def by_loop(responses, labels, classes):
    found = np.full((responses.shape[1], classes), np.nan)
    for unit in range(responses.shape[1]):
        for one in range(classes):
            own, rest = responses[labels == one, unit], responses[(labels != one) & (labels >= 0), unit]
            if len(own) > 1 and len(rest) > 1:
                variance = (np.var(own, ddof=1) + np.var(rest, ddof=1)) / 2
                found[unit, one] = (own.mean() - rest.mean()) / np.sqrt(variance) if variance else np.nan
    return found


def test_it_is_the_definition():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 60)
    labels[labels == 3] = 2
    labels[0] = 3  # a class with a single image; class 4 has none
    responses = (rng.normal(size=(60, 5)) + labels[:, None] * rng.normal(size=5) + 1e4).astype(np.float32)
    responses[:, 4] = 0.1  # never changes
    found = discriminability(responses, labels, 5)
    np.testing.assert_allclose(found, by_loop(responses.astype(float), labels, 5), rtol=1e-6)
    assert np.isnan(found[4]).all() and np.isnan(found[:, 3:]).all() and np.isfinite(found[:4, :3]).all()


def test_gaussians_two_deviations_apart():
    rng = np.random.default_rng(1)
    labels = np.arange(20000) % 2
    found = discriminability(rng.normal(size=(20000, 1)) * 3 + 6 * labels[:, None], labels, 2)
    assert found[0] == pytest.approx([-2, 2], abs=0.06)


def test_an_image_without_an_answer_does_not_count():
    responses = np.array([[1.0], [2], [5], [7], [np.nan]])
    labels = np.array([0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        discriminability(responses, labels, 2), discriminability(responses[:4], labels[:4], 2)
    )
    np.testing.assert_array_equal(class_means(responses, labels, 3), [[1.5, 6, np.nan]])


def test_the_strongest_class_is_the_farthest_from_zero():
    which, value = strongest_class(np.array([[1.0, -3, np.nan], [np.nan, np.nan, np.nan], [0, 0, 2]]))
    assert which.tolist() == [1, -1, 2]
    np.testing.assert_array_equal(value, [-3, np.nan, 2])
