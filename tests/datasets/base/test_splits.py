"""Splits by whatever name, and what is said of folders that are none."""

import re

import pytest

from cnnprobe.datasets.base.listing import Listing
from cnnprobe.datasets.base.splits import part_of, split_named
from cnnprobe.errors import UserError


def listing(*classes):
    """The listing of a folder with these folders, and those above them."""
    folders = {"/".join(path.split("/")[:depth]) for path in classes for depth in (1, 2)}
    return Listing("root", folders=sorted(folders))


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        *[(word, "train") for word in ("train", "Train", "TRAINING", "training_set", "train2017", "Train Images")],
        *[(word, "val") for word in ("val", "Valid", "VALIDATION", "val_set", "valset", "dev", "imgs-val")],
        *[(word, "test") for word in ("test", "TEST", "Testing", "test-data")],
        *[(word, None) for word in ("train_station", "trainer", "testament", "images", "n01440764", "", "train_val")],
    ],
)
def test_a_split_is_known_by_its_word(folder, split):
    """F92."""
    assert split_named(folder) == split


def test_splits_in_capitals_are_splits_and_others_beside_them_are_told():
    """F92."""
    found = listing("Train/cats", "Train/dogs", "TEST/cats", "extra/cats")
    assert part_of(found, None).below == part_of(found, "val").below == "TEST/"
    part = part_of(found, "train")
    assert (part.below, part.half, set(part.splits)) == ("Train/", None, {"TEST", "Train"})
    assert part.notes == ("folders beside TEST and Train are left out: extra; known splits are train, val and test",)


def test_one_split_beside_folders_of_no_known_name():
    """F92: with class folders in it it is a split, without it is a class; both are told."""
    part = part_of(listing("train/cats", "holdout/cats"), "train")
    assert part.below == "train/" and part.half == "kept" and "left out: holdout" in part.notes[0]
    part = part_of(listing("train/x", "bus/x", "car/x"), None)
    assert part.below == "train/"
    part = part_of(Listing("root", folders=["bus", "car", "train"]), None)
    assert part.below == "" and part.notes[0].startswith("train is taken for a class")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["trn/cats", "trn/dogs", "tst/cats", "tst/dogs"], r"trn, tst are taken for classes .* \(cats, dogs\)"),
        (["cats/train", "cats/test", "dogs/train", "dogs/test"], "splits are looked for at the top"),
        (["dataset/cats", "dataset/dogs"], r"dataset is taken for the only class .* \(cats, dogs\)"),
    ],
)
def test_classes_that_look_like_something_else_are_told(classes, words):
    """F92: a name that is not known is never taken for a class in silence."""
    assert re.search(words, part_of(listing(*classes), None).notes[0])


def test_class_folders_with_folders_of_their_own_are_no_matter():
    assert part_of(listing("cats/a", "dogs/b", "owls/c"), None).notes == ()


def test_two_folders_for_one_split_are_refused():
    """F92."""
    with pytest.raises(UserError, match="val and validation both stand for the split val; rename one"):
        part_of(listing("val/cats", "validation/cats"), None)
