"""The one way to a terminal: whatever a text contains, only printable characters and line ends arrive there.

What is printed is about the work and never changes it: a reader that goes away and a full disk end no run, whoever
prints.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from cnnprobe.errors import escaped


class UnreadError(BrokenPipeError):
    """Nobody reads what is printed any more, as after `cnnprobe --help | head`."""


def say(text: object, stream: TextIO | None = None) -> None:
    """Print a text; what the terminal cannot show, or would obey, is escaped.

    Raises:
        UnreadError, OSError: the stream takes nothing.
    """
    stream = stream or sys.stdout
    lines = "\n".join(map(escaped, str(text).split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(lines.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError as error:
        raise UnreadError(*error.args) from None


class Lenient:
    """A stream that lets whoever prints go on where it takes nothing.

    Args:
        stream: the one that is meant.
    """

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text if that is possible."""
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Bring what was written on its way if that is possible."""
        with suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def lenient() -> Iterator[None]:
    """Let whoever prints inside the block go on where a stream takes nothing: also bars, networks and experiments."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Lenient, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def flush() -> None:
    """Bring on its way what was printed; what cannot be is dropped, or Python would complain of it at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # one that is no file
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
