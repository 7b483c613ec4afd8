"""What a network answers beside what images ask: loops over images and pixels, and networks whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cnnprobe
from cnnprobe.datasets import shapes
from cnnprobe.methods.record import method
from cnnprobe.store.tables import Rows
from tests.support.calling import Told, joined, same_rows
from tests.support.files.stores import recorded
from tests.support.images.targeted import NAMES, masked, moving, several, tracked
from tests.support.networks.segmenting import Bright, Coursing, Filtering, Pooled, Segmenting


def measured(model, dataset, **more):
    options = {"model": model.eval(), "dataset": dataset, "batch_size": 5, "device": "cpu", "workers": 0}
    return cnnprobe.measure("record", **options | more)


def images_of(model, dataset, **more):
    """Return the columns of "images"."""
    return {name: values for (table, name), values in joined(measured(model, dataset, **more)).items()
            if table == "images"}  # fmt: skip


def outputs_of(model, dataset):
    with torch.no_grad():
        return model.eval()(torch.stack([dataset[place][0] for place in range(len(dataset))]))


def test_pixels_are_counted_as_a_loop_counts_them(tmp_path):
    model, dataset = Segmenting(), masked()
    found = images_of(model, dataset)
    chosen = outputs_of(model, dataset).argmax(1)
    expected = {name: np.zeros((12, 2), int) for name in ("both", "true", "predicted")}
    for image in range(12):
        for true, said in zip(dataset.asked[image].flatten().tolist(), chosen[image].flatten().tolist()):
            if true != 255:
                expected["true"][image, true] += 1
                expected["predicted"][image, said] += 1
                expected["both"][image, true] += true == said
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    either = expected["true"] + expected["predicted"] - expected["both"]
    for image, value in enumerate(found["iou"]):  # of the square alone
        some = either[image, 1]
        assert np.isnan(value) if not some else value == pytest.approx(expected["both"][image, 1] / some)
    assert (found["prediction"] == -1).all() and (found["rank"] == -1).all()
    total = {name: values.sum(0) for name, values in expected.items()}
    over = total["both"][1] / (total["true"] + total["predicted"] - total["both"])[1]
    headline = method.headline(recorded(tmp_path / "store.h5", measured(model, dataset)))
    assert headline == {"images": 12, "iou": pytest.approx(over)}


@pytest.mark.parametrize("cut", [0, 2])
def test_the_right_map_has_an_overlap_of_1_also_in_the_middle_alone(cut):
    """The network knows the rule by which the masks were made; without padding it answers for the middle."""
    dataset = masked()
    model = Bright(threshold=0.6, cut=cut)
    found = images_of(model, dataset)
    with_square = found["true"][:, 1] > 0
    assert (found["iou"][with_square] == 1).all() and np.isnan(found["iou"][~with_square]).all()
    assert 0 < with_square.sum() < 12
    rows = 12 - 2 * cut
    assert (found["true"].sum(1) == rows * rows - (12 if not cut else 0)).all()  # the border row does not count


def test_a_smaller_map_lies_in_the_middle_of_its_picture():
    found = joined(measured(Bright(0.6, cut=2), masked()))
    answer, truth = found["pictures", "answer"], found["pictures", "truth"]
    assert (answer[:, [0, 1, -1, -2]] == 255).all() and (answer[:, :, [0, 1, -1, -2]] == 255).all()
    np.testing.assert_array_equal(answer[:, 2:-2, 2:-2], truth[:, 2:-2, 2:-2])


def test_a_picture_has_the_class_in_the_middle_of_each_of_its_pixels():
    """384 px become 96: every fourth, from the third on."""
    dataset = shapes.build(size=384, count=2, split="test", seed=0, contrast=0.1, noise=0, target="classes")
    found = joined(measured(Segmenting(classes=9), dataset))
    np.testing.assert_array_equal(found["pictures", "truth"], dataset.targets([0, 1])[0][:, 2::4, 2::4])


def test_scores_of_several_classes_are_stored_with_whether_those_there_come_first(tmp_path):
    model, dataset = Pooled(), several()
    found = images_of(model, dataset, classes=NAMES)
    scores = outputs_of(model, dataset)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)
    np.testing.assert_array_equal(found["present"], dataset.asked)
    for image, there in enumerate(dataset.asked):
        best = set(scores[image].argsort(descending=True)[: int(there.sum())].tolist())
        assert found["all_found"][image] == (best == set(there.nonzero()[:, 0].tolist()))
    assert (found["prediction"] == -1).all() and (found["rank"] == -1).all()
    precisions = []
    for score, there in zip(scores.T.tolist(), dataset.asked.T.tolist()):  # precision at each image that has it
        order = sorted(range(12), key=lambda image: -score[image])
        hits = [sum(there[one] for one in order[: place + 1]) / (place + 1)
                for place, image in enumerate(order) if there[image]]  # fmt: skip
        precisions.append(np.mean(hits))
    headline = method.headline(recorded(tmp_path / "store.h5", measured(model, dataset, classes=NAMES)))
    assert headline["average_precision"] == pytest.approx(np.mean(precisions))
    some = dataset.asked.sum(1).numpy() > 0
    assert headline["all found"] == pytest.approx(found["all_found"][some].mean())


def test_of_lengths_the_longest_is_the_class_where_each_image_has_one():
    model = Pooled(outputs=8)
    model.cnnprobe = cnnprobe.About(output="existence")
    dataset = shapes.build(size=16, count=9, split="test", seed=0, contrast=0.1, noise=0)
    found = images_of(model, dataset, classes=dataset.classes)
    scores = outputs_of(model, dataset)
    assert found["prediction"].tolist() == scores.argmax(1).tolist()
    ranks = [(scores[i] > scores[i, label]).sum().item() for i, label in enumerate(dataset.labels)]
    assert found["rank"].tolist() == ranks
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5)


def test_courses_are_explained_as_by_a_regression(tmp_path):
    model, dataset = Coursing(), moving()
    found = images_of(model, dataset)
    made, true = outputs_of(model, dataset).double().numpy(), dataset.asked.double().numpy()
    spread = ((true - true.mean(2, keepdims=True)) ** 2).sum(2)
    np.testing.assert_allclose(found["explained"], 1 - ((true - made) ** 2).sum(2) / spread, rtol=1e-6)
    over = ((true - true.mean((0, 2), keepdims=True)) ** 2).sum()
    headline = method.headline(recorded(tmp_path / "store.h5", measured(model, dataset)))
    assert headline["explained"] == pytest.approx(1 - ((true - made) ** 2).sum() / over)
    assert (found["prediction"] == -1).all()


def test_groups_of_channels_are_explained_by_themselves(tmp_path):
    model, dataset = Coursing(), moving()
    dataset._target = replace(dataset.target, names=("arm/reach", "hand/grip"), rate=50.0, start=-0.1)
    found = recorded(tmp_path / "store.h5", measured(model, dataset))
    made, true = outputs_of(model, dataset).double().numpy(), dataset.asked.double().numpy()
    headline = method.headline(found)
    for channel, name in enumerate(("arm", "hand")):
        over = ((true[:, channel] - true[:, channel].mean()) ** 2).sum()
        share = 1 - ((true[:, channel] - made[:, channel]) ** 2).sum() / over
        assert headline[f"explained, {name}"] == pytest.approx(share)
    assert (found["images"].attributes["rate"], found["images"].attributes["start"]) == (50.0, -0.1)


CASES = [(Segmenting, masked), (Pooled, several), (Coursing, moving), (Filtering, tracked)]


@pytest.mark.parametrize(("network", "images"), CASES, ids=["map", "present", "course", "signals"])
def test_it_goes_on_from_a_batch_and_hangs_on_no_batch_size(network, images):
    whole = images_of(network(), images())
    rest = images_of(network(), images(), start=5)
    same_rows({key: values[5:] for key, values in whole.items()}, rest)
    for name, values in images_of(network(), images(), batch_size=12).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-5)


@pytest.mark.parametrize(("network", "images"), CASES[:3], ids=["map", "present", "course"])
def test_an_image_without_a_target_is_shown_and_not_judged(network, images):
    """It counts for nothing, and its activations are there."""
    model = network()
    found = joined(measured(model, images(missing=(3,)), layer="conv1"))
    plain = joined(measured(model, images(), layer="conv1"))
    np.testing.assert_array_equal(found["activations/conv1", "max"], plain["activations/conv1", "max"])
    nothing = {"both": 0, "true": 0, "predicted": 0, "iou": np.nan, "present": 0, "all_found": -1, "sums": 0,
               "explained": np.nan}  # fmt: skip
    for name, value in nothing.items():
        if ("images", name) in found:
            assert np.array_equal(found["images", name][3], np.full_like(found["images", name][3], value),
                                  equal_nan=name in ("iou", "explained"))  # fmt: skip
            others = np.arange(12) != 3
            np.testing.assert_array_equal(found["images", name][others], plain["images", name][others])
    assert not found["stimuli", "skipped"].any()


def test_an_answer_that_is_not_a_number_is_told_and_not_judged():
    """F48: the largest of scores that are NaN would be some class."""
    model, dataset = Segmenting(), masked()
    dataset.images[4] = 1e38
    with torch.no_grad():
        model.readout.weight.mul_(1e3)
    with Told() as lines:
        found = images_of(model, dataset)
    assert len(lines) == 1 and "not finite in 2 of 2 units for 1 images, first image 4" in lines[0]
    assert found["true"][4].tolist() == [0, 0] and np.isnan(found["iou"][4])


MISFITS = [
    (Segmenting(), several(), "it gives 2 x 12 x 12 per image, given has several classes per image; "
     "dataset.target=mask where a dataset has masks"),
    (Segmenting(3), masked(), "it gives 3 x 12 x 12 per image, given has 2 classes (background, square)"),
    (Pooled(2), masked(), "it gives 2 per image, given has a class for every pixel"),
    (Bright(cut=-0), moving(), "it gives 2 x 12 x 12 per image, given has courses; dataset.target=mask where a "
     "dataset has masks"),
    (Coursing(2, 11), moving(), "it gives 2 x 11 per image, the courses of given have 12 samples"),
    (Coursing(3, 12), moving(), "it gives 3 x 12 per image, given has 2 channels (reach, grip)"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "dataset", "words"), MISFITS, ids=[words[:25] for _, _, words in MISFITS])
def test_what_cannot_be_compared_is_recorded_with_one_line(model, dataset, words):
    with Told() as lines:
        found = images_of(model, dataset)
    assert [line for line in lines if "judged" in line] == [f"what the network returns is not judged: {words}"]
    assert set(found) == {"prediction", "rank"}


def test_names_in_another_order_are_not_compared():
    """F86: the classes of the network are others than those of the images."""
    with Told() as lines:
        found = images_of(Pooled(), several(), classes=("blue", "green", "red"))
    assert lines == ["what the network returns is not judged: its classes are others than those of given, "
                     "or in another order"]  # fmt: skip
    assert set(found) == {"prediction", "rank"}


def test_maps_of_images_without_masks_are_told_of_in_one_line():
    dataset = shapes.build(size=16, count=4, split="test", seed=0, contrast=0.1, noise=0)
    with Told() as lines:
        found = images_of(Segmenting(8), dataset, classes=dataset.classes)
    assert lines == ["what the network returns is not judged: it gives 8 x 16 x 16 per image, shapes has one class "
                     "per image; dataset.target=mask where a dataset has masks"]  # fmt: skip
    assert set(found) == {"prediction", "rank"}


def test_what_is_asked_stands_in_the_attributes():
    (images, *_) = measured(Filtering(), tracked()).tables
    assert images.attributes["target"] == "course" and images.attributes["rate"] == 100.0
    assert images.attributes["target_names"] == '["left", "right"]'
    (images, *_) = measured(Segmenting(), masked()).tables
    assert images.attributes["judged"] == [1] and images.attributes["outputs"] == "map"
    assert not any(isinstance(event, Rows) and not len(event.columns) for event in measured(Pooled(), several()).events)
