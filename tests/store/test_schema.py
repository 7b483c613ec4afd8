"""Attributes of stores are of their kind, whichever network was measured, and are refused where they are not."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import cnnprobe as package
from cnnprobe.errors import UserError
from cnnprobe.store.layout import CHECKSUM, as_python, known_sum
from cnnprobe.store.reader import Recording
from cnnprobe.store.schema import KNOWN, wrong
from tests.support.calling import called
from tests.support.described import COMMANDS

ODD = """
import torch
from torch import nn
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.turned, self.after = nn.Conv2d(3, 4, 3, padding=1), nn.Identity(), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 2)
    def forward(self, images):
        maps = self.conv(images).relu()
        spectrum = self.turned(torch.fft.rfft2(maps).abs())
        turned = self.after(maps.transpose(2, 3))
        return self.head(turned.mean((2, 3)) + spectrum.mean((2, 3)))
def build(): return Odd()
"""
QUICK = {
    "topk": ["k=2", "criterion=[max,area]"],
    "record": [],
    "rf-map": ["top_images=2", "effective=false"],
    "perturb": ["draws=2", "kind=amplitude"],
    "optimize": ["steps=2", "starts=1"],
    "gbp": ["top_images=2", "rule=gradient", "sanity=false"],
}


SHOWN = ["model=convnet", "weights=random", "dataset=avatar", "limit=4", "layer=conv1"]


def with_another(cnnprobe, tmp_path, name, value=None):
    """Return the folder of a run of topk with another value of an attribute, or without it; its checksum is right."""
    assert cnnprobe("topk", *SHOWN, "k=2", "name=k").status == 0
    folder = tmp_path / "outputs/topk/k/v001"
    with h5py.File(folder / "store.h5", "r+") as store:
        group = store["units/conv1"]
        del group.attrs[name]
        if value is not None:
            group.attrs[name] = value
        group.attrs.modify(CHECKSUM, np.uint32(known_sum(group, ["units/conv1", "stimuli"])))
    return folder


@pytest.mark.parametrize("command", QUICK)
def test_layers_whose_axes_are_lost_or_turned_have_attributes_of_their_kinds(cnnprobe, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(ODD)
    mine = ["model=custom", "model.file=net.py", "model.input_size=16", "weights=random", "layer=[turned,after]"]
    shown = ["dataset=shapes", "dataset.count=8", "batch_size=4", "device.workers=0"]
    answer = cnnprobe(command, *mine, *shown, *QUICK[command])
    assert answer.status == 0, answer.err
    assert package.open(f"outputs/{command}/custom-shapes/v001").complete


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer", 3),
        ("layer", np.array([1, 2])),
        ("batch", "first"),
        ("batch", 0.5),
        ("rectified", 1),
        ("field_size", "x"),
        ("field_size", 3),
        ("map_size", np.array([b"a"])),
        ("image_size", np.array([3])),
        ("image_size", np.array([3, 0, 8])),
    ],
)
def test_an_attribute_of_another_kind_is_told(cnnprobe, tmp_path, name, value):
    """F102: the checksum is right."""
    folder = with_another(cnnprobe, tmp_path, name, value)
    with pytest.raises(UserError, match=rf"is damaged \(attributes of /units/conv1 of the wrong kind: {name}\)"):
        Recording(folder / "store.h5")["units/conv1"]
    answer = cnnprobe("topk", "--redraw", str(folder))
    assert answer.status == 2 and answer.err.count("\n") == 1


@pytest.mark.parametrize("name", ["criterion", "criteria", "layer"])
def test_an_attribute_that_is_not_there_is_told(cnnprobe, tmp_path, name):
    """F102: a run that is built on it ends in one line, with the checksum right."""
    folder = with_another(cnnprobe, tmp_path, name)
    answer = cnnprobe("gbp", *SHOWN, "top_images=2", f"source={folder}", "name=g")
    told = f"{folder}/store.h5, /units/conv1 is damaged: it has no attribute '{name}'"
    assert (answer.status, answer.err.splitlines()[-1]) == (2, f"cnnprobe gbp: {told}"), answer.err
    assert cnnprobe("topk", "--redraw", str(folder)).status in (0, 2)


def test_texts_that_are_json_are_of_its_kind():
    """F102."""
    for text in ("", "{", "3", "[3]", "{}", "[" * 100_000):
        assert wrong({"classes": text}) == ["classes"]
    assert wrong({"classes": json.dumps(["a"]), "unknown": object(), "size": [3, 8], "level": float("nan")}) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_writes_of_its_tables_is_of_a_known_kind(command):
    """F102: a name that is not listed may hold anything in a stranger's store."""
    measurement = called(command)
    for table in measurement.tables:
        known = {key: as_python(value) for key, value in table.attributes.items()}
        assert set(known) <= KNOWN, (table.name, set(known) - KNOWN)
        assert wrong(known) == []
    measurement.close()


def test_an_experiment_of_ones_own_calls_its_attributes_as_it_likes():
    about = {"stride": "large", "level": "high", "layer": 3}
    assert wrong(about, own=True) == [] and wrong(about) == list(about)
    assert wrong(about | {"batch": "x"}, own=True) == ["batch"]
