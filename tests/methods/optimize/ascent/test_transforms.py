"""Transforms against shifts, scales and turns whose result is known."""

import numpy as np
import pytest
import torch

from cnnprobe.methods.optimize.ascent.presets import LUCID_MOVES, OLAH_MOVES
from cnnprobe.methods.optimize.ascent.transforms import Transforms


def sources(rows=3):
    return [np.random.default_rng([7, row]) for row in range(rows)]


def bump(side, y, x, width=3.0):
    rows, columns = np.mgrid[:side, :side]
    return torch.from_numpy(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2 / width**2)).float()[None, None]


def middle(image):
    """Centre of mass (y, x) of (1, 1, y, x)."""
    weights = image[0, 0].numpy().astype(float)
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return (y * weights).sum() / weights.sum(), (x * weights).sum() / weights.sum()


def test_what_does_nothing_says_so_and_does_nothing():
    nothing = Transforms(pad=12)
    assert nothing.none
    assert not LUCID_MOVES.none and not OLAH_MOVES.none
    assert not Transforms(noise=0.1).none and not Transforms(crop=(0.5, 1)).none
    images = torch.rand(3, 2, 9, 12)
    maps = nothing.draws(sources(), 2, (9, 12))
    torch.testing.assert_close(nothing.apply(images, maps[0], 0.5), images, atol=1e-5, rtol=0)


def test_jitter_shifts_by_as_many_pixels_as_it_says_for_images_of_any_size():
    for side in (32, 64, 96):
        moves = Transforms(jitter=28)  # an eighth of 224: of the side, half of it to either side
        maps = moves.draws(sources(1), 400, (side, side))[:, 0]
        shifts = maps[:, :, 2].numpy() * side / 2
        assert np.abs(shifts).max() <= side / 16 + 1e-5
        assert np.abs(shifts).max() > side / 16 * 0.95
        image = bump(side, side / 2, side / 2)
        y, x = middle(moves.apply(image, maps[:1], 0.0))
        np.testing.assert_allclose([side / 2 - y, side / 2 - x], [shifts[0, 1], shifts[0, 0]], atol=0.05)


def test_an_image_is_scaled_and_turned_about_its_middle():
    side = 65
    image = bump(side, 32, 48)
    maps = Transforms(scales=(1.25,)).draws(sources(1), 1, (side, side))[0]
    np.testing.assert_allclose(
        middle(Transforms(scales=(1.25,)).apply(image, maps, 0.0)), (32, 32 + 16 * 1.25), atol=0.1
    )
    turned = Transforms(angles=(5.0,))
    maps = turned.draws(sources(1), 1, (side, side))[0]
    y, x = middle(turned.apply(image, maps, 0.0))
    assert np.hypot(y - 32, x - 32) == pytest.approx(16, abs=0.1)
    assert abs(np.degrees(np.arctan2(y - 32, x - 32))) == pytest.approx(5, abs=0.2)


def test_a_turn_keeps_distances_in_images_that_are_not_square():
    turned = Transforms(angles=(10.0,))
    maps = turned.draws(sources(1), 1, (80, 160))[0]
    image = torch.zeros(1, 1, 80, 160)
    image[..., 30:50, 100:120] = 1
    y, x = middle(turned.apply(image, maps, 0.0))
    assert np.hypot(y - 39.5, x - 79.5) == pytest.approx(30, abs=0.2)
    assert abs(np.degrees(np.arctan2(y - 39.5, x - 79.5))) == pytest.approx(10, abs=0.3)


@pytest.mark.parametrize(("side", "largest"), [(32, 5.0), (64, 5.0), (65, 10.0), (224, 10.0)])
def test_small_images_are_hardly_turned(side, largest):
    maps = LUCID_MOVES.draws(sources(2), 500, (side, side)).numpy()
    angles = np.degrees(np.arctan2(maps[..., 1, 0], maps[..., 0, 0]))
    assert np.abs(angles).max() == pytest.approx(largest, abs=1e-3)
    scale = 1 / np.hypot(maps[..., 1, 0], maps[..., 0, 0])
    assert scale.min() == pytest.approx(0.9, abs=1e-5) and scale.max() == pytest.approx(1.1, abs=1e-5)


def test_a_row_is_shown_the_same_whatever_stands_beside_it():
    every = LUCID_MOVES.draws(sources(3), 5, (48, 48))
    alone = LUCID_MOVES.draws(sources(3)[1:2], 5, (48, 48))
    assert torch.equal(every[:, 1:2], alone)
    assert not torch.equal(every[:, 0], every[:, 1])
    images = torch.rand(3, 3, 48, 48)
    shown = LUCID_MOVES.apply(images, every[2], 0.5)
    torch.testing.assert_close(shown[1:2], LUCID_MOVES.apply(images[1:2], alone[2], 0.5))


def test_beyond_the_border_is_grey_or_the_edge_goes_on():
    image = torch.full((1, 1, 20, 20), 0.9)
    maps = torch.tensor([[[1.0, 0, 1.0], [0, 1, 0]]])  # by half the image
    grey = Transforms(pad=5, jitter=1).apply(image, maps, 0.5)
    assert grey[0, 0, 10].tolist() == pytest.approx([0.9] * 10 + [0.5] * 10)
    assert Transforms(jitter=1).apply(image, maps, 0.5).min() == pytest.approx(0.9)


def test_signals_are_shifted_and_nothing_else():
    maps = LUCID_MOVES.draws(sources(2), 50, (128,))
    assert torch.equal(maps[..., 0, 0], torch.ones(50, 2)) and not maps[..., 1, :1].any() and not maps[..., 0, 1].any()
    assert not maps[..., 1, 2].any()
    signal = torch.rand(1, 2, 128)
    by_four = torch.tensor([[[1.0, 0, 2 * 4 / 128], [0, 1, 0]]])
    shown = Transforms(jitter=8).apply(signal, by_four, 0.0)
    torch.testing.assert_close(shown[..., :124], signal[..., 4:], atol=1e-4, rtol=0)


def test_crops_lie_inside_the_image_and_have_the_sides_asked_for():
    maps = Transforms(crop=(0.4, 0.8)).draws(sources(4), 300, (40, 40)).numpy()
    sides, centres = maps[..., 0, 0], maps[..., :, 2]
    assert 0.4 <= sides.min() < 0.42 and 0.78 < sides.max() <= 0.8
    assert (np.abs(centres) + sides[..., None] <= 1 + 1e-6).all()
    assert centres.std() > 0.1


def test_noise_belongs_to_the_row():
    images = torch.full((2, 1, 40, 40), 0.5)
    maps = torch.eye(2, 3).expand(2, 2, 3)
    noisy = Transforms(noise=0.1)
    one = noisy.apply(images, maps, 0.5, [1, 2])
    other = noisy.apply(images[:1], maps[:1], 0.5, [1])
    assert torch.equal(one[:1], other)
    # normal of deviation 0.1 and uniform from -0.05 to 0.05
    assert float((one - 0.5).std()) == pytest.approx(0.1 * np.sqrt(1 + 1 / 12), rel=0.05)
