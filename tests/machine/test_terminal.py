import csv
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnprobe.machine import terminal
from cnnprobe.store.reader import Recording

ROOT = Path(__file__).parents[2]


def test_skips_are_counted_and_only_the_first_are_shown(tmp_path, capsys):
    remarks = terminal.Remarks()
    for i in range(20):
        record = logging.LogRecord("cnnprobe", logging.WARNING, "", 0, f"{i}.png: skipped", (), None)
        record.skipped = f"{i}.png"
        remarks.handle(record)
    remarks.open(tmp_path / "run.log")
    assert len(remarks.skipped) == 20
    assert len(capsys.readouterr().err.splitlines()) == terminal.SHOWN_SKIPS
    assert len((tmp_path / "run.log").read_text().splitlines()) == 20


def test_control_characters_of_a_strangers_file_do_not_reach_the_terminal(tmp_path, capsys):
    """F80."""
    remarks = terminal.Remarks()
    remarks.open(tmp_path / "run.log")
    remarks.handle(logging.LogRecord("cnnprobe", logging.WARNING, "", 0, "\x1b[31m[b]x[/b].png\x07", (), None))
    shown = capsys.readouterr().err + (tmp_path / "run.log").read_text()
    assert "\x1b" not in shown
    assert "\\x1b[31m[b]x[/b].png" in shown


def test_a_terminal_without_our_letters_gets_them_escaped():
    """F75: an ASCII locale."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.say("日本 → 3", stream=stream)
    assert stream.buffer.getvalue() == b"\\u65e5\\u672c \\u2192 3\n"


def test_progress_is_silent_at_first_and_then_in_lines(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.Progress("topk", 100, "images") as progress:
        for step in range(10):
            now[0] = step * 4.0
            progress.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert lines[0].startswith("topk: ")
    assert "images/s" in lines[0]
    assert "left" in lines[0]


def test_each_phase_has_its_own_pace_and_time_left(capsys, monkeypatch):
    """100 images in 20 s, then 10 maps of which each takes 30 s."""
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.Progress("rf-map", 10, "maps") as progress:
        progress.phase("ranking", 100, "images")
        for _ in range(10):
            now[0] += 2
            progress.advance(10)
        progress.phase("occluding for conv1", 4, "maps")
        for _ in range(4):
            now[0] += 30
            progress.advance(1)
        progress.phase("occluding for conv2", 4, "maps")
        for _ in range(2):
            now[0] += 60
            progress.advance(1)
        rates = progress.rates
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rf-map, ranking: 80 of 100 images, 5 images/s, 4 s left"
    assert lines[1] == "rf-map, occluding for conv1: 1 of 4 maps, 0.0333 maps/s, 90 s left"
    assert lines[-1] == "rf-map, occluding for conv2: 2 of 4 maps, 0.0167 maps/s, 2 min 0 s left"
    assert rates == {"images": 5.0, "maps": 6 / 240}


def test_a_bar_changes_its_words_with_the_phase(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal.sys.stderr, "isatty", lambda: True, raising=False)
    with terminal.Progress("rf-map", 10, "maps") as progress:
        for name, total, counts in (("ranking", 100, "images"), ("occluding", 7, "maps")):
            progress.phase(name, total, counts)
            now[0] += 5
            progress.advance(3)
            (task,) = progress.bar.tasks
            assert (task.description, task.completed, task.total) == (f"rf-map, {name}", 3, total)
            assert progress.bar.columns[3].text_format == counts


def test_durations_are_written_as_people_say_them():
    assert [terminal.duration(s) for s in (3.2, 125, 7500)] == ["3 s", "2 min 5 s", "2 h 5 min"]


WORDS = ["record", "model=convnet", "dataset=shapes", "dataset.count=8", "layer=conv1", "device.workers=0"]


def shell(command, folder, **variables):
    """Run a line of the shell in a folder; `$C` is a short run of record, `$P` the program."""
    program = f"{sys.executable} -m cnnprobe"
    settings = {"PYTHONPATH": str(ROOT), "P": program, "C": f"{program} {' '.join(WORDS)}"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, **settings, **variables}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("$C > /dev/full", marks=pytest.mark.slow),
        pytest.param("$C 2> /dev/full", marks=pytest.mark.slow),
        pytest.param("$C >&-", marks=pytest.mark.slow),
        "$C >&- 2>&- <&-",
        pytest.param("$C | true; exit ${PIPESTATUS[0]}", marks=pytest.mark.slow),
        pytest.param("TERM=dumb COLUMNS=20 LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $C", marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_whatever_becomes_of_its_terminal(tmp_path, command):
    """F75: full, closed, gone, narrow or without our letters; the run is stored whole."""
    answer = shell(command, tmp_path, PYTHONUNBUFFERED="")
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    assert Recording(store).complete
    assert len(Recording(store)["images"]["name"]) == 8


def test_help_that_cannot_be_printed_is_one_line(tmp_path):
    """F75."""
    answer = shell("$P --help > /dev/full", tmp_path, PYTHONUNBUFFERED="")
    assert (answer.returncode, answer.stderr) == (2, "cnnprobe: No space left on device\n")


def test_a_folder_that_was_deleted_under_us_is_told(tmp_path):
    """F76."""
    for command in ("$C", "$P doctor"):
        answer = shell(f"mkdir gone; cd gone; rmdir ../gone; {command}", tmp_path)
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
        assert "the folder it was called in is gone" in answer.stderr


def test_a_run_in_a_folder_with_a_hard_name_is_stored(cnnprobe, tmp_path, monkeypatch):
    """F76: spaces, quotes, other alphabets, in the working folder and in `name`."""
    place = tmp_path / "a 'b\" é 日本 $(x)"
    place.mkdir()
    monkeypatch.chdir(place)
    answer = cnnprobe(*WORDS, "name=é 日本 (1)")
    assert answer.status == 0, answer.err
    assert Recording(place / "outputs/record/é 日本 (1)/v001/store.h5").complete


def statuses(folder):
    return [json.loads(path.read_text())["status"] for path in sorted(folder.glob("v*/run.json"))]


@pytest.mark.parametrize(
    ("words", "where"), [("seed=1", "> /dev/full"), pytest.param("-m seed=1,2", "| true", marks=pytest.mark.slow)]
)
def test_a_table_that_nobody_takes_changes_nothing(tmp_path, words, where):
    """F75: that of a run, of each job of a sweep, and of the sweep."""
    answer = shell(f"$P layers model=convnet {words} {where}; exit ${{PIPESTATUS[0]}}", tmp_path, PYTHONUNBUFFERED="")
    assert answer.returncode == 0, answer.stderr
    assert all(line.startswith("warning: ") for line in answer.stderr.splitlines())
    folder = tmp_path / "outputs/layers/convnet-avatar"
    assert statuses(folder) == ["complete"] * (2 if "-m" in words else 1)
    if "-m" in words:
        with (folder / "sweep-001/runs.csv").open() as table:
            assert [row["status"] for row in csv.DictReader(table)] == ["complete"] * 2


MINE = '''
"""Print much."""
import sys
import numpy as np
from cnnprobe.store.tables import Column, Measurement, Rows, Table

def compute(provided):
    def events():
        print("x" * 10**5, flush=True)
        print("y" * 10**5, file=sys.stderr)
        yield Rows("units/one", 0, {"unit": np.arange(2, dtype=np.int32)})

    columns = {"unit": Column("number", "", (), "int32")}
    return Measurement([Table("units/one", "unit", 2, columns, batch=2)], events(), 1, "things")

def draw(recording):
    print("drawn", flush=True)
    return ()

def headline(recording):
    print("told", flush=True)
    return {"units": 2}

def compare(recordings, overrides):
    print("compared", flush=True)
    return ()

print("read", end="")
'''


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("seed=1", "2>&1 | true"),
        pytest.param("-m seed=1,2", "2>&1 | true", marks=pytest.mark.slow),
        pytest.param("-m seed=1,2", "> /dev/full 2> /dev/full", marks=pytest.mark.slow),
    ],
)
def test_an_experiment_that_prints_is_not_ended_by_it(tmp_path, words, where):
    """F75: whoever prints, at any moment."""
    (tmp_path / "mine.py").write_text(MINE)
    words += " method.file=mine.py model=convnet dataset=shapes dataset.count=8"
    answer = shell(f"$P mine {words} {where}; exit ${{PIPESTATUS[0]}}", tmp_path, PYTHONUNBUFFERED="")
    assert (answer.returncode, "Error" in answer.stderr) == (0, False), answer.stderr
    found = statuses(tmp_path / "outputs/mine/convnet-shapes")
    assert found == ["complete"] * (2 if "-m" in words else 1)


def test_a_check_that_nobody_reads_to_its_end_has_its_status(tmp_path):
    """F75: what is damaged is so for whoever looks at the status alone."""
    for name in ("v001", "v002"):
        (tmp_path / "outputs/topk/a" / name).mkdir(parents=True)
        (tmp_path / "outputs/topk/a" / name / "run.json").write_text("{}")
    line = "$P check topk/a/v001 topk/a/v002"
    answer = shell(f"{line} | true; exit ${{PIPESTATUS[0]}}", tmp_path, PYTHONUNBUFFERED="")
    assert (answer.returncode, answer.stderr) == (2, "cnnprobe check: 2 of 2 runs not in order; see above\n")
    answer = shell(f"{line} > /dev/full", tmp_path, PYTHONUNBUFFERED="")
    assert (answer.returncode, answer.stderr) == (2, "cnnprobe check: No space left on device\n")
