"""Run folders: `<out>/<command>/<name>/v001/`, their numbers, and finding them again."""

import errno
import fcntl
import logging
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, in_the_way, listing, path_of
from cnnprobe.machine import files
from cnnprobe.store import newest, run_json

LOG = logging.getLogger("cnnprobe")
VERSION = re.compile(rf"v[0-9]{{3,{files.DIGITS + 1}}}")
IN_PLACE = ".lock", "run.log", "store.h5"
"""Files of a run folder that are opened for writing; others are replaced whole."""
INTO = "figures", "figures/so-far", "weights", "maps", "unfinished", "jobs"
"""Folders in it."""


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


def no_detours(folder: Path) -> None:
    """Refuse to write in the folder of a run or sweep, which anyone may have made, where that would write elsewhere.

    Raises:
        UserError: what is written in place, or into, is a link, a pipe or the like.
    """
    for names, is_so, kind in ((IN_PLACE, Path.is_file, "file"), (INTO, Path.is_dir, "folder")):
        for path in (folder / name for name in names):
            if path.is_symlink() or (path.exists() and not is_so(path)):
                raise UserError(f"{path} is not a plain {kind}; nothing is written there")


_HELD: set[int] = set()
"""Handles of the locks that this process holds."""
GLANCE = 1.0
"""Seconds that a lock is waited for while others only look whether somebody holds it, see `holder`."""


def _let_go() -> None:
    """Close the locks in a process that was forked: a loader that outlives its killed parent must not hold them."""
    while _HELD:
        with suppress(OSError):
            os.close(_HELD.pop())
    files.HELD.clear()


os.register_at_fork(after_in_child=_let_go)


class Lock:
    """Held by the one process that writes a run folder; the kernel lets go of it on any death.

    What is written in place has no other name from then on: a backup made of hard links stays as it is.

    Raises:
        UserError: another process holds it; or what a run writes in place is a link, a pipe or a folder, or has other
            names and cannot be copied.
    """

    def __init__(self, folder: Path):
        no_detours(folder)
        self.folder, self.place = folder, folder.absolute()
        self.handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _take(self.handle)
        except OSError:
            holder = os.pread(self.handle, 200, 0).decode(errors="replace") or "another process"
            os.close(self.handle)
            raise UserError(f"{folder.name} is being written by {holder}") from None
        try:
            self.check()  # whoever held it may have put another one in its place
            self._take_own()
        except BaseException:
            os.close(self.handle)
            raise
        _HELD.add(self.handle)
        files.HELD[self.place] = self.check
        with suppress(OSError):  # who it is, is a courtesy: a full disk is reported where it matters
            os.ftruncate(self.handle, 0)
            os.pwrite(self.handle, f"process {os.getpid()} on host {socket.gethostname()}".encode(), 0)

    def _take_own(self) -> None:
        """Put a file of its own in the place of each that is written in place and has other names."""
        path = self.folder / ".lock"
        try:
            if os.fstat(self.handle).st_nlink > 1:
                temporary = files.temporary(path)
                handle = files.made(temporary, os.O_RDWR)
                fcntl.flock(handle, fcntl.LOCK_EX)
                temporary.replace(path)
                os.close(self.handle)
                self.handle = handle
            for path in (self.folder / name for name in IN_PLACE if name != ".lock"):
                files.make_own(path)
        except OSError as error:
            other = "has other names (hard links), which would change with it, and no copy can be made"
            raise UserError(f"{path} {other}: {error.strerror}") from None

    def check(self, path: Path | None = None) -> None:
        """Make sure that the folder under this name is still the one that is held.

        Args:
            path: of what is to be written in it or in a folder of it, which must not have become a link.

        Raises:
            UserError: it was deleted, moved or replaced.
        """
        gone = "was deleted, moved or replaced while it was being written"
        if not files.is_open_at(self.handle, self.folder / ".lock"):
            raise UserError(f"{self.folder} {gone}; nothing more is written there")
        for place in path.absolute().relative_to(self.place).parents[:-1] if path else ():
            if (self.folder / place).is_symlink():
                raise UserError(f"{self.folder / place} {gone}; nothing is written there")

    def release(self) -> None:
        """Let go."""
        files.HELD.pop(self.place, None)
        _HELD.discard(self.handle)
        os.close(self.handle)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _take(handle: int) -> None:
    """Take a lock of one's own.

    Raises:
        OSError: another process holds it.
    """
    end = time.monotonic() + GLANCE
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # refused where another one's own is in the way
        fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(0.001)


def holder(folder: Path) -> str | None:
    """Return "process 12 on host h" where a process writes a run folder now, None where none does."""
    if not (folder / ".lock").is_file():
        return None
    try:
        with (folder / ".lock").open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return handle.read(200).decode(errors="replace") or "another process"
    except OSError:
        pass  # no lock, or none that this file system keeps
    return None


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
        if holder(folder) is None:
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
    return None if stopped and holder(folder) is None else ""


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
