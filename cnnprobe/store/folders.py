"""Run folders: `<out>/<command>/<name>/v001/`, their numbers, and finding them again."""

import errno
import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, in_the_way, listing, path_of
from cnnprobe.machine import files
from cnnprobe.store import locks, newest, run_json

LOG = logging.getLogger("cnnprobe")
VERSION = re.compile(rf"v[0-9]{{3,{files.DIGITS + 1}}}")


def claim(out: str, command: str, name: str) -> Path:
    """Make the next run folder of a name, atomically.

    Raises:
        UserError: the folder cannot be made there, with the reason.
    """
    try:
        return files.claim(Path(out) / command / name, "v")
    except OSError as error:
        raise unwritable(Path(out), error) from None


def unwritable(out: Path, error: OSError) -> UserError:
    """Build the line for a place that cannot be written to."""
    blocked = next((p for p in [out, *out.parents] if p.exists() and not p.is_dir()), None)
    if blocked is not None:
        return UserError(f"{blocked} is a file, not a folder; choose another out=")
    if error.errno == errno.EISDIR:
        return UserError(in_the_way(error))
    reasons: dict[int | None, str] = {errno.EACCES: "no permission", errno.EROFS: "read-only file system"}
    reason = reasons.get(error.errno, error.strerror)
    return UserError(f"cannot write in {out}: {reason}; choose another out=")


def is_complete(folder: Path) -> bool:
    """Tell whether a folder is a run that came to its end and has its store."""
    return run_json.read(folder).get("status") == "complete" and (folder / "store.h5").is_file()


def latest(place: Path) -> Path | None:
    """Return the newest complete run of one name, whatever the link `latest` in its folder says; None without one."""
    return next(filter(is_complete, sorted(numbered(place.glob("v*")), key=newest.number, reverse=True)), None)


def numbered(paths: Iterable[Path]) -> list[Path]:
    """Return those paths that can be runs by their name; copies and links that a user put beside them are none."""
    return [path for path in paths if VERSION.fullmatch(path.name) and not path.is_symlink()]


def newest_of(paths: Iterable[Path], out: str, why_not: Callable[[Path], str | None] = newest.unfit) -> Path | None:
    """Return the newest run among some folders; a line says which newer ones are passed over, and why.

    Args:
        paths: of the folders; those that are no runs are left out.
        out: folder of all runs.
        why_not: says of a run why it is not to be taken, see `newest.newest`.
    """
    taken, passed = newest.newest(numbered(paths), why_not)
    _tell(taken, passed, out)
    return taken


def _tell(taken: Path | None, passed: dict[Path, str], out: str) -> None:
    """Warn of newer runs that are passed over; of those that are being written there is nothing to say."""
    instead = f"{short(taken, out)} is taken instead" if taken else "it is passed over"
    for folder, why in passed.items():
        if locks.holder(folder) is None:
            LOG.warning(f"{short(folder, out)} {why}; {instead}")


def mark_latest(folder: Path) -> None:
    """Point `latest` beside a complete run at the newest complete one."""
    newest = latest(folder.parent)
    if newest is None:  # a copy that somebody called otherwise
        return
    pointer = folder.parent / "latest"
    try:
        if not pointer.is_symlink() or pointer.readlink() != Path(newest.name):
            files.link(pointer, newest.name)
    except OSError:
        return  # a file system without symbolic links has no `latest`


def left_over(folder: Path) -> list[Path]:
    """Return what a killed process left half written in a run folder.

    Raises:
        UserError: it holds folders in each other, more of them than can be looked through.
    """
    try:
        return files.left_over(folder)
    except RecursionError:
        most = f"about {sys.getrecursionlimit()} deep at most"
        raise UserError(f"{folder} holds folders in each other, too deep to be looked through ({most})") from None


def tidy(folder: Path) -> None:
    """Take away what a killed process left half written in a run folder.

    Raises:
        UserError: it cannot be looked through, see `left_over`.
    """
    links = (path for path in folder.parent.glob(".latest.tmp.*") if not files.is_folder(path))
    for path in (*left_over(folder), *links):
        path.unlink(missing_ok=True)


class NoRunError(UserError):
    """There is no run of a name."""


def find(run: str, out: str = "outputs", command: str = "", name: str = "", only: bool = False) -> Path:
    """Return the folder a RUN means: a path, `COMMAND/NAME/v001`, or `v001` / `latest`.

    Args:
        run: as typed.
        out: folder of all runs.
        command: whose runs `v001` and `latest` are looked for among; "" for every command's.
        name: the default name of that command, tried first.
        only: no `v001` or `latest` of another name is meant.

    Raises:
        NoRunError: no run fits.
        UserError: several do.
    """
    for path in (path_of(run), Path(out) / run):
        folder = path.parent if path.name == "store.h5" else path
        found = _behind(folder, out) if folder.name == "latest" else folder
        if found is not None and ((found / "run.json").is_file() or (found / "store.h5").is_file()):
            return found.resolve() if found.is_symlink() else found
    if VERSION.fullmatch(run) or run == "latest":
        own = Path(out) / command / name
        if command and name and (found := _called(run, own, out)):
            return found
        others = () if only else sorted(Path(out).glob(f"{command or '*'}/*"))
        fits = [found for place in others if (found := _called(run, place, out))]
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise UserError(f"several runs are called {run}: {listing(short(fit, out) for fit in fits)}")
    there = sorted(short(path, out) for path in Path(out).glob(f"{command or '*'}/*/v*") if path.is_dir())
    if path_of(run).exists() and path_of(run).name != "latest":
        raise NoRunError(
            f"{run} is no run: no run.json and no store.h5 in it; runs in {out}: {listing(there) or 'none'}"
        )
    raise NoRunError(f"no run {run!r}; runs in {out}: {listing(there) or 'none'}")


def _behind(folder: Path, out: str) -> Path | None:
    """Return the run that a path ending in `latest` means: the newest of those beside it, whatever a link says."""
    beside = numbered(folder.parent.glob("v*"))
    return newest_of(beside, out) if beside else folder


def _called(run: str, place: Path, out: str) -> Path | None:
    """Return the run of one name that `v001` or `latest` means."""
    folder = newest_of(place.glob("v*"), out) if run == "latest" else place / run
    return folder if folder is not None and folder.is_dir() else None


def unfinished(out: str, command: str, name: str = "") -> Path | None:
    """Return the run of a command that was stopped last and that nobody writes now, or None.

    That is the newest one, or one that was stopped after it: that was gone on with, or went on while others of its name
    were begun and stopped, as far as the clock can be trusted with that.

    Args:
        out: folder of all runs.
        command: whose runs.
        name: of the runs; "": any.
    """
    places = [Path(out) / command / name] if name else Path(out).glob(f"{command}/*")
    there = numbered(path for place in places for path in place.glob("v*"))
    last, passed = newest.newest(there, lambda folder: _not_stopped(folder, command))
    about = {path: run_json.read(path) for path in there}
    others = [path for path in there if about[path].get("resumed", 0) > 0 or newest.are_in_order(path, about)]
    stopped = [path for path in others if _not_stopped(path, command) is None]
    found = last and max([last, *stopped], key=newest.stopped)
    _tell(found, passed, out)
    return found


def _not_stopped(folder: Path, command: str) -> str | None:
    """Say why a run is none that was stopped, see `newest.unfit`."""
    about = run_json.read(folder)
    if "status" not in about:
        return newest.unreadable(folder)
    stopped = about["status"] != "complete" and about.get("command", command) == command
    return None if stopped and locks.holder(folder) is None else ""


def command_for(folder: Path, command: str | None, flag: str = "resume") -> str:
    """Return the line that does something with a run once more, to be pasted: a folder and what is in it may lie."""
    return f"cnnprobe {shlex.quote(command or 'COMMAND')} --{flag} {shlex.quote(str(folder))}"


def same_images(
    dataset: Any, before: dict[str, Any] | None, name: str, which: Callable[[], list[str]] | None = None
) -> None:
    """Refuse images that are not those a run was made with, as far as its `run.json` says.

    Args:
        dataset: as it is now.
        before: what `images_of` wrote; older runs lack parts of it.
        name: of the run, for the message.
        which: names the images that changed.

    Raises:
        UserError: "dataset changed since v003 (5001 images, was 5000): cat.jpg is new".
    """
    now = images_of(dataset)
    if not isinstance(before, dict):
        return
    if before.get("size", now["size"]) != now["size"] and not getattr(dataset, "at_any_size", False):
        return  # at another size other pixels are the same images
    more, differ = now["images"] != before["images"], now["fingerprint"] != before["fingerprint"]
    if more or (differ and "size" in before):
        found = which() if which else []
        first = f": {listing(found, 3)}" if found else "" if more else ": not the same ones"
        raise UserError(f"dataset changed since {name} ({now['images']} images, was {before['images']}){first}")


def images_of(dataset: Any) -> dict[str, Any]:
    """Return what `run.json` says of the images of a run."""
    about = {"name": dataset.name, "images": len(dataset), "fingerprint": dataset.fingerprint}
    about |= {"size": list(dataset.size)}
    return about | ({"sample": dataset.sample} if getattr(dataset, "sample", "") else {})


def short(folder: Path, out: str | Path) -> str:
    """Return `COMMAND/NAME/v001` for a folder below `out`, however both are written, else its path."""
    try:
        return str(folder.resolve().relative_to(Path(out).resolve()))
    except ValueError:
        return str(folder)


def store_of(run: str | Path, out: str = "outputs") -> Path:
    """Return the path of a run's store."""
    return find(str(run), out) / "store.h5"
