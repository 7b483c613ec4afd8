"""Any folder of images: with class folders or flat, with or without train/, val/ and test/."""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.image_files import FolderSet, none_in
from cnnprobe.datasets.base.imageset import ImageSet, sha256, shown
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN
from cnnprobe.datasets.base.labels.labelling import (
    by_file,
    by_subfolder,
    several_by_file,
    splits_by_file,
    without_images,
)
from cnnprobe.datasets.base.labels.masks import Masked, MaskFiles, Meaning
from cnnprobe.datasets.base.listing import Listing, folder_at, listed
from cnnprobe.datasets.base.splits import Part, part_of
from cnnprobe.datasets.base.targets import Present
from cnnprobe.errors import UserError, listing, path_of

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
    masks: str | None = None,
    target: Literal["class", "present", "mask"] = "class",
) -> ImageSet:
    """List a folder and label its images; they are decoded when they are loaded.

    Subfolders named train, val and test, in any of their spellings, are splits (`base.splits.part_of`); those below, or
    those of a folder without splits, are classes. Where the folder holds no val or test, a column `split` of the table
    of labels says which images those are, else every fifth image (by a checksum of its name, so that it stays where it
    is when others come) is held out of train. No split given: val,
    else test, else everything.

    Args:
        root: the folder.
        split: which part of it.
        classes: CSV file (index, folder, name) that gives folders their index and name.
        labels: table (file, class) for folders without class folders, see `labels.labelling.by_file`.
        size: side of the images as they enter the network, px; None: they keep their own (`original` only).
        resize: shorter side before the centre crop, px.
        strict: an image that cannot be read ends the run.
        links: which are followed: inside, those that stay in the folder; all; None: as inside, but links to folders
            elsewhere, which may be classes, are not left out before that was requested.
        masks: folder of PNGs, one for each image, at the same path below it (`labels.masks`): a network is to answer
            the class of every pixel, and `classes` (index, name) names these.
        target: what a network is to answer: the class of the image, or which of several it has (present), of which
            `labels` may then name several for an image; images that it does not name are left out. With `masks` it is
            the class of every pixel, whether that is said (mask) or not.

    Raises:
        UserError: no such folder, no image in it that can be read, a table that does not fit, or links to decide on.
    """
    if target == "present" and (masks or not labels):
        what = "stands beside dataset.masks: leave one of them out" if masks else "needs dataset.labels=FILE"
        raise UserError(f"dataset.target=present {what}")
    if target == "mask" and not masks:
        raise UserError("dataset.target=mask needs dataset.masks=FOLDER, with a PNG for each image of dataset.root")
    folder = folder_at(root, "folder")
    found = _listed(folder, links)
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
    beside = _masks(found, part.splits, masks, links) if masks else None
    present: Present | None = None
    if target == "present" and labels:
        files, names, numbers, present, notes = _several(found, every, files, part, classes, labels)
    else:
        files, names, numbers, notes = _labelled(found, every, files, part, None if beside else classes, labels)
    meaning = Meaning.of(beside.values(), classes) if beside else None
    for note in (*found.notes, *part.notes, *notes, *(meaning.notes if meaning else ())):
        log.warning("%s: %s", shown(folder.name), note)
    fitting: dict[str, Any] = {"size": size, "resize": resize, "strict": strict}
    if beside and meaning:
        own = MaskFiles(beside.listing, files)
        images: FolderSet = Masked(folder, files, numbers, names, masks=own, meaning=meaning, **fitting)
    else:
        images = FolderSet(folder, files, numbers, names, **fitting)
    images.present, images.masks_by = present, "mask"
    images.require_any()
    return images


def _listed(folder: Path, links: str | None) -> Listing:
    """List a folder of images or masks.

    Raises:
        UserError: it holds links to folders elsewhere, and `links` does not say what is to become of them.
    """
    found = listed(folder, outwards=links == "all", hint="; dataset.links=all follows them")
    if found.outside_folders and links is None:
        there = listing((f"{shown(name)} → {shown(target)}" for name, target in found.outside_folders.items()), 2)
        raise UserError(
            f"{shown(str(folder))} holds links to folders elsewhere ({there}): dataset.links=all follows them, "
            "dataset.links=inside leaves them out"
        )
    return found


def _masks(found: Listing, splits: tuple[str, ...], masks: str, links: str | None) -> MaskFiles:
    """Return the masks of the images of all splits.

    Raises:
        UserError: there is no such folder, or it lies among the images.
    """
    path = path_of(masks)
    if not path.is_dir():
        raise UserError(f"dataset.masks={masks} is no folder")
    if path.resolve().is_relative_to(found.root):
        raise UserError(
            f"dataset.masks={masks} lies in dataset.root, so masks would be shown as images: let dataset.root be a "
            "folder of images alone"
        )
    images = [name for name in found.images if not splits or name.partition("/")[0] in splits]
    return MaskFiles(_listed(path.resolve(), links), images)


def _half(
    found: Listing, every: list[str], part: Part, split: str | None, labels: str | None
) -> tuple[list[str], list[str]]:
    """Return the images of a split of a folder that has no folders for it, and what is to be said.

    A column of the table of labels says which they are, else every fifth image is held out, if a split is requested.

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
        every: all images below the part, also those of the half that is not requested: a table is about both.
        files: of these, those requested.
        part, classes, labels: see `build`.
    """
    inner = [name.removeprefix(part.below) for name in files]
    if labels is not None:
        others = _beside(found, part)
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


def _several(
    found: Listing, every: list[str], files: list[str], part: Part, classes: str | None, labels: str
) -> tuple[list[str], tuple[str, ...], np.ndarray, Present, list[str]]:
    """Return what `_labelled` does where an image may have several classes, and which it has.

    The label of an image is its class where it has one alone.
    """
    below, others = [name.removeprefix(part.below) for name in every], _beside(found, part)
    names, present, named, notes = several_by_file(below, labels, classes, f"{found.root}/{part.below}", others)
    asked = set(files)
    kept = [place for place in named if every[place] in asked]
    if not kept:
        raise UserError(f"{labels} names none of {len(files)} images")
    matrix = present.of(kept).numpy()
    own = Present(np.argwhere(matrix).T, len(names))
    return [every[place] for place in kept], names, own.alone(len(kept)), own, notes


def _beside(found: Listing, part: Part) -> list[str]:
    """Return the images of other splits, which a table may name as well."""
    return [name for name in found.images if not name.startswith(part.below)]


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
