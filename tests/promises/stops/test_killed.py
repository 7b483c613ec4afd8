"""Whenever a command is killed, what it reported as saved is there, and in the end it is as if never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnprobe.config import catalogue
from tests.runs.test_execute import name_of, words

KILLS = 17
"""For each command; over 200 with all of them."""


def killed(command, pictures, tmp_path, kills):
    """Return kills, runs that ended after them, and batches saved by processes that were killed then."""
    asked = {"words": words(command, pictures), "name": name_of(command), "kills": kills, "seed": command}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, root / "tests/support/faults/killing.py", json.dumps(asked)],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(word) for word in done.stdout.splitlines()[-1].split()]


@pytest.mark.slow
def test_a_recording_killed_at_any_time_loses_nothing(pictures, tmp_path):
    """F60."""
    kills, ended, _ = killed("record", pictures, tmp_path, 2)
    assert kills == 2
    assert ended >= 1


@pytest.mark.slow
@pytest.mark.parametrize("command", catalogue.commands())
def test_a_command_killed_at_any_time_loses_nothing(pictures, tmp_path, command):
    """F60: 204 kills over all commands."""
    assert len(catalogue.commands()) * KILLS >= 200
    kills, ended, _ = killed(command, pictures, tmp_path, KILLS)
    assert kills == KILLS
    assert ended >= 1
