"""Hostile names on the terminal."""

import io
import logging
import random
import sys

import pytest

from cnnprobe.cli.main import complain
from cnnprobe.machine import screen, terminal
from cnnprobe.upkeep.findings import Finding, told

PIECES = [
    *map(chr, range(32)), "\x7f", "\x9b31m", "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://x\x1b\\", "\u202e",
    "\u2066", "\u200b", "\u2028", "\u0085", "\udcff", "\ud800", "\ufeff", "\U000e0041", "[bold]", "[/foo]", "[link=x]",
    "$\\frac{", "%s", "{0}", "a", "é", "日本", " ", "\xa0", ";touch x", "`id`", "$(id)", "'", '"',
]  # fmt: skip


def names(count: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(PIECES, k=draw.randint(1, 12))) for _ in range(count)]


def told_everywhere(name: str) -> None:
    """Say a name in every way in which the program speaks."""
    screen.say(name)
    terminal.say(name, stream=sys.stderr)
    complain(f"cnnprobe topk: {name}")
    terminal.say(terminal.table({name: [name, "1"], "b": ["", name]}, title=name))
    told([Finding("error", name, name, name)])
    terminal.Remarks().handle(logging.LogRecord("cnnprobe", logging.WARNING, "", 0, name, (), None))


def test_a_thousand_hostile_names_leave_no_control_character(capsys):
    """F102: nor a word that is left out as markup."""
    for name in names(1000):
        told_everywhere(name)
        out, err = capsys.readouterr()
        left = {c for c in out + err if c != "\n" and not c.isprintable()}
        assert not left, name
        assert out.count("[bold]") >= 3 * name.count("[bold]"), name


def test_a_bar_shows_hostile_names_literally(monkeypatch):
    """F102."""
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(terminal, "PATIENCE", -1.0)
    with terminal.Progress("topk", 3, "images") as bar:
        bar.phase("\x1b]0;owned\x07[bold]conv[/foo]", 2, "units")
        bar.advance(1)
    assert "\x1b]0" not in shown.getvalue()
    assert "\\x1b]0;owned\\x07[bold]conv[/foo]" in shown.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_lines_stay_lines(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    screen.say("a: 1\n\tb: é\r", stream)
    assert stream.buffer.getvalue().decode(encoding).replace("\\xe9", "é") == "a: 1\n\\tb: é\\r\n"
