"""Every regular expression that strangers can reach takes a time in proportion to the text, whatever they write.

Inputs are made from the pattern itself: what leads to a part that repeats, that part again and again, and an end that
does not match. A pattern of which two parts can share a text, or that is tried anew at each letter, needs the square.
"""

import ast
import importlib
import re
import string
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from re import _parser as parser

import pytest

PACKAGE = Path(__file__).parents[2] / "cnnprobe"
CALLS = ("match", "fullmatch", "search", "sub", "split", "findall", "finditer")
PUT_TOGETHER = {
    'rf"[0-9]{{1,{DIGITS}}}"': "[0-9]{1,15}",
    'rf"{re.escape(folder)}[_ -]([^\\d/]+)\\.\\w+"': r"ant[_ -]([^\d/]+)\.\w+",
    'rf\'(?:^|{between})({blank}"(?:[^"]|"")*"{blank}|[^{between}]*)\'': (
        r'(?:^|\t)([^\S\t]*"(?:[^"]|"")*"[^\S\t]*|[^\t]*)'
    ),
    'f"{POINTWISE}|{UNCHANGED}|max|min"': "(re)?lu|max|min",
}
"""Patterns that are put together where they are used, by how that is written, and one that it may give."""
OF_CODE = ("instruments/fields/rules.py", "instruments/layers/multiply_adds.py")
"""Files that match the names of functions which a network called: code that was run, whose author needs no pattern."""
ALPHABET = " \t\na1_.-\"'\\${}()[]<>/|*#@,:;=+~%\x00é"
ENDS = ("", "!", "\n!", "\x00")
LENGTH, PATIENCE = 3000, 0.004
"""Letters of an input, and seconds that no linear pattern needs for so many."""


def used() -> Iterator[tuple[str, re.Pattern, str]]:
    """Give every pattern of the package with where it stands and the call that uses it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "re." not in text:
            continue
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        where, tree = str(path.relative_to(PACKAGE)), ast.parse(text)
        module = importlib.import_module(name.removesuffix(".__init__"))
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner, call = node.func.value, node.func.attr
            if isinstance(owner, ast.Name) and owner.id == "re" and call in CALLS:
                flags = [one for one in (*node.args[1:], *(key.value for key in node.keywords)) if _is_flags(one)]
                value = eval("|".join(map(ast.unparse, flags)) or "0", {"re": re})
                yield f"{where}:{node.lineno}", re.compile(_pattern(node.args[0], text, module), value), call
            elif call in CALLS and isinstance(found := getattr(module, getattr(owner, "id", ""), None), re.Pattern):
                yield f"{where}:{node.lineno}", found, call
        for value in vars(module).values():  # compiled here, used elsewhere or in a loop
            for found in value if isinstance(value, list | tuple) else [value]:
                if isinstance(found, re.Pattern):
                    yield where, found, "fullmatch"
                    if isinstance(value, list | tuple):
                        yield where, found, "finditer"


def _is_flags(node: ast.expr) -> bool:
    return ast.unparse(node).startswith("re.")


def _pattern(node: ast.expr, text: str, module: object) -> str | bytes:
    """Return a pattern that is written in a call, is the constant of a module, or is put together there."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and isinstance(found := getattr(module, node.id, None), str):
        return found
    written = ast.get_source_segment(text, node) or ""
    if isinstance(node, ast.Name) and node.id == "beginning":
        return "<svg"
    return PUT_TOGETHER[written]


def shortest(parts: Iterable, full: bool = False) -> str:
    """Return a short text that parts of a pattern match, but for what they look ahead or back at.

    Args:
        parts: of it.
        full: with what may be left out, and the last of its alternatives.
    """
    text = ""
    for kind, value in parts:
        match str(kind):
            case "LITERAL":
                text += chr(value)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                text += shortest(value[2], full) * max(value[0], full)
            case "SUBPATTERN":
                text += shortest(value[-1], full)
            case "BRANCH":
                text += shortest(value[1][-full], full)
            case "IN" | "ANY" | "NOT_LITERAL":
                text += next(iter(letters([(kind, value)])), "")
    return text


def letters(parts: list) -> list[str]:
    """Return the letters of the alphabet that one part matches."""
    pattern = parser.SubPattern(parser.State(), parts)
    pattern.state.str, own = "", "".join(chr(value) for kind, value in parts if str(kind) == "LITERAL")
    compiled = re.compile(_written(pattern), re.DOTALL)
    return [one for one in dict.fromkeys(own + ALPHABET + string.ascii_letters[:8]) if compiled.fullmatch(one)]


def _written(pattern: parser.SubPattern) -> str:
    """Write one letter's pattern out again."""
    kind, value = pattern.data[0]
    if str(kind) == "ANY":
        return "."
    if str(kind) in ("LITERAL", "NOT_LITERAL"):
        return f"[{'^' * (str(kind) == 'NOT_LITERAL')}{re.escape(chr(value))}]"
    inside = ""
    for one, what in value:
        match str(one):
            case "NEGATE":
                inside += "^"
            case "LITERAL":
                inside += re.escape(chr(what))
            case "RANGE":
                inside += f"{re.escape(chr(what[0]))}-{re.escape(chr(what[1]))}"
            case "CATEGORY":
                word = str(what).removeprefix("CATEGORY_")
                code = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[word.removeprefix("NOT_")]
                inside += "\\" + (code.upper() if word.startswith("NOT_") else code)
    return f"[{inside}]"


def repeated(parts: Iterable, before: str = "") -> Iterator[tuple[str, str]]:
    """Give, for each part of a pattern that repeats, a text that leads to it, and texts that it may be."""
    for kind, value in parts:
        match str(kind):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                inner = value[2]
                if value[1] > 9:
                    one = len(inner) == 1 and str(inner[0][0]) in ("IN", "ANY", "LITERAL", "NOT_LITERAL")
                    yield from ((before, text) for text in (letters(list(inner)) if one else [shortest(inner)]))
                    yield "", before + shortest(inner)
                yield from repeated(inner, before)
            case "SUBPATTERN":
                yield from repeated(value[-1], before)
            case "BRANCH":
                for branch in value[1]:
                    yield from repeated(branch, before)
        before += shortest([(kind, value)])


def slow(pattern: re.Pattern, call: str) -> str:
    """Return an input for which a pattern takes more than in proportion to its length; "" where there is none."""
    whole = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    parts = parser.parse(whole, pattern.flags & ~re.UNICODE)
    pairs = [(before, one) for before, one in dict.fromkeys(repeated(parts)) if one]
    pairs += [("", one) for one in {shortest(parts), shortest(parts, full=True)} if one]
    for before, one in pairs:
        for end in ENDS:
            if needs(pattern, call, before, one, end, LENGTH) < PATIENCE:
                continue
            took = [
                min(needs(pattern, call, before, one, end, count) for _ in range(3)) for count in (LENGTH, 4 * LENGTH)
            ]
            if took[1] > 8 * took[0]:  # four times the text: four times as long, or sixteen
                return f"{before!r} + {one!r} * n + {end!r}: {took[0]:.4f} s, {took[1]:.4f} s for four times as much"
    return ""


def needs(pattern: re.Pattern, call: str, before: str, one: str, end: str, length: int) -> float:
    """Return the seconds of the processor that a pattern takes for an input."""
    text: str | bytes = before + one * (length // min(len(one), 4)) + end
    if isinstance(pattern.pattern, bytes):
        text = text.encode("latin-1", "replace")
    began = time.process_time()
    if call == "sub":
        pattern.sub(text[:0], text)
    elif call == "finditer":
        list(pattern.finditer(text))
    else:
        getattr(pattern, call)(text)
    return time.process_time() - began


@pytest.mark.parametrize(
    ("pattern", "call"),
    [
        (r"a+$", "search"),
        (r"\$\{\s*(?:\.*[\w.]+)\s*\}", "sub"),
        (r"\$\{[^${}]*\s*\}", "sub"),
        (r"x(\w+\.)*y", "findall"),
        (r"((?:^|.*_))data(/.*)?$", "fullmatch"),
        (r"^\s*([\w-]+):", "findall"),
    ],
)
def test_a_pattern_that_is_slow_is_found(pattern, call):
    """Of those that are quadratic, or worse: an input is made for each."""
    flags = re.MULTILINE if pattern.startswith("^") else 0
    assert slow(re.compile(pattern, flags), call)


def test_every_pattern_takes_a_time_in_proportion_to_the_text():
    """F102: a configuration, table or name of 250 kB held a run for hours."""
    found = {(one.pattern, one.flags, call): (where, one) for where, one, call in used()}
    assert len(found) > 100
    found = {key: (where, one) for key, (where, one) in found.items() if where.partition(":")[0] not in OF_CODE}
    told = [f"{where} {call} {one.pattern!r}: {what}"
            for (_, _, call), (where, one) in found.items() if (what := slow(one, call))]  # fmt: skip
    assert told == []
