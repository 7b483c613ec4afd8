"""Ranking of stored responses against plain loops."""

import numpy as np

from cnnprobe.instruments.ranking import full_sort


def test_images_are_sorted_by_response_and_then_by_index():
    random = np.random.default_rng(0)
    responses = random.integers(0, 4, (40, 5)).astype(np.float32)  # many are equal
    places = random.integers(0, 12, (40, 5))
    made = full_sort.ranked(responses, places, (3, 4), 6, np.zeros(5, bool))
    for unit in range(5):
        expected = sorted(range(40), key=lambda i: (-responses[i, unit], i))[:6]
        assert made.images[unit].tolist() == expected
        assert made.responses[unit].tolist() == [responses[i, unit] for i in expected]
        assert made.positions[unit].tolist() == [list(divmod(places[i, unit], 4)) for i in expected]


def test_the_least_come_first_when_asked_and_nan_ranks_nowhere():
    responses = np.array([[3.0], [np.nan], [1.0], [2.0]], np.float32)
    made = full_sort.ranked(responses, np.zeros((4, 1), int), (1, 1), 4, np.zeros(1, bool), least=True)
    assert made.images[0].tolist() == [2, 3, 0, -1]
    assert np.isnan(made.responses[0, 3])


def test_dead_units_get_no_images():
    largest = np.array([[0.0, 1.0, -2.0, 0.0], [0.0, 0.0, -2.0, 0.5]], np.float32)
    dead = full_sort.dead_units(largest)
    assert dead.tolist() == [True, False, True, False]
    made = full_sort.ranked(largest, np.zeros((2, 4), int), (1, 1), 2, dead)
    assert (made.images[dead] == -1).all()


def test_the_area_is_the_share_of_positions_above_the_quantile():
    maps = np.random.default_rng(1).normal(size=(30, 3, 5, 6)).astype(np.float32)
    maps[7] = np.nan  # was not seen
    share, threshold = full_sort.areas(lambda: np.split(maps, [8, 16, 24]), 30, 30, 0.9)
    seen = np.delete(maps, 7, axis=0)
    expected = np.quantile(seen.transpose(1, 0, 2, 3).reshape(3, -1), 0.9, axis=1)
    np.testing.assert_allclose(threshold, expected, rtol=1e-6)
    np.testing.assert_allclose(np.delete(share, 7, axis=0), (seen > threshold[:, None, None]).mean((2, 3)), atol=1e-6)
    assert np.isnan(share[7]).all()
