import json
import logging

import numpy as np
import pytest

from cnnprobe.datasets.published import coco
from cnnprobe.errors import UserError
from cnnprobe.methods.cam.localisation import Truth
from tests.datasets.base.collections.test_run_lengths import rle
from tests.support.images import made_collections as made

MASK = {"size": [60, 80]}
OPTIONS = {"split": None, "classes": "largest", "size": None, "resize": None, "strict": False}


def build(root, **options):
    return coco.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def about(tmp_path):
    """The annotations of a small copy of the collection below tmp_path."""
    return made.coco(tmp_path)


def test_images_are_in_order_of_names_and_labelled_by_their_largest_object(tmp_path, about):
    dataset = build(tmp_path)
    assert list(dataset.names) == ["000000000009.jpg", "000000000025.jpg"]  # 4 shows nothing
    assert dataset.classes == ("person", "cat", "dog")  # in order of their ids 1, 17, 18
    assert dataset.labels.tolist() == [2, 1]  # the dog, a cat; the crowd counts for nothing
    assert [dataset.original_size(i) for i in range(2)] == [(60, 80), (40, 40)]
    assert build(tmp_path, split="test").names[0] == dataset.names[0]
    assert list(build(tmp_path, split="train").names) == ["000000000100.jpg", "000000000102.jpg"]


def test_truth_is_that_of_all_objects_of_the_labels_class(tmp_path, about):
    dataset = build(tmp_path)
    assert dataset.truth(0)["boxes"].tolist() == [[20, 20, 50, 60]]
    assert dataset.truth(1)["boxes"].tolist() == [[2, 3, 12, 23], [30, 30, 38, 40]]
    for index in (0, 1):
        image = dataset.original(index).float()
        red = (image[0] - image[1] > 60).numpy()
        wrong = dataset.truth(index)["cue"] != red
        assert wrong.sum() == 0 < red.sum()


def test_an_outline_that_is_no_box_is_followed(tmp_path, about):
    about["annotations"][2]["segmentation"] = [[20, 20, 60, 20, 20, 50], [60, 50, 59, 50, 60, 49]]
    made.annotate(tmp_path, about)
    known = build(tmp_path).truth(0)
    y, x = np.mgrid[:60, :80] + 0.5
    expected = (x > 20) & (y > 20) & ((x - 20) / 40 + (y - 20) / 30 < 1)
    assert np.abs(known["cue"].astype(int) - expected).sum() <= 1
    truth = Truth.of(known, (60, 80))
    assert truth.boxes.tolist() == [[20, 20, 50, 60]] and np.array_equal(truth.mask, known["cue"])


def test_masks_as_lengths_of_runs_are_masks(tmp_path, about):
    """F90: plain and packed, also where the picture is scaled and cropped."""
    mask = np.zeros((60, 80), bool)
    mask[20:50, 35:40] = mask[30:35, 20:60] = True  # a cross, small in its box
    for packed in (False, True):
        about["annotations"][2]["segmentation"] = rle(mask, packed)
        made.annotate(tmp_path, about)
        assert np.array_equal(build(tmp_path).truth(0)["cue"], mask)
        halved = build(tmp_path, size=30, resize=30).truth(0)["cue"]
        assert np.array_equal(halved, mask[1::2, 1::2][:, 5:35])


def test_an_object_without_outline_has_that_of_its_box_and_it_is_told(tmp_path, about, caplog):
    """F90."""
    expected = build(tmp_path).truth(0)["cue"]
    for nothing in (None, []):
        about["annotations"][2]["segmentation"] = nothing
        made.annotate(tmp_path, about)
        with caplog.at_level(logging.WARNING, "cnnprobe"):
            assert np.array_equal(build(tmp_path).truth(0)["cue"], expected)
    assert "coco: 1 objects have neither outline nor mask" in caplog.text


def test_labels_may_be_left_out_and_unlabelled_images_are_a_flat_folder(tmp_path, about):
    plain = build(tmp_path, classes="none")
    assert list(plain.names) == ["000000000004.jpg", "000000000009.jpg", "000000000025.jpg"]
    assert plain.labels.tolist() == [-1] * 3 and plain.classes == () and plain.truth(1) == {}
    flat = build(tmp_path, split="unlabelled", size=8)
    assert flat.names == ["000000000003.jpg", "000000000007.jpg"] and flat.load([0, 1])[1].all()
    (tmp_path / "unlabeled2017").rename(tmp_path / "unlabelled2017")
    assert len(build(tmp_path, split="unlabelled")) == 2


def test_what_is_not_the_layout_is_told(tmp_path):
    with pytest.raises(UserError, match="no val2017/ in "):
        build(tmp_path)
    with pytest.raises(UserError, match="no unlabeled2017/ or unlabelled2017/ in "):
        build(tmp_path, split="unlabelled")
    made.picture(tmp_path / "val2017" / "a.jpg", 9, 9)
    with pytest.raises(UserError, match=r"no file .*annotations/instances_val2017\.json"):
        build(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../secret.jpg", "/etc/passwd", "a/../../x.jpg", "", "nul\0.jpg", "\ud800.jpg", "n" * 300, 7, None]
)
def test_names_that_lead_out_are_refused_and_nothing_outside_is_read(tmp_path, name):
    """F40, F45."""
    about = made.coco(tmp_path / "coco")
    made.picture(tmp_path / "secret.jpg", 9, 9)
    about["images"][1]["file_name"] = name
    made.annotate(tmp_path / "coco", about)
    with pytest.raises(UserError, match=r"instances_val2017\.json: number 2 of images(:| is not)"):
        build(tmp_path / "coco")


HARD = (
    "with space.jpg",
    "日本 é.jpg",
    "new\nline.jpg",
    "\x1b[31m.jpg",
    "-rf.jpg",
    "$(touch PWNED).jpg",
    "%s{0}.jpg",
    "[b]x[b].jpg",
)


def test_hard_names_are_found_and_shown_escaped(tmp_path, about, caplog):
    """F40."""
    for name in HARD:
        made.picture(tmp_path / "val2017" / name, 9, 9)
        about["images"].append({"id": 1000 + len(about["images"]), "file_name": name, "height": 9, "width": 9})
    about["images"].append({"id": 1, "file_name": "no\x1b[31m.jpg", "height": 9, "width": 9})
    made.annotate(tmp_path, about)
    dataset = build(tmp_path, size=8, classes="none")
    readable = dataset.load(range(len(dataset)))[1]
    assert readable.sum() == len(dataset) - 1 == 3 + len(HARD) and set(HARD) < set(dataset.names)
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset.report(dataset.problems, {})
    assert caplog.messages == ["no\\x1b[31m.jpg: skipped (gone)"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a["annotations"][0].update(image_id=3), "image 3 of an object is not listed"),
        (lambda a: a["annotations"][0].update(category_id=99), "category 99 of an object is not listed"),
        (lambda a: a["annotations"][0].update(image_id=0), "image 0 of an object is not listed"),
        (lambda a: a["images"][1].update(id=a["images"][0]["id"]), r"image \d+ is listed twice"),
        (lambda a: a["categories"][0].update(id=1), "number 2 of categories .* the id 1 is 'dog' already"),
        (lambda a: a.update(categories=[]), "category 17 of an object is not listed"),
        (lambda a: a["annotations"][0].pop("bbox"), "number 1 of annotations is not of COCO's kind .KeyError: 'bbox'"),
        (lambda a: a["annotations"][2].update(bbox=[1, 2, 3]), "number 3 of annotations is not of COCO's kind"),
        (lambda a: a["annotations"][2].update(segmentation=[[1, 2, 3]]), "a polygon of 3 numbers"),
        (lambda a: a["annotations"][2].update(segmentation=["1234"]), "number 3 of annotations"),
        (lambda a: a["annotations"][2].update(segmentation=MASK | {"counts": [3, 4]}), "runs hold 7 px, of 60 x 80"),
        (lambda a: a["annotations"][2].update(segmentation=MASK | {"counts": [-1, 4801]}), "a mask whose runs hold"),
        (lambda a: a["annotations"][2].update(segmentation=MASK | {"counts": "o" * 30}), "a packed mask with 'o'"),
        (lambda a: a["annotations"][2].update(segmentation=MASK | {"counts": "a b"}), "a packed mask"),
        (lambda a: a["annotations"][2].update(segmentation={"counts": [4800], "size": [80, 60]}), "another size than"),
        (lambda a: a["annotations"][2].update(segmentation={"counts": [4800]}), "KeyError: 'size'"),
        (lambda a: a["annotations"][2].update(area=1e999), "Infinity is no number"),
        (lambda a: a["annotations"][2].update(area=10**400), "OverflowError"),
        (lambda a: a["annotations"].append([]), "number 6 of annotations is not of COCO's kind"),
        (lambda a: a["images"].append(a["images"][0]), r"names '000000000009\.jpg' twice"),
        (lambda a: a.update(images=[]), "names no images"),
        (lambda a: a["images"][0].update(id="9"), "number 1 of images is not of COCO's kind"),
        (lambda a: a["images"][0].update(id=2**70), "OverflowError"),
    ],
)
def test_annotations_of_another_kind_are_refused_in_one_line(tmp_path, about, change, why):
    """F92: an id that stands twice is one of another kind."""
    change(about)
    made.annotate(tmp_path, about)
    with pytest.raises(UserError, match=why) as error:
        build(tmp_path)
    assert "\n" not in str(error.value)


def test_a_number_too_large_for_json_is_refused(tmp_path, about):
    text = json.dumps(about).replace("[3, 2, 23, 2,", "[1e999, 2, 23, 2,")
    assert "1e999" in text
    made.annotate(tmp_path, text)
    with pytest.raises(UserError, match="a number that is not finite"):
        build(tmp_path)


def test_cam_judges_its_maps_by_the_outlines(tmp_path, about, cnnprobe):
    """From the command line: pictures carry the outline of the object, and localisation is told."""
    import cnnprobe as package

    words = ("cam", "model=convnet", "weights=random", "dataset=coco", f"dataset.root={tmp_path}", "device.workers=0")
    answer = cnnprobe(*words, "top_classes=1")
    assert answer.status == 0, answer.err
    run = package.open(tmp_path / answer.out.split()[-1])
    truth = run["pictures"]["truth"]
    assert 0.2 < truth[0].mean() < 0.5 and 0.1 < truth[1].mean() < 0.3
    assert run["images"]["energy_chance"] == pytest.approx(truth.mean((1, 2)), abs=0.02)
    assert "coco: 1 of 3 images have no class and are left out" in answer.err


def test_classes_that_are_present_are_those_of_all_objects_and_crowds(tmp_path, about):
    """F90: images without objects stay; a crowd of persons shows persons."""
    dataset = build(tmp_path, target="present")
    assert list(dataset.names) == ["000000000004.jpg", "000000000009.jpg", "000000000025.jpg"]
    assert dataset.target.kind == "present" and dataset.target.names == ("person", "cat", "dog")
    assert dataset.targets(range(3))[0].tolist() == [[0, 0, 0], [1, 0, 1], [1, 1, 0]]
    assert dataset.labels.tolist() == [-1, 2, 1]


@pytest.mark.parametrize("options", [{"classes": "none"}, {"split": "unlabelled"}])
@pytest.mark.parametrize("target", ["mask", "present"])
def test_targets_that_are_made_of_annotations_need_them(tmp_path, about, options, target):
    with pytest.raises(UserError, match=rf"^dataset.target={target} is made of the annotations, which dataset"):
        build(tmp_path, target=target, **options)
