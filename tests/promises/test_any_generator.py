"""Networks that draw from NumPy's and Python's generators: equal runs are equal, and whoever asks keeps his numbers."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cnnprobe.machine import chance
from cnnprobe.methods.train.epochs import Progress
from tests.runs.test_execute import contents
from tests.support.calling import Network, called, network
from tests.support.described import COMMANDS

ROOT = Path(__file__).parents[2]
DRAWING = """
import random
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 8)
        drawn = np.random.normal(0, 0.2, self.conv.weight.shape) * random.uniform(0.5, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.from_numpy(drawn))
    def forward(self, images):
        x = torch.relu(self.conv(images)).mean((2, 3))
        if self.training:
            x = x * random.uniform(0, 2) + np.random.normal()
        return self.fc(x)

def build():
    return Net()
"""
TRAIN = [
    "train", "model=custom", "model.file=net.py", "model.input_size=16", "dataset=shapes", "dataset.count=24",
    "batch_size=8", "epochs=3", "checkpoints=all", "device.workers=0",
]  # fmt: skip


def weights(run):
    paths = sorted((run / "weights").glob("*.safetensors"))
    return {path.name: path.read_bytes() for path in paths if path.name != "resume.safetensors"}


@pytest.mark.slow
def test_the_same_training_in_another_process_is_the_same(tmp_path):
    """F105: first weights and updates, by whatever the network draws them."""
    (tmp_path / "net.py").write_text(DRAWING)
    for _ in range(2):
        own = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "cnnprobe", *TRAIN], cwd=tmp_path, env=own, check=True)
    one, other = (tmp_path / f"outputs/train/custom-shapes/v00{n}" for n in (1, 2))
    assert (one / "store.h5").read_bytes() == (other / "store.h5").read_bytes()
    assert weights(one) == weights(other)
    assert len(set(weights(one).values())) > 3


def test_a_training_that_goes_on_draws_what_it_would_have_drawn(cnnprobe, tmp_path, monkeypatch):
    """F105: stopped within the second epoch, when every generator stands elsewhere."""
    (tmp_path / "net.py").write_text(DRAWING)
    assert cnnprobe(*TRAIN).status == 0
    clock, calls = Progress.clock, iter(range(1, 100))

    def interrupted(self, *given, **more):
        if next(calls) == 3:
            os.kill(os.getpid(), 2)
        return clock(self, *given, **more)

    monkeypatch.setattr(Progress, "clock", interrupted)
    assert cnnprobe(*TRAIN).status == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    np.random.seed(99), random.seed(99), torch.manual_seed(99)
    again = cnnprobe("train", "--resume", "train/custom-shapes/v002", "model=custom", "model.file=net.py")
    assert again.status == 0, again.err
    one, other = (tmp_path / f"outputs/train/custom-shapes/v00{n}" for n in (1, 2))
    assert contents(one) == contents(other)
    assert weights(one) == weights(other)


class Drawing(Network):
    """Draws from every generator, whatever its mode, to no effect."""

    def forward(self, images):
        return super().forward(images + 0 * (torch.rand(1) + np.random.uniform() + random.random()))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_whoever_calls_a_command_keeps_his_random_numbers(command):
    """F105: torch's, NumPy's and Python's, also between two rows, and whatever the network draws."""
    model = network(Drawing)
    before = chance.standing()
    measurement = called(command, model)
    assert chance.standing() == before
    events = iter(measurement.events)
    next(events)
    assert chance.standing() == before
    for _ in events:
        pass
    assert chance.standing() == before
