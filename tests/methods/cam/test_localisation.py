"""Maps against masks and boxes whose overlap is known."""

import math

import numpy as np
import pytest

from cnnprobe.instruments.statistics.mean_interval import mean_interval
from cnnprobe.methods.cam.localisation import (  # fmt: skip
    Tally,
    Truth,
    averaged,
    box,
    chance_overlap,
    enlarged,
    judge,
    near,
    overlap,
    parts,
    placed,
)


def square(side, top, left, length):
    mask = np.zeros((side, side), bool)
    mask[top : top + length, left : left + length] = True
    return mask


def test_the_20_percent_box_of_a_gaussian_has_the_side_of_the_formula():
    """5.T3: 2 s sqrt(2 ln 5) = 21.5 px for s = 6."""
    y, x = np.mgrid[:61, :61] - 30
    edges = box(np.exp(-(x**2 + y**2) / 72))
    assert edges[2] - edges[0] == edges[3] - edges[1] == 21
    assert abs(21 - 2 * 6 * math.sqrt(2 * math.log(5))) < 1
    assert (edges[0] + edges[2]) / 2 == 30.5


def attributes(start, stride, size):
    return {"field_start": [start] * 2, "field_stride": [stride] * 2, "field_size": [size] * 2}


def test_a_map_of_padded_layers_is_laid_as_it_is_stretched():
    """8 x 8 positions of 68 px, 8 px apart, the first about px 3.5: the bottom of a U-Net for 64 px."""
    maps = np.random.default_rng(0).normal(size=(2, 8, 8))
    made = placed(maps, attributes(-30, 8, 68), (64, 64))
    np.testing.assert_allclose(made, [enlarged(one, (64, 64)) for one in maps])
    one = placed(maps, attributes(0, 1, 1), (8, 8))
    np.testing.assert_array_equal(one, maps)


def test_a_map_without_padding_lies_where_its_positions_look():
    """20 x 20 pixels in the middle of 60; 4 positions of 140 px, 16 px apart, in an image of 188."""
    maps = np.random.default_rng(1).normal(size=(1, 20, 20))
    made = placed(maps, attributes(-3, 1, 47), (60, 60))
    np.testing.assert_array_equal(made, np.pad(maps, [(0, 0), (20, 20), (20, 20)]))
    coarse = placed(np.ones((1, 4, 4)), attributes(0, 16, 140), (188, 188))[0]
    known = np.argwhere(coarse)
    assert (known.min(), known.max()) == (62, 125) and (coarse[62:126, 62:126] == 1).all()
    assert np.isnan(placed(np.full((1, 4, 4), np.nan), attributes(0, 16, 140), (188, 188))).all()
    assert placed(maps, attributes(0, 0, 60), (60, 60)) is maps  # all positions see all of the image


def test_the_box_goes_around_the_largest_part_also_across_corners():
    values = np.zeros((9, 9))
    values[1, 1] = values[2, 2] = values[3, 3] = 0.5
    values[7, 7] = 1.0
    assert box(values).tolist() == [1, 1, 4, 4]
    assert np.isnan(box(np.zeros((3, 3)))).all() and np.isnan(box(-np.ones((3, 3)))).all()


def test_chance_of_the_pointing_game_in_a_small_image():
    """5.T5: 8 x 8 in 32 x 32 with a tolerance of 4 px, mean over places: 0.19 to 0.2 by counting px one by one."""
    shares = []
    for top in range(25):
        for left in range(0, 25, 3):
            mask = square(32, top, left, 8)
            y, x = np.mgrid[:32, :32]
            dy = np.maximum(np.maximum(top - y, y - top - 7), 0)
            dx = np.maximum(np.maximum(left - x, x - left - 7), 0)
            assert np.array_equal(near(mask, 4), dy**2 + dx**2 <= 16)
            shares.append(near(mask, 4).mean())
    assert 0.18 < np.mean(shares) < 0.21


def test_a_map_is_judged_by_where_it_is_large():
    truth = Truth.of({"cue": square(28, 4, 4, 7)}, (28, 28))
    values = np.zeros((4, 4), np.float32)
    values[1, 1] = 1.0
    found = judge(values, truth)
    assert found["pointing"][0] == 1.0 and found["pointing"][1] == near(truth.mask, 2).mean()
    large = enlarged(values.astype(float), (28, 28))
    assert found["energy"][0] == pytest.approx(large[4:11, 4:11].sum() / large.sum())
    assert found["energy"][1] == pytest.approx(49 / 784)
    values[:] = 0
    values[3, 3] = 1.0
    assert judge(values, truth)["pointing"][0] == 0.0
    assert judge(values, truth)["iou"][0] == 0.0


LOST = np.where(np.eye(4) * np.eye(4)[1], 0.1, -9.0)
"""Its one positive value is in the middle of four px, each of which is nearer to negative ones than it bears."""


@pytest.mark.parametrize("values", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan), LOST])
def test_a_map_without_evidence_is_not_judged(values):
    found = judge(values, Truth.of({"cue": square(24, 4, 4, 7)}, (24, 24)))
    assert all(np.isnan(found[name]).all() for name in ("pointing", "iou", "energy", "box"))


def test_overlap_is_that_of_counted_px():
    random = np.random.default_rng(0)
    for _ in range(30):
        corners = np.sort(random.integers(0, 12, (2, 2, 2)), 1)
        corners[:, 1] += 1
        boxes = corners.reshape(2, 4)
        masks = []
        for top, left, bottom, right in boxes:
            mask = np.zeros((13, 13), bool)
            mask[top:bottom, left:right] = True
            masks.append(mask)
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert overlap(boxes[0].astype(float), boxes[1:].astype(float)) == pytest.approx(expected)


def test_chance_overlap_is_the_mean_over_all_places():
    truth = np.array([[2.0, 1, 6, 5]])
    places = [overlap(np.array([y, x, y + 3, x + 2]), truth) for y in range(8) for x in range(9)]
    assert chance_overlap(np.array([0.0, 0, 3, 2]), truth, (10, 10)) == pytest.approx(np.mean(places))


def test_truth_is_read_from_masks_and_boxes():
    mask = square(10, 1, 1, 3) | square(10, 6, 6, 2)
    assert parts(mask).tolist() == [[1, 1, 4, 4], [6, 6, 8, 8]]
    boxed = Truth.of({"boxes": np.array([[1, 1, 4, 4], [6, 6, 8, 8]])}, (10, 10))
    assert np.array_equal(boxed.mask, mask)
    both = Truth.of({"cue": mask, "boxes": np.array([[1, 1, 8, 8]])}, (10, 10))  # one object in two parts
    assert np.array_equal(both.mask, mask) and both.boxes.tolist() == [[1, 1, 8, 8]]
    assert Truth.of({}, (10, 10)) is None and Truth.of({"cue": np.zeros((10, 10), bool)}, (10, 10)) is None


def test_enlarging_is_that_of_torch():
    import torch

    values = np.random.default_rng(1).random((5, 7))
    given = torch.from_numpy(values)[None, None]
    expected = torch.nn.functional.interpolate(given, (31, 40), mode="bilinear", align_corners=False)
    assert np.allclose(enlarged(values, (31, 40)), expected[0, 0].numpy())


def tally(values):
    made = Tally()
    for value in values:
        made.add(value, 0.25)
    return made


def test_the_mean_over_classes_has_the_interval_of_its_values():
    """F99: from two images on; a class without images is left out, one image alone has none (F53)."""
    random = np.random.default_rng(3)
    classes = [random.random(2), random.random(5), []]
    mean, low, high, chance = averaged([tally(one) for one in classes])
    assert mean == pytest.approx((classes[0].mean() + classes[1].mean()) / 2, abs=1e-6) and chance == 0.25
    assert (low, high) == pytest.approx(mean_interval(classes), abs=1e-6) and low < mean < high
    mean, low, high, _ = averaged([tally([0.5])])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)
    assert all(math.isnan(number) for number in averaged([Tally()]))


def test_values_written_down_go_on_where_they_were():
    values = np.random.default_rng(4).random(9)
    parted = Tally()
    parted.join(tally(values[:4]).plain)
    parted.join(tally(values[4:]).plain)
    assert np.allclose(parted.plain, tally(values).plain)
