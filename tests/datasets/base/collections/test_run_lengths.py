"""Masks as lengths of runs, against masks packed by the published scheme written anew."""

import numpy as np
import pytest

from cnnprobe.datasets.base.collections.run_lengths import Runs, lengths, shown, unpacked


def packed(counts):
    """COCO's packing: the third count from the last on is a difference, cut into 5 bits, the lowest first."""
    text = ""
    for place, count in enumerate(counts):
        value = int(count) - (int(counts[place - 2]) if place > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


def rle(mask, pack=False):
    """A mask (y, x) as COCO writes it."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": packed(counts) if pack else counts}


@pytest.mark.parametrize("seed", range(8))
def test_a_mask_comes_back_from_its_runs(seed):
    """F90: masks that begin inside, end inside, are full or empty; runs from 1 px to thousands."""
    random = np.random.default_rng(seed)
    shape = random.integers(1, 90, 2)
    mask = random.random(shape) < (0, 1, 0.5, 0.01, 0.99, 0.5, 0.2, 0.5)[seed]
    mask[: shape[0] // 2] |= seed > 5
    plain = rle(mask)
    assert unpacked(packed(plain["counts"])) == plain["counts"]
    for pack in (False, True):
        runs = np.array(lengths(rle(mask, pack)))
        assert np.array_equal(shown(runs, mask.shape, mask.shape, None), mask)


def test_a_published_example_of_the_packing():
    """The counts 6, 1, 40, 4, 5, 4, 5, 4, 21 of the description of COCO's interface."""
    assert unpacked("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]


def test_masks_of_an_object_are_found_among_all():
    runs = Runs(np.array([1, 4, 4]), np.array([2, 5, 6]), np.arange(6))
    assert [run.tolist() for run in runs.of(4)] == [[2, 3, 4], [5]] and runs.of(2) == [] and len(runs.of(1)) == 1
