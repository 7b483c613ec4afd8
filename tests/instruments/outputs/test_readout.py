"""The layer that gives the class outputs: found in every kind of network, drawn as PyTorch draws it, exchanged."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

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


def dressed(how):
    """Return a layer of four classes whose weights are made of others."""
    own = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "older weight_norm": nn.utils.weight_norm,
        "older spectral_norm": lambda layer: nn.utils.spectral_norm(layer, n_power_iterations=3, eps=1e-6),
        "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        "both": lambda layer: parametrizations.weight_norm(parametrizations.spectral_norm(layer), "bias", dim=None),
        "own": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Softplus()),
    }
    return own[how](nn.Linear(6, 4))


KINDS = ["weight_norm", "spectral_norm", "older weight_norm", "older spectral_norm", "pruned", "both", "own"]


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("how", KINDS)
def test_its_weights_are_made_as_those_of_the_old_one(how):
    """F28: weights under other names, which no command took afterwards."""
    torch.manual_seed(0)
    old = dressed(how).double()
    made = new_readout(old, 3, seed=5)
    shapes = {name: tuple(3 if side == 4 else side for side in value.shape) for name, value in old.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in made.state_dict().items()} == shapes
    assert {name: value.dtype for name, value in made.named_parameters()} == {
        name: torch.float64 for name, _ in old.named_parameters()
    }
    assert torch.equal(new_readout(old, 3, seed=5)(torch.ones(1, 6).double()), made(torch.ones(1, 6).double()))
    with torch.no_grad():
        torch.manual_seed(5)
        plain = nn.Linear(6, 3)
        rows = torch.linalg.svdvals(plain.weight)[0] if "spectral_norm" in how else torch.tensor(1.0)
        images = torch.rand(5, 6)
        for _ in range(60 if "spectral_norm" in how else 1):  # by the power method
            made(images.double())
        made.eval()
        if how in ("weight_norm", "older weight_norm", "pruned", "own", "spectral_norm", "older spectral_norm"):
            expected = images @ (plain.weight / rows).T + plain.bias
            if how == "own":
                expected = images @ nn.functional.softplus(plain.weight).T + plain.bias
            assert torch.allclose(made(images.double()).float(), expected, atol=1e-5)


def test_what_belongs_to_the_old_classes_is_left_out_and_told(caplog):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scales = nn.Parameter(torch.ones(4, 1))

        def forward(self, weight):
            return weight * self.scales

    old = parametrize.register_parametrization(nn.Linear(6, 4), "weight", Scaled())
    made = new_readout(old, 3, seed=0)
    assert set(made.state_dict()) == {"weight", "bias"}
    assert "the new readout goes without Scaled of weight (it keeps tensors for the classes" in caplog.text


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", ["spectral_norm", "weight_norm"])
def test_a_readout_whose_weights_are_made_of_others_learns(norm):
    """F87: the weights of the last pass have no gradient; it was taken for a layer that is not used in training."""
    model = nn.Sequential(nn.Flatten(), getattr(nn.utils, norm)(nn.Linear(12, 3))).eval()
    readout.must_answer_in_training(model, readout.readout_of(model, (3, 2, 2)), (3, 2, 2))


MADE = """
from torch import nn
from torch.nn.utils import parametrizations

def build(num_classes=2):
    head = {}(nn.Linear(8, num_classes))
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
"""


@pytest.mark.parametrize("norm", ["parametrizations.weight_norm", "nn.utils.spectral_norm"])
def test_what_a_transfer_learned_is_taken_by_the_network_again(cnnprobe, tmp_path, norm):
    """F28."""
    (tmp_path / "net.py").write_text(MADE.format(norm))
    words = ["model=custom", f"model.file={tmp_path}/net.py", "model.input_size=16", f"out={tmp_path}/out"]
    words += ["dataset=avatar", "precision=float32", "epochs=1", "batch_size=8", "augment=none", "dataset.count=16"]
    answer = cnnprobe("train", *words, "name=one")
    assert answer.status == 0, answer.err
    answer = cnnprobe("transfer", *words, "dataset.classes=landmark", "weights=train/one/v001", "name=two")
    assert answer.status == 0, answer.err
    words = [*words[:5], "dataset.classes=landmark", "weights=transfer/two/v001@last", "layer=logits", "limit=16"]
    answer = cnnprobe("record", *words, "batch_size=8")
    assert answer.status == 0, answer.err
