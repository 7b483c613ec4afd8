"""Whole commands over folders of hard images: they end well or with one line, and nothing else is touched."""

import json
import time
import warnings

import numpy as np
import pytest
from PIL import Image

import cnnprobe as package
from tests.runs.test_execute import OWN, QUICK, words
from tests.support.faults.hostile import COLOUR, corpus

PROBES = [command for command in QUICK if command not in OWN and command not in ("train", "transfer")]
LEARNERS = ["train", "transfer"]
FAST = ("record", "topk")


def each(commands):
    return [command if command in FAST else pytest.param(command, marks=pytest.mark.slow) for command in commands]


def ended_well(answer):
    """Status 0, or 2 with one line; never a traceback, never a control character of a name."""
    lines = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert answer.status in (0, 2), answer.err
    assert len(lines) == (answer.status == 2), answer.err
    assert "Traceback" not in answer.err
    assert "\x1b" not in answer.out + answer.err


@pytest.fixture
def hard(tmp_path):
    """The corpus as one flat folder of images, and what is expected of each."""
    expected = corpus(tmp_path / "hard")
    (tmp_path / "hard/folder.png").rmdir()
    return tmp_path / "hard", expected


@pytest.mark.rendered
@pytest.mark.parametrize("command", each(PROBES))
def test_every_command_walks_over_the_corpus(cnnprobe, hard, tmp_path, command):
    """F32, F34, F35, F37, F38, F39, F40, F41: what cannot be read is counted by name, every row keeps its image."""
    folder, expected = hard
    before = sorted(folder.rglob("*"))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = cnnprobe(*words(command, folder, "weights=random", "device.workers=0"))
    ended_well(answer)
    assert time.process_time() - began < 240
    assert answer.status == 0, answer.err
    run = tmp_path / "outputs" / command / "convnet-folder" / "v001"
    about = json.loads((run / "run.json").read_text())
    assert about["dataset"]["images"] == len(expected)
    if command in FAST:  # they look at every image
        bad = {name for name, reason in expected.items() if reason}
        assert set(about["skipped"]) == bad
        assert f"; {len(bad)} skipped (see run.log)" in answer.out
        stimuli = package.open(run)["stimuli"]
        assert set(stimuli["name"][stimuli["skipped"]]) == bad
    assert sorted(folder.rglob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} == {"hard", "outputs"}


@pytest.mark.parametrize("command", each(PROBES))
@pytest.mark.parametrize("kind", ["grey", "same"])
def test_equal_images_are_ranked_by_their_index_and_nothing_is_made_up(cnnprobe, tmp_path, command, kind):
    """F44: of one colour each, or one picture six times."""
    (tmp_path / kind).mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for i in range(6):
        pixels = np.full_like(noise, 128) if kind == "grey" else noise
        Image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = cnnprobe(*words(command, tmp_path / kind, "weights=random"))
    ended_well(answer)
    assert answer.status == 0, answer.err
    recording = package.open(tmp_path / "outputs" / command / "convnet-folder" / "v001")
    if command == "topk":
        for name in recording.tables("units"):
            table = recording[name]
            assert (table["image"][~table["dead"]] == [0, 1, 2]).all()


@pytest.mark.parametrize("command", each(PROBES))
def test_one_image_is_enough_to_probe(cnnprobe, tmp_path, command):
    """F39, F42: one image of one px, shown as it is resized."""
    (tmp_path / "one").mkdir()
    Image.new("RGB", (1, 1), COLOUR).save(tmp_path / "one/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended_well(cnnprobe(*words(command, tmp_path / "one", "weights=random")))


@pytest.mark.parametrize("command", LEARNERS)
def test_one_class_is_too_few_to_learn(cnnprobe, tmp_path, command):
    """F42: told before a folder is made."""
    for split in ("train", "val"):
        (tmp_path / "one" / split / "disc").mkdir(parents=True)
        Image.new("RGB", (8, 8), COLOUR).save(tmp_path / "one" / split / "disc/a.png")
    answer = cnnprobe(*words(command, tmp_path / "one"))
    ended_well(answer)
    assert "needs 2 or more classes, folder has 1" in answer.err
    assert not (tmp_path / "outputs").exists()


def test_images_smaller_than_the_patch_are_told(cnnprobe, pictures):
    """F39: before anything is made."""
    answer = cnnprobe(*words("rf-map", pictures, "weights=random", "patch_size=33"))
    ended_well(answer)
    assert answer.status == 2
    assert "33" in answer.err.splitlines()[-1]
