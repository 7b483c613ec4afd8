"""What learns in each mode, and how fast; and that what rests stays bit for bit, BatchNorm included."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.outputs.readout import readout_of
from cnnprobe.methods.train.loop import Training
from cnnprobe.methods.train.modes import Modes
from cnnprobe.methods.transfer.protocols import Protocol, blocks_of
from cnnprobe.store.tables import Checkpoint
from tests.support.images.blobs import COMPUTATION, Blobs, recipe
from tests.support.networks.zoo import HEAVY, built

SIZE = (3, 8, 8)


def network():
    """Two convolutions with BatchNorm (one without parameters of its own), a dense layer, a readout."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.MaxPool2d(4)),
        *(nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 3)),
    ).eval()


def protocol(model=None, **options):
    model = model or network()
    return Protocol(model, readout_of(model, SIZE), SIZE, **{"mode": "full"} | options)


def test_blocks_of_a_plain_network():
    model = network()
    blocks = blocks_of(model, readout_of(model, SIZE), SIZE)
    assert [block.modules for block in blocks] == [("0", "1"), ("3",), ("8",), ("10",)]
    assert [block.size for block in blocks] == [6 * 27 + 6 + 12, 8 * 54 + 8, 330, 33]
    assert [block.batch_norms for block in blocks] == [1, 0, 0, 0]


ZOO = {
    "squeezenet": (10, ("features.0",), ("features.12",)),
    "mousenet": (23, ("conv.conv1", "norm.LGNd"), ("conv.conv44", "norm.VISpor5")),
    "deep4net": (6, ("block1.0",), ("block4.1", "block4.2")),
    "convnet": (6, ("conv1",), ("fc1",)),
    "alexnet": (8, ("features.0",), ("classifier.4",)),
    "vgg": (16, ("features.0",), ("classifier.3",)),
    "resnet": (10, ("conv1", "bn1"), ("layer4.1",)),
    "vit": (14, ("conv_proj",), ("encoder.layers.encoder_layer_11", "encoder.ln")),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in ZOO])
def test_blocks_of_networks_of_the_package(name):
    """Counted by hand: layers, Fire modules, residual blocks, areas; every weight in one block, and in one only."""
    model, size = built(name)
    blocks = blocks_of(model, readout_of(model, size), size)
    assert (len(blocks), blocks[0].modules, blocks[-2].modules) == ZOO[name]
    placed = [id(parameter) for block in blocks for parameter in block.parameters]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())


def test_all_edges_into_an_area_of_mousenet_are_one_block():
    model, size = built("mousenet")
    blocks = blocks_of(model, readout_of(model, size), size)
    for block in blocks[:-1]:
        area = next(path.removeprefix("norm.") for path in block.modules if path.startswith("norm."))
        (name,) = [name for name in model.incoming if name.replace("/", "") == area]
        assert {f"conv.{edge['id']}" for edge in model.incoming[name]} == set(block.modules) - {f"norm.{area}"}


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"mode": "probe"}, [[0, 0, 0, 1]]),
        ({"mode": "partial"}, [[0, 0, 0.1, 1]]),
        ({"mode": "partial", "blocks": 3}, [[0.1, 0.1, 0.1, 1]]),
        ({"mode": "partial", "blocks": 0}, [[0, 0, 0, 1]]),
        ({"mode": "full"}, [[0.1, 0.1, 0.1, 1]]),
        ({"mode": "full", "rates": [1, 0.5, 0.2]}, [[0.2, 0.2, 0.5, 1]]),
        ({"mode": "scratch"}, [[1, 1, 1, 1]]),
        ({"mode": "staged", "stage_epochs": 2}, [[0, 0, 0, 1], [0.1, 0.1, 0.1, 1]]),
        ({"mode": "staged", "stage_epochs": 2, "blocks": 1}, [[0, 0, 0.1, 1], [0.1, 0.1, 0.1, 1]]),
    ],
)
def test_shares_of_the_learning_rate_are_those_of_the_table(options, shares):
    made = protocol(**options)
    assert made.shares.T.tolist() == shares
    model = made.model
    learning = np.array(shares).any(0)
    assert made.trained() == pytest.approx(np.array([180, 440, 330, 33])[learning].sum() / 983)
    for stage, (epoch, expected) in enumerate(zip((0, 2), shares)):
        groups = made.groups
        made.begin(epoch, groups)
        assert made.stage(epoch) == stage
        for block, share in zip(made.blocks, expected):
            assert {p.requires_grad for p in block.parameters} == {share > 0}
        assert [group["factor"] for group in groups] == [s for s, ever in zip(expected, learning) if ever]
    assert sum(p.requires_grad for p in model.parameters()) == sum(
        len(block.parameters) for block, share in zip(made.blocks, shares[-1]) if share
    )


@pytest.mark.parametrize("mode", ["probe", "full", "scratch"])
def test_blocks_of_a_mode_that_has_none_to_choose(mode):
    with pytest.raises(UserError, match=f"blocks=2 is for mode=partial and staged, not for {mode}"):
        protocol(mode=mode, blocks=2)


@pytest.mark.parametrize(
    ("options", "rates"),
    [({"mode": "full"}, [0]), ({"mode": "probe"}, [0, 1]), ({"mode": "staged", "stage_epochs": 1}, [0.0, 0])],
)
def test_rates_by_which_nothing_learns_in_a_stage_are_told(options, rates):
    """F03: they ended in a traceback."""
    with pytest.raises(UserError, match=rf"rates=.*: in mode={options['mode']} nothing would learn"):
        protocol(**options, rates=rates)


def test_more_blocks_than_there_are():
    with pytest.raises(UserError, match="blocks must be at most 3 below the readout 10, got 4"):
        protocol(mode="partial", blocks=4)


def test_a_weight_that_two_blocks_share_learns_once():
    model = network()
    model[8], model[10] = nn.Linear(32, 32), nn.Linear(32, 32)
    model[10].weight = model[8].weight
    made = protocol(model)
    assert sum(len(group["params"]) for group in made.groups) == len(list(model.parameters()))
    assert made.trained() == 1


def taught(mode, epochs=2, state=None, model=None, **options):
    """Teach a network in a mode; return it, what it was before, and the checkpoints."""
    model = model or network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = protocol(model, mode=mode, **options)
    where = {"groups": made.groups, "begin": made.begin, "state": state}
    rule = recipe(epochs=epochs, checkpoints="all", schedule="constant")
    stream = list(Training(model, Blobs(48, 0), Blobs(20, 1), rule, COMPUTATION, **where).events())
    return model, before, {event.name: event for event in stream if isinstance(event, Checkpoint)}


def activations(model, upto, images):
    with torch.no_grad():
        return model.eval()[:upto](images)


class Borrowing(nn.Conv2d):
    """A block that uses a kernel of another module beside its own."""

    def forward(self, images):
        return F.conv2d(super().forward(images), self.lender[0].weight[:, :, None, None])


class Lending(nn.Module):
    """Kernels are used where their modules are not called: one as it is, one made another, one inside of a block."""

    def __init__(self):
        super().__init__()
        self.stem, self.mixed = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.block, self.turned, self.idle = Borrowing(4, 4, 1), nn.Linear(4, 4, bias=False), nn.Linear(2, 2)
        self.out, self.block.lender = nn.Linear(4, 3), [self.turned]

    def forward(self, images):
        weight = self.stem.weight - self.stem.weight.mean((1, 2, 3), keepdim=True)
        maps = F.conv2d(images, weight, self.stem.bias).relu()
        maps = F.conv2d(maps, self.mixed.weight).relu()
        return self.out(self.block(maps).relu().mean((2, 3)))


@pytest.mark.parametrize("rests", [False, True])
def test_parameters_that_are_used_outside_of_their_module_learn(rests):
    """F95: they belonged to no block, and `full` left them as they were."""
    torch.manual_seed(0)
    model = Lending().eval().requires_grad_(not rests)
    made = protocol(model)
    assert [block.modules for block in made.blocks] == [("stem",), ("mixed",), ("block", "turned"), ("out",)]
    assert made.unused == ["idle"]
    assert all(parameter.requires_grad is not rests for parameter in model.parameters())
    made.begin(0, made.groups)
    model(torch.rand(2, *SIZE)).square().sum().backward()
    learn = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learn == {"stem.weight", "stem.bias", "mixed.weight", "block.weight", "block.bias", "turned.weight",
                     "out.weight", "out.bias"}  # fmt: skip


def test_a_probe_leaves_every_layer_below_as_it_was():
    """7.T4: bit for bit, weights, statistics and activations; the readout has learned."""
    images = torch.rand(5, *SIZE)
    fresh = network()
    model, before, _ = taught("probe")
    for upto in range(1, 11):
        assert torch.equal(activations(model, upto, images), activations(fresh, upto, images))
    after = model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"10.weight", "10.bias"}


def test_with_batch_norm_left_learning_the_same_inputs_drift(monkeypatch):
    """7.T4, the other way round: what the test above would see of a loop that puts the whole network in train mode."""
    monkeypatch.setattr(Modes, "learn", lambda modes: modes.model.train())
    images = torch.rand(5, *SIZE)
    model, before, _ = taught("probe")
    assert torch.equal(model[0].weight, before["0.weight"])  # no weight below has moved
    drift = (activations(model, 10, images) - activations(network(), 10, images)).abs().max()
    assert drift > 0.01


class Level(nn.Module):
    """Takes the mean of all that it was shown in train mode away: statistics of a module of one's own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, maps):
        if self.training:
            self.mean.lerp_(maps.detach().mean(), 0.5)
        return maps - self.mean


class Keeping(nn.Module):
    """Running statistics of every kind, without parameters, and registered behind the readout; one of the whole."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(8, 3)
        self.batch1, self.instance1 = nn.BatchNorm2d(6, affine=False), nn.InstanceNorm2d(6, track_running_stats=True)
        self.instance2, self.level2 = nn.InstanceNorm2d(8, track_running_stats=True), Level()
        self.images = nn.BatchNorm2d(3, affine=False)
        self.register_buffer("mean", torch.zeros(()))

    def body(self, images):
        maps = self.instance1(self.batch1(self.conv1(self.images(images)))).relu()
        maps = self.level2(self.instance2(self.conv2(maps)).relu())
        if self.training:
            self.mean.lerp_(maps.detach().mean(), 0.5)
        return (maps - self.mean).amax((2, 3))

    def forward(self, images):
        return self.out(self.body(images))


FIRST, SECOND, OF_ALL = {"batch1", "instance1"}, {"instance2", "level2"}, {"images", ""}


@pytest.mark.parametrize(
    ("options", "learned"),
    [
        ({"mode": "probe"}, set()),
        ({"mode": "full", "rates": [1, 0]}, set()),
        ({"mode": "partial"}, SECOND),
        ({"mode": "full", "rates": [1, 0.1, 0]}, SECOND),
        ({"mode": "full"}, FIRST | SECOND | OF_ALL),
        ({"mode": "scratch"}, FIRST | SECOND | OF_ALL),
    ],
)
def test_running_statistics_rest_with_the_layers_that_they_are_of(options, learned):
    """F59: they went by the order of registration, and those of no BatchNorm changed in layers that rest."""
    images, body = torch.rand(5, *SIZE), Keeping().eval().body
    model, before, _ = taught(model=Keeping().eval(), **options)
    buffers = dict(model.named_buffers())
    changed = {name.rpartition(".")[0] for name, value in buffers.items() if not torch.equal(value, before[name])}
    assert changed == learned
    with torch.no_grad():
        assert torch.equal(model.eval().body(images), body(images)) == (not learned)


def test_running_statistics_rest_in_the_first_stage_and_learn_in_the_second():
    """F59; InstanceNorm counts no batches."""
    _, before, kept = taught("staged", epochs=4, stage_epochs=2, model=Keeping().eval())
    first, second = kept["epoch=002"].weights, kept["epoch=003"].weights
    assert {name for name in before if not torch.equal(first[name], before[name])} == {"out.weight", "out.bias"}
    rested = {name for name in before if torch.equal(second[name], first[name])}
    assert rested == {"instance1.num_batches_tracked", "instance2.num_batches_tracked"}


def test_partial_learns_the_last_blocks_and_nothing_below():
    model, before, _ = taught("partial", blocks=2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    learned = {"3.weight", "3.bias", "8.weight", "8.bias", "10.weight", "10.bias"}
    statistics = {"4.running_mean", "4.running_var", "4.num_batches_tracked"}  # behind a convolution that learns
    assert changed == learned | statistics


@pytest.mark.parametrize("mode", ["full", "scratch"])
def test_full_and_scratch_learn_everything(mode):
    model, before, _ = taught(mode)
    assert not [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]


def test_staged_learns_the_readout_alone_and_then_everything():
    _, before, kept = taught("staged", epochs=4, stage_epochs=2)
    first, second = kept["epoch=002"].weights, kept["epoch=003"].weights
    assert {n for n in before if not torch.equal(first[n], before[n])} == {"10.weight", "10.bias"}
    assert not [name for name in before if torch.equal(second[name], first[name])]


def test_a_block_learns_at_its_share_of_the_rate():
    """Plain descent, one update: a step is rate times gradient, and the gradient is the same at any rate."""

    def steps(rates):
        model = network()
        made = protocol(model, rates=rates)
        rule = recipe(epochs=1, momentum=0.0, weight_decay=0.0, schedule="constant", augment="none")
        before = {name: value.clone() for name, value in model.named_parameters()}
        where = {"groups": made.groups, "begin": made.begin}
        list(Training(model, Blobs(48, 0), Blobs(20, 1), rule, replace(COMPUTATION, batch_size=48), **where).events())
        return {name: (value - before[name]).detach() for name, value in model.named_parameters()}

    one, other = steps([1.0]), steps([1.0, 0.5, 0.25])
    for name, share in (("10.weight", 1.0), ("8.weight", 0.5), ("3.weight", 0.25), ("0.weight", 0.25)):
        assert torch.allclose(other[name], share * one[name], rtol=1e-3, atol=1e-7), name
