"""Runs from end to end: what lies in the folder, that it can be stopped, repeated, drawn again, swept."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import yaml

import cnnprobe as package
from cnnprobe.errors import UserError
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.store import locks, run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.writer import Writer
from tests.support.described import COMMANDS

ROOT = Path(__file__).parents[2]
QUICK = {command: one.words for command, one in COMMANDS.items()}
OWN = {command: one.stimuli for command, one in COMMANDS.items() if one.stimuli}
"""Commands that make their own stimuli, and the dataset they come from."""
FIRST = ("train", "record", "lesion", "cam", "rsa", "layers")
"""Commands whose runs are looked at whole in the quick tests."""
LATER = ("topk", "rf-map", "gbp", "optimize")
"""Commands beside record that are stopped before any of their writes in the slow tests."""
TYPED = ("config", "checksum", "identity", "origin")
"""Attributes of a store that tell how a run was asked for, and the checksum of them all."""


def words(command, pictures, *more):
    images = [] if command in OWN else ["dataset=folder", f"dataset.root={pictures}"]
    return [command, "model=convnet", *images, *QUICK[command], *more]


def name_of(command):
    return f"convnet-{OWN.get(command, 'folder')}"


def contents(folder):
    """Return the store's datasets and attributes."""
    found = {}

    def note(name, item):
        found[name] = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset) and not name.endswith("crc"):
            found[name]["values"] = str(np.asarray(item[()]).tolist())  # as text, in which NaN equals NaN

    with h5py.File(folder / "store.h5") as file:
        file.visititems(note)
        found["/"] = {key: np.asarray(value).tolist() for key, value in file.attrs.items() if key not in TYPED}
    return found


@pytest.mark.parametrize(
    "command", [one if one in FIRST else pytest.param(one, marks=pytest.mark.slow) for one in QUICK]
)
def test_a_run_leaves_what_the_contract_lists_and_once_more_the_same(cnnprobe, pictures, tmp_path, command):
    answer = cnnprobe(*words(command, pictures))
    assert answer.status == 0, answer.err
    folder = tmp_path / "outputs" / command / name_of(command) / "v001"
    assert answer.out.splitlines()[-1] == str(folder.relative_to(tmp_path))
    assert {"store.h5", "figures", "run.json", "config.yaml", "run.log"} <= {path.name for path in folder.iterdir()}
    about = json.loads((folder / "run.json").read_text())
    assert about["status"] == "complete"
    listed = "command overrides started ended seconds seed device versions weights dataset peak_memory_bytes warnings"
    assert set(f"{listed} built_from headline commit".split()) <= set(about)
    assert len(about["weights"]["sha256"]) == len(about["dataset"]["fingerprint"]) == 64
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["name"] == "convnet"
    with h5py.File(folder / "store.h5") as file:
        assert {
            "format",
            "format_version",
            "command",
            "model",
            "dataset",
            "weights",
            "seed",
            "complete",
            "config",
        } <= set(file.attrs)
        assert bool(file.attrs["complete"])

        def explained(name, item):
            if isinstance(item, h5py.Dataset) and not name.startswith("saved/"):
                assert {"axes", "unit", "description"} <= set(item.attrs), name
                assert len(str(item.attrs["axes"]).split()) == item.ndim, name

        file.visititems(explained)
    assert (folder.parent / "latest").readlink() == Path("v001")
    assert list((folder / "figures").glob("*.png"))
    assert not list(folder.rglob("*.tmp.*"))
    assert cnnprobe(*words(command, pictures)).status == 0
    again = folder.parent / "v002"
    assert contents(folder) == contents(again)
    assert names(folder / "figures") == names(again / "figures")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.rendered
@pytest.mark.parametrize(
    "command", [one if one in FIRST else pytest.param(one, marks=pytest.mark.slow) for one in QUICK]
)
def test_once_more_every_pixel_of_every_figure_is_the_same(cnnprobe, pictures, tmp_path, command):
    for _ in range(2):
        assert cnnprobe(*words(command, pictures)).status == 0
    one, other = (tmp_path / "outputs" / command / name_of(command) / run / "figures" for run in ("v001", "v002"))
    assert names(one) == names(other) != []
    for name in names(one):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.rendered
def test_figures_are_drawn_again_from_the_store_alone(cnnprobe, pictures, tmp_path):
    cnnprobe(*words("topk", pictures))
    folder = tmp_path / "outputs/topk/convnet-folder/v001"
    before = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    for path in (folder / "figures").iterdir():
        path.unlink()
    answer = cnnprobe("topk", "--redraw", str(folder))
    assert answer.status == 0, answer.err
    assert {path.name: path.read_bytes() for path in (folder / "figures").iterdir()} == before


def test_a_run_is_repeated_with_its_own_options(cnnprobe, pictures, tmp_path):
    cnnprobe(*words("topk", pictures, "seed=5", "bottom=true"))
    answer = cnnprobe("topk", "--rerun", "v001", "model=convnet", "dataset=folder")
    assert answer.status == 0, answer.err
    runs = tmp_path / "outputs/topk/convnet-folder"
    assert contents(runs / "v001") == contents(runs / "v002")
    assert "is complete" in cnnprobe("topk", "--resume", str(runs / "v001")).err


def test_weights_of_the_newest_training_are_taken_by_themselves(cnnprobe, pictures, tmp_path):
    """F30."""
    warned = cnnprobe(*words("record", pictures))
    assert "RANDOM WEIGHTS" in warned.err
    cnnprobe(*words("train", pictures))
    answer = cnnprobe(*words("record", pictures))
    assert "RANDOM" not in answer.err
    recording = package.open(tmp_path / "outputs/record/convnet-folder/v002")
    assert recording.attributes["weights"] == "train/convnet-folder/v001@best"
    assert json.loads(recording["images"].attributes["classes"]) == ["disc", "stripes"]
    about = json.loads((tmp_path / "outputs/record/convnet-folder/v002/run.json").read_text())
    assert about["built_from"] == ["train/convnet-folder/v001@best"]
    assert set(about["headline"]) == {"images", "top-1"}


def test_weights_of_a_moment_of_training_are_found(cnnprobe, pictures, tmp_path):
    cnnprobe(*words("train", pictures))
    for moment in ("last", "epoch=1", "epoch=000", "update=2"):
        answer = cnnprobe(*words("record", pictures, f"weights=train/convnet-folder/v001@{moment}", "layer=conv1"))
        assert answer.status == 0, answer.err
    wrong = cnnprobe(*words("record", pictures, "weights=train/convnet-folder/v001@epoch=77"))
    assert wrong.status == 2
    assert "no weights 'epoch=77'" in wrong.err


@pytest.mark.slow
def test_all_moments_of_a_training_are_a_sweep_in_their_order(cnnprobe, pictures, tmp_path):
    cnnprobe(*words("train", pictures))
    asked = words("topk", pictures, "criterion=max", "layer=conv1", "units=0")
    run = "train/convnet-folder/v001"
    for weights in (f"{run}@*", f"{run}@epoch=2,{run}@update=1"):
        answer = cnnprobe(*asked, "-m", f"weights={weights}")
        assert answer.status == 0, answer.err
    folder = tmp_path / "outputs/topk/convnet-folder"
    used = [Recording(path / "store.h5").attributes["weights"].partition("@")[2] for path in sorted(folder.glob("v0*"))]
    every = ["epoch=000", "update=000001", "update=000002", "epoch=001", "epoch=002"]
    assert used == [*every, "epoch=002", "update=000001"]
    answer = cnnprobe(*asked, f"weights={run}@*")
    assert answer.status == 2
    assert f"topk takes one network, got weights={run}@*; a run for each: -m weights={run}@*" in answer.err


@pytest.mark.slow
def test_an_interrupted_training_learns_the_same_when_it_goes_on(cnnprobe, tmp_path):
    """F62: Bit for bit: the rows of every epoch and all weights."""
    many = [
        "train",
        "model=convnet",
        "dataset=shapes",
        "dataset.count=80",
        "batch_size=4",
        "epochs=3",
        "device.threads=1",
    ]
    process = child(tmp_path, *many, "precision=float32")
    folder = tmp_path / "outputs/train/convnet-shapes"
    wait_for(lambda: (folder / "v001/weights/epoch=001.safetensors").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "of 3 rows kept" in err
    assert cnnprobe("train", "--resume", str(folder / "v001")).status == 0
    assert cnnprobe(*many, "precision=float32").status == 0
    assert contents(folder / "v001") == contents(folder / "v002")
    for path in (folder / "v002" / "weights").glob("*=*.safetensors"):
        assert path.read_bytes() == (folder / "v001" / "weights" / path.name).read_bytes(), path.name


def test_weights_of_another_model_are_refused(cnnprobe, pictures):
    """F28."""
    cnnprobe(*words("train", pictures))
    answer = cnnprobe(
        "topk", "layer=conv1", "model=mousenet", "weights=train/convnet-folder/v001", "dataset=folder",
        f"dataset.root={pictures}",
    )  # fmt: skip
    assert answer.status == 2
    assert "has model=convnet, asked for model=mousenet" in answer.err


@pytest.mark.slow
def test_topk_of_a_record_run_equals_topk_of_the_network(cnnprobe, pictures, tmp_path):
    """Except for area: its threshold is exact there, and from a first look here."""
    cnnprobe(*words("record", pictures, "keep=maps"))
    cnnprobe(*words("topk", pictures, "bottom=true"))
    answer = cnnprobe(*words("topk", pictures, "bottom=true", "source=record/convnet-folder/v001"))
    assert answer.status == 0, answer.err
    live, stored = (Recording(tmp_path / f"outputs/topk/convnet-folder/v00{n}/store.h5") for n in (1, 2))
    for name in live.tables("units"):
        for column in ("image", "position", "dead", "picture", "image_mean", "bottom_image"):
            assert np.array_equal(live[name][column], stored[name][column], equal_nan=True), (name, column)


def test_a_source_with_other_images_is_refused(cnnprobe, pictures, tmp_path):
    """F46: A store knows what it came from; nothing is mixed."""
    cnnprobe(*words("record", pictures))
    answer = cnnprobe(*words("topk", pictures, "criterion=max", "source=record/convnet-folder/v001", "limit=5"))
    assert answer.status == 2
    assert "has 24 images, dataset=folder gives 5" in answer.err
    answer = cnnprobe(
        *words("topk", pictures, "criterion=max", "source=record/convnet-folder/v001", "seed=9", "weights=random")
    )
    assert answer.status == 2
    assert "was made with other weights" in answer.err


def test_unreadable_images_are_skipped_and_counted(cnnprobe, pictures, tmp_path):
    """F32: the others keep their index and name."""
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(pictures, broken)
    data = (broken / "disc" / "05.png").read_bytes()
    (broken / "disc" / "05.png").write_bytes(data[: len(data) // 2])
    answer = cnnprobe(*words("topk", broken, "k=24"))
    assert answer.status == 0, answer.err
    assert "1 skipped (see run.log)" in answer.out
    assert "05.png" in answer.err
    folder = tmp_path / "outputs/topk/convnet-folder/v001"
    assert json.loads((folder / "run.json").read_text())["skipped"] == ["disc/05.png"]
    recording = Recording(folder / "store.h5")
    names, skipped = recording["stimuli"]["name"], recording["stimuli"]["skipped"]
    assert names[skipped].tolist() == ["disc/05.png"]
    table = recording["units/conv1"]
    bad = int(np.flatnonzero(skipped)[0])
    assert not (table["image"] == bad).any()
    assert (np.sort(table["image"][~table["dead"]], axis=1)[:, 1:] == np.delete(np.arange(24), bad)).all()
    answer = cnnprobe(*words("record", broken, "dataset.strict=true"))
    assert answer.status == 2
    assert "05.png" in answer.err.splitlines()[-1]


def test_more_places_than_images_stay_empty(cnnprobe, pictures, tmp_path):
    """F43."""
    answer = cnnprobe(*words("topk", pictures, "limit=5", "k=9"))
    assert answer.status == 0
    assert "k is 9, but there are 5 images" in answer.err
    table = Recording(tmp_path / "outputs/topk/convnet-folder/v001/store.h5")["units/conv1"]
    living = ~table["dead"]
    assert (table["image"][living][:, 5:] == -1).all()
    assert np.isnan(table["response"][living][:, 5:]).all()
    assert (table["image"][living][:, :5] >= 0).all()


def test_a_sweep_has_a_run_per_job_and_a_table_even_when_one_fails(cnnprobe, pictures, tmp_path):
    """F15."""
    answer = cnnprobe(*words("topk", pictures, "-m", "k=1,2000,3"))
    assert answer.status == 2
    assert "2 of 3 jobs done" in answer.out
    folder = tmp_path / "outputs/topk/convnet-folder"
    assert {path.name for path in folder.iterdir()} == {"v001", "v002", "latest", "sweep-001"}
    with (folder / "sweep-001" / "runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [row["status"] for row in rows] == ["complete", "failed", "complete"]
    assert "from 1 to 1000, got 2000" in rows[1]["reason"]
    assert rows[0]["version"] == "topk/convnet-folder/v001"
    assert json.loads((folder / "v001" / "run.json").read_text())["sweep"] == "sweep-001"


def test_a_sweep_of_nothing_is_told(cnnprobe, pictures):
    """F16."""
    answer = cnnprobe(*words("topk", pictures, "-m", "k=glob(*)"))
    assert answer.status == 2
    assert "has no jobs" in answer.err


def child(tmp_path, *words, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "cnnprobe", *map(str, words)], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **more,
    )  # fmt: skip


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def leading(store):
    try:
        return Recording(store)["images"].leading
    except (UserError, OSError, KeyError):
        return 0


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_an_interrupted_run_says_how_to_go_on_and_ends_as_if_never_stopped(cnnprobe, tmp_path, number, status):
    """F62, F63: one signal; the rows are kept, and the resumed store equals an undisturbed one."""
    many = ["record", "model=convnet", "dataset=shapes", "dataset.count=160", "layer=conv1", "batch_size=4"]
    process = child(tmp_path, *many)
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    wait_for(lambda: leading(store) > 8)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "of 160 rows kept; resume with: cnnprobe record --resume" in err
    kept = leading(store)
    assert 8 < kept < 160
    assert json.loads((store.parent / "run.json").read_text())["status"] == "interrupted"
    answer = cnnprobe("record", "--resume", str(store.parent))
    assert answer.status == 0, answer.err
    assert cnnprobe(*many).status == 0
    assert contents(store.parent) == contents(store.parent.parent / "v002")


def test_two_interrupts_leave_at_once(tmp_path):
    """F62: the second Ctrl-C does not wait for the batch."""
    many = ["record", "model=convnet", "dataset=shapes", "dataset.count=600", "layer=conv1", "batch_size=4"]
    process = child(tmp_path, *many)
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    wait_for(lambda: leading(store) > 8)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert leading(store) > 8


def test_an_interrupt_ends_a_sweep(tmp_path):
    """F62: the job under way says how to go on, the next one is not begun, and the table is written."""
    many = ["record", "model=convnet", "dataset=shapes", "dataset.count=600", "layer=conv1", "batch_size=4"]
    process = child(tmp_path, *many, "-m", "seed=1,2,3")
    folder = tmp_path / "outputs/record/convnet-shapes"
    wait_for(lambda: leading(folder / "v001/store.h5") > 8)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "resume with: cnnprobe record --resume" in err
    assert "0 of 3 jobs done" in out
    assert not (folder / "v002").exists()
    with (folder / "sweep-001" / "runs.csv").open() as source:
        assert [row["status"] for row in csv.DictReader(source)] == ["interrupted", "not begun", "not begun"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(cnnprobe, tmp_path):
    """F60 for a whole command: three SIGKILLs, then the end."""
    many = ["record", "model=convnet", "dataset=shapes", "dataset.count=600", "layer=conv1", "batch_size=4"]
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    seen = 0
    for kill in range(3):
        process = child(tmp_path, *(many if kill == 0 else ["record", "--resume", store.parent]))
        wait_for(lambda seen=seen: leading(store) > seen + 20)
        process.kill()
        process.communicate()
        assert leading(store) > seen
        seen = leading(store)
    assert json.loads((store.parent / "run.json").read_text())["status"] == "running"
    assert cnnprobe("record", "--resume", str(store.parent)).status == 0
    assert cnnprobe(*many).status == 0
    assert contents(store.parent) == contents(store.parent.parent / "v002")


@pytest.mark.parametrize("command", ["record", *(pytest.param(command, marks=pytest.mark.slow) for command in LATER)])
def test_stopped_before_any_of_its_writes_a_run_ends_as_if_never_stopped(
    cnnprobe, pictures, tmp_path, monkeypatch, command
):
    """F60: Stopped again and again, each time one batch of rows further, then finished: the same store, bit for bit."""
    write, left = Writer.write, 0

    def stopping(self, rows):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return write(self, rows)

    more = ["units=[best:1,worst:2]"] if command in ("gbp", "optimize") else []
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", stopping)
        answer, stops = cnnprobe(*words(command, pictures, *more)), 0
        folder = tmp_path / "outputs" / command / "convnet-folder" / "v001"
        while answer.status == 130 and stops < 12:
            stops, left = stops + 1, stops + 1
            answer = cnnprobe(command, "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert stops >= 2
    assert cnnprobe(*words(command, pictures, *more)).status == 0
    assert contents(folder) == contents(folder.parent / "v002")


class Short(Occlusion):
    """An engine for which memory is short, and which is interrupted at one of its images."""

    began: ClassVar[list[int]] = []
    left = 10**9

    def __enter__(self):
        self.began.append(self.batch)
        return super().__enter__()

    def discrepancies(self, *given):
        Short.left -= 1
        if Short.left < 0:
            raise KeyboardInterrupt
        self.batch = min(self.batch, 7)
        return super().discrepancies(*given)


@pytest.mark.slow
@pytest.mark.parametrize("images", [*(pytest.param(images, marks=pytest.mark.slow) for images in (0, 9)), 21])
def test_an_interrupted_mapping_ends_as_if_never_stopped_and_remembers_the_batch(
    cnnprobe, pictures, tmp_path, monkeypatch, images
):
    """F54: stopped in the first layer and in the second; the resume begins with what fitted into memory."""
    monkeypatch.setattr("cnnprobe.methods.rf_map.method.Occlusion", Short)
    monkeypatch.setattr("cnnprobe.methods.rf_map.mapping.SAVED_UNITS", 2)
    monkeypatch.setattr(Short, "left", images)
    answer = cnnprobe(*words("rf-map", pictures))
    assert answer.status == 130, answer.err
    assert "resume with: cnnprobe rf-map --resume" in answer.err
    folder = tmp_path / "outputs/rf-map/convnet-folder/v001"
    begun = ["conv1", "conv3"][: (images > 0) + (images > 20)]
    kept = json.loads((folder / "run.json").read_text())["facts"].get("batch", {})
    assert [name for name, batch in kept.items() if batch == 7] == begun
    done = {name: Recording(folder / "store.h5")[f"units/{name}"].leading for name in ("conv1", "conv3")}
    assert [done["conv1"] > 0, done["conv3"] > 0] == [images > 0, images > 20]
    monkeypatch.setattr(Short, "left", 10**9)
    Short.began.clear()
    answer = cnnprobe("rf-map", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert [batch == 7 for batch in Short.began] == [name in begun for name in ("conv1", "conv3")]
    assert json.loads((folder / "run.json").read_text())["facts"] == {"batch": {"conv1": 7, "conv3": 7}}
    assert cnnprobe(*words("rf-map", pictures)).status == 0
    assert contents(folder) == contents(folder.parent / "v002")


@pytest.mark.slow
def test_a_damaged_batch_is_mapped_again(cnnprobe, pictures, tmp_path):
    """F71: A batch whose checksum does not match counts as not there."""
    assert cnnprobe(*words("rf-map", pictures)).status == 0
    folder = tmp_path / "outputs/rf-map/convnet-folder/v001"
    before = contents(folder)
    with h5py.File(folder / "store.h5", "r+") as file:
        file["units/conv3/field"][0] += 1
        file.attrs.modify("complete", np.False_)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"status": "interrupted"}))
    answer = cnnprobe("rf-map", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert contents(folder) == before


@pytest.mark.parametrize("command", ["record", pytest.param("topk", marks=pytest.mark.slow)])
def test_fields_from_a_run_that_has_looked_are_those_of_the_network(cnnprobe, pictures, tmp_path, command):
    """Whatever else that run ranked by."""
    more = ["criterion=[mean,max]"] if command == "topk" else []
    cnnprobe(*words(command, pictures, "layer=[conv1,conv3]", *more))
    cnnprobe(*words("rf-map", pictures))
    answer = cnnprobe(*words("rf-map", pictures, f"source={command}/convnet-folder/v001", "units=[3,0]"))
    assert answer.status == 0, answer.err
    live, stored = (Recording(tmp_path / f"outputs/rf-map/convnet-folder/v00{n}/store.h5") for n in (1, 2))
    for name in live.tables("units"):
        for column in ("image", "position", "dead", "response", "picture", "coverage"):
            assert np.array_equal(live[name][column][[3, 0]], stored[name][column], equal_nan=column == "response")
        np.testing.assert_allclose(live[name]["field"][[3, 0]], stored[name]["field"], rtol=1e-4, atol=1e-6)


def test_a_source_that_lacks_what_is_asked_for_is_refused(cnnprobe, pictures):
    cnnprobe(*words("topk", pictures, "criterion=mean", "units=[0,1]"))
    cnnprobe(*words("topk", pictures, "criterion=max", "units=[0,1]", "k=1"))
    asked = words("rf-map", pictures, "layer=conv1", "units=[0,1]", "source=topk/convnet-folder/v001")
    answer = cnnprobe(*asked)
    assert answer.status == 2
    assert "the source run ranked by mean, needed is criterion=max" in answer.err
    asked[-1] = "source=topk/convnet-folder/v002"
    answer = cnnprobe(*asked)
    assert answer.status == 0, answer.err
    assert "the source run has 1 images per unit of conv1, asked for 2; going on with 1" in answer.err
    assert "unit 2 of conv1 is not in the source run; it has 0, 1" in cnnprobe(*asked, "units=[0,2]").err
    assert "no layer 'conv3' in the source run" in cnnprobe(*asked, "layer=conv3").err
    assert cnnprobe(*words("record", pictures, "layer=null")).status == 0
    answer = cnnprobe(*asked[:-1], "source=record/convnet-folder/v001")
    assert answer.status == 2
    assert "the source run has recorded no layer: record … layer=… does, or leave out source=" in answer.err
    cnnprobe(*words("layers", pictures))
    answer = cnnprobe(*asked[:-1], "source=layers/convnet-folder/v001")
    assert "is a run of layers, not of topk or record" in answer.err


@pytest.mark.parametrize(("batches", "start"), [(3, 30), (8, 80), (10, 90)])
def test_a_short_table_beside_the_rows_does_not_hold_a_resume_back(tmp_path, batches, start):
    """95 images saved ten at a time, pictures of the first 64 only: on from a whole batch, wherever it was stopped."""
    from cnnprobe.runs.resuming import whole_rows
    from cnnprobe.store.tables import Column, Rows, Table
    from cnnprobe.store.writer import Writer

    one = {"x": Column("x", dtype="int64")}
    tables = [Table("images", "image", 95, one, batch=10), Table("pictures", "image", 64, one, batch=10, aside=True)]
    writer = Writer.create(tmp_path / "store.h5", tables, {})
    for table in tables:
        for first in range(0, min(batches * 10, table.rows), 10):
            writer.write(Rows(table.name, first, {"x": np.arange(first, min(first + 10, table.rows))}))
    writer.close()
    assert whole_rows(tmp_path / "store.h5") == start


def test_latest_resumes_the_run_that_was_stopped_last(cnnprobe, pictures, tmp_path):
    cnnprobe(*words("record", pictures))
    cnnprobe(*words("record", pictures))
    path = tmp_path / "outputs/record/convnet-folder/v001/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "interrupted"}))
    answer = cnnprobe("record", "--resume", "latest")
    assert answer.status == 0, answer.err
    assert answer.out.splitlines()[-1].endswith("convnet-folder/v001")


@pytest.mark.parametrize("place", ["moved", "a/b/c"])
def test_a_run_that_was_moved_goes_on_where_it_is(cnnprobe, pictures, tmp_path, place):
    """F76."""
    cnnprobe(*words("record", pictures))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "outputs/record/convnet-folder/v001").rename(tmp_path / place)
    path = tmp_path / place / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "interrupted"}))
    answer = cnnprobe("record", "--resume", place)
    assert answer.status == 0, answer.err
    assert run_json.read(tmp_path / place)["status"] == "complete"


def test_another_run_than_a_recording_is_no_source(cnnprobe, pictures):
    cnnprobe(*words("topk", pictures))
    answer = cnnprobe(*words("topk", pictures, "source=topk/convnet-folder/v001"))
    assert answer.status == 2
    assert "is a run of topk, not of record" in answer.err
    cnnprobe(*words("record", pictures))
    answer = cnnprobe(*words("topk", pictures, "source=record/convnet-folder/v001"))
    assert "criterion=area needs whole maps" in answer.err


def test_a_run_that_is_being_written_is_not_resumed_by_another(cnnprobe, tmp_path, pictures):
    """F68."""
    cnnprobe(*words("record", pictures))
    folder = tmp_path / "outputs/record/convnet-folder/v001"
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"status": "running"}))
    lock = locks.Lock(folder)
    answer = cnnprobe("record", "--resume", str(folder))
    lock.release()
    assert answer.status == 2
    assert "is being written by process" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_runs_at_the_same_instant_have_their_own_folders(tmp_path, pictures, count):
    """F68."""
    processes = [child(tmp_path, *words("layers", pictures)) for _ in range(count)]
    folders = {process.communicate(timeout=120)[0].splitlines()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0] * count
    assert folders == {f"outputs/layers/convnet-folder/v00{n + 1}" for n in range(count)}


def test_a_bug_keeps_its_traceback_and_status_1(cnnprobe, pictures, monkeypatch, tmp_path):
    from cnnprobe.methods.record import showing

    def broken(*_, **__):
        raise RuntimeError("planted")

    monkeypatch.setattr(showing, "reduced", broken)
    answer = cnnprobe(*words("record", pictures))
    assert answer.status == 1
    assert "RuntimeError: planted" in answer.err
    folder = tmp_path / "outputs/record/convnet-folder/v001"
    about = json.loads((folder / "run.json").read_text())
    assert (about["status"], about["error"]) == ("failed", "RuntimeError: planted")
    assert "planted" in (folder / "run.log").read_text()


def test_a_diverged_training_keeps_what_was_learned(cnnprobe, pictures, tmp_path):
    """F47: told at the step where the loss is lost, not when the epoch is over."""
    answer = cnnprobe(*words("train", pictures, "lr=1e30", "clip=null"))
    assert answer.status == 2
    assert re.search(r"training diverged at epoch 1, step \d+ \(loss (nan|inf)\); last good weights: ", answer.err)
    assert "try a smaller lr" in answer.err
    folder = tmp_path / "outputs/train/convnet-folder/v001"
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert (folder / "weights" / "epoch=000.safetensors").is_file()


@pytest.mark.parametrize("command", ["train", "transfer"])
def test_the_same_training_twice_gives_the_same_bytes(cnnprobe, pictures, tmp_path, command):
    """F105: how long its epochs took stands in run.json."""
    given = ["weights=train/convnet-folder/v001"] if command == "transfer" else []
    assert cnnprobe(*words("train", pictures, "epochs=2")).status == 0
    for _ in range(2):
        assert cnnprobe(*words(command, pictures, "epochs=2", *given)).status == 0
    folder = tmp_path / "outputs" / command / name_of(command)
    one, other = sorted(folder.glob("v*"))[-2:]
    assert (one / "store.h5").read_bytes() == (other / "store.h5").read_bytes()
    for path in sorted((one / "weights").glob("*.safetensors")):
        if path.name != "resume.safetensors":
            assert path.read_bytes() == (other / "weights" / path.name).read_bytes(), path.name
    epochs = json.loads((one / "run.json").read_text())["facts"]["epochs"]
    assert len(epochs) == 2 and all(epoch["seconds"] > 0 < epoch["images_per_second"] for epoch in epochs)
