"""Rows and images by name: every way, and never by luck."""

import pytest

from cnnprobe.datasets.base.labels.row_names import Images, ambiguous, matched


@pytest.mark.parametrize(
    ("row", "way"),
    [
        ("cat/a 1.png", "by path"),
        ("pets/cat/a 1.png", "by path"),
        ("/home/me/pets/cat/a 1.png", "by path"),
        ("cat\\a 1.png", "by path"),
        ("a 1.png", "by path"),
        ("x/a 1.png", "by name"),
        ("cat/a 1", "by path without ending"),
        ("x/a 1.jpeg", "by name without ending"),
        ("Cat/A 1.PNG", "by path in any case"),
        ("A 1", "by path without ending in any case"),
        ("x/A 1.tif", "by name without ending in any case"),
    ],
)
def test_every_way_leads_to_the_image(row, way):
    """F92."""
    found = matched(["nothing", row], Images(["cat/a 1.png", "dog/b 2.png"], "/data/pets"))
    assert found.images == [-1, 0] and found.ways == {way: 1}


def test_numbers_are_the_last_way():
    """F92."""
    assert matched(["7", "12"], Images(["0007.png", "0012.png", "x.png"])).images == [0, 1]


def test_folders_tell_images_of_one_name_apart():
    """F92."""
    files = Images(["cat/1.png", "dog/1.png"])
    assert matched(["dog/1.png", "cat/1.png"], files).images == [1, 0]
    assert matched(["dog/1", "Cat/1.PNG"], files).images == [1, 0]
    found = matched(["1.png"], files)
    assert found.images == [-1] and ambiguous(found) == "'1.png' fits several images, 'cat/1.png' and 'dog/1.png'"


def test_rows_of_another_part_do_not_take_an_image_away():
    """F92: train/1.png is not the 1.png of test."""
    found = matched(["train/1.png", "test/1.png"], Images(["1.png"], "/data/test"))
    assert found.images == [-1, 0] and found.doubtful is None


def test_two_that_differ_in_case_only_are_told_apart():
    """F92."""
    assert matched(["a.png", "A.png"], Images(["A.png", "a.png"])).images == [1, 0]
    assert matched(["a"], Images(["A.png", "a.jpg", "a.png"])).doubtful is not None


@pytest.mark.parametrize(
    ("one", "other"), [("K.png", "\u212a.png"), ("a/\u00e9.png", "a/e\u0301.png"), ("a/1", "a\\1")]
)
def test_the_path_as_it_is_written_is_the_image(one, other):
    """F92: names that are one once composed, or with slashes for backslashes, are still those of two files."""
    files = Images([other, one], "/data/pets")
    assert matched([one, other], files).images == [1, 0]
    assert matched([f"/data/pets/{other}", f"pets/{one}", "x"], files).images == [0, 1, -1]
    assert matched([one, one], files).images == [1, 1]
