"""Overlap of maps against counts by hand."""

import numpy as np
import pytest
import torch

from cnnprobe.instruments.outputs.overlap import dice, mean_overlap, overlaps, pixel_confusion


def test_counts_equal_a_loop_over_the_pixels_that_count():
    generator = np.random.default_rng(0)
    true, said = generator.integers(0, 3, (4, 5, 6)), generator.integers(0, 3, (4, 5, 6))
    true[generator.random(true.shape) < 0.2] = 255
    expected = np.zeros((4, 3, 3), int)
    for image, y, x in np.ndindex(true.shape):
        if true[image, y, x] != 255:
            expected[image, true[image, y, x], said[image, y, x]] += 1
    found = pixel_confusion(torch.from_numpy(said), torch.from_numpy(true.astype(np.uint8)), 3)
    assert found.tolist() == expected.tolist()


def confusion(true, said, classes=2):
    return pixel_confusion(torch.tensor([said]), torch.tensor([true], dtype=torch.uint8), classes)[0].numpy()


@pytest.mark.parametrize(
    ("true", "said", "expected"),
    [
        ([[0, 1, 1, 1]], [[0, 1, 1, 1]], 1.0),
        ([[1, 1, 0, 0]], [[0, 0, 1, 1]], 0.0),
        ([[1, 1, 0, 0]], [[1, 0, 0, 0]], 0.5),  # half of it and nothing else
        ([[1, 255, 255, 0]], [[1, 0, 1, 0]], 1.0),
    ],
)
def test_overlap_of_a_mask(true, said, expected):
    found = overlaps(confusion(true, said))[1]
    assert found == expected
    assert dice(found) == pytest.approx({1.0: 1.0, 0.0: 0.0, 0.5: 2 / 3}[expected])


def test_a_class_that_is_nowhere_has_no_overlap_and_is_left_out_of_the_mean():
    counts = confusion([[0, 1, 1, 0]], [[0, 1, 0, 0]], classes=4)
    assert np.isnan(overlaps(counts)[2:]).all()
    assert mean_overlap(counts, (1, 2, 3)) == 0.5
    assert mean_overlap(counts, (0, 1)) == pytest.approx((2 / 3 + 0.5) / 2)
    assert np.isnan(mean_overlap(counts, (2, 3)))
