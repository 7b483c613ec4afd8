"""The experiments: one subcommand each, a file or a folder whose `method.py` holds it, or a file of the user's own."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnprobe.config import catalogue, own_experiment
from cnnprobe.config.options import option_name
from cnnprobe.machine import python_files
from cnnprobe.methods.contract import Provided
from cnnprobe.store.tables import Measurement

_RUN: dict[str, tuple[Path, ModuleType]] = {}
"""Files of the user's own that were run, by command."""


def module(command: str) -> ModuleType:
    """Import the module of one command, e.g. "rf-map"; what it offers is `contract.Method`.

    Raises:
        UserError: it is a file of the user's own, and fails.
    """
    if command in catalogue.OWN:
        path = catalogue.OWN[command]  # another object for each job: what it was run from may have been changed
        if command not in _RUN or _RUN[command][0] is not path:
            _RUN[command] = path, python_files.run(path, own_experiment.OPTION)
        return _RUN[command][1]
    name = f"cnnprobe.methods.{command.replace('-', '_')}"
    found = importlib.import_module(name)
    return importlib.import_module(f"{name}.method") if hasattr(found, "__path__") else found


def measurement(command: str, provided: Provided, options: dict[str, Any]) -> Measurement:
    """Call the `compute` of a command, its numbers the same every time and in full float32 on every device.

    The random generators of the process (torch's, NumPy's, Python's) are left to whoever asks for it.

    Args:
        command: e.g. "rf-map".
        provided: by the run.
        options: by name; those of a group are put together.

    Returns:
        what there is to measure; a training chooses its number format itself.
    """
    from cnnprobe.machine import chance, precision  # with torch

    precision.take_out_of_environment()
    exact = precision.exact(provided.computation.device)
    own = chance.Own()
    with precision.repeatable(exact), own.drawn_from():
        compute = module(command).compute
        made: Measurement = compute(provided, **_grouped(compute, options))
    made.events = own.events(precision.repeated(exact, made.events))
    return made


def _grouped(compute: Callable[..., Measurement], options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `compute`: options by the name of their parameter, groups of them as their dataclass."""
    found = {}
    for name, parameter in inspect.signature(compute).parameters.items():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            if kind is not Provided:
                found[name] = kind(**{field.name: options[field.name] for field in fields(kind)})
        elif option_name(name) in options:
            found[name] = options[option_name(name)]
    return found
