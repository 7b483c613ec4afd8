"""Files that exist complete or not at all, and folders that only one process gets."""

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from cnnprobe.errors import UserError, must_be_a_file

LONGEST = 200
"""Bytes of the name of a file; file systems take 255, of which some are needed while it is written."""
DIGITS = 15
"""Of the largest number of a folder that others are counted on from."""

NOT_PLAIN = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]")
"""Characters that are not of one name: they part a path on one system or another, or control a terminal."""

GONE = 0
"""State of a file that is not there."""
HELD: dict[Path, Callable[[Path], None]] = {}
"""Folders that must stay what they are, by absolute path; each raises an error for a path that lies elsewhere."""


def still_held(path: Path) -> None:
    """Make sure that what is to be written below a held folder does not land in another one of its name.

    A folder that is deleted while it is written may a moment later be that of another run, or a link to anywhere.
    """
    path = path.absolute()
    for folder, check in HELD.items():
        if path.is_relative_to(folder):
            check(path)


def is_shared(path: Path) -> bool:
    """Tell whether a file is there and has other names (hard links)."""
    try:
        return path.stat(follow_symlinks=False).st_nlink > 1
    except FileNotFoundError:
        return False


@contextmanager
def holding(folder: Path, check: Callable[[Path], None]) -> Iterator[None]:
    """Have a check made before anything is written below a folder inside the block, see `still_held`."""
    place = folder.absolute()
    before = HELD.get(place)
    HELD[place] = check
    try:
        yield
    finally:
        del HELD[place]
        if before is not None:
            HELD[place] = before


def is_open_at(handle: int, path: Path) -> bool:
    """Tell whether the file that stands under a name is the one that is open."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False


def state_of(path: Path) -> int:
    """Return a number that is another one after a file was written, replaced or touched; `GONE` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return GONE
    return hash((found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk itself."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def made(path: Path, how: int = os.O_WRONLY) -> int:
    """Make a new file and return its handle; what stood under its name is taken away, a link is never followed.

    Args:
        path: of the file.
        how: it is opened, os.O_WRONLY or os.O_RDWR.
    """
    path.unlink(missing_ok=True)
    return os.open(path, how | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def temporary(path: Path) -> Path:
    """Return the name under which this process writes a file before it has its own, see `left_over`."""
    return path.with_name(f"{path.name}.tmp.{os.getpid()}")


def write(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a kill at any instant leaves the old or the new one, never half of it."""
    replace(path, lambda target: target.write(data))


def replace(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Put a new file in the place of one in one step, as soon as `fill` has written all of it."""
    still_held(path)
    new = temporary(path)
    try:
        with os.fdopen(made(new), "wb") as target:
            fill(target)
            target.flush()
            os.fsync(target.fileno())
        still_held(path)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, lines: Iterable[str]) -> None:
    """Write lines to the end of a file, which is not followed where it has become a link, nor changed by another name.

    Raises:
        OSError: it has become a link, or cannot be written.
    """
    still_held(path)
    make_own(path)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(handle, "a", encoding="utf-8") as target:
        target.writelines(lines)


def make_own(path: Path) -> None:
    """Give a file that has other names, as in a backup of hard links, a copy of its own to be written in place."""
    if is_shared(path):
        with path.open("rb") as source:
            replace(path, partial(shutil.copyfileobj, source, length=2**20))


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, for programs and people.

    A number that is not finite is null, so that every reader takes it; a character that a terminal would obey, or half
    a one, is escaped as JSON does it.
    """
    lines = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False).split("\n")
    shown = (line if line.isprintable() else "".join(map(_escaped, line)) for line in lines)
    write(path, ("\n".join(shown) + "\n").encode())


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def is_plain(name: str) -> bool:
    """Tell whether a name is one name: no path, nor a part of one that leads elsewhere, and no control characters."""
    return name not in ("", ".", "..") and not NOT_PLAIN.search(name)


def plain(name: str) -> str:
    """Return a name without the characters that are not of one name."""
    return NOT_PLAIN.sub("", name)


def named(folder: Path, name: str, ending: str) -> Path:
    """Return the path of a file called after something that may have a name of any length.

    Raises:
        UserError: the name is a path, or has control characters; whoever gave it may mean another folder.
    """
    if not is_plain(name):
        said = f"{name[:60]!r} cannot name a file in {folder.name}"
        raise UserError(f"{said}: it must be one name, without slashes, backslashes and control characters")
    data = name.encode("utf-8", "surrogatepass")
    if len(data) > LONGEST:
        name = f"{data[: LONGEST - 9].decode('utf-8', 'ignore')}-{zlib.crc32(data):08x}"
    return folder / f"{name}{ending}"


def left_over(folder: Path) -> list[Path]:
    """Return what `write`, `link` or a store under construction left below a folder when their process was killed."""
    named_so = (path for path in folder.rglob("*.tmp.*") if path.name.rpartition(".tmp.")[2].isdecimal())
    return sorted(path for path in named_so if not is_folder(path))


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, no link to one."""
    return path.is_dir() and not path.is_symlink()


def link(path: Path, target: str) -> None:
    """Point a symbolic link at a name beside it, replacing the one there in one step."""
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def claim(folder: Path, prefix: str) -> Path:
    """Make the next numbered folder (`v001`, `v002`, …); any number of processes never share one.

    The number is one more than the largest there; `mkdir` itself decides who gets it. A foreign name of more than
    `DIGITS` digits is no number: one more than that would soon be no name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = [p.name[len(prefix) :] for p in folder.iterdir() if p.name.startswith(prefix)]
    number = max((int(digits) for digits in taken if re.fullmatch(rf"[0-9]{{1,{DIGITS}}}", digits)), default=0) + 1
    while True:
        path = folder / f"{prefix}{number:03d}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def read(path: Path, most: int) -> bytes:
    """Return the content of a file that nobody knows the size of: a few bytes on the disk may stand for any number.

    Args:
        path: of the file.
        most: bytes that are read.

    Raises:
        OSError: it is no file, or cannot be read.
        UserError: it has more.
    """
    must_be_a_file(path)
    with path.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        data = source.read(size + 1) if size <= most else b""
    if max(size, len(data)) > most:
        raise UserError(f"{path} is too large ({size / 1e6:.3g} MB; limit {most / 1e6:.3g} MB)")
    return data


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's content."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sums(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of files below a folder, by their place in it.

    What is no plain file is none that a run wrote, and left out: a pipe or a device would be read for ever.
    """
    plain = (path for path in sorted(paths) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): sha256(path) for path in plain}
