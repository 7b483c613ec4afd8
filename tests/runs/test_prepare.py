"""What goes before a run folder is made: nothing of it is kept, and a signal ends it where it is."""

import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from cnnprobe.datasets import shapes
from cnnprobe.preparation import identity
from cnnprobe.runs.under_way import Run

WORDS = ["record", "model=convnet", "weights=random", "layer=conv1", "dataset=shapes", "dataset.count=8"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("module", "name"), [(shapes, "build"), (identity, "identity_of")])
def test_the_first_signal_ends_the_preparation(cnnprobe, monkeypatch, module, name, number, status):
    """F103: a dataset of any number of images is being made, or what it depends on is being read; nothing is lost."""
    went_on = []

    def slow(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(1)
        went_on.append(True)

    slow.__wrapped__ = getattr(module, name)  # its annotations
    monkeypatch.setattr(module, name, slow)
    with pytest.raises(SystemExit, match=str(status)) if number == signal.SIGTERM else nullcontext():
        assert cnnprobe(*WORDS).status == status
    assert not went_on and not Path("outputs").exists()


def test_a_run_that_is_said_to_be_resumed_has_what_that_takes(cnnprobe, monkeypatch):
    """F103: killed at any moment; where run.json stands, so does the configuration."""
    save, there = Run.save, []

    def looked_on(self, **changes):
        there.append((self.folder / "config.yaml").is_file())
        save(self, **changes)

    monkeypatch.setattr(Run, "save", looked_on)
    assert cnnprobe(*WORDS).status == 0
    assert there and all(there)


@pytest.mark.parametrize("dataset", ["shapes", "avatar", "signals", "tiles"])
def test_the_number_of_images_that_are_made_is_limited(cnnprobe, dataset):
    """F103: a hundred million names would be 10 GB."""
    answer = cnnprobe(*WORDS[:4], f"dataset={dataset}", "dataset.count=100000000", "--cfg", "job")
    assert answer.status == 2
    assert "dataset.count must be a whole number, from 1 to 10000000 or null, got 100000000" in answer.err
