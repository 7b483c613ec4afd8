import json

import numpy as np
import pytest

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.stimuli_table import (
    images_of,
    say_classes,
    shared_classes,
    skipped_rows,
    stimuli_table,
)


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


def test_its_rows_are_given_in_batches_from_any_image_on():
    skipped = np.array([False, True, False, False, True])
    rows = list(skipped_rows(skipped, 2, start=4))
    assert [(one.table, one.start) for one in rows] == [("stimuli", 4), ("stimuli", 6), ("stimuli", 8)]
    assert np.concatenate([one.columns["skipped"] for one in rows]).tolist() == skipped.tolist()
    assert [len(one) for one in rows] == [2, 2, 1]


def test_images_are_named_by_numbers_and_ranges():
    assert images_of("all", 3).tolist() == [0, 1, 2]
    assert images_of([4, "1:3", 4, "3:"], 5).tolist() == [4, 1, 2, 3]
    for spec, said in ((5, "images 0 to 4, got 5"), ("3:9", "got 3:9"), ("x", "images must be all"), (-1, "got -1")):
        with pytest.raises(UserError, match=said):
            images_of(spec, 5)


def test_labels_are_classes_of_a_network_where_number_and_names_agree():
    dataset = ImageSet(name="some", names=[], labels=[], classes=("a", "b"), size=(3, 8, 8))
    assert shared_classes((), dataset, 2) and shared_classes(("a", "b"), dataset, 2)
    assert not shared_classes((), dataset, 3) and not shared_classes(("b", "a"), dataset, 2)


def test_labels_that_are_no_classes_of_the_network_are_told_where_one_would_expect_them_to_be(caplog):
    """F86"""
    dataset = ImageSet(name="some", names=[], labels=[], classes=("a", "b"), size=(3, 8, 8))
    of = "no accuracy, labels are not compared with what the network decides: it has"
    cases = {
        (("b", "a"), 2): f"{of} 2 outputs (b, a), the dataset 2 classes (a, b), the same in another order",
        (("a", "c"), 2): f"{of} 2 outputs (a, c), the dataset 2 classes (a, b)",
        (("x", "y"), 2): f"{of} 2 outputs (x, y), the dataset 2 classes (a, b)",
        (("a", "b", "c"), 3): f"{of} 3 outputs (a, b, c), the dataset 2 classes (a, b)",
    }
    for (classes, count), said in cases.items():
        caplog.clear()
        say_classes(classes, dataset, count)
        assert caplog.messages == [said]
    caplog.clear()
    for classes, count in ((("a", "b"), 2), (("x", "y", "z"), 3), ((), 1000), (("x", "y"), 0)):
        say_classes(classes, dataset, count)
    assert not caplog.messages


def test_that_outputs_without_names_are_compared_in_order_is_said(caplog):
    """F86: not of a dataset without labels, or of one class."""
    for labels, classes in (([0, 1], ("a", "b")), ([-1, -1], ("a", "b")), ([0, 0], ("a",))):
        dataset = ImageSet(name="some", names=["x", "y"], labels=labels, classes=classes, size=(3, 8, 8))
        say_classes((), dataset, len(classes))
    assert caplog.messages == [
        "the outputs of the network have no names: taken in the order of the dataset's classes (a, b)"
    ]
