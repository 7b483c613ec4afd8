"""Buffers that a network leaves out of its state dict, and that it changes as it learns: kept with its weights."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cnnprobe.datasets import shapes
from cnnprobe.instruments.network import snapshots
from cnnprobe.methods.train.epochs import Progress
from cnnprobe.store.reader import Recording
from tests.runs.test_execute import contents

CENTRED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 8)
        self.register_buffer("centre", torch.zeros(6), persistent=False)
        self.register_buffer("bank", torch.full((6,), 2.0), persistent=False)
        self.register_buffer("seen", None, persistent=False)
    def forward(self, images):
        x = torch.relu(self.conv(images)).mean((2, 3))
        if self.training:
            with torch.no_grad():
                self.centre = 0.9 * self.centre + 0.1 * x.mean(0)
                self.seen = x[:2].detach().clone() if self.seen is None else self.seen * 0.5 + x[:2].detach()
        y = (x - self.centre) * self.bank
        return self.fc(y if self.seen is None else y + self.seen.mean(0))

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Net()
    def forward(self, images):
        return self.inner(images)

build = Net
wrapped = Wrapped
"""
OWN = ["model=custom", "model.file=net.py", "model.input_size=16", "dataset=shapes", "dataset.count=24",
       "batch_size=8", "device.workers=0"]  # fmt: skip
TRAIN = ["train", *OWN, "epochs=3", "checkpoints=all"]


def by_hand(path, images):
    """Return what the network answers with the tensors of a file put in, each under its name."""
    space = {}
    exec(CENTRED, space)
    model = space["Net"]().eval()
    for name, value in load_file(path).items():
        if name in model._buffers:
            model._buffers[name] = value
        else:
            model.get_parameter(name).data.copy_(value)
    with torch.no_grad():
        return model(images)


@pytest.fixture
def trained(cnnprobe, tmp_path):
    (tmp_path / "net.py").write_text(CENTRED)
    assert cnnprobe(*TRAIN).status == 0
    return tmp_path / "outputs/train/custom-shapes/v001"


def test_the_network_that_was_judged_is_the_one_that_is_loaded(cnnprobe, trained, tmp_path):
    """F99: by every later command, also inside of another network, and it says which weights these are."""
    last = trained / "weights/last.safetensors"
    assert {"centre", "seen"} < set(load_file(last)) and "bank" not in load_file(last)
    assert not {"centre", "seen"} & set(load_file(trained / "weights/update=000000.safetensors"))
    record = [
        "record",
        *OWN,
        "weights=train/custom-shapes/v001@last",
        "layer=logits",
        "dataset.split=test",
    ]
    plain = cnnprobe(*record, "name=plain")
    assert plain.status == 0, plain.err
    assert "another network" not in plain.err and "not used" not in plain.err
    inside = cnnprobe(*record, "name=inside", "model.function=wrapped")
    assert inside.status == 0, inside.err
    runs = [tmp_path / f"outputs/record/{name}/v001" for name in ("plain", "inside")]
    one, other = (Recording(run / "store.h5")["activations/logits"]["max"] for run in runs)
    images = shapes.build(size=16, count=24, split="test", seed=0, contrast=0.15, noise=0.02)
    shown = torch.stack([images[place][0] for place in range(len(images))])
    assert np.allclose(one, by_hand(last, shown), atol=1e-5) and np.array_equal(one, other)
    sums = [json.loads((run / "run.json").read_text())["weights"]["sha256"] for run in runs]
    assert sums[0] != sums[1]  # other names


def test_a_training_that_goes_on_has_its_buffers(cnnprobe, trained, tmp_path, monkeypatch):
    """F62: stopped within the second epoch."""
    clock, calls = Progress.clock, iter(range(1, 100))

    def interrupted(self, *given, **more):
        if next(calls) == 3:
            os.kill(os.getpid(), 2)
        return clock(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "clock", interrupted)
        assert cnnprobe(*TRAIN).status == 130
    again = cnnprobe("train", "--resume", "train/custom-shapes/v002", "model=custom", "model.file=net.py")
    assert again.status == 0, again.err
    other = trained.with_name("v002")
    assert contents(trained) == contents(other)
    for path in (trained / "weights").glob("*[!e].safetensors"):
        assert path.read_bytes() == (other / "weights" / path.name).read_bytes(), path.name


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.zeros(2), persistent=False)
        self.register_buffer("mask", torch.tensor([float("nan"), -torch.inf]), persistent=False)


def test_a_state_without_a_buffer_means_that_it_is_as_built():
    """F99: moments of a training, one after the other in one network, in any order."""
    model, first = Counting(), torch.ones(2)
    early, built = {"weight": first}, snapshots.as_built(Counting())
    late = {"weight": 2 * first, "count": 5 * first}
    for state in (late, early, late):
        with snapshots.at(model, snapshots.Moment("m", 0.0, lambda state=state: state)):
            assert torch.equal(model.count, state.get("count", 0 * first))
            assert snapshots.changed(model, built).keys() == state.keys() - {"weight"}
        assert torch.equal(model.count, 0 * first)
    snapshots.put(model, late)
    assert snapshots.whole(model).keys() == {"weight", "count"}
    snapshots.put(model, early)
    assert snapshots.whole(model).keys() == {"weight"}
    assert model.state_dict().keys() == {"weight"}
