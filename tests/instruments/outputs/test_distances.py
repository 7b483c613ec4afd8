"""Distances of pixels, and counts by them, against loops over all pixels."""

import numpy as np
import torch

from cnnprobe.instruments.outputs import distances

CASES = [
    np.pad(np.ones((4, 3), np.uint8), 3),
    np.random.default_rng(0).integers(0, 3, (9, 7)).astype(np.uint8),
    np.zeros((6, 6), np.uint8),
    np.where(np.arange(8) < 3, 255, np.arange(8) // 6)[None].repeat(8, 0).astype(np.uint8),
]


def test_the_distance_to_the_border_counts_pixels_in_between():
    found = distances.to_border((5, 4)).tolist()
    assert found == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_bands_reach_to_the_middle_of_every_image():
    for side, wide, count in ((1, 1, 1), (64, 1, 32), (65, 2, 17), (572, 9, 32), (7, 1, 4)):
        assert (distances.band_width((side, side + 3)), distances.bands((side, side + 3))) == (wide, count)
        assert int(distances.to_border((side, side + 3)).max()) // wide == count - 1


def test_the_distance_to_an_edge_is_that_of_a_loop():
    for classes in CASES:
        (found,) = distances.to_edge(torch.from_numpy(classes)[None], most=3).numpy()
        places = [place for place in np.ndindex(classes.shape) if classes[place] != 255]
        for place in places:
            others = [max(np.abs(np.subtract(place, other))) for other in places if classes[other] != classes[place]]
            assert found[place] == min([4, *others]), (classes, place)


def test_counts_are_those_of_a_loop():
    random = np.random.default_rng(1)
    targets, chosen = random.choice([0, 1, 2, 255], (3, 6, 5)).astype(np.uint8), random.integers(0, 3, (3, 6, 5))
    place = random.integers(0, 4, (3, 6, 5))
    expected = np.zeros((3, 4, 5), int)
    for at in np.ndindex(targets.shape):
        true, said = targets[at], chosen[at]
        if true != 255:
            expected[at[0], place[at]] += [1, true == said, true == said > 0, true > 0, said > 0]
    given = (torch.from_numpy(one) for one in (chosen, targets))
    found = distances.counts_by(torch.from_numpy(place), 4, *given, judged=(1, 2))
    np.testing.assert_array_equal(found, expected)
