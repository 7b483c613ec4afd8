"""Jobs of a sweep side by side: one that is killed takes no other with it, and the table says what became of each."""

import csv
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine import provenance
from cnnprobe.models import convnet
from cnnprobe.runs import execute, sweep, sweep_job, sweep_table
from cnnprobe.runs.sweep_job import Asked
from cnnprobe.runs.sweep_state import Sweep
from tests.runs.test_execute import ROOT, contents, leading, wait_for

try:
    importlib.import_module("hydra_plugins.hydra_joblib_launcher")
    missing = False
except ImportError:
    missing = True
needs_launcher = pytest.mark.skipif(missing, reason="hydra-joblib-launcher is not installed")
MANY = ["record", "model=convnet", "dataset=shapes", "dataset.count=120", "layer=conv1", "batch_size=2"]


def note(folder, number, process, **more):
    (folder / "jobs").mkdir(exist_ok=True)
    said = {"process": process, "out": str(folder / "outputs"), "command": "topk", "overrides": [f"k={number}"]}
    said |= {"born": provenance.birth(process)} | more
    (folder / "jobs" / f"{number}.begun").write_text(json.dumps(said))


def test_a_job_that_left_no_line_was_killed_or_never_begun(tmp_path, capsys):
    """F15, F103: a row each, and where the killed one had got to."""
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    run = tmp_path / "outputs/topk/convnet-shapes/v007"
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"sweep": tmp_path.name, "process": gone, "status": "running", "overrides": ["k=0"]})
    )
    for number in (0, 1):
        note(tmp_path, number, gone)
    note(tmp_path, 2, gone, command="rsa")  # of another command, before it had a folder
    done = {"job": 1, "overrides": ["k=1"], "status": "complete", "version": "v008", "reason": ""}
    (tmp_path / "jobs/1.json").write_text(json.dumps(done))
    note(tmp_path, 3, os.getpid())  # broken off in this very process
    note(tmp_path, 5, gone)  # in the process that had done job 0: that run is not its own
    sweep_job.settle(tmp_path, [[f"k={number}"] for number in range(6)])
    assert sweep_table.summary(tmp_path) == 2
    with (tmp_path / "runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [row["status"] for row in rows] == ["killed", "complete", "killed", "killed", "not begun", "killed"]
    assert [row["overrides"] for row in rows] == [f"k={number}" for number in range(6)]
    assert rows[0]["version"] == "topk/convnet-shapes/v007"
    assert f"resume with: cnnprobe topk --resume {run}" in rows[0]["reason"]
    assert all("before it had a run folder" in rows[number]["reason"] for number in (2, 3, 5))
    assert "topk: job 0: its process was killed" in capsys.readouterr().err
    assert not list((tmp_path / "jobs").glob("*.begun"))


def test_what_a_stranger_has_put_into_a_sweep_is_left_alone(tmp_path, monkeypatch):
    """F102: neither followed, nor waited for, nor taken away."""
    sweep_folder, elsewhere = tmp_path / "sweep-001", tmp_path / "elsewhere"
    (sweep_folder / "jobs").mkdir(parents=True)
    elsewhere.mkdir()
    os.mkfifo(sweep_folder / "jobs/0.begun")
    (sweep_folder / "jobs/1.begun").write_text("my notes")
    note(sweep_folder, 2, 10**23)
    note(sweep_folder, 3, os.getppid(), born=1)  # another process has its number now
    (sweep_folder / "jobs/4.begun").mkdir()
    note(sweep_folder, 5, 1, command=7)
    before = set((sweep_folder / "jobs").iterdir())
    began = time.monotonic()
    sweep_job.settle(sweep_folder, [])
    assert time.monotonic() - began < 5
    names = {path.name for path in before} - {"3.begun"} | {"3.json"}
    assert {path.name for path in (sweep_folder / "jobs").iterdir()} == names
    shutil.move(sweep_folder / "jobs", elsewhere / "jobs")
    (sweep_folder / "jobs").symlink_to(elsewhere / "jobs")
    before = sorted(path.name for path in (elsewhere / "jobs").iterdir())
    with pytest.raises(UserError, match="jobs is not a plain folder; nothing is written there"):
        sweep_job.settle(sweep_folder, [["k=0"]])
    assert sorted(path.name for path in (elsewhere / "jobs").iterdir()) == before


@pytest.mark.parametrize(
    "said",
    [
        {"out": "/", "command": "**"},
        {"out": "/usr", "command": "*/../*/../*"},
        {"command": "/x"},
        {"command": ""},
        {"out": "a\0b"},
        {"out": "a\ud800b"},
        {"out": "x" * 5000},
        {"overrides": ["a=\ud800"]},
    ],
    ids=range(8),
)
def test_a_stranger_s_note_does_not_say_what_is_searched(tmp_path, monkeypatch, said):
    """F102: runs are looked for below one command of ours; what no path can hold is nowhere."""
    searched = []
    monkeypatch.setattr(
        Path, "glob", lambda path, pattern, real=Path.glob: searched.append(pattern) or real(path, pattern)
    )
    note(tmp_path, 0, os.getpid(), **said)
    sweep_job.settle(tmp_path, [["name=\ud800"]])
    assert set(searched) <= {"*/v*", "*.json", "*.begun"}
    assert sweep_job.lines_of(tmp_path)[0]["status"] == ("not begun" if "command" in said else "killed")
    assert sweep_table.summary(tmp_path) == 2


@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (["seed=1,2", "name=${oc.env:MY_SECRET}"], [[f"seed={n}", "name='${oc.env:MY_SECRET}'"] for n in (1, 2)]),
        (["seed=range(0,100000000)"], []),
        (["a=" + "[" * 900 + "]" * 900], []),
        (["layer=range(1,6000)", "k=range(1,5000)"], []),
        ("pipe", []),
        ("&a [*a, *a]", []),
    ],
)
def test_what_a_stranger_has_written_down_as_the_jobs_of_a_sweep_is_data(tmp_path, monkeypatch, words, jobs):
    """F102: no variable of the environment is read, no pipe waited for, no more jobs than a sweep can have."""
    monkeypatch.setenv("MY_SECRET", "s3cret")
    if words == "pipe":
        os.mkfifo(tmp_path / "multirun.yaml")
    else:
        (tmp_path / "multirun.yaml").write_text(f"hydra:\n  overrides:\n    task: {json.dumps(words)}\n"
                                                if isinstance(words, list) else f"hydra: {words}\n")  # fmt: skip
    found = sweep.jobs_of(tmp_path)
    assert len(found) == len(jobs)
    assert "s3cret" not in str(found)


def test_the_table_of_a_sweep_holds_no_control_character(tmp_path):
    """F102."""
    (tmp_path / "jobs").mkdir()
    line = {"job": 0, "status": "complete", "overrides": ["a=\x1b[31m"], "reason": "\u202e\nx,=1"}
    line["headline"] = {"\ud800\x1b": 1, "=1+1": 2}
    (tmp_path / "jobs/0.json").write_text(json.dumps(line))
    sweep_table.write(tmp_path)
    text = (tmp_path / "runs.csv").read_text()
    assert all(letter.isprintable() or letter in "\r\n" for letter in text) and len(text.splitlines()) == 2
    assert text.splitlines()[0] == r"job,overrides,version,status,\ud800\x1b,'=1+1,reason"


def test_a_job_whose_launcher_died_is_waited_for(tmp_path):
    """It goes on to its end by itself, and its own line counts."""
    (tmp_path / "jobs").mkdir()
    job = os.fork()
    if job == 0:
        time.sleep(0.5)
        (tmp_path / "jobs/0.json").write_text(json.dumps({"job": 0, "status": "interrupted"}))
        os._exit(0)
    note(tmp_path, 0, job)
    sweep_job.settle(tmp_path, [["k=0"]])
    os.waitpid(job, 0)
    assert [line["status"] for line in sweep_job.lines_of(tmp_path)] == ["interrupted"]


@pytest.mark.parametrize("how", ["done", "killed", "fails"])
def test_a_job_apart_ends_as_it_ends_and_its_parent_goes_on(tmp_path, monkeypatch, capfd, how):
    def do(asked):
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "fails":
            raise RuntimeError("planted")
        (tmp_path / f"{asked.number}").write_text(str(os.getpid()))
        return 2

    monkeypatch.setattr(sweep_job, "do", do)
    status = sweep_job._apart(Asked(Sweep(tmp_path), 5, [], {}))
    assert status == {"done": 2, "killed": -signal.SIGKILL, "fails": 1}[how]
    assert ("planted" in capfd.readouterr().err) == (how == "fails")
    if how == "done":
        assert (tmp_path / "5").read_text() != str(os.getpid())


def test_jobs_of_one_worker_are_done_in_the_process_of_the_sweep(cnnprobe, tmp_path, monkeypatch):
    """F103: so does joblib where it has one worker; no process ends without a word."""
    monkeypatch.setattr(sweep_job, "SHARING", ("basic",))
    monkeypatch.setattr(sweep_job, "_leave", lambda status: pytest.fail(f"this process would end with {status}"))
    answer = cnnprobe("layers", "-m", "model=convnet", "weights=random", "seed=1,2", "name=n")
    assert answer.status == 0, answer.err
    with (tmp_path / "outputs/layers/n/sweep-001/runs.csv").open() as source:
        assert [(row["seed"], row["status"]) for row in csv.DictReader(source)] == [
            ("1", "complete"),
            ("2", "complete"),
        ]


def test_a_job_whose_sweep_is_gone_before_it_begins_says_so(tmp_path, monkeypatch, capfd):
    """F103."""
    monkeypatch.setattr(sweep_job, "do", lambda asked: (tmp_path / "begun").touch())
    child = os.fork()
    if child == 0:
        sweep_job._only_child(Asked(Sweep(tmp_path), 5, [], {"method": {"name": "topk"}}), 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    said = "cnnprobe topk: job 5: not begun: the process that launched the sweep is gone\n"
    assert capfd.readouterr().err == said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["-m", "stranger"], ["-c", "import stranger"]])
def test_a_process_that_a_launcher_begins_imports_nothing_from_where_one_stands(cnnprobe, tmp_path, monkeypatch, words):
    """F102: a folder of images may hold Python files too."""
    (tmp_path / "stranger.py").write_text("open('ran', 'w')")
    ended = []

    def do(asked):
        ended.append(subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode)
        return 0

    monkeypatch.setattr(sweep_job, "do", do)
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    cnnprobe("layers", "-m", "model=convnet", "weights=random", "seed=1,2")
    assert ended == [1, 1] and not (tmp_path / "ran").exists()
    assert os.environ["PYTHONSAFEPATH"] == ""


def test_a_job_for_which_memory_does_not_suffice_is_no_bug(cnnprobe, tmp_path, monkeypatch):
    """F54: the others are done."""
    real = convnet.build

    def build(**options):
        if options["input_size"] == 40:
            raise MemoryError
        return real(**options)

    monkeypatch.setattr(convnet, "build", build)
    answer = cnnprobe("layers", "model=convnet", "-m", "model.input_size=40,32")
    assert answer.status == 2, answer.err
    assert "Traceback" not in answer.err
    (table,) = tmp_path.rglob("runs.csv")
    with table.open() as source:
        rows = list(csv.DictReader(source))
    assert [row["status"] for row in rows] == ["failed", "complete"]
    assert rows[0]["reason"].startswith("memory does not suffice, ")


def test_every_job_of_a_sweep_is_known_by_its_number(tmp_path):
    (tmp_path / "multirun.yaml").write_text("hydra:\n  sweeper:\n    params:\n      +more: 1,2\n")
    jobs = sweep.jobs_of(tmp_path, ["method=topk", "seed=3", "method.k=1,2"])
    assert jobs == [["+more=1", "seed=3", "method.k=1"], ["+more=1", "seed=3", "method.k=2"],
                    ["+more=2", "seed=3", "method.k=1"], ["+more=2", "seed=3", "method.k=2"]]  # fmt: skip


def test_a_launcher_that_is_not_there_is_told_in_one_line_and_leaves_nothing(cnnprobe, tmp_path):
    """F01."""
    answer = cnnprobe(*MANY, "-m", "seed=1,2", "hydra/launcher=nimbus")
    assert answer.status == 2
    assert answer.err.splitlines() == [
        "cnnprobe record: no hydra/launcher 'nimbus' here; pip install cnnprobe[launchers] has joblib, submitit"
    ]
    assert not list(tmp_path.rglob("sweep-*"))


def killed(folder, versions):
    """Kill the job of each run as soon as it has saved some rows."""
    for version in versions:
        wait_for(lambda version=version: leading(folder / version / "store.h5") > 4, 600)
        os.kill(json.loads((folder / version / "run.json").read_text())["process"], signal.SIGKILL)


@needs_launcher
@pytest.mark.slow
def test_of_forty_jobs_four_at_a_time_two_are_killed_and_no_other_is_touched(cnnprobe, tmp_path):
    """F15, F60, F68."""
    jobs, victims = 40, ["v003", "v021"]
    seeds = ",".join(map(str, range(jobs)))
    asked = [*MANY, "-m", f"seed={seeds}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnprobe", *asked], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    folder = tmp_path / "outputs/record/convnet-shapes"
    killed(folder, victims)
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 2, err
    assert f"{jobs - 2} of {jobs} jobs done" in out
    assert "Traceback" not in err
    assert err.count("its process was killed") == 2
    with (folder / "sweep-001/runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [int(row["job"]) for row in rows] == list(range(jobs))
    assert [row["overrides"].split()[-1] for row in rows] == [f"seed={number}" for number in range(jobs)]
    assert {row["version"].split("/")[-1] for row in rows if row["status"] == "killed"} == set(victims)
    assert sum(row["status"] == "complete" for row in rows) == jobs - 2
    whole = {f"v{number:03d}" for number in range(1, jobs + 1)}
    assert {path.name for path in folder.iterdir()} == {*whole, "latest", "sweep-001"}
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}
    assert not list(tmp_path.rglob("*.tmp.*")) + list(tmp_path.rglob("*.begun"))
    for row in rows:
        run = tmp_path / "outputs" / row["version"]
        if row["status"] == "killed":  # its rows are kept
            assert cnnprobe("record", "--resume", str(run)).status == 0
        assert cnnprobe(*MANY, row["overrides"].split()[-1], "out=alone").status == 0
        assert contents(run) == contents((tmp_path / "alone/record/convnet-shapes/latest").resolve()), row
    assert cnnprobe("check", *map(str, sorted(folder.glob("v*")))).status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_job_is_drawn_stops_the_sweep_behind_it(tmp_path, monkeypatch, number, status):
    """F103: that run is complete, and says so; the jobs behind it are not begun."""
    folder = tmp_path / "topk/a-b/v001"

    def complete(_):
        os.kill(os.getpid(), number)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"status": "complete"}')

    begun = SimpleNamespace(folder=folder, lock=nullcontext())
    monkeypatch.setattr(execute, "prepare", lambda *_: begun)
    monkeypatch.setattr(execute, "measure", lambda *_: 0)
    monkeypatch.setattr(execute.drawing, "draw", lambda _: 0)
    monkeypatch.setattr(execute.under_way, "complete", complete)
    config = {"out": str(tmp_path), "method": {"name": "topk"}}
    monkeypatch.setattr(sweep_job.schema, "checked", lambda config, command: config)
    (tmp_path / "jobs").mkdir()
    assert sweep_job.do(Asked(Sweep(tmp_path), 0, ["seed=1"], config)) == status
    assert json.loads((tmp_path / "jobs/0.json").read_text())["status"] == "complete"


PATCHING = """
import os, sys
import numpy as np
import torch
from torch import nn

nn.Conv2d.reset_parameters = lambda self: nn.init.constant_(self.weight, 0.01)
torch.relu = torch.sin
np.seterr(all="raise")
os.environ["OF_ANOTHER"] = "1"
sys.path.insert(0, "/of/another")
build = lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.LazyLinear(8))
"""
PLAIN = """
import os
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 8)
    def forward(self, images):
        return self.out(torch.relu(self.conv(images)).mean((2, 3)))

assert "OF_ANOTHER" not in os.environ
build = Net
"""


def test_what_a_file_of_a_job_changes_ends_with_it(cnnprobe, tmp_path):
    """F100: the second network is the one that it is by itself, in a process that has computed with many threads."""
    (tmp_path / "patching.py").write_text(PATCHING)
    (tmp_path / "plain.py").write_text(PLAIN)
    words = ["record", "model=custom", "model.input_size=16", "weights=random", "dataset=shapes", "dataset.count=4",
             "device.threads=2", "device.workers=0"]  # fmt: skip
    assert cnnprobe(*words, "model.file=plain.py", "name=alone").status == 0
    assert cnnprobe(*words, "-m", "model.file=patching.py,plain.py", "name=swept").status == 0
    runs = tmp_path / "outputs/record"
    assert contents(runs / "alone/v001") == contents(runs / "swept/v002") != contents(runs / "swept/v001")
    assert "OF_ANOTHER" not in os.environ and "/of/another" not in sys.path


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_sweep_ends_a_job_of_a_file_in_order(tmp_path, number, status):
    """F103: as of any other job, whether the terminal sends it to both or somebody to one."""
    (tmp_path / "plain.py").write_text(PLAIN)
    words = ["record", "-m", "model=custom", "model.file=plain.py", "model.input_size=16", "weights=random",
             "dataset=shapes", "dataset.count=20000", "batch_size=2", "seed=1,2", "device.threads=1"]  # fmt: skip
    own = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "cnnprobe", *words], cwd=tmp_path, env=own,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    folder = tmp_path / "outputs/record/custom-shapes"
    wait_for(lambda: (folder / "v001/store.h5").exists())
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert json.loads((folder / "v001/run.json").read_text())["status"] == "interrupted"
    assert "interrupted" in out and "not begun" in out and "Traceback" not in err
