"""The lock of a run folder: one process writes it, in place and nowhere else, and others can see which.

What is written there stays in the folder that is held: it is not followed by a link, and has no other name.
"""

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from cnnprobe.errors import UserError
from cnnprobe.machine import files

IN_PLACE = ".lock", "run.log", "store.h5"
"""Files of a run folder that are opened for writing; others are replaced whole."""
INTO = "figures", "figures/so-far", "weights", "maps", "unfinished", "jobs"
"""Folders in it."""


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
