import numpy as np
import pytest
import torch

from cnnprobe.datasets.published import coco
from cnnprobe.errors import UserError
from cnnprobe.preparation.identity import labels_of
from tests.datasets.base.collections.test_run_lengths import rle
from tests.support.images import made_collections as made

OPTIONS = {"split": None, "classes": "largest", "size": 40, "resize": 40, "strict": False, "target": "mask"}


def build(root, **options):
    return coco.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def about(tmp_path):
    """The annotations of a small copy of the collection below tmp_path."""
    return made.coco(tmp_path)


def test_every_pixel_has_the_class_of_the_smallest_object_there_and_crowds_do_not_count(tmp_path, about):
    """F90: whatever the order in the file; what a crowd covers does not count, with the objects in it."""
    about["annotations"] = [
        {"image_id": 25, "category_id": 17, **made.around(10, 10, 20, 20)},
        {"image_id": 25, "category_id": 1, **made.around(0, 0, 30, 30)},
        {"image_id": 25, "category_id": 18, **made.around(15, 15, 25, 40)},
        {"image_id": 25, "category_id": 1, **made.around(0, 0, 40, 40), "iscrowd": 1},
    ]
    crowd = np.zeros((40, 40), bool)
    crowd[5:12, :] = True
    about["annotations"][3]["segmentation"] = rle(crowd, False)
    made.annotate(tmp_path, about)
    dataset = build(tmp_path)
    expected = np.zeros((40, 40), np.uint8)
    for number, (top, left, bottom, right) in ((1, (0, 0, 30, 30)), (3, (15, 15, 25, 40)), (2, (10, 10, 20, 20))):
        expected[top:bottom, left:right] = number
    expected[crowd] = 255
    maps, known = dataset.targets([2])
    assert known.all() and np.array_equal(maps[0], expected)
    assert dataset.target.names == ("background", "person", "cat", "dog") and dataset.target.size == (40, 40)


def test_images_without_objects_stay_and_are_background(tmp_path, about):
    dataset = build(tmp_path)
    assert list(dataset.names) == ["000000000004.jpg", "000000000009.jpg", "000000000025.jpg"]
    assert dataset.labels.tolist() == [-1, 2, 1]
    assert dataset.targets([0])[0].unique().tolist() == [0]


@pytest.mark.parametrize(("size", "resize"), [(24, None), (24, 40), (31, 33), (80, 90)])
def test_maps_lie_on_their_images_at_any_size(tmp_path, about, size, resize):
    """F90: the large dog is drawn red on grey; its map has the value 3 where the fitted image is red."""
    dataset = build(tmp_path, size=size, resize=resize)
    image = dataset.load([1])[0][0].int()
    red, found = image[0] - image[1], dataset.targets([1])[0][0] == 3
    assert found[red > 170].all() and not found[red < 20].any() and found.sum() > 20
    half = (red > 95).int()
    agreed = {s: (half == torch.roll(found.int(), s, (0, 1))).sum().item() for s in ((0, 0), (0, 1), (1, 0), (0, -1))}
    assert max(agreed, key=agreed.get) == (0, 0)


def test_an_image_of_another_size_than_its_annotations_is_not_learned(tmp_path, about):
    """F90."""
    made.picture(tmp_path / "val2017/000000000009.jpg", 50, 80)
    dataset = build(tmp_path)
    assert dataset.targets([0, 1, 2])[1].tolist() == [True, False, True]
    told = "it has 50 x 80 px, its annotations 60 x 80 (height x width)"
    assert dataset.problems == {"000000000009.jpg": told}


def test_other_annotations_are_another_set(tmp_path, about):
    """F100: of crowds as well, which labels and truth do not know."""
    before = labels_of(build(tmp_path))
    assert labels_of(build(tmp_path)) == before
    about["annotations"][3]["segmentation"]["counts"] = [100, 1500]
    made.annotate(tmp_path, about)
    assert labels_of(build(tmp_path)) != before
    assert labels_of(build(tmp_path, target="class")) == labels_of(build(tmp_path, target="class"))


def test_more_classes_than_a_map_holds_are_refused(tmp_path, about):
    about["categories"] += [{"id": 100 + i, "name": f"c{i}"} for i in range(252)]
    made.annotate(tmp_path, about)
    with pytest.raises(UserError, match="coco has 255 classes, a map holds 254 at most"):
        build(tmp_path)
