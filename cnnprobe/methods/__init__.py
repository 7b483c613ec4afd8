"""The experiments: one subcommand each, a file or a folder whose `method.py` holds it."""

import importlib
from types import ModuleType
from typing import Any


def module(command: str) -> ModuleType:
    """Import the module of one command, e.g. "rf-map"."""
    name = f"cnnprobe.methods.{command.replace('-', '_')}"
    found = importlib.import_module(name)
    return importlib.import_module(f"{name}.method") if hasattr(found, "__path__") else found


def measurement(command: str, given: dict[str, Any]) -> Any:
    """Call the `compute` of a command, its numbers the same every time and in full float32 on every device.

    Args:
        command: e.g. "rf-map".
        given: arguments by the name of the parameter.

    Returns:
        `store.tables.Measurement`; a training chooses its number format itself.
    """
    from cnnprobe.machine import precision  # with torch

    exact = precision.exact(given.get("device", "cpu"))
    with precision.repeatable(exact):
        made = module(command).compute(**given)
    made.events = precision.repeated(exact, made.events)
    return made
