"""Columns of the tables that `record` writes beside its activations."""

from typing import Literal

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.store.tables import Column

ImageColumn = Literal[
    "name", "label", "prediction", "rank", "both", "true", "predicted", "iou", "by_border", "by_edge", "scores",
    "present", "all_found", "sums", "explained",
]  # fmt: skip
"""Columns of the table "images": the first four of every run, the others where more than a class is answered."""
COUNTS: tuple[ImageColumn, ...] = ("both", "true", "predicted")
"""Of pixels, by class: those of it that were taken for it, those of it, those taken for it."""
PictureColumn = Literal["pixels", "truth", "answer"]
"""Columns of the table "pictures": the last two of maps and courses."""


def decided(dataset: ImageSet) -> dict[ImageColumn, Column]:
    """Describe what is stored of every image, whatever the network answers."""
    place = "place of the label among the outputs, 0 = best, -1 = cannot be compared"
    return {
        "name": Column("name of the image", dtype="str", values=np.array(dataset.names, dtype=object)),
        "label": Column("class in the dataset, -1 = unknown", dtype="int64", unit="index", values=dataset.labels),
        "prediction": Column("class the network decides for, in its own order, -1 = none", "", (), "int64", "index"),
        "rank": Column(place, "", (), "int64", "index"),
    }
