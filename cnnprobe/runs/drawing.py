"""Figures of a run, and maps for other programs, made from its store alone."""

import logging
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnprobe import methods
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, terminal
from cnnprobe.methods.contract import Figures
from cnnprobe.plots import fonts, style
from cnnprobe.store.reader import Recording, SoFar

log = logging.getLogger("cnnprobe")

FIGURES = "figures"
"""Folder in that of a run or sweep."""
MAP = ".nii.gz"
SO_FAR = "so-far"
"""Folder in `figures` for those of a run that is not complete."""
DECISIVE = ("weights", "model", "source", "mode", "dataset", "experiment", "out")
"""Options by which runs of a sweep have other weights."""


@style.as_shipped()
def draw(folder: Path) -> int:
    """Draw every figure of a run from its store alone, and return how many; maps of a brain go into `maps`."""
    recording = Recording(folder / "store.h5")
    method = _method_of(recording)
    target = folder / FIGURES
    target.mkdir(exist_ok=True)
    count = 0
    sample = sample_of(recording)
    for name, figure in _drawn(method, recording):
        if sample:
            style.mark(figure, f"images: {sample}")
        files.write(files.named(target, name, ".png"), style.png(figure))
        count += 1
    for name, content in getattr(method, "volumes", lambda _: ())(recording):
        (folder / "maps").mkdir(exist_ok=True)
        files.write(files.named(folder / "maps", name.removesuffix(MAP), MAP), content)
    files.still_held(target / SO_FAR)
    shutil.rmtree(target / SO_FAR, ignore_errors=True)
    _tell_unwritten()
    return count


def _drawn(method: Any, recording: Recording) -> Figures:
    """Give the figures of a method by name."""
    return _pairs(method.draw(recording), f"draw of {recording.attributes['command']}")


def _pairs(drawn: Any, whose: str) -> Figures:
    """Give names and figures as they come; an experiment of the user's own may hand over something else."""
    if not isinstance(drawn, Iterable):
        raise UserError(f"{whose} must yield pairs (name, figure), returned {type(drawn).__name__}")
    for one in drawn:
        if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and hasattr(one[1], "savefig")):
            kinds = [type(part).__name__ for part in one] if isinstance(one, tuple) else []
            got = f"({', '.join(kinds)})" if kinds else type(one).__name__
            raise UserError(f"{whose} must yield pairs (name, figure), yielded {got}")
        yield one


def _method_of(recording: Recording) -> ModuleType:
    """Return the command whose figures a store is drawn with.

    Raises:
        UserError: the store names none; somebody has written it.
    """
    command = recording.attributes["command"]
    if command not in (*catalogue.commands(), *catalogue.OWN):
        raise UserError(f"{recording.path} names no command that draws it, got {command!r}")
    return methods.module(command)


def sample_of(recording: Recording) -> str:
    """Say which part of its dataset a run has looked at; "" for all of it."""
    return str(recording["stimuli"].attributes.get("sample", "")) if "stimuli" in recording else ""


@style.as_shipped()
def draw_so_far(folder: Path) -> tuple[int, str]:
    """Draw what can be drawn of a run that is not complete, into a folder of its own.

    Returns:
        how many figures, and of which rows, "412 of 1000 rows", which stands in every figure as well.
    """
    recording = SoFar(folder / "store.h5")
    target = folder / FIGURES / SO_FAR
    count = 0
    for name, figure in _drawn(_method_of(recording), recording):
        target.mkdir(parents=True, exist_ok=True)
        style.mark(figure, f"not complete: {recording.progress}")
        files.write(files.named(target, name, ".png"), style.png(figure))
        count += 1
    return count, recording.progress


@style.as_shipped()
def compare(command: str, runs: list[tuple[Path, list[str]]], sweep: Path) -> int:
    """Draw what the runs of a sweep say together, where the method has something to say; return how many figures.

    Runs of which the same was asked and that began with different weights are not drawn together, and that is said.

    Args:
        command: of all of them.
        runs: folder of each, and its overrides, as typed.
        sweep: its folder.

    Raises:
        UserError: a store cannot be read, or is of another command.
    """
    draw_all = getattr(methods.module(command), "compare", None) if runs else None
    if draw_all is None:
        return 0
    count = 0
    recordings = [Recording(folder / "store.h5") for folder, _ in runs]
    for (folder, _), recording in zip(runs, recordings):
        if (other := recording.attributes["command"]) != command:
            raise UserError(f"{folder / 'store.h5'} is a store of {other}, not of {command}")
    if mixed := _mixed(recordings, [words for _, words in runs]):
        terminal.say(f"warning: no figures of all runs together: {mixed}", stream=sys.stderr)
        return 0
    for name, figure in _pairs(draw_all(recordings, [words for _, words in runs]), f"compare of {command}"):
        target = sweep / FIGURES
        target.mkdir(exist_ok=True)
        files.write(files.named(target, name, ".png"), style.png(figure))
        count += 1
    return count


def _mixed(recordings: list[Recording], overrides: list[list[str]]) -> str:
    """Name two runs whose weights differ, while the options that decide them do not; "" where there are none."""
    first: dict[frozenset[str], Recording] = {}
    for recording, words in zip(recordings, overrides):
        keys = {word: word.lstrip("+").removeprefix("method.").partition("=")[0] for word in words}
        asked = frozenset(word for word, key in keys.items() if key in DECISIVE or key.startswith("model."))
        both = [one.attributes for one in (first.setdefault(asked, recording), recording)]
        labels, sums = ([str(one.get(key, "")) for one in both] for key in ("weights", "weights_sha256"))
        if sums[0] != sums[1] and not all(label.startswith("random ") for label in labels):
            named = " and ".join(f"{label} (sha256 {value[:12]})" for label, value in zip(labels, sums))
            return f"they began with different weights, {named}, and their options do not say so"
    return ""


def _tell_unwritten() -> None:
    """Warn of letters that figures hold as code points."""
    letters = fonts.unwritten()
    if letters:
        log.warning(
            "no font on this machine has %d letters of names in the figures, which appear as code points: %s",
            len(letters),
            listing((f"U+{ord(letter):04X} {letter}" for letter in letters), 4),
        )
