"""Images from coefficients: their spectra, their colours, and that every size has its own."""

import numpy as np
import pytest
import torch

from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.methods.optimize.ascent.parametrisations import Fourier, Maco, Pixel, frequencies, odd

SIZES = [(3, 32, 32), (3, 33, 48), (1, 20, 31), (2, 64), (4, 45)]


def sources(rows):
    return [np.random.default_rng([3, row]) for row in range(rows)]


def full(sides):
    """The frequency of every coefficient of `rfftn`, by a loop."""
    found = np.zeros((*sides[:-1], sides[-1] // 2 + 1))
    for place in np.ndindex(found.shape):
        turns = [min(k, side - k) / side for k, side in zip(place, sides)]
        found[place] = np.sqrt(sum(turn**2 for turn in turns))
    return found


@pytest.mark.parametrize("sides", [(8, 8), (9, 6), (7,), (10,)])
def test_frequencies_are_cycles_per_pixel(sides):
    np.testing.assert_allclose(frequencies(sides), full(sides), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [Fourier, Maco, Pixel])
def test_images_have_the_size_and_the_range(size, kind):
    statistics = Statistics.plain(size[0])
    made = kind(size, statistics, (0.0, 1.0), 0.1) if kind is Pixel else kind(size, statistics)
    values = made.start(sources(2)).requires_grad_()
    images = made.image(values)
    assert images.shape == (2, *size)
    assert images.min() >= 0 and images.max() <= 1
    images.sum().backward()
    assert torch.isfinite(values.grad).all()
    alone = made.image(made.start(sources(2)[1:]))
    torch.testing.assert_close(images[1:].detach(), alone)


def test_fourier_images_start_with_amplitudes_that_fall_with_frequency():
    """4.T5: a slope of -1 in the radial mean of the amplitude."""
    made = Fourier((3, 128, 128), Statistics.plain(3))
    amplitude = torch.fft.rfft2(made.plain(made.start(sources(8)))).abs().mean((0, 1)).numpy()
    frequency = full((128, 128))
    rings = [(low, low * 1.2) for low in np.geomspace(0.03, 0.38, 12)]
    points = [
        (np.mean(frequency[inside]), np.mean(amplitude[inside]))
        for inside in ((frequency >= low) & (frequency < high) for low, high in rings)
    ]
    slope = np.polyfit(*np.log(np.array(points)).T, 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)


def test_lucids_colours_make_red_and_green_alike():
    """4.T5: decorrelated white noise gets a correlation of 0.914 between red and green."""
    made = Fourier((3, 64, 64), Statistics.plain(3))
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.01
    red, green, _ = torch.logit(made.shown(noise)).transpose(0, 1).flatten(1)
    assert float(torch.corrcoef(torch.stack([red, green]))[0, 1]) == pytest.approx(0.914, abs=0.01)


@pytest.mark.parametrize("sides", [(16, 16), (15, 16), (16, 15), (9, 11), (16,), (15,)])
def test_maco_keeps_every_amplitude(sides):
    """4.T6: of the image before it is brought to size, also in the columns whose phases come in pairs."""
    natural = torch.fft.rfftn(torch.rand(5, 3, *sides), dim=tuple(range(2, 2 + len(sides)))).abs().mean(0)
    made = Maco((3, *sides), Statistics(torch.full((3,), 0.5), torch.eye(3), magnitude=natural))
    plain = made.plain(made.start(sources(3))).numpy().astype(np.float64)
    found = np.abs(np.fft.rfftn(plain, axes=tuple(range(2, 2 + len(sides)))))
    expected = natural.numpy().copy()
    expected[(slice(None), *[0] * len(sides))] = 0  # grey on average
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-5 * expected.max())


def test_without_odd_phases_amplitudes_would_change():
    phases = torch.randn(16, 9, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(16, 9)
    free, kept = (
        torch.fft.rfft2(torch.fft.irfft2(torch.polar(ones, p), s=(16, 16))).abs()
        for p in (phases, odd(phases, (16, 16)))
    )
    assert (kept - 1).abs().max() < 1e-5
    assert (free - 1).abs()[:, [0, 8]].max() > 0.3
    assert (free - 1).abs()[:, 1:8].max() < 1e-5


def test_pixels_stay_in_their_box():
    statistics = Statistics(torch.tensor([0.2, 0.5]), torch.eye(2))
    made = Pixel((2, 6, 6), statistics, (0.0, 1.0), 5.0)
    images = made.image(made.start(sources(2)))
    assert images.min() == 0 and images.max() == 1
    values = torch.full((1, 2, 6, 6), 9.0)
    made.settle(values)
    assert torch.equal(made.image(values), torch.ones(1, 2, 6, 6))
    unbounded = Pixel((2, 6, 6), statistics, None, 5.0)
    assert unbounded.image(unbounded.start(sources(1))).abs().max() > 2
    grey = Pixel((2, 6, 6), statistics, None, 0.0)
    assert torch.equal(grey.image(grey.start(sources(1)))[0, :, 0, 0], statistics.mean)


def test_pixels_may_start_from_uniform_noise():
    made = Pixel((1, 40, 40), Statistics.plain(1), None, 0.0, (0.6, 0.7))
    images = made.image(made.start(sources(1)))
    assert 0.6 <= images.min() < 0.605 and 0.695 < images.max() <= 0.7


def test_signals_have_the_range_of_their_dataset():
    statistics = Statistics(torch.zeros(2), torch.eye(2), low=-30.0, high=50.0)
    made = Fourier((2, 64), statistics)
    images = made.image(made.start(sources(1)) * 1e4)
    assert -30 <= images.min() < -20 and 40 < images.max() <= 50
