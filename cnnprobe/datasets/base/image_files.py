"""Image files below a folder as an image set: decoded whenever they are loaded."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.decoding import Unreadable, decode, dimensions
from cnnprobe.datasets.base.imageset import ImageSet, sha256, shown
from cnnprobe.datasets.base.names import Names
from cnnprobe.errors import UserError
from cnnprobe.machine import files


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

    at_any_size = True
    root: Path

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
        self._states = np.zeros(len(self.files), np.int64)  # of the files when their digests were taken

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

    def _pixels(self, index: int, size: Sequence[int] | None) -> np.ndarray | None:
        """Decode one file, (y, x, channel), or note why not.

        Raises:
            UserError: it is another file than when its digest was taken.
        """
        try:
            pixels, remarks = decode(self.path(index), size, self.resize)
        except Unreadable as reason:
            self._same_as_before(index)
            self.unreadable(index, str(reason))
            return None
        self._same_as_before(index)
        for kind, words in remarks.items():
            self.remarks.setdefault(kind, f"{shown(self.names[index])}: {words}")
        return pixels

    def _digest(self, index: int) -> bytes:
        """Return size and sha256 of a file's content, remembered."""
        if index not in self._digests:
            self._states[index] = self._state(index)
            self._digests[index] = self._content(index)
        return self._digests[index]

    def _same_as_before(self, index: int) -> None:
        """Make sure that a file is still the one whose digest is stored beside what is shown of it.

        Only where it was written, moved or touched since then is it read once more. One that is gone is left out as
        any that cannot be read.

        Raises:
            UserError: its content is another one.
        """
        state = self._state(index)
        if index not in self._digests or state in (files.GONE, self._states[index]):
            return
        if self._content(index) != self._digests[index]:
            raise changed(self.names[index])
        self._states[index] = state

    def _state(self, index: int) -> int:
        """Return the state of a file, see `files.state_of`."""
        try:
            return files.state_of(self.path(index))
        except Unreadable:
            return files.GONE

    def _content(self, index: int) -> bytes:
        """Return size and sha256 of a file's content."""
        try:
            path = self.path(index)
            if not path.is_file():  # reading a pipe would wait for ever
                raise FileNotFoundError
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
                return b"%d %s" % (file.tell(), digest)
        except (OSError, Unreadable):
            return b"unreadable"


def changed(name: str) -> UserError:
    """Build the error for a file that is another one than when its digest was taken."""
    return UserError(f"{shown(name)} changed while it was being used; a run over it can go on once the file is back")


def none_in(root: Path, files: Sequence[str], part: str = "", notes: Sequence[str] = ()) -> UserError:
    """Build the error for a folder without images: how many files, what is wrong with the first, what was left out."""
    reason = ""
    if files:
        try:
            decode(root / files[0])
        except Unreadable as error:
            reason = f", none readable: {shown(files[0])}: {shown(str(error))}"
    return UserError("; ".join([f"no images in {shown(str(root))}{part} ({len(files)} files{reason})", *notes[:3]]))


def stored(file: str) -> str:
    r"""Return a path as it is stored: UTF-8, with bytes that are not valid UTF-8 written as \xNN."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
