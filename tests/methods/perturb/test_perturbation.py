"""Perturbed spectra shown to units whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.instruments.statistics.correlation import correlation
from cnnprobe.methods.perturb.bands import image_bands, signal_bands, turned
from cnnprobe.methods.perturb.perturbation import Noise, Original, Showing, Trials, deviation, slopes


def noise_of(bands, kinds=("amplitude",), groups=1, gain=False, scale=1.0, draws=1, colour=False, seed=0):
    return Noise(bands, kinds, groups, gain, scale, colour, draws, seed)


def shown(model, images, noise, layer="0", batch_size=64):
    dataset = given_images(images)
    (found,) = find(model, layer, dataset.size)
    units = {found.name: np.arange(found.channels)}
    trials = Trials.empty(noise, units, len(dataset))
    showing = Showing(model, [found], units, noise, decide=False)
    list(showing.run(batches(dataset, batch_size=batch_size), trials))
    return trials, found


def correlated(model, images, noise, kind="amplitude", **options):
    trials, layer = shown(model, images, noise, **options)
    cells, changes = (
        torch.from_numpy(one[0]).double() for one in (trials.perturbation[kind], trials.response[kind, layer.name])
    )
    return correlation(cells, changes).numpy(), changes.numpy(), cells.numpy()


class Amplitude(nn.Module):
    """The amplitude of the Fourier transform of a signal at one frequency, or its power."""

    def __init__(self, length, frequency, power=False):
        super().__init__()
        turns = 2 * math.pi * frequency * torch.arange(length) / length
        self.parts = nn.Conv1d(1, 2, length, bias=False)
        self.parts.weight.data = torch.stack([turns.cos(), turns.sin()])[:, None]
        self.power = power

    def forward(self, signals):
        power = self.parts(signals).square().sum(1, keepdim=True)
        return power if self.power else power.sqrt()


def white(count, *size, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *size)).astype(np.float32)


@pytest.mark.parametrize(("power", "expected"), [(False, 1.0), (True, math.sqrt(math.pi) / 2)])
def test_a_unit_that_is_an_amplitude_is_found(power, expected):
    """6.T1: 1.000 at its frequency and chance elsewhere; of power E A / sqrt(E A^2), Rayleigh's sqrt(pi) / 2 = .886."""
    model = nn.Sequential(Amplitude(64, 9, power)).eval()
    bands = signal_bands(64, None, None)
    found, *_ = correlated(model, white(2000, 1, 64), noise_of(bands, scale=0.2))
    assert found[8, 0] == pytest.approx(expected, abs=1e-3 if not power else 0.02)
    assert np.abs(np.delete(found[:, 0], 8)).max() < 4 / math.sqrt(2000)


def test_a_linear_filter_has_no_mean_change_until_it_is_rectified():
    """6.T2: a circular filter over one cosine; behind a rectifier its mean is proportional to the amplitude."""
    wave = torch.cos(2 * math.pi * 5 * torch.arange(40) / 40)
    filters = nn.Conv1d(1, 1, 40, padding="same", padding_mode="circular", bias=False)
    filters.weight.data[0, 0] = wave
    model = nn.Sequential(filters, nn.ReLU()).eval()
    bands, images = signal_bands(40, None, None), white(400, 1, 40)
    _, linear, _ = correlated(model, images, noise_of(bands), layer="0")
    found, rectified, _ = correlated(model, images, noise_of(bands), layer="1")
    assert np.abs(linear).max() < 1e-5 < 1e-2 < rectified.std()
    assert found[4, 0] == pytest.approx(1, abs=0.02)


def test_the_map_of_a_cosine_filter_turns_with_the_phase():
    """6.T3: correlation of the maps cos(q), to 1e-12 in double precision; rho(|q|) = -2 sqrt(24) / pi^2."""
    bands = signal_bands(64, None, None)
    signals = torch.from_numpy(white(3000, 1, 64)).double()
    angles = (torch.rand(3000, len(bands), generator=torch.Generator().manual_seed(0)).double() * 2 - 1) * math.pi
    spectrum = bands.spectrum(signals)
    kernel = torch.fft.rfft(torch.cos(2 * math.pi * 9 * torch.arange(64).double() / 64))
    maps, moved = (bands.image(one * kernel) for one in (spectrum, turned(spectrum, angles, bands)))
    alike = Original(maps, True).likeness(moved)[:, 0]
    assert (alike - angles[:, 8].cos()).abs().max() < 1e-9
    found = correlation(angles.abs(), alike[:, None])[:, 0]
    assert found[8].item() == pytest.approx(-2 * math.sqrt(24) / math.pi**2, abs=2e-3)
    assert found[torch.arange(len(bands)) != 8].abs().max() < 4 / math.sqrt(3000)


def test_phases_move_a_map_of_the_network_and_not_its_energy():
    """6.T3 through the network; the sum of squares of a cosine and a sine filter does not depend on the phase."""
    turns = 2 * math.pi * 9 * torch.arange(64) / 64

    class Energy(nn.Module):
        def forward(self, maps):
            return maps.square().sum(1, keepdim=True)

    filters = nn.Conv1d(1, 2, 64, padding="same", padding_mode="circular", bias=False)
    filters.weight.data = torch.stack([turns.cos(), turns.sin()])[:, None]
    model = nn.Sequential(filters, Energy()).eval()
    bands, images = signal_bands(64, None, None), white(800, 1, 64)
    how = noise_of(bands, ("phase",))
    found, _, angles = correlated(model, images, how, "phase", layer="0")
    assert found[8].tolist() == pytest.approx([-0.9927] * 2, abs=5e-3)
    assert (angles >= 0).all() and angles.max() <= np.float32(math.pi)
    _, alike, _ = correlated(model, images, how, "phase", layer="1")
    strong = np.abs(np.fft.rfft(images[:, 0])[:, 9]) > 1  # in others rounding makes the map uneven
    assert strong.mean() > 0.9 and (alike[strong] == 1).all()  # one value all over the map, before and after


class Quadrature(nn.Module):
    """Energy of an even and an odd Gabor."""

    def __init__(self, frequency, degrees, side=15, sigma=3.0):
        super().__init__()
        y, x = np.mgrid[:side, :side] - side // 2
        turn = math.radians(degrees)
        wave = 2 * math.pi * frequency * (x * math.cos(turn) + y * math.sin(turn))
        window = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        self.gabors = nn.Conv2d(1, 2, side, bias=False)
        kernels = np.stack([window * np.cos(wave), window * np.sin(wave)])[:, None]
        self.gabors.weight.data = torch.from_numpy(kernels).float()

    def forward(self, images):
        return self.gabors(images).square().sum(1, keepdim=True)


def test_the_energy_of_a_gabor_is_found_among_the_bands_of_images():
    """6.T4: f = .23 c/px at 60 degrees; the maximum is its band; other rings and orientations are far less."""
    bands = image_bands((32, 32), 6, 6, "linear")
    how = noise_of(bands, gain=True, scale=0.15)
    found, *_ = correlated(nn.Sequential(Quadrature(0.23, 60)).eval(), white(1500, 1, 32, 32), how)
    best = int(found[:, 0].argmax())
    assert (bands.low[best], bands.orientation[best]) == (pytest.approx(0.1875), 60)
    assert found[best, 0] > 0.6
    beside = [band for band in range(36) if bands.orientation[band] == 60 and abs(band - best) == 6]
    others = np.delete(found[:, 0], [best, *beside])
    assert found[beside, 0].max() < 0.5 and np.abs(others).max() < 4 / math.sqrt(1500)


def test_results_depend_neither_on_the_batch_nor_on_how_many_images_there_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ELU(), nn.Conv2d(4, 3, 3)).eval()
    images, how = (
        white(23, 3, 16, 16),
        noise_of(image_bands((16, 16), 3, 4, "linear"), ("amplitude", "phase"), gain=True),
    )
    one, _ = shown(model, images, how, batch_size=23)
    other, _ = shown(model, images[:13], how, batch_size=5)
    for kind in ("amplitude", "phase"):
        assert np.array_equal(one.perturbation[kind][:, :13], other.perturbation[kind])
        assert np.allclose(one.response[kind, "0"][:, :13], other.response[kind, "0"], atol=1e-5)


def test_nothing_deeper_than_asked_is_computed_but_for_decisions():
    calls = []
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 14, 3)).eval()
    model[2].register_forward_hook(lambda *_: calls.append(1))
    how, dataset = noise_of(signal_bands(16, None, None), draws=4), given_images(white(6, 1, 16))
    (layer,) = find(model, "conv1", (1, 16))
    calls.clear()
    for decide, expected in ((False, 0), (True, 2)):
        trials = Trials.empty(how, {"conv1": np.arange(2)}, 6, Outputs("logits", 3))
        list(Showing(model, [layer], {"conv1": np.arange(2)}, how, decide).run(batches(dataset, batch_size=6), trials))
        assert len(calls) == expected
    plain = model(torch.from_numpy(white(6, 1, 16))).argmax(1)
    assert trials.decisions["none"].tolist() == plain.tolist()


class Undefined(nn.Sequential):
    """Answers signals whose mean is above 5 with NaN."""

    def forward(self, signals):
        return super().forward(torch.where(signals.mean((1, 2), keepdim=True) > 5, torch.nan, signals))


def test_what_is_not_a_number_has_no_size_and_decides_nothing():
    """F48: of five signals the third; the others are those of a run without it."""
    torch.manual_seed(0)
    model = Undefined(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 14, 3)).eval()
    how, signals = noise_of(signal_bands(16, None, None), draws=2), white(5, 1, 16)
    signals[2] += 100
    (layer,) = find(model, "conv1", (1, 16))
    units, made = {"conv1": np.arange(2)}, []
    for shown_signals in (signals, signals[[0, 1, 3, 4]]):
        trials = Trials.empty(how, units, len(shown_signals), Outputs("logits", 3))
        loaded = batches(given_images(shown_signals), batch_size=2)
        list(Showing(model, [layer], units, how, True).run(loaded, trials))
        made.append(trials)
    assert np.isfinite(made[0].size["conv1"]).all()
    np.testing.assert_allclose(made[0].size["conv1"], made[1].size["conv1"], rtol=1e-6)
    for kind in ("none", "amplitude"):
        assert (made[0].decisions[kind] == -1).tolist() == [False, False, True, False, False]
    assert made[0].decisions["none"][[0, 1, 3, 4]].tolist() == made[1].decisions["none"].tolist()


def test_noise_is_normal_and_angles_are_uniform():
    how = noise_of(signal_bands(100, None, None), groups=3, scale=2.0)
    drawn = how.amplitude(0, torch.arange(400)).flatten().double().numpy()
    assert drawn.mean() == pytest.approx(0, abs=0.03) and drawn.std() == pytest.approx(2, abs=0.03)
    assert np.mean(np.abs(drawn) < 2) == pytest.approx(0.6827, abs=0.01) and np.isfinite(drawn).all()
    angles = how.phase(0, torch.arange(400)).flatten().numpy()
    assert np.histogram(angles, 8, (-math.pi, math.pi))[0] / angles.size == pytest.approx([1 / 8] * 8, abs=0.01)
    assert not torch.equal(how.amplitude(0, torch.arange(4)), how.amplitude(1, torch.arange(4)))


def test_slopes_are_those_of_small_changes():
    """The gradient against a finite difference of every band and channel."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Softplus()).double().eval()
    bands, signals = signal_bands(24, None, [0.05, 0.2, 0.5]), torch.randn(4, 2, 24).double()
    how = noise_of(bands, groups=2)
    (layer,) = find(model.float(), "1", (2, 24))
    model.double()
    spectrum, step = how.spectrum(signals), 1e-5
    found = dict(slopes(model, layer, np.array([2, 0]), how, signals))
    assert list(found) == [2, 0]
    for unit, slope in found.items():
        for group in range(2):
            for band in range(2):
                changed = torch.zeros(4, 2, 2).double()
                changed[:, group, band] = step
                ends = [model(how.amplified(spectrum, sign * changed))[:, unit].mean() for sign in (1, -1)]
                assert slope[band, group] == pytest.approx((ends[0] - ends[1]).item() / 2 / step, rel=1e-3, abs=1e-6)


def test_the_deviation_is_about_the_mean_of_each_channel():
    signals = 3 * white(50, 2, 400) + np.array([5, -7], np.float32)[:, None]
    assert deviation(batches(given_images(signals), batch_size=16)) == pytest.approx(3, rel=0.02)
    assert deviation(batches(given_images(signals * 0), batch_size=16)) == 1.0


@pytest.mark.parametrize("gain", [False, True])
def test_quiet_and_loud_signals_are_perturbed_by_the_same_numbers(gain):
    """F99: noise as it was drawn, not what is left of it above 0; else loudness would tie channels to each other."""
    bands = signal_bands(40, None, [0.1, 0.2, 0.5])
    how = noise_of(bands, groups=2, gain=gain, scale=3.0)
    spectrum, indices = bands.spectrum(torch.randn(5, 2, 40)), torch.arange(5)
    loud, quiet = (how.perturbed("amplitude", 0, size * spectrum, indices)[1] for size in (10.0, 0.001))
    assert torch.equal(loud, quiet) and torch.equal(loud, how.amplitude(0, indices))
