"""The lines of a sweep's jobs are read up to a limit, whoever wrote them."""

import json

import pytest

from cnnprobe.runs import sweep, sweep_table
from cnnprobe.runs.sweep import LETTERS, WORDS, jobs_of


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
