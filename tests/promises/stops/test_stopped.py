"""Stops by INT, TERM, HUP and KILL at random moments: with loaders, broken images, sources and sweeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def trials(tmp_path, seed, count):
    """Run `stopped.py` in an empty folder."""
    asked = json.dumps({"trials": count, "seed": seed})
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/faults/stopped.py"), asked],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert len(json.loads(answer.stdout.splitlines()[-1])) == count


@pytest.mark.slow
def test_a_stop_at_any_moment_changes_nothing_in_the_end(tmp_path):
    """F103: one of them; `make test-slow` takes 500."""
    trials(tmp_path, 7, 1)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_hundred_stops_change_nothing_in_the_end(tmp_path, part):
    """F103: byte for byte, and in what was left out."""
    trials(tmp_path, 100 * (part + 1), 50)
