"""The table of the images that were shown: which row of a store is which file."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError, listing, one_line
from cnnprobe.store.tables import Column, Rows, Table

LOG = logging.getLogger("cnnprobe")
StimulusColumn = Literal["name", "label", "index", "checksum", "skipped"]
"""Columns of the table "stimuli"."""


def shared_classes(classes: tuple[str, ...], dataset: ImageSet, count: int) -> bool:
    """Say whether labels of a dataset are classes of a network: as many, and the same names where they are known.

    Args:
        classes: the network's own class names, () where unknown.
        dataset: an image set.
        count: how many outputs the network has.
    """
    return len(dataset.classes) == count and (not classes or tuple(classes) == tuple(dataset.classes))


def say_classes(classes: tuple[str, ...], dataset: ImageSet, count: int | None) -> None:
    """Say how labels are compared with outputs that have no names, by their order.

    Warn where labels are no classes of the network, though one would expect it: as many, or some by the same names.

    Args:
        classes, dataset, count: see `shared_classes`; None where the outputs are no classes.
    """
    if not count or len(dataset.classes) < 2:
        return
    if shared_classes(classes, dataset, count):
        if not classes and (dataset.labels >= 0).any():
            LOG.warning(f"the outputs of the network have no names: taken in the order of the dataset's classes "
                        f"({one_line(listing(list(dataset.classes), 4))})")  # fmt: skip
        return
    both = set(classes) & set(dataset.classes)
    if not both and len(dataset.classes) != count:
        return
    own = f"{count} outputs" + (f" ({one_line(listing(list(classes), 4))})" if classes else "")
    shown = f"{len(dataset.classes)} classes ({one_line(listing(list(dataset.classes), 4))})"
    order = ", the same in another order" if both == set(classes) == set(dataset.classes) else ""
    LOG.warning(f"no accuracy, labels are not compared with what the network decides: it has {own}, the dataset "
                f"{shown}{order}")  # fmt: skip


def images_of(spec: str | int | list[int | str], count: int) -> np.ndarray:
    """Return indices of images, int64, in the order asked, each once.

    Args:
        spec: "all", an index, a range "0:32" (the last one is not in it), or a list of those.
        count: how many images there are.

    Raises:
        UserError: no such image, or not a number.
    """
    chosen: list[int] = []
    for word in [spec] if isinstance(spec, str | int) else spec:
        text = str(word)
        if text == "all":
            chosen += range(count)
        elif match := re.fullmatch(r"(\d*):(\d*)", text):
            first, stop = (int(part) if part else default for part, default in zip(match.groups(), (0, count)))
            if not first < stop <= count:
                raise UserError(f"there are images 0 to {count - 1}, got {text}")
            chosen += range(first, stop)
        elif not re.fullmatch(r"-?\d+", text):
            raise UserError(f"images must be all, numbers, a range such as 0:32 or a list of those, got {text!r}")
        elif not 0 <= int(text) < count:
            raise UserError(f"there are images 0 to {count - 1}, got {text}")
        else:
            chosen.append(int(text))
    return np.array(list(dict.fromkeys(chosen)), np.int64)


def stimuli_table(dataset: ImageSet, batch: int) -> Table[StimulusColumn]:
    """Describe the images of a dataset, in its order.

    Args:
        dataset: an image set (datasets/base/imageset.py).
        batch: images per batch.

    Returns:
        Table "stimuli" with name, label, index and, where images are files, checksum, which are known, and
        `skipped`, which is written by rows as the images are loaded.
    """
    count = len(dataset)
    sums = dataset.checksums_of(range(count))
    known = "CRC-32 of the size and the sha256 of the image's file"
    checksum: dict[StimulusColumn, Column] = (
        {} if sums is None else {"checksum": Column(known, dtype="uint32", values=sums)}
    )
    columns: dict[StimulusColumn, Column] = {
        "name": Column("name of the image", dtype="str", values=np.array(dataset.names, dtype=object)),
        "label": Column("class, -1 = unknown", dtype="int64", unit="index", values=dataset.labels),
        "index": Column(
            "place in the whole dataset; `image` of other tables is the row here",
            dtype="int64",
            unit="index",
            values=np.asarray(getattr(dataset, "indices", np.arange(count))),
        ),
        **checksum,
        "skipped": Column("true where the image could not be read", dtype="bool"),
    }
    return Table(
        "stimuli",
        "image",
        count,
        columns,
        batch=batch,
        aside=True,
        attributes={
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "classes": json.dumps(list(dataset.classes), ensure_ascii=False),
            **dataset.about,
            **({"sample": dataset.sample} if dataset.sample else {}),
        },
    )


def skipped_rows(skipped: np.ndarray, batch: int, start: int = 0) -> Iterator[Rows[StimulusColumn]]:
    """Give the rows of the table "stimuli".

    Args:
        skipped: (image,) bool, true where an image could not be read.
        batch: images per batch.
        start: row of the first one.
    """
    for first in range(0, len(skipped), batch):
        yield Rows("stimuli", start + first, {"skipped": skipped[first : first + batch]})
