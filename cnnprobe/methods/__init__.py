"""The experiments: one file, one subcommand."""

import importlib
from types import ModuleType


def module(command: str) -> ModuleType:
    """Import the file of one command, e.g. "rf-map"."""
    return importlib.import_module(f"cnnprobe.methods.{command.replace('-', '_')}")
