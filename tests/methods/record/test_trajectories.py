"""Trajectories of planted networks: what is stored is what was planted, whatever stopped the run."""

import numpy as np
import pytest
import torch

import cnnprobe
from cnnprobe.datasets.base.given import Given
from cnnprobe.errors import UserError
from cnnprobe.methods.contract import Resumed
from cnnprobe.methods.record import method, trajectories
from cnnprobe.store.tables import Column, Phase, Rows, Table
from cnnprobe.store.unfinished import Unfinished
from tests.support.calling import Told
from tests.support.files.stores import recorded
from tests.support.networks.turning import InSequence, Turning


def images(count=9, labels=None, seed=0):
    made = Given(torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed)))
    if labels is not None:
        made.labels, made.classes = np.array(labels), tuple("abcdef")
    return made


def measured(model, dataset, **more):
    options = {"layer": "rates", "keep": "maps", "batch_size": 4, "device": "cpu", "workers": 0}
    return cnnprobe.measure("record", model=model.eval(), dataset=dataset, **options | more)


def recording(tmp_path, model, dataset, **more):
    return recorded(tmp_path / "store.h5", measured(model, dataset, **more))


def test_a_planted_rotation_is_found_with_its_frequency(tmp_path):
    """Bar: to 1 %."""
    made = recording(tmp_path, Turning(speed=0.2, step=0.02), images())
    table = made["rotations"]
    assert table["skew_r2"][0] == pytest.approx(1, abs=1e-6)
    assert table["angle"][0, 0] == pytest.approx(np.arctan(0.2), rel=1e-3)
    assert table["frequency"][0, 0] == pytest.approx(np.arctan(0.2) / (2 * np.pi * 0.02), rel=1e-3)
    assert np.isnan(table["angle"][0, 1:]).all()  # there is one plane
    assert table["permuted_skew_r2"].shape == (1, 100) and table["permuted_skew_r2"].max() < 0.99
    assert (table["p"][0], table["p_ratio"][0]) == (pytest.approx(1 / 101), pytest.approx(1 / 101))
    np.testing.assert_allclose(made["trajectories/rates"]["time"], 0.02 * np.arange(30))
    with made.file() as file:
        assert file["activations/rates/maps"].attrs["axes"] == "image channel time"
    maps = made["activations/rates"]["maps"]
    left = (maps - maps.mean(0)).transpose(2, 0, 1).reshape(-1, 12).astype(float)
    first, sizes, _ = np.linalg.svd(left, full_matrices=False)
    own = made["trajectories/rates"]["components"][..., :2].reshape(-1, 2)
    np.testing.assert_allclose(np.abs(own), np.abs((first * sizes)[:, :2]), atol=1e-4)
    assert np.isnan(made["trajectories/rates"]["components"][..., 2:]).all()
    said = method.headline(made)
    assert said["rotation R²"] == table["skew_r2"][0] and said["p"] == said["p of its share"] == table["p"][0]
    assert method.summary(made)["turns"] == ["1.57 Hz"]


def test_decay_does_not_turn_and_a_sequence_leaves_nothing(tmp_path):
    made = recording(tmp_path, Turning(speed=0, decay=0.1), images())["rotations"]
    assert (made["r2"][0], made["skew_r2"][0], made["p"][0]) == (pytest.approx(1), pytest.approx(0, abs=1e-9), 1)
    assert np.isnan(made["angle"]).all()
    (tmp_path / "store.h5").unlink()
    made = recording(tmp_path, InSequence(), images())
    table = made["rotations"]
    assert table["condition_variance"][0] == 0
    for name in ("variance", "r2", "skew_r2", "p", "p_ratio", "permuted_skew_r2", "angle", "frequency"):
        assert np.isnan(table[name]).all(), name
    assert np.isfinite(made["trajectories/rates"]["mean"]).all()
    assert method.headline(made) == {"images": 9} and method.summary(made)["turns"] == ["-"]


def test_images_are_averaged_by_condition_as_they_are_stored(tmp_path):
    """Those that cannot be read are in no mean, and a class of which none can has no trajectory."""
    labels = [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 4, -1]
    dataset = images(12, labels)
    dataset.images[[3, 4]] = torch.nan
    made = recording(tmp_path, Turning(planes=2), dataset, dtype="float16")
    assert made["conditions"]["name"].tolist() == list("abcde")
    assert made["conditions"]["images"].tolist() == [3, 3, 3, 1, 1]
    table, maps = made["rotations"], made["activations/rates"]["maps"].astype(np.float64)
    assert table["conditions"][0] == 4
    chosen = [[0, 7], [1, 5, 8], [2, 6, 9], [10]]
    means = np.stack([maps[own].mean(0) for own in chosen])
    left = (means - means.mean(0)).transpose(2, 0, 1).reshape(-1, 12)
    first, sizes, _ = np.linalg.svd(left, full_matrices=False)
    stored = made["trajectories/rates"]["components"]
    assert np.isnan(stored[:, 3]).all()
    np.testing.assert_allclose(
        np.abs(stored[:, [0, 1, 2, 4], :3].reshape(-1, 3)), np.abs((first * sizes)[:, :3]), atol=1e-5
    )


def test_two_conditions_have_trajectories_and_no_rotation(tmp_path):
    made = recording(tmp_path, Turning(), images(2))
    assert np.isfinite(made["trajectories/rates"]["components"][..., 0]).all()
    for name in ("r2", "skew_r2", "p", "p_ratio", "angle", "plane_r2", "permuted_skew_r2"):
        assert np.isnan(made["rotations"][name]).all(), name


def test_nothing_is_read_and_nothing_is_followed(tmp_path):
    dataset = images(3)
    dataset.images[:] = torch.nan
    made = recording(tmp_path, Turning(), dataset)
    assert made["rotations"]["conditions"].tolist() == [0] and next(method.draw(made))[0] == "images"


def test_of_a_large_layer_some_units_are_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(trajectories, "UNITS", 5)
    made = recording(tmp_path, Turning(planes=1), images())
    table = made["rotations"]
    assert (table["features"][0], table["units"][0]) == (12, 5)
    assert table["angle"][0, 0] < np.arctan(0.1) * 1.01  # a plane seen askew: an ellipse
    monkeypatch.setattr(trajectories, "NUMBERS", 8 * 30 * 4)
    (tmp_path / "store.h5").unlink()
    made = recording(tmp_path, Turning(), images())  # no room for all conditions either
    assert made["conditions"].attributes["sample"] == "4 of 9 images, evenly spaced"
    assert (made["rotations"]["conditions"][0], made["rotations"]["units"][0]) == (4, 5)


def rows_of(measurement, upto=None, unfinished=None):
    """Return the rows of trajectories, and how many images were shown once more; keep what there is, and stop."""
    found, advanced, again = {}, 0, 0
    for event in measurement.events:
        if isinstance(event, Phase):
            again += event.total if event.name == "recording once more" else 0
        elif isinstance(event, Rows):
            found |= {f"{event.table}/{name}": values for name, values in event.columns.items()
                      if event.table.startswith(("trajectories", "rotations"))}  # fmt: skip
        else:
            advanced += 1
            if upto is not None and advanced == upto:
                unfinished.keep()
                measurement.close()
                break
    return found, again


@pytest.mark.parametrize(("kept", "start", "more"), [
    (1, 4, 0), (1, 8, 4), (2, 4, 4), (2, 8, 0), (3, 12, 0), (None, 8, 8), (None, 0, 0),
])  # fmt: skip
def test_a_stopped_run_goes_on_to_the_same_trajectories(tmp_path, monkeypatch, kept, start, more):
    """Whatever was kept of the sums: as much as there are rows, less, more than can be taken back, or nothing."""
    monkeypatch.setattr(trajectories, "PERMUTATIONS", 3)
    dataset, model = images(12), Turning(planes=2)
    whole, _ = rows_of(measured(model, dataset))
    assert len(whole) > 10
    left = Unfinished()
    if kept is not None:
        left.folder = tmp_path
        rows_of(measured(model, dataset, unfinished=left), kept, left)
    again, shown = rows_of(measured(model, dataset, start=start, unfinished=Unfinished(tmp_path)))
    assert shown == more
    assert again.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_a_run_goes_on_from_its_images_though_its_trajectories_are_not_there():
    columns = {"name": Column("a number")}
    tables = [Table("images", "image", 10, columns, 4), Table("pictures", "image", 3, columns, 4)]
    finished = {"images": frozenset({0, 4}), "pictures": frozenset({0}), "rotations": frozenset()}
    assert method.started(Resumed(start=0, finished=finished), tables) == 8
    assert method.started(Resumed(finished=finished | {"images": frozenset({0, 8})}), tables) == 4
    assert method.started(Resumed(finished=finished | {"images": frozenset({0, 4, 8})}), tables) == 10
    assert method.started(Resumed(start=4), tables) == 4


def test_conditions_are_refused_or_told_before_anything_is_shown():
    with pytest.raises(UserError, match="conditions must be class, image"):
        measured(Turning(), images(), conditions="size")
    with Told() as lines:
        measured(Turning(), images(), conditions="class", keep="summary")
    assert lines[-1] == "conditions=class is of layers along time with keep=maps: there are none"
