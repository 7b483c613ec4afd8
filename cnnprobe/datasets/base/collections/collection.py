"""A collection: images that its own lists name, with what the lists say about them; decoded when they are loaded."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnnprobe.datasets.base.collections.objects import Objects
from cnnprobe.datasets.base.decoding import Unreadable, decode
from cnnprobe.datasets.base.image_files import FolderSet
from cnnprobe.datasets.base.imageset import shown
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN
from cnnprobe.datasets.base.names import Names
from cnnprobe.datasets.base.targets import Present
from cnnprobe.errors import UserError

log = logging.getLogger("cnnprobe")

LONGEST = 255  # bytes of a path in a list
TRIED = 1000  # images that are tried before a collection is taken for empty


class Collection(FolderSet):
    """Images of one part of a collection.

    Args:
        root: the folder of the images, as a path without links.
        files: paths below it, which are their names too.
        labels: (file,) index of the class, -1 where unknown.
        classes: name of each class.
        size: side as they enter the network, px, or None.
        resize: shorter side before the centre crop, px, or None.
        strict: an image that cannot be read ends the run.
        name: of the dataset.
        objects: in the images; None: not known.
        sizes: (file, 2) height and width that the list gives, px; None: it gives none.
        labelled: leave out images without a class, and say how many: no training could use them.
        present: which classes the images have; None: a network is to answer the one of `labels`.

    Raises:
        UserError: none of the images can be read, or none has a class.
    """

    def __init__(
        self,
        root: Path,
        files: Names,
        labels: np.ndarray,
        classes: Iterable[str],
        *,
        size: int | None,
        resize: int | None,
        strict: bool,
        name: str,
        objects: Objects | None = None,
        sizes: np.ndarray | None = None,
        labelled: bool = False,
        present: Present | None = None,
    ):
        keep = labels != UNKNOWN
        if labelled and not keep.any():
            raise UserError(f"{name}: none of {len(files)} images has a class; dataset.classes=none takes them without")
        if labelled and not keep.all():
            log.warning("%s: %d of %d images have no class and are left out", name, (~keep).sum(), len(files))
            files, labels = Names(files.values[keep], files.spell), labels[keep]
            sizes = None if sizes is None else sizes[keep]
            objects = objects and objects.renumbered(np.cumsum(keep) - 1)
        super().__init__(root, files, labels, classes, size=size, resize=resize, strict=strict, name=name)
        self.objects = objects
        self.sizes = sizes
        self.present = present
        self.require_any()

    def path(self, index: int) -> Path:
        """Return where one file lies.

        Raises:
            Unreadable: a link leads out of the folder.
        """
        path = self.root / self.files[index]
        if not Path(os.path.realpath(path)).is_relative_to(self.root):
            raise Unreadable("leads out of the folder")
        return path

    def objects_digest(self) -> str | None:
        """Return the sha256 (hex) of all that is known of the objects."""
        return None if self.objects is None else self.objects.digest()

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return where the objects of the image's class are, see `Objects.truth`; {} where that is not known."""
        if self.objects is None:
            return {}
        source = self.original_size(index)
        if source is None or (self.sizes is not None and source != tuple(self.sizes[index])):
            return {"boxes": np.zeros((0, 4))}
        size = self.size[1:] if self.size[1] else source
        return self.objects.truth(index, int(self.labels[index]), source, size, self.resize)

    def require_any(self) -> None:
        """Check that one at least of the first hundred images, or of some spread over all, can be read.

        Raises:
            UserError: none can; with the first reason.
        """
        count = len(self)
        tried = np.unique(
            np.append(np.arange(min(count, 100)), np.linspace(0, count - 1, min(count, TRIED)).astype(int))
        )
        reason = ""
        for index in tried:
            try:
                decode(self.path(index), (1, 1))
                return
            except Unreadable as error:
                reason = reason or f"; {shown(self.names[index])}: {shown(str(error))}"
        raise UserError(
            f"{self.name}: none of {len(tried)} images tried in {shown(str(self.root))} can be read{reason}"
        )


def leads_out(file: bytes) -> bool:
    """Tell whether a path of a list leads out of its folder, or is none that a file can have."""
    odd = not file or file.startswith(b"/") or b"\0" in file or len(file) > LONGEST
    return odd or (b".." in file and b".." in file.split(b"/"))


def refused(file: bytes, where: str) -> UserError:
    """Build the error for a path that leads out of the folder; `where`: the list, and the place in it."""
    name = shown(file.decode("utf-8", "backslashreplace"))[:80]
    return UserError(f"{where}: {name!r} is no path inside the folder of the images; refused")


def in_order(files: list[bytes], path: Path) -> tuple[Names, np.ndarray]:
    """Return names in the order of their bytes, and the place of each in the list.

    Raises:
        UserError: one is there twice; `path`: of the list.
    """
    values, order = np.array(files, dtype=np.bytes_), np.arange(len(files))
    if not (values[:-1] < values[1:]).all():  # the official lists of millions are in order
        order = np.argsort(values, kind="stable")
        values = values[order]
        again = values[1:][values[:-1] == values[1:]]
        if len(again):
            raise UserError(f"{shown(str(path))} names {shown(plain(again[0]))[:80]!r} twice")
    return Names(values, plain), order


def plain(name: bytes) -> str:
    """Spell a name out that is kept as UTF-8."""
    return name.decode("utf-8")


def part_folder(root: Path, *names: str) -> Path:
    """Return the first of some folders that is there, as a path without links.

    Raises:
        UserError: none is.
    """
    for name in names:
        if (root / name).is_dir():
            return (root / name).resolve()
    raise UserError(f"no {' or '.join(f'{name}/' for name in names)} in {shown(str(root))}")
