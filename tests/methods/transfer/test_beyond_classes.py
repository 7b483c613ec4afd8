"""Transfer onto masks, several classes and courses: the readout that is replaced, what is learned, what is asked."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.instruments.outputs.average_precision import average_precision
from cnnprobe.instruments.outputs.readout import new_readout, put, readout_of
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer import method as transfer
from cnnprobe.methods.transfer.label_fraction import image_fraction, label_fraction
from cnnprobe.methods.transfer.old_task import OldTask
from cnnprobe.store.tables import Checkpoint, Rows
from tests.support.calling import Told
from tests.support.files.stores import recorded
from tests.support.images.blobs import OPTIONS, Blobs
from tests.support.images.targeted import masked, moving, several
from tests.support.networks.segmenting import Bright, Coursing, Filtering, Pooled, Segmenting

OWN = {"mode": "full", "old_task": None, "forgetting": "none", "compared": 8, "top_images": 2, "most_changed": 0}
PLAIN = {"augment": "none", "loss": "auto", "batch_size": 6, "epochs": 2}


def measured(model, dataset, **changes):
    given = {"model": model.eval(), "dataset": dataset, "held_out": dataset, "device": "cpu", "workers": 0}
    return cnnprobe.measure("transfer", **given | OPTIONS | PLAIN | OWN | changes)


def old(dataset):
    return SimpleNamespace(run="train/net-old/v001", dataset=dataset)


CASES = [
    (Segmenting(classes=5), masked, nn.Conv2d, 2, "val_iou"),
    (Pooled(outputs=5), several, nn.Linear, 3, "val_average_precision"),
    (Coursing(channels=4), moving, nn.Linear, 24, "val_explained"),  # 2 channels of 12 samples
]


@pytest.mark.parametrize(("network", "images", "kind", "outputs", "measure"), CASES,
                         ids=["map", "present", "course"])  # fmt: skip
def test_the_readout_is_replaced_and_learns_what_the_images_ask(tmp_path, network, images, kind, outputs, measure):
    model = copy.deepcopy(network)
    if isinstance(model, Coursing):
        model.size = (2, 12)  # its channels are those of its last layer, unfolded
        model.readout = nn.Linear(6, 24)
    before = copy.deepcopy(model.readout)
    found = measured(model, images())
    names = {}
    events = []
    for event in found.events:
        events.append(event)
        if isinstance(event, Checkpoint):
            names[event.name] = event
    assert isinstance(model.readout, kind) and model.readout.weight.shape[0] == outputs
    assert torch.equal(names["old_readout"].weights["weight"], before.weight)
    epochs = [event.columns for event in events if isinstance(event, Rows) and event.table == "epochs"]
    assert len(epochs) == 2 and all(np.isfinite(row[measure]).all() for row in epochs)
    assert all(np.isnan(row["source_accuracy"]).all() for row in epochs)


def test_the_mode_says_what_learns_in_a_network_with_two_scales():
    model = Segmenting(classes=5)
    before = copy.deepcopy(model.state_dict())
    list(measured(model, masked(), mode="probe", epochs=1).events)
    changed = {name.split(".")[0] for name, value in model.state_dict().items()
               if value.shape != before[name].shape or not torch.equal(value, before[name])}  # fmt: skip
    assert changed == {"readout"}


def test_the_old_task_of_maps_is_their_overlap_with_the_old_readout():
    """A network that knows the rule of the masks, with a new readout in its place."""
    model = Bright(threshold=0.6)
    readout = readout_of(model, (3, 12, 12))
    put(model, readout.path, new_readout(readout.module, 3, seed=0))
    new = model.readout
    task = OldTask(model, readout, masked(), Computation(batch_size=5), preload=True)
    assert task.value() == 1 and model.readout is new
    with torch.no_grad():
        readout.module.bias[1] = -2.0  # no pixel is as bright
    assert task.value() == 0


def test_the_old_task_of_several_classes_is_their_average_precision():
    model, dataset = Pooled().eval(), several(30)
    task = OldTask(model, readout_of(model, (3, 12, 12)), dataset, Computation(batch_size=7), preload=True)
    with torch.no_grad():
        scores = model(dataset.images).numpy()
    assert task.value() == pytest.approx(average_precision(scores, dataset.asked.numpy()).mean())


def test_the_old_task_of_courses_is_their_explained_share():
    model, dataset = Coursing().eval(), moving(20)
    task = OldTask(model, readout_of(model, (3, 12, 12)), dataset, Computation(batch_size=7), preload=True)
    with torch.no_grad():
        errors = (model(dataset.images) - dataset.asked).double().square().sum()
    spread = (dataset.asked - dataset.asked.mean((0, 2), keepdim=True)).double().square().sum()
    assert task.value() == pytest.approx(float(1 - errors / spread), rel=1e-4)


def test_an_old_readout_of_another_size_is_refused():
    model = Segmenting(classes=5)
    with pytest.raises(UserError, match="old_task: given has 2 classes, the old readout readout has 5"):
        OldTask(model, readout_of(model, (3, 12, 12)), masked(), Computation(), preload=True)


def test_an_old_task_with_another_measure_is_stored_and_drawn_by_its_own_name(tmp_path):
    """From masks to masks both are overlaps; from classes to several of them, the old one is an accuracy."""
    made = recorded(tmp_path / "maps.h5", measured(Segmenting(classes=2), masked(16), old_task=old(masked(8, 1))))
    assert made["old_task"].attributes["measure"] == "iou" and "accuracy" not in made["old_task"]
    assert np.isfinite(made["epochs"]["source_iou"][:]).all() and "source_accuracy" not in made["epochs"]
    headline = transfer.headline(made)
    assert headline["old task before"] == made["old_task"]["iou"][0] and "val_iou" in headline
    drawn = dict(transfer.draw(made))
    assert set(drawn) == {"learning", "confusion"}
    words = [text.get_text() for text in drawn["learning"].axes[1].get_legend().get_texts()]
    assert "old task, old readout" in words
    classes = Blobs(12, 3, side=12, size=12)
    classes.fingerprint = "of the old images"
    other = recorded(tmp_path / "several.h5", measured(Pooled(3), several(16), old_task=old(classes)))
    words = [text.get_text() for text in dict(transfer.draw(other))["learning"].axes[1].get_legend().get_texts()]
    assert "old task (accuracy), old readout" in words


def test_layers_are_compared_without_classes_and_that_is_said(tmp_path):
    with Told() as lines:
        made = recorded(tmp_path / "store.h5", measured(Segmenting(), masked(), forgetting="new", layer=["conv1"]))
    assert [line for line in lines if "forgetting" in line] == [
        "forgetting of classes needs images with classes: units and layers are compared by r, CKA and dissimilarities "
        "alone"
    ]
    assert np.isfinite(made["layers"]["cka"][0]) and np.isfinite(made["layers"]["rdm_drift"][0])
    units = made["forgetting/conv1"]
    assert np.isfinite(units["correlation"][:]).any() and units["tuning_before"].shape[1] == 0
    assert not made.in_order("discrimination")
    assert {"forgetting", "overwritten"} <= set(dict(transfer.draw(made))) and "selectivity" not in dict(
        transfer.draw(made)
    )


def test_images_are_chosen_evenly_where_they_have_labels_and_by_number_where_not():
    """F95: images with masks alone would be left out as those of no class."""
    plain = masked(20)
    chosen = image_fraction(plain, 0.25, 0)
    assert len(chosen) == 5 and set(chosen) <= set(image_fraction(plain, 0.5, 0))
    build = {"size": 16, "split": "test", "seed": 0, "contrast": 0.1, "noise": 0}
    labelled = shapes.build(count=32, target="mask", **build)
    kept = labelled.labels[image_fraction(labelled, 0.25, 0)]
    assert np.bincount(kept).tolist() == [1] * 8
    np.testing.assert_array_equal(image_fraction(labelled, 0.25, 0), label_fraction(labelled.labels, 0.25, 0))
    assert len(transfer.some(masked(20), 8, 0)) == 8
    unknown = Blobs(12, 0)
    unknown.labels[:] = -1
    assert not len(image_fraction(unknown, 0.5, 0))  # of classes, images without one are never learned


def test_runs_of_a_sweep_are_compared_by_the_same_measure_alone(tmp_path):
    """F99: an overlap is no average precision, though both go from 0 to 1."""
    given = ((Segmenting(), masked(16), 0.5), (Segmenting(), masked(16), 1.0), (Pooled(), several(16), 0.5))
    runs = [
        recorded(tmp_path / f"{place}.h5", measured(model, images, epochs=1, fraction=fraction))
        for place, (model, images, fraction) in enumerate(given)
    ]
    drawn = dict(transfer.compare(runs, [["fraction=0.5"], ["fraction=1"], ["fraction=0.5", "dataset=other"]]))
    assert {"label_fractions_iou", "label_fractions_average_precision"} <= set(drawn)
    axes = drawn["label_fractions_iou"].axes
    values = sorted(float(one["epochs"]["val_iou"][0]) for one in runs[:2])
    points = sorted(value for line in axes[0].lines if line.get_marker() == "." for value in line.get_ydata())
    assert points == pytest.approx(values)
    assert len(axes) == 1 and axes[0].get_ylabel() == "intersection over union on held-out images"


def test_a_network_of_existence_keeps_its_loss_and_measure():
    """Its readout is replaced; one class per image is judged by accuracy, several by average precision."""
    for images, measure in ((Blobs(16, 0, side=12, size=12), "val_accuracy"), (several(16), "val_average_precision")):
        model = Pooled(outputs=5)
        model.cnnprobe = cnnprobe.About(output="existence")
        found = [event.columns for event in measured(model, images, loss="margin", epochs=1).events
                 if isinstance(event, Rows) and event.table == "epochs"]  # fmt: skip
        assert model.readout.out_features == 3 and np.isfinite(found[0][measure]).all()


def test_a_readout_applied_at_every_sample_has_an_output_for_each_channel():
    model = Filtering(channels=5)
    assert transfer._per_name(model, readout_of(model, (3, 50)), moving()) == 1
