import io
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
    answer = shell(command, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    assert Recording(store).complete
    assert len(Recording(store)["images"]["name"]) == 8


def test_help_that_cannot_be_printed_is_one_line(tmp_path):
    """F75."""
    answer = shell("$P --help > /dev/full", tmp_path)
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
