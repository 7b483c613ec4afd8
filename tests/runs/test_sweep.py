import csv
import json
import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from cnnprobe.cli.main import main
from cnnprobe.errors import UserError
from cnnprobe.plots import style
from cnnprobe.runs import drawing, sweep, sweep_job, sweep_table
from tests.support.files.stores import filled


def test_the_table_joins_the_jobs_in_their_order(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    for job, status in ((1, "failed"), (0, "complete")):
        line = {"job": job, "overrides": [f"k={job}"], "version": "", "status": status, "reason": "=1+1"}
        (tmp_path / "jobs" / f"{job}.json").write_text(
            json.dumps(line | ({"headline": {"units": 5}} if job == 0 else {}))
        )
    assert sweep_table.summary(tmp_path) == 2
    with (tmp_path / "runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [row["overrides"] for row in rows] == ["k=0", "k=1"]
    assert [row["units"] for row in rows] == ["5", ""]
    assert rows[0]["reason"] == "'=1+1"  # F79: no formula for a spreadsheet
    assert "1 of 2 jobs done" in capsys.readouterr().out


def test_the_table_has_a_column_for_each_swept_option(tmp_path, capsys):
    """F95: what differs between the jobs is read at a glance, and every figure that they found."""
    (tmp_path / "jobs").mkdir()
    for job, (layer, seed) in enumerate([("conv1", 0), ("conv1", 1), ("conv2", 0)]):
        words = [f"layer={layer}", f"seed={seed}", "units=0\\:2", "dataset.root=/a/long/way"]
        line = {"job": job, "overrides": words, "version": f"v00{job}", "status": "complete", "reason": ""}
        line["headline"] = {"gain": 0.5 + job, "seed": 7}
        (tmp_path / "jobs" / f"{job}.json").write_text(json.dumps(line))
    assert sweep_table.summary(tmp_path) == 0
    with (tmp_path / "runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [(row["layer"], row["seed="], row["gain"]) for row in rows] == [
        ("conv1", "0", "0.5"), ("conv1", "1", "1.5"), ("conv2", "0", "2.5")
    ]  # fmt: skip
    assert [row["seed"] for row in rows] == ["7", "7", "7"]
    assert "units" not in rows[0] and rows[0]["overrides"].endswith("dataset.root=/a/long/way")
    printed = capsys.readouterr().out
    assert "/a/long/way" not in printed and "conv2" in printed and "gain" in printed


def test_a_sweep_without_jobs_is_told(tmp_path):
    (tmp_path / "jobs").mkdir()
    with pytest.raises(UserError, match="has no jobs"):
        sweep_table.summary(tmp_path)


def test_a_sweep_that_is_stopped_before_its_first_job_says_so(tmp_path, capsys, monkeypatch):
    """F103: with the status of the signal; no list of values is empty."""
    monkeypatch.setattr(sweep, "launched", lambda *_: 143)
    words = ["layers", "-m", "model=shallownet", "dataset=signals", "seed=1,2", f"out={tmp_path}"]
    assert main(words) == 143
    assert capsys.readouterr().err == "cnnprobe layers: stopped before the first job of the sweep\n"


def sweep_of(out, statuses):
    """Write a sweep of topk, its jobs in these states, with the runs that are complete."""
    folder = out / "topk/n/sweep-001"
    (folder / "jobs").mkdir(parents=True)
    for job, status in statuses.items():
        run = out / f"topk/n/v00{job + 1}"
        run.mkdir(parents=True)
        writer = filled(run / "store.h5", rows=job + 1)
        writer.finish()
        writer.close()
        line = {"job": job, "overrides": [f"k={job}"], "version": f"topk/n/{run.name}", "status": status}
        (folder / "jobs" / f"{job}.json").write_text(json.dumps(line | {"folder": str(run), "reason": ""}))
        about = {"status": status, "sweep": "sweep-001", "overrides": [f"k={job}"]}
        (run / "run.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def compared(monkeypatch):
    """Have topk draw its runs together; gives what it was handed over, by drawing."""
    seen = []

    def compare(recordings, overrides):
        seen.append([(recording["units/conv1"].row_count, words) for recording, words in zip(recordings, overrides)])
        yield "together", style.figure(2, 1, "all of them")

    monkeypatch.setattr(drawing.methods, "module", lambda command: SimpleNamespace(compare=compare))
    return seen


def test_complete_runs_are_drawn_together(tmp_path, compared):
    """A method that compares gets the stores of the jobs that are done, in their order, and what was typed."""
    folder = sweep_of(tmp_path, {2: "complete", 0: "complete", 1: "failed"})
    assert sweep.draw_again(folder) == 1
    assert compared == [[(1, ["k=0"]), (3, ["k=2"])]]
    assert (folder / "figures" / "together.png").read_bytes()[:4] == b"\x89PNG"
    (folder / "figures/x.png").symlink_to("nowhere")
    assert sweep.draw_again(folder) == 0  # nothing is newer


def test_a_run_that_was_completed_since_is_drawn_with_the_others(cnnprobe, tmp_path, compared):
    """F103: by `status`, once."""
    folder = sweep_of(tmp_path, {0: "complete", 1: "interrupted"})
    assert "1 of 2 jobs complete; figures drawn: 1" in cnnprobe("status", str(folder)).out
    run = tmp_path / "topk/n/v002/run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"status": "complete"}))
    assert "2 of 2 jobs complete; figures drawn: 1" in cnnprobe("status", str(folder)).out
    assert "2 of 2 jobs complete; figures" not in cnnprobe("status", str(folder)).out
    assert compared == [[(1, ["k=0"])], [(1, ["k=0"]), (2, ["k=1"])]]


def test_only_runs_that_say_they_are_of_the_sweep_are_drawn_with_it(tmp_path, compared):
    """F102: a stranger's sweep names whatever it likes."""
    folder = sweep_of(tmp_path, {0: "complete", 1: "complete"})
    for change in ({"sweep": "sweep-002"}, {"overrides": ["k=3"]}, {"status": "running"}):
        run = tmp_path / "topk/n/v002/run.json"
        before = run.read_text()
        run.write_text(json.dumps(json.loads(before) | change))
        assert sweep.draw_again(folder) == 1
        assert compared.pop() == [(1, ["k=0"])]
        (folder / "figures/together.png").unlink()
        run.write_text(before)
    store = tmp_path / "topk/n/v002/store.h5"
    store.unlink()
    writer = filled(store, rows=1, command="record")
    writer.finish()
    writer.close()
    with pytest.raises(UserError, match="is a store of record, not of topk"):
        sweep.draw_again(folder)


def test_a_method_without_comparison_leaves_no_figures(tmp_path):
    folder = sweep_of(tmp_path, {0: "complete"})
    assert sweep.draw_again(folder) == 0
    assert not (folder / "figures").exists()


def test_jobs_that_a_file_says_to_sweep_over_are_counted_before_any_is_begun(cnnprobe, tmp_path, monkeypatch):
    """F102: a stranger's folder of configurations."""
    (tmp_path / "mine/experiment").mkdir(parents=True)
    head, file = (
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: ",
        tmp_path / "mine/experiment/one.yaml",
    )
    words = ["layers", "-m", "--config-dir", "mine", "experiment=one", "model=convnet", "weights=random"]
    monkeypatch.setattr(sweep, "MOST", 3)
    file.write_text(f"{head}range(0,2)\n")
    answer = cnnprobe(*words, "batch_size=1,2")
    assert answer.status == 2 and "this sweep would have 4 jobs, at most 3 are possible" in answer.err
    assert not (tmp_path / "outputs").exists()
    file.write_text(f"{head}1,2\n")
    assert cnnprobe(*words).status == 0
    assert len((tmp_path / "outputs/layers/convnet-avatar/sweep-001/runs.csv").read_text().splitlines()) == 3


TRAINED = ["model=convnet", "dataset=shapes", "dataset.count=24", "batch_size=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sketched):
    """A training, and a recording with its weights."""
    out = tmp_path_factory.mktemp("trained")
    assert main(["train", *TRAINED, "epochs=1", f"out={out}"]) == 0
    assert main(["record", *TRAINED, "layer=conv1", f"out={out}"]) == 0
    return out


def ends_meanwhile(run, monkeypatch):
    """Have another run of a name come to its end after each job of a sweep."""
    execute = sweep_job.execute

    def after(*words):
        answer = execute(*words)
        number = max(int(path.name[1:]) for path in run.parent.glob("v*")) + 1
        copy = run.with_name(f"v{number:03d}")
        shutil.copytree(run, copy)
        about = json.loads((copy / "run.json").read_text()) | {"ended": datetime.now(UTC).isoformat()}
        (copy / "run.json").write_text(json.dumps(about))
        return answer

    monkeypatch.setattr(sweep_job, "execute", after)


@pytest.mark.parametrize(
    "word",
    [
        "auto",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("latest", "latest@last", "train/convnet-shapes/latest")
        ),
    ],
)
def test_all_jobs_of_a_sweep_take_the_weights_that_were_the_newest_when_it_began(
    cnnprobe, trained, tmp_path, monkeypatch, word
):
    """F101: whatever is trained meanwhile; the table has their label."""
    shutil.copytree(trained, tmp_path / "outputs", symlinks=True)
    ends_meanwhile(tmp_path / "outputs/train/convnet-shapes/v001", monkeypatch)
    answer = cnnprobe("record", "-m", *TRAINED, f"weights={word}", "layer=conv1,conv2,conv3")
    assert answer.status == 0, answer.err
    label = f"train/convnet-shapes/v001@{'last' if 'last' in word.split('@') else 'best'}"
    with (tmp_path / "outputs/record/convnet-shapes/sweep-001/runs.csv").open() as source:
        assert [row["weights"] for row in csv.DictReader(source)] == [label] * 3
    told = "train/convnet-shapes/v003 ended after this sweep began; train/convnet-shapes/v001 is taken instead"
    assert answer.err.count(told) == 1  # in the last of them
    assert cnnprobe("record", *TRAINED, f"weights={word}", "layer=conv1", "name=later").status == 0
    about = json.loads((tmp_path / "outputs/record/later/v001/run.json").read_text())
    assert about["weights"]["label"] == label.replace("v001", "v004")


def test_all_jobs_of_a_sweep_are_built_on_the_run_that_was_the_newest_when_it_began(
    cnnprobe, trained, tmp_path, monkeypatch
):
    """F101."""
    shutil.copytree(trained, tmp_path / "outputs", symlinks=True)
    ends_meanwhile(tmp_path / "outputs/record/convnet-shapes/v001", monkeypatch)
    assert cnnprobe("topk", "-m", *TRAINED, "layer=conv1", "source=latest", "k=1,2").status == 0
    for number in (1, 2):
        about = json.loads((tmp_path / f"outputs/topk/convnet-shapes/v00{number}/run.json").read_text())
        assert about["built_from"][-1] == "record/convnet-shapes/v001"
