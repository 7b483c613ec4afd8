"""Numbers whose thousands are separated by something other than commas: 3.070,05 and 1 234,5 and 1'234.5."""

import re
from collections.abc import Iterable

MARKS = ".'\N{RIGHT SINGLE QUOTATION MARK} \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
"""What stands between thousands beside the comma."""
GROUPS = rf"[+-]?[1-9]\d{{0,2}}(?:(?P<mark>[{MARKS}])\d{{3}})(?:(?P=mark)\d{{3}})*"
NUMBER = re.compile(rf"(?P<whole>{GROUPS})(?:(?P<point>[.,])(?P<rest>\d*))?")


def marked(text: str) -> tuple[str, str] | None:
    """Return the mark between the thousands of a number and the number without it, a point for its decimals.

    Returns:
        None where the cell may be another number, as 3.070 and 1.234, or a name, as 1 234.
    """
    found = NUMBER.fullmatch(text)
    if found is None or found["mark"] == found["point"]:
        return None
    mark = found["mark"]
    several = mark == "." and found["whole"].count(mark) > 1
    if not (found["point"] or several or mark not in ". "):
        return None
    return mark, _without(found)


def mark_of(texts: Iterable[str]) -> str | None:
    """Return the mark by which cells that belong together set thousands apart; None where no cell tells."""
    return next((found[0] for found in map(marked, texts) if found), None)


def unmarked(text: str, mark: str) -> str | None:
    """Return a number of a column that has a mark between thousands, without it and with a point for the decimals.

    Args:
        text: the number.
        mark: of its column.

    Returns:
        None where the cell does not go with the mark, as 3.07 beside 3.070,05.
    """
    found = NUMBER.fullmatch(text)
    if found is not None and found["mark"] == mark != found["point"]:
        return _without(found)
    if mark == ".":
        return None if mark in text or text.count(",") > 1 else text.replace(",", ".")
    return text


def either(texts: Iterable[str]) -> str | None:
    """Return the first of the numbers with a point, where each may be one with a point between thousands, as 3.070."""
    pointed = [text for text in texts if "." in text]
    found = [NUMBER.fullmatch(text) for text in pointed]
    return pointed[0] if found and all(one and one["mark"] == "." and one["point"] is None for one in found) else None


def _without(found: re.Match) -> str:
    whole = found["whole"].replace(found["mark"], "")
    return whole if found["point"] is None else f"{whole}.{found['rest']}"
