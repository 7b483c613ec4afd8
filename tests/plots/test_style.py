import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from cnnprobe.plots import style

ROOT = Path(__file__).parents[2]


def test_the_same_figure_gives_the_same_bytes():
    def drawn():
        made = style.figure(3, 2, "title")
        made.subplots().plot([1, 2, 3])
        return style.png(made)

    assert drawn() == drawn()


def test_control_characters_are_escaped_and_long_texts_cut_in_the_middle():
    """F80."""
    assert style.plain("a\x1b[0m\nb") == "a\\x1b[0m\\nb"
    assert len(style.plain("x" * 500, most=60)) == 60


def test_numbers_are_short_and_without_powers_of_ten():
    assert style.number(float("nan")) == "–"
    assert [style.number(x) for x in (0.01234, 4.2249, 4220.3, 0, -0.0)] == ["0.0123", "4.22", "4220", "0", "0"]


def test_a_long_title_is_broken_into_lines_that_fit():
    made = style.figure(4, 2, "word " * 40 + "\nsecond")
    lines = made.get_suptitle().split("\n")
    assert lines[-1] == "second"
    assert max(map(len, lines)) <= 4 * style.LETTERS_PER_INCH


def test_letters_that_the_font_lacks_do_not_stop_a_figure():
    """F77: nor draw a warning."""
    made = style.figure(3, 2, "日本")
    made.subplots().set_title("\U0001e900")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert style.png(made).startswith(b"\x89PNG")


def test_a_mark_stands_above_the_title_and_takes_no_room_from_the_figure():
    """F69."""
    made = style.figure(3, 2, "title")
    before = made.get_figheight()
    style.mark(made, "not complete: 4 of 10 rows")
    assert made.get_suptitle() == "not complete: 4 of 10 rows\ntitle"
    assert made.get_figheight() > before
    bare = style.figure(3, 2)
    style.mark(bare, "not complete")
    assert bare.get_suptitle() == "not complete"


def test_a_long_mark_is_broken_into_lines_that_a_narrow_figure_grows_by():
    made = style.figure(4, 2, "title")
    before = made.get_figheight()
    style.mark(made, "images: 400 drawn in proportion to the classes (seed 0) of 1000, 2 of 2 classes")
    lines = made.get_suptitle().split("\n")
    assert len(lines) == 3 and lines[-1] == "title"
    assert max(map(len, lines)) <= 4 * style.LETTERS_PER_INCH
    assert made.get_figheight() == pytest.approx(before + 2 * 0.17)


def test_a_spread_is_that_of_a_sample_and_one_value_has_none():
    """F99: over n - 1, as everywhere."""
    assert style.spread(np.array([1.0, np.nan, 3.0, 8.0]), "{:.3f}") == "4.000 ± 3.606"
    assert style.spread(np.array([4.0, np.nan])) == "4.00" and style.spread(np.array([np.nan])) == "-"


def test_a_matplotlibrc_changes_no_figure():
    """F102: one lies in the folder somebody stands in."""

    @style.as_shipped()
    def drawn():
        made = style.figure(2, 2, "title")
        made.subplots().plot([1, 2, 3])
        return style.png(made)

    before = drawn()
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "text.usetex": True, "savefig.dpi": 9}):
        assert drawn() == before
        assert matplotlib.rcParams["font.size"] == 20


def test_a_matplotlibrc_changes_no_colours(monkeypatch):
    """F102: of `image.lut`, which counts where matplotlib is first loaded."""
    whole = matplotlib.colormaps["Greys"]
    monkeypatch.setattr(style.matplotlib, "colormaps", {"Greys": whole.resampled(4)})
    assert style.shades("Greys")(0.4) == whole(0.4)


@pytest.mark.parametrize("kind", ["pipe", "no text", "colours"])
def test_matplotlib_is_loaded_whatever_lies_here(tmp_path, kind):
    """F103: a pipe would be waited for."""
    path = tmp_path / "matplotlibrc"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"a: \xff" if kind == "no text" else b"image.lut: 4")
    code = "import cnnprobe.plots, matplotlib; print(matplotlib.colormaps['Greys'].N)"
    asked = [sys.executable, "-B", "-c", code]
    done = subprocess.run(asked, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.stdout == "256\n", done.stderr
