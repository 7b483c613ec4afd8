"""The one way to a terminal: whatever a text contains, only printable characters and line ends arrive there."""

import sys
from typing import TextIO

from cnnprobe.errors import escaped


def say(text: object, stream: TextIO | None = None) -> None:
    """Print a text; what the terminal cannot show, or would obey, is escaped.

    Raises:
        OSError: the stream takes nothing.
    """
    stream = stream or sys.stdout
    lines = "\n".join(map(escaped, str(text).split("\n")))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(lines.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
