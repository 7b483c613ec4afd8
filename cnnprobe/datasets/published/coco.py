"""COCO 2017 (Lin et al. 2014): photographs of everyday scenes, with the outlines of the objects in them."""

import logging
from array import array
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.collections.collection import Collection, in_order, leads_out, part_folder, refused
from cnnprobe.datasets.base.collections.json_lists import elements
from cnnprobe.datasets.base.collections.object_maps import Mapped
from cnnprobe.datasets.base.collections.objects import Objects, Outlines
from cnnprobe.datasets.base.collections.run_lengths import Runs, lengths
from cnnprobe.datasets.base.image_files import FolderSet
from cnnprobe.datasets.base.imageset import ImageSet, shown
from cnnprobe.datasets.base.labels.class_numbers import UNKNOWN
from cnnprobe.datasets.base.listing import folder_at, listed
from cnnprobe.datasets.base.targets import Present
from cnnprobe.errors import UserError

log = logging.getLogger("cnnprobe")

UNLABELLED = ("unlabeled2017", "unlabelled2017")


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test", "unlabelled"] | None,
    classes: Literal["largest", "none"],
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    strict: bool,
    target: Literal["class", "mask", "present"] = "class",
) -> ImageSet:
    """List one part of COCO 2017; images are decoded when they are loaded.

    Classes are in the order of their ids; the 80 ids run to 90. Crowds, which stand for many objects at once, have no
    part in labels and truth. The truth of an image (boxes, and the mask `cue`) is that of all its objects of the class
    of its label.

    Args:
        root: the folder that holds train2017/, val2017/ and annotations/, or unlabeled2017/.
        split: train, val (also for test, whose annotations are not public, and for None), or unlabelled: any images
            of that folder, in order of their names.
        classes: what the label says: largest (the object of the largest area; images without one are left out) or none.
        size: side of the images as they enter the network, px; None: they keep their own.
        resize: shorter side before the centre crop, px.
        strict: an image that cannot be read ends the run.
        target: what a network is to answer: the class of the image; of every pixel, the class of the object there
            (mask; `object_maps.Mapped`); or which classes an image has, crowds of them included (present). For the
            latter two images without objects stay.

    Raises:
        UserError: the folder does not have the official layout, the annotations are damaged or name a path outside
            the folder, no image can be read, or a target is requested that is made of annotations where none are read.
    """
    folder = folder_at(root, "coco")
    fitting: dict[str, Any] = {"size": size, "resize": resize, "strict": strict, "name": "coco"}
    if target != "class" and (split == "unlabelled" or classes == "none"):
        without = "dataset.split=unlabelled" if split == "unlabelled" else "dataset.classes=none"
        raise UserError(f"dataset.target={target} is made of the annotations, which {without} does not read")
    if split == "unlabelled":
        images = part_folder(folder, *UNLABELLED)
        names = listed(images).once()
        held = FolderSet(images, names, [UNKNOWN] * len(names), (), **fitting)
        held.require_any()
        return held
    part = "train2017" if split == "train" else "val2017"
    images = part_folder(folder, part)
    path = folder / "annotations" / f"instances_{part}.json"
    found = read(path, crowds=target != "class")
    files, order = in_order(found.names, path)
    if classes == "none":
        return Collection(images, files, np.full(len(files), UNKNOWN), (), **fitting)
    objects = _objects(found, found.objects, order, path)
    names = [found.categories[number] for number in sorted(found.categories)]
    sizes = np.asarray(found.sides).reshape(-1, 2)[order]
    labels = objects.largest(len(files))
    fitting |= {"objects": objects, "sizes": sizes}
    if found.crowds is None:
        return Collection(images, files, labels, names, labelled=True, **fitting)
    crowds = _objects(found, found.crowds, order, path)
    if target == "mask":
        return Mapped(images, files, labels, names, crowds=crowds, **fitting)
    present = Present(np.concatenate([objects.pairs(), crowds.pairs()], axis=1), len(names))
    return Collection(images, files, labels, names, present=present, **fitting)


class Marked:
    """Objects, or crowds, gathered element by element into flat arrays."""

    def __init__(self) -> None:
        self.owners, self.kinds = array("q"), array("q")  # of each object: id of its image, of its category
        self.boxes, self.areas = array("d"), array("d")  # left, top, width, height of each object, px; its area, px²
        self.drawn, self.ends, self.corners = array("q"), array("q"), array("f")  # see `Outlines`
        self.masked, self.stops, self.runs = array("q"), array("q"), array("q")  # see `Runs`
        self.mask_sides = array("q")  # height, width of each mask
        self.bare = 0  # objects without outline and mask

    def add(self, element: dict[str, Any]) -> None:
        """Note an object; one without outline and mask has the outline of its box."""
        left, top, width, height = element["bbox"]
        polygons = element.get("segmentation")
        if isinstance(polygons, dict):
            self.runs.extend(lengths(polygons))
            self.mask_sides.extend(polygons["size"])
            self.stops.append(len(self.runs))
            self.masked.append(len(self.owners))
            polygons = []
        elif not polygons:
            self.bare += 1
            right, bottom = left + width, top + height
            polygons = [[left, top, right, top, right, bottom, left, bottom]]
        for polygon in polygons:
            if len(polygon) % 2:
                raise ValueError(f"a polygon of {len(polygon)} numbers")
            self.corners.extend(polygon)
            self.ends.append(len(self.corners) // 2)
            self.drawn.append(len(self.owners))
        self.owners.append(element["image_id"])
        self.kinds.append(element["category_id"])
        self.boxes.extend((left, top, width, height))
        self.areas.append(element["area"])


class Annotations:
    """What a file of annotations says; `crowds`: also of these."""

    def __init__(self, crowds: bool = False) -> None:
        self.names: list[bytes] = []
        self.images, self.sides = array("q"), array("q")  # id of each image; its height, width
        self.categories: dict[int, str] = {}
        self.objects, self.crowds = Marked(), Marked() if crowds else None

    def add_image(self, element: dict[str, Any], where: str) -> None:
        """Note an image."""
        name = element["file_name"].encode()
        if leads_out(name):
            raise refused(name, where)
        self.names.append(name)
        self.images.append(element["id"])
        self.sides.extend((element["height"], element["width"]))

    def add_category(self, element: dict[str, Any], where: str) -> None:
        """Note a class."""
        number, name = int(element["id"]), str(element["name"])
        if self.categories.setdefault(number, name) != name:
            raise ValueError(f"the id {number} is {self.categories[number]!r} already")

    def add_object(self, element: dict[str, Any], where: str) -> None:
        """Note an object, and a crowd if that is wanted."""
        marked = self.crowds if element.get("iscrowd") else self.objects
        if marked is not None:
            marked.add(element)


def read(path: Path, crowds: bool = False) -> Annotations:
    """Read a file of annotations; `crowds`: also those of many objects at once.

    Raises:
        UserError: it is missing, damaged, not of COCO's kind, or names a path outside the folder of the images.
    """
    found = Annotations(crowds)
    add = {"images": found.add_image, "annotations": found.add_object, "categories": found.add_category}
    counts = dict.fromkeys(add, 0)
    for key, element in elements(path):
        if key not in add:
            continue
        counts[key] += 1
        where = f"{shown(str(path))}: number {counts[key]} of {key}"
        try:
            add[key](element, where)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(f"{where} is not of COCO's kind ({type(error).__name__}: {shown(str(error))})") from None
    if not found.names:
        raise UserError(f"{shown(str(path))} names no images")
    return found


def _objects(found: Annotations, marked: Marked, order: np.ndarray, path: Path) -> Objects:
    """Return the objects, or crowds, with images and classes as indices.

    Args:
        marked: which of them.
        order: (image,) of the images as they stand in the file.

    Raises:
        UserError: one lies in an image, or is of a class, that the file does not list; or a number is not finite.
    """
    corners = np.asarray(marked.corners).reshape(-1, 2)
    boxes, areas = np.asarray(marked.boxes).reshape(-1, 4), np.asarray(marked.areas)
    if not all(np.isfinite(values).all() for values in (corners, boxes, areas)):
        raise UserError(f"{shown(str(path))}: an object has a number that is not finite")
    ids = np.asarray(found.images)[order]
    places = _places(np.asarray(marked.owners), ids, f"{shown(str(path))}: image")
    classes = _places(np.asarray(marked.kinds), np.array(sorted(found.categories)), f"{shown(str(path))}: category")
    left, top, width, height = boxes.T
    edges = np.stack([top, left, top + height, left + width], axis=1).astype(np.float32)
    outlines = Outlines(np.asarray(marked.drawn), np.asarray(marked.ends), corners)
    masks = Runs(np.asarray(marked.masked), np.asarray(marked.stops), np.asarray(marked.runs))
    sides = np.asarray(found.sides).reshape(-1, 2)[order][places[masks.owners]]
    other = (sides != np.asarray(marked.mask_sides).reshape(-1, 2)).any(axis=1)
    if other.any():
        image = found.names[order[places[masks.owners[other][0]]]].decode()
        raise UserError(f"{shown(str(path))}: a mask in {shown(image)} has another size than the image")
    if marked.bare:
        log.warning("coco: %d objects have neither outline nor mask; the outline of their box is taken", marked.bare)
    return Objects(places, classes, edges, areas, outlines=outlines, masks=masks)


def _places(wanted: np.ndarray, ids: np.ndarray, what: str) -> np.ndarray:
    """Return where each wanted id stands among some.

    Raises:
        UserError: one is not among them, or an id is there twice.
    """
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        raise UserError(f"{what} {ids[order][twice[0]]} is listed twice")
    places = np.searchsorted(ids, wanted, sorter=order)
    there = places < len(ids)
    there[there] = ids[order[places[there]]] == wanted[there]
    if not there.all():
        raise UserError(f"{what} {wanted[~there][0]} of an object is not listed")
    return order[places]
