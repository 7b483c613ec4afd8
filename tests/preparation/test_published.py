"""Trainings that come with the package: they are what their cards say."""

import json
import re
from pathlib import Path

import pytest
import torch

from cnnprobe.errors import UserError
from cnnprobe.models import mousenet
from cnnprobe.preparation import weights
from cnnprobe.store.reader import Recording
from tests.support.images.real_data import needs_real_data, unpack

FOLDERS = sorted(weights.PACKAGED.iterdir())
FILES = [path for folder in FOLDERS for path in sorted((folder / "weights").iterdir())]
PUBLIC = {"variant": "mousenet64", "readout": "pool4", "mask": "per_channel", "mask_seed": 2021, "upsample_to": None}


def published(path):
    model = mousenet.build(num_classes=10, input_size=32, **PUBLIC)
    weights.fit(model, weights.read(path), path.name, "mousenet")
    return model


def confusion(folder):
    """Return the matrix of a card, (true, predicted)."""
    lines = (folder / "README.md").read_text().split("## Confusion")[1].splitlines()
    rows = [line.split("|")[2:-1] for line in lines if re.match(r"\| \w+ \|", line)]
    return torch.tensor([[int(cell) for cell in row] for row in rows])


def test_there_is_a_trained_mousenet():
    assert [folder.name for folder in FOLDERS] == ["mousenet-cifar10"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_they_are_small_and_name_no_place(folder):
    sizes = {path.stem: path.stat().st_size for path in (folder / "weights").iterdir()}
    assert sizes["best"] < 1_000_000
    assert sum(sizes.values()) < 3_000_000
    for path in (folder / "run.json", folder / "README.md"):
        assert not re.search(r"(?<![\w.~])/\w+/", path.read_text()), path
    assert {path.suffix for path in folder.rglob("*.*") if path.is_file()} == {".safetensors", ".json", ".md"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_moment_fits_and_says_when_it_was(path):
    model, about = published(path), weights.about(path)
    assert about["model"] | {"num_classes": 10} == PUBLIC | {"name": "mousenet", "input_size": 32, "num_classes": 10}
    kind, _, number = path.stem.partition("=")
    assert kind == "best" or about[kind] == int(number)
    assert len(about["classes"]) == 10
    assert all((conv.weight[~conv.mask] == 0).all() for conv in model.conv.values())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_card_says_what_the_run_and_the_weights_say(folder):
    card, run = (folder / "README.md").read_text(), json.loads((folder / "run.json").read_text())
    best = weights.about(folder / "weights" / "best.safetensors")
    assert f"held-out images: {best['val_accuracy']:.4f}**" in card
    assert run["method"]["epochs"] >= 10
    assert len(re.findall(r"^\| \d+ \|", card, re.M)) == run["method"]["epochs"]
    matrix = confusion(folder)
    assert matrix.sum(1).tolist() == [1000] * 10
    assert int(matrix.trace()) == round(best["val_accuracy"] * 10_000)
    assert run["commit"][:12] in card and f"seed {run['seed']}" in card
    assert not run["commit"].endswith("+")


def test_options_of_another_network_are_refused_and_null_means_as_trained():
    folder = FOLDERS[0]
    assert weights.packaged("mousenet", PUBLIC | {"input_size": None}) == folder
    assert weights.packaged("mousenet", PUBLIC | {"input_size": 32}) == folder
    assert weights.packaged("alexnet", {"dropout": 0.5}) is None
    with pytest.raises(UserError, match="of mousenet are of input_size=32, asked for input_size=64"):
        weights.packaged("mousenet", PUBLIC | {"input_size": 64})


@needs_real_data
@pytest.mark.parametrize("count", [200, *(pytest.param(count, marks=pytest.mark.slow) for count in (1000, 10_000))])
def test_it_is_as_often_right_as_its_card_says(cnnprobe, tmp_path, count):
    """On the same images, class by class a thousand: in float32, while it was measured in bfloat16.

    200 are a sample of the first class, whose share of right ones has a standard error of 0.03.
    """
    each = min(count, 1000)
    unpack("cifar10.tar.gz", tmp_path, lambda name: "/test/" in name and int(Path(name).stem) < each, most=10 * each)
    words = ["dataset=cifar10", f"dataset.root={tmp_path / 'cifar10'}", "dataset.split=test", f"limit=first:{count}"]
    answer = cnnprobe("record", *words)
    assert answer.status == 0, answer.err
    store = Recording(tmp_path / "outputs/record/mousenet-cifar10/v001/store.h5")
    right = (store["images"]["prediction"] == store["images"]["label"]).mean()
    expected = float(confusion(FOLDERS[0]).diagonal()[: max(1, count // 1000)].sum()) / max(1000, count)
    assert right == pytest.approx(expected, abs={200: 0.06, 1000: 0.02, 10_000: 0.004}[count])
