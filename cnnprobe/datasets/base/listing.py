"""The image files of a folder: each real file once, in an order that is the same everywhere."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cnnprobe.datasets.base.imageset import shown
from cnnprobe.errors import UserError, listing, no_folder, path_of

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp"}
IMAGES |= {".ppm", ".pgm", ".pbm", ".pnm"}
OTHER_IMAGES = {".svg", ".eps", ".ps", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ico", ".tga", ".psd"}  # not read
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")
MOST_AGAIN, TIMES_AGAIN = 50_000, 10
"""Files and folders that may be walked once more by way of links: so many, or so many times as there are."""
STRAY = {"__MACOSX", "@eaDir", "lost+found"}  # left behind by other programs


@dataclass
class Listing:
    """What a walk through a folder found; paths are relative to it, sorted by their bytes.

    Args:
        root: the folder, as a path without links.
        images: files that look like images; whether they can be read shows later.
        folders: every folder, without the hidden ones.
        others: files that do not look like images.
        notes: what was left out and why, one line each.
        behind: where the images lie, as paths without links, that are reached through a link.
        outside: links to files outside, which were not followed, and where each leads.
        outside_folders: the same of links to folders.
    """

    root: str = ""
    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    behind: dict[str, str] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)
    outside_folders: dict[str, str] = field(default_factory=dict)

    def once(self, below: str = "") -> list[str]:
        """Return the images whose path begins so, each real file once: by its own path, else by its first link.

        Links that are left out for that are noted.
        """
        chosen = [name for name in self.images if name.startswith(below)]
        if not self.behind:
            return chosen
        first = {f"{self.root}/{name}": name for name in chosen if name not in self.behind}
        for name in chosen:
            first.setdefault(self.behind.get(name, f"{self.root}/{name}"), name)
        kept = set(first.values())
        again = [name for name in chosen if name not in kept]
        if again:
            self.notes.append(f"links to images that are listed already are left out: {_some(again)}")
        return [name for name in chosen if name in kept]


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


def listed(root: Path, *, outwards: bool = False, hint: str = "") -> Listing:
    """List a folder and all below it. Nothing is opened but files without an ending.

    Hidden names are left out. Links to files and folders are followed inside the folder, but not in circles.

    Args:
        root: the folder.
        outwards: links that lead out of it are followed too.
        hint: what could be done about such links, for the note.
    """
    found = Listing(os.path.realpath(root))
    _Walk(found, outwards).through()
    outside = found.outside_folders | found.outside
    if outside:
        there = [f"{name} → {target}" for name, target in outside.items()]
        found.notes.append(f"links that lead out of the folder are left out{hint}: {_some(there)}")
    for names in (found.images, found.folders, found.others):
        names.sort(key=os.fsencode)
    return found


@dataclass(frozen=True)
class _Place:
    """A folder on the way.

    Args:
        prefix: its path as listed, with a slash behind; "" is the root.
        real: its path without links.
        above: the folders without links from whose links one came here.
    """

    prefix: str
    real: str
    above: tuple[str, ...] = ()

    def circles(self, target: str) -> bool:
        """Tell whether a link to a folder leads back to one that we are in."""
        return any(f"{one}/".startswith(f"{target.rstrip('/')}/") for one in (*self.above, self.real))


class _Walk:
    """Goes through real folders first, then through links, so that a file is found by its own path where it has one."""

    def __init__(self, found: Listing, outwards: bool):
        self.found = found
        self.outwards = outwards
        self.links: list[tuple[_Place, str]] = []
        self.seen: set[tuple[str, str]] = set()  # (split and class folder, real folder): no folder twice in a class
        self.walked: set[str] = set()
        self.first = self.again = 0  # entries of folders that are walked for the first time, and once more
        self.passed: dict[str, list[str]] = {}  # why links were left out -> their names

    def through(self) -> None:
        """List everything."""
        self._folders(_Place("", self.found.root))
        while self.links:
            waiting = sorted(self.links, key=lambda link: os.fsencode(link[0].prefix + link[1]))
            self.links = []
            for place, name in waiting:
                self._follow(place, name)
        for why, names in self.passed.items():
            self.found.notes.append(f"{why}: {_some(names)}")

    def _folders(self, first: _Place) -> None:
        waiting = [first]
        while waiting:
            place = waiting.pop()
            self.seen.add((_scope(place.prefix), place.real))
            try:
                entries = list(os.scandir(place.real))
            except OSError as error:
                where = shown(place.prefix or ".")
                self.found.notes.append(f"{where} cannot be looked into ({error.strerror}), left out")
                continue
            self._count(place.real, 1 + len(entries))
            for entry in entries:
                if entry.name.startswith(".") or entry.name in STRAY:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self.found.folders.append(place.prefix + entry.name)
                    waiting.append(_Place(f"{place.prefix}{entry.name}/", f"{place.real}/{entry.name}", place.above))
                elif entry.is_symlink():
                    self.links.append((place, entry.name))
                elif not entry.is_file(follow_symlinks=False):
                    self._no_file(place.prefix + entry.name)
                else:
                    self._file(place, entry.name, entry.path)

    def _count(self, real: str, entries: int) -> None:
        """Count what is walked: links among class folders would lead through all of them times and again."""
        if real not in self.walked:
            self.walked.add(real)
            self.first += entries
            return
        self.again += entries
        if self.again > max(MOST_AGAIN, TIMES_AGAIN * self.first):
            raise UserError(
                f"{shown(self.found.root)}: links lead to the same folders times and again ({self.again} files and "
                f"folders, {self.first} without them); list the images once each, or link to images"
            )

    def _file(self, place: _Place, name: str, real: str) -> None:
        if not _looks_like_image(f"{place.real}/{name}"):
            self.found.others.append(place.prefix + name)
            return
        self.found.images.append(place.prefix + name)
        if real != f"{self.found.root}/{place.prefix}{name}":
            self.found.behind[place.prefix + name] = real

    def _follow(self, place: _Place, name: str) -> None:
        path = place.prefix + name
        target = os.path.realpath(f"{place.real}/{name}")
        inside = f"{target}/".startswith(f"{self.found.root}/")
        image = os.path.splitext(name)[1].lower() in IMAGES | OTHER_IMAGES  # noqa: PTH122
        if os.path.isdir(target):  # noqa: PTH112
            self._follow_folder(place, path, target, inside)
        elif not os.path.lexists(target) or os.path.islink(target):  # noqa: PTH114  (a link that names itself)
            if image:
                self.found.images.append(path)  # counted among those that cannot be read
            else:
                self.passed.setdefault("links that lead nowhere are left out", []).append(path)
        elif not os.path.isfile(target):  # noqa: PTH113
            self._no_file(path)
        elif inside or self.outwards:
            self._file(place, name, target)
        elif image:
            self.found.outside[path] = target

    def _follow_folder(self, place: _Place, path: str, target: str, inside: bool) -> None:
        if not inside and not self.outwards:
            self.found.outside_folders[path] = target
        elif place.circles(target):
            self.passed.setdefault("links that lead in a circle are left out", []).append(path)
        elif (_scope(f"{path}/"), target) not in self.seen:
            self.found.folders.append(path)
            self._folders(_Place(f"{path}/", target, (*place.above, place.real)))

    def _no_file(self, path: str) -> None:
        self.found.notes.append(f"{shown(path)} is no file (pipe, socket or device), left out")


def _scope(prefix: str) -> str:
    """Return the first two folders of a path, which are at most its split and its class."""
    return "/".join(prefix.split("/")[:2])


def _some(names: Iterable[str]) -> str:
    return listing(map(shown, names), 3)


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
