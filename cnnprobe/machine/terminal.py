"""The messages of a run while it works: progress, warnings, and its last line."""

import io
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cnnprobe.errors import printable
from cnnprobe.machine import files, screen

LOG = logging.getLogger("cnnprobe")
PATIENCE = 2.0
"""Seconds before a run that takes longer shows its progress."""
LINE_EVERY = 15.0
"""Seconds between two lines of progress where the output is no terminal."""
SHOWN_SKIPS = 5


class Remarks(logging.Handler):
    """Collects warnings: the first of each kind to the terminal, all of them to `run.log` and `run.json`.

    A record with `extra={"skipped": name}` counts one skipped input.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.warnings: list[str] = []
        self.skipped: list[str] = []
        self.before: set[str] = set()
        self.log: Path | None = None
        self.early: list[str] = []

    def go_on(self, about: dict[str, Any]) -> None:
        """Begin with what the `run.json` of a stopped run says it has warned of and left out; each counts once."""
        self.warnings, self.skipped = list(about.get("warnings", ())), list(about.get("skipped", ()))
        self.before = {*self.warnings, *self.skipped}

    def open(self, path: Path) -> None:
        """Write to `run.log` from here on, what was said before included."""
        self.log = path
        files.append(path, self.early)
        self.early = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        text = printable(" ".join(record.getMessage().split()), most=2000)
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {record.levelname.lower()} {text}\n"
        if self.log is None:
            self.early.append(line)
        else:
            files.append(self.log, [line])
        if record.levelno < logging.WARNING:
            return
        if text in self.warnings and text not in self.before and not hasattr(record, "skipped"):
            return
        if text not in self.before:
            self.warnings.append(text)
        if hasattr(record, "skipped"):
            if record.skipped not in self.before:
                self.skipped.append(record.skipped)
            if len(self.skipped) > SHOWN_SKIPS:
                return
        say(f"warning: {text}", stream=sys.stderr)


@contextmanager
def collected() -> Iterator[Remarks]:
    """Collect what is warned of inside the block, and nothing of other libraries."""
    remarks = Remarks()
    LOG.addHandler(remarks)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield remarks
    finally:
        LOG.removeHandler(remarks)


def say(line: str, stream: Any = None) -> None:
    """Print a text, see `screen.say`; where the stream takes nothing, it is lost in silence."""
    with suppress(OSError, ValueError):  # ValueError: it was closed
        screen.say(line, stream)


class Progress:
    """A bar with things per second and time left, or plain lines where the output is no terminal.

    It appears after two seconds and never writes to the standard output.

    Args:
        command: shown in front.
        total: how many things there are.
        counts: their name, e.g. "images".
        images: what images are called, "signals" where they are such.
    """

    def __init__(self, command: str, total: int, counts: str, images: str = "images"):
        self.command, self.label, self.images = command, command, images
        self.bar: Any = None
        self.spent: dict[str, list[float]] = {}  # by name of things: how many, in how many seconds; phases that ended
        self.spoken = time.monotonic()
        self._start(total, counts)

    def _start(self, total: int, counts: str) -> None:
        self.total, self.counts, self.done = total, counts, 0
        self.shown = self.images if counts == "images" else counts
        self.started = time.monotonic()

    def phase(self, name: str, total: int, counts: str) -> None:
        """Begin another part of the work, with its own things, pace and time left."""
        self.spent = self._tally()
        self.label = f"{self.command}, {name}"
        self._start(total, counts)
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _tally(self) -> dict[str, list[float]]:
        """Return by name how many things were done in how many seconds, in all phases."""
        before = self.spent.get(self.counts, [0, 0.0])
        now = [before[0] + self.done, before[1] + time.monotonic() - self.started]
        return self.spent | ({self.counts: now} if now[0] else {})

    def __str__(self) -> str:
        """What is under way, e.g. "ranking (128 of 600 images)"."""
        name = self.label.removeprefix(self.command).removeprefix(", ") or "the work"
        return f"{name} ({self.done} of {self.total} {self.shown})"

    @property
    def rates(self) -> dict[str, float]:
        """Return things per second so far, by name."""
        return {counts: done / max(seconds, 1e-9) for counts, (done, seconds) in self._tally().items()}

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    @property
    def rate(self) -> float:
        """Things per second so far, of the phase at hand."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def advance(self, count: int) -> None:
        """Say that `count` more are done."""
        self.done += count
        now = time.monotonic()
        if now - self.started < PATIENCE or not self.done:
            return
        if sys.stderr.isatty():
            self._draw(count)
        elif now - self.spoken > LINE_EVERY:
            self.spoken = now
            left = (self.total - self.done) / max(self.rate, 1e-9)
            say(
                f"{self.label}: {self.done} of {self.total} {self.shown}, {self.rate:.3g} {self.shown}/s, "
                f"{duration(left)} left",
                stream=sys.stderr,
            )

    def _draw(self, count: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            speed = TextColumn("{task.fields[rate]}")
            self.bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.shown),
                speed,
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.bar.add_task(printable(self.label, most=200), total=self.total, rate="")
            self.bar.start()
            count = self.done
        self.bar.update(self.task, advance=count, rate=f"{self.rate:.3g}/s")


def duration(seconds: float) -> str:
    """Write a time as people say it: 12 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 6000:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def table(columns: dict[str, list[str]], title: str = "") -> str:
    """Return a table as the lines to print; texts are shown literally."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def literal(text: str) -> Text:
        return Text(printable(text, most=200))

    drawn = Table(title=literal(title) if title else None, box=None, pad_edge=False)
    for name, cells in columns.items():
        numeric = all(cell[:1].isdigit() or cell in ("", "-") for cell in cells)
        drawn.add_column(literal(name), justify="right" if numeric else "left", no_wrap=True, overflow="ignore")
    for row in zip(*columns.values(), strict=True):
        drawn.add_row(*map(literal, row))
    # names are never broken, so that they can be copied and searched for
    console = Console(file=io.StringIO(), width=1000, force_terminal=False, force_jupyter=False)
    console.print(drawn)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
