"""Augmentation against single images handled one by one, and its independence of batch and order."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnprobe.instruments.images.augmentation import KINDS, Augmentation, coloured, resampling, shifted, uniform


def images(count=6, height=9, width=7):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def splitmix(state):
    """SplitMix64 in whole numbers of Python."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = state
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_random_numbers_are_those_of_the_published_generator():
    key = splitmix((splitmix(7) + 3) % 2**64)
    expected = [[(splitmix(splitmix((key + 5 * i + d) % 2**64)) >> 40) / 2**24 for d in range(5)] for i in (0, 41)]
    assert uniform(7, 3, torch.tensor([0, 41]), 5).tolist() == expected


def test_random_numbers_are_uniform_and_without_correlation():
    drawn = uniform(0, 0, torch.arange(20000), 4).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    histogram = torch.histc(drawn[:, 0], 20, 0, 1)
    assert float(((histogram - 1000) ** 2 / 1000).sum()) < 44  # chi square, 19 degrees, p = 0.001
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(drawn[:, 0], uniform(0, 1, torch.arange(20000), 4)[:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("kinds", [(kind,) for kind in KINDS] + [KINDS])
def test_an_image_is_changed_alike_in_any_batch_and_differently_in_each_epoch(kinds):
    change = Augmentation(kinds, seed=3, padding=3)
    batch, indices = images(6), torch.tensor([4, 90, 2, 7, 11, 5])
    whole = change(batch, indices, 2)
    order = torch.tensor([3, 1])
    assert torch.equal(change(batch[order], indices[order], 2), whole[order])
    assert not torch.equal(change(batch, indices, 3), whole)
    assert whole.shape == batch.shape
    assert whole.min() >= 0
    assert whole.max() <= 1 + 1e-6


def test_shifting_equals_padding_and_cutting_each_image():
    batch, padding = images(9), 2
    down, right = (torch.arange(9) % 5) / 5 + 0.01, (torch.arange(9) // 2) / 5 + 0.01
    moved = shifted(batch, down, right, padding)
    for i, image in enumerate(batch):
        y, x = int(down[i] * 5), int(right[i] * 5)
        expected = functional.pad(image, (padding,) * 4)[:, y : y + 9, x : x + 7]
        assert torch.equal(moved[i], expected)


def test_shifting_reaches_every_place_equally_often():
    batch = torch.zeros(20000, 1, 5, 5, dtype=torch.uint8)
    batch[:, 0, 2, 2] = 255
    counts = (Augmentation(("crop",), seed=0, padding=1)(batch, torch.arange(20000), 0) > 0).sum(0)[0]
    assert counts[1:4, 1:4].sum() == 20000
    assert (counts[1:4, 1:4] - 20000 / 9).abs().max() < 5 * (20000 / 9) ** 0.5


def test_signals_are_shifted_in_time():
    signals = torch.rand(3, 2, 11)
    moved = shifted(signals, torch.zeros(3), torch.tensor([0.0, 0.5, 0.99]), 1)
    assert torch.equal(moved[0, :, 1:], signals[0, :, :-1])
    assert torch.equal(moved[1], signals[1])
    assert torch.equal(moved[2, :, :-1], signals[2, :, 1:])


def test_half_of_the_images_are_mirrored_whatever_else_is_done():
    """Seen from the other side the same shift or crop; colours are left as they are."""
    batch, indices = images(400), torch.arange(400)
    turned = uniform(5, 1, indices, 10)[:, 2] < 0.5
    assert 160 < turned.sum() < 240
    for others in ((), ("crop",), ("resized-crop",), ("crop", "resized-crop")):
        plain = Augmentation(others, seed=5)(batch, indices, 1)
        flipped = Augmentation((*others, "flip"), seed=5)(batch, indices, 1)
        assert torch.equal(flipped[~turned], plain[~turned])
        assert torch.allclose(flipped[turned], plain[turned].flip(-1), atol=1e-6)


def test_resampling_the_whole_axis_changes_nothing():
    assert torch.allclose(resampling(torch.tensor([0.0]), torch.tensor([8.0]), 8)[0], torch.eye(8))


def test_resampling_enlarges_as_torch_does():
    """A part from the first pixel on, away from its far edge, where torch sees no further pixels."""
    line = torch.rand(1, 1, 1, 8)
    ours = resampling(torch.tensor([0.0]), torch.tensor([4.0]), 8)[0] @ line.flatten()
    peer = functional.interpolate(line[..., :4], size=(1, 8), mode="bilinear").flatten()
    assert torch.allclose(ours[:7], peer[:7], atol=1e-6)


def test_resized_crops_keep_the_share_and_ratio_that_are_asked_for():
    """Of an image that holds its own coordinates, the range that is left is the size of the crop."""
    side, count = 64, 400
    ramp = torch.linspace(0, 1, side).expand(side, side)
    batch = torch.stack([ramp.T, ramp, ramp]).expand(count, 3, side, side)
    cut = Augmentation(("resized-crop",), seed=0, smallest=0.3)(batch, torch.arange(count), 0)
    height = cut[:, 0].amax((1, 2)) - cut[:, 0].amin((1, 2))
    width = cut[:, 1].amax((1, 2)) - cut[:, 1].amin((1, 2))
    area = height * width
    assert 0.25 < area.min() < 0.4
    assert area.max() < 1.001
    inside = (height < 0.97) & (width < 0.97)
    assert ((width / height)[inside].log().abs() < 0.35).all()  # log(4 / 3) = 0.288, and half pixels at the ends


def test_colours_change_as_they_say():
    grey = torch.full((1, 3, 4, 4), 0.4)
    one = torch.ones(1)
    assert torch.allclose(coloured(grey, 1.5 * one, one, one), torch.full_like(grey, 0.6))
    assert torch.allclose(coloured(grey, one, 2 * one, 2 * one), grey, atol=1e-6)  # neither contrast nor colour
    batch = images(1)
    faded = coloured(batch, one, one, 0 * one)
    assert torch.allclose(faded[:, 0], faded[:, 1], atol=1e-6)
    assert torch.allclose(coloured(batch, one, one, one), batch, atol=1e-6)


@pytest.mark.parametrize("others", [(), ("flip",)])
def test_a_map_is_resized_as_its_image_pixel_by_pixel(others):
    """An image whose channels are its own coordinates says where each pixel of the crop comes from."""
    height, width, count = 16, 12, 40
    y, x = torch.meshgrid(torch.arange(height) + 1.0, torch.arange(width) + 1.0, indexing="ij")
    batch, indices = (torch.stack([y, x, y]) / 32).expand(count, 3, height, width), torch.arange(count)
    maps = torch.randint(0, 4, (count, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    maps[:, 3:5] = 255
    change = Augmentation(("resized-crop", *others), seed=3, smallest=0.3)
    moved, places = change.maps(maps, indices, 1), change(batch, indices, 1) * 32 - 1
    y, x = places[:, 0], places[:, 1]
    inside = (y > 0.01) & (y < height - 1.01) & (x > 0.01) & (x < width - 1.01)  # at the ends it is the outermost
    inside &= ((y - y.round()).abs() < 0.49) & ((x - x.round()).abs() < 0.49)
    for image, row, column in inside.nonzero().tolist():
        here = y[image, row, column], x[image, row, column]
        assert moved[image, row, column] == maps[(image, *(round(float(one)) for one in here))]
    assert inside.sum() > 3000 and set(moved.unique().tolist()) == {0, 1, 2, 3, 255}


def test_a_map_is_shifted_before_it_is_resized_and_keeps_its_colours():
    maps, indices = torch.arange(8 * 63, dtype=torch.int64).remainder(5).to(torch.uint8).view(8, 9, 7), torch.arange(8)
    shift, cut = Augmentation(("crop",), seed=3, padding=2), Augmentation(("resized-crop", "flip"), seed=3)
    both = Augmentation(("crop", "resized-crop", "flip", "colour"), seed=3, padding=2)
    assert torch.equal(both.maps(maps, indices, 2), cut.maps(shift.maps(maps, indices, 2), indices, 2))


def test_nothing_asked_for_gives_the_same_tensor():
    batch = images()
    assert Augmentation((), seed=0)(batch, torch.arange(6), 0) is batch
