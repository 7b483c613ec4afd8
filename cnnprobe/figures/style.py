"""How every figure looks: sizes, colours, and text that is shown as it is written."""

import unicodedata
from io import BytesIO

from matplotlib.figure import Figure
from matplotlib.text import Text

DPI = 150
ACCENT = "#d1495b"
"""What the reader should look at: an outlined field, a wrong answer."""
SERIES = ("#1b6ca8", "#d1495b", "#3a8f5c", "#c98a1b", "#6d4c9f", "#5a5a5a")
"""Colours of curves, in this order; told apart in grey as well."""


def figure(width: float, height: float, title: str = "") -> Figure:
    """Make an empty figure.

    Args:
        width, height: inches.
        title: one line above everything, shown literally.
    """
    made = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    if title:
        made.suptitle(plain(title, most=160), fontsize=9)
    return made


def plain(text: object, most: int = 60) -> str:
    """Return a stranger's text as one printable line: control characters escaped, shortened in the middle."""
    line = "".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in str(text))
    return line if len(line) <= most else line[: most // 2] + "…" + line[-(most // 2 - 1) :]


def png(made: Figure) -> bytes:
    """Render a figure to the bytes of a PNG file; the same figure gives the same bytes.

    No text is read as mathematics: a class may be called "$x_1".
    """
    for text in made.findobj(Text):
        text.set_parse_math(False)
    buffer = BytesIO()
    made.savefig(buffer, format="png", dpi=DPI, metadata={"Software": "cnnprobe"})
    return buffer.getvalue()
