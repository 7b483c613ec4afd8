"""Runs that somebody looks at, stops or tidies up while they work."""

import json
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from cnnprobe.machine import files
from cnnprobe.runs import drawing
from cnnprobe.store import run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.unfinished import Unfinished
from cnnprobe.store.writer import Writer
from tests.runs.test_execute import child, wait_for

SLOW = pytest.mark.slow

PLAIN = ("model=convnet", "weights=random", "device.workers=0", "device.threads=1")


@pytest.fixture
def broken(tmp_path):
    """Sixty images in two classes, of which three cannot be read."""
    for number in range(60):
        path = tmp_path / f"images/{'ab'[number // 30]}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if number in (1, 31, 55):
            path.write_bytes(path.read_bytes()[:200])
    return tmp_path / "images"


def heard():
    """Let SIGHUP stop a process, also where the tests themselves were begun with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def rows(folder):
    """Return how many rows of images are saved, 0 before there is a store."""
    try:
        return len(Recording(folder / "store.h5")["images"].rows)
    except Exception:
        return 0


@pytest.mark.here  # the run that is stopped is a process of its own
@pytest.mark.parametrize(
    "how",
    [pytest.param(one, marks=SLOW) for one in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)],
)
def test_what_was_left_out_before_a_stop_counts_after_it(cnnprobe, tmp_path, broken, how):
    """F100: in run.json, in the last line; SIGHUP stops as SIGTERM does (F103)."""
    words = ["record", *PLAIN, "dataset=folder", f"dataset.root={broken}", "layer=[conv1,conv2,conv3]", "batch_size=2"]
    assert cnnprobe(*words, "name=n", "out=whole").status == 0
    undisturbed = tmp_path / "whole/record/n/v001"
    whole = run_json.read(undisturbed)
    assert whole["skipped"] == ["a/01.png", "b/31.png", "b/55.png"]
    process = child(tmp_path, *words, "name=n", preexec_fn=heard)
    folder = tmp_path / "outputs/record/n/v001"
    wait_for(lambda: rows(folder) >= 8 or process.poll() is not None)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was faster than the signal")
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}.get(how, 143), err
    assert "a/01.png" in run_json.read(folder)["skipped"]
    answer = cnnprobe("record", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert "; 3 skipped (see run.log)" in answer.out
    about = run_json.read(folder)
    assert about["skipped"] == whole["skipped"]
    assert [line for line in about["warnings"] if "killed" not in line] == whole["warnings"]
    assert (folder / "store.h5").read_bytes() == (undisturbed / "store.h5").read_bytes()


@pytest.mark.parametrize(
    "where", [(Writer, "write"), (Writer, "finish"), (Unfinished, "clear"), (drawing, "draw")], ids=lambda pair: pair[1]
)
def test_a_run_whose_folder_is_deleted_writes_nothing_into_the_next_one_of_that_name(
    cnnprobe, tmp_path, broken, monkeypatch, where
):
    """F104: the number is free again, and a second run takes it while the first is still at work."""
    folder, act = tmp_path / "outputs/record/n/v001", getattr(*where)

    def replaced(*given):
        if not (folder / "mine").exists():
            shutil.rmtree(folder)
            for name in (".lock", "store.h5", "run.json", "run.log", "mine", "unfinished/part.npz"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("of the second")
        return act(*given)

    monkeypatch.setattr(*where, replaced)
    answer = cnnprobe("record", *PLAIN, "dataset=folder", f"dataset.root={broken}", "layer=conv1", "name=n")
    assert answer.status == 2
    assert "v001 was deleted, moved or replaced while it was being written; nothing more is written there" in answer.err
    found = {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}
    names = {".lock", "store.h5", "run.json", "run.log", "mine", "part.npz"}
    assert found == dict.fromkeys(names, "of the second")


@pytest.mark.slow
def test_a_run_begun_with_nohup_outlives_its_terminal(tmp_path):
    """F103."""

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = child(
        tmp_path, "record", *PLAIN, "dataset=avatar", "limit=200", "layer=conv1", "name=n", preexec_fn=ignore
    )
    wait_for(lambda: (tmp_path / "outputs/record/n/v001/store.h5").exists() or process.poll() is not None)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_whoever_holds_the_store_open_does_not_end_the_run(tmp_path):
    """F104: a notebook that looks at what is there so far, with HDF5's lock."""
    words = ["record", *PLAIN, "dataset=avatar", "limit=300", "layer=conv1", "batch_size=4", "name=n"]
    process = child(tmp_path, *words)
    folder = tmp_path / "outputs/record/n/v001"
    wait_for(lambda: (folder / "store.h5").exists() or process.poll() is not None)
    with h5py.File(folder / "store.h5", "r", locking=True):
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert run_json.read(folder)["status"] == "complete"
    assert Recording(folder / "store.h5").complete


def test_figures_that_are_taken_away_while_they_are_drawn_are_told(cnnprobe, tmp_path, monkeypatch):
    """F104: the end of a run takes those away that were drawn while it worked."""
    words = ["record", *PLAIN, "dataset=avatar", "limit=8", "layer=conv1", "name=n"]
    assert cnnprobe(*words).status == 0
    folder = tmp_path / "outputs/record/n/v001"
    with h5py.File(folder / "store.h5", "r+") as store:
        store.attrs.modify("complete", np.False_)
    written = files.write

    def swept(path: Path, data: bytes) -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        written(path, data)

    monkeypatch.setattr(drawing.files, "write", swept)
    answer = cnnprobe("record", "--redraw", str(folder))
    assert answer.status == 2, answer.err
    assert answer.err.count("\n") == 1
    assert "was changed while it was drawn" in answer.err and "draw it again" in answer.err


def test_names_of_any_length_have_files(tmp_path):
    """F104: told apart by their ends too; what is short stays as it is."""
    assert files.named(tmp_path, "conv1", ".png").name == "conv1.png"
    long = [f"{'é' * 200}{end}" for end in ("a", "b")]
    paths = [files.named(tmp_path, name, ".nii.gz") for name in long]
    assert len(set(paths)) == 2
    for path in paths:
        files.write(path, b"x")
        assert path.read_bytes() == b"x"


@pytest.mark.parametrize("how", ["--rerun", "--resume"])
def test_a_strangers_run_fetches_nothing(cnnprobe, tmp_path, how):
    """F102: no folder is made and no address is asked, unless the command line says so."""
    words = ["record", *PLAIN, "dataset=avatar", "limit=8", "layer=conv1", "name=n"]
    assert cnnprobe(*words).status == 0
    folder, victim = tmp_path / "outputs/record/n/v001", tmp_path / "home/not-asked-for"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dataset"] = {"name": "cifar10", "root": str(victim), "download": True, "split": "test", "size": None}
    config["dataset"] |= {"resize": None, "strict": False, "labels": None, "classes": None}
    (folder / "run.json").write_text(json.dumps(run_json.as_written(folder) | {"status": "interrupted"}))
    answer = cnnprobe("record", "model=convnet", "dataset=cifar10", "layer=conv1", "--cfg", "job")
    config["dataset"] = yaml.safe_load(answer.out)["dataset"] | {"root": str(victim), "download": True}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    answer = cnnprobe("record", how, str(folder))
    assert answer.status == 2
    assert f"this would download cifar10 into {victim} where it is not there; if you want that, add " in answer.err
    assert not victim.exists()


def test_a_strangers_run_fetches_no_weights(cnnprobe, tmp_path, monkeypatch):
    """F102."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    words = ["record", "model=squeezenet", "weights=random", "dataset=avatar", "limit=4", "layer=conv1", "name=n"]
    assert cnnprobe(*words).status == 0
    folder = tmp_path / "outputs/record/n/v001"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"weights": "published"}))
    answer = cnnprobe("record", "--rerun", str(folder))
    assert answer.status == 2
    assert "this would fetch published weights of squeezenet; if you want that, add weights=published" in answer.err
    assert not (tmp_path / "empty").exists()
