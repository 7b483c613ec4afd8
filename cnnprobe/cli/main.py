"""The command line, from its words to its exit status.

Everything heavy is imported after the words were understood, so that `--help` and mistakes in the words are answered at
once.
"""

import faulthandler
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from cnnprobe.cli import startup
from cnnprobe.config.words import Request, parse
from cnnprobe.errors import UserError, listing, nearest, one_line
from cnnprobe.machine import screen, signals
from cnnprobe.machine.version import __version__
from cnnprobe.runs import resource_errors


def main(words: list[str] | None = None) -> int:
    """Run one command line and return its exit status: 0 done, 1 our bug, 2 the user's mistake, 130, 143."""
    words = sys.argv[1:] if words is None else words
    own_streams()
    with suppress(OSError):  # an error stream that is no file has no use for it
        faulthandler.enable()
    command = words[0] if words and not words[0].startswith("-") and "=" not in words[0] else ""
    try:
        with signals.noted():
            return dispatch(parse(words))
    except UserError as error:
        complain(f"cnnprobe {command}".rstrip() + f": {error}")
        return 2
    except screen.UnreadError:  # nothing is wrong, and nothing more can be said
        return 0
    except KeyboardInterrupt:
        complain(f"cnnprobe {command}".rstrip() + ": interrupted")
        return 130
    except Exception as error:
        told = resource_errors.of_call(error)
        if told is not None:
            complain(f"cnnprobe {command}".rstrip() + f": {told}")
            return 2
        with suppress(OSError):
            screen.say(traceback.format_exc(), sys.stderr)
        return 1
    finally:
        screen.flush()


def own_streams() -> None:
    """Put the null device where a stream was closed: its number would go to the next file opened, a store perhaps."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w"))


def complain(line: str) -> None:
    """Print one line to the error stream, where that takes it."""
    with suppress(OSError):
        screen.say(one_line(line), sys.stderr)


def dispatch(request: Request) -> int:
    """Answer help and completion here; hand everything else to the runner."""
    if "version" in request.flags:
        screen.say(f"cnnprobe {__version__}")
        return 0
    if "completion" in request.flags:
        from cnnprobe.cli import completion

        screen.say(completion.script(request.flags["completion"]))
        return 0
    from cnnprobe.cli import help
    from cnnprobe.config import catalogue, own_experiment

    together = [flag for flag in ("multirun", "cfg", "resume", "rerun", "redraw") if flag in request.flags]
    if len(together) > 1:
        raise UserError(f"--{together[0]} and --{together[1]} do not go together")
    own_experiment.take(request)
    commands = [*catalogue.commands(), *catalogue.OWN, *catalogue.upkeep()]
    if not request.command:
        if together:
            raise UserError(f"--{together[0]} needs a command before it: {listing(commands, 20)}")
        if request.overrides:
            raise UserError(f"{request.overrides[0]!r} needs a command before it: {listing(commands, 20)}")
        screen.say(help.overview())
        return 0
    if request.command not in commands:
        raise unknown_command(request.command, commands, again=bool(together))
    care = request.command in catalogue.upkeep()
    if "help" in request.flags:
        screen.say(help.upkeep(request.command) if care else help.command(request))
        return 0
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the folder it was called in is gone; cd to another one") from None
    if care:
        from cnnprobe import upkeep

        return upkeep.main(request)
    from cnnprobe.cli import commands as requests

    return requests.main(request)


def unknown_command(word: str, commands: list[str], again: bool = False) -> UserError:
    """Build the line for a command that does not exist; `again`: it may be that of a run."""
    near = nearest(word, commands)
    own = "; an experiment of your own needs method.file=" if again or not near else ""
    known = f"{near or ';'} commands: {listing(commands, 20)}"
    return UserError(f"unknown command {word!r}{known}{own}")


startup.over()
