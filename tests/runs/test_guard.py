"""However the work of a run ends, its `run.json` says so."""

import json
from types import SimpleNamespace

import pytest

from cnnprobe.errors import UserError
from cnnprobe.machine.signals import Stop
from cnnprobe.machine.terminal import Remarks
from cnnprobe.runs import guard
from cnnprobe.runs.job import Job
from cnnprobe.runs.under_way import Run
from cnnprobe.store.unfinished import Unfinished


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "outputs/topk/a-b/v001"
    folder.mkdir(parents=True)
    about = {"seconds": 0.0, "facts": {}, "warnings": [], "skipped": []}
    job = Job("topk", {"name": "x", "model": {"name": "a"}, "dataset": {"name": "b"}})
    return Run(job, folder, SimpleNamespace(), about, Remarks(), Unfinished(), SimpleNamespace(), {})


def said(run):
    return json.loads((run.folder / "run.json").read_text())


def test_an_interruption_has_its_exit_status(run, capsys):
    with guard.ending(run, Stop()) as end:
        raise KeyboardInterrupt
    assert end.status == 130
    assert said(run)["status"] == "interrupted"
    assert "cnnprobe topk: interrupted, no rows kept; resume with: cnnprobe topk --resume" in capsys.readouterr().err


def test_a_mistake_of_the_user_is_written_down_and_raised_as_it_is(run):
    with pytest.raises(UserError, match="no such unit"), guard.ending(run, Stop()):
        raise UserError("no such unit")
    assert (said(run)["status"], said(run)["error"]) == ("failed", "no such unit")


def test_an_error_of_ours_keeps_its_type(run):
    with pytest.raises(ZeroDivisionError), guard.ending(run, Stop()):
        raise ZeroDivisionError("division by zero")
    assert said(run)["error"] == "ZeroDivisionError: division by zero"


def test_work_that_ends_by_itself_is_left_alone(run):
    with guard.ending(run, Stop()) as end:
        end.status = 143
    assert end.status == 143
    assert not (run.folder / "run.json").exists()


def test_a_network_that_ends_the_program_fails_its_run_alone(run):
    """F15: in a sweep the other jobs are begun all the same."""
    with pytest.raises(UserError, match=r"ends the program \(sys.exit\(3\)\)"), guard.ending(run, Stop()):
        raise SystemExit(3)
    assert said(run)["status"] == "failed"
