"""Columns of the tables that `lesion` writes beside its effects: decisions, and which units were taken out."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from cnnprobe.methods.lesion.lesioning import Answers
from cnnprobe.methods.lesion.lesions import Lesion
from cnnprobe.store.tables import Column, Rows, Table

ImageColumn = Literal["image", "label", "intact", "decided", "iou", "iou_after", "explained", "explained_after"]
"""Columns of the table "images": what is decided, or how well maps of classes or courses fit."""
Fit = Literal["iou", "explained"]
FITS: dict[Fit, str] = {
    "iou": "intersection over union of this image, mean over its classes but the background, NaN without masks",
    "explained": "explained share (R²) of this image's course, NaN without courses",
}
AFTER: dict[Fit, ImageColumn] = {"iou": "iou_after", "explained": "explained_after"}
"""The same with each lesion."""
MaskColumn = Literal["lesioned"]
"""Columns of the table "masks/<layer>"."""


def images_table(shown: np.ndarray, labels: np.ndarray, lesions: int, batch: int) -> Table[ImageColumn]:
    """Lay out the decisions of the images that lesions are measured with.

    Args:
        shown: (image,) their indices in the dataset.
        labels: (image,) their classes.
        lesions: how many.
        batch: images per batch.
    """
    decided = "class decided for, in the network's order, -1 = none"
    columns: dict[ImageColumn, Column] = {
        "image": Column("row of the table stimuli", dtype="int64", unit="index", values=shown),
        "label": Column("class in the dataset, -1 = unknown", dtype="int64", unit="index", values=labels),
        "intact": Column(f"{decided}; without a lesion", dtype="int32", unit="index"),
        "decided": Column(f"{decided}; with each lesion", "lesion", (lesions,), "int32", "index"),
    }
    return Table("images", "shown", len(shown), columns, batch)


def fits_table(shown: np.ndarray, labels: np.ndarray, lesions: int, batch: int, by: Fit = "iou") -> Table[ImageColumn]:
    """Lay out how well each image's map of classes fits, or its course; see `images_table`."""
    fit = FITS[by]
    columns: dict[ImageColumn, Column] = {
        "image": Column("row of the table stimuli", dtype="int64", unit="index", values=shown),
        "label": Column("class in the dataset, -1 = unknown", dtype="int64", unit="index", values=labels),
        by: Column(f"{fit}; without a lesion"),
        AFTER[by]: Column(f"{fit}; with each lesion", "lesion", (lesions,)),
    }
    return Table("images", "shown", len(shown), columns, batch)


def fit_rows(before: np.ndarray, after: np.ndarray, batch: int, by: Fit = "iou") -> Iterator[Rows[ImageColumn]]:
    """Give the rows of that table from what fits (image,) and (lesion, image)."""
    for first in range(0, len(before), batch):
        own = slice(first, first + batch)
        yield Rows("images", first, {by: before[own], AFTER[by]: after[:, own].T})


def image_rows(answers: Answers, batch: int) -> Iterator[Rows[ImageColumn]]:
    """Give the rows of the table "images"."""
    for first in range(0, len(answers.read), batch):
        own = slice(first, first + batch)
        yield Rows("images", first, {"intact": answers.intact[0, own], "decided": answers.decided[:, own].T})


def mask_tables(lesions: list[Lesion]) -> list[Table[MaskColumn]]:
    """Lay out which units each lesion takes out, a table for each layer; `first_lesion` is the lesion of its row 0."""
    made: list[Table[MaskColumn]] = []
    for name in dict.fromkeys(one.layer.name for one in lesions):
        own = [place for place, one in enumerate(lesions) if one.layer.name == name]
        layer = lesions[own[0]].layer
        told = Column("whether a unit is taken out", "unit", (layer.channels,), "bool")
        about = layer.attributes | {"first_lesion": own[0]}
        made.append(Table(f"masks/{layer.group}", "lesion", len(own), {"lesioned": told}, len(own), about, aside=True))
    return made


def mask_rows(lesions: list[Lesion], units: list[np.ndarray]) -> Iterator[Rows[MaskColumn]]:
    """Give the rows of the tables "masks/<layer>".

    Args:
        lesions: all.
        units: (lesion,) the channels that each takes out.
    """
    for name in dict.fromkeys(one.layer.name for one in lesions):
        own = [(one.layer, chosen) for one, chosen in zip(lesions, units) if one.layer.name == name]
        masks = np.zeros((len(own), own[0][0].channels), bool)
        for row, (_, chosen) in zip(masks, own):
            row[chosen] = True
        yield Rows(f"masks/{own[0][0].group}", 0, {"lesioned": masks})
