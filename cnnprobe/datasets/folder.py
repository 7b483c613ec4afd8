"""Any folder of images: with class folders or flat, with or without train/, val/ and test/."""

import hashlib
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.decoding import Unreadable, decode, dimensions
from cnnprobe.datasets.imageset import ImageSet, sha256, shown
from cnnprobe.datasets.labelling import UNKNOWN, by_file, by_subfolder, splits_by_file, without_images
from cnnprobe.datasets.listing import Listing, folder_at, listed
from cnnprobe.datasets.names import Names
from cnnprobe.datasets.splits import Part, part_of
from cnnprobe.errors import UserError, listing
from cnnprobe.options import Range

HELD_OUT = 5  # one image in so many is held out where the folder itself has no held-out part

log = logging.getLogger("cnnprobe")


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    classes: str | None,
    labels: str | None,
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    strict: bool,
    links: Literal["inside", "all"] | None = None,
) -> ImageSet:
    """List a folder and label its images; they are decoded when they are loaded.

    Subfolders named train, val and test, in any of their spellings, are splits (`splits.part_of`); those below, or
    those of a folder without splits, are classes. Where the folder holds no val or test, a column `split` of the table
    of labels says which images those are, else every fifth image (by a checksum of its name, so that it stays where it
    is when others come) is held out of train. No split given: val,
    else test, else everything.

    Args:
        root: the folder.
        split: which part of it.
        classes: CSV file (index, folder, name) that gives folders their index and name.
        labels: table (file, class) for folders without class folders, see `labelling.by_file`.
        size: side of the images as they enter the network, px; None: they keep their own (`original` only).
        resize: shorter side before the centre crop, px.
        strict: an image that cannot be read ends the run.
        links: which are followed: inside, those that stay in the folder; all; None: as inside, but links to folders
            elsewhere, which may be classes, are not left out before that was asked for.

    Raises:
        UserError: no such folder, no image in it that can be read, a table that does not fit, or links to decide on.
    """
    folder = folder_at(root, "folder")
    found = listed(folder, outwards=links == "all", hint="; dataset.links=all follows them")
    if found.outside_folders and links is None:
        there = listing((f"{shown(name)} → {shown(target)}" for name, target in found.outside_folders.items()), 2)
        raise UserError(
            f"{shown(str(folder))} holds links to folders elsewhere ({there}): dataset.links=all follows them, "
            "dataset.links=inside leaves them out"
        )
    part = part_of(found, split)
    files = every = found.once(part.below)
    if not files:
        others = [name for name in found.others if name.startswith(part.below)]
        raise none_in(folder, others, f" {part.below}".rstrip(), found.notes)
    if part.half or (labels and split is None):
        files, told = _half(found, every, part, split, labels)
        found.notes.extend(told)
    if not files:
        raise UserError(f"{shown(str(folder))} has too few images to hold one in {HELD_OUT} out; make train/ and val/")
    files, names, numbers, notes = _labelled(found, every, files, part, classes, labels)
    for note in (*found.notes, *part.notes, *notes):
        log.warning("%s: %s", shown(folder.name), note)
    images = FolderSet(folder, files, numbers, names, size=size, resize=resize, strict=strict)
    images.require_any()
    return images


class FolderSet(ImageSet):
    """Image files below a folder, decoded whenever they are loaded.

    Args:
        root: the folder.
        files: paths below it.
        labels: (file,) index of the class, -1 where unknown.
        classes: name of each class.
        size: side as they enter the network, px, or None.
        resize: shorter side before the centre crop, px, or None.
        strict: an image that cannot be read ends the run.
        name: of the dataset.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        labels: Iterable[int],
        classes: Iterable[str],
        *,
        size: int | None,
        resize: int | None,
        strict: bool,
        name: str = "folder",
    ):
        super().__init__(
            name=name,
            names=files if isinstance(files, Names) else [stored(file) for file in files],
            labels=labels,
            classes=classes,
            size=(3, size or 0, size or 0),
            resize=resize,
            strict=strict,
        )
        self.root = root
        self.files = files if isinstance(files, Names) else list(files)
        self._digests: dict[int, bytes] = {}

    def load(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Decode files; uint8."""
        images = np.zeros((len(indices), *self.size), dtype=np.uint8)
        readable = np.zeros(len(indices), dtype=bool)
        for row, index in enumerate(indices):
            pixels = self._pixels(int(index), self.size[1:])
            if pixels is not None:
                images[row] = pixels.transpose(2, 0, 1)
                readable[row] = True
        return torch.from_numpy(images), readable

    def original(self, index: int) -> Tensor | None:
        """Decode one file as it is, uint8."""
        pixels = self._pixels(index, None)
        return None if pixels is None else torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def path(self, index: int) -> Path:
        """Return where one file lies."""
        return self.root / self.files[index]

    def original_size(self, index: int) -> tuple[int, int] | None:
        """Return (height, width) of one file, px, from its header."""
        try:
            return dimensions(self.path(index))
        except Unreadable as reason:
            self.unreadable(index, str(reason))
            return None

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) over each file's name, size and content."""
        chosen = [int(index) for index in indices]
        with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:  # hashing leaves Python's lock
            digests = list(pool.map(self._digest, chosen, chunksize=64))
        return sha256(*(part for i, digest in zip(chosen, digests) for part in (os.fsencode(self.files[i]), digest)))

    def checksums_of(self, indices: Iterable[int]) -> np.ndarray:
        """CRC-32 of each file's size and sha256."""
        return np.array([zlib.crc32(self._digest(int(index))) for index in indices], np.uint32)

    def require_any(self) -> None:
        """Check that one image at least can be read.

        Raises:
            UserError: none can; with the number of files and the first reason.
        """
        for index in range(len(self)):
            if self._pixels(index, (1, 1)) is not None:
                return
        raise none_in(self.root, self.files)

    def _pixels(self, index: int, size: tuple[int, int] | None) -> np.ndarray | None:
        """Decode one file, (y, x, channel), or note why not."""
        try:
            pixels, remarks = decode(self.path(index), size, self.resize)
        except Unreadable as reason:
            self.unreadable(index, str(reason))
            return None
        for kind, words in remarks.items():
            self.remarks.setdefault(kind, f"{shown(self.names[index])}: {words}")
        return pixels

    def _digest(self, index: int) -> bytes:
        """Return size and sha256 of a file's content, remembered."""
        if index not in self._digests:
            try:
                path = self.path(index)
                if not path.is_file():  # reading a pipe would wait for ever
                    raise FileNotFoundError
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
                    self._digests[index] = b"%d %s" % (file.tell(), digest)
            except (OSError, Unreadable):
                self._digests[index] = b"unreadable"
        return self._digests[index]


def none_in(root: Path, files: Sequence[str], part: str = "", notes: Sequence[str] = ()) -> UserError:
    """Build the error for a folder without images: how many files, what is wrong with the first, what was left out."""
    reason = ""
    if files:
        try:
            decode(root / files[0])
        except Unreadable as error:
            reason = f", none readable: {shown(files[0])}: {shown(str(error))}"
    return UserError("; ".join([f"no images in {shown(str(root))}{part} ({len(files)} files{reason})", *notes[:3]]))


def _half(
    found: Listing, every: list[str], part: Part, split: str | None, labels: str | None
) -> tuple[list[str], list[str]]:
    """Return the images of a split of a folder that has no folders for it, and what is to be said.

    A column of the table of labels says which they are, else every fifth image is held out, if a split is asked for.

    Args:
        found, every, part, labels: see `_labelled`.
        split: train, val or test; None: val, else test.
    """
    below = [name.removeprefix(part.below) for name in every]
    said = splits_by_file(below, labels, f"{found.root}/{part.below}") if labels and not part.splits else None
    if said is None and part.half is None:
        return every, []
    if said is None:
        return [name for name in every if _held_out(name) == (part.half == "held out")], []
    column, splits = said
    order = {"train": ("train",), "test": ("test", "val")}.get(split or "", ("val", "test"))
    wanted = next((one for one in order if one in splits), order[0])
    files = [name for name, one in zip(every, splits) if one == wanted]
    if not files:
        raise UserError(f"{labels}: {column!r} names no image of {shown(str(found.root))} for the split {wanted}")
    without = sum(one is None for one in splits)
    lost = f" ({without} of {len(every)} are in none)" if without else ""
    return files, [f"split {wanted}: the {len(files)} images of which {column!r} in the table of labels says so{lost}"]


def _held_out(name: str) -> bool:
    """Tell whether an image belongs to the held-out fifth, by its name alone."""
    return int(sha256(os.fsencode(name)), 16) % HELD_OUT == 0


def _labelled(
    found: Listing, every: list[str], files: list[str], part: Part, classes: str | None, labels: str | None
) -> tuple[list[str], tuple[str, ...], np.ndarray, list[str]]:
    """Return the files that stay, the classes, the files' labels, and notes.

    Args:
        found: the folder's listing.
        every: all images below the part, also those of the half that is not asked for: a table is about both.
        files: of these, those asked for.
        part, classes, labels: see `build`.
    """
    inner = [name.removeprefix(part.below) for name in files]
    if labels is not None:
        others = [name for name in found.images if not name.startswith(part.below)]
        below = [name.removeprefix(part.below) for name in every]
        names, numbers, notes = by_file(below, labels, classes, f"{found.root}/{part.below}", others)
        asked = set(files)
        numbers = numbers[[place for place, name in enumerate(every) if name in asked]]
        return files, names, numbers, [*notes, *(without_images(names, set(numbers.tolist())) if not classes else ())]
    folders = _class_folders(found, part.splits)
    inside = [name for name in inner if "/" in name]
    if not inside or not folders:
        return files, tuple(folders), np.full(len(files), UNKNOWN), []
    names, numbers, notes = by_subfolder(inside, folders, classes, _of_all_splits(found, part.splits))
    if len(inside) < len(inner):
        notes.append(f"{len(inner) - len(inside)} images beside the class folders are left out")
    return [part.below + name for name in inside], names, numbers, notes


def _of_all_splits(found: Listing, splits: tuple[str, ...]) -> list[str]:
    """Return the paths of all images below their split."""
    if not splits:
        return found.images
    return [rest for split, _, rest in (name.partition("/") for name in found.images) if split in splits]


def _class_folders(found: Listing, splits: tuple[str, ...]) -> list[str]:
    """Return the class folders of all splits, so that an index means the same in each; none where all are empty."""
    paths = [name.split("/") for name in found.folders]
    if splits:
        paths = [path[1:] for path in paths if path[0] in splits]
    return sorted({path[0] for path in paths if len(path) == 1}, key=os.fsencode)


def stored(file: str) -> str:
    r"""Return a path as it is stored: UTF-8, with bytes that are none as \xNN."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
