"""`cnnprobe check`: whatever is not as it was written is named, and a run that is whole is said to be."""

import errno
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from cnnprobe.cli.main import main
from cnnprobe.machine import files
from cnnprobe.store import locks, run_json
from cnnprobe.store.writer import Writer
from cnnprobe.upkeep.check import stretches
from tests.support.faults import hostile_stores
from tests.support.files.stores import batch_of, filled, tables


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures, sketched):
    """A finished training and a finished topk in one folder."""
    out = tmp_path_factory.mktemp("made")
    common = [f"out={out}", "dataset=folder", f"dataset.root={pictures}", "dataset.size=32", "device.workers=0"]
    assert main(["train", "model=convnet", "epochs=1", *common]) == 0
    assert main(["topk", "model=convnet", "layer=[conv1,conv2]", "k=3", "batch_size=2", "pages=[0]", *common]) == 0
    return out


@pytest.fixture
def out(made, tmp_path):
    """A copy of them that a test may spoil."""
    return shutil.copytree(made, tmp_path / "outputs", symlinks=True)


@pytest.fixture
def stopped(tmp_path):
    """A run of a small store that was stopped after two of three batches."""
    folder = tmp_path / "outputs/topk/a-b/v001"
    folder.mkdir(parents=True)
    filled(folder / "store.h5", only=[0, 4]).close()
    about = {"command": "topk", "status": "interrupted", "seed": 3}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text("out: somewhere\na: 1\n")
    return folder


def flip(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


def place_of(store, column, row):
    with h5py.File(store) as file:
        item = file[column]
        return item.id.get_offset() + row * (item.nbytes // len(item))


def one_line(answer):
    assert answer.status == 2
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("cnnprobe check: ")


def test_runs_that_are_whole_are_said_to_be(cnnprobe, out):
    answer = cnnprobe("check", "train/convnet-folder/v001", "topk/convnet-folder/latest")
    assert (answer.status, answer.err) == (0, "")
    first, second = answer.out.splitlines()
    assert first.startswith("ok ") and "train/convnet-folder/v001: complete; 3 of 3 rows in 2 tables" in first
    assert second.startswith("ok ") and "files match their checksums" in second


@pytest.mark.parametrize("command", ["train", "topk"])
def test_every_file_that_changed_or_is_missing_is_named(cnnprobe, out, command):
    """F71: of all files that run.json lists, weights included; and how each is had again."""
    folder = out / command / "convnet-folder" / "v001"
    listed = run_json.read(folder)["files"]
    kinds = {Path(name).suffix for name in listed}
    assert kinds == ({".h5", ".png", ".safetensors"} if command == "train" else {".h5", ".png"})
    for name in listed:
        whole = (folder / name).read_bytes()
        flip(folder / name)
        answer = cnnprobe("check", str(folder))
        one_line(answer)
        assert f"{name} changed since the run (checksum)" in answer.out
        assert f"--{'redraw' if name.endswith('.png') else 'rerun'} {folder}" in answer.out
        (folder / name).unlink()
        answer = cnnprobe("check", str(folder))
        one_line(answer)
        assert f"{name} is missing" in answer.out
        (folder / name).write_bytes(whole)
    assert cnnprobe("check", str(folder)).status == 0


def test_damaged_rows_are_named_with_their_table(cnnprobe, out):
    """F71: two neighbouring batches are one stretch; the layer that is whole is not named."""
    folder = out / "topk/convnet-folder/v001"
    store = folder / "store.h5"
    with h5py.File(store) as file:
        batch, rows = int(file["units/conv2"].attrs["batch"]), len(file["units/conv2/response"])
    flip(store, place_of(store, "units/conv2/response", 0))
    answer = cnnprobe("check", str(folder))
    one_line(answer)
    assert f"rows 0 to {min(batch, rows) - 1} of units/conv2 damaged (checksum)" in answer.out
    assert "units/conv1" not in answer.out


def test_stretches_are_told_as_first_and_last(cnnprobe, stopped):
    store = stopped / "store.h5"
    laid = tables()
    writer = Writer.resume(store, laid, {})
    writer.write(batch_of(8, laid[0]))
    writer.close()
    for row in (5, 9):
        flip(store, place_of(store, "units/conv1/response", row))
    answer = cnnprobe("check", str(stopped))
    one_line(answer)
    assert "rows 4 to 9 of units/conv1 damaged (checksum); done again by: cnnprobe topk --resume" in answer.out
    for length in range(7):
        for bits in range(2**length):
            marked = np.array([bits >> i & 1 for i in range(length)], bool)
            told = np.zeros(length, bool)
            for first, last in stretches(marked):
                assert first < last and not told[first:last].any()
                assert first == 0 or not marked[first - 1]
                told[first:last] = True
            assert (told == marked).all()


def test_a_stopped_run_is_looked_at_too(cnnprobe, stopped):
    answer = cnnprobe("check", "v001")
    assert (answer.status, answer.err) == (0, "")
    assert "interrupted; 8 of 10 rows in 1 tables" in answer.out


def test_a_killed_run_is_told_from_one_under_way(cnnprobe, stopped):
    """F55: run.json says running; only who holds the lock does."""
    about = run_json.read(stopped) | {"status": "running"}
    (stopped / "run.json").write_text(json.dumps(about))
    (stopped / "store.h5.tmp.123").write_text("half")
    lock = locks.Lock(stopped)
    answer = cnnprobe("check", "v001")
    assert answer.status == 0
    assert answer.out.startswith("ok ")
    assert f"being written by process {os.getpid()} on host" in answer.out
    lock.release()
    answer = cnnprobe("check", "v001")
    assert answer.status == 0
    assert "it was killed; resume with: cnnprobe topk --resume" in answer.out
    assert "half written files of a process that is gone: store.h5.tmp.123" in answer.out


def test_a_run_that_stopped_before_its_first_row_is_not_damaged(cnnprobe, stopped):
    """F65: the disk was full from the start."""
    (stopped / "store.h5").unlink()
    about = {"command": "topk", "status": "failed", "error": "needs 6.4 GB for store.h5, 3.1 GB free"}
    (stopped / "run.json").write_text(json.dumps(about))
    answer = cnnprobe("check", "v001")
    assert (answer.status, answer.err) == (0, "")
    assert "stopped before its first row (needs 6.4 GB for store.h5, 3.1 GB free); made once more by: " in answer.out
    (stopped / "run.json").write_text(json.dumps(about | {"status": "complete"}))
    answer = cnnprobe("check", "v001")
    one_line(answer)
    assert "there is no store" in answer.out


def test_a_file_that_cannot_be_read_is_told(cnnprobe, out, monkeypatch):
    """A failing disk; also a name that no file can have."""

    def failing(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "sha256", failing)
    answer = cnnprobe("check", "topk/convnet-folder/v001", "n" * 5000)
    one_line(answer)
    assert "store.h5 cannot be read: Input/output error" in answer.out
    assert "cannot be looked at: File name too long" in answer.out


def test_weights_of_a_stopped_training_are_compared_with_what_is_written_beside_them(cnnprobe, out):
    folder = out / "train/convnet-folder/v001"
    about = run_json.read(folder) | {"status": "interrupted"}
    del about["files"]
    (folder / "run.json").write_text(json.dumps(about))
    answer = cnnprobe("check", str(folder))
    assert answer.status == 0
    assert "every row is there, run.json was not closed" in answer.out
    for path in (folder / "weights").iterdir():
        whole = path.read_bytes()
        flip(path, len(whole) - 3)
        answer = cnnprobe("check", str(folder))
        one_line(answer)
        assert f"weights/{path.name} does not match its checksum" in answer.out
        path.write_bytes(whole)


def test_what_run_json_and_config_yaml_say_is_compared_with_the_store(cnnprobe, out):
    folder = out / "topk/convnet-folder/v001"
    about, config = run_json.read(folder), (folder / "config.yaml").read_text()
    for change, words in (
        ({"seed": 9}, "run.json says seed 9, store.h5 0"),
        ({"command": "record"}, "run.json says command record, store.h5 topk"),
        ({"weights": {"sha256": "0" * 64}}, "run.json says weights_sha256 0000"),
        ({"dataset": None}, "run.json says dataset_fingerprint None"),
        ({"files": None}, "run.json lists no checksum of store.h5"),
        ({"status": "done"}, "run.json is missing or damaged"),
    ):
        (folder / "run.json").write_text(json.dumps(about | change))
        answer = cnnprobe("check", str(folder))
        one_line(answer)
        assert words in answer.out
    (folder / "run.json").write_text(json.dumps(about))
    for text, words in ((config.replace("k: 3", "k: 4"), "is not the one of store.h5"), (None, "is missing")):
        (folder / "config.yaml").unlink()
        if text:
            (folder / "config.yaml").write_text(text)
        answer = cnnprobe("check", str(folder))
        one_line(answer)
        assert f"config.yaml {words}" in answer.out
    (folder / "config.yaml").write_text(config.replace(f"out: {about['command']}", "out: x"))
    assert cnnprobe("check", str(folder)).status == 0


def test_a_link_that_points_at_nothing_or_at_an_old_run_is_told(cnnprobe, out):
    runs_of = out / "topk/convnet-folder"
    shutil.copytree(runs_of / "v001", runs_of / "v002")
    answer = cnnprobe("check", str(runs_of / "v002"))
    assert "latest points at v001, the newest complete run is v002; ln -sfn v002" in answer.out
    (runs_of / "latest").unlink()
    assert "latest points at nothing" in cnnprobe("check", str(runs_of / "v002")).out
    (runs_of / "latest").symlink_to("v009")
    answer = cnnprobe("check", str(runs_of / "v001"))
    assert (answer.status, "latest points at v009" in answer.out) == (0, True)


def test_one_run_that_is_not_there_does_not_hide_the_others(cnnprobe, out):
    answer = cnnprobe("check", "topk/x/v001", "topk/convnet-folder/v001")
    one_line(answer)
    assert "1 of 2 runs not in order" in answer.err
    first, second = answer.out.splitlines()
    assert first.startswith("error ") and "no run 'topk/x/v001'" in first
    assert second.startswith("ok ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs a RUN; runs in outputs: topk/a-b/v001"),
        (("v001", "k=3"), "no option 'k' in check; options: out"),
        (("v001", "--resume", "v001"), "check takes no --resume"),
        (("v001", "-m"), "check takes no --multirun"),
    ],
)
def test_what_check_does_not_take_is_told(cnnprobe, stopped, words, told):
    answer = cnnprobe("check", *words)
    one_line(answer)
    assert told in answer.err


def test_a_path_with_an_equals_sign_is_a_run(cnnprobe, stopped, tmp_path):
    (tmp_path / "a=b").mkdir()
    moved = shutil.move(stopped, tmp_path / "a=b" / "v001")
    assert cnnprobe("check", str(moved)).status == 0
    assert cnnprobe("check", "./a=b/v001").status == 0


def test_a_damaged_or_hostile_store_is_told_and_shows_nothing_of_another_file(cnnprobe, stopped, tmp_path):
    """F71, F72, F73."""
    (tmp_path / "corpus").mkdir()
    expected = hostile_stores.corpus(tmp_path / "corpus")
    for name in expected:
        (tmp_path / "corpus" / name).replace(stopped / "store.h5")
        answer = cnnprobe("check", "v001")
        one_line(answer)
        assert answer.out.startswith("error "), name
        assert "do not show" not in answer.out and "\x1b" not in answer.out
        (stopped / "store.h5").unlink()
    os.mkfifo(stopped / "store.h5")
    one_line(cnnprobe("check", "v001"))


@pytest.mark.parametrize(
    "about",
    [
        "",
        "[1]",
        "[" * 100_000,
        '{"status": ["complete"]}',
        '{"status": "complete", "files": {"../../../../x": "0", "/etc/hostname": "0", "p": "0", "\\u001b[31m": "1"}}',
        '{"status": "complete", "files": [1], "weights": 3, "dataset": [], "command": {"a": 1}, "seed": null}',
    ],
    ids=range(6),
)
def test_a_run_json_of_someone_else_is_data(cnnprobe, stopped, about):
    """F73: what it lists is looked for inside the run only."""
    os.mkfifo(stopped / "p")
    (stopped / "run.json").write_text(about)
    answer = cnnprobe("check", str(stopped))
    one_line(answer)
    assert "\x1b" not in answer.out
    if "hostname" in about:
        assert answer.out.count("lists a file outside of the run") == 2


def test_names_that_no_file_can_have_hide_nothing_behind_them(cnnprobe, stopped):
    """F102: with NUL or half a character in them, too long, or of a link to itself."""
    (stopped / "circle").symlink_to("circle")
    names = ["a\0b", "a\ud800b", "x" * 5000, "circle", "gone"]
    (stopped / "run.json").write_text(json.dumps({"status": "complete", "files": dict.fromkeys(names, "0" * 64)}))
    answer = cnnprobe("check", str(stopped))
    one_line(answer)
    assert answer.out.count("no file that can be looked at") == 4 and "gone is missing" in answer.out
    assert "\0" not in answer.out and "rows of" in answer.out


def test_figures_drawn_again_match_their_checksums(cnnprobe, out):
    """Also where a drawing library of another version had drawn other bytes."""
    folder = out / "topk/convnet-folder/v001"
    about = run_json.read(folder)
    for path in (folder / "figures").glob("*.png"):
        path.write_bytes(b"drawn by another version")
        about["files"][f"figures/{path.name}"] = files.sha256(path)
    (folder / "run.json").write_text(json.dumps(about))
    assert cnnprobe("check", str(folder)).status == 0
    assert cnnprobe("topk", "--redraw", str(folder)).status == 0
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "figures").glob("*.png"))
    assert cnnprobe("check", str(folder)).status == 0
    flip(next((folder / "figures").glob("*.png")))
    assert cnnprobe("check", str(folder)).status == 2
