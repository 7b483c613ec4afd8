"""Images as conditions, and classes."""

from types import SimpleNamespace

import numpy as np

from cnnprobe.methods.rsa.references.conditions import conditions_of

DATASET = SimpleNamespace(
    names=["x", "y", "z", "w", "v"], labels=np.array([3, -1, 0, 3, 0]), classes=("a", "b", "c", "d")
)


def test_every_image_is_a_condition():
    found = conditions_of(DATASET, by_class=False)
    assert found.names == ("x", "y", "z", "w", "v") and found.groups.tolist() == [0, 1, 2, 3, 4]
    assert found.labels.tolist() == [3, -1, 0, 3, 0] and found.firsts.tolist() == [0, 1, 2, 3, 4]


def test_classes_with_images_are_conditions():
    found = conditions_of(DATASET, by_class=True)
    assert found.names == ("a", "d") and found.groups.tolist() == [1, -1, 0, 1, 0]
    assert found.labels is None and found.firsts.tolist() == [2, 0]


def test_what_is_stored_of_them_is_known_from_the_start():
    images, classes = (conditions_of(DATASET, by_class).table().columns for by_class in (False, True))
    assert images["name"].values.tolist() == ["x", "y", "z", "w", "v"]
    assert images["label"].values.tolist() == [3, -1, 0, 3, 0] and images["images"].values.tolist() == [1] * 5
    assert classes["name"].values.tolist() == ["a", "d"]
    assert classes["label"].values.tolist() == [-1, -1] and classes["images"].values.tolist() == [2, 2]
