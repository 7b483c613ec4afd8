"""Places of occluders and what is seen through them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from cnnprobe.errors import UserError
from cnnprobe.instruments.windows.occluders import BLUR, Grid, fillings
from cnnprobe.methods.rf_map.occlusion import occluded_images

MEAN, SD = torch.tensor([0.2, 0.5, 0.7]), torch.tensor([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("sides", "patch", "stride", "shape"),
    [
        ((224, 224), 11, 3, (72, 72)),  # Zhou et al. 2015: about 5000 copies of an image
        ((227, 227), 11, 3, (73, 73)),
        ((9, 14), 4, 3, (2, 4)),
        ((9, 14), 9, 1, (1, 6)),
        ((8, 8), 8, 3, (1, 1)),  # the occluder is the image
        ((8, 10), 3, 100, (1, 1)),  # one step leads out of the image
        ((5, 7), 1, 1, (5, 7)),
    ],
)
def test_places_are_all_those_inside_the_image(sides, patch, stride, shape):
    grid = Grid(sides, patch, stride)
    assert grid.shape == shape
    for side, first in zip(sides, grid.corners):
        assert first.dtype == np.int64
        assert first.tolist() == [at for at in range(side) if at % stride == 0 and at + patch <= side]


@pytest.mark.parametrize("patch", [1, 2, 3, 4])
def test_covered_pixels_add_up(patch):
    """Every occluder, of even side too, covers patch x patch pixels, and stride = patch covers each pixel once."""
    grid = Grid((12, 24), patch, patch)
    covered = torch.zeros(1, 12, 24)
    for row in grid.corners[0]:
        for column in grid.corners[1]:
            one = occluded_images(torch.zeros(1, 12, 24), torch.ones(1, 12, 24), [(row, column)], patch)[0]
            assert one.sum() == patch**2
            covered += one
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("patch", "stride", "message"),
    [
        (9, 1, r"patch_size must be from 1 to 8 \(the image's side\), got 9"),
        (0, 1, r"patch_size must be from 1 to 8 \(the image's side\), got 0"),
        (-3, 1, r"patch_size must be from 1 to 8 \(the image's side\), got -3"),
        (3, 0, "stride must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be(patch, stride, message):
    with pytest.raises(UserError, match=message):
        Grid((8, 12), patch, stride)


def test_an_occluded_image_is_the_filling_inside_and_the_image_outside():
    image, fill = torch.rand(3, 9, 11), torch.rand(3, 9, 11) + 2
    corners = [(0, 0), (5, 7), (2, 3)]
    before = image.clone()
    for copy, (top, left) in zip(occluded_images(image, fill, corners, 4), corners):
        y, x = np.mgrid[:9, :11]
        inside = torch.from_numpy((y >= top) & (y < top + 4) & (x >= left) & (x < left + 4))
        assert torch.equal(copy, torch.where(inside, fill, image))
    assert torch.equal(image, before)


def test_zero_and_mean_are_one_colour():
    image = torch.rand(3, 6, 7)
    assert torch.equal(fillings("zero", image, 4, MEAN, SD, 0), torch.zeros(1, 3, 6, 7))
    mean = fillings("mean", image, 4, MEAN, SD, 0)
    assert mean.shape == (1, 3, 6, 7) and (mean == MEAN[None, :, None, None]).all()


def test_noise_has_the_mean_and_deviation_of_the_pixels_and_is_not_clipped():
    image = torch.rand(3, 100, 100)
    noise = fillings("noise", image, 5, MEAN, SD, 3)
    assert noise.shape == (5, 3, 100, 100)
    pixels = noise.transpose(0, 1).flatten(1)
    standard = SD / pixels.shape[1] ** 0.5
    assert ((pixels.mean(1) - MEAN).abs() < 4 * standard).all()
    assert ((pixels.std(1) / SD - 1).abs() < 0.02).all()
    assert noise.min() < 0 and noise.max() > 1
    draws = noise.flatten(1)
    correlated = torch.corrcoef(torch.cat([draws, noise.transpose(2, 3).flatten(1)])).fill_diagonal_(0)[:5, :5]
    assert correlated.abs().max() < 0.5  # channels have different means, draws nothing else in common


def test_noise_is_the_same_for_every_image_and_whatever_the_number_of_draws():
    one, other = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    five = fillings("noise", one, 5, MEAN, SD, 3)
    assert torch.equal(five, fillings("noise", other, 5, MEAN, SD, 3))
    assert torch.equal(five[:2], fillings("noise", one, 2, MEAN, SD, 3))
    assert not torch.equal(five, fillings("noise", one, 5, MEAN, SD, 4))
    assert not torch.equal(five[0], five[1])


@pytest.mark.parametrize("sides", [(40, 60), (64, 64), (9, 30)])
def test_blur_is_that_of_scipy(sides):
    image = torch.rand(3, *sides)
    sigma = BLUR * min(sides)
    expected = np.stack(
        [ndimage.gaussian_filter(c, sigma, mode="mirror", radius=int(np.ceil(3 * sigma))) for c in image.numpy()]
    )
    (found,) = fillings("blur", image, 1, MEAN, SD, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blur_of_an_image_of_a_few_pixels():
    """Where the Gaussian is wider than the image, and where there is a single pixel."""
    flat = torch.full((3, 2, 3), 0.3)
    torch.testing.assert_close(fillings("blur", flat, 1, MEAN, SD, 0)[0], flat)
    dot = torch.rand(3, 1, 1)
    torch.testing.assert_close(fillings("blur", dot, 1, MEAN, SD, 0)[0], dot)


def test_fillings_come_in_the_type_of_the_image():
    image = torch.rand(3, 6, 6, dtype=torch.float64)
    assert {fillings(kind, image, 2, MEAN, SD, 0).dtype for kind in ("noise", "mean", "zero", "blur")} == {image.dtype}


def test_an_unknown_filling_is_refused():
    with pytest.raises(ValueError, match="filling must be noise, mean, zero or blur, got 'grey'"):
        fillings("grey", torch.rand(3, 4, 4), 1, MEAN, SD, 0)
