import logging

import numpy as np
import pytest

from cnnprobe.datasets.published import openimages
from cnnprobe.errors import UserError
from tests.support.images import made_collections as made

OPTIONS = {"split": None, "classes": "largest", "size": None, "resize": None, "strict": False}
CONFIRMED = ("oidv7-val-annotations-human-imagelabels.csv", "oidv7-class-descriptions.csv")
BOXES = "annotations/validation-annotations-bbox.csv"


def build(root, **options):
    return openimages.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def root(tmp_path):
    """A small copy of the collection."""
    made.openimages(tmp_path)
    return tmp_path


def test_images_are_in_order_of_their_ids_and_labelled_by_the_largest_box(root, caplog):
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset = build(root)
    assert list(dataset.names) == [f"{sorted(made.IDS)[i]}.jpg" for i in (0, 1, 3)]  # the box of one is around a group
    assert dataset.classes == ("Tortoise", "Container", "Magpie, common")
    assert dataset.labels.tolist() == [0, 2, 1]
    assert caplog.messages == [
        "openimages: 1 images of validation-annotations-bbox.csv are not in validation",
        "openimages: 1 of 4 images have no class and are left out",
    ]


def test_truth_is_the_boxes_of_the_labels_class(root):
    dataset = build(root)
    assert dataset.truth(1)["boxes"].tolist() == [[10, 20, 30, 60]]
    assert dataset.truth(0)["boxes"] == pytest.approx(np.array([[10, 20, 30, 60], [20, 0, 40, 8]]))
    assert dataset.truth(2)["boxes"] == pytest.approx(np.array([[12, 24, 16, 32]]))
    image = dataset.original(0).float()
    y, x = np.nonzero((image[0] - image[1] > 60).numpy())
    assert (y.min(), x.min(), y.max() + 1, x.max() + 1) == pytest.approx((10, 20, 30, 60), abs=1)


def test_labels_of_images_are_the_first_that_is_confirmed(root):
    dataset = build(root, classes="image")
    assert dataset.classes == ("Sky", "Tortoise", "Sea", "Snow") and dataset.labels.tolist() == [3, 2]
    assert dataset.truth(0) == {}
    plain = build(root, classes="none")
    assert plain.classes == () and plain.labels.tolist() == [-1] * 4


def test_labels_do_not_depend_on_where_the_table_is_cut(root, monkeypatch):
    from cnnprobe.datasets.base.collections import csv_columns

    expected = build(root, classes="image").labels, build(root).labels
    for piece in (1, 40, 100):
        monkeypatch.setattr(csv_columns, "PIECE", piece)
        assert np.array_equal(build(root, classes="image").labels, expected[0])
        assert np.array_equal(build(root).labels, expected[1])


def test_archives_of_the_training_images_lie_in_sixteen_folders(root, caplog):
    for name in made.IDS:
        made.picture(root / f"train_{name[0]}" / f"{name}.jpg", 9, 9)
    made.picture(root / "train_0" / "f000000000000002.jpg", 9, 9)
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset = build(root, split="train", classes="none", size=8)
    assert list(dataset.names) == [f"train_{name[0]}/{name}.jpg" for name in sorted(made.IDS)]
    assert dataset.load(range(4))[1].all()
    assert caplog.messages == [
        "openimages: files that are not named like its images are left out: f000000000000002.jpg"
    ]


def test_test_images_are_those_of_validation_where_there_are_none(root):
    assert list(build(root, split="test").names) == list(build(root).names)
    (root / "validation").rename(root / "test")
    (root / BOXES).rename(root / "test-annotations-bbox.csv")
    assert build(root, split="test").labels.tolist() == [0, 2, 1]
    assert build(root, split="val").labels.tolist() == [0, 2, 1]


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(UserError, match="no validation/ or validation_0/ to validation_f/ in "):
        build(tmp_path)
    made.picture(tmp_path / "validation" / "cat.jpg", 9, 9)
    with pytest.raises(UserError, match=r"no images of Open Images in .*validation"):
        build(tmp_path)
    made.picture(tmp_path / "validation" / f"{made.IDS[0]}.jpg", 9, 9)
    with pytest.raises(UserError, match=r"no .*class-descriptions-boxable\.csv in .* dataset\.classes=none needs none"):
        build(tmp_path)
    assert len(build(tmp_path, classes="none")) == 1


def test_a_folder_that_cannot_be_looked_into_is_told(root, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(openimages.os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot look into .*validation: Permission denied"):
        build(root)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "000595fe6fee636", "000595FE6FEE6369", "", "0" * 17, "\x1b[31m"]
)
def test_ids_that_are_none_are_refused(root, name):
    """F40, F45: no path is ever made from a table, only from 64 bits."""
    text = (root / BOXES).read_text().replace("000595fe6fee6369", name)
    (root / BOXES).write_text(text)
    with pytest.raises(UserError, match="is no id of an image") as error:
        build(root)
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("0.25,0.75,0.25,0.75,0,0,0,0,0\n", "x,0.75,0.25,0.75,0,0,0,0,0\n", "could not convert"),
        ("0.25,0.75,0.25,0.75,0,0,0,0,0\n", "-0.1,0.75,0.25,0.75,0,0,0,0,0\n", "an edge outside 0 to 1"),
        ("0.25,0.75,0.25,0.75,0,0,0,0,0\n", "nan,0.75,0.25,0.75,0,0,0,0,0\n", "an edge outside 0 to 1"),
        ("LabelName", "Label", "has no column LabelName; it has ImageID,Source,Label,"),
        (",1,0.1,0.2,", ",1,0.1,", "line 3 has not the 13 fields"),
    ],
)
def test_a_damaged_table_is_refused(root, old, new, why):
    text = (root / BOXES).read_text()
    assert old in text
    (root / BOXES).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=why) as error:
        build(root)
    assert "\n" not in str(error.value)


def test_codes_of_classes_have_so_many_letters_at_most(root):
    """F102: all of them take as much memory as the longest."""
    with (root / "class-descriptions-boxable.csv").open("a") as file:
        file.write(f"/m/{'x' * 1000},Long\n")
    with pytest.raises(UserError, match=r"class-descriptions-boxable\.csv is no table .* has 1003 bytes, at most 64"):
        build(root)


def test_a_class_behind_as_many_as_16_bits_hold_is_itself(root):
    """F90: its index was below 0."""
    path, before = root / "class-descriptions-boxable.csv", build(root)
    rows = [row for row in path.read_text().splitlines(True) if row]
    path.write_text("".join([rows[0], *(f"/m/_{number},other {number}\n" for number in range(2**15)), *rows[1:]]))
    after = build(root)
    assert [after.classes[label] for label in after.labels] == [before.classes[label] for label in before.labels]
    assert max(after.labels) >= 2**15


def test_a_code_that_stands_twice_is_refused(root):
    """F92: its boxes were of the first of the two."""
    path = root / "class-descriptions-boxable.csv"
    code = path.read_text().splitlines()[-1].partition(",")[0]
    path.write_text(path.read_text() + f"{code},Other\n")
    with pytest.raises(UserError, match=rf"class-descriptions-boxable\.csv names '{code}' twice$"):
        build(root)


@pytest.mark.parametrize("text", ["", "LabelName,DisplayName\n", "<html>\n", "a,b,c\n", b"\xff\xff"])
def test_a_table_that_holds_no_classes_is_refused(root, text):
    path = root / "class-descriptions-boxable.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"class-descriptions-boxable\.csv"):
        build(root)


def test_numbers_and_ids_are_the_same():
    random = np.random.default_rng(0)
    numbers = np.append(random.integers(0, 2**64, 1000, dtype=np.uint64), np.array([0, 2**64 - 1], np.uint64))
    texts = np.array([f"{number:016x}".encode() for number in numbers.tolist()])
    assert np.array_equal(openimages._ids(texts, None), numbers)
    assert openimages.in_one(numbers[-1]) == "f" * 16 + ".jpg"
    assert openimages.in_sixteen(numbers[-2], "train") == "train_0/" + "0" * 16 + ".jpg"


def test_classes_that_are_present_are_those_of_all_boxes_or_confirmed_labels(root):
    """F90: against the rows of the tables; a box around a group shows its class."""
    import csv

    for classes, table, codes in (("largest", BOXES, "class-descriptions-boxable.csv"), ("image", *CONFIRMED)):
        dataset = build(root, classes=classes, target="present")
        assert dataset.target.kind == "present" and len(dataset) == 4
        with (root / codes).open(newline="") as file:
            names = dict(row for row in csv.reader(file))
        expected = np.zeros((4, len(dataset.classes)), int)
        with next(root.rglob(table.rpartition("/")[2])).open(newline="") as file:
            for row in csv.DictReader(file):
                confirmed = classes == "largest" or float(row["Confidence"]) > 0
                name = f"{row['ImageID']}.jpg"
                if confirmed and name in dataset.names and row["LabelName"] in names:
                    expected[list(dataset.names).index(name), dataset.classes.index(names[row["LabelName"]])] = 1
        assert dataset.targets(range(4))[0].tolist() == expected.tolist()
        assert (expected.sum(1) > 1).any() and (classes == "image") == (expected.sum(1) == 0).any()
    with pytest.raises(UserError, match=r"^dataset.target=present is made of the tables, which dataset.classes=none"):
        build(root, classes="none", target="present")
