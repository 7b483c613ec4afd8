"""As many images as a real data set has, in a memory that is kept small: what is stored and what is right.

The limit is the kernel's (`RLIMIT_DATA`: everything that a process allocates), in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnprobe.store.reader import Recording
from tests.support.images.real_data import data_folder, needs_real_data, unpack

ROOT = Path(__file__).parents[2]
LIMIT = 3_000_000_000
WORDS = ["model=convnet", "weights=random", "batch_size=128", "device.workers=0"]
CHILD = """
import json, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    bytearray(limit)
    sys.exit("there is no limit here")
except MemoryError:
    pass
from cnnprobe.cli.main import main
for words in json.loads(sys.argv[2]):
    status = main(words)
    if status:
        sys.exit(status)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates")


def limited(folder, *commands, limit=LIMIT):
    """Run command lines in a process that may not allocate more than a limit; return what it said."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(limit), json.dumps(commands)], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def probed(folder, images, count):
    """Record `count` images and rank them, by the network and by what was recorded; check the three stores."""
    asked = (
        ("record", "recorded"),
        ("topk", "ranked", "k=9"),
        ("topk", "again", "k=9", "source=record/recorded/v001"),
    )
    common = [*WORDS, *images, "layer=[conv1,conv4]"]
    answer = limited(folder, *([command, *common, f"name={name}", *words] for command, name, *words in asked))
    assert answer.returncode == 0, answer.stderr
    assert "does not fit" not in answer.stderr
    for command, name, *_ in asked:
        about = json.loads((folder / "outputs" / command / name / "v001/run.json").read_text())
        assert about["peak_memory_bytes"] < LIMIT
        assert about["dataset"]["images"] == count
        print(f"{command} {name}: {about['peak_memory_bytes'] / 1e9:.2f} GB, {about['seconds']} s")
    recorded = Recording(folder / "outputs/record/recorded/v001/store.h5")
    ranked = Recording(folder / "outputs/topk/ranked/v001/store.h5")
    again = Recording(folder / "outputs/topk/again/v001/store.h5")
    for name in ("conv1", "conv4"):
        largest, table = recorded[f"activations/{name}"]["max"], ranked[f"units/{name}"]
        assert len(largest) == count and np.isfinite(largest).all()
        alive = ~table["dead"]
        best = np.argsort(-largest, axis=0, kind="stable")[:9].T  # of equal ones the smaller index first
        assert (table["image"][alive] == best[alive]).all()
        assert (again[f"units/{name}"]["image"] == table["image"]).all()


def drawn(folder, count):
    """Write images of noise, brighter and darker ones, as one array."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    pixels //= random.integers(1, 9, (count, 1, 1, 1), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    return ["dataset=arrays", f"dataset.root={folder}/images.npy"]


@pytest.mark.parametrize("count", [300, pytest.param(50_000, marks=pytest.mark.slow)])
def test_an_array_of_images_is_recorded_and_ranked_in_three_gigabytes(tmp_path, count):
    """F54, F55."""
    probed(tmp_path, drawn(tmp_path, count), count)


@pytest.mark.slow
@needs_real_data
def test_fifty_thousand_photographs_are_recorded_and_ranked_in_three_gigabytes(tmp_path):
    """F54, F55: the training images of CIFAR-10."""
    assert data_folder().is_dir()
    unpack("cifar10.tar.gz", tmp_path, lambda name: "/train/" in name)
    probed(tmp_path, ["dataset=cifar10", f"dataset.root={tmp_path}/cifar10", "dataset.split=train"], 50_000)


def test_a_memory_that_is_far_too_small_is_told_in_one_line(tmp_path):
    """F56: an image whose first map alone, of 64 units and 3000 px, is larger than the limit."""
    np.save(tmp_path / "images.npy", np.zeros((1, 3, 6000, 6000), np.uint8))
    images = ["dataset=arrays", f"dataset.root={tmp_path}/images.npy", "dataset.size=6000"]
    words = ["record", "model=squeezenet", "weights=random", "layer=conv1", "device.workers=0"]
    answer = limited(tmp_path, [*words, *images], limit=1_500_000_000)
    lines = [line for line in answer.stderr.splitlines() if line.startswith("cnnprobe ")]
    assert (answer.returncode, len(lines)) == (2, 1), answer.stderr
    assert "Traceback" not in answer.stderr
    assert "memory" in lines[0] and "GB free" in lines[0]
