"""Errors of a machine that lacks or forbids something (disk space, memory, permission), in one line: no bug of ours."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from cnnprobe.errors import UserError, in_the_way

if TYPE_CHECKING:  # with torch
    from cnnprobe.instruments.images.batches import LoaderError

DISK = "ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE", "ENAMETOOLONG"
SYSTEM = "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM"
CODES: set[int] = {getattr(errno, name) for name in (*DISK, *SYSTEM) if hasattr(errno, name)}


UNLOADED = ("failed to map segment", "cannot allocate memory", "cannot enable executable stack")
"""Words of the system where a library does not fit into the memory, or the address space, of a process."""


def of_call(error: BaseException) -> UserError | None:
    """Return the line for what the machine refused, a system call or memory, None for any other error."""
    if isinstance(error, ImportError | OSError) and any(words in str(error).lower() for words in UNLOADED):
        library = str(error).partition(":")[0]
        return UserError(f"memory does not suffice to load {library} (see ulimit -v, or the limit of your container)")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "torch" in sys.modules):
        from cnnprobe.machine import memory  # with torch

        if memory.is_short(error):
            return UserError(f"memory does not suffice, {memory.free_memory('cpu') / 1e9:.3g} GB free")
    if isinstance(error, IsADirectoryError):
        return UserError(in_the_way(error))
    if not isinstance(error, OSError) or error.errno not in CODES:
        return None
    return UserError(f"{error.strerror}{f': {error.filename}' if error.filename else ''}")


def is_of_loaders(error: BaseException) -> "TypeGuard[LoaderError]":
    """Say whether an error is the end of a process that read images, or that none could begin."""
    from cnnprobe.instruments.images.batches import LoaderError  # with torch

    return isinstance(error, LoaderError)


def of_run(error: BaseException, folder: Path, about: dict[str, Any], again: str) -> UserError | None:
    """Return the line for an error that ended a run where the machine is at fault, None for any other.

    Args:
        error: as it was raised.
        folder: of the run; it may be gone.
        about: its `run.json`.
        again: the command that goes on with it.
    """
    kept = about.get("kept", "no rows kept")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{in_the_way(error)}; {kept}; resume with: {again}")
    if isinstance(error, OSError) and (error.errno in CODES or (error.errno and not folder.is_dir())):
        there = f"; resume with: {again}" if folder.is_dir() else ""
        return UserError(f"cannot write in {folder}: {os.strerror(error.errno)}; {kept}{there}")
    from cnnprobe.machine import memory  # with torch

    if is_of_loaders(error):
        return UserError(f"{error.reason}; {kept}; resume with: {again} device.workers=0")
    if not memory.is_short(error):
        return None
    size = "×".join(map(str, about["dataset"]["size"]))
    free = f"{memory.free_memory(about['device']) / 1e9:.3g} GB free"
    batch = about.get("batch_size") or 1
    if batch == 1 or getattr(error, "single", False):
        return UserError(f"one image of {size} does not fit in memory, {free}; {kept}")
    return UserError(f"{batch} images of {size} at once do not fit in memory, {free}; try batch_size={batch // 2}")
