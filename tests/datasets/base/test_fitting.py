import numpy as np
import pytest
import torch

from cnnprobe.datasets.base.fitting import as_float, geometry, nearest, resized
from tests.support.faults.hostile import noise


@pytest.mark.parametrize(
    ("shape", "size", "resize"), [((60, 80), 32, None), ((300, 201), 227, 256), ((20, 33), 64, 70)]
)
def test_scaling_equals_antialiased_bilinear_interpolation_and_a_centre_crop(shape, size, resize):
    images = torch.from_numpy(noise(*shape)).permute(2, 0, 1)[None]
    height, width = geometry(shape, (size, size), resize)[0]
    whole = torch.nn.functional.interpolate(images / 255, (height, width), mode="bilinear", antialias=True)
    y, x = round((height - size) / 2), round((width - size) / 2)
    expected = whole[..., y : y + size, x : x + size]
    torch.testing.assert_close(resized(images, (size, size), resize), expected, atol=1e-5, rtol=0)


def test_a_constant_stays_constant_and_a_checkerboard_averages():
    assert torch.allclose(resized(torch.full((2, 3, 7, 9), 0.3), (5, 5)), torch.tensor(0.3))
    board = torch.tensor(np.indices((64, 64)).sum(0) % 2, dtype=torch.float32)[None, None]
    assert (resized(board, (8, 8)) - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (3, 500), (500, 3)])
def test_any_shape_covers_the_size(shape):
    scaled, start = geometry(shape, (64, 64), 72)
    assert min(scaled) == 72
    assert all(first >= 0 and first + 64 <= side for first, side in zip(start, scaled))


def test_a_resize_below_the_size_is_raised_and_nothing_is_padded():
    assert geometry((100, 200), (64, 64), 32) == ((64, 128), (0, 32))
    assert geometry((100, 200), (64, 160), None) == ((80, 160), (8, 0))


@pytest.mark.parametrize(("shape", "size", "resize"), [((60, 81), (32, 32), 40), ((9, 5), (20, 16), None)])
def test_nearest_pixels_are_those_that_the_scaled_image_shows_there(shape, size, resize):
    """A ramp keeps its values when it is scaled: each px shown differs from its source by half a px at most."""
    y, x = nearest(shape, size, resize)
    ramp = torch.from_numpy(np.stack(np.mgrid[: shape[0], : shape[1]]).astype(np.float32))[None]
    shown = resized(ramp, size, resize)[0]
    inner = (slice(2, -2), slice(2, -2))
    assert (shown[0] - torch.from_numpy(y)[:, None])[inner].abs().max() <= 0.5 + 1e-3
    assert (shown[1] - torch.from_numpy(x))[inner].abs().max() <= 0.5 + 1e-3


def test_bytes_become_numbers_from_0_to_1():
    assert as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
