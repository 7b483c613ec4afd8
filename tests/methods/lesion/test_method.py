"""lesion: planted networks whose losses are known, mistakes, and whole runs."""

import json

import numpy as np
import pytest
from torch import nn

import cnnprobe as package
from cnnprobe.errors import UserError
from tests.support.networks.detectors import Detectors, coloured, measured


def test_a_class_is_lost_with_the_one_unit_that_finds_it_and_with_no_other():
    rows = measured(Detectors().eval(), coloured(), layer="conv1", units="each", how="zero")
    lost = rows["lesions", "class_after"] - rows["lesions", "class_before"]
    expected = np.zeros((6, 4))
    expected[range(4), range(4)] = -1
    np.testing.assert_array_equal(lost, expected)
    np.testing.assert_allclose(rows["lesions", "difference"], [-0.25] * 4 + [0] * 2)
    np.testing.assert_allclose(rows["lesions", "loss"], [0.25] * 4 + [0] * 2)
    assert list(rows["lesions", "target"][:2]) == ["conv1 unit 0", "conv1 unit 1"]
    assert (rows["masks/conv1", "lesioned"] == np.eye(6, dtype=bool)).all()
    assert (rows["lesions", "difference_low"] <= rows["lesions", "difference"]).all()
    assert (rows["lesions", "difference"] <= rows["lesions", "difference_high"]).all()


@pytest.mark.parametrize("how", ["swap", "mean", "zero"])
def test_dead_units_and_shares_of_nothing_change_no_bit(how):
    rows = measured(Detectors().eval(), coloured(), layer="conv1", units=[[4, 5], [0, 4]], how=how, share=[0, 1])
    assert rows["lesions", "units"].tolist() == [0, 2, 0, 2]
    for column in ("unexplained", "changed", "difference"):
        assert (rows["lesions", column][:3] == 0).all()
    assert rows["lesions", "unexplained"][3] > 0.1


def test_a_network_without_classes_is_measured_by_its_outputs():
    model = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Tanh())
    rows = measured(model.eval(), coloured(), layer="conv1", how=["zero"])
    assert np.isnan(rows["lesions", "after"]).all() and np.isnan(rows["lesions", "changed"]).all()
    np.testing.assert_array_equal(rows["lesions", "loss"], rows["lesions", "unexplained"])


MISTAKES = [
    ({"units": "best:2"}, "units=best:2 needs localizer=CLASS_A>CLASS_B"),
    ({"units": "best:99", "localizer": "0>1"}, "units=best:99 asks for 99 units, conv1 has 6"),
    ({"units": "best:2", "localizer": "0>9"}, "no class '9'"),
    ({"units": "best:2", "localizer": "0"}, "localizer must be CLASS_A>CLASS_B"),
    ({"units": "best:2", "localizer": "0>0"}, "localizer=0>0 compares a class with itself"),
    ({"units": "best:6", "localizer": "0>1"}, "units=best:6: 4 of the 6 units of conv1 respond to 0>1"),
    ({"localizer": "0>1"}, "localizer=0>1 finds units=best:N; say how many"),
    ({"units": [0, 1, 2, 3], "controls": 5}, "conv1 units 0, 1, 2, 3 are 4 of 6, 2 others are left"),
    ({"controls": 5}, "controls=5 are lesions of as many other units"),
    ({"units": [6]}, "conv1 has units 0 to 5, got 6"),
    ({"share": 1.5}, "share must be a finite number, from 0 to 1"),
    ({"how": "remove"}, "how must be auto, swap, mean, zero or a list of [swap, mean or zero], got 'remove'"),
]


@pytest.mark.parametrize(("options", "words"), MISTAKES, ids=[str(options) for options, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_is_possible(options, words):
    with pytest.raises(UserError) as told:
        list(package.measure("lesion", model=Detectors().eval(), dataset=coloured(), **{"layer": "conv1"} | options))
    assert words in str(told.value) and "\n" not in str(told.value)


def test_one_image_has_no_other_to_swap_with():
    with pytest.raises(UserError, match="how=swap needs 2 or more images, got 1; say how=mean or how=zero"):
        package.measure("lesion", model=Detectors().eval(), dataset=coloured(1), layer="conv1")


def test_accuracy_of_images_of_other_classes_is_refused():
    with pytest.raises(UserError, match="measure=accuracy needs images with classes of the network"):
        package.measure("lesion", model=Detectors().eval(), dataset=coloured(8, 4).images, layer="conv1",
                        measure="accuracy")  # fmt: skip


def test_a_run_has_figures_a_table_and_all_that_a_reader_needs(cnnprobe, tmp_path):
    for words in (
        ["layer=[conv1,conv2]", "how=[swap,zero]"],
        ["layer=conv2", "units=each"],
        ["layer=conv1", "share=[0.5,1]", "draws=2"],
        ["layer=conv3", "units=best:2", "localizer=disc>rest", "controls=9"],
    ):
        answer = cnnprobe("lesion", "model=convnet", "weights=random", "dataset=shapes", "limit=48", f"out={tmp_path}",
                          *words)  # fmt: skip
        assert answer.status == 0, answer.err
    runs = sorted((tmp_path / "lesion").rglob("run.json"))
    figures = [{path.stem for path in (run.parent / "figures").glob("*.png")} for run in runs]
    assert all(names >= {"loss", "classes"} for names in figures)
    assert "shares" in figures[2] and any("examples" in names for names in figures)
    said = [json.loads(run.read_text())["headline"] for run in runs]
    assert all("largest loss" in one for one in said) and said[3]["controls"] == 9
    for run in runs:
        assert package.open(run.parent)["lesions"].has("class_after")
