"""Where the power of images lies: gratings of known frequency, noise of known spectrum, and images of nothing."""

import math

import numpy as np
import pytest

from cnnprobe.instruments.images.spectrum import centroid, low_share, slope

NOISE = (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 6
"""Mean distance from the middle of a unit square: the centroid of a flat spectrum, cycles per px."""


def grating(side, cycles, degrees=0.0, phase=0.0):
    y, x = np.mgrid[:side, :side]
    angle = math.radians(degrees)
    return np.sin(2 * np.pi * cycles / side * (x * math.cos(angle) + y * math.sin(angle)) + phase)[None]


def plain_centroid(image):
    """Return the centroid without a window, term by term."""
    side = image.shape[-1]
    frequencies = np.fft.fftfreq(side)
    spectrum = np.abs(np.fft.fft2(image[0] - image.mean())) ** 2
    weighed = sum(math.hypot(frequencies[i], frequencies[j]) * spectrum[i, j] for i in range(side) for j in range(side))
    return weighed / spectrum.sum()


@pytest.mark.parametrize("side", [16, 32, 64])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120])
def test_a_grating_has_its_own_frequency_within_half_a_bin(side, degrees):
    """Also where its cycles do not fit the image, from one and a half on."""
    for cycles in np.arange(1.5, 0.42 * side, 0.25):
        for phase in (0, 1, 2):
            found = centroid(grating(side, cycles, degrees, phase)) * side
            assert abs(found - cycles) < 0.5, (cycles, phase)


def test_without_a_window_a_grating_that_does_not_fit_would_be_wrong():
    images = [grating(32, 2.5, phase=phase) for phase in np.arange(0, np.pi, 0.2)]
    assert max(abs(plain_centroid(image) * 32 - 2.5) for image in images) > 0.7
    assert max(abs(centroid(image) * 32 - 2.5) for image in images) < 0.2


def test_a_slope_of_grey_is_the_coarsest_there_is():
    """Its step from border to border is not in it."""
    ramp = np.tile(np.linspace(0, 1, 32), (1, 32, 1))
    assert centroid(ramp) * 32 < 1.5 < plain_centroid(ramp) * 32


def test_white_noise_has_the_centroid_of_a_flat_spectrum():
    noise = np.random.default_rng(0).normal(size=(8, 3, 64, 64))
    assert centroid(noise) == pytest.approx(np.full(8, NOISE), abs=0.01)
    assert low_share(noise, 0.25) == pytest.approx(np.full(8, math.pi * 0.25**2), abs=0.02)
    signals = np.random.default_rng(1).normal(size=(8, 4, 1024))
    assert centroid(signals, axes=1) == pytest.approx(np.full(8, 0.25), abs=0.01)


def test_power_of_two_gratings_is_shared_as_their_squares():
    image = 3 * grating(64, 8) + grating(64, 24, 90)
    assert low_share(image, 16 / 64) == pytest.approx(0.9, abs=1e-3)
    assert centroid(image) * 64 == pytest.approx(0.9 * 8 + 0.1 * 24, abs=0.05)
    assert low_share(image, 0.75) == pytest.approx(1)
    assert low_share(image, 1 / 64) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steepness", [0, 1, 2])
def test_the_slope_of_planted_noise_is_found(steepness):
    random = np.random.default_rng(2)
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    radius[0, 0] = 1
    images = np.fft.ifft2(np.fft.fft2(random.normal(size=(16, 1, 128, 128))) / radius**steepness).real
    assert slope(images).mean() == pytest.approx(-steepness, abs=0.05)
    assert slope(images[:, :, 0], axes=1).shape == (16,)


def test_signals_have_frequencies_along_time():
    time = np.arange(200)
    signals = np.stack([np.sin(2 * np.pi * frequency * time) for frequency in (0.03, 0.2, 0.4)])[:, None]
    assert centroid(signals, axes=1) == pytest.approx([0.03, 0.2, 0.4], abs=0.5 / 200)
    assert low_share(signals, 0.1, axes=1) == pytest.approx([1, 0, 0], abs=1e-3)


def test_brightness_and_contrast_and_sign_do_not_count():
    images = np.random.default_rng(3).normal(size=(4, 3, 24, 16))
    shift = np.array([1.0, -7, 100])[:, None, None]
    for measure in (centroid, slope, lambda one: low_share(one, 0.2)):
        assert measure(-5 * images + shift) == pytest.approx(measure(images), rel=1e-9)


def test_unequal_sides_count_cycles_per_px_along_each():
    y, x = np.mgrid[:24, :60]
    assert centroid(np.sin(2 * np.pi * 0.2 * x)[None]) == pytest.approx(0.2, abs=0.01)
    assert centroid(np.sin(2 * np.pi * 0.25 * y)[None]) == pytest.approx(0.25, abs=0.01)


def test_pixels_without_a_value_count_as_the_mean():
    image = grating(64, 8) + 5
    holes = image.copy()
    holes[0, :3] = np.nan
    holes[0, 40, 40] = np.inf
    filled = np.where(np.isfinite(holes), holes, 5)
    assert centroid(holes) == pytest.approx(centroid(filled), abs=1e-4)
    assert centroid(holes) * 64 == pytest.approx(8, abs=0.5)


def test_a_channel_of_one_value_does_not_count():
    image = grating(32, 6)
    two = np.concatenate([image, np.full((1, 32, 32), 0.1), np.full((1, 32, 32), np.nan)])
    assert centroid(two) == centroid(image)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e8, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 1, 1)])
def test_an_image_of_one_value_has_no_frequency(value, shape):
    image = np.full(shape, value, np.float32)
    for found in (centroid(image), low_share(image, 0.2), slope(image)):
        assert found.shape == shape[:-3]
        assert np.isnan(found).all()


def test_no_images_have_no_frequencies():
    assert centroid(np.zeros((0, 5, 3, 8, 8))).shape == (0, 5)
    with pytest.raises(ValueError, match="need channels"):
        centroid(np.zeros((8, 8)))


def test_small_images_are_measured_and_have_no_slope():
    board = np.indices((4, 4)).sum(0)[None] % 2
    assert centroid(board) == pytest.approx(math.hypot(0.5, 0.5), abs=0.2)
    assert np.isnan(slope(board))
