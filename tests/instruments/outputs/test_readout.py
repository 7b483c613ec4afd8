"""The layer that gives the class outputs: found in every kind of network, drawn as PyTorch draws it, exchanged."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from cnnprobe.instruments.outputs import readout
from cnnprobe.instruments.outputs.readout import instead, new_readout, put, readout_of, right_by_class
from tests.support.networks import planted
from tests.support.networks.zoo import HEAVY, built

KNOWN = {
    "alexnet": ("classifier.6", nn.Linear),
    "squeezenet": ("classifier.1", nn.Conv2d),
    "vgg": ("classifier.6", nn.Linear),
    "resnet": ("fc", nn.Linear),
    "vit": ("heads.head", nn.Linear),
    "mousenet": ("readout", nn.Linear),
    "convnet": ("fc2", nn.Linear),
    "deep4net": ("readout", nn.Conv1d),
    "shallownet": ("readout", nn.Conv1d),
    "unet": ("readout", nn.Conv2d),
    "grasp": ("readout", nn.Linear),
}
NONE = ("capsnet",)
"""Networks whose outputs come from no linear layer or convolution."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in KNOWN]
)
def test_the_readout_of_every_network_of_the_package(name):
    model, size = built(name)
    found = readout_of(model, size)
    path, kind = KNOWN[name]
    assert (found.path, type(found.module), found.classes) == (path, kind, 7)
    put(model, path, new_readout(found.module, 3, seed=1))
    with torch.no_grad():
        assert model.eval()(torch.rand(2, *size)).shape[:2] == (2, 3)


def test_every_network_of_the_package_is_tried_here():
    assert set(KNOWN) == set(catalogue.choices("model")) - {"custom", "torchvision", *NONE}


@pytest.mark.parametrize("name", NONE)
def test_capsules_have_no_readout_to_replace(name):
    model, size = built(name)
    with pytest.raises(UserError, match="no readout to replace: the logits must come from one linear layer"):
        readout_of(model, size)


def test_it_is_drawn_as_pytorch_draws_its_own_from_the_seed_alone():
    torch.manual_seed(5)
    linear, convolution = nn.Linear(6, 3, bias=False), nn.Conv2d(4, 3, 1, stride=2, padding=1, padding_mode="circular")
    for seed in (0, 9):
        torch.manual_seed(seed)
        by_torch = nn.Linear(6, 11, bias=False)
        torch.manual_seed(123)
        made = new_readout(linear, 11, seed)
        assert torch.equal(made.weight, by_torch.weight)
        assert made.bias is None
        torch.manual_seed(seed)
        by_torch = nn.Conv2d(4, 2, 1, stride=2, padding=1, padding_mode="circular")
        made = new_readout(convolution.double(), 2, seed)
        assert torch.equal(made.weight, by_torch.weight.double())
        assert torch.equal(made.bias, by_torch.bias.double())
        images = torch.rand(2, 4, 6, 6, dtype=torch.float64)
        assert torch.equal(made(images), by_torch.double()(images))


def test_drawing_it_leaves_random_numbers_alone():
    own = nn.Linear(4, 2)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    new_readout(own, 5, seed=0)
    assert torch.equal(torch.rand(2), expected)


def test_another_stands_there_only_inside_also_after_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(12, 4)))
    own, other = model[1][0], nn.Linear(12, 2)
    with pytest.raises(RuntimeError), instead(model, "1.0", other):
        assert model(torch.rand(3, 3, 2, 2)).shape == (3, 2)
        raise RuntimeError
    assert model[1][0] is own


class Sum(nn.Module):
    """Two readouts, added."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, images):
        return self.one(images.flatten(1)) + self.other(images.flatten(1))


class Again(nn.Module):
    """One layer, used twice."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(12, 12)

    def forward(self, images):
        return self.dense(self.dense(images.flatten(1)).relu())


@pytest.mark.parametrize(
    ("model", "size", "told"),
    [
        (Sum(), (3, 2, 2), "must come from one linear layer or convolution of its own"),
        (Again(), (3, 2, 2), "dense, which is used 2 times in a pass"),
        (planted.Bare(), (3, 8, 8), "one linear layer or convolution of its own"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3)), (3, 2, 2), "of its own"),
        (nn.Sequential(nn.Conv2d(4, 4, 2, groups=2), nn.Flatten()), (4, 2, 2), "0 is a convolution in 2 groups"),
    ],
)
def test_a_network_without_one_is_told(model, size, told):
    with pytest.raises(UserError, match=told):
        readout_of(model, size)


def test_counts_by_class_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(50, 4)).astype(np.float32), rng.integers(-1, 4, 50)
    expected = np.zeros((4, 2), int)
    for row, label in zip(outputs, labels):
        if label >= 0:
            expected[label] += [1, int(row.argmax() == label)]
    found = right_by_class(torch.from_numpy(outputs), torch.from_numpy(labels), 4)
    assert found.tolist() == expected.tolist()


def test_outputs_that_are_not_finite_are_never_right():
    """F48: the largest of outputs with NaN would be the NaN."""
    outputs = torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [1.0, 0.0], [torch.nan, torch.nan]])
    assert right_by_class(outputs, torch.tensor([0, 0, 0, 1]), 2).tolist() == [[3, 1], [1, 0]]


class Exiting(nn.Module):
    """Answers by its first exit in eval mode, by its second while it learns."""

    def __init__(self, both=False):
        super().__init__()
        self.conv, self.one, self.two, self.both = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(4, 3), both

    def forward(self, x):
        features = torch.relu(self.conv(x)).mean((2, 3))
        return self.one(features) if self.both or not self.training else self.two(features)


def test_a_network_that_answers_by_another_layer_in_training_learns_no_new_readout():
    """F87."""
    size = (3, 8, 8)
    model = Exiting().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for frozen in (False, True):
        model.one.weight.requires_grad_(not frozen)
        with pytest.raises(UserError, match="come from one in eval mode, but not in training mode"):
            readout.must_answer_in_training(model, readout.readout_of(model, size), size)
        assert not model.training and model.one.weight.requires_grad == (not frozen) and model.one.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    whole = Exiting(both=True).eval()
    readout.must_answer_in_training(whole, readout.readout_of(whole, size), size)


def test_transfer_refuses_it(cnnprobe, pictures, tmp_path):
    """F87."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n" + inspect.getsource(Exiting) + "\ndef build():\n    return Exiting()\n"
    )
    words = ["model=custom", "model.file=net.py", "dataset=folder", f"dataset.root={pictures}", "model.input_size=32"]
    torch.save(Exiting().state_dict(), tmp_path / "net.pt")
    answer = cnnprobe("transfer", *words, "weights=net.pt", "epochs=1", "forgetting=none")
    assert answer.status == 2 and "would learn nothing" in answer.err
