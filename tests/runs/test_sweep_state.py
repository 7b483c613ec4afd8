"""A sweep that is stopped, or whose folder is gone, while processes of their own do its jobs."""

import csv
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress

import pytest

from cnnprobe.config.words import parse
from cnnprobe.machine import provenance
from cnnprobe.machine.signals import handled
from cnnprobe.runs import sweep, sweep_job, sweep_state, sweep_table
from cnnprobe.runs.sweep_job import Asked
from cnnprobe.runs.sweep_state import Sweep
from tests.runs.test_execute import wait_for
from tests.runs.test_sweep_job import note


@pytest.fixture
def at_work(tmp_path):
    """Give a sweep, and what begins a process of its own that does a job of it: `done(sweep)` says how it ends."""
    (tmp_path / "jobs").mkdir()
    of, processes = sweep_state.begin(tmp_path), []

    def begin(number, done):
        process = os.fork()
        if process == 0:
            try:
                done()
            finally:  # whatever becomes of it, it is no second test runner
                os._exit(0)
        processes.append(process)
        note(tmp_path, number, process)
        return process

    yield of, begin
    for process in processes:
        with suppress(ChildProcessError):  # a test has asked how it ended: its number may be another's by now
            if os.waitpid(process, os.WNOHANG) == (0, 0):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


def ready(folder, number):
    """Say that the process of a job handles its signals, before which one would end it."""
    (folder / f"{number}.ready").touch()


def leaves_a_line(folder, number, after=0.3):
    """Do a job that a SIGTERM ends in order, a moment later."""
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(time.monotonic()))
    ready(folder, number)
    wait_for(lambda: came and time.monotonic() > came[0] + after, 20)
    (folder / f"jobs/{number}.json").write_text(json.dumps({"job": number, "status": "interrupted"}))


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_to_the_launcher_lets_its_jobs_end_in_order(tmp_path, at_work, capfd, number, ending):
    """F63: running jobs get the signal and are waited for; a process that reuses the id of a job is spared."""
    of, begin = at_work
    for job in (0, 1):
        begin(job, lambda job=job: leaves_a_line(tmp_path, job))
    stranger = begin(2, lambda: time.sleep(20))
    note(tmp_path, 2, stranger, born=1)
    wait_for(lambda: all((tmp_path / f"{job}.ready").exists() for job in (0, 1)), 20)
    with pytest.raises(ending):
        sweep._ending(of)(number, None)
    assert [line["status"] for line in sweep_job.lines_of(tmp_path)] == ["interrupted"] * 2
    assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
    said = "cnnprobe topk: waiting for jobs to end: 0, 1; another Ctrl-C leaves at once\n"
    assert capfd.readouterr().err == said
    config = {"out": str(tmp_path), "method": {"name": "topk"}}
    assert sweep_job.do(Asked(of, 3, ["k=3"], config)) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert not list((tmp_path / "jobs").glob("3.*"))


def test_a_second_signal_to_the_launcher_waits_for_nobody(tmp_path, at_work):
    """F62."""
    of, begin = at_work

    def deaf():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready(tmp_path, 0)
        time.sleep(20)

    begin(0, deaf)
    wait_for((tmp_path / "0.ready").exists, 20)
    end, began = sweep._ending(of), time.monotonic()
    with handled({signal.SIGALRM: lambda *_: end(signal.SIGTERM, None)}), pytest.raises(SystemExit, match="143"):
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            end(signal.SIGTERM, None)
        finally:  # an alarm that nobody handles any more would end the tests
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert time.monotonic() - began < 5


def test_a_job_that_was_killed_as_the_sweep_was_stopped_did_not_lack_memory(tmp_path, at_work):
    """F63."""
    of, begin = at_work
    gone = begin(0, lambda: None)
    os.waitpid(gone, 0)
    of.stop(143)
    sweep_job.settle(tmp_path, [["k=0"]])
    reason = "its process was killed when the sweep was stopped, before it had a run folder"
    assert [line["reason"] for line in sweep_job.lines_of(tmp_path)] == [reason]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(143)])
def test_a_job_that_left_at_once_was_not_killed(tmp_path, monkeypatch, error):
    """F62: by a signal where nothing could be kept yet, or a second one."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/0.json").write_text('{"job": 0, "status": "not begun"}')

    def leave(*_):
        assert [line["status"] for line in sweep_table.begun(tmp_path)] == ["begun"]
        raise error

    monkeypatch.setattr(sweep_job, "execute", leave)
    monkeypatch.setattr(sweep_job.schema, "checked", lambda config, command: config)
    config = {"out": str(tmp_path), "method": {"name": "topk"}}
    with pytest.raises(type(error) if isinstance(error, SystemExit) else error):
        sweep_job.do(Asked(Sweep(tmp_path), 0, ["k=0"], config))
    sweep_job.settle(tmp_path, [["k=0"]])
    found = [(line["status"], line["reason"]) for line in sweep_job.lines_of(tmp_path)]
    assert found == [("interrupted", "it was stopped, before it had a run folder")]


def test_a_signal_while_a_library_is_imported_comes_once_more_behind_that(tmp_path, monkeypatch):
    """F103: raised in the middle of torch it left half of it, and ended the process."""
    (tmp_path / "jobs").mkdir()
    importing, repeated = [True], []
    monkeypatch.setattr(sweep, "a_library_is_imported", lambda: importing[0])
    monkeypatch.setattr(sweep, "again", repeated.append)
    end = sweep._ending(sweep_state.begin(tmp_path))
    end(signal.SIGTERM, None)
    assert repeated == [signal.SIGTERM] and sweep_state.about(tmp_path)["stopped"] is None
    importing[0] = False
    with pytest.raises(SystemExit):
        end(signal.SIGTERM, None)
    assert sweep_state.about(tmp_path)["stopped"] == 143


def test_a_job_that_is_at_work_is_not_waited_for_by_who_only_looks(cnnprobe, tmp_path, at_work):
    """F103: `status` shows it, and settles the others."""
    _, begin = at_work
    working = begin(0, lambda: time.sleep(20))
    os.waitpid(begin(1, lambda: None), 0)
    (tmp_path / "multirun.yaml").write_text("hydra:\n  overrides:\n    task: ['k=0,1,2']\n")
    began = time.monotonic()
    answer = cnnprobe("status", str(tmp_path))
    assert time.monotonic() - began < 10 and answer.status == 0
    with (tmp_path / "runs.csv").open() as source:
        assert [row["status"] for row in csv.DictReader(source)] == ["begun", "killed", "not begun"]
    assert "0 of 3 jobs complete" in answer.out
    os.kill(working, signal.SIGKILL)
    wait_for(lambda: provenance.birth(working) is None, 5)  # also where nobody asks how it ended
    cnnprobe("status", str(tmp_path))
    assert [line["status"] for line in sweep_job.lines_of(tmp_path)] == ["killed", "killed", "not begun"]


def another(folder):
    """Make the folder of another sweep, as another process would."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "sweep.json").write_text('{"id": "another", "stopped": null}')


@pytest.mark.parametrize("place", ["outputs", "../here/outputs", "link/outputs"])
@pytest.mark.parametrize("again", [False, True])
def test_a_sweep_whose_folder_is_deleted_writes_nothing_into_the_next_one_of_that_name(
    cnnprobe, tmp_path, monkeypatch, again, place
):
    """F104: its jobs begin no more, and it ends in one line."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(here)
    monkeypatch.chdir(here)
    folder = here / "outputs/layers/n/sweep-001"
    seen = []

    def work(asked, stop):
        seen.append(asked.number)
        shutil.rmtree(folder)
        if again:
            another(folder)
            (folder / "jobs/1.begun").write_text("of the other one")
        return 0, asked.line("complete")

    monkeypatch.setattr(sweep_job, "_work", work)
    answer = cnnprobe("layers", "-m", "model=convnet", "weights=random", "seed=1,2,3", "name=n", f"out={place}")
    assert answer.status == 2 and seen == [0]
    (line,) = answer.err.splitlines()
    assert line.startswith("cnnprobe layers: ") and "sweep-001 was deleted, moved or replaced while" in line
    names = sorted(path.name for path in folder.rglob("*"))
    assert names == (["1.begun", "jobs", "sweep.json"] if again else [])


@pytest.mark.parametrize("again", [False, True])
def test_a_job_of_another_process_writes_nothing_into_the_next_sweep_of_that_name(tmp_path, monkeypatch, capfd, again):
    """F104: it holds no lock, and knows its sweep by a number."""
    folder = tmp_path / "sweep-001"

    (folder / "jobs").mkdir(parents=True)

    def work(asked, stop):
        shutil.rmtree(folder)
        if again:
            another(folder)
        return 0, asked.line("complete")

    monkeypatch.setattr(sweep_job, "_work", work)
    asked = Asked(sweep_state.begin(folder), 0, ["k=0"], {"out": str(tmp_path), "method": {"name": "topk"}})
    for _ in range(2):  # the second time it is gone before the job begins
        assert sweep_job._apart(asked) == 2
    assert sorted(path.name for path in folder.rglob("*")) == (["jobs", "sweep.json"] if again else [])
    said = f"cnnprobe topk: job 0: {folder} was deleted, moved or replaced while its jobs were at work"
    assert capfd.readouterr().err == f"{said}; nothing more is written there\n" * 2


def test_a_signal_whose_exception_is_lost_counts(tmp_path, monkeypatch):
    """F63: it may come where Python can only print what is raised, as in a `__del__`."""

    class Loses:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys, "unraisablehook", lambda told: None)
    monkeypatch.setattr(sweep.hydra, "main", lambda **_: lambda task: Loses)
    (tmp_path / "jobs").mkdir()
    begun = sweep_state.begin(tmp_path)
    assert sweep.launched(begun, parse(["record", "-m", "seed=1,2"]), []) == 143
    assert sweep_state.about(tmp_path)["stopped"] == 143
