"""Types, choices and ranges of options, read from annotations without importing the module.

A method's `compute`, a model's or dataset's `build` states what each option may be:

    def compute(*, model, dataset, k: Annotated[int, Range(1)], criterion: Literal["max", "mean"]): ...

`declared` reads that from the source text, so that a command line is checked, and its help written,
before torch is imported. Defaults and the words of the help stand in the YAML of the same name.
"""

import ast
import keyword
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, nearest

PACKAGE = Path(__file__).parents[1]
Run = Any
"""Annotation of an option that names a finished run; the runner finds and opens it."""

LARGEST = 2**53
"""Whole numbers beyond this are a slip of the finger: they no longer pass through JSON and HDF5 unchanged."""

_BODY = re.compile(r"^(?:def |async def |class |@)", re.MULTILINE)


@dataclass(frozen=True)
class Range:
    """Which numbers an option takes: from `minimum` to `maximum`, or strictly `above` / `below`."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum} to {self.maximum}"
        parts = [
            f"{self.minimum} or more" if self.minimum is not None else "",
            f"above {self.above}" if self.above is not None else "",
            f"at most {self.maximum}" if self.maximum is not None else "",
            f"below {self.below}" if self.below is not None else "",
        ]
        return " and ".join(part for part in parts if part)


@dataclass(frozen=True)
class Option:
    """What one option may be: one of several alternatives.

    Args:
        alternatives: of ("none" | "int" | "float" | "bool" | "str" | "run", Range | None),
            ("choice", value) and ("list", Option).
    """

    alternatives: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, annotation: str) -> "Option":
        """Read an annotation written as text, e.g. "Annotated[int, Range(1)] | None"."""
        return cls(tuple(_alternatives(ast.parse(annotation, mode="eval").body, {})))

    @property
    def choices(self) -> list[Any]:
        """The closed list of values, those inside a list included; empty where any value may stand."""
        own = [value for kind, value in self.alternatives if kind == "choice"]
        inner = [c for kind, value in self.alternatives if kind == "list" for c in value.choices]
        return own + [choice for choice in inner if choice not in own]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its alternatives."""
        return {kind for kind, _ in self.alternatives}

    def __str__(self) -> str:
        return _either([word for word in (_words(*a) for a in self.alternatives) if word])

    @property
    def short(self) -> str:
        """The same in the fewest words, for a page of help: "max | mean | list", "1 or more"; "" for any text."""
        words = []
        for kind, detail in self.alternatives:
            if kind in ("int", "float"):
                words.append(str(detail) if isinstance(detail, Range) else "number")
            elif kind == "choice":
                words.append(str(detail))
            elif kind == "list":
                words.append("list" if set(map(str, detail.choices)) <= set(words) else f"list of {detail.short}")
        return " | ".join(dict.fromkeys(words)) if self.kinds != {"bool"} else ""

    def check(self, value: Any, name: str) -> Any:
        """Return the value as its type, or raise the line that tells the user what it must be.

        Raises:
            UserError: "k must be a whole number, 1 or more, got 0".
        """
        for kind, detail in self.alternatives:
            fits, converted = _fit(kind, detail, value)
            if fits:
                return converted
        hint = nearest(value, self.choices) if isinstance(value, str) and self.choices else ""
        raise UserError(f"{name} must be {self}, got {_shown(value)}{hint}")


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value)


def _either(words: list[str]) -> str:
    """Join "max", "mean", "area" to "max, mean or area"."""
    unique = list(dict.fromkeys(words))
    return unique[0] if len(unique) == 1 else ", ".join(unique[:-1]) + " or " + unique[-1] if unique else "null"


def _words(kind: str, detail: Any) -> str:
    limits = f", {detail}" if isinstance(detail, Range) else ""
    match kind:
        case "int":
            return f"a whole number{limits}"
        case "float":
            return f"a finite number{limits}"
        case "bool":
            return "true or false"
        case "str":
            return "a text"
        case "run":
            return "a run"
        case "none":
            return "null"
        case "list":
            return f"a list of [{detail}]"
        case _:
            return str(detail)


def _fit(kind: str, detail: Any, value: Any) -> tuple[bool, Any]:
    """Tell whether a value fits one alternative, and give it in that type."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    inside = detail is None or not isinstance(detail, Range) or (number and value in detail)
    match kind:
        case "none":
            return value is None, None
        case "int":
            return isinstance(value, int) and number and inside and abs(value) <= LARGEST, value
        case "float":
            return number and math.isfinite(value) and inside, float(value) if number else None
        case "bool":
            return isinstance(value, bool), value
        case "str" | "run":
            return isinstance(value, str) and _is_text(value), value
        case "list":
            if not isinstance(value, list):
                return False, None
            fits = [_fits_any(detail, item) for item in value]
            return bool(value) and all(ok for ok, _ in fits), [item for _, item in fits]
        case _:
            return type(value) is type(detail) and value == detail, value


def _is_text(value: str) -> bool:
    """Tell whether a text can stand in every file: no NUL, no byte that is not UTF-8."""
    return "\0" not in value and value.encode("utf-8", "ignore").decode() == value


def _fits_any(option: Option, value: Any) -> tuple[bool, Any]:
    for kind, detail in option.alternatives:
        fits, converted = _fit(kind, detail, value)
        if fits:
            return True, converted
    if "str" in option.kinds and type(value) is int:
        return True, str(value)  # the layer called 0 of a Sequential, as where it stands alone
    return False, None


def option_name(parameter: str) -> str:
    """Return the option that a parameter stands for: `class_`, which Python cannot call `class`, is `class`."""
    return parameter[:-1] if parameter.endswith("_") and keyword.iskeyword(parameter[:-1]) else parameter


def parameter_name(option: str) -> str:
    """Return the parameter that an option is handed to; the other way of `option_name`."""
    return f"{option}_" if keyword.iskeyword(option) else option


@cache
def declared(path: Path, function: str) -> dict[str, Option]:
    """Read the annotated keyword-only parameters of a function from its source file.

    Args:
        path: the Python file; it is parsed, not run.
        function: name of a function at the top level of it.

    Returns:
        by option name; a parameter whose annotation is a dataclass of this package stands for its fields; parameters
        without annotation, or with one that is not about plain values (a model, a dataset), are left out.
    """
    found = {}
    for name, annotation, names in _parameters(path, function):
        try:
            found[option_name(name)] = Option(tuple(_alternatives(annotation, names)))
        except LookupError:
            continue
    return found


def parameters(path: Path, function: str) -> list[str]:
    """Return the option names of all keyword-only parameters of a function, annotated or not; of groups, the fields."""
    return [option_name(name) for name, _, _ in _parameters(path, function)]


def defaults(path: Path, function: str) -> dict[str, Any]:
    """Return the defaults of the keyword-only parameters of a function, by option name; "???" where there is none.

    Raises:
        UserError: a default is no plain value that stands in the file.
    """
    tree = parsed(path)
    names = _assigned(tree)
    found = {}
    given = _function(tree, path, function)
    for argument, value in zip(given.kwonlyargs, given.kw_defaults):
        value = names.get(value.id, value) if isinstance(value, ast.Name) else value
        try:
            found[option_name(argument.arg)] = "???" if value is None else ast.literal_eval(value)
        except ValueError:
            raise UserError(f"{path.name}: the default of {argument.arg} must be a plain value") from None
    return found


def explained(path: Path, function: str) -> dict[str, str]:
    """Return what the "Args" of a function's docstring say of its options, by option name."""
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            text = (ast.get_docstring(node) or "").partition("Args:")[2].partition("\n\n")[0]
            lines = re.sub(r"\n {8,}", " ", text).splitlines()
            found = (re.fullmatch(r" {4}(\w+): (.+)", line) for line in lines)
            return {option_name(one[1]): one[2].removesuffix(".") for one in found if one}
    return {}


Parameter = tuple[str, ast.expr | None, dict[str, ast.expr]]
"""Name and annotation, and what the names in it stand for."""


def _parameters(path: Path, function: str) -> Iterator[Parameter]:
    """Give the keyword-only parameters of a function; in place of a group of options, the fields of its dataclass."""
    tree = parsed(path)
    for argument in _function(tree, path, function).kwonlyargs:
        group = _group(argument.annotation, tree)
        yield from [(argument.arg, argument.annotation, _assigned(tree))] if group is None else group


def _function(tree: ast.Module, path: Path, name: str) -> ast.arguments:
    """Return the parameters of a function at the top level of a file; LookupError where there is none."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node.args
    raise LookupError(f"{path} has no function {name}")


def _group(annotation: ast.expr | None, tree: ast.Module) -> list[Parameter] | None:
    """Return the fields of the dataclass that an annotation names, imported from this package; None for another one."""
    if not isinstance(annotation, ast.Name):
        return None
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or not node.module or not node.module.startswith(f"{PACKAGE.name}."):
            continue
        if annotation.id in [alias.name for alias in node.names]:
            return _fields(annotation.id, parsed(PACKAGE.parent.joinpath(*node.module.split(".")).with_suffix(".py")))
    return None


def _fields(name: str, tree: ast.Module) -> list[Parameter] | None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name and node.decorator_list:
            return [
                (one.target.id, one.annotation, _assigned(tree))
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            ]
    return None


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what is assigned to the names of a module."""
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def head(path: Path) -> ast.Module:
    """Return the syntax tree of what stands above the first function or class of a file: a quarter of the time."""
    try:
        return ast.parse(_BODY.split(path.read_text(encoding="utf-8"), maxsplit=1)[0])
    except SyntaxError:  # it was a line of a text
        return parsed(path)


def _alternatives(node: ast.expr | None, names: dict[str, ast.expr]) -> list[tuple[str, Any]]:
    """Turn an annotation into alternatives; LookupError where it is not about plain values."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _alternatives(left, names) + _alternatives(right, names)
        case ast.Constant(value=None):
            return [("none", None)]
        case ast.Name(id="int" | "float" | "str" | "bool" as kind):
            return [(kind, None)]
        case ast.Name(id="Run"):
            return [("run", None)]
        case ast.Name(id=alias) if alias in names:
            return _alternatives(names[alias], names)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return [("choice", ast.literal_eval(item)) for item in items]
        case ast.Subscript(value=ast.Name(id="list"), slice=inside):
            return [("list", Option(tuple(_alternatives(inside, names))))]
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, limits])):
            return [(name, _range(limits)) for name, _ in _alternatives(kind, names)]
    raise LookupError("not an option")


def _range(node: ast.expr) -> Range:
    if not isinstance(node, ast.Call):
        raise LookupError("not a range")
    return Range(
        *[_number(argument) for argument in node.args],
        **{keyword.arg: _number(keyword.value) for keyword in node.keywords if keyword.arg},
    )


def _number(node: ast.expr) -> float:
    """Read a bound; powers and differences such as `2**32 - 1` may be written out."""
    match node:
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _number(left) ** _number(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _number(left) - _number(right)
    return ast.literal_eval(node)
