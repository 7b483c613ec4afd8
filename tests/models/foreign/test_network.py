"""A network that somebody else wrote: read layer by layer whatever it was compiled to, its logits found."""

import random
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cnnprobe
from cnnprobe.errors import UserError
from cnnprobe.models import custom
from cnnprobe.models.foreign import network as foreign
from cnnprobe.models.parts import inputs
from tests.support.calling import Told

HEAD = """
import torch
from torch import nn
from collections import namedtuple

def plain():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

"""
MADE = {  # how a file makes the network of `plain`
    "scripted": "def build(): return torch.jit.script(plain())",
    "traced": "def build(): return torch.jit.trace(plain(), torch.rand(1, 3, 8, 8))",
    "decorated": """
@torch.jit.script
def activated(x: torch.Tensor):
    return torch.relu(x)

@torch.compile(dynamic=True)
def mean(x):
    return x.mean((2, 3), keepdim=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for name, child in plain().named_children():
            self.add_module(name, child)
    def forward(self, x):
        layers = self._modules
        return layers["4"](layers["3"](mean(activated(layers["0"](x)))))

build = Net
""",
    "part scripted": "def build():\n    net = plain()\n    net[0] = torch.jit.script(net[0])\n    return net",
    "compiled": "def build(): return torch.compile(plain(), backend='eager')",
    "part compiled": "def build():\n    net = plain()\n    net[0] = torch.compile(net[0])\n    return net",
    "compiled in place": "def build():\n    net = plain()\n    net.compile(backend='eager')\n    net[0].compile()\n"
    "    return net",
    "parallel": "def build(): return nn.DataParallel(plain())",
    "part parallel": "def build():\n    net = plain()\n    net[0] = nn.DataParallel(net[0])\n    return net",
    "symbolic": "def build():\n    import torch.fx\n    return torch.fx.symbolic_trace(plain())",
}  # fmt: skip


def plain():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def built(tmp_path, text, mean=None, std=None, channels=3):
    (tmp_path / "net.py").write_text(HEAD + text)
    given = {"file": str(tmp_path / "net.py"), "function": "build", "input_size": 8, "channels": channels}
    return custom.build(num_classes=None, **given, mean=mean, std=std)


def top(model, images, layer):
    """Return the largest response of each unit, by topk."""
    rows = list(cnnprobe.measure("topk", model=model, dataset=images, layer=layer, k=1))
    return torch.tensor([float(row.response[0]) for row in rows if row.table.startswith("units/")])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", MADE)
def test_what_is_compiled_is_measured_as_written(tmp_path, kind):
    """F88: the numbers of the plain network, its names, and torch as it was."""
    script, compiler = torch.jit.script, torch.compile
    model = built(tmp_path, MADE[kind])
    assert (torch.jit.script, torch.compile, bool(torch.jit._state._enabled)) == (script, compiler, True)
    images = torch.rand(3, 3, 8, 8)
    assert list(model.state_dict()) == list(plain().state_dict())
    assert torch.equal(model(images), plain()(images))
    expected = plain()[0](images).relu().amax((0, 2, 3)).detach()
    assert torch.allclose(top(model, images, "conv1"), expected, atol=1e-6)


CLOSED = {
    "exported": "def build(): return torch.export.export(plain().eval(), (torch.rand(1, 3, 8, 8),)).module()",
    "program": "def build(): return torch.export.export(plain().eval(), (torch.rand(1, 3, 8, 8),))",
    "loaded": "def build(): return torch.jit.load('{}')",
    "part loaded": "def build(): return nn.Sequential(torch.jit.load('{}'), nn.ReLU())",
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", CLOSED)
def test_what_cannot_be_read_layer_by_layer_is_refused(tmp_path, kind):
    """F88."""
    torch.jit.save(torch.jit.script(plain()), tmp_path / "x.pt")
    told = r"^net\.py: build returned (a network whose 0 is )?(TorchScript|an exported program \(torch\.export\))"
    with pytest.raises(UserError, match=told + ", whose layers cannot be read; return the network that it was made"):
        built(tmp_path, CLOSED[kind].format(tmp_path / "x.pt"))
    with pytest.raises(UserError, match=r"^model\.file: x\.pt is not a Python file \(\.py\) that builds the network; "):
        custom.build(num_classes=None, file=str(tmp_path / "x.pt"), function="build", input_size=8, channels=3,
                     mean=None, std=None)  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_program_hands_over_the_same(tmp_path):
    """F88: and its network is not changed."""
    images = torch.rand(3, 3, 8, 8)
    expected = plain()[0](images).relu().amax((0, 2, 3)).detach()
    for model in (torch.compile(plain(), backend="eager"), nn.DataParallel(plain())):
        assert torch.allclose(top(model, images, "conv1"), expected, atol=1e-6)
    for model, told in (
        (torch.jit.script(plain()), "model is TorchScript"),
        (nn.Sequential(torch.jit.script(plain())), "model is a network whose 0 is TorchScript"),
        (nn.Sequential(nn.DataParallel(plain())), "model is a network with a compiled or parallel part, 0"),
        (nn.Sequential(nn.LazyConv2d(2, 3)), r"model has a lazy layer, 0\.weight; show it an image first"),
        (plain().half(), "model is a network whose 0.weight is of type float16; return the network"),
        ({"a": 1}, "model is a dict, a torch.nn.Module is needed"),
    ):
        with pytest.raises(UserError, match=told):
            top(model, images, "conv1")


Named = namedtuple("Named", ["features", "logits"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


class ModelOutput(OrderedDict):
    """As the outputs of transformers: a dict, read by attribute as well."""


class Returning(nn.Module):
    """Returns in its own way what `plain` returns."""

    def __init__(self, way, in_training_only=False):
        super().__init__()
        self.net, self.way, self.in_training_only = plain(), way, in_training_only

    def forward(self, x):
        maps = torch.relu(self.net[0](x))
        logits = self.net[4](maps.mean((2, 3)))
        return logits if self.in_training_only and not self.training else self.way(maps, logits)


CLASSIFIERS = {
    "named tuple": lambda maps, logits: Named(maps.mean((2, 3)), logits),
    "dataclass": lambda maps, logits: Output(logits),
    "dict": lambda maps, logits: {"features": maps.mean((2, 3)), "logits": logits},
    "model output": lambda maps, logits: ModelOutput(logits=logits, hidden=(maps,)),
    "tuple with none": lambda maps, logits: (logits, None),
    "tuple with a map": lambda maps, logits: (maps, logits),
    "list of one": lambda maps, logits: [logits],
    "dict of one": lambda maps, logits: {"out": logits},
}
OTHERS = {
    "two vectors": lambda maps, logits: (logits, maps.mean((2, 3))),
    "deep supervision": lambda maps, logits: [logits, logits * 2],
    "named by others": lambda maps, logits: {"low": maps, "y": logits},
}


@pytest.mark.parametrize("way", CLASSIFIERS)
def test_logits_are_found_in_what_is_returned(way):
    """F88."""
    images, net = torch.rand(4, 3, 8, 8), Returning(CLASSIFIERS[way]).train()
    rows = list(cnnprobe.measure("record", model=net, dataset=images, layer="conv1"))
    found = [int(row.prediction) for row in rows if row.table == "images"]
    assert found == plain()(images).argmax(1).tolist()
    assert type(net) is Returning and net.training and not isinstance(net(images), Tensor)
    assert "_cnnprobe_mean" not in net._buffers


@pytest.mark.parametrize("way", OTHERS)
def test_what_is_not_told_apart_is_no_classifier(way):
    """F88."""
    net, images = Returning(OTHERS[way]).eval(), torch.rand(4, 3, 8, 8)
    with pytest.raises(UserError, match="cam needs a classifier, a network that returns one tensor"):
        cnnprobe.measure("cam", model=net, dataset=images)
    expected = plain()[0](images).relu().amax((0, 2, 3)).detach()
    assert torch.allclose(top(net, images, "net.0"), plain()[0](images).amax((0, 2, 3)).detach(), atol=1e-6)
    assert torch.allclose(top(net, images, "conv1"), expected, atol=1e-6)


@pytest.mark.parametrize("way", [*CLASSIFIERS, "two vectors", "deep supervision"])
def test_in_training_too(way):
    """F88: what a network returns while it trains alone; of several vectors without a name the first, which is said."""
    net = foreign.adopt(Returning((CLASSIFIERS | OTHERS)[way], in_training_only=True))
    images = torch.rand(4, 3, 8, 8)
    with Told() as lines:
        for mode in (True, False, True):
            assert torch.allclose(net.train(mode)(images), plain()(images), atol=1e-6)
    taught = "the first" if way in OTHERS else "logits" if way in ("named tuple", "dict") else ""
    said = f"while it trains: {taught} is taught, the others not"
    assert len(lines) == bool(taught) and all(said in line for line in lines)


def test_images_are_normalised_without_a_trace(tmp_path):
    """F88: by channel or for all, whatever the network calls its own; signals too."""
    images = torch.rand(2, 3, 8, 8)
    mean, std = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    scaled = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    text = "def build():\n    net = plain()\n    net.channel_mean, net.mean = 7, 'a'\n    return net"
    model = built(tmp_path, text, mean, std)
    assert torch.allclose(model(images), plain()(scaled)) and list(model.state_dict()) == list(plain().state_dict())
    assert torch.allclose(built(tmp_path, "build = plain", mean=0.5)(images), plain()(images - 0.5))
    assert torch.allclose(built(tmp_path, "build = plain", std=[0.5])(images), plain()(images / 0.5))
    by_hand = "def build():\n    net = plain()\n    f = net.forward\n    net.forward = lambda x: -f(x)\n    return net"
    assert torch.allclose(built(tmp_path, by_hand, mean, std)(images), -plain()(scaled))
    line = built(tmp_path, "def build(): return nn.Conv1d(2, 1, 3)", mean=[30.0, 1.0], std=5.0, channels=2)
    signal = torch.rand(1, 2, 9)
    inner = F.conv1d((signal - torch.tensor([[30.0], [1.0]])) / 5, line.weight, line.bias)
    assert torch.allclose(line(signal), inner, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std", "told"),
    [
        ([0.5, 0.5], None, r"^model\.mean has 2 values for images of 3 channels$"),
        (None, [0.2, 0.0, 0.2], r"^model\.std must be above 0, got 0$"),
    ],
)
def test_a_normalisation_that_is_none_is_refused(tmp_path, mean, std, told):
    with pytest.raises(UserError, match=told):
        built(tmp_path, "build = plain", mean, std)


def test_lazy_layers_get_their_shapes():
    """F88."""
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2)).eval()
    foreign.materialise(net, (3, 8, 8), "mine")
    assert net[3].weight.shape == (2, 4 * 6 * 6) and not net[1].running_mean.any()
    net = nn.ModuleDict({"used": nn.LazyLinear(2), "aux": nn.LazyLinear(2)})
    net.forward = lambda x: net["used"](x.flatten(1))
    with pytest.raises(UserError, match=r"^mine: the lazy layer of aux\.weight gets no shape from an image"):
        foreign.materialise(net.eval(), (3, 8, 8), "mine")
    with pytest.raises(UserError, match=r"^mine has lazy layers and takes no image of 3x8x8: "):
        foreign.materialise(nn.Sequential(nn.LazyConv2d(2, 9)), (3, 8, 8), "mine")
    with pytest.raises(
        UserError, match=r"images of model\.channels=1 come from dataset=arrays or dataset=manufactured$"
    ):
        foreign.materialise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.LazyConv2d(2, 3)), (3, 8, 8), "mine", 1)


class Always(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, x):
        return F.dropout(self.net(x), 0.5)


CHANCE = {
    "dropout": (Always, "answers the same image differently each time"),
    "noise": (lambda: nn.Sequential(plain(), nn.RReLU().train()).requires_grad_(False), None),
    "batch": (lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), plain()), "0 has no running statist"),
    "instance": (lambda: nn.Sequential(nn.InstanceNorm2d(3), plain()), None),
}


@pytest.mark.parametrize("kind", CHANCE)
def test_answers_by_chance_or_by_the_batch_are_refused(kind):
    """F88: a training and `layers` are warned."""
    make, told = CHANCE[kind]
    model, state = make().eval(), torch.get_rng_state()
    if told is None:
        foreign.check(model, (3, 8, 8), "topk")
        return
    with pytest.raises(UserError, match=told):
        foreign.check(model, (3, 8, 8), "topk")
    with Told() as lines:
        foreign.check(model, (3, 8, 8), "train")
        foreign.check(model, (3, 8, 8), "layers")
    assert len(lines) == 2 and told in lines[0]
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match=told):
        top(model, torch.rand(2, 3, 8, 8), "conv1")


class Kept(nn.Module):
    """What it was shown first stays: as an attribute, as a buffer, or in a parameter (initialised by data)."""

    def __init__(self, where):
        super().__init__()
        self.net, self.where, self.first = plain(), where, None
        self.register_buffer("ready", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(1, 3, 8, 8))
        self.shift = nn.Parameter(torch.zeros(1, 3, 8, 8))

    def forward(self, x):
        if self.where == "attribute":
            self.first = x.clone() if self.first is None else self.first
            return self.net(x - self.first[:1] / 2)
        kept = self.mean if self.where == "buffer" else self.shift
        if not self.ready:
            kept.data.copy_(x.detach().mean(0, keepdim=True))
            self.ready.fill_(1)
        return self.net(x - kept / 2)


@pytest.mark.parametrize("where", ["attribute", "buffer", "parameter"])
def test_what_is_kept_of_the_first_image_is_refused(where):
    """F88: an image shown twice running is answered alike all the same. What is no parameter is as it was."""
    model = Kept(where).eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(UserError, match="a state that it changes"):
        top(model, torch.rand(2, 3, 8, 8), "conv1")
    assert model.first is None
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


class Drawing(nn.Module):
    """Draws whether it leaves out its shift, and hardly ever does."""

    def __init__(self, draw):
        super().__init__()
        self.net, self.draw = plain(), draw

    def forward(self, x):
        return self.net(x if self.draw() < 1e-9 else x + 1)


DRAWS = {"torch": lambda: torch.rand(()), "numpy": np.random.random, "python": random.random}


@pytest.mark.parametrize("draw", DRAWS)
def test_a_network_that_draws_and_answers_alike_is_warned_of(draw):
    """F88: what is rare is seen by the numbers that are drawn, not by the answers; those of the caller stay."""
    before = np.random.get_state()[2], random.getstate()
    model = Drawing(DRAWS[draw]).eval()
    with Told() as lines:
        foreign.check(model, (3, 8, 8), "topk")
        foreign.check(plain().eval(), (3, 8, 8), "topk")
    assert lines == [lines[0]] and "draws random numbers in eval mode" in lines[0]
    assert (np.random.get_state()[2], random.getstate()) == before


@pytest.mark.parametrize("where", ["attribute", "buffer"])
def test_what_is_tried_with_a_black_image_does_not_count_as_the_first(where):
    """F88: a network that is set up by its first image is set up by one of the user's, or refused."""
    model = Kept(where).eval()
    inputs.check_fits(model, "custom", (3, 8, 8))
    assert model.first is None and not model.ready
    with pytest.raises(UserError, match="a state that it changes"):
        foreign.check(model, (3, 8, 8), "topk")
