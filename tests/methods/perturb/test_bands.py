"""Bands: which frequencies they hold, that images stay real, what is done to amplitudes and phases."""

import numpy as np
import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.methods.perturb.bands import image_bands, opponent, raised, scaled, signal_bands, turned


def images(count=4, channels=3, size=(24, 30), seed=0):
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(24, 24), (24, 30), (25, 31), (32, 33)])
def test_nothing_done_is_nothing_changed(size):
    """6.T5: a round trip with no perturbation, in all three ways."""
    bands, x = image_bands(size, 6, 6, "linear"), images(size=size)
    spectrum = bands.spectrum(x)
    nothing = torch.zeros(4, 3, len(bands))
    for made in (scaled(spectrum, nothing, bands), raised(spectrum, nothing, bands),
                 turned(spectrum, nothing[:, 0], bands)):  # fmt: skip
        assert (bands.image(made) - x).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(24, 24), (24, 30), (25, 31)])
@pytest.mark.parametrize("orientations", [1, 4, 6, 7])
def test_bands_hold_a_frequency_and_its_negative(size, orientations):
    """6.T5: membership over the whole plane, one frequency at a time, is symmetric and agrees with the half."""
    bands = image_bands(size, 5, orientations, "linear")
    edges = np.linspace(1 / max(size), 0.5, 6)
    for i, y in enumerate(np.fft.fftfreq(size[0])):
        for j, x in enumerate(np.fft.rfftfreq(size[1])):
            found = int(bands.index[i, j])
            radius = np.hypot(y, x)
            if radius < edges[0] - 1e-9 or radius > 0.5 + 1e-9 or (abs(y) == 0.5 and x == 0.5):
                assert found == -1
                continue
            assert bands.low[found] - 1e-9 <= radius <= bands.high[found] + 1e-9
            for sign in (1, -1):  # both directions of the wave
                turn = np.degrees(np.arctan2(sign * y, sign * x)) % 180
                apart = abs((turn - bands.orientation[found] + 90) % 180 - 90)
                assert apart <= 90 / orientations + 1e-6


def test_the_image_of_a_changed_spectrum_has_that_spectrum():
    """It is real because the half that is not stored is its mirror image: going back gives what was put in."""
    bands = image_bands((24, 30), 6, 6, "linear")
    spectrum = bands.spectrum(images().double())
    random = torch.Generator().manual_seed(1)
    gains = 0.5 * torch.randn(4, 1, len(bands), generator=random, dtype=torch.float64)
    angles = 3 * torch.randn(4, len(bands), generator=random, dtype=torch.float64)
    for made in (scaled(spectrum, gains, bands), turned(spectrum, angles, bands)):
        assert (bands.spectrum(bands.image(made)) - made).abs().max() < 1e-9 * made.abs().max()
    assert (turned(spectrum, angles, bands).abs() - spectrum.abs()).abs().max() < 1e-9 * spectrum.abs().max()


def test_a_grating_is_turned_by_the_angle_of_its_band():
    """cos(2 pi k x) becomes cos(2 pi k x + q), or - q, as its direction is counted; other bands leave it alone."""
    bands = image_bands((32, 32), 4, 4, "linear")
    y, x = np.mgrid[:32, :32] / 32
    for fx, fy in ((5, 0), (0, 6), (4, 4), (4, -4), (-3, 9)):
        wave = torch.from_numpy(np.cos(2 * np.pi * (fx * x + fy * y)))[None, None]
        own = int(bands.index[fy % 32, fx] if fx >= 0 else bands.index[-fy % 32, -fx])
        angles = torch.zeros(1, len(bands), dtype=torch.float64)
        angles[0, own] = 1.1
        made = bands.image(turned(bands.spectrum(wave), angles, bands))[0, 0].numpy()
        ways = [np.cos(2 * np.pi * (fx * x + fy * y) + q) for q in (1.1, -1.1)]
        assert min(abs(made - way).max() for way in ways) < 1e-6
        angles.fill_(1.1)[0, own] = 0
        assert (bands.image(turned(bands.spectrum(wave), angles, bands)) - wave).abs().max() < 1e-6


def test_bands_of_signals_are_frequencies_or_between_edges():
    every = signal_bands(100, 250.0, None)
    assert np.allclose(every.frequency, np.arange(1, 51) * 2.5) and every.unit == "Hz"
    assert every.entries.tolist() == [1] * 50
    assert every.turned.tolist() == [1] * 49 + [0]  # at half the rate there is no phase
    some = signal_bands(100, 250.0, [4.0, 8.0, 12.5, 125.0])
    assert [np.flatnonzero(some.index == band).tolist() for band in range(3)] == [[2, 3], [4], list(range(5, 51))]
    assert signal_bands(101, None, 5).unit == "cycles per sample"
    assert sum(signal_bands(101, None, 5).entries) == 50


def test_rings_of_octaves_have_equal_ratios():
    bands = image_bands((64, 64), 5, 1, "octave")
    assert np.allclose(bands.high / bands.low, 2) and bands.high[-1] == pytest.approx(0.5)


def test_amplitudes_are_raised_by_what_was_asked_and_never_below_0():
    bands = signal_bands(40, None, [0.1, 0.2, 0.5])
    signals = torch.randn(3, 2, 40, generator=torch.Generator().manual_seed(0)).double()
    spectrum = bands.spectrum(signals)
    noise = 6 * torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    made = raised(spectrum, noise, bands)
    for signal in range(3):
        for channel in range(2):
            for band in range(2):
                inside = bands.index == band
                before = spectrum[signal, channel, inside].abs()
                after = (before + noise[signal, channel, band]).clamp(min=0)
                assert torch.allclose(made[signal, channel, inside].abs(), after)
    kept = (made.angle() - spectrum.angle())[made.abs() > 1e-9]
    assert kept.abs().max() < 1e-9
    silence = raised(torch.zeros_like(spectrum), noise.abs(), bands)
    assert torch.isfinite(silence.abs()).all() and float(silence.abs().max()) == pytest.approx(float(noise.abs().max()))


def test_opponent_colours_are_a_rotation():
    x = images()
    assert (opponent(opponent(x), back=True) - x).abs().max() < 1e-5
    grey = torch.full((1, 3, 2, 2), 0.5)
    assert torch.allclose(opponent(grey)[0, :, 0, 0], torch.tensor([0.5 * 3**0.5, 0, 0]), atol=1e-6)
    assert torch.allclose(opponent(x).square().sum(1), x.square().sum(1), rtol=1e-4)


@pytest.mark.parametrize("edges", [[0.2], [0.2, 0.1], [0.1, 0.6]])
def test_edges_that_do_not_rise_within_half_a_cycle_are_refused(edges):
    with pytest.raises(UserError, match=r"bands must be edges that rise from 0 or more to at most 0.5 cycles per px"):
        image_bands((16, 16), edges, 4, "linear")
    with pytest.raises(UserError, match="at most 125 Hz"):
        signal_bands(100, 250.0, [10.0, 130.0])
