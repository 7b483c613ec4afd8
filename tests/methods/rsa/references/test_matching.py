"""Rows and images: matched by names in every spelling, by order only where there is one, and never in silence."""

import unicodedata

import numpy as np
import pytest

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.matching import by_names, natural, rows_of

WORDS = ["animals/cat.png", "animals/dog.png", "tools/Saw.png", "tools/axe.jpeg"]


def read(ours, theirs, **options):
    return rows_of(ours, len(theirs), theirs, file="brain.h5", **options)


WAYS = {
    "path": (WORDS, "by path"),
    "absolute": ([f"/data/stimuli/{name}" for name in WORDS], "by path"),
    "backslashes": (["C:\\stimuli\\" + name.replace("/", "\\") for name in WORDS], "by path"),
    "name": ([name.partition("/")[2] for name in WORDS], "by name"),
    "stem": ([name.partition("/")[2].partition(".")[0] for name in WORDS], "by name without ending"),
    "other ending": ([name.partition("/")[2].partition(".")[0] + ".nii.gz" for name in WORDS],
                     "by name without ending"),
    "blanks": ([f" {name} " for name in WORDS], "by path"),
    "case": ([name.upper() for name in WORDS], "by path, case aside"),
    "prefix": ([f"beta_{name.partition('/')[2].partition('.')[0]}_run1" for name in WORDS],
               "by the part in which names differ"),
    "flattened": ([name.replace("/", "_").partition(".")[0] for name in WORDS], "by name, blanks and dashes aside"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_names_match_in_every_spelling_and_in_any_order(way):
    """F89: a row is an image's where one way of reading names finds one row for each."""
    theirs, how = WAYS[way]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(theirs))
        found = read(WORDS, [theirs[place] for place in order])
        assert found.how == how and not found.guessed
        np.testing.assert_array_equal(order[found.order], np.arange(len(WORDS)))


def test_composed_and_decomposed_letters_are_one():
    ours = [unicodedata.normalize("NFD", name) for name in ("é.png", "ü.png", "e.png")]
    assert read(ours, ["e", "é", "ü"]).order.tolist() == [1, 2, 0]


def test_case_counts_where_it_tells_names_apart():
    assert read(["a.png", "A.png"], ["A", "a"]).order.tolist() == [1, 0]
    assert by_names(["a.png", "b.png"], ["A", "a", "B"]) is None


def test_names_that_are_not_unique_do_not_match():
    """F89: two folders with the same names, a file with names alone."""
    with pytest.raises(
        UserError, match=r"brain.h5 has 1, 2 more than once; the conditions are a/1.png, a/2.png, …, b/2.png"
    ):
        read(["a/1.png", "a/2.png", "b/1.png", "b/2.png"], ["1", "2", "1", "2"])
    assert read(["a/1.png", "b/1.png"], ["x/b/1.bmp", "x/a/1.bmp"]).order.tolist() == [1, 0]
    assert by_names(["1.png", "2.png"], ["a/1.png", "b/1.png", "a/2.png"]) is None


def test_more_rows_than_images_are_left_out_and_told_and_fewer_are_refused():
    found = read(["b.png", "a.png"], ["a", "b", "c"])
    assert found.order.tolist() == [1, 0] and found.how == "by name without ending; 1 of its 3 rows is of no image"
    with pytest.raises(UserError, match=r"names 2 of the 3 conditions; missing: c.png; its names are a, b, x"):
        read(["a.png", "b.png", "c.png"], ["a", "b", "x"])


def test_names_of_something_else_are_refused_with_a_row_of_each_side():
    with pytest.raises(UserError, match=r"names its rows aap, noot; the conditions are cat.png, dog.png; order="):
        read(["cat.png", "dog.png"], ["aap", "noot"])


@pytest.mark.parametrize("theirs", [
    [f"beta_{n}.nii" for n in (1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9)], [f"sub-07_{n:04d}" for n in range(12, 0, -1)],
    [f"cope{n}.nii.gz" for n in (5, 1, 2, 3, 4, 12, 11, 10, 9, 8, 7, 6)],
])  # fmt: skip
def test_numbers_are_names(theirs):
    """F89: 2 is before 10 on both sides, whatever the zeros in front."""
    found = read([f"img{n:02d}.png" for n in range(1, 13)], theirs)
    numbers = [int("".join(filter(str.isdigit, name.removeprefix("sub-07")))) for name in theirs]
    assert [numbers[row] for row in found.order] == list(range(1, 13)) and not found.guessed


def test_numbers_from_0_and_from_1_are_both_in_order():
    found = read([f"img{n}.png" for n in (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)], [f"beta_{n}" for n in range(11, 0, -1)])
    assert found.order.tolist() == [10, 9, 0, 8, 7, 6, 5, 4, 3, 2, 1]
    assert found.how == "in the order of the numbers in both names"


def test_numbers_of_other_images_are_no_names_of_these():
    """F89: as many numbers do not make them the same stimuli; those of rows decide nothing."""
    ours = [f"cat{n}.png" for n in (11, 2, 3, 5, 7)]
    for theirs in (["101", "305", "207", "150", "99"], [f"face{n}" for n in (2, 3, 5, 7, 13)]):
        with pytest.raises(UserError, match=r"names .* order=lexical"):
            read(ours, theirs)
    with pytest.raises(UserError, match="no names that decide the order"):
        read(ours, [f"cond{n}" for n in range(5, 0, -1)])
    assert read(sorted(ours[1:]), [f"cond{n}" for n in range(4, 0, -1)]).order.tolist() == [3, 2, 1, 0]
    assert read(ours, [f"face{n}" for n in (6, 4, 3, 12, 8)]).order.tolist() == [3, 2, 1, 0, 4]


def test_a_name_that_holds_the_images_is_one():
    """F89: other files beside those of the images do no harm."""
    found = read(["a cat.png", "dog.png"], ["sub-01_mask", "sub-01_dog_z", "sub-01_A-cat_z", "residuals"])
    assert found.order.tolist() == [2, 1] and found.how == "by the name that holds the image's"
    assert by_names(["cat.png", "dog.png"], ["x_cat_1", "y_cat_2", "dog"]) is None
    assert by_names(["1.png", "2.png"], ["run1_1_x", "2_y", "z"]) is None


def test_numbers_do_not_speak_against_words():
    with pytest.raises(UserError, match="names its rows"):
        read(["01_cat.png", "02_dog.png"], ["dog_01", "bird_02"])


def test_without_names_the_one_order_there_is_is_taken():
    found = rows_of(["a.png", "b.png", "img2.png"], 3, file="brain.npy")
    assert found.order.tolist() == [0, 1, 2] and found.how == "in the order of the sorted names" and not found.guessed
    classes = rows_of(["zebra", "ant", "bee"], 3, file="brain.npy")  # an order of their own
    assert classes.order.tolist() == [0, 1, 2] and classes.how == "in the order of the dataset"


def test_where_two_orders_differ_and_nothing_decides_it_is_refused():
    """F89: lexical and natural order are two, and no names come with the rows."""
    names = sorted(f"{word}{n}.png" for word in ("cat", "dog") for n in range(1, 12))
    with pytest.raises(
        UserError, match=r"cat1.png, cat10.png, .* in lexical order, cat1.png, cat2.png, .* order=lexical"
    ):
        rows_of(names, 22, file="brain.npy")
    lexical, people = (rows_of(names, 22, order=order, file="brain.npy") for order in ("lexical", "natural"))
    assert lexical.order.tolist() == list(range(22))
    assert [sorted(names, key=natural)[row] for row in people.order] == names
    with pytest.raises(UserError, match="in lexical order"):
        rows_of(["B.png", "a.png"], 2, file="brain.npy")  # case aside, a comes first


def test_orders_by_folders_and_without_endings_that_differ_are_refused():
    """F89: ImageFolder and Path.rglob sort folder by folder, others without endings."""
    folders = sorted(f"{folder}/{n}.png" for folder in ("a", "a b", "a-b") for n in range(4))
    said = "a/3.png is before a b/0.png folder by folder, as ImageFolder and rglob sort, and behind it by whole names"
    with pytest.raises(UserError, match=rf"brain.npy has no names .*: {said}; order=FILE"):
        rows_of(folders, 12, file="brain.npy")
    files = sorted(["dog.png", "dog-1.png", "dog 2.png", "cat.png"])
    with pytest.raises(UserError, match=r"dog.png is before dog 2.png without endings and behind it by whole names"):
        rows_of(files, 4, file="brain.npy")
    for names in (["a.jpg", "a.png", "b c.png", "b.d.png"], ["a/dog.png", "b-a/dog.png"], ["x y", "x-y"]):
        assert rows_of(names, len(names), file="brain.npy").order.tolist() == list(range(len(names)))
    assert rows_of(files, 4, order="lexical", file="brain.npy").order.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("order", ["lexical", "natural"])
def test_what_an_order_sorts_is_said(order):
    """F89: whole paths, folders too, which may stand otherwise folder by folder."""
    names = ["a/2.png", "b/1.png", "a b/3.png", "a/10.png", "b/2.png"]
    found = rows_of(names, 5, order=order, file="brain.npy")
    by_rows = [names[place] for place in np.argsort(found.order)]
    expected = {"lexical": ["a b/3.png", "a/10.png", "a/2.png", "b/1.png", "b/2.png"],
                "natural": ["a b/3.png", "a/2.png", "a/10.png", "b/1.png", "b/2.png"]}  # fmt: skip
    assert by_rows == expected[order]
    assert found.how == f"in {order} order of the images' whole paths"
    last = {"lexical": "a/2.png", "natural": "a/10.png"}[order]
    said = f"{last} is before a b/3.png folder by folder, as ImageFolder and rglob sort, and behind it by whole names"
    assert found.guessed == (f"brain.npy: its rows are taken in {order} order of the images' whole paths: {said}; "
                             "order=FILE lists their names")  # fmt: skip
    assert rows_of(["a/1.png", "b/1.png"], 2, order=order, file="brain.npy").guessed == ""
    plain = rows_of(["a.png", "b.png"], 2, order=order, file="brain.npy")
    assert (plain.how, plain.guessed) == (f"in {order} order of the images' names", "")


def test_images_that_are_numbered_as_rows_are_told():
    names = sorted(f"{n}.png" for n in range(1, 13))
    found = rows_of(names, 12, file="brain.npy")
    assert [int(names[place].partition(".")[0]) - 1 for place in range(12)] == found.order.tolist()
    assert "natural order" in found.guessed and "order=lexical|natural|FILE" in found.guessed


@pytest.mark.parametrize("text", ["c\na\nb\n", "\ufeffname\nc\na\nb\n", "number;file\n1;c.png\n2;a.png\n3;b.png\n"])
def test_a_file_lists_the_rows(tmp_path, text):
    """F89: order=FILE."""
    (tmp_path / "order.csv").write_text(text, encoding="utf-8")
    found = rows_of(["a.png", "b.png", "c.png"], 3, order=str(tmp_path / "order.csv"), file="brain.npy")
    assert found.order.tolist() == [1, 2, 0] and found.how.endswith("as order.csv lists them")
    with pytest.raises(UserError, match=r"lists 3 names, the file has 4 rows|names 3 of the 4 conditions"):
        rows_of(["a.png", "b.png", "c.png", "d.png"], 4, order=str(tmp_path / "order.csv"), file="brain.npy")
    with pytest.raises(UserError, match="order=nowhere is neither lexical nor natural nor a file"):
        rows_of(["a.png"], 1, order="nowhere", file="brain.npy")


def test_a_running_number_in_front_of_the_names_of_a_list_is_none(tmp_path):
    """F89: order=FILE as pandas writes it, for images 0.png to 11.png."""
    names = sorted(f"{number}.png" for number in range(12))
    places = np.random.default_rng(0).permutation(12)
    lines = [",image", *(f"{at},{names[place]}" for at, place in enumerate(places))]
    (tmp_path / "order.csv").write_text("\n".join(lines))
    found = rows_of(names, 12, order=str(tmp_path / "order.csv"), file="brain.npy")
    np.testing.assert_array_equal(places[found.order], np.arange(12))
    assert found.how == "by path (image), as order.csv lists them"
    lines = ["image,old", *(f"{names[place]},{names[11 - place]}" for place in places)]
    (tmp_path / "order.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="image and old both name the images, in different orders"):
        rows_of(names, 12, order=str(tmp_path / "order.csv"), file="brain.npy")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_list_in_any_encoding_is_read(tmp_path, encoding):
    """F89: names with umlauts, also where blanks and commas stand in them."""
    for names in (["Ähre.png", "bär.png", "cat.png"], ["Ähre, gelb.png", "bär.png", "eine, cat und.png"]):
        (tmp_path / "order.txt").write_bytes("\r\n".join(names).encode(encoding))
        found = rows_of(names[::-1], 3, order=str(tmp_path / "order.txt"), file="brain.npy")
        assert found.order.tolist() == [2, 1, 0]
    for content in (b"", bytes(range(256))):
        (tmp_path / "order.txt").write_bytes(content)
        with pytest.raises(UserError, match="is no table"):
            rows_of(names, 3, order=str(tmp_path / "order.txt"), file="brain.npy")


@pytest.mark.parametrize("order", ["natural", "lexical", "FILE"])
def test_an_order_is_for_rows_without_names(tmp_path, order):
    """F89: a reference beside it may need one; where names of rows are none of the images, it says what they are."""
    ours = ["a1.png", "a2.png", "a10.png"]
    (tmp_path / "order.txt").write_text("a10.png\na1.png\na2.png\n")
    order = str(tmp_path / "order.txt") if order == "FILE" else order
    named = rows_of(ours, 3, ["a2", "a10", "a1"], order=order, file="brain.csv")
    assert named.order.tolist() == [2, 0, 1] and named.how.startswith("by name")
    expected = rows_of(ours, 3, order=order, file="brain.npy").order.tolist()
    assert rows_of(ours, 3, ["x", "y", "z"], order=order, file="brain.csv").order.tolist() == expected


def test_the_name_as_it_is_written_is_the_row():
    """F89: the Kelvin sign is a K once composed."""
    ours, theirs = ["K.png", "\u212a.png", "a.png"], ["a.png", "\u212a.png", "K.png"]
    assert by_names(ours, theirs).order.tolist() == [2, 1, 0]
