"""The table of the images that were shown: which row of a store is which file."""

import json
from typing import Any

import numpy as np

from cnnprobe.records import Column, Table


def stimuli_table(dataset: Any, batch: int) -> Table:
    """Describe the images of a dataset, in its order.

    Args:
        dataset: an image set (datasets/imageset.py).
        batch: images per batch.

    Returns:
        Table "stimuli" with name, label and index, which are known, and `skipped`, which is written by
        rows as the images are loaded.
    """
    count = len(dataset)
    return Table(
        "stimuli",
        "image",
        count,
        {
            "name": Column("name of the image", dtype="str", values=np.array(dataset.names, dtype=object)),
            "label": Column("class, -1 = unknown", dtype="int64", unit="index", values=dataset.labels),
            "index": Column("place in the dataset", dtype="int64", unit="index", values=np.arange(count)),
            "skipped": Column("true where the image could not be read", dtype="bool"),
        },
        batch=batch,
        aside=True,
        attributes={
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "classes": json.dumps(list(dataset.classes), ensure_ascii=False),
        },
    )
