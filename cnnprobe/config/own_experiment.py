"""An experiment of the user's own: a Python file that the command line names.

    cnnprobe my-method method.file=my_method.py

The command is the name of the file. Defaults, types and help of its options are those of its `compute`. What it has to
offer is written down in `methods.contract`. It is run only where the command line names it, never because a run does.
"""

import ast
import re
from pathlib import Path

from cnnprobe.config import catalogue, options
from cnnprobe.config.words import Request
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import python_files

OPTION = "method.file"
OFFERED = "compute", "draw", "headline"
"""Functions that it needs to have."""


def named(request: Request) -> str | None:
    """Return the file that a command line names, None for none."""
    words = [word.partition("=")[2] for word in request.overrides if word.startswith(f"{OPTION}=")]
    return words[-1] if words else None


def take(request: Request) -> None:
    """Make the experiment that a command line names one of the choices, and take back what another one named.

    Raises:
        UserError: see `add`.
    """
    catalogue.OWN.clear()
    if (file := named(request)) is not None:
        add(file, request.command)


def add(file: str, command: str = "") -> str:
    """Make an experiment one of the choices, and return its command; the file is read, and run when it is needed next.

    Args:
        file: as typed.
        command: that it has to be, "" for any.

    Raises:
        UserError: there is no such file, its name cannot be a command or is not this one, or it offers too little.
    """
    path = python_files.found(file, OPTION)
    if not re.fullmatch(r"[a-z][a-z0-9_]*\.py", path.name):
        raise UserError(f"{OPTION}: {path.name} cannot name a command; small letters, digits and _ can, then .py")
    own = catalogue.command_name(path.stem)
    if command in catalogue.commands() or own in (*catalogue.commands(), *catalogue.upkeep()):
        known = command if command in catalogue.commands() else own
        raise UserError(f"{OPTION}: {known} is a command of this package; an experiment of your own has another name")
    if command and command != own:
        raise UserError(f"{OPTION}: {path.name} is the command {own}, not {command}")
    for memory in (options.parsed, options.declared, catalogue.page):  # the file may have been changed
        memory.cache_clear()
    try:
        tree = options.parsed(path)
    except SyntaxError as error:
        raise UserError(python_files.told(error, path)) from None
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if missing := [name for name in OFFERED if name not in there]:
        raise UserError(
            f"{OPTION}: {path.name} has no function {listing(missing)}; an experiment has {listing(OFFERED)}"
        )
    _options_are_possible(path)
    python_files.forget(OPTION)  # another run begins
    catalogue.OWN[own] = path
    return own


def _options_are_possible(path: Path) -> None:
    """Refuse parameters that a run has under that name, or whose annotation does not say what they may be."""
    names, known = options.parameters(path, "compute"), options.declared(path, "compute")
    taken = {*catalogue.ROOT, *catalogue.GROUPS, "file", "workers"} - {"layer", "units"}
    for name in names:
        if name in taken:
            raise UserError(f"{OPTION}: {path.name}: {name} is an option of every run; give yours another name")
        if name not in known:
            possible = "int, float, bool, str, list[…], Literal[…], Annotated[int, Range(…)], … | None"
            raise UserError(f"{OPTION}: {path.name}: {name} needs an annotation that says what it may be: {possible}")
        if name == "source" and not known[name].kinds <= {"run", "none"}:
            as_run = "source is a run, which is opened; annotate it as Run | None, or give yours another name"
            raise UserError(f"{OPTION}: {path.name}: {as_run}")


def again(block: dict) -> None:
    """Make the experiment of a job's configuration one of the choices, as its file is when the job begins."""
    command = catalogue.command_name(block["name"])
    if command not in catalogue.commands() and isinstance(block.get("file"), str):
        add(block["file"], command)


def node(command: str) -> dict:
    """Return the configuration of an experiment of the user's own, as its YAML file would hold it."""
    page = catalogue.page(catalogue.OWN[command])
    block = {key: entry.default for key, entry in page.entries.items()}
    return {key: entry.default for key, entry in page.root.items()} | {"method": {"name": command} | block}
