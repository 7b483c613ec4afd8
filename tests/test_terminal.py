import io
import logging

from cnnprobe import terminal


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
