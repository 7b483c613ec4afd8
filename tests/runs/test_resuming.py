"""Going on with a run that was stopped or killed, and looking at one that is not complete."""

import json
import multiprocessing
import os
import re
import shutil
import signal

import h5py
import numpy as np
import pytest
import torch
import yaml

import cnnprobe as package
from cnnprobe.datasets.base.image_files import FolderSet
from cnnprobe.errors import UserError
from cnnprobe.machine import files, provenance
from cnnprobe.plots import style
from cnnprobe.runs import drawing, prepare, under_way
from cnnprobe.store import folders, locks, run_json
from cnnprobe.store.writer import Writer
from tests.runs.test_execute import contents, words
from tests.support.faults import hostile_stores

RUN = "outputs/record/convnet-folder/v001"
ASKED = ["layer=conv1", "batch_size=2", "limit=first:12", "weights=random", "device.workers=0"]


def stopped(cnnprobe, pictures, tmp_path, monkeypatch, asked=ASKED, batches=4, status="interrupted"):
    """Leave a run of record behind that was stopped after some batches of rows."""
    write, left = Writer.write, batches

    def stopping(self, rows):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return write(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", stopping)
        assert cnnprobe(*words("record", pictures, *asked)).status == 130
    folder = max((tmp_path / RUN).parent.glob("v*"))
    change(folder, status=status)
    return folder


def change(folder, **values):
    (folder / "run.json").write_text(json.dumps(run_json.read(folder) | values))


def one_line(answer):
    lines = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert answer.status == 2, answer.err
    assert len(lines) == 1, answer.err
    assert "Traceback" not in answer.err
    return lines[0]


def test_a_killed_run_says_so_and_how_much_is_there_and_tidies_up(cnnprobe, pictures, tmp_path, monkeypatch):
    """F55, F60, F61: run.json says running, nobody holds the lock, a half written file lies about."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch, status="running")
    kept = run_json.read(folder)["kept"]
    assert kept.endswith("of 12 rows kept") and not kept.startswith(("0 ", "12 "))
    left = [folder / "run.json.tmp.99", folder / "figures/x.png.tmp.7", folder.parent / ".latest.tmp.5"]
    (folder / "figures").mkdir(exist_ok=True)
    for path in left:
        path.write_text("half")
    answer = cnnprobe("record", "--resume", "v001", "model=convnet", "dataset=folder")
    assert answer.status == 0, answer.err
    assert "v001 was killed" in answer.err
    assert f"resuming v001: {kept}" in answer.err
    assert not [path for path in left if path.exists()]
    assert cnnprobe(*words("record", pictures, *ASKED)).status == 0
    assert contents(folder) == contents(folder.parent / "v002")


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (None, "damaged;"),
        ("{", "damaged;"),
        ('{"status": "interrupted", "facts": 3}', "damaged (facts);"),
        ('{"status": "interrupted", "skipped": [3]}', "damaged (skipped);"),
    ],
)
def test_rows_of_which_nobody_knows_what_was_left_out_are_not_gone_on_with(
    cnnprobe, pictures, tmp_path, monkeypatch, left, told
):
    """F100: what was found out, skipped and warned of before the stop was forgotten without a word."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    (folder / "run.json").unlink()
    if left is not None:
        (folder / "run.json").write_text(left)
    line = one_line(cnnprobe("record", "--resume", str(folder)))
    assert f"v001 cannot go on: its run.json is missing or {told} put it back from a copy, or begin a new run" in line


def test_a_run_that_was_interrupted_in_peace_was_not_killed(cnnprobe, pictures, tmp_path, monkeypatch):
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    answer = cnnprobe("record", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert "killed" not in answer.err
    assert "circumstances" not in answer.err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"threads": 77}, ", was 77)"),
        ({"versions": {"torch": "1.0"}}, ", was 1.0"),
        ({"device": "cuda"}, "was cuda"),
        ({"environment": {"MKL_CBWR": "AVX2"}}, "(MKL_CBWR not set, was AVX2); bits of its new rows may differ"),
        ({"code": "0" * 64}, ", was 000000000000); its new rows may differ"),
    ],
)
def test_other_versions_and_threads_are_warned_of(cnnprobe, pictures, tmp_path, monkeypatch, changed, told):
    """F70: the bits of the new rows may differ."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    change(folder, **changed)
    answer = cnnprobe("record", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert "v001 goes on with other circumstances" in answer.err
    assert told in answer.err
    assert any(told in line for line in run_json.read(folder)["warnings"])


@pytest.mark.slow
def test_every_commit_that_wrote_rows_is_named(cnnprobe, pictures, tmp_path, monkeypatch):
    """F70: the last one alone would be said of rows that it has not written."""
    monkeypatch.setattr(provenance, "commit", lambda: "first")
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    for commit in ("second", "second", "third"):
        change(folder, status="interrupted")
        monkeypatch.setattr(provenance, "commit", lambda said=commit: said)
        assert cnnprobe("record", "--resume", str(folder)).status == 0
    about = run_json.read(folder)
    assert about["commits"] == ["first", "second", "third"]
    assert about["commit"] == "third"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["device.workers=1"], None),
        pytest.param(["device=cpu"], None, marks=pytest.mark.slow),
        pytest.param(["device.threads=3"], "threads 3, was 1", marks=pytest.mark.slow),
        (["device=cpu", "device.threads=3"], "threads 3, was 1"),
    ],
)
def test_a_run_goes_on_with_other_threads_and_loaders_where_that_is_asked(
    cnnprobe, pictures, tmp_path, monkeypatch, asked, told
):
    """F70: what a run is computed with is no part of what it is."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch, [*ASKED, "device.threads=1"])
    before = yaml.safe_load((folder / "config.yaml").read_text())["device"]
    threads = torch.get_num_threads()
    try:
        answer = cnnprobe("record", "--resume", str(folder), *asked)
        assert answer.status == 0, answer.err
        assert ("goes on with other circumstances" in answer.err) == bool(told) == ((told or "?") in answer.err)
        assert yaml.safe_load((folder / "config.yaml").read_text())["device"] == before
        assert run_json.read(folder)["threads"] == torch.get_num_threads()
        assert cnnprobe("record", "--rerun", str(folder), *asked).status == 0
        again = yaml.safe_load((folder.parent / "v002/config.yaml").read_text())["device"]
        assert again["threads"] == (3 if told else None if asked == ["device=cpu"] else 1)
    finally:
        torch.set_num_threads(threads)


def test_a_run_whose_loader_was_killed_goes_on_without_one(cnnprobe, pictures, tmp_path, monkeypatch):
    """F58: its rows are kept, and the line that it ends with is the one to type next."""
    load = FolderSet.load

    def dying(self, indices):
        if 8 in indices and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return load(self, indices)

    asked = [*(word for word in ASKED if "workers" not in word), "device.workers=1"]
    with monkeypatch.context() as patch:
        patch.setattr(FolderSet, "load", dying)
        told = one_line(cnnprobe(*words("record", pictures, *asked)))
    assert re.search(r"a loader process was killed \(memory\?\); (\d+ of 12|no) rows kept; resume with: ", told)
    again = told.split("resume with: cnnprobe ")[1].split()
    assert again[-1] == "device.workers=0"
    assert cnnprobe(*again).status == 0
    assert cnnprobe(*words("record", pictures, *asked)).status == 0
    assert contents(tmp_path / RUN) == contents(tmp_path / RUN.replace("v001", "v002"))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("seed", 5, "its seed was 0, now 5"),
        ("limit", 10, "dataset changed since v001 (10 images, was 12)"),
        ("batch_size", 3, "its config was 'batch_size: 2', now 'batch_size: 3'"),
    ],
)
def test_other_options_are_refused_with_the_first_difference(
    cnnprobe, pictures, tmp_path, monkeypatch, key, value, told
):
    """F70: config.yaml was edited; the rows that are there stay."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    before = (folder / "store.h5").read_bytes()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert key in config
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {key: value}, sort_keys=False))
    line = one_line(cnnprobe("record", "--resume", str(folder)))
    assert told in line
    assert len(line) < 300
    assert (folder / "store.h5").read_bytes() == before


def test_other_weights_are_refused(cnnprobe, pictures, tmp_path, monkeypatch):
    """F70: the file the run was begun with has other values now."""
    from cnnprobe.preparation import weights

    assert cnnprobe(*words("train", pictures)).status == 0
    path = tmp_path / "mine.safetensors"  # of a run they would be refused before
    shutil.copy(tmp_path / "outputs/train/convnet-folder/v001/weights/best.safetensors", path)
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch, [*ASKED[:3], f"weights={path}"])
    before = (folder / "store.h5").read_bytes()
    values = {name: value + 1 for name, value in weights.read(path).items()}
    weights.save(path, values, weights.about(path))
    assert "its weights_sha256 was" in one_line(cnnprobe("record", "--resume", str(folder)))
    assert (folder / "store.h5").read_bytes() == before


def test_a_store_of_the_future_is_not_gone_on_with(cnnprobe, pictures, tmp_path, monkeypatch):
    """F70, F72: the format changed."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    with h5py.File(folder / "store.h5", "r+") as file:
        file.attrs.modify("format_version", np.int64(99))
    before = (folder / "store.h5").read_bytes()
    assert "format" in one_line(cnnprobe("record", "--resume", str(folder)))
    assert (folder / "store.h5").read_bytes() == before


def test_what_is_not_complete_shows_its_rows_alone(cnnprobe, pictures, tmp_path, monkeypatch):
    """F69: opened after every batch while it is written, every row that is shown is right."""
    assert cnnprobe(*words("record", pictures, *ASKED, "out=whole")).status == 0
    whole = package.open(tmp_path / "whole/record/convnet-folder/v001")["images"]
    write, seen = Writer.write, []

    def watched(self, rows):
        write(self, rows)
        table = package.open(self.path)["images"]
        seen.append(len(table.rows))
        for column in table:
            assert np.array_equal(table[column], whole[column][table.rows], equal_nan=table[column].dtype.kind == "f")
        assert not table.recording.complete

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", watched)
        assert cnnprobe(*words("record", pictures, *ASKED)).status == 0
    assert sorted(set(seen)) == [0, 2, 4, 6, 8, 10, 12]


def test_figures_of_what_is_not_complete_say_of_how_many_rows_they_are(cnnprobe, pictures, tmp_path, monkeypatch):
    """F69: they stand apart from those of a complete run, which take their place at the end."""
    png, titles = style.png, []
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch, batches=1)
    line = one_line(cnnprobe("record", "--redraw", str(folder)))
    again = f"resume with: cnnprobe record --resume {folder}"
    assert f"{folder} is not complete, 0 of 12 rows: nothing to draw yet; {again}" in line
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch, batches=9)
    with monkeypatch.context() as patch:
        patch.setattr(style, "png", lambda made: titles.append(made.get_suptitle()) or png(made))
        answer = cnnprobe("record", "--redraw", str(folder))
    assert answer.status == 0, answer.err
    rows, again = run_json.read(folder)["kept"].removesuffix(" kept"), again.replace("v001", "v002")
    assert rows == "4 of 12 rows"
    assert answer.out == f"1 figure drawn: {folder}/figures/so-far; {folder} is not complete, {rows}; {again}\n"
    first, own = titles[0].split("\n", 1)
    assert (first, own[:22]) == ("not complete: 4 of 12 rows", "folder: first 4 images")
    assert [path.name for path in folder.rglob("*.png")] == ["images.png"]
    assert run_json.read(folder)["status"] == "interrupted"
    assert cnnprobe("record", "--resume", str(folder)).status == 0
    assert [str(path.relative_to(folder)) for path in folder.rglob("*.png")] == ["figures/images.png"]
    assert not (folder / "figures" / "so-far").exists()


def test_figures_of_a_run_under_way_are_drawn_beside_it(cnnprobe, pictures, tmp_path, monkeypatch):
    """F69: drawn after every batch while it is written; it goes on, and is not told to be resumed."""
    write, count = Writer.write, 0

    def watched(self, rows):
        nonlocal count
        write(self, rows)
        drawn = drawing.draw_so_far(self.path.parent)
        assert drawn == (int(bool(self.done["images"].any())), self.kept().removesuffix(" kept"))
        count += drawn[0]
        assert locks.holder(self.path.parent)

    monkeypatch.setattr(Writer, "write", watched)
    assert cnnprobe(*words("record", pictures, *ASKED[:2], "limit=6", *ASKED[3:])).status == 0
    assert count >= 5


def refused(*_):
    raise KeyboardInterrupt


def test_interrupted_before_its_first_row_a_run_leaves_no_folder_and_no_lock(cnnprobe, pictures, tmp_path, monkeypatch):
    """F62: a new one as if it had not been, one that goes on as it was."""
    asked = words("record", pictures, *ASKED)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", refused)
        answer = cnnprobe(*asked)
        assert answer.status == 130
        assert "Traceback" not in answer.err
    assert not list((tmp_path / RUN).parent.glob("v*"))
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    assert folder.name == "v001"
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", refused)
        assert cnnprobe("record", "--resume", str(folder)).status == 130
    answer = cnnprobe("record", "--resume", str(folder))
    assert answer.status == 0, answer.err


def test_a_run_that_is_refused_removes_no_folder_but_its_own(cnnprobe, pictures, tmp_path, monkeypatch):
    """F104: its name may be that of another run by then."""
    asked = words("record", pictures, *ASKED)
    first = (tmp_path / RUN).parent / "v001"

    def replaced(*_):
        first.rename(tmp_path / "moved")
        first.mkdir()
        (first / "store.h5").write_text("of another run")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", replaced)
        assert cnnprobe(*asked).status == 130
    assert (first / "store.h5").read_text() == "of another run"
    (tmp_path / "moved").rename(tmp_path / "away")

    def held(folder):
        (folder / "store.h5").write_text("of another run")
        raise UserError(f"{folder.name} is being written by another process")

    with monkeypatch.context() as patch:
        patch.setattr(locks, "Lock", held)
        assert cnnprobe(*asked).status == 2
    assert (first.parent / "v002/store.h5").read_text() == "of another run"


def test_a_refused_resume_does_not_keep_the_lock(cnnprobe, pictures, tmp_path, monkeypatch):
    """F68, F70."""
    folder = stopped(cnnprobe, pictures, tmp_path, monkeypatch)
    before = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(before.replace("limit: first:12", "limit: first:10"))
    assert "dataset changed" in one_line(cnnprobe("record", "--resume", str(folder)))
    assert locks.holder(folder) is None
    (folder / "config.yaml").write_text(before)
    assert cnnprobe("record", "--resume", str(folder)).status == 0


def test_maps_whose_pictures_are_missing_are_made_again(cnnprobe, pictures, tmp_path, monkeypatch):
    """F60: a run of cam that is stopped between the two tables of a batch."""
    write = Writer.write

    def stopping(self, rows):
        if (rows.table, rows.start) == ("pictures", 8):
            raise KeyboardInterrupt
        write(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", stopping)
        assert cnnprobe(*words("cam", pictures)).status == 130
    folder = tmp_path / "outputs/cam/convnet-folder/v001"
    answer = cnnprobe("cam", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert cnnprobe(*words("cam", pictures)).status == 0
    assert contents(folder) == contents(folder.parent / "v002")


class Backwards(prepare.datetime):
    """A clock that goes back a year whenever it is asked."""

    asked = 0

    @classmethod
    def now(cls, zone=None):
        cls.asked += 1
        return prepare.datetime.__base__.now(zone).replace(year=2026 - cls.asked)


def test_a_clock_that_goes_back_changes_neither_numbers_nor_durations(cnnprobe, pictures, tmp_path, monkeypatch):
    """F74: the newest run is the one with the largest number, and a run takes no negative time."""
    monkeypatch.setattr(prepare, "datetime", Backwards)
    monkeypatch.setattr(under_way, "datetime", Backwards)
    for _ in range(2):
        assert cnnprobe(*words("train", pictures, "epochs=1")).status == 0
    folder = tmp_path / "outputs/train/convnet-folder"
    first, second = (run_json.read(folder / name) for name in ("v001", "v002"))
    assert first["started"] > first["ended"] > second["started"] > second["ended"]
    assert min(first["seconds"], second["seconds"]) > 0
    assert (folder / "latest").readlink().name == "v002"
    assert cnnprobe(*words("record", pictures)).status == 0
    assert package.open(tmp_path / RUN).attributes["weights"] == "train/convnet-folder/v002@best"
    for name in ("v001", "v002"):
        change(folder / name, status="interrupted")
    assert folders.unfinished("outputs", "train").name == "v002"


def test_a_store_of_something_else_is_told_where_it_is_drawn(cnnprobe, pictures, tmp_path):
    """F72: whole and ours by its form, but not what the command writes."""
    assert cnnprobe(*words("topk", pictures, "layer=conv1", "limit=4", "weights=random")).status == 0
    folder = tmp_path / "outputs/topk/convnet-folder/v001"
    (tmp_path / "bad").mkdir()
    hostile_stores.corpus(tmp_path / "bad")
    for path in sorted((tmp_path / "bad").glob("*.h5")):
        (folder / "store.h5").unlink()
        shutil.copy(path, folder / "store.h5", follow_symlinks=False)
        assert "store.h5" in one_line(cnnprobe("topk", "--redraw", str(folder))), path.name


def test_an_error_in_drawing_what_is_not_as_its_run_left_it_is_not_ours(cnnprobe, pictures, tmp_path, monkeypatch):
    """F72."""
    assert cnnprobe(*words("topk", pictures, "layer=conv1", "limit=4", "weights=random")).status == 0
    change(tmp_path / "outputs/topk/convnet-folder/v001", files={"store.h5": "0" * 64})

    def missing(recording):
        raise KeyError("conv1")

    monkeypatch.setattr("cnnprobe.methods.topk.draw", missing)
    told = one_line(cnnprobe("topk", "--redraw", "v001", "dataset=folder"))
    assert "store.h5 does not hold what topk writes (KeyError: 'conv1')" in told


def test_an_error_of_ours_in_drawing_stays_one(cnnprobe, pictures, tmp_path, monkeypatch):
    assert cnnprobe(*words("topk", pictures, "layer=conv1", "limit=4", "weights=random")).status == 0

    def wrong(recording):
        raise KeyError("our own mistake")

    monkeypatch.setattr("cnnprobe.methods.topk.draw", wrong)
    answer = cnnprobe("topk", "--redraw", "v001", "dataset=folder")
    assert answer.status == 1
    assert "our own mistake" in answer.err and "Traceback" in answer.err
