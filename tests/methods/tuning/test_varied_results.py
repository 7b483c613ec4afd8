"""What is printed and drawn of factors: correlations, the best read-out, how far units follow a factor of a grid."""

import numpy as np
import pytest

import cnnprobe
from cnnprobe.methods.tuning import method as tuning
from cnnprobe.methods.tuning import varied_results
from tests.methods.tuning.test_varied import Centres, images
from tests.support.files.stores import recorded


def kept(folder, **options):
    made = cnnprobe.measure("tuning", model=Centres().eval(), dataset=images(**options), layer=["places", "pose"])
    return recorded(folder / "store.h5", made, model="centres", weights="none", dataset="poses")


def test_figures_and_words_come_from_the_store_alone(tmp_path):
    recording = kept(tmp_path)
    columns = tuning.summary(recording)
    assert columns["layer"] == ["places", "pose", "pose", "pose"]
    assert columns["from"] == ["all units", "all units", "own capsule", "its length"]
    assert columns["numbers"] == ["3", "16", "2", "1"] and columns["R² of x"][2].startswith("1.00 (")
    assert columns["class"][2:] == ["-", "-"]
    found = tuning.headline(recording)
    assert (found["layers"], found["units"]) == (2, 19) and found["R² of x"] > 0.99
    assert [name for name, _ in tuning.draw(recording)] == ["decoding", "places_factors", "pose_factors"]


def test_a_grid_says_how_far_units_follow_a_factor(tmp_path):
    recording = kept(tmp_path, grid=5)
    columns = tuning.summary(recording)
    assert columns["layer"] == ["places", "pose"] and set(columns) == {
        "layer", "units", "dead", "follows x", "follows y", "follows scale"
    }  # fmt: skip
    assert 0.4 < float(columns["follows x"][1]) < 0.8  # half of the units of `pose` are x, and a third of the rows
    assert [name for name, _ in tuning.draw(recording)] == ["places_units", "pose_units"]


def test_correlations_are_within_classes_and_of_images_that_have_the_factor():
    random = np.random.default_rng(0)
    values, labels = random.normal(size=12), np.repeat([0, 1], 6)
    curve = np.stack([np.where(labels == 0, values, 5 - values), np.ones(12)])
    some = values.copy()
    some[0] = np.nan
    found = varied_results.correlations(curve, {"x": values, "turn": some, "none": np.full(12, np.nan)}, labels)
    assert np.allclose(found["x"][:, 0], [1, -1]) and np.isnan(found["x"][:, 1]).all()
    assert np.allclose(found["turn"][:, 0], [1, -1]) and np.isnan(found["none"]).all()
    noisy = np.stack([values + random.normal(size=12)])
    expected = np.corrcoef(noisy[0, 6:], values[6:])[0, 1]
    assert varied_results.correlations(noisy, {"x": values}, labels)["x"][1, 0] == pytest.approx(expected)
