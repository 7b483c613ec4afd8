"""Tiny ImageNet (Stanford CS231n): 200 classes of ImageNet at 64 x 64 px, in its official layout."""

from pathlib import Path
from typing import Annotated, Literal

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.image_files import FolderSet
from cnnprobe.datasets.base.imageset import ImageSet, shown
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN
from cnnprobe.datasets.base.listing import folder_at, listed
from cnnprobe.errors import UserError
from cnnprobe.machine import files

ARCHIVE = "tiny-imagenet-200"
LARGEST = 2**26  # bytes of a list; words.txt has 3 MB


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    strict: bool,
) -> ImageSet:
    """List one part of Tiny ImageNet; images are decoded when they are loaded.

    Classes are in the order of their wnids, as in ImageNet, not in that of wnids.txt. The official
    test images have no labels; where they are not there, test means val.

    Args:
        root: the folder that holds wnids.txt, or the one that holds tiny-imagenet-200.
        split: train (500 per class), val (50 per class, also for None) or test (unlabelled).
        size: side of the images as they enter the network, px; None: they keep their own.
        resize: shorter side before the centre crop, px.
        strict: an image that cannot be read ends the run.

    Raises:
        UserError: the folder does not have the official layout, or no image can be read.
    """
    folder = folder_at(root, "tiny-imagenet")
    folder = folder / ARCHIVE if (folder / ARCHIVE / "wnids.txt").is_file() else folder
    wnids = sorted(_lines(folder / "wnids.txt"))
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    classes = [words.get(wnid, wnid).partition(",")[0] for wnid in wnids]
    part = split or "val"
    if part == "test" and not (folder / "test").is_dir():
        part = "val"
    owners = _owners(folder, part)
    index = {wnid: i for i, wnid in enumerate(wnids)}
    strangers = sorted(set(owners.values()) - index.keys() - {""})
    if strangers:
        raise UserError(f"{shown(str(folder / part))} has the class {shown(strangers[0])!r}, wnids.txt has not")
    labels = [index.get(owner, UNKNOWN) for owner in owners.values()]
    images = FolderSet(
        folder, list(owners), labels, classes, size=size, resize=resize, strict=strict, name="tiny-imagenet"
    )
    images.require_any()
    return images


def _owners(folder: Path, part: str) -> dict[str, str]:
    """Return the wnid of each image file of a part, "" where it is unknown.

    val_annotations.txt (file, wnid, box) says it for val; elsewhere the class folder does.
    """
    if not (folder / part).is_dir():
        raise UserError(f"no {part}/ in {shown(str(folder))}")
    files = [f"{part}/{name}" for name in listed(folder / part).once()]
    if part == "test":
        return dict.fromkeys(files, "")
    notes = folder / part / f"{part}_annotations.txt"
    if not notes.is_file():
        return {name: name.split("/")[1] for name in files if name.count("/") > 1}
    wnids = dict(line.split("\t")[:2] for line in _lines(notes) if "\t" in line)
    return {name: wnids.get(name.rpartition("/")[2], "") for name in files}


def _lines(path: Path) -> list[str]:
    """Read the lines of a small text file of the archive."""
    try:
        return files.read(path, LARGEST).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise UserError(f"{shown(str(path.parent))} is not Tiny ImageNet: {path.name}: {why}") from None
