"""Targets: what drawn datasets ask of a network, and the middle of maps."""

import numpy as np
import pytest
import torch

from cnnprobe.datasets import avatar, shapes
from cnnprobe.datasets.base.imageset import ImageSet, limited
from cnnprobe.datasets.base.targets import BACKGROUND, Present, Target, groups_of, middle, one_hot
from cnnprobe.preparation.identity import labels_of

SHAPES = {"size": 32, "count": 24, "split": "test", "seed": 3, "contrast": 0.15, "noise": 0.02}
ROOMS = {"size": 32, "count": 8, "split": "test", "seed": 3, "landmarks": None, "noise": 0.02, "classes": "cue"}


def test_unless_it_is_said_a_network_answers_the_class():
    dataset = shapes.build(**SHAPES)
    targets, known = dataset.targets([3, 9])
    assert dataset.target == Target("class", dataset.classes) and known.all()
    assert targets.tolist() == [3, 1] and dataset.target.judged == tuple(range(8))


def test_masks_of_shapes_are_what_the_shape_covers():
    mask, every = (shapes.build(**SHAPES, target=target) for target in ("mask", "classes"))
    assert mask.target == Target("map", (BACKGROUND, "shape"), (32, 32)) and mask.target.judged == (1,)
    assert every.target.names == (BACKGROUND, *every.classes)
    for dataset in (mask, every):
        maps, known = dataset.targets([5, 12])
        assert maps.dtype == torch.uint8 and known.all()
        for one, index in zip(maps.numpy(), (5, 12)):
            value = 1 if dataset is mask else index % 8 + 1
            assert np.array_equal(one, value * dataset.truth(index)["cue"])
    assert torch.equal(mask.load([5])[0], shapes.build(**SHAPES).load([5])[0])  # the same pictures
    assert mask.fingerprint == every.fingerprint == shapes.build(**SHAPES).fingerprint


def test_edges_and_landmarks_of_rooms_are_told_apart():
    dataset = avatar.build(**ROOMS, target="cue")
    maps, _ = dataset.targets(range(8))
    for index, one in enumerate(maps.numpy()):
        kind = dataset.truth(index)["kind"]
        assert np.array_equal(one == 1, (kind == 1) | (kind == 2)) and np.array_equal(one == 2, kind >= 3)
    assert set(np.unique(maps[::2])) == {0, 1} and set(np.unique(maps[1::2])) == {0, 2}


def test_a_part_asks_for_its_own_images():
    dataset = shapes.build(**SHAPES, target="classes").part([7, 2])
    assert dataset.target.kind == "map"
    assert [int(one.max()) for one in dataset.targets([0, 1])[0]] == [8, 3]


@pytest.mark.parametrize(("size", "rows"), [((2, 2), [1, 2]), ((4, 4), [0, 1, 2, 3])])
def test_the_middle_of_a_map(size, rows):
    maps = torch.arange(32).view(2, 4, 4)
    assert torch.equal(middle(maps, size), maps[:, rows][:, :, rows])


def test_one_hot_rows_of_unknown_classes_are_empty():
    assert one_hot(torch.tensor([2, -1, 0]), 3).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_classes_that_are_present_against_a_dense_matrix():
    random = np.random.default_rng(0)
    dense = random.random((30, 7)) < 0.2
    pairs = np.argwhere(dense).T
    shuffled = pairs[:, random.permutation(np.repeat(np.arange(pairs.shape[1]), 2))]  # each twice, in any order
    present = Present(shuffled, 7)
    for chosen in (np.arange(30), np.array([29, 3, 3, 0]), np.array([], int)):
        assert torch.equal(present.of(chosen), torch.from_numpy(dense[chosen].astype(np.uint8)))
    alone = [row.argmax() if row.sum() == 1 else -1 for row in dense]
    assert present.alone(30).tolist() == alone
    assert present.digest() == Present(pairs, 7).digest()
    assert len({present.digest(), Present(pairs, 8).digest(), Present(pairs[:, 1:], 7).digest()}) == 3
    assert Present(np.empty((2, 0)), 3).of([0, 1]).tolist() == [[0, 0, 0]] * 2


def test_a_set_of_images_with_several_classes_answers_by_them_also_in_part():
    """F100: and its identity holds them."""
    images = ImageSet(name="x", names=list("abcd"), labels=[-1] * 4, classes=("cat", "dog"), size=(3, 8, 8))
    plain = labels_of(images)
    images.present = Present(np.array([[0, 0, 2], [0, 1, 1]]), 2)
    assert images.target == Target("present", ("cat", "dog"))
    found, known = limited(images, "first:3").part([2, 1]).targets([0, 1])
    assert found.tolist() == [[0, 1], [0, 0]] and known.all()
    before = labels_of(images)
    images.present = Present(np.array([[0, 2], [0, 1]]), 2)
    assert len({plain, before, labels_of(images)}) == 3


def test_the_background_is_not_judged():
    assert Target("map", ("background", "a", "b"), (4, 4)).judged == (1, 2)
    assert Target("map", ("sky", "a", "b"), (4, 4)).judged == (0, 1, 2)
    assert Target("present", ("background", "a")).judged == (0, 1)


@pytest.mark.parametrize(("kind", "alone"), [("class", True), ("present", True), ("map", False), ("course", False)])
def test_targets_of_a_few_numbers_are_held(kind, alone):
    assert Target(kind, ("a",)).alone is alone


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["reach/elbow", "hand/thumb", "hand/index"], {"reach": [0], "hand": [1, 2]}),
        (["hand/thumb", "hand/index"], {}),  # one group tells nothing apart
        (["elbow", "hand/thumb"], {}),
        (["/a", "b/"], {}),
    ],
)
def test_channels_are_told_apart_by_what_stands_before_the_stroke(names, groups):
    assert groups_of(names) == groups
