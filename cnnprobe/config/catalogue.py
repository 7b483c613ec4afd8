"""The available choices: commands, models, datasets and devices, read from the files that define them.

Nothing is registered. A method is `methods/<name>.py`, or `methods/<name>/method.py`, and `configs/method/<name>.yaml`;
a model is `models/<name>.py`, or stands in a folder of its subject there, and `configs/model/<name>.yaml`, a dataset
likewise. Only the standard library and PyYAML are imported here, and no module is run.
"""

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cnnprobe.config.options import Option, declared, explained, head, parameters, parsed
from cnnprobe.config.options import defaults as values_of
from cnnprobe.errors import UserError, unknown

PACKAGE = Path(__file__).parent.parent
LAST = 99
"""Place in the list of commands of one that names none."""
GROUPS = ("model", "dataset", "method", "device")
FUNCTION = {"model": "build", "dataset": "build", "method": "compute"}
"""The function whose annotations say what the options of a group may be."""

SUBJECTS = {"model": ("signals",), "dataset": ("published",)}
"""Folders of a group's folder whose files are choices as well."""

ROOT = {
    "layer": Option.of("str | list[str] | None"),
    "units": Option.of("str | int | list[int | str | list[int | str]]"),
    "weights": Option.of("str | list[str]"),
    "seed": Option.of("Annotated[int, Range(0)]"),
    "batch_size": Option.of("Annotated[int, Range(1, 65536)]"),
    "limit": Option.of("Annotated[int, Range(1)] | str | None"),
    "name": Option.of("str | None"),
    "out": Option.of("str"),
}
"""Keys at the root of commands; `layer` and `units` only where a method has them."""

OWN: dict[str, Path] = {}
"""Experiments of the user's own, by command: the Python file that the command line names, see `own_experiment`."""

UPKEEP_OPTIONS = ("out",)
"""Keys of the root that the commands of upkeep take."""

DEVICE = {
    "name": Option.of('Literal["auto", "cpu", "cuda"]'),
    "threads": Option.of("Annotated[int, Range(1, 1024)] | None"),
    "workers": Option.of("Annotated[int, Range(0, 256)] | None"),
}

HELP = {
    "layer": "layers to read: names of `cnnprobe layers`, a list [conv1,conv3], a pattern conv*, or all",
    "units": "channels of each layer: all, a list [0,5], or a range 0:32",
}


def configs_dir() -> Path:
    """Return the folder of the YAML files: inside an installed package, or beside it in a checkout."""
    for folder in (PACKAGE.parent / "configs", PACKAGE / "configs"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no configs beside or inside {PACKAGE}")


@dataclass(frozen=True)
class Entry:
    """One key of a YAML file: its default and the comment behind it."""

    default: Any
    help: str


@dataclass(frozen=True)
class Page:
    """One YAML file as a person reads it.

    Args:
        path: of the file.
        summary: the head comment without its commands.
        examples: commands of the head comment.
        root: keys outside the group's own block (only a method's file has such).
        entries: keys of the group.
    """

    path: Path
    summary: str
    examples: list[str]
    root: dict[str, Entry] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)


def command_name(file_name: str) -> str:
    """Turn `rf_map` into `rf-map`."""
    return file_name.replace("_", "-")


def folders(extra: tuple[Path, ...] = ()) -> list[Path]:
    """Return every folder of configurations, the user's own first."""
    return [*extra, configs_dir()]


def choices(group: str, extra: tuple[Path, ...] = ()) -> list[str]:
    """Return the names of one group's YAML files, sorted; for methods the command's spelling."""
    names = {path.stem for folder in folders(extra) for path in (folder / group).glob("*.yaml")}
    return sorted({command_name(name) for name in names} | OWN.keys() if group == "method" else names)


def yaml_path(group: str, name: str, extra: tuple[Path, ...] = ()) -> Path:
    """Return the YAML file of one choice, of an experiment of the user's own its Python file.

    Raises:
        UserError: there is no such choice; the line names those there are.
    """
    if group == "method" and name in OWN:
        return OWN[name]
    stem = name.replace("-", "_") if group == "method" else name
    for folder in folders(extra):
        path = folder / group / f"{stem}.yaml"
        if path.is_file() and Path(stem).name == stem:
            return path
    kind = "command" if group == "method" else group
    raise unknown(kind, name, choices(group, extra))


@cache
def page(path: Path) -> Page:
    """Read a YAML file with its comments; UserError with file and line where it is not YAML.

    The page of an experiment of the user's own is made from the signature and the docstrings of its Python file.
    """
    if path.suffix == ".py":
        return _page_of_own(path)
    text = path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys with values, got {type(values).__name__}")
    begins = re.match(r"(?:#.*\n)*", text)
    head = begins.group().splitlines() if begins else []
    lines = [line.lstrip("#").rstrip() for line in head if not line.startswith("# @")]
    examples = [line.strip() for line in lines if line.strip().startswith("cnnprobe ")]
    summary = " ".join(line.strip() for line in lines if line.strip() and line.strip() not in examples)
    remarks = dict(re.findall(r"^[^\S\n]*([\w-]+):[^\n#]*#[^\S\n]*(.+)$", text, flags=re.MULTILINE))
    grouped = path.parent.name == "method"
    own = values.get("method", {}) if grouped else values
    outside = {key: value for key, value in values.items() if key not in ("method", "defaults")} if grouped else {}

    def entries(block: dict[str, Any]) -> dict[str, Entry]:
        return {key: Entry(value, remarks.get(key, HELP.get(key, ""))) for key, value in block.items()}

    if path.parent.name in GROUPS:
        own = {key: value for key, value in own.items() if key != "name"}
    return Page(path, summary, examples, entries(outside), entries(own))


def _page_of_own(path: Path) -> Page:
    helps = HELP | explained(path, "compute")
    found = {key: Entry(value, helps.get(key, "")) for key, value in values_of(path, "compute").items()}
    lines = (ast.get_docstring(parsed(path)) or "").splitlines()
    examples = [line.strip() for line in lines if line.strip().startswith("cnnprobe ")]
    summary = " ".join(line.strip() for line in lines if line.strip() and line.strip() not in examples)
    root = {key: found.pop(key) for key in list(found) if key in ROOT}
    file = Entry(str(path), "the Python file that is run")
    return Page(path, summary, examples, root, {"file": file, **found})


def defaults(command: str, extra: tuple[Path, ...] = (), experiment: str = "") -> dict[str, str]:
    """Return by group what a command takes when nothing is chosen: that of `config.yaml`, of its own YAML, or of an
    experiment.
    """
    chosen: dict[str, str] = {}
    paths = [configs_dir() / "config.yaml", yaml_path("method", command, extra)]
    for path in [*paths, *([yaml_path("experiment", experiment, extra)] if experiment else [])]:
        if path.suffix == ".py":
            continue
        listed = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults") or []
        for item in listed:
            chosen |= {key.split("/")[-1]: value for key, value in item.items()} if isinstance(item, dict) else {}
    return {group: chosen[group] for group in GROUPS if group != "method"}


def options(group: str, name: str) -> dict[str, Option]:
    """Return what each option of one choice may be, from the annotations of its Python file."""
    if group == "device":
        return DEVICE
    path = source(group, name)
    own = {"file": Option.of("str")} if group == "method" and name in OWN else {}
    return own | declared(path, FUNCTION[group]) if path.is_file() else {}


def options_of(command: str) -> list[str]:
    """Return the names of the options that a command's `compute` takes."""
    return parameters(source("method", command), "compute")


def fact(command: str, name: str, default: Any) -> Any:
    """Return what a command says of itself by a constant of its module, see `methods.contract.Method`."""
    path = source("method", command)
    for node in (parsed(path) if command in OWN else head(path)).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if [ast.unparse(target) for target in targets] == [name]:
                return ast.literal_eval(node.value)
    return default


def source(group: str, name: str) -> Path:
    """Return the Python file behind one choice."""
    if group == "method" and name in OWN:
        return OWN[name]
    folder, stem = PACKAGE / f"{group}s", name.replace("-", "_")
    if group == "method":
        return folder / stem / f"{group}.py" if (folder / stem).is_dir() else folder / f"{stem}.py"
    among = [folder, *(folder / subject for subject in SUBJECTS.get(group, ()))]
    return next((path for one in among if (path := one / f"{stem}.py").is_file()), folder / f"{stem}.py")


def module_of(group: str, name: str) -> str:
    """Return the name under which the Python file behind one choice of a group is imported."""
    return ".".join((PACKAGE.name, *source(group, name).relative_to(PACKAGE).with_suffix("").parts))


@cache
def upkeep() -> dict[str, str]:
    """Return every command that looks after machine and runs (`run` in a file of upkeep/), with its first sentence."""
    found = {}
    for path in sorted((PACKAGE / "upkeep").glob("*.py")):
        if "\ndef run(" in path.read_text(encoding="utf-8"):
            found[path.stem] = _first_sentence(ast.get_docstring(head(path)) or "")
    return found


def description(group: str, name: str) -> str:
    """Return the docstring of the Python file behind one choice of a group, or of a command of upkeep."""
    path = PACKAGE / "upkeep" / f"{name}.py" if group == "upkeep" else source(group, name)
    return ast.get_docstring(head(path)) or ""


def sentence(command: str) -> str:
    """Return what a command that makes a run is for, in one sentence without its full stop."""
    return _first_sentence(description("method", command))


def _first_sentence(docstring: str) -> str:
    return docstring.split("\n\n")[0].replace("\n", " ").rstrip(".")


@cache
def commands() -> dict[str, str]:
    """Return every command that makes a run with the first sentence of its module's docstring, in the order people
    meet them."""
    names = [name for name in choices("method") if name not in OWN and source("method", name).is_file()]
    names.sort(key=lambda name: (fact(name, "ORDER", LAST), name))
    return {name: sentence(name) for name in names}
