"""Places365-Standard (Zhou, Lapedriza, Khosla, Oliva, Torralba 2017): photographs of 365 kinds of places."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.collections.collection import Collection, in_order, leads_out, part_folder, refused
from cnnprobe.datasets.base.imageset import ImageSet, shown
from cnnprobe.datasets.base.listing import folder_at
from cnnprobe.datasets.base.names import Names
from cnnprobe.errors import UserError
from cnnprobe.machine import files

CATEGORIES = "categories_places365.txt"
LISTS = {"train": "places365_train_standard.txt", "val": "places365_val.txt"}
FOLDERS = {
    ("train", "small"): ("data_256_standard", "data_256"),  # the archive's own name is the second
    ("train", "large"): ("data_large_standard", "data_large"),
    ("val", "small"): ("val_256",),
    ("val", "large"): ("val_large",),
}
LARGEST = 2**28  # bytes of a list; that of train has 70 MB
UNFINISHED = ".unfinished-download"


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    images: Literal["small", "large"] | None,
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    download: bool,
    strict: bool,
) -> ImageSet:
    """List one part of Places365-Standard; images are decoded when they are loaded.

    Args:
        root: the folder that holds categories_places365.txt, the lists of the images, and their folders.
        split: train or val (also for test, whose labels are not public, and for None).
        images: small (256 x 256 px) or large (at least 512 px wide or high); None: those that are there, or small.
        size: side of the images as they enter the network, px; None: they keep their own.
        resize: shorter side before the centre crop, px.
        download: fetch with torchvision what is not in `root`.
        strict: an image that cannot be read ends the run.

    Raises:
        UserError: the folder does not have the official layout, a list is damaged or names a path outside the
            folder, no image can be read, or nothing can be fetched.
    """
    part = "train" if split == "train" else "val"
    folder = folder_at(root, "places", make=download)
    kinds = (images,) if images else ("small", "large")
    folders = [name for kind in kinds for name in FOLDERS[part, kind]]
    needed = [CATEGORIES, LISTS[part]]
    if download and not (all((folder / name).is_file() for name in needed) and any_folder(folder, folders)):
        _fetch(folder, part, kinds[0])
    classes = _categories(folder / CATEGORIES)
    files, labels = _listed(folder / LISTS[part], len(classes))
    held = part_folder(folder, *folders)
    return Collection(held, files, labels, classes, size=size, resize=resize, strict=strict, name="places")


def any_folder(root: Path, names: list[str]) -> bool:
    """Tell whether one of some folders is there."""
    return any((root / name).is_dir() for name in names)


def _categories(path: Path) -> tuple[str, ...]:
    """Read the names of the classes in order: lines of /letter/name number.

    Raises:
        UserError: a line is not of this kind, or a number is missing.
    """
    names = {}
    for number, line in enumerate(_lines(path), 1):
        name, _, index = line.decode().rpartition(" ")
        if not name or not index.isdecimal() or int(index) in names:
            raise UserError(
                f"{shown(str(path))} line {number}: expected /letter/name number, got {shown(line.decode())[:60]!r}"
            )
        names[int(index)] = name[3:] if name[:1] == "/" and name[2:3] == "/" else name
    if not names or sorted(names) != list(range(len(names))):
        raise UserError(f"{shown(str(path))}: the {len(names)} classes are not numbered from 0")
    return tuple(names[index] for index in range(len(names)))


def _listed(path: Path, count: int) -> tuple[Names, np.ndarray]:
    """Read the images in order of their names and their labels: lines of path and number of the class.

    Raises:
        UserError: a line is not of this kind, names a path outside the folder, or one that is there twice.
    """
    files, labels = [], []
    for number, line in enumerate(_lines(path), 1):
        file, _, label = line.rpartition(b" ")
        file = file.removeprefix(b"/")  # so the official list begins its paths below the folder
        if leads_out(file):
            raise refused(file, f"{shown(str(path))} line {number}")
        if not label.isdigit() or int(label) >= count:
            raise UserError(f"{shown(str(path))} line {number}: expected path and class 0 to {count - 1}, got "
                            f"{shown(line.decode())[:60]!r}")  # fmt: skip
        files.append(file)
        labels.append(int(label))
    names, order = in_order(files, path)
    return names, np.array(labels, dtype=np.int16 if count <= 2**15 else np.int64)[order]


def _lines(path: Path) -> list[bytes]:
    """Read the lines of a list that are not empty; all are UTF-8."""
    why = "" if path.is_file() else "no such file"
    try:
        data = b"" if why else files.read(path, LARGEST)
        data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
    if why:
        root = shown(str(path.parent))
        raise UserError(f"{root} is not Places365: {path.name}: {why}; dataset.download=true fetches it")
    return [line for line in data.splitlines() if line.strip()]


def _fetch(root: Path, part: str, images: str) -> None:
    """Fetch lists and images with torchvision, which unpacks an archive only if its sum is right.

    All is made in a folder beside, and moved when it is whole: a download that was stopped is never taken for one.

    Raises:
        UserError: it cannot be fetched.
    """
    from torchvision.datasets import Places365

    beside = root / UNFINISHED
    names = {CATEGORIES, *LISTS.values(), *FOLDERS[part, images]}
    try:
        for name in names:  # unpacked halfway by an earlier try
            shutil.rmtree(beside / name, ignore_errors=True)
        beside.mkdir(exist_ok=True)
        Places365(beside, "train-standard" if part == "train" else part, small=images == "small", download=True)
        for path in [path for name in names if (path := beside / name).exists()]:
            if not (root / path.name).exists():
                path.rename(root / path.name)
        shutil.rmtree(beside)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"cannot fetch Places365 ({shown(str(error))}); put {', '.join(sorted(names))} into {shown(str(root))}"
        ) from None
