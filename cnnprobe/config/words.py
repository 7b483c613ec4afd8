"""Words of the command line: which command, which flags, which overrides. Standard library only."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cnnprobe.errors import UserError, listing, nearest, path_of

FLAGS = (
    "--help",
    "--multirun",
    "--cfg",
    "--config-dir",
    "--resume",
    "--rerun",
    "--redraw",
    "--version",
    "--completion",
)
SHORT = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-cd": "--config-dir"}
WITH_VALUE = ("--cfg", "--config-dir", "--resume", "--rerun", "--redraw", "--completion")


@dataclass(frozen=True)
class Request:
    """A command line, taken apart.

    Args:
        command: e.g. "topk"; "" where none was given.
        overrides: the words `key=value`, as typed.
        flags: by long name without dashes; a flag without value is "".
    """

    command: str = ""
    overrides: tuple[str, ...] = ()
    flags: dict[str, str] = field(default_factory=dict)

    @property
    def config_dirs(self) -> tuple[Path, ...]:
        """The user's own folder of configurations, where one was given."""
        return (path_of(self.flags["config-dir"]),) if "config-dir" in self.flags else ()


def parse(words: list[str]) -> Request:
    """Take a command line apart; UserError for a flag that does not exist or has no value."""
    request, rest = Request(), list(words)
    if "\0" in "".join(words):
        raise UserError(f"no word can hold a NUL, got {next(word for word in words if chr(0) in word)!r}")
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or "=" in word.split("-")[0]:
            first = not request.command and not request.overrides and "=" not in word
            request = (
                replace(request, command=word) if first else replace(request, overrides=(*request.overrides, word))
            )
            continue
        flag, _, value = word.partition("=")
        flag = SHORT.get(flag, flag)
        if flag not in FLAGS:
            hint = nearest(flag, FLAGS) or ";"
            raise UserError(f"no flag {word!r}{hint} flags: {listing(FLAGS)}, -m (same as --multirun)")
        if flag in WITH_VALUE and not value:
            if not rest:
                raise UserError(f"{flag} needs a value")
            value = rest.pop(0)
        request = replace(request, flags=request.flags | {flag.lstrip("-"): value})
    return request
