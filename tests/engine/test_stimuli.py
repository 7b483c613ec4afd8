import json

import numpy as np

from cnnprobe.datasets.imageset import ImageSet
from cnnprobe.engine.stimuli import stimuli_table


def test_the_table_names_every_image_and_leaves_only_skipped_to_be_written():
    names = ["é.png", "b\\xff.png", "c"]
    dataset = ImageSet(name="some", names=names, labels=[1, -1, 0], classes=("a", "b"), size=(3, 8, 8))
    dataset.fingerprint = "f" * 64
    table = stimuli_table(dataset, 2)
    assert (table.name, table.row, table.rows, table.batch) == ("stimuli", "image", 3, 2)
    assert table.columns["name"].values.tolist() == names
    assert table.columns["label"].values.tolist() == [1, -1, 0] and table.columns["index"].values.tolist() == [0, 1, 2]
    assert [name for name, column in table.columns.items() if column.values is None] == ["skipped"]
    assert np.dtype(table.columns["skipped"].dtype) == np.bool_
    assert table.attributes | {"classes": json.loads(table.attributes["classes"])} == {
        "dataset": "some",
        "fingerprint": "f" * 64,
        "classes": ["a", "b"],
    }
