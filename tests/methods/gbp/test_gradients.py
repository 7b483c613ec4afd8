"""Gradient maps against closed formulas, captum, and whole images."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.methods.gbp.gradients import Gradients, Recipe
from tests.support.networks import planted
from tests.support.occluding import textured

SIZE = (3, 16, 18)
RULES = ["guided", "deconvnet", "gradient", "input-x-gradient", "smoothgrad", "integrated"]


def small():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3),
        nn.ReLU(), nn.Flatten(), nn.Linear(5 * 6 * 7, 4),
    )  # fmt: skip
    return textured(model)


def asked(layer, count=7, seed=0):
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.random((count, *SIZE), np.float32))
    units = random.integers(0, layer.channels, count)
    positions = np.stack([random.integers(0, side, count) for side in layer.map_size] or [np.zeros(count, int)], 1)
    return images, np.arange(count), units, positions[:, : len(layer.map_size)]


def made(model, layer, pairs, whole=False, **recipe):
    found = find(model, layer, SIZE)[0]
    with Gradients(model, found, SIZE, Recipe(**recipe), whole=whole) as gradients:
        return gradients.maps(*pairs), gradients


def in_image(maps, values, side=SIZE):
    """Lay crops back into their images, by a loop."""
    laid = np.zeros((len(values), *side), np.float32)
    for n, (top, left) in enumerate(maps.corners):
        for y, x in np.ndindex(values.shape[2:]):
            if 0 <= top + y < side[1] and 0 <= left + x < side[2]:
                laid[n, :, top + y, left + x] = values[n, :, y, x]
            else:
                assert not values[n, :, y, x].any()
    return laid


@pytest.mark.parametrize("rule", RULES)
def test_crops_give_the_maps_of_whole_images(rule):
    model = small()
    pairs = asked(find(model, "conv2", SIZE)[0])
    options = {"rule": rule, "plain": True, "samples": 3, "steps": 4}
    (cut, one), (whole, other) = (made(model, "conv2", pairs, whole=flag, **options) for flag in (False, True))
    assert (one.engine, other.engine) == ("crops", "whole images")
    assert cut.values.shape[2:] == (8, 8) and whole.values.shape[1:] == SIZE
    scale = np.abs(whole.values).max()
    assert scale > 0
    assert np.abs(in_image(cut, cut.values) - whole.values).max() < 1e-5 * scale
    assert np.abs(cut.responses - whole.responses).max() < 1e-5 * np.abs(whole.responses).max()
    assert np.abs(in_image(cut, cut.plain) - whole.plain).max() < 1e-5 * np.abs(whole.plain).max()
    gradient, _ = made(model, "conv2", pairs, whole=True, rule="gradient")
    assert np.allclose(whole.plain, gradient.values, atol=1e-6)
    if rule == "integrated":
        assert np.allclose(cut.residual, whole.residual, atol=1e-4)


@pytest.mark.parametrize("layer", ["conv2", "logits"])
def test_results_do_not_depend_on_the_batch(layer):
    model = small()
    found = find(model, layer, SIZE)[0]
    pairs = asked(found)
    with Gradients(model, found, SIZE, Recipe("smoothgrad", samples=3)) as gradients:
        together = gradients.maps(*pairs).values
        gradients.carried.most = 2
        assert np.allclose(gradients.maps(*pairs).values, together, atol=1e-6 * np.abs(together).max())


def linear():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(SIZE), 4)).eval()


@pytest.mark.parametrize("rule", RULES)
def test_a_linear_network_gives_its_weights(rule):
    """3.T2: every rule gives w; integrated gradients w (x - 0) without residual."""
    model = linear()
    pairs = asked(find(model, "logits", SIZE)[0])
    maps, _ = made(model, "logits", pairs, rule=rule)
    weights = model[1].weight.detach().numpy()[pairs[2]].reshape(-1, *SIZE)
    expected = weights * pairs[0].numpy() if rule in ("integrated", "input-x-gradient") else weights
    assert np.abs(maps.values - expected).max() < 1e-6
    if rule == "integrated":
        rise = maps.responses - model[1].bias.detach().numpy()[pairs[2]]
        assert np.abs(maps.values.sum((1, 2, 3)) - rise).max() < 1e-5
        assert np.abs(maps.residual * rise).max() < 1e-5


def test_squared_smoothgrad_of_a_linear_network_gives_squared_weights():
    model = linear()
    pairs = asked(find(model, "logits", SIZE)[0])
    maps, _ = made(model, "logits", pairs, rule="smoothgrad", squares=True, samples=2)
    assert np.allclose(maps.values, model[1].weight.detach().numpy()[pairs[2]].reshape(-1, *SIZE) ** 2)


def test_smoothgrad_is_the_mean_gradient_of_noisy_copies():
    """Relu(w x) at x = 0 with noise of standard deviation level × range: half of the copies are on."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.ReLU()).eval()
    model[1].weight.data[:] = torch.tensor([1.0, -2, 0.5, 1])
    layer = find(model, "logits", (1, 2, 2))[0]
    image = torch.tensor([[[[0.3, 0.2], [0.1, 0.05]]]])  # w x = 0.0
    maps = []
    for samples in (400, 25):
        with Gradients(model, layer, (1, 2, 2), Recipe("smoothgrad", samples=samples, level=0.5)) as gradients:
            maps.append(gradients.maps(image, np.array([3]), np.array([0]), np.zeros((1, 0), int)).values[0])
    share = maps[0].ravel() / model[1].weight.detach().numpy().ravel()
    assert np.ptp(share) < 1e-6 and 0.4 < share[0] < 0.6
    assert not np.array_equal(maps[0], maps[1])


def test_integrated_gradients_are_complete():
    """3.T3: the residual is small with 64 steps, and smaller on average with more."""
    residuals = {16: [], 64: [], 256: []}
    for seed in range(6):
        torch.manual_seed(seed)
        hidden = nn.Linear(math.prod(SIZE), 60)
        model = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(60, 3)).eval()
        hidden.weight.data *= 6
        model[3].weight.data *= 6
        pairs = asked(find(model, "logits", SIZE)[0], seed=seed)
        for steps, found in residuals.items():
            maps, _ = made(model, "logits", pairs, rule="integrated", steps=steps)
            images = torch.cat([pairs[0], torch.zeros_like(pairs[0])])
            rise = torch.subtract(*model(images).detach()[:, :].split(len(pairs[0])))[range(7), pairs[2]].numpy()
            enough = np.abs(rise) > 1
            lacks = (rise - maps.values.sum((1, 2, 3))) / np.abs(rise)
            assert np.allclose(lacks[enough], maps.residual[enough], atol=1e-3)
            found += np.abs(maps.residual[enough]).tolist()
    assert len(residuals[64]) > 20
    assert max(residuals[64]) < 0.05
    assert np.mean(residuals[16]) > np.mean(residuals[64]) > np.mean(residuals[256])


def test_max_pooling_passes_to_the_largest_pixel_alone():
    """3.T5."""
    model = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 1, bias=False)).eval()
    model[2].weight.data[:] = torch.tensor([1.0, 2, 3, 4])
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = find(model, "logits", (1, 4, 4))[0]
    with Gradients(model, layer, (1, 4, 4), Recipe("gradient")) as gradients:
        found = gradients.maps(image, np.array([0]), np.array([0]), np.zeros((1, 0), int)).values[0, 0]
    for number, (top, left) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        window = image[0, 0, top : top + 2, left : left + 2].numpy()
        expected = np.where(window == window.max(), number + 1, 0)
        assert np.array_equal(found[top : top + 2, left : left + 2], expected)


@pytest.mark.parametrize("rule", RULES)
def test_outside_of_what_is_read_there_is_nothing(rule):
    """3.T7: a network that reads one patch of the image."""

    class Patch(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.conv(images[:, :, 4:10, 5:12]).relu().sum((2, 3))

    torch.manual_seed(0)
    model = Patch().eval()
    pairs = asked(find(model, "logits", SIZE)[0])
    maps, _ = made(model, "logits", pairs, rule=rule, samples=3, steps=4)
    inside = np.zeros(SIZE, bool)
    inside[:, 4:10, 5:12] = True
    assert not maps.values[:, ~inside].any()
    assert maps.values[:, inside].any()


@pytest.mark.parametrize("target", ["channel", "channel-abs", "group"])
def test_targets_are_their_formulas(target):
    model = small()
    layer = find(model, "4", SIZE)[0]  # before its rectifier: both signs
    images, indices, units, positions = asked(layer)
    groups = ({1: 1.0}, {0: 1.0, 3: -0.5})
    units = np.ones(len(units), int) if target == "group" else units
    maps, gradients = made(
        model, "4", (images, indices, units, positions), rule="gradient", target=target,
        groups=groups if target == "group" else (),
    )  # fmt: skip
    assert gradients.engine == "whole images"
    pixels = images.clone().requires_grad_()
    activation = model[:5](pixels)
    own = activation[torch.arange(len(images)), torch.as_tensor(units)]
    weighted = activation[:, 0].mean((1, 2)) - 0.5 * activation[:, 3].mean((1, 2))
    values = {"channel": own.mean((1, 2)), "channel-abs": own.abs().sum((1, 2)), "group": weighted}[target]
    expected = torch.autograd.grad(values.sum(), pixels)[0].numpy()
    assert np.allclose(maps.responses, values.detach().numpy(), atol=1e-6)
    assert np.allclose(maps.values, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("rule", ["guided", "deconvnet", "gradient"])
def test_captum_agrees_where_it_is_right(rule):
    """Registered rectifiers, none in place, each called once; as captum asks for."""
    from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop

    torch.manual_seed(0)
    model = textured(
        nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(),
            nn.Conv2d(6, 4, 3), nn.ReLU(),
        )
    )  # fmt: skip
    pairs = asked(find(model, "conv3", SIZE)[0])
    ours, _ = made(model, "conv3", pairs, rule=rule)
    peer = {"guided": NeuronGuidedBackprop, "deconvnet": NeuronDeconvolution, "gradient": NeuronGradient}[rule]
    laid = in_image(ours, ours.values)
    for n, (unit, (y, x)) in enumerate(zip(pairs[2], pairs[3])):
        pixels = pairs[0][n : n + 1].clone().requires_grad_()
        theirs = peer(model, model[6]).attribute(pixels, (int(unit), int(y), int(x))).detach().numpy()[0]
        assert np.abs(laid[n] - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), 1e-6)


@pytest.mark.parametrize("build", [planted.Functional, planted.Inline, planted.Block, planted.Twice])
def test_where_captum_is_wrong_finite_differences_decide(build):
    """Functional, in-place and reused rectifiers: the gradient is that of the response, double precision."""
    torch.manual_seed(0)
    model = build().eval().double()
    size = (3, 9, 9)
    layer = find(model, "conv2", size)[0]
    image = torch.rand(1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    position = np.array([[side // 2 for side in layer.map_size]])
    recipe = Recipe("gradient")
    with Gradients(model, layer, size, recipe, whole=True) as gradients:
        found = gradients.maps(image, np.array([0]), np.array([1]), position)
        step = 1e-6
        for channel, y, x in [(0, 4, 4), (2, 3, 5), (1, 5, 4)]:
            more, less = image.clone(), image.clone()
            more[0, channel, y, x] += step
            less[0, channel, y, x] -= step
            ends = [gradients._responses(one, np.array([1]), position).item() for one in (more, less)]
            assert math.isclose((ends[0] - ends[1]) / (2 * step), found.values[0, channel, y, x], abs_tol=1e-5)


def test_a_network_of_gelu_is_refused_before_any_work_and_extended_on_demand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 3)).eval()
    layer = find(model, "2", SIZE)[0]
    with pytest.raises(UserError, match=r"rule=guided is defined for rectifiers .*has GELU"):
        Gradients(model, layer, SIZE, Recipe("guided"))
    assert Gradients(model, layer, SIZE, Recipe("guided", extend=True)).rectifiers == {"GELU": 1}
    assert Gradients(model, layer, SIZE, Recipe("gradient")).rectifiers == {"GELU": 1}


def test_a_network_that_torch_cannot_differentiate_is_told():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Flatten()).eval()
    layer = find(model, "logits", SIZE)[0]
    pairs = asked(layer)
    with pytest.raises(UserError, match="writes in place into values that its own gradient needs"):
        made(model, "logits", pairs, rule="gradient")


def test_memory_that_does_not_suffice_is_halved(monkeypatch, caplog):
    """F54: the same maps, and the batch that fits is remembered."""
    model = small()
    layer = find(model, "conv2", SIZE)[0]
    pairs = asked(layer)
    expected, _ = made(model, "conv2", pairs)
    with Gradients(model, layer, SIZE, Recipe()) as gradients:
        whole = gradients._maps

        def short(images, *rest):
            if len(images) > 3:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return whole(images, *rest)

        monkeypatch.setattr(gradients, "_maps", short)
        found = gradients.maps(*pairs)
        assert gradients.carried.most == 3
    assert np.allclose(found.values, expected.values, atol=1e-6)
    assert "batch of gradients 7 does not fit in memory, going on with 3" in caplog.text
