import csv
import json

import pytest

from cnnprobe import sweep
from cnnprobe.errors import UserError


def test_the_table_joins_the_jobs_in_their_order(tmp_path, capsys):
    (tmp_path / "jobs").mkdir()
    for job, status in ((1, "failed"), (0, "complete")):
        line = {"job": job, "overrides": [f"k={job}"], "version": "", "status": status, "reason": "=1+1"}
        (tmp_path / "jobs" / f"{job}.json").write_text(
            json.dumps(line | ({"headline": {"units": 5}} if job == 0 else {}))
        )
    assert sweep.summary(tmp_path) == 2
    with (tmp_path / "runs.csv").open() as source:
        rows = list(csv.DictReader(source))
    assert [row["overrides"] for row in rows] == ["k=0", "k=1"]
    assert [row["units"] for row in rows] == ["5", ""]
    assert rows[0]["reason"] == "'=1+1"  # F79: no formula for a spreadsheet
    assert "1 of 2 jobs done" in capsys.readouterr().out


def test_a_sweep_without_jobs_is_told(tmp_path):
    (tmp_path / "jobs").mkdir()
    with pytest.raises(UserError, match="has no jobs"):
        sweep.summary(tmp_path)
