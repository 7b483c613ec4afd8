"""Moved capsules in words: the strongest dimensions of each class, and how far they come back."""

import pytest

from cnnprobe.methods.optimize import method, rendered_results
from tests.methods.optimize.test_rendered import run
from tests.support.files.stores import recorded


def test_the_strongest_dimensions_are_those_that_change_the_picture_most(tmp_path):
    recording = recorded(tmp_path / "store.h5", run(), model="drawer", weights="none", dataset="given")
    table = rendered_results.table_of(recording)
    assert {label: table["dimension"][rows].tolist() for label, rows in rendered_results.strongest(table).items()} == {
        0: [0, 1, 2], 1: [0, 1, 2]
    }  # fmt: skip
    assert method.summary(recording)["dimension 2"][0] == "1: change 0.102, slope 0.50"
    found = method.headline(recording)
    assert (found["classes"], found["dimensions"]) == (2, 6)
    assert found["median slope of the 3 strongest"] == pytest.approx(0.5)
    assert [name for name, _ in method.draw(recording)] == ["pose", "pose_class_0", "pose_class_1", "pose_loop"]
