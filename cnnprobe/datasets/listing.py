"""The image files of a folder: each real file once, in an order that is the same everywhere."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cnnprobe.datasets.imageset import shown
from cnnprobe.errors import UserError, listing, no_folder, path_of

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"}
IMAGES |= {".ppm", ".pgm", ".pbm", ".pnm"}
OTHER_IMAGES = {".svg", ".eps", ".ps", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ico", ".tga", ".psd"}  # not read
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")
STRAY = {"__MACOSX", "@eaDir", "lost+found"}  # left behind by other programs


@dataclass
class Listing:
    """What a walk through a folder found; paths are relative to it, sorted by their bytes.

    Args:
        images: files that look like images; whether they can be read shows later.
        folders: every folder, without the hidden ones.
        others: files that do not look like images.
        notes: what was left out and why, one line each.
    """

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def folder_at(root: str | None, asked_by: str, *, make: bool = False) -> Path:
    """Return the folder of a dataset as a path without links; `make`: create it where it is missing.

    Raises:
        UserError: it is not given, missing, not a folder, or cannot be made.
    """
    if not root:
        raise UserError(f"dataset {asked_by} needs dataset.root=FOLDER")
    path = path_of(root)
    if make and not path.exists():
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {str(path)!r} for dataset {asked_by}: {error.strerror}") from None
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise UserError(f"dataset.root {str(path)!r} is a file, not a folder")
    raise no_folder(path, asked_by)


def listed(root: Path) -> Listing:
    """List a folder and all below it. Nothing is opened but files without an ending.

    Hidden names are left out. Links are followed to files inside the folder only, and not where the
    file is listed already; links to folders never, so that a loop cannot hold us.
    """
    found = Listing()
    links = []
    for entry, name in _walk(root, found):
        if entry.is_symlink():
            links.append(name)
        elif not entry.is_file(follow_symlinks=False):
            found.notes.append(f"{shown(name)} is no file (pipe, socket or device), left out")
        elif _looks_like_image(entry.path):
            found.images.append(name)
        else:
            found.others.append(name)
    _follow(root, sorted(links, key=os.fsencode), found)
    for names in (found.images, found.folders, found.others):
        names.sort(key=os.fsencode)
    return found


def _walk(root: Path, found: Listing) -> Iterator[tuple[os.DirEntry, str]]:
    """Give every entry that is no folder, with its path relative to the root; note the folders on the way."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            entries = list(os.scandir(root / prefix))
        except OSError as error:
            found.notes.append(f"{shown(prefix or '.')} cannot be looked into ({error.strerror}), left out")
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in STRAY:
                continue
            if entry.is_dir(follow_symlinks=False):
                found.folders.append(prefix + entry.name)
                waiting.append(f"{prefix}{entry.name}/")
            else:
                yield entry, prefix + entry.name


def _follow(root: Path, links: list[str], found: Listing) -> None:
    """Add the links that lead to a file inside the folder, or nowhere; of several to one file the first."""
    seen = {str(root / name) for name in found.images}
    outside = []
    for name in links:
        target = Path(os.path.realpath(root / name))
        regular = target.is_file()
        if str(target) in seen or (target.exists() and not regular) or not _looks_like_image(str(root / name)):
            continue
        if regular and not target.is_relative_to(root):
            outside.append(name)
            continue
        seen.add(str(target))
        found.images.append(name)
    if outside:
        found.notes.append(f"links that lead out of the folder are left out: {listing(map(shown, outside), 3)}")


def _looks_like_image(path: str) -> bool:
    """Tell an image by the ending of its name; without an ending by its first bytes."""
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122  (60,000 of them)
    if ending:
        return ending in IMAGES or ending in OTHER_IMAGES
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(8).startswith(MAGIC)
    except OSError:
        return False
