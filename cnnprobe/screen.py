"""The one way to a terminal: whatever a text holds, only letters and ends of lines arrive there."""

import sys
from typing import TextIO


def escaped(text: object) -> str:
    r"""Return a text with control characters, marks of direction, odd spaces, broken bytes as "\x1b", "\u202e" …"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: object, stream: TextIO | None = None) -> None:
    """Print a text; what the terminal cannot show, or would obey, is escaped.

    Raises:
        OSError: the stream takes nothing.
    """
    stream = stream or sys.stdout
    lines = "\n".join(map(escaped, str(text).split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
