"""Which units are taken out, in which order, and which images stand in for which."""

import itertools

import numpy as np
import pytest

from cnnprobe.methods.lesion.lesions import derangement
from tests.support.networks.detectors import Detectors, coloured, measured


@pytest.mark.parametrize("count", [2, 3, 10, 97])
def test_no_image_is_its_own_partner_and_each_is_that_of_one(count):
    for seed in range(5):
        found = derangement(count, seed)
        assert sorted(found) == list(range(count)) and (found != np.arange(count)).all()


def test_larger_shares_of_a_draw_hold_smaller_ones_and_draws_differ():
    options = {"layer": "conv1", "share": [0.25, 0.5, 1], "draws": 3, "how": "zero"}
    rows = measured(Detectors(4, 16).eval(), coloured(), **options)
    masks = rows["masks/conv1", "lesioned"]
    shares, draws = rows["lesions", "share"], rows["lesions", "draw"]
    assert masks.sum(1).tolist() == [4, 4, 4, 8, 8, 8, 16]
    for draw in range(3):
        quarter, half = (masks[(shares == share) & (draws == draw)][0] for share in (0.25, 0.5))
        assert (half[quarter]).all()
    assert len({tuple(row) for row in masks[:3]}) == 3


def test_every_lesion_stands_in_the_order_that_was_asked():
    options = {"units": [[0], [1]], "how": ["zero", "swap"], "share": [1, 0.5], "draws": 2, "controls": 1}
    rows = measured(Detectors().eval(), coloured(), layer="conv1", **options)
    found = list(zip(*(rows["lesions", name] for name in ("group", "share", "draw", "how", "control"))))
    expected = [
        (group, share, draw, how, control)
        for group in ("0", "1")
        for share, draw in ((0.5, 0), (0.5, 1), (1, 0))
        for how, control in itertools.product(("swap", "zero"), (-1, 0))
    ]
    assert found == expected
