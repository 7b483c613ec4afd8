"""The table of a sweep, and the run of each of its jobs."""

import json
import os

import pytest

from cnnprobe.errors import UserError
from cnnprobe.runs import drawing, execute, sweep, sweep_job, sweep_table
from cnnprobe.runs.sweep import LETTERS, WORDS, jobs_of
from tests.runs.test_sweep_job import note


def test_the_table_of_a_sweep_follows_a_job_that_was_gone_on_with(tmp_path):
    """F103: and no run that is another one, or lies elsewhere."""
    sweep_folder, run_folder = tmp_path / "record/n/sweep-001", tmp_path / "record/n/v001"
    (sweep_folder / "jobs").mkdir(parents=True)
    run_folder.mkdir()
    line = {"job": 0, "overrides": ["k=2"], "status": "interrupted", "version": "record/n/v001", "reason": "go on"}
    (sweep_folder / "jobs/0.json").write_text(json.dumps(line))
    found = []
    about = {"status": "complete", "sweep": "sweep-001", "overrides": ["k=2"], "headline": {"images": 3}}
    for change in ({}, {"status": "interrupted"}, {"sweep": "sweep-002"}, {"overrides": ["k=3"]}):
        (run_folder / "run.json").write_text(json.dumps(about | change))
        found.append([(one["status"], one["reason"], one["headline"]) for one in sweep_table.lines_of(sweep_folder)])
    (run_folder / "run.json").write_text(json.dumps(about))
    run_folder.rename(tmp_path / "elsewhere")
    run_folder.symlink_to(tmp_path / "elsewhere")
    found.append([(one["status"], one["reason"], one["headline"]) for one in sweep_table.lines_of(sweep_folder)])
    assert found == [[("complete", "", {"images": 3})], *[[("interrupted", "go on", {})]] * 4]


def test_a_job_that_is_gone_on_with_is_still_of_its_sweep(cnnprobe, tmp_path):
    """F103."""
    words = ["record", "-m", "model=convnet", "weights=random", "dataset=avatar", "limit=4", "layer=conv1", "seed=0,1"]
    assert cnnprobe(*words, "name=n", "device.workers=0").status == 0
    place = tmp_path / "outputs/record/n"
    about = json.loads((place / "v002/run.json").read_text())
    (place / "v002/run.json").write_text(json.dumps(about | {"status": "interrupted"}))
    line = json.loads((place / "sweep-001/jobs/1.json").read_text())
    (place / "sweep-001/jobs/1.json").write_text(json.dumps(line | {"status": "interrupted", "headline": {}}))
    assert "1 of 2 jobs complete" in cnnprobe("status", str(place / "sweep-001")).out
    assert cnnprobe("record", "--resume", str(place / "v002")).status == 0
    assert "2 of 2 jobs complete" in cnnprobe("status", str(place / "sweep-001")).out


def test_a_run_that_failed_is_still_of_its_sweep(cnnprobe, tmp_path, monkeypatch):
    """F103: and a job that made no run takes none of another one of the same words."""
    draw, prepare, begun = drawing.draw, execute.prepare, []

    def drawn(folder):
        if folder.name == "v002":
            raise RuntimeError("planted")
        draw(folder)

    def prepared(*given):
        begun.append(1)
        if len(begun) == 3:
            raise UserError("planted")
        return prepare(*given)

    monkeypatch.setattr(drawing, "draw", drawn)
    monkeypatch.setattr(execute, "prepare", prepared)
    words = ["record", "-m", "model=convnet", "weights=random", "dataset=avatar", "limit=4", "name=n"]
    assert cnnprobe(*words, "device.workers=0", "layer=conv1,conv2,conv1,conv3").status == 1
    monkeypatch.setattr(drawing, "draw", draw)
    folder = tmp_path / "outputs/record/n/sweep-001"
    runs = [f"record/n/v00{number}" for number in (1, 2, 3)]
    found = [(one["status"], one["version"]) for one in sweep_table.lines_of(folder)]
    assert found == [("complete", runs[0]), ("failed", runs[1]), ("failed", ""), ("complete", runs[2])]
    assert cnnprobe("record", "--resume", runs[1]).status == 0
    assert "3 of 4 jobs complete" in cnnprobe("status", str(folder)).out
    found = [(one["status"], one["version"]) for one in sweep_table.lines_of(folder)]
    assert found == [("complete", runs[0]), ("complete", runs[1]), ("failed", ""), ("complete", runs[2])]


@pytest.mark.parametrize("how", ["from elsewhere", "moved", "linked", "gone on with"])
def test_the_run_of_a_killed_job_is_found_beside_its_sweep(tmp_path, monkeypatch, how):
    """F103: wherever the tree lies now, and whoever asks from where."""
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    place = tmp_path / "here/outputs/record"
    if how == "linked":
        (tmp_path / "large").mkdir()
        place.parent.mkdir()
        place.symlink_to(tmp_path / "large")
    (place / "n/sweep-001/jobs").mkdir(parents=True)
    (place / "n/v001").mkdir()
    about = {"command": "record", "sweep": "sweep-001", "process": gone, "overrides": ["k=0"], "status": "running"}
    about |= {"process": 1, "resumed": 1} if how == "gone on with" else {}
    (place / "n/v001/run.json").write_text(json.dumps(about))
    note(place / "n/sweep-001", 0, gone, out="outputs", command="record")
    if how == "from elsewhere":
        monkeypatch.chdir(tmp_path)
    if how == "moved":
        place.parent.rename(tmp_path / "moved")
        place = tmp_path / "moved/record"
    sweep_job.settle(place / "n/sweep-001", [["k=0"]])
    found = [sweep_table.lines_of(place / "n/sweep-001")[0]]
    (place / "n/v001/run.json").write_text(json.dumps(about | {"status": "complete"}))
    found.append(sweep_table.lines_of(place / "n/sweep-001")[0])
    assert [(one["status"], one["version"]) for one in found] == [
        (state, "record/n/v001") for state in ("killed", "complete")
    ]
    assert f"resume with: cnnprobe record --resume {place / 'n/v001'}" in found[0]["reason"]


def lines(folder, *sizes: int) -> None:
    """Write a line and a note for each job, of so many letters."""
    (folder / "jobs").mkdir()
    for number, size in enumerate(sizes):
        line = {"job": number, "status": "complete", "overrides": [], "reason": ""}
        note = {"process": 1, "out": "", "command": "layers", "overrides": []}
        for kind, about in ((".json", line), (".begun", note)):
            text = json.dumps(about)
            (folder / "jobs" / f"{number}{kind}").write_text(text + " " * (size - len(text)))


def test_lines_are_read_up_to_a_limit(tmp_path, monkeypatch):
    """F102: a few bytes of a line take fifty times as many in memory. One that is too long hides no other."""
    monkeypatch.setattr(sweep_table, "TOGETHER", 2 * sweep_table.LARGEST + 500)
    lines(tmp_path, 200, sweep_table.LARGEST + 1, 200, sweep_table.LARGEST, sweep_table.LARGEST, 200)
    assert [line["job"] for line in sweep_table.lines_of(tmp_path)] == [0, 2, 3, 4]
    assert list(sweep_table.notes_of(tmp_path)) == [0, 2, 3, 4]


def test_lines_of_ten_thousand_jobs_are_read(tmp_path):
    """As long as each has no more than three thousand letters."""
    assert sweep_table.TOGETHER > 10_000 * 3000
    assert LETTERS >= 10_000 * 1500 and WORDS >= 10_000 * 400


def test_so_many_letters_of_jobs_are_written_down(tmp_path, monkeypatch):
    """F102: a file of 250 kB stands for ten thousand jobs, each with a word of 200 kB."""
    for word, count, found in (("b", 100, 10_000), ("b" * 200_000, 100, 0), ("b" * 100_000, 12, 144)):
        values = ",".join(map(str, range(count)))
        task = [f"seed={values}", f"method.top={values}", f"layer={word}"]
        (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": {"overrides": {"task": task}}}))
        jobs = jobs_of(tmp_path)
        assert len(jobs) == found and all(job[2] == f"layer={word}" for job in jobs)
    task = [f"seed={','.join(map(str, range(3000)))}", *[f"++a{number}=1" for number in range(2000)]]
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": {"overrides": {"task": task}}}))
    monkeypatch.setattr(sweep.BasicSweeper, "split_arguments", lambda *_: pytest.fail("takes 50 MB"))
    assert jobs_of(tmp_path) == []
