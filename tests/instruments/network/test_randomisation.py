"""Randomised networks: which parameters, in which order, drawn how, and given back bit for bit."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from cnnprobe.instruments.gradients.backward_rules import Rules
from cnnprobe.instruments.gradients.nonlinearities import plan_of
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.randomisation import Block, blocks, cascading, independent
from cnnprobe.methods.gbp.likeness import likeness
from cnnprobe.models import mousenet
from tests.support.networks import planted

IMAGE = (3, 16, 16)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Return the modules that have another parameter or buffer than before."""
    now = model.state_dict()
    return {name.rpartition(".")[0] for name, tensor in before.items() if not same(now[name], tensor)}


def same(a, b):
    return torch.equal(a.view(torch.uint8) if a.dim() else a, b.view(torch.uint8) if b.dim() else b)


def residual():
    torch.manual_seed(0)
    return nn.Sequential(planted.Block(), planted.Block(inplace=False), nn.Flatten(), nn.Linear(768, 4)).eval()


@pytest.fixture(scope="module")
def mouse():
    torch.manual_seed(0)
    options = {"readout": "pool4", "mask": "per_channel", "mask_seed": 3, "input_size": None, "upsample_to": None}
    return mousenet.build(num_classes=4, variant="mousenet32", **options)


class Backwards(nn.Module):
    """Modules defined in another order than they run, one of them never; a convolution called as a function."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.idle = nn.Linear(4, 2)
        self.second = nn.Conv2d(4, 4, 3)
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.conv2d(images, self.first.weight, self.first.bias).relu()
        return self.last(self.second(maps).mean((2, 3)))


class Summed(nn.Module):
    """Two convolutions whose sum is normalised, then a normalisation in front of a convolution."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm, self.before = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.after = nn.Conv2d(4, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.left(images) + self.right(images)).relu()
        return self.after(self.before(maps.relu()))


def names(model, size=IMAGE, **more):
    return [(block.name, block.modules) for block in blocks(model, size, **more)]


def test_blocks_stand_in_the_order_of_the_pass_and_leave_out_what_is_not_used():
    assert [name for name, _ in names(Backwards())] == ["first", "second", "last"]
    assert [name for name, _ in names(planted.Functional())] == ["first", "second", "dense"]
    assert [name for name, _ in names(planted.Bare())] == ["kernels"]


class Standardised(nn.Module):
    """A kernel without a bias that the forward above its module standardises."""

    def __init__(self):
        super().__init__()
        self.stem, self.readout = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        weight = self.stem.weight - self.stem.weight.mean((1, 2, 3), keepdim=True)
        return self.readout(nn.functional.conv2d(images, weight).relu().mean((2, 3)))


@pytest.mark.parametrize("rests", [False, True])
def test_a_kernel_that_is_made_another_outside_of_its_module_is_a_block(rests):
    """F95: it belonged to none, and kept what it had learned."""
    model = Standardised().eval().requires_grad_(not rests)
    assert [block.modules for block in blocks(model, IMAGE)] == [("stem",), ("readout",)]


def test_a_convolution_and_its_normalisation_are_one_block():
    assert names(residual()) == [
        ("0.conv1", ("0.conv1", "0.bn1")),
        ("0.conv2", ("0.conv2", "0.bn2")),
        ("1.conv1", ("1.conv1", "1.bn1")),
        ("1.conv2", ("1.conv2", "1.bn2")),
        ("3", ("3",)),
    ]


def test_a_normalised_sum_is_one_block_and_a_normalisation_in_front_joins_what_follows():
    assert names(Summed()) == [("norm", ("left", "right", "norm")), ("after", ("before", "after"))]


def test_a_residual_stream_does_not_tie_its_convolutions_together():
    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)
            self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.stem(images)
            maps = maps + self.one(maps.relu())
            maps = maps + self.two(maps.relu())
            return self.last(self.norm(maps))

    expected = [(path, (path,)) for path in ("stem", "one", "two")]
    assert names(Stream()) == [*expected, ("last", ("norm", "last"))]


def test_areas_of_mousenet_are_blocks(mouse):
    found = dict(names(mouse, (3, 32, 32)))
    assert list(found)[:3] == ["conv.conv1", "conv.conv2", "conv.conv3"]
    assert found["conv.conv1"] == ("conv.conv1", "norm.LGNd")
    into = [f"conv.{edge['id']}" for edge in mouse.incoming["VISl4"]]
    assert sorted(found["norm.VISl4"]) == sorted([*into, "norm.VISl4"])
    assert sorted(path for paths in found.values() for path in paths) == sorted(
        path for path, module in mouse.named_modules() if module._parameters and list(module.parameters(recurse=False))
    )


def test_only_blocks_that_act_on_a_layer(mouse):
    (area,) = find(mouse, "VISp23", (3, 32, 32))
    assert [name for name, _ in names(mouse, (3, 32, 32), layer=area)] == ["conv.conv1", "conv.conv2", "conv.conv3"]
    net = residual()
    (layer,) = find(net, "0.bn2", IMAGE)
    assert [name for name, _ in names(net, layer=layer)] == ["0.conv1", "0.conv2"]


@pytest.mark.parametrize("way", [cascading, independent])
def test_exactly_the_named_blocks_are_random(way):
    net = residual()
    before, given = state(net), blocks(net, IMAGE)
    with way(net, given, 0) as stages:
        for place, name in enumerate(stages):
            assert name == given[-1 - place].name
            random = given[-1 - place :] if way is cascading else [given[-1 - place]]
            assert changed(net, before) == {path for block in random for path in block.modules}
    assert place == 4
    assert not changed(net, before)


@pytest.mark.parametrize("way", [cascading, independent])
@pytest.mark.parametrize("end", ["error", "half", "none", "all"])
def test_the_network_is_given_back_bit_for_bit(way, end):
    net = residual().train()
    net[0].conv1.weight.data[0, 0, 0, 0] = float("nan")
    net[3].weight.requires_grad_(False)
    identities = {name: (id(p), p.requires_grad) for name, p in net.named_parameters()}
    before = state(net)
    stages = iter(())

    def read():
        nonlocal stages
        with way(net, blocks(net, IMAGE), 0) as stages:
            for place, _ in enumerate(stages if end != "none" else ()):
                if place == 2 and end == "error":
                    raise KeyError("in the middle")
                if place == 2 and end == "half":
                    return

    if end == "error":
        with pytest.raises(KeyError, match="in the middle"):
            read()
    else:
        read()
    assert not changed(net, before)
    assert {name: (id(p), p.requires_grad) for name, p in net.named_parameters()} == identities
    assert all(module.training for module in net.modules())
    assert list(stages) == []  # later stages do not come back to life
    assert not changed(net, before)


def test_a_module_that_replaces_its_parameters_gets_its_own_back():
    class New(nn.Linear):
        def reset_parameters(self):
            self.weight = nn.Parameter(torch.randn(2, 3))
            self.extra = nn.Parameter(torch.zeros(1))

    net = nn.Sequential(New(3, 2))
    del net[0]._parameters["extra"]
    mine = net[0].weight
    with cascading(net, [Block("0", ("0",))], 0) as stages:
        next(stages)
        assert net[0].weight is not mine
    assert net[0].weight is mine
    assert list(net[0]._parameters) == ["weight", "bias"]


def drawn(way, seed, net=None):
    """Return the state of the whole network at each stage."""
    net = net or residual()
    with way(net, blocks(net, IMAGE), seed) as stages:
        return [state(net) for _ in stages]


def test_a_seed_gives_the_same_parameters_and_leaves_torchs_generator_alone():
    net = residual()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (drawn(cascading, seed, net) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(same(one[name], two[name]) for one, two in zip(first, again) for name in one)
    assert not same(first[0]["3.weight"], other[0]["3.weight"])


def test_a_block_has_the_same_random_parameters_in_both_ways():
    alone, together = drawn(independent, 1), drawn(cascading, 1)
    for stage, path in enumerate(["3", "1.conv2", "1.conv1", "0.conv2", "0.conv1"]):
        assert same(alone[stage][f"{path}.weight"], together[-1][f"{path}.weight"])


def test_modules_are_drawn_by_their_own_rule_with_their_running_statistics():
    """Uniform weights as PyTorch draws them, with He's variance 2 / fan in; BatchNorm starts at 0 and 1."""
    net = residual()
    final = drawn(cascading, 4, net)[-1]
    weights = torch.cat([final[f"{path}.weight"].ravel() for path in ("0.conv1", "0.conv2", "1.conv1", "1.conv2")])
    edge = (3 * 2 / 27) ** 0.5
    assert weights.square().mean().item() == pytest.approx(2 / 27, rel=1e-5)
    assert weights.abs().max() <= 1.2 * edge
    assert weights.abs().mean() == pytest.approx(edge / 2, rel=0.1)
    assert final["0.bn1.weight"].tolist() == final["0.bn1.running_var"].tolist() == [1, 1, 1]
    assert final["0.bn1.bias"].tolist() == final["0.bn1.running_mean"].tolist() == [0, 0, 0]


def test_parameters_without_a_rule_keep_mean_and_deviation():
    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(5 + 0.1 * torch.randn(3, 40, 40))

        def forward(self, images: Tensor) -> Tensor:
            return (images * self.gain).sum((2, 3))

    net = Gains()
    learned = net.gain.detach().clone()
    with cascading(net, blocks(net, (3, 40, 40)), 0) as stages:
        assert list(stages) == ["own parameters"]
        random = net.gain.detach().clone()
    assert torch.equal(net.gain, learned)
    assert random.mean() == pytest.approx(5, abs=0.01)
    assert random.std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(learned.ravel(), random.ravel())[0, 1]) < 0.06


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weights_that_are_computed_from_parameters_become_random(norm):
    torch.manual_seed(0)
    net = nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    image = torch.rand(1, *IMAGE)
    given, learned = blocks(net, IMAGE), net(image).detach()
    assert [block.name for block in given] == ["0", "2"]
    with independent(net, given, 0) as stages:
        results = [net(image).detach() for _ in stages]
    assert len(results) == 2
    assert all(not torch.allclose(result, learned, atol=1e-3) for result in results)
    assert torch.equal(net(image), learned)


def test_taps_that_a_mask_forbids_stay_zero(mouse):
    before, image = state(mouse), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        learned = mouse(image)
    with cascading(mouse, blocks(mouse, (3, 32, 32)), 0) as stages:
        for _ in stages:
            pass
        for name, edge in mouse.conv.items():
            assert not edge.weight[~edge.mask.bool()].any(), name
            assert (edge.weight[edge.mask.bool()] != 0).all(), name
        with torch.no_grad():
            assert not torch.allclose(mouse(image), learned)
    assert not changed(mouse, before)
    with torch.no_grad():
        assert torch.equal(mouse(image), learned)


def test_a_network_without_parameters_has_no_stage():
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    assert blocks(net, IMAGE) == []
    with cascading(net, [], 0) as stages:
        assert list(stages) == []


def test_tied_parameters_are_one_block_and_come_back_tied():
    tied = nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), nn.Conv2d(3, 3, 3, bias=False))
    tied[1].weight = tied[0].weight
    before = copy.deepcopy(tied.state_dict())
    with cascading(tied, blocks(tied, IMAGE), 0) as stages:
        assert list(stages) == ["0"]
        assert not torch.equal(tied[0].weight, before["0.weight"])
    assert torch.equal(tied[0].weight, before["0.weight"])
    assert tied[0].weight is tied[1].weight


# ---- what the sanity check finds -------------------------------------------------------------------------------------


def two_convolutions(seed):
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16 * 32 * 32, 10)).double().eval()


def smooth_images(seed, count=4):
    noise = torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    blurred = nn.functional.avg_pool2d(nn.functional.pad(noise, (4,) * 4, mode="circular"), 5, 1)
    blurred = nn.functional.avg_pool2d(blurred, 5, 1)
    return blurred / blurred.std()


def class_map(net, images, rule):
    images = images.clone().requires_grad_()
    size = tuple(images.shape[1:])
    rules = Rules(plan_of(net, find(net, "logits", size), size), rule)
    with rules.show(images):
        logit = net(images)[:, 3].sum()
    rules.watch()
    return torch.autograd.grad(logit, images)[0].numpy()


def test_guided_maps_hardly_change_when_the_classifier_is_random():
    """Random networks of two convolutions, smooth images: the gradient's map is another one, the guided one is not."""
    alike = []
    for seed in range(8):
        net, images = two_convolutions(seed), smooth_images(seed)
        learned = {rule: class_map(net, images, rule) for rule in ("gradient", "guided")}
        with cascading(net, blocks(net, (1, 32, 32)), seed) as stages:
            assert next(stages) == "5"
            alike.append([likeness(class_map(net, images, rule), learned[rule])[0].mean() for rule in learned])
    gradient, guided = np.mean(alike, 0)
    assert gradient < 0.2
    assert guided - gradient > 0.3
