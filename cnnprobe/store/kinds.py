"""Kinds of plain values, as JSON has them: what anyone may have written is looked at before it is used."""

import math
from datetime import datetime
from typing import Any


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a kind; an int is a float, a bool is neither, and numbers are finite.

    Args:
        value: as JSON gives it.
        kind: a type, of which `datetime` is a text (a moment, with its offset from UTC); several kinds or texts;
            [kind of every item]; {type of every key: kind of every value}; or {name: kind}, where names with "?" may
            be missing, and others may be there.
    """
    if isinstance(kind, tuple):
        return any(value == one if isinstance(one, str | None) else fits(value, one) for one in kind)
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and _fits_names(value, kind)
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind is datetime:
        return isinstance(value, str) and _is_moment(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= 2**53:
        return False
    return isinstance(value, int) or (kind is float and math.isfinite(value))


def _fits_names(value: dict[str, Any], kind: dict[Any, Any]) -> bool:
    ((first, inner), *_) = kind.items()
    if isinstance(first, str):
        for name, inner in kind.items():
            own = name.removesuffix("?")
            if own not in value:
                if own == name:
                    return False
            elif not fits(value[own], inner):
                return False
        return True
    return all((first is str or _is_number(key)) and fits(item, inner) for key, item in value.items())


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 16
