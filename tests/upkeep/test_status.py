"""`cnnprobe status`: how far runs and sweeps are."""

import csv
import json
import os
import signal

import pytest

from cnnprobe.runs import sweep_table
from cnnprobe.store import locks
from tests.runs.test_execute import child, wait_for
from tests.support.files.stores import filled


def heard():
    """Let SIGHUP stop a process, also where the tests themselves were begun with nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def made(folder, status, only=(0, 4)):
    folder.mkdir(parents=True)
    filled(folder / "store.h5", only=list(only)).close()
    (folder / "run.json").write_text(json.dumps({"command": folder.parents[1].name, "status": status}))
    return folder


def test_runs_that_are_not_complete_are_named_with_how_to_go_on(cnnprobe, tmp_path):
    out = tmp_path / "outputs"
    stopped, killed, held = (
        made(out / f"topk/a-b/v00{n}", s) for n, s in ((1, "interrupted"), (2, "running"), (3, "running"))
    )
    made(out / "rsa/a-b/v001", "complete")
    (out / "topk/a-b/v004").mkdir()
    with locks.Lock(held):
        answer = cnnprobe("status")
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert (
        "interrupted; " in lines[0]
        and f"resume with: cnnprobe topk --resume {stopped.relative_to(tmp_path)}" in lines[0]
    )
    assert "was killed; " in lines[1] and str(killed.relative_to(tmp_path)) in lines[1]
    assert f"being written by process {os.getpid()}" in lines[2]
    assert "run.json is missing or damaged; no rows" in lines[3]
    assert lines[4].endswith("1 of 5 runs complete")
    assert "complete; " in cnnprobe("status", "rsa/a-b/v001").out
    assert cnnprobe("status", "rsa/a-b/v009").status == 2


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_the_table_of_a_sweep_whose_process_is_gone(cnnprobe, tmp_path, how):
    """F103: it is there as far as it was known, and `status` settles the rest."""
    words = [
        "record",
        "-m",
        "model=convnet",
        "dataset=avatar",
        "weights=random",
        "seed=0,1,2",
        "limit=600",
        "layer=conv1",
    ]
    process = child(tmp_path, *words, "batch_size=4", "name=k", "device.threads=1", preexec_fn=heard)
    place = tmp_path / "outputs/record/k"
    wait_for(lambda: list(place.glob("v*/store.h5")) or process.poll() is not None)
    process.send_signal(how)
    process.communicate(timeout=60)
    sweep = place / "sweep-001"
    assert (sweep / sweep_table.NAME).exists()
    answer = cnnprobe("status", str(sweep))
    assert answer.status == 0, answer.err
    with (sweep / sweep_table.NAME).open() as source:
        rows = list(csv.DictReader(source))
    first = {signal.SIGKILL: "killed", signal.SIGHUP: "interrupted"}[how]
    assert [row["status"] for row in rows] == [first, "not begun", "not begun"]
    assert [row["overrides"].split()[3] for row in rows] == ["seed=0", "seed=1", "seed=2"]
    assert "0 of 3 jobs complete" in answer.out
    assert "--resume" in rows[0]["reason"]


def test_how_to_go_on_with_a_failed_run_is_said_once(cnnprobe, tmp_path):
    """F103: with the path from here, whatever the run said."""
    folder = made(tmp_path / "outputs/topk/a-b/v001", "failed")
    error = "cannot write in v001: No space left on device; 4 of 10 rows kept; resume with: cnnprobe topk --resume old"
    (folder / "run.json").write_text(json.dumps({"command": "topk", "status": "failed", "error": error}))
    (line, _) = cnnprobe("status").out.splitlines()
    assert line.count("resume with:") == 1 and "No space left on device; 4 of 10 rows kept); " in line
    assert line.endswith("resume with: cnnprobe topk --resume outputs/topk/a-b/v001")


@pytest.mark.parametrize("command", ["status", "check"])
def test_the_line_that_goes_on_can_be_pasted(cnnprobe, tmp_path, command):
    """F102: the command and the name of a run may hold more than a word."""
    folder = made(tmp_path / "outputs/record/a;touch X/v001", "running")
    (folder / "run.json").write_text(json.dumps({"command": "record; touch X; $(id)", "status": "running"}))
    named = () if command == "status" else ("record/a;touch X/v001",)
    line = "cnnprobe 'record; touch X; $(id)' --resume '{}outputs/record/a;touch X/v001'"
    answer = cnnprobe(command, *named)
    assert any(f"resume with: {line.format(place)}" in answer.out for place in ("", f"{tmp_path}/")), answer.out


def test_a_stranger_s_table_has_columns_for_so_many_options_and_figures(cnnprobe, tmp_path):
    """F102: each of 60 jobs names 200 of its own; all of them would be 24000 columns, and minutes."""
    (tmp_path / "sweep-001/jobs").mkdir(parents=True)
    for job in range(60):
        own = range(job * 200, job * 200 + 200)
        line = {"job": job, "status": "complete", "overrides": [f"k{key}=1" for key in own]}
        line |= {"headline": {f"h{key}": 1 for key in own}}
        (tmp_path / f"sweep-001/jobs/{job}.json").write_text(json.dumps(line))
    answer = cnnprobe("status", str(tmp_path / "sweep-001"))
    assert answer.status == 0
    head = (tmp_path / "sweep-001/runs.csv").read_text().partition("\n")[0]
    assert 150 < head.count(",") < 220
    assert "60 of 60 jobs complete" in answer.out


def test_lines_of_strangers_are_data(cnnprobe, tmp_path):
    """F102."""
    jobs = tmp_path / "sweep-001/jobs"
    jobs.mkdir(parents=True)
    texts = ["[]", "{", '{"job": "x"}', '{"job": 3, "status": 4}', '{"job": 1, "status": "complete", "headline": 3}']
    texts += ['{"job": 2, "status": "\\u001b[31m", "overrides": 5, "version": {}, "reason": [1]}', "[" * 100_000]
    for number, text in enumerate(texts):
        (jobs / f"{number}.json").write_text(text)
        (jobs / f"{number + 20}.begun").write_text(text)
    (jobs / "x.begun").write_text("{}")
    answer = cnnprobe("status", str(tmp_path / "sweep-001"))
    assert answer.status == 0, answer.err
    assert "\x1b" not in answer.out
    assert "1 of 2 jobs complete" in answer.out
