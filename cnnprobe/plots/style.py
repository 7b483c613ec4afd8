"""The style of every figure: sizes, colours, and text that is shown as it is written."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text

from cnnprobe.errors import printable
from cnnprobe.plots import fonts

DPI = 150
ACCENT = "#d1495b"
"""What the reader should look at: an outlined field, a wrong answer."""
SERIES = ("#1b6ca8", "#d1495b", "#3a8f5c", "#c98a1b", "#6d4c9f", "#5a5a5a")
"""Colours of curves, in this order; told apart in grey as well."""
DIVERGING = LinearSegmentedColormap.from_list(
    "cnnprobe", ["#08306b", "#4393c3", "#ffffff", "#d6604d", "#67000d"], N=257
).with_extremes(bad=(1, 1, 1, 0))
"""Of signed maps: negative blue, positive red. An odd number of steps makes zero white; NaN is left clear."""
STEPS = 256
"""Colours of matplotlib's own colormaps."""

TITLE_SIZE = 9
LETTERS_PER_INCH = 13
"""How many letters of a title stand on an inch, about."""


@contextmanager
def as_shipped() -> Iterator[None]:
    """Have figures made from matplotlib's own defaults inside a `with`, or of a function it decorates.

    A `matplotlibrc` of the user, or of the folder somebody stands in, would make other figures of the same numbers.
    """
    with matplotlib.rc_context({key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}):
        yield


def shades(name: str) -> Colormap:
    """Return a colormap of matplotlib in its usual number of steps, whatever a `matplotlibrc` made of it."""
    return matplotlib.colormaps[name].resampled(STEPS)


def figure(width: float, height: float, title: str = "") -> Figure:
    """Make an empty figure.

    Args:
        width: inches.
        height: inches, without the title.
        title: stands above everything, shown literally, broken into lines that fit; "\\n" breaks a line.
    """
    lines = [row for line in title.split("\n") for row in textwrap.wrap(plain(line, most=400), _letters(width))]
    made = Figure(figsize=(width, height + 0.17 * len(lines)), dpi=DPI, layout="constrained")
    if lines:
        made.suptitle("\n".join(lines), fontsize=TITLE_SIZE)
    return made


def mark(made: Figure, line: str) -> None:
    """Put a line above the title of a figure, broken into lines that fit; the figure grows by them."""
    width, height = made.get_size_inches()
    lines = textwrap.wrap(line, _letters(width))
    made.set_size_inches(width, height + 0.17 * len(lines))
    made.suptitle("\n".join([*lines, made.get_suptitle()]).rstrip(), fontsize=TITLE_SIZE)


def _letters(width: float) -> int:
    """Return how many letters of a title stand in a width, inches."""
    return max(30, int(width * LETTERS_PER_INCH))


def number(value: float) -> str:
    """Write a number shortly, without powers of ten where it can be had: 0.0123, 4.22, 4220; "–" for NaN."""
    if np.isnan(value):
        return "–"
    value = value + 0.0  # no "-0"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def spread(values: np.ndarray, form: str = "{:.2f}") -> str:
    """Write mean ± standard deviation (over n - 1) of what is a number among `values`; "-" where nothing is."""
    known = values[np.isfinite(values)]
    more = f" ± {form.format(known.std(ddof=1))}" if len(known) > 1 else ""
    return form.format(known.mean()) + more if len(known) else "-"


def by_depth(place: int, count: int) -> tuple[float, ...] | str:
    """Return the colour of a layer: easily told apart where they are few, else from dark to light with depth."""
    if count <= len(SERIES):
        return SERIES[place]
    return matplotlib.colormaps["viridis"](0.92 * place / (count - 1))


def plain(text: object, most: int = 60) -> str:
    """Return a stranger's text as one line of a figure: printable, in letters that can be drawn (`fonts.legible`)."""
    return printable(fonts.legible(str(text)), most)


def apart(names: Sequence[str], most: int = 60) -> list[str]:
    """Return names of classes as `plain` does, with their index in front where two would look the same."""
    short = [plain(name, most) for name in names]
    counts = Counter(short)
    return [f"{index}: {word}" if counts[word] > 1 else word for index, word in enumerate(short)]


def png(made: Figure) -> bytes:
    """Render a figure to the bytes of a PNG file; the same figure gives the same bytes.

    No text is read as mathematics: a class may be called "$x_1". A letter that our font lacks is taken from another.
    """
    for text in made.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            text.set_text("\n".join(fonts.legible(line) for line in text.get_text().split("\n")))
            text.set_fontfamily([*text.get_fontfamily(), *fonts.families(text.get_text())])
    buffer = BytesIO()
    made.savefig(buffer, format="png", dpi=DPI, metadata={"Software": "cnnprobe"})
    return buffer.getvalue()
