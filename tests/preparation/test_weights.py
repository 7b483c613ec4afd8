"""Weights come back as they went out, into the network they belong to and into no other."""

import stat
import urllib.error

import pytest
import torch
from safetensors import safe_open
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import about
from cnnprobe.models import convnet, mousenet, squeezenet
from cnnprobe.preparation import weights
from tests.support.images.real_data import data_folder, needs_real_data

ABOUT = {"model": {"name": "convnet", "written": "class"}, "num_classes": 10, "classes": ["é", "b"], "epoch": 3}


def network(classes=10, written="class"):
    return convnet.build(num_classes=classes, written=written, input_size=32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.safetensors"


def test_what_is_saved_is_read(path):
    model = mousenet.build(
        num_classes=4,
        variant="mousenet64",
        readout="pool4",
        mask="per_channel",
        mask_seed=3,
        input_size=None,
        upsample_to=None,
    )
    state = model.to(memory_format=torch.channels_last).state_dict()
    weights.save(path, state, ABOUT)
    found = weights.read(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items())
    assert weights.about(path) == ABOUT


def test_the_same_content_gives_the_same_bytes_and_one_key_of_metadata(path, tmp_path):
    state = network().state_dict()
    weights.save(path, state, ABOUT)
    again = tmp_path / "again.safetensors"
    weights.save(again, dict(reversed(state.items())), dict(reversed(ABOUT.items())))
    assert path.read_bytes() == again.read_bytes()
    with safe_open(path, framework="pt") as source:
        assert list(source.metadata()) == ["cnnprobe"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "last.safetensors"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_tensors_that_share_memory_or_are_views_are_saved(path):
    base = torch.arange(12.0)
    state = {"a": base, "b": base, "c": base[3:5], "d": base.view(3, 4).T, "e": torch.zeros(0), "f": torch.tensor(2)}
    weights.save(path, state, {})
    found = weights.read(path)
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_any_flipped_bit_is_noticed(path):
    """F26: A flip may pass only where it changes nothing at all."""
    state = {"a": torch.randn(20, generator=torch.Generator().manual_seed(0)), "b": torch.arange(5)}
    weights.save(path, state, ABOUT)
    data = path.read_bytes()
    for place in range(0, len(data) * 8, 7):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found, about = weights.read(path), weights.about(path)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        unsigned = "cnnprobe" not in safe_open(path, framework="pt").metadata()
        assert unsigned or (about == ABOUT and all(torch.equal(found[name], value) for name, value in state.items()))


def test_a_damaged_value_is_told(path):
    """F26."""
    weights.save(path, {"a": torch.ones(50)}, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"^last.safetensors does not match its checksum"):
        weights.read(path)


@pytest.mark.parametrize(("value", "what"), [("nan", "NaN"), ("inf", "infinite values"), ("-inf", "infinite values")])
def test_values_that_are_not_finite_are_refused_where_they_are_used(value, what):
    """F29: the best loss so far may be infinite, and a weight may not."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = model.state_dict() | {"best_loss": torch.tensor(float(value))}
    weights.fit(model, state, "last.pt", "mine")
    state["1.weight"] = torch.tensor([[1.0, 2.0], [3.0, float(value)]])
    with pytest.raises(UserError, match=rf"^last.pt: weights hold {what} in 1.weight$"):
        weights.fit(model, state, "last.pt", "mine")


def test_the_checksum_of_a_state_is_about_its_content():
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2)}
    assert weights.sha256(state) == weights.sha256(dict(reversed(state.items())))
    others = (
        {"a": state["a"]},
        {"a": state["a"].view(3, 2), "b": state["b"]},
        {"a": state["a"].double(), "b": state["b"]},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"] + 1e-6, "b": state["b"]},
    )
    assert len({weights.sha256(state), *map(weights.sha256, others)}) == 6


def test_weights_go_into_the_network_they_belong_to():
    one, other = network(), network()
    weights.fit(other, one.state_dict(), "x.pt", "convnet")
    assert weights.sha256(one.state_dict()) == weights.sha256(other.state_dict())


def test_weights_of_another_network_are_refused_and_nothing_is_loaded():
    """F28."""
    model = network()
    before = weights.sha256(model.state_dict())
    with torch.device("meta"):
        state = squeezenet.build(num_classes=None, version=1.1, input_size=None).state_dict()
    words = (
        r"^x.pt does not fit convnet: 12 of 12 missing \(first conv1.weight\), 52 unknown \(first features.0.weight\)"
    )
    with pytest.raises(UserError, match=words + r"; it looks like squeezenet1_1$"):
        weights.fit(model, state, "x.pt", "convnet")
    assert weights.sha256(model.state_dict()) == before


def test_the_first_difference_of_a_shape_is_told():
    """F28."""
    state = network().state_dict() | {"conv3.weight": torch.zeros(8, 5, 5, 5)}
    words = r"1 of another shape \(first conv3.weight: \[8, 5, 5, 5\], convnet has \[8, 5, 3, 3\]\)"
    model = network()
    before = weights.sha256(model.state_dict())
    with pytest.raises(UserError, match=words):
        weights.fit(model, state, "x.pt", "convnet")
    assert weights.sha256(model.state_dict()) == before


def test_where_no_name_fits_those_of_the_file_are_told():
    state = {"encoder.a.weight": torch.zeros(3), "encoder.b.weight": torch.zeros(3)}
    with pytest.raises(UserError, match=r"2 unknown \(first encoder\.a\.weight\)"):
        weights.fit(network(), state, "x.pt", "convnet")


def test_another_number_of_classes_is_told_apart():
    """F28."""
    with pytest.raises(
        UserError, match=r"^x.pt is for 7 classes, convnet was requested with 10; leave out num_classes$"
    ):
        weights.fit(network(10), network(7).state_dict(), "x.pt", "convnet")


@pytest.mark.parametrize(("there", "built"), [(7, 10), (10, 10), (3, 1000)])
def test_the_number_of_classes_is_read_from_the_weights(there, built):
    assert weights.classes_in(network(there).state_dict(), network(built)) == (there if there != built else None)


def test_weights_of_another_network_have_no_number_of_classes():
    state = network(7).state_dict()
    assert weights.classes_in(state, network(10, "sequential")) is None
    assert weights.classes_in(state | {"conv3.weight": torch.zeros(8, 5, 5, 5)}, network(10)) is None


def test_batch_counters_may_be_missing():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    weights.fit(model, state, "old.pt", "mine")


@needs_real_data
def test_a_real_trained_network_loads():
    """SqueezeNet 1.0 of Deep Compression: its kernels are pruned, so most of its weights are zero."""
    model = squeezenet.build(num_classes=None, version=1.0, input_size=None)
    state = weights.read(data_folder() / "squeezenet1_0-imagenet.safetensors")
    assert weights.classes_in(state, squeezenet.build(num_classes=7, version=1.0, input_size=None)) == 1000
    weights.fit(model, state, "squeezenet", "squeezenet")
    assert weights.sha256(model.state_dict()) == weights.sha256(state)
    assert weights.about(data_folder() / "squeezenet1_0-imagenet.safetensors") == {}


def test_published_weights_come_from_the_disk_and_bring_their_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    options = {"version": 1.1, "input_size": None}
    assert weights.published_on_disk("squeezenet", options) is None
    state = squeezenet.build(num_classes=1000, **options).state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints/squeezenet1_1-b8a52dc0.pth")
    assert weights.published_on_disk("squeezenet", options).name == "squeezenet1_1-b8a52dc0.pth"
    model = weights.published("squeezenet", squeezenet, options, 10)
    assert weights.sha256(model.state_dict()) == weights.sha256(state)
    assert about(model).classes[:2] == ("tench", "goldfish")


def test_without_a_network_the_way_out_is_told(tmp_path, monkeypatch):
    def fails(*arguments, **keywords):
        raise urllib.error.URLError("Name or service\nnot known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    words = (
        r"^cannot fetch the published weights of squeezenet \(Name or service not known\); put squeezenet1_0.*pth into"
    )
    with pytest.raises(UserError, match=words):
        weights.published("squeezenet", squeezenet, {"version": 1.0, "input_size": None}, None)


def test_networks_nobody_has_published():
    with pytest.raises(UserError, match=r"^convnet has no published weights; weights=random"):
        weights.published("convnet", convnet, {"written": "class", "input_size": 32}, None)
    assert weights.published_on_disk("convnet", {"written": "class", "input_size": 32}) is None
