"""Weights are found under every prefix and beside anything, and never taken where they belong to another network."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.models.weights import matching
from cnnprobe.preparation import likeness, weights
from tests.support.calling import Told


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
                    head=nn.Linear(4, 2))
    ).eval()  # fmt: skip


class Normalise(nn.Module):
    def __init__(self, buffers):
        super().__init__()
        if buffers:
            self.register_buffer("mean", torch.full((3, 1, 1), 0.25))
            self.register_buffer("std", torch.full((3, 1, 1), 0.5))

    def forward(self, x):
        return (x - 0.25) / 0.5


class Wrapper(nn.Module):
    def __init__(self, inner, name="module"):
        super().__init__()
        self.inner = name
        setattr(self, name, inner)

    def forward(self, x):
        return getattr(self, self.inner)(x)


STATE = network(1).state_dict()
EMA = network(2).state_dict()


def under(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


def adam():
    return {"state": {0: {"exp_avg": torch.ones(4), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}


FILES = {  # the file; what has to be told as not used, "" for nothing
    "as it is": (dict(STATE), ""),
    "parallel": (under("module."), ""),
    "compiled": (under("_orig_mod."), ""),
    "compiled and parallel": (under("module._orig_mod."), ""),
    "behind a normalisation": (under("1."), ""),
    "anything": (under("a.b.c."), ""),
    "lightning": ({"state_dict": under("model.") | {"loss.a": torch.ones(2)}, "epoch": 3}, "state_dict.loss.a"),
    "one part parallel": ({name.replace("stem.", "stem.module."): value for name, value in STATE.items()}, ""),
    "one part compiled": ({name.replace("head.", "head._orig_mod."): value for name, value in STATE.items()}, ""),
    "sharded": ({name.replace("stem.", "_fsdp_wrapped_module.stem."): value for name, value in STATE.items()}, ""),
    "averaged": ({"n_averaged": torch.tensor(5), **under("module.")}, "n_averaged"),
    "with optimiser": ({"net": dict(STATE), "optimizer": adam(), "best": 0.5}, "optimizer (2)"),
    "two sets of equal values": ({"params": dict(STATE), "params_ema": under("")}, "params_ema (9)"),
    "without counters": ({name: value for name, value in STATE.items() if "num_batches" not in name}, ""),
    "half precision": ({key: value.half() if value.is_floating_point() else value for key, value in STATE.items()}, ""),
}  # fmt: skip
NETWORKS = {
    "plain": network,
    "wrapped": lambda: Wrapper(network()),
    "in a backbone": lambda: Wrapper(network(), "backbone"),
    "normalised": lambda: nn.Sequential(Normalise(False), network()),
    "with buffers": lambda: nn.Sequential(Normalise(True), network()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(network()),
}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Compare with no network of the package: building them takes seconds."""
    monkeypatch.setattr(likeness, "nearest", lambda *_: None)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("file", FILES)
def test_any_prefix_here_and_there(tmp_path, file, kind):
    """F88: the network answers as the one that was saved, and what was not used is told."""
    content, unused = FILES[file]
    torch.save(content, tmp_path / "x.pt")
    model = NETWORKS[kind]().eval()
    with Told() as lines:
        weights.fit(model, weights.read(tmp_path / "x.pt"), "x.pt", "mine")
    images = torch.rand(2, 3, 5, 5)
    expected = network(1)(Normalise(False)(images) if kind in ("normalised", "with buffers") else images)
    assert torch.allclose(model(images), expected, atol=1e-3 if file == "half precision" else 1e-6)
    told = [line for line in lines if "not used" in line]
    if not (file == kind == "averaged"):  # has the counter itself
        assert told == ([f"x.pt: not used: {unused}"] if unused else [])
    built = {"with buffers": ["0.mean, 0.std"], "averaged": ["n_averaged"]}.get(kind, [])
    if not (file == kind == "averaged"):
        assert [line.split(" has no ")[1].split(";")[0] for line in lines if "left as built" in line] == built


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_a_network_saves_it_loads(tmp_path, kind):
    """F88: names, checksum and values."""
    one, other = NETWORKS[kind](), NETWORKS[kind]()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.normal_()
    weights.save(tmp_path / "x.safetensors", one.state_dict(), {})
    with Told() as lines:
        weights.fit(other, weights.read(tmp_path / "x.safetensors"), "x", "mine")
    assert weights.sha256(one.state_dict()) == weights.sha256(other.state_dict()) and lines == []


def test_of_two_sets_that_differ_one_is_named():
    """F88."""
    state = under("state_dict.") | under("state_dict_ema.module.", EMA)
    model = network()
    told = r"^x\.pt holds 2 sets of weights that fit mine, under state_dict, state_dict_ema\.module; "
    with pytest.raises(UserError, match=told + r"say weights=FILE@state_dict or weights=FILE@state_dict_ema\.module$"):
        weights.fit(model, state, "x.pt", "mine")
    for part, expected in (("state_dict", STATE), ("state_dict_ema", EMA), ("state_dict_ema.module", EMA)):
        weights.fit(model, state, "x.pt", "mine", part)
        assert torch.equal(model.head.weight, expected["head.weight"])
    with pytest.raises(
        UserError, match=r"^x\.pt: no weights of mine under 'model'; there are some under: state_dict, "
    ):
        weights.fit(model, state, "x.pt", "mine", "model")
    flat = dict(STATE) | under("ema.", EMA)
    with pytest.raises(UserError, match=r"under \., ema; say"):
        weights.fit(model, flat, "x.pt", "mine")
    weights.fit(model, flat, "x.pt", "mine", ".")
    assert torch.equal(model.head.weight, STATE["head.weight"])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"stem.2.weight": torch.ones(2)}, r"1 unknown \(first .*stem\.2\.weight\)"),
        ({"norm.running_mean": None}, r"1 of 9 missing \(first norm\.running_mean\)"),
        ({"stem.weight": torch.ones(4, 3, 5, 5)}, r"1 of another shape \(first stem\.weight: \[4, 3, 5, 5\]"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_part_too_many_or_too_few_is_refused(changed, told, prefix):
    """F88: of a deeper network the first blocks have the same names."""
    state = {name: value for name, value in (STATE | changed).items() if value is not None}
    with pytest.raises(UserError, match=told):
        weights.fit(network(), under(prefix, state), "x.pt", "mine")


def test_a_longer_row_of_layers_is_another_network():
    """F88."""
    short, long = (nn.Sequential(*(nn.Linear(2, 2) for _ in range(count))) for count in (2, 3))
    with pytest.raises(UserError, match=r"2 unknown \(first 2\.weight\)"):
        weights.fit(short, long.state_dict(), "x.pt", "mine")


def tied():
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    model.b.weight = model.a.weight
    return model


@pytest.mark.parametrize("left", ["a.weight", "b.weight"])
def test_a_shared_tensor_may_stand_under_either_name(left):
    """F88."""
    state = {name: torch.full_like(value, 3) for name, value in tied().state_dict().items()}
    model = tied()
    weights.fit(model, {name: value for name, value in state.items() if name != left}, "x.pt", "mine")
    assert bool((model.a.weight == 3).all()) and model.a.weight is model.b.weight
    state[left] = torch.zeros(2, 2)
    with pytest.raises(UserError, match=r"a\.weight, b\.weight differ, they are one tensor in the network"):
        weights.fit(model, state, "x.pt", "mine")


def test_numbers_of_another_kind_are_refused():
    """F88: bytes of a quantised network are no weights."""
    for dtype in (torch.int8, torch.complex64):
        state = STATE | {"head.weight": STATE["head.weight"].to(dtype)}
        kind = str(dtype).removeprefix("torch.")
        with pytest.raises(UserError, match=rf"^x\.pt: head\.weight is of type {kind}, the network has float32$"):
            weights.fit(network(), state, "x.pt", "mine")


def test_the_number_of_classes_is_found_under_a_prefix():
    """F88."""
    more = Wrapper(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2, 7))).state_dict()
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2, 3))
    assert weights.classes_in(more, model) == 7
    with pytest.raises(UserError, match=r"^x\.pt is for 7 classes, mine was requested with 3"):
        weights.fit(model, more, "x.pt", "mine")


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("prefix", ["", "state_dict.model._orig_mod."])
def test_older_names_of_normalised_weights_are_those_of_todays(prefix):
    """F88: as torch loads them itself."""

    def made(norm, seed):
        torch.manual_seed(seed)
        return nn.Sequential(norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), norm(nn.Linear(4, 2), dim=None))

    older, now = made(nn.utils.weight_norm, 1), made(nn.utils.parametrizations.weight_norm, 2)
    weights.fit(now, {prefix + name: value for name, value in older.state_dict().items()}, "custom", "file")
    image = torch.rand(2, 3, 3, 3)
    assert torch.equal(now(image), older(image))
    expected = made(nn.utils.parametrizations.weight_norm, 3)
    expected.load_state_dict(older.state_dict())
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in expected.state_dict().items())


def test_tensors_of_a_device_without_addresses_are_not_taken_for_one():
    apart = {name: torch.empty(3, device="meta") for name in "ab"}
    assert [tensor.data_ptr() for tensor in apart.values()] == [0, 0]
    assert matching.tied(apart) == []
    shared = torch.ones(3)
    assert matching.tied({"a": shared, "b": shared, "c": torch.ones(3)}) == [["a", "b"]]
