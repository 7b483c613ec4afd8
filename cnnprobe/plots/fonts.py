"""Letters of any script in figures: from a font that this machine has, else as code points, such as U+732B.

A letter that no font has would be drawn as the same box as every other one, and two names could not be told apart.
"""

import itertools
import unicodedata
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"
"""The font of all figures, which comes with matplotlib."""
PLACEHOLDERS = "last resort", "lastresort", "notdef", "adobe blank"
"""Fonts that have a box for every letter."""
SELECTORS = dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
"""Letters that only choose between forms of the one before."""

_unwritten: set[str] = set()


def legible(text: str) -> str:
    """Return a text of letters that can be drawn here, composed (NFC); others as code points, which are noted."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).translate(SELECTORS)
    parts = []
    for there, letters in itertools.groupby(text, key=_drawn):
        if there:
            parts.append("".join(letters))
        else:
            missing = list(letters)
            _unwritten.update(missing)
            parts.append(" ".join(f"U+{ord(letter):04X}" for letter in missing))
    return "".join(parts)


def _drawn(letter: str) -> bool:
    """Tell whether a letter can be drawn, or is none: what controls is escaped by `errors.printable`."""
    return unicodedata.category(letter)[0] in "CZ" or family(letter) is not None


def families(text: str) -> list[str]:
    """Return the fonts beyond our own that the letters of a text need."""
    found = (family(letter) for letter in text if not letter.isascii() and not letter.isspace())
    return sorted({name for name in found if name is not None} - {OWN})


def unwritten() -> str:
    """Return the letters that were written as code points since this was last asked, in order, and forget them."""
    letters = "".join(sorted(_unwritten))
    _unwritten.clear()
    return letters


@cache
def family(letter: str) -> str | None:
    """Return the name of a font that has a letter, our own first; None where none here has."""
    if _own().get_char_index(ord(letter)):
        return OWN
    return next((name for name, font in _others() if font.get_char_index(ord(letter))), None)


@cache
def _own() -> FT2Font:
    return FT2Font(font_manager.findfont(OWN))


@cache
def _others() -> tuple[tuple[str, FT2Font], ...]:
    """Return the upright fonts of this machine by name; those with a box for every letter are left out."""
    upright = [entry for entry in font_manager.fontManager.ttflist if entry.style == "normal"]
    upright = [entry for entry in upright if not entry.name.lower().startswith(PLACEHOLDERS)]
    upright.sort(key=lambda one: (not one.name.startswith(("DejaVu", "Noto")), one.name, _bold(one)))
    found: dict[str, FT2Font] = {}
    for entry in upright:
        try:
            found.setdefault(entry.name, FT2Font(entry.fname))
        except (OSError, RuntimeError):  # a damaged one
            continue
    return tuple(found.items())


def _bold(entry: font_manager.FontEntry) -> float:
    """Return how far the weight of a font is from a usual one."""
    weight = font_manager.weight_dict.get(entry.weight, entry.weight)
    return abs(float(weight) - 400) if isinstance(weight, int | float) else 1000.0
