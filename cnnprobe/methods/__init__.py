"""The experiments: one file, one subcommand."""

import importlib
from types import ModuleType
from typing import Any


def module(command: str) -> ModuleType:
    """Import the file of one command, e.g. "rf-map"."""
    return importlib.import_module(f"cnnprobe.methods.{command.replace('-', '_')}")


def measurement(command: str, given: dict[str, Any]) -> Any:
    """Call the `compute` of a command, its numbers the same every time and in full float32 on every device.

    Args:
        command: e.g. "rf-map".
        given: arguments by the name of the parameter.

    Returns:
        `records.Measurement`; a training chooses its number format itself.
    """
    from cnnprobe.engine import precision  # with torch

    exact = precision.exact(given.get("device", "cpu"))
    with precision.repeatable(exact):
        made = module(command).compute(**given)
    made.events = precision.repeated(exact, made.events)
    return made
