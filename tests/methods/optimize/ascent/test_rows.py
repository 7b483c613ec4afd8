"""Ascents whose end is known: linear units, planted gratings, dead units, rows that must not touch each other."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.instruments.layers.naming import find
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.optimize.ascent.objectives import Channel, Neuron, Objective
from cnnprobe.methods.optimize.ascent.presets import PRESETS, Settings, preset_of
from cnnprobe.methods.optimize.ascent.regularisers import Regularisers
from cnnprobe.methods.optimize.ascent.rows import STARTS, ascend

GREY = Statistics(torch.zeros(1), torch.eye(1))


def linear(templates):
    """A dense layer of these templates, (unit, y, x)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(templates[0].numel(), len(templates), bias=False)).eval()
    model[1].weight.data = templates.flatten(1)
    return model


def climbed(model, layer, units, size, settings, seed=0, **others):
    layers = find(model, layer, size)
    kind = Neuron(layers[0].name, np.array(units))
    seeds = [(seed, unit, 0) for unit in units]
    return ascend(model, layers, kind, size, settings, seeds, **({"statistics": GREY} | others))


def templates(count=2, side=6):
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(0))


def cosine(one, other):
    one, other = (np.asarray(x, np.float64).ravel() for x in (one, other))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_decay_balances_the_gradient():
    """4.T1: x <- (1 - θ)(x + η w) converges to η (1 - θ) / θ w."""
    w = templates()
    plain = Settings("pixel", steps=2500, optimiser="constant", lr=1.0, box=None, boxed=False, normal=1.0)
    found = climbed(linear(w), "1", [0, 1], (1, 6, 6), replace(plain, regularisers=Regularisers(decay=0.01)))
    for image, template in zip(found.images, w):
        assert np.linalg.norm(image) / float(template.norm()) == pytest.approx(99, rel=1e-3)
        assert cosine(image, template) == pytest.approx(1, abs=1e-6)


def test_l2_gives_half_the_template_by_its_weight():
    """4.T1: the best of J - λ |x|² is w / 2λ."""
    w = templates()
    plain = Settings("pixel", steps=400, optimiser="constant", lr=0.1, box=None, boxed=False, normal=0.1)
    settings = replace(plain, regularisers=Regularisers(l2=0.25))
    found = climbed(linear(w), "1", [0, 1], (1, 6, 6), settings)
    for image, template in zip(found.images, w):
        np.testing.assert_allclose(image[0], template / 0.5, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("box", [(0.0, 1.0), (-0.5, 2.0)])
def test_in_a_box_a_linear_unit_wants_its_corners(box):
    """4.T2: the upper end where the weight is positive, the lower one elsewhere."""
    w = templates()
    settings = Settings("pixel", steps=300, lr=0.05, box=box, normal=0.1)
    found = climbed(linear(w), "1", [0, 1], (1, 6, 6), settings)
    for image, template in zip(found.images, w):
        np.testing.assert_allclose(image[0], np.where(template > 0, box[1], box[0]), atol=1e-5)


def gabor(frequency, degrees, side=15, phase=0.0):
    y, x = torch.meshgrid(*[torch.arange(side) - side // 2.0] * 2, indexing="ij")
    along = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    wave = torch.cos(2 * math.pi * frequency * along + phase) * torch.exp(-(x**2 + y**2) / 2 / 3.5**2)
    return (wave - wave.mean()) / (wave - wave.mean()).norm()


def test_a_gabor_unit_prefers_a_grating_of_its_frequency_and_orientation():
    """4.T3: 0.15 cycles/px at 30 degrees, read behind the rectifier, image of 64 px."""
    model = nn.Sequential(nn.Conv2d(1, 1, 15, bias=False), nn.ReLU()).eval()
    model[0].weight.data[0, 0] = gabor(0.15, 30)
    layers = find(model, "conv1", (1, 64, 64))
    settings = Settings("pixel", steps=300, lr=0.05, box=(-1.0, 1.0), normal=0.1)
    found = ascend(model, layers, Channel("conv1", np.array([0])), (1, 64, 64), settings, [(0, 0)], statistics=GREY)
    power = np.abs(np.fft.fft2(found.images[0, 0] - found.images[0, 0].mean()))[:, :32]
    ky, kx = np.unravel_index(power.argmax(), power.shape)
    fy, fx = np.fft.fftfreq(64)[ky], kx / 64
    assert np.hypot(fy, fx) == pytest.approx(0.15, abs=1.5 / 64)
    assert np.degrees(np.arctan2(fy, fx)) == pytest.approx(30, abs=5)
    assert found.trace[0, -1] > found.trace[0, 0]


@dataclass(frozen=True)
class Norm(Objective):
    """The norm of the responses at the middle of two maps."""

    layer: str
    count: int
    name = "norm"

    @property
    def layers(self):
        return (self.layer,)

    @property
    def rows(self):
        return self.count

    def of(self, rows):
        return replace(self, count=len(rows))

    def every(self, activations):
        maps = activations[self.layer]
        return (maps.square().sum(1) + 1e-12).sqrt()[:, None].expand(-1, self.count)


@pytest.mark.parametrize("seed", range(4))
def test_diversity_gives_each_of_two_images_a_template_of_its_own(seed):
    """4.T7: the norm of two orthogonal responses; without diversity both images become the same mixture."""
    pair = torch.stack([gabor(0.15, 0), gabor(0.15, 90)])
    model = nn.Sequential(linear(pair), nn.ReLU()).eval()
    settings = Settings("pixel", steps=400, lr=0.01, box=None, boxed=False, normal=0.1)
    settings = replace(settings, regularisers=Regularisers(l2=0.25))
    layers = find(model, "1", (1, 15, 15))

    def cosines(**changes):
        seeds = [(seed, 0, start) for start in range(2)]
        given = layers, Norm(layers[0].name, 2), (1, 15, 15), replace(settings, **changes), seeds
        found = ascend(model, *given, statistics=GREY, together=2)
        assert found.problem == ["", ""]
        return np.array([[cosine(image, template) for template in pair] for image in found.images])

    with_it = cosines(diversity=5.0)
    chosen = with_it.argmax(1)
    assert sorted(chosen) == [0, 1]
    np.testing.assert_allclose(with_it.max(1), 1, atol=0.02)
    np.testing.assert_allclose(with_it.min(1), 0, atol=0.1)
    without = cosines()
    assert np.abs(without).min(1).max() > 0.2  # one is a mixture


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True)
    ).eval()


def everything(settings, units=range(8), seed=0, model=None, **others):
    model = model or net()
    layers = find(model, "conv2", (3, 24, 24))
    seeds = [(seed, unit, 0) for unit in units]
    return ascend(model, layers, Channel("conv2", np.array(units)), (3, 24, 24), settings, seeds, **others)


@pytest.mark.parametrize("name", PRESETS)
def test_rows_do_not_depend_on_those_beside_them(name):
    settings = preset_of(name, steps=12)
    every = everything(settings)
    some = everything(settings, units=[5, 1], carried=Carried(1))
    for field in ("images", "value", "response", "transformed", "trace"):
        one, other = getattr(every, field)[[5, 1]], getattr(some, field)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1e-3, np.nanmax(np.abs(one))), err_msg=field)
    np.testing.assert_array_equal(every.restarts[[5, 1]], some.restarts)


@pytest.mark.parametrize("name", ["standard", "yosinski-4", "maco"])
def test_the_same_seeds_give_the_same_images_and_others_do_not(name):
    settings = preset_of(name, steps=10)
    one, again, other = everything(settings), everything(settings), everything(settings, seed=1)
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.trace, again.trace)
    assert not np.array_equal(one.images, other.images, equal_nan=True)


def test_what_is_reported_is_what_the_network_answers_to_the_stored_image():
    model, settings = net(), preset_of("pytorch-cnn-visualizations", steps=20, redirect=16)
    found = everything(settings, model=model)
    with torch.no_grad():
        maps = model(torch.from_numpy(found.images))
    own = maps[range(8), range(8)]
    np.testing.assert_allclose(found.value, own.mean((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.response, own.amax((1, 2)), rtol=1e-4, atol=1e-6)
    assert found.images.min() >= 0 and found.images.max() <= 1


@pytest.mark.parametrize("transforms", [True, False])
def test_the_best_step_is_kept(transforms):
    settings = preset_of("lucid" if transforms else "pytorch-cnn-visualizations", steps=48, lr=0.5)
    found = everything(settings, statistics=Statistics.plain(3))
    fine = found.best >= 0
    assert fine.any()
    if transforms:
        assert set(found.best[fine]) <= {0, 16, 32, 48}
    for value, trace, best in zip(found.value[fine], found.trace[fine], found.best[fine]):
        if not transforms and best < len(trace) and settings.boxed:
            assert value == pytest.approx(np.nanmax(trace), rel=1e-5)


def test_without_transforms_the_best_of_the_trace_is_kept():
    settings = Settings("pixel", steps=60, lr=0.3, normal=0.3)
    found = everything(settings)
    for row in np.flatnonzero(found.best >= 0):
        known = found.trace[row][np.isfinite(found.trace[row])]
        assert found.value[row] >= known.max() * (1 - 1e-5)
        if found.best[row] < len(found.trace[row]):
            assert found.trace[row, found.best[row]] == pytest.approx(found.value[row], rel=1e-4)


def test_a_dead_unit_is_told_and_the_others_are_finished():
    """F52: a bias of -1e9."""
    model = net()
    model[3].bias.data[7] = -1e9
    found = everything(preset_of("standard", steps=60), model=model)
    assert found.problem[7] == f"no gradient from {STARTS} starts"
    assert (found.restarts[7], found.best[7]) == (STARTS - 1, -1)
    assert np.isnan(found.images[7]).all() and np.isnan(found.response[7]) and np.isnan(found.value[7])
    assert found.problem[:7] == [""] * 7
    assert np.isfinite(found.images[:7]).all() and (found.value[:7] > 0).all()
    alone = everything(preset_of("standard", steps=60), units=range(7))
    np.testing.assert_allclose(found.images[:7], alone.images, atol=1e-4)


def test_what_goes_astray_starts_again_with_smaller_steps():
    """F52: lr=1e6."""
    found = everything(preset_of("standard", steps=60, lr=1e6))
    assert all("diverged, restarted with lr" in problem for problem in found.problem if "no gradient" not in problem)
    assert sum("diverged, restarted" in problem for problem in found.problem) >= 6
    fine = [row for row, problem in enumerate(found.problem) if "no gradient" not in problem]
    plain = everything(preset_of("standard", steps=60))
    assert (found.value[fine] > 0).all() and (plain.value[fine] > 0).all()


def test_numbers_that_are_not_finite_start_again():
    class Fragile(nn.Module):
        """Gives NaN where an image has become too bright."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, bias=False)
            nn.init.constant_(self.conv.weight, 0.1)

        def forward(self, images):
            mean = images.mean((1, 2, 3), keepdim=True)
            return self.conv(images) * torch.where(mean > 5, torch.nan, 1.0)

    settings = Settings("pixel", steps=60, lr=1.0, box=None, boxed=False, normal=0.1)
    found = climbed(Fragile(), "conv", [0, 1], (1, 8, 8), settings)
    # the layer itself is finite; its reader is not
    assert np.isfinite(found.images).all()
    model = nn.Sequential(Fragile(), nn.Identity()).eval()
    found = climbed(model, "1", [0, 1], (1, 8, 8), settings)
    assert all("diverged, restarted with lr 0.01" in problem for problem in found.problem)
    assert np.isfinite(found.images).all() and np.isfinite(found.value).all()


def test_a_unit_that_is_silent_at_the_start_is_woken():
    """A rectifier that noise of small contrast never reaches."""
    model = nn.Sequential(nn.Conv2d(1, 1, 5, bias=True), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU()).eval()
    model[0].weight.data[:], model[0].bias.data[:] = 0.1, -1.5  # silent at grey: 25 * 0.1 * 0.5 = 1.25
    model[2].weight.data[:], model[2].bias.data[:] = 1.0, -0.1
    layers = find(model, "conv2", (1, 12, 12))
    for redirect, wakes in ((16, True), (0, True)):  # without it the second start redirects
        settings = Settings("fourier", steps=60, redirect=redirect)
        found = ascend(model, layers, Channel("conv2", np.array([0])), (1, 12, 12), settings, [(0, 0)])
        assert (found.best[0] > 0) == wakes
        assert found.restarts[0] == (0 if redirect else 1)


class Short:
    """Runs out of memory above some images."""

    def __init__(self, most):
        self.most, self.asked = most, []

    def __call__(self, module, inputs):
        self.asked.append(len(inputs[0]))
        if len(inputs[0]) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_fewer_rows_are_carried_where_memory_is_short(caplog):
    model, settings = net(), preset_of("standard", steps=6)
    whole = everything(settings)
    short = Short(2)
    model.register_forward_pre_hook(short)
    carried = Carried(8, "batch of rows")
    found = everything(settings, model=model, carried=carried)
    assert carried.most == 2
    np.testing.assert_allclose(found.images, whole.images, atol=1e-5)
    assert "batch of rows 8 does not fit in memory, going on with 4" in caplog.text
    assert len(model._forward_pre_hooks) == 1


def test_signals_and_grey_images_of_any_size_climb():
    torch.manual_seed(0)
    signals = nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU()).eval()
    grey = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU()).eval()
    for model, size in ((signals, (2, 61)), (grey, (1, 17, 30))):
        model[0].bias.data[:] = 2  # so that no unit is silent
        layers = find(model, "conv1", size)
        for name in PRESETS:
            settings = preset_of(name, steps=8)
            found = ascend(model, layers, Channel("conv1", np.array([0, 1])), size, settings, [(0, 0), (0, 1)])
            assert found.images.shape == (2, *size), name
            assert np.isfinite(found.images).all(), name
