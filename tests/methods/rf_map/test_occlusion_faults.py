"""Occlusion where things go wrong: networks that cannot be followed, memory that does not suffice."""

import logging
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.windows.engine import WindowEngine
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.rf_map.occlusion import Occlusion
from tests.support.occluding import by_loop, by_windows, measured, scale


class Around(nn.Module):
    """A function of maps between two convolutions."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3)
        self.function = function
        self.eval()

    def forward(self, images):
        return self.second(self.function(self.first(images)).relu())


class Doubled(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(context, maps):
        return maps * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


class OutOfSight(torch.autograd.Function):
    """The same, done outside of torch."""

    @staticmethod
    def forward(context, maps):
        return torch.from_numpy(np.maximum(maps.numpy(), -0.1)) + 0 * maps


def if_bright(maps):
    """A branch that noise images, for which a pass is written down, never take."""
    return torch.stack([one if one[0].abs().max() < 1 else -one for one in maps])


def written_into(maps):
    maps[:, 0] = maps[:, 1].tanh()
    maps[:, 2:4].mul_(2)
    return maps


FUNCTIONS = {
    # name: (function of maps, the reason where it cannot be followed)
    "numpy": (lambda maps: maps * torch.from_numpy(np.tanh(maps.detach().numpy())), r"numpy\(\)"),
    "asarray": (lambda maps: maps + torch.tensor(np.sin(np.asarray(maps.detach()))), r"__array__\(\)"),
    "branch": (if_bright, r"__bool__\(\)"),
    "float": (lambda maps: torch.stack([one / (1 + float(one.abs().mean())) for one in maps]), r"__float__\(\)"),
    "item": (lambda maps: torch.stack([one * one.amax().item() for one in maps]), r"item\(\)"),
    "tolist": (lambda maps: maps * torch.tensor(maps.amax((2, 3)).tolist())[..., None, None], r"tolist\(\)"),
    "own gradient out of sight": (OutOfSight.apply, r"numpy\(\)"),
    "script": (lambda maps: maps + SCRIPT(maps), "windows differ from the network"),
    "written into": (written_into, ".+"),
    "own gradient": (Doubled.apply, None),
    "sorted": (lambda maps: maps.sort(dim=1).values, None),
    "chosen": (
        lambda maps: maps.gather(1, maps.mean((2, 3), keepdim=True).argsort(1).expand_as(maps)),
        "places out of values",
    ),
    "where": (lambda maps: torch.where(maps > 0.1, maps, maps.roll(1, 3)), None),
    "masked": (lambda maps: maps.masked_fill(maps.mean((1, 2, 3), keepdim=True) > maps, 0.3), "compares values"),
    "along x": (lambda maps: maps.cumsum(3) * 0.2, None),
    "unfolded": (
        lambda maps: nn.functional.unfold(maps, 3, padding=1).view(len(maps), 6, 9, *maps.shape[2:]).amax(2),
        None,
    ),
}
with warnings.catch_warnings(action="ignore"):  # it is deprecated, but published networks come in it
    SCRIPT = torch.jit.trace(nn.Hardshrink(0.1), torch.rand(1, 6, 12, 14))


def asked(model, name="conv2", size=(3, 12, 14), stride=2, brightness=1.0):
    (layer,) = find(model, name, size)
    random = np.random.default_rng(0)
    image, filled = random.random(size, np.float32) * brightness, random.random((2, *size), np.float32)
    units, sites = random.integers(0, layer.channels, 5), random.integers(0, layer.map_size, (5, 2))
    grid = Grid(size[1:], 4, stride)
    return model, layer, grid, torch.from_numpy(image), torch.from_numpy(filled), units, sites


@pytest.mark.parametrize("brightness", [1.0, 3.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_right_also_where_a_network_cannot_be_followed(name, brightness, caplog):
    function, reason = FUNCTIONS[name]
    what = asked(Around(function), brightness=brightness)
    found, occlusion = measured(*what, "site")
    np.testing.assert_allclose(found, by_loop(*what, "site"), atol=1e-5 * scale(*what[:2], what[3]))
    if reason is None:
        assert occlusion.engine == "windows" and not caplog.records
        return
    assert re.match(f"brute force: .*{reason}", occlusion.engine)
    *before, record = caplog.records
    assert all("images pass one by one" in one.getMessage() for one in before)
    assert record.levelno == logging.WARNING
    why = occlusion.engine.removeprefix("brute force: ")
    assert record.getMessage() == f"conv2: {why}; every occluded image runs through the whole network"
    assert np.isnan(occlusion.error) and occlusion.windows is None


def test_a_branch_that_noise_images_do_not_take_is_taken():
    """What the test above rests on: the bright image is on the other side."""
    model, *_, bright = asked(Around(if_bright), brightness=3.0)[:4]
    dark = asked(model)[3]
    with torch.no_grad():
        first = [float(model.first(image[None])[0, 0].abs().max()) for image in (dark, bright)]
    assert first[0] < 1 < first[1]


def test_a_network_with_chance_in_it(caplog):
    torch.manual_seed(0)
    model = Around(lambda maps: maps + torch.rand_like(maps))
    _, occlusion = measured(*asked(model), "site")
    assert occlusion.engine.startswith("brute force: ")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "differ from pass to pass" in told[0] and "whole network" in told[1]


def test_values_that_leave_torch_behind_the_layer_do_not_matter():
    model = Around(lambda maps: maps if float(maps.mean()) > 0 else -maps)
    assert measured(*asked(model, "conv1"), "site")[1].engine == "windows"
    assert measured(*asked(model, "conv2"), "site")[1].engine != "windows"


@pytest.mark.parametrize("engine", ["windows", "brute force"])
def test_a_network_that_writes_into_its_images(engine):
    class Writes(Around):
        def forward(self, images):
            return super().forward(images.mul_(2).sub_(0.5))

    what = asked(Writes(torch.tanh))
    kept = what[3].clone(), what[4].clone()
    expected = by_loop(*what, "site")
    found, occlusion = measured(*what, "site", engine=engine)
    assert occlusion.engine.split(":")[0] == engine
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale(*what[:2], what[3]))
    assert torch.equal(kept[0], what[3]) and torch.equal(kept[1], what[4])


# ---- memory --------------------------------------------------------------------------------------------------------

ERRORS = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
]


class Failing(nn.Module):
    """Hands maps on; its n-th call with more than `fits` images fails."""

    def __init__(self, error, after=0, fits=0):
        super().__init__()
        self.error, self.after, self.fits = error, after, fits

    def forward(self, maps):
        if self.error is not None and len(maps) > self.fits:
            self.after -= 1
            if self.after < 0:
                raise self.error
        return maps


def brute(model, what, batch):
    occlusion = Occlusion(*what[:2], (3, 12, 14), what[2], engine="brute force")
    occlusion.batch = batch
    with occlusion:
        return occlusion.discrepancies(*what[3:], "site"), occlusion


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_half_as_many_images_go_on_where_a_batch_does_not_fit(error, after, caplog):
    """F54: 30 places, two draws, in batches of 8: 8, 8, 8, 6."""
    model = Around(Failing(None))
    what = asked(model)
    expected, _ = brute(model, what, 8)
    model.function.error, model.function.after, model.function.fits = error, after, 4
    found, occlusion = brute(model, what, 8)
    np.testing.assert_allclose(found, expected, atol=1e-6 * scale(*what[:2], what[3]))
    count, rest = (6, 3) if after == 3 else (8, 4)
    assert caplog.messages == [f"batch {count} does not fit in memory, going on with {rest}"]
    assert occlusion.batch == rest


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_halves_of_halves_and_one_that_does_not_fit(error, caplog):
    model = Around(Failing(None))
    what = asked(model)
    model.function.error, model.function.fits = error, 1
    found, occlusion = brute(model, what, 256)
    assert occlusion.batch == 1
    sizes = [tuple(map(int, re.findall(r"\d+", message))) for message in caplog.messages]
    assert sizes == [(30, 15), (15, 7), (7, 3), (3, 1)]
    np.testing.assert_allclose(found, by_loop(*what, "site"), atol=1e-5)
    model.function.fits = 0
    with pytest.raises(type(error)):
        brute(model, what, 256)


def test_an_error_that_is_not_about_memory_passes_through(caplog):
    model = Around(Failing(None))
    what = asked(model)
    model.function.error, model.function.fits = RuntimeError("shapes cannot be multiplied"), 1
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        brute(model, what, 8)
    assert not caplog.records


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_half_as_many_windows_go_on_where_they_do_not_fit(error, after, caplog, monkeypatch):
    what, carry, calls = asked(Around(torch.tanh), stride=1), WindowEngine._carry, []
    expected = by_windows(*what, "max")
    occlusion = Occlusion(*what[:2], (3, 12, 14), what[2])
    occlusion.batch = 12

    def short(self, rows, columns, *rest):
        calls.append(len(rows.members) * len(columns.members))
        if calls[-1] * 2 > 6 and len([n for n in calls if n * 2 > 6]) > after:
            raise error
        return carry(self, rows, columns, *rest)

    monkeypatch.setattr(WindowEngine, "_carry", short)
    with occlusion:
        found = occlusion.discrepancies(*what[3:], "max")
    np.testing.assert_allclose(found, expected, atol=1e-6 * scale(*what[:2], what[3]))
    assert caplog.messages and all(re.fullmatch(SHORT, message) for message in caplog.messages)
    assert occlusion.batch <= 6


SHORT = r"batch \d+ does not fit in memory, going on with \d+"


def test_windows_of_one_occluder_that_do_not_fit_and_other_errors(monkeypatch, caplog):
    what = asked(Around(torch.tanh))
    occlusion = Occlusion(*what[:2], (3, 12, 14), what[2])
    for error in (MemoryError("none"), ValueError("none")):

        def fails(*_, error=error):
            raise error

        monkeypatch.setattr(WindowEngine, "_carry", fails)
        with occlusion, pytest.raises(type(error), match="none"):
            occlusion.discrepancies(*what[3:], "max")
