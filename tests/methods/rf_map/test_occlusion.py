"""The measurement of one image: closed formulas, plain loops, and what must never change."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.rf_map.discrepancy import READINGS
from cnnprobe.methods.rf_map.occlusion import TOLERANCE, Occlusion
from cnnprobe.models import convnet, mousenet
from tests.support.networks import planted
from tests.support.occluding import by_brute_force, by_loop, by_windows, measured, misses, scale, textured

ENGINES = [by_windows, by_brute_force]


def small(channels=3) -> nn.Sequential:
    """Two convolutions with what stands between them as a rule; rectifiers in place."""
    torch.manual_seed(1)
    layers = [
        *(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(6)),
    ]
    model = nn.Sequential(*layers)
    model(torch.rand(1, channels, 14, 18))
    return textured(model)


def asked(model, name="conv2", size=(3, 14, 18), patch=4, stride=3, draws=2, seed=0):
    """Return what a measurement needs, up to the reading."""
    (layer,) = find(model, name, size)
    random = np.random.default_rng(seed)
    units = random.integers(0, layer.channels, 4)
    sites = np.array([[random.integers(0, side) for side in layer.map_size] for _ in units], np.int64).reshape(4, -1)
    image, filled = random.random(size, np.float32), random.random((draws, *size), np.float32)
    grid = Grid(size[1:], patch, stride)
    return model, layer, grid, torch.from_numpy(image), torch.from_numpy(filled), units, sites


# ---- against formulas and loops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_linear_unit_gives_its_kernel_under_a_box(engine):
    """2.T2: k = 5, image of ones, filling 0: the kernel correlated with a box of p x p, k + p - 1 = 7 wide."""
    model = nn.Sequential(nn.Conv2d(1, 2, 5, bias=False)).eval()
    torch.manual_seed(0)
    nn.init.normal_(model[0].weight)
    size, site, patch = (1, 20, 24), (8, 11), 3
    (layer,) = find(model, "conv1", size)
    grid, image = Grid(size[1:], patch, 1), torch.ones(size)
    found = engine(model, layer, grid, image, torch.zeros(1, *size), [1], [site], "site")[0, 0]
    kernel = model[0].weight[1, 0].detach().double().numpy()
    expected = np.zeros(grid.shape)
    for row, column in np.ndindex(grid.shape):
        for y, x in np.ndindex(5, 5):
            inside = row <= site[0] + y < row + patch and column <= site[1] + x < column + patch
            expected[row, column] += kernel[y, x] * inside
    assert np.abs(found - expected).max() < 1e-5
    support = np.argwhere(np.abs(found) > 1e-5)
    assert (np.ptp(support, axis=0) + 1).tolist() == [7, 7]
    assert support.min(0).tolist() == [site[0] - (patch - 1), site[1] - (patch - 1)]


def smooth():
    """Functions that round differently in different places of a tensor, GELU for one."""
    steps = [nn.Conv2d(3, 5, 3, padding=1), nn.GELU(), nn.Conv2d(5, 6, (1, 3), padding="same"), nn.Tanh()]
    return nn.Sequential(*steps, nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 6, 3), nn.GELU())


def networks_of_a_seed():
    mouse = {"variant": "mousenet64", "readout": "pool4", "mask": "none", "mask_seed": 0}
    yield "chain", lambda: small(), "conv2", (3, 14, 18)
    yield "smooth", smooth, "6", (3, 17, 19)
    yield "functions", planted.Functional, "conv2", (3, 20, 20)
    yield "block", planted.Block, "relu#2", (3, 16, 16)
    yield "twice", planted.Twice, "conv2", (3, 15, 19)
    yield "convnet", lambda: convnet.build(num_classes=None, written="class", input_size=32), "conv3", (3, 32, 32)
    yield (
        "mousenet",
        lambda: mousenet.build(num_classes=10, **mouse, input_size=None, upsample_to=None),
        "VISp5",
        (3, 64, 64),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("build", "name", "size"), [pytest.param(*n[1:], id=n[0]) for n in networks_of_a_seed()])
def test_occluders_that_miss_the_field_change_nothing_at_all(build, name, size, seed):
    """2.T3: `site` is exactly 0 for every occluder that does not meet the theoretical field."""
    torch.manual_seed(seed)
    model = textured(build(), seed)
    model, layer, grid, image, filled, units, sites = asked(model, name, size, 3, 3, 1, seed)
    sites[0], sites[1] = 0, np.array(layer.map_size) - 1  # fields partly in the padding
    missed = misses(layer, grid, sites)
    assert layer.field.aligned and missed.any() and not missed.all((1, 2)).any()
    found = by_windows(model, layer, grid, image, filled, units, sites, "site")[:, 0]
    assert (found[missed] == 0).all()
    assert np.abs(found[~missed]).max() > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reading", READINGS)
def test_a_network_that_reads_one_patch(reading, engine):
    """2.T6: it sees 8x8 of 32x32 pixels: the map is zero outside of them dilated by p - 1."""

    class Patch(nn.Module):
        def __init__(self):
            super().__init__()
            mask = torch.zeros(1, 1, 32, 32)
            mask[..., 9:17, 14:22] = 1
            self.register_buffer("mask", mask)
            self.body = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))

        def forward(self, images):
            return self.body(images * self.mask)

    torch.manual_seed(0)
    model, patch = Patch().eval(), 4
    model, layer, grid, image, filled, units, _ = asked(model, "conv2", (3, 32, 32), patch, 1)
    found = engine(model, layer, grid, image, filled, units, [[13, 18]] * 4, reading)
    seen = np.zeros(grid.shape, bool)
    seen[9 - (patch - 1) : 17, 14 - (patch - 1) : 22] = True
    assert np.abs(found[..., ~seen]).max() <= (0 if engine is by_windows else 1e-6)
    assert (np.abs(found[..., seen]).max((0, 1)) > 1e-5).mean() > 0.5


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", ["conv1", "0", "3", "conv2", "7"])
@pytest.mark.parametrize("engine", ENGINES)
def test_both_ways_are_those_of_a_plain_loop(engine, name, reading):
    """After a rectifier, before it (overwritten in place), behind a pool, and dense."""
    what = asked(small(), name)
    expected = by_loop(*what, reading)
    np.testing.assert_allclose(engine(*what, reading), expected, atol=1e-5 * scale(*what[:2], what[3]))
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("patch", "stride"), [(14, 1), (14, 5), (4, 100), (1, 9), (6, 2), (13, 1)])
def test_occluders_of_any_size_and_step(patch, stride, engine):
    """As large as the image, a step that leads out of it, of even side."""
    what = asked(small(), patch=patch, stride=stride)
    for reading in ("site", "max"):
        np.testing.assert_allclose(engine(*what, reading), by_loop(*what, reading), atol=1e-5)


def test_an_occluder_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match=r"patch_size must be from 1 to 14 \(the image's side\), got 15"):
        asked(small(), patch=15)


@pytest.mark.parametrize("engine", ENGINES)
def test_signals_of_channels_and_grey_images(engine):
    what = asked(planted.grey().eval(), "conv1", (1, 14, 18))
    np.testing.assert_allclose(engine(*what, "site"), by_loop(*what, "site"), atol=1e-6)


# ---- pieces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["windows", "brute force"])
@pytest.mark.parametrize("name", ["conv2", "7"])
def test_batches_of_any_size_give_the_same(engine, name):
    what = asked(small(), name, stride=2)
    expected, tolerance = by_loop(*what, "site"), 1e-6 * scale(*what[:2], what[3])
    found = {}
    for batch in (1, 2, 5, 7, 1000):
        occlusion = Occlusion(*what[:2], (3, 14, 18), what[2], engine=engine)
        occlusion.batch = batch
        with occlusion:
            found[batch] = occlusion.discrepancies(*what[3:], "site")
        assert occlusion.batch == batch
        np.testing.assert_allclose(found[batch], expected, atol=1e-5)
        np.testing.assert_allclose(found[batch], found[1], atol=tolerance)


def test_little_memory_leads_to_smaller_pieces_with_the_same_result(monkeypatch):
    """Two draws, so a piece is never smaller than one occluder of both."""
    from cnnprobe.instruments.windows.engine import WindowEngine

    what, sizes, carry = asked(small(), stride=1), {}, WindowEngine._carry
    found, most = {}, {}
    for memory in (1, 200_000, 10**9):

        def counted(self, rows, columns, *rest, memory=memory):
            sizes.setdefault(memory, []).append(len(rows.members) * len(columns.members))
            return carry(self, rows, columns, *rest)

        monkeypatch.setattr(WindowEngine, "_carry", counted)
        found[memory] = by_windows(*what, "max", memory=memory)
        most[memory] = max(sizes[memory])
    assert most[1] == 1 < most[200_000] < most[10**9]
    tolerance = 1e-6 * scale(*what[:2], what[3])
    np.testing.assert_allclose(found[1], found[10**9], atol=tolerance)
    np.testing.assert_allclose(found[200_000], found[10**9], atol=tolerance)


# ---- precision -----------------------------------------------------------------------------------------------------


def test_bfloat16_is_near_and_says_how_near():
    what = asked(small(), "conv2", stride=2)
    found, occlusion = measured(*what, "site", precision="bfloat16")
    assert occlusion.engine == "windows"
    assert 0 < occlusion.error < TOLERANCE["bfloat16"]
    exact, difference = by_brute_force(*what, "site"), 0.03 * scale(*what[:2], what[3])
    assert 1e-6 < np.abs(found - exact).max() < difference
    missed = misses(what[1], what[2], what[6])
    assert (found[missed[:, None].repeat(2, 1)] == 0).all()


def test_the_error_is_measured_and_small():
    what = asked(small())
    assert 0 <= measured(*what, "site")[1].error < 1e-5
    assert np.isnan(measured(*what, "site", engine="brute force")[1].error)


# ---- the cost model ------------------------------------------------------------------------------------------------


def deep() -> nn.Sequential:
    """A network with a costly layer, whose single positions see little."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()).eval()


def test_few_sites_are_served_apart_and_many_together():
    model, size = deep(), (3, 96, 96)
    (layer,) = find(model, "conv2", size)
    occlusion = Occlusion(model, layer, size, Grid((96, 96), 5, 2))
    corners = torch.tensor([[2, 2], [90, 90]])
    apart = occlusion._plans(occlusion.windows, torch.arange(2), corners, "site")
    assert [some.tolist() for _, some in apart] == [[0], [1]]
    every = torch.cartesian_prod(torch.arange(0, 96, 2), torch.arange(0, 96, 2))
    together = occlusion._plans(occlusion.windows, torch.arange(len(every)) % 64, every, "site")
    assert [some.tolist() for _, some in together] == [list(range(len(every)))]
    for reading in ("max", "mean", "anywhere"):
        ((_, some),) = occlusion._plans(occlusion.windows, torch.arange(2), corners, reading)
        assert some.tolist() == [0, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 6, 12, 40, 200])
def test_every_unit_is_in_one_plan_the_cheaper_one_and_always_the_same(count):
    model, size = deep(), (3, 64, 64)
    (layer,) = find(model, "conv2", size)
    random = np.random.default_rng(count)
    units, sites = torch.arange(count) % 64, torch.from_numpy(random.integers(0, 64, (count, 2)))
    sites[count // 2] = sites[0]  # two units at one place
    choices = []
    for _ in range(2):
        occlusion = Occlusion(model, layer, size, Grid((64, 64), 5, 3))
        plans = occlusion._plans(occlusion.windows, units, sites, "site")
        assert sorted(n for _, some in plans for n in some.tolist()) == list(range(count))
        low, high = sites.amin(0).tolist(), sites.amax(0).tolist()
        together = occlusion.windows.plan(tuple((a, b + 1) for a, b in zip(low, high))).cost
        singles = [
            occlusion.windows.plan(tuple((at, at + 1) for at in site)).cost for site in set(map(tuple, sites.tolist()))
        ]
        assert sum(plan.cost for plan, _ in plans) == pytest.approx(min(together, sum(singles)))
        choices.append([some.tolist() for _, some in plans])
    assert choices[0] == choices[1]


def test_apart_or_together_gives_the_same(monkeypatch):
    what, found = asked(small(), stride=2), {}
    occlusion = Occlusion(*what[:2], (3, 14, 18), what[2])
    engine, sites = occlusion.windows, what[6].tolist()
    plans = {
        "apart": [(engine.plan(tuple((u, u + 1) for u in site)), torch.tensor([n])) for n, site in enumerate(sites)],
        "together": [(engine.plan(), torch.arange(len(sites)))],
    }
    for kind, chosen in plans.items():
        monkeypatch.setattr(occlusion, "_plans", lambda *_, chosen=chosen: chosen)
        with occlusion:
            found[kind] = occlusion.discrepancies(*what[3:], "site")
    np.testing.assert_allclose(found["apart"], found["together"], atol=1e-6 * scale(*what[:2], what[3]))
    np.testing.assert_allclose(found["apart"], by_loop(*what, "site"), atol=1e-5)


# ---- the network ---------------------------------------------------------------------------------------------------


def state(model):
    """Return all that a measurement could change."""
    tensors = {name: (id(tensor), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    flags = [
        (module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
    ]
    return tensors, flags, [(p.requires_grad, p.grad) for p in model.parameters()]


def same(one, other):
    return one[1:] == other[1:] and all(
        one[0][name][0] == other[0][name][0] and torch.equal(one[0][name][1], other[0][name][1]) for name in one[0]
    )


@pytest.mark.parametrize("engine", ["windows", "brute force"])
@pytest.mark.parametrize("failing", [False, True])
def test_the_network_is_untouched(engine, failing):
    from torch.nn.modules import module as torch_module

    model = small().train()
    before, image_hooks = state(model), dict(torch_module._global_forward_hooks)
    what = asked(model)
    image, filled = what[3].clone(), what[4].clone()
    occlusion = Occlusion(*what[:2], (3, 14, 18), what[2], engine=engine)
    with occlusion:
        assert not any(module.training for module in model.modules())
        if failing:
            with pytest.raises((RuntimeError, IndexError, UserError)):
                occlusion.discrepancies(what[3][:2], what[4][:, :2], *what[5:], "site")  # a channel is missing
        else:
            occlusion.discrepancies(*what[3:], "site")
    assert same(before, state(model))
    assert dict(torch_module._global_forward_hooks) == image_hooks
    assert torch.equal(image, what[3]) and torch.equal(filled, what[4])
    with pytest.raises(KeyboardInterrupt), occlusion:
        raise KeyboardInterrupt
    assert same(before, state(model))


def test_nothing_is_said_where_all_is_well(caplog):
    with caplog.at_level(logging.INFO):
        by_windows(*asked(small()), "site")
    assert not caplog.records
