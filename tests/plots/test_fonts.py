"""Names in any script can be told apart in figures: by a font that has their letters, or by code points."""

import json

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image

from cnnprobe.methods.train.matrix_figure import confusion_matrix
from cnnprobe.plots import fonts, style

NOWHERE = "\U0001e900", "\U0001e901"
"""Two letters (of Adlam) that the fonts of matplotlib do not have."""


@pytest.fixture(autouse=True)
def own_font_only(monkeypatch):
    """Let no other fonts of the machine be found: a machine has any."""
    monkeypatch.setattr(fonts, "_others", lambda: ())
    fonts.family.cache_clear()
    fonts.unwritten()
    yield
    fonts.family.cache_clear()


def test_letters_that_no_font_has_are_code_points_and_told():
    """F92."""
    assert fonts.legible("猫 ant 狗狗") == "U+732B ant U+72D7 U+72D7"
    assert fonts.unwritten() == "狗猫" and fonts.unwritten() == ""


@pytest.mark.parametrize("text", ["ant", "é", "кошка", "Ωμέγα", "שלום", "مرحبا", "☺"])
def test_letters_that_our_font_has_stay(text):
    """F92."""
    assert fonts.legible(text) == text and fonts.families(text) == [] and fonts.unwritten() == ""


def test_letters_are_composed_and_choosers_of_forms_left_out():
    """F92."""
    assert fonts.legible("e\u0301") == "é" and fonts.legible("☺\ufe0f") == "☺"


def test_a_font_that_has_them_is_found_and_used(monkeypatch):
    """F92: here one of matplotlib's own with a sign that ours lacks."""
    other = FT2Font(font_manager.findfont("STIXGeneral"))
    ours = FT2Font(font_manager.findfont(fonts.OWN))
    letter = next(chr(code) for code in sorted(other.get_charmap()) if code > 0x2100 and not ours.get_char_index(code))
    assert fonts.legible(letter) != letter
    fonts.family.cache_clear()
    monkeypatch.setattr(fonts, "_others", lambda: (("STIXGeneral", other),))
    assert fonts.legible(letter) == letter and fonts.families(f"a{letter}") == ["STIXGeneral"]
    made = style.figure(2, 1)
    text = made.text(0.5, 0.5, letter)
    style.png(made)
    assert text.get_fontfamily()[-1] == "STIXGeneral"


@pytest.mark.parametrize(
    "names", ["猫狗", NOWHERE, ("שלום", "שלומ"), ("👩\u200d🔬", "👩\u200d🚀"), ("日" * 40, "本" * 40)]
)
def test_two_names_in_one_script_give_two_figures(names):
    """F92."""
    one, other = (style.png(confusion_matrix(np.eye(2, dtype=int), ["ant", name])) for name in names)
    assert one != other


@pytest.mark.parametrize("pair", [("é", "e\u0301"), ("x" * 30 + "a" + "y" * 30, "x" * 30 + "b" + "y" * 30)])
def test_names_that_would_look_the_same_have_their_index(pair):
    """F92: composed and not, or shortened to the same."""
    first, second, third = style.apart([pair[0], "ant", pair[1]], 18)
    assert first.startswith("0: ") and second == "ant" and third.startswith("2: ") and first[3:] == third[3:]


@pytest.mark.rendered
def test_a_run_tells_what_it_could_not_write_and_the_terminal_keeps_the_letters(cnnprobe, tmp_path):
    """F92: the figure has code points, the warning the letters themselves."""
    for kind in ("ant", "猫"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "data" / kind / "1.png")
    words = ("model=convnet", "weights=random", "layer=conv1", "device.workers=0")
    answer = cnnprobe("record", *words, "dataset=folder", "dataset.root=data")
    assert answer.status == 0, answer.err
    assert "no font on this machine has 1 letters of names" in answer.err and "U+732B 猫" in answer.err
    about = json.loads((tmp_path / "outputs/record/convnet-folder/v001/run.json").read_text(encoding="utf-8"))
    assert any("U+732B" in line for line in about["warnings"])


def test_placeholders_of_every_letter_are_no_fonts(monkeypatch):
    """F92."""
    monkeypatch.undo()
    names = [name for name, _ in fonts._others()]
    assert "DejaVu Serif" in names and not any(name.lower().startswith("last") for name in names)
