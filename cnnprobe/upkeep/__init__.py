"""The commands that measure nothing: they look after the machine and after finished runs. One file, one command."""

import importlib
import re

from cnnprobe.config import catalogue
from cnnprobe.config.words import Request
from cnnprobe.errors import UserError, path_of, unknown
from cnnprobe.machine import terminal


def main(request: Request) -> int:
    """Do what a command line asks for and return the exit status.

    Raises:
        UserError: a flag, key or word that the command does not take; or what it looked at is not in order.
    """
    for flag in request.flags:
        raise UserError(f"{request.command} takes no --{flag}")
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    given = {key: root[key].default for key in catalogue.UPKEEP_OPTIONS}
    names = []
    for word in request.overrides:
        key = re.match(r"[+~]*(\w[\w.]*)=", word)  # a path with "=" in it begins with ./ or has a slash before
        if key is None:
            names.append(word)
        elif key[1] not in catalogue.UPKEEP_OPTIONS:
            raise unknown("option", key[1], catalogue.UPKEEP_OPTIONS, of=request.command)
        else:
            given[key[1]] = str(path_of(word[key.end() :]))
    module = importlib.import_module(f"cnnprobe.upkeep.{request.command}")
    with terminal.collected():
        return module.run(names, **given)
