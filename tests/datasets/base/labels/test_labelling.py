import numpy as np
import pytest

from cnnprobe.datasets.base.labels.labelling import by_file, by_subfolder, several_by_file
from cnnprobe.errors import UserError


@pytest.fixture
def table(tmp_path):
    """Write a CSV file, return its path as text."""

    def write(text, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_classes_are_the_folders_in_order_also_the_empty_ones():
    classes, labels, notes = by_subfolder(["cat/1.png", "dog/1.png", "cat/2.png"], ["ant", "cat", "dog"], None)
    assert classes == ("ant", "cat", "dog") and labels.tolist() == [1, 2, 1]
    assert notes == ["class folders without images here: ant"]


@pytest.mark.parametrize("head", ["", "index,wnid,name\n", "\ufeffindex,wnid,name\n"])
def test_a_table_of_classes_gives_folders_their_index_and_name(table, head):
    path = table(f'{head}3,n03,"goldfish, Carassius"\n1,n01,tench\n\n')
    classes, labels, notes = by_subfolder(["n01/a.png", "n03/a.png", "n02/a.png"], ["n01", "n02", "n03"], path)
    assert classes == ("", "tench", "", "goldfish, Carassius") and labels.tolist() == [1, 3, -1]
    assert notes == [f"{path} does not name the folders n02; label -1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,cat,cat\n", "names none of the folders, e.g. 'n01'; it names cat"),
        ("", "is empty"),
        ("n01\nn02\n", "holds no classes"),
        ("n01,ant\nn02,bee\n", "holds no classes; expected lines of index"),
        ("0,a\nx,b\n", "line 2: expected index, folder, name; got 'x,b'"),
        ("0,a\n0,b\n", "line 2: index 0 or folder 'b' is there twice"),
        ("0,a\n9999999999,b\n", "line 2: expected index"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, text, words):
    with pytest.raises(UserError, match=words):
        by_subfolder(["n01/a.png"], ["n01"], table(text))


def test_files_are_labelled_by_path_or_last_part_and_by_index_or_name(table):
    files = ["a.png", "deep/b.png", "c.png"]
    classes, labels, notes = by_file(files, table("file,class\na.png,dog\nb.png,cat\n"), None)
    assert classes == ("cat", "dog") and labels.tolist() == [1, 0, -1] and "1 of 3 images" in notes[0]
    classes, labels, _ = by_file(files, table("a.png,2\ndeep/b.png,0\n"), None)
    assert classes == ("0", "1", "2") and labels.tolist() == [2, 0, -1]
    names = table("0,n0,ant\n1,n1,bee\n", "names.csv")
    assert by_file(files, table("a.png,bee\nb.png,n0\nc.png,1\n"), names)[1].tolist() == [1, 0, 1]


def test_a_label_out_of_range_is_refused_with_the_nearest(table):
    names = table("0,n0,ant\n1,n1,bee\n", "names.csv")
    with pytest.raises(UserError, match="no class 'bea'; did you mean 'bee'"):
        by_file(["a.png"], table("a.png,bea\n"), names)
    with pytest.raises(UserError, match="no class '7'"):
        by_file(["a.png"], table("a.png,7\n"), names)
    with pytest.raises(UserError, match="names none of the 1 images"):
        by_file(["z.png"], table("a.png,7\n"), None)


def test_wnids_are_named_as_all_their_files_are():
    """F92: where each file is called by its wnid and one name; else they stay."""
    folders = ["n01440764", "n02102040"]
    files = ["n02102040/n02102040_English_springer.jpg", "n01440764/n01440764_tench.JPEG"]
    classes, labels, notes = by_subfolder(files, folders, None)
    assert classes == ("tench", "English springer") and labels.tolist() == [1, 0] and "'tench'" in notes[0]
    assert by_subfolder(files[:1], folders, None, files)[0] == classes  # of a split without a tench
    for other in ("n01440764/n01440764_18.JPEG", "n01440764/n01440764_carp.JPEG", "n01440764/x.JPEG"):
        assert by_subfolder([*files, other], folders, None)[0] == tuple(folders)
    assert by_subfolder(["cat/cat_sitting.jpg"], ["cat"], None)[0] == ("cat",)


CRANES = "index,folder,name\n0,n02012849,crane\n1,n02084071,dog\n2,n03126707,crane\n"


def test_a_name_of_two_classes_is_refused_and_other_words_mean_what_they_did(table):
    """F92: ImageNet has two classes called crane, a bird and a machine."""
    names = table(CRANES, "names.csv")
    told = rf"^2 classes of {names} are called 'crane': 0, 2; write 0 or 2 for it in .*table.csv$"
    with pytest.raises(UserError, match=told):
        by_file(["a.png", "b.png"], table("a.png,dog\nb.png,crane\n"), names)
    rows = table("a.png,dog\nb.png,n03126707\nc.png,0.0\nelsewhere.png,crane\n")
    assert by_file(["a.png", "b.png", "c.png"], rows, names)[1].tolist() == [1, 2, 0]


def test_a_number_that_is_also_the_name_of_another_class_is_refused(table):
    """F92: digits whose 0 is the last class; a folder that is called as another class is."""
    digits = table("index,folder,name\n0,one,1\n1,two,2\n2,zero,0\n", "digits.csv")
    with pytest.raises(UserError, match=r"2 classes of .* are called '1': 0, 1; write one or two for it"):
        by_file(["a.png"], table("a.png,1\n"), digits)
    assert by_file(["a.png", "b.png"], table("a.png,zero\nb.png,one\n"), digits)[:2][0] == ("1", "2", "0")
    animals = table("0,dog,cat\n1,cat,dog\n", "animals.csv")
    with pytest.raises(UserError, match=r"are called 'cat': 0, 1; write 0 or 1 for it"):
        by_file(["a.png"], table("a.png,cat\n"), animals)
    same = table("0,1,1\n1,0,0\n", "same.csv")
    with pytest.raises(UserError, match=r"are called '1': 0, 1; give each a name of its own in "):
        by_file(["a.png"], table("a.png,1\n"), same)


def test_of_two_columns_of_one_name_the_number_decides(table):
    """F92."""
    rows = table("file,class,class\na.png,cat,dog\nb.png,dog,cat\n")
    with pytest.raises(UserError, match=r"2 columns of .* are called 'class': 2, 3; write the number of one, .*csv:2$"):
        by_file(["a.png", "b.png"], f"{rows}:class", None)
    assert by_file(["a.png", "b.png"], f"{rows}:3", None)[1].tolist() == [1, 0]
    other = table("file,Class,class\na.png,cat,dog\nb.png,dog,cat\n", "other.csv")
    assert by_file(["a.png", "b.png"], f"{other}:class", None)[1].tolist() == [1, 0]
    with pytest.raises(UserError, match=r"2 columns of .* are called 'class'"):
        by_file(["a.png", "b.png"], f"{other}:CLASS", None)


ANIMALS = ["a.png", "b.png", "c.png", "d.png"]
EXPECTED = {"a.png": {"cat", "dog"}, "b.png": {"dog"}, "c.png": set()}


@pytest.mark.parametrize(
    "text",
    [
        "file,class\na.png,dog\nb.png,dog\nc.png,\na.png,cat\na.png,cat\n",
        "file,class\na.png,dog;cat\nb.png,dog\nc.png,\n",
        "file,class\na.png,cat | dog\nb.png,dog|\nc.png,nan\n",
        "file\tclass\na.png\tcat;dog\nb.png\tdog\nc.png\t\n",
        "file,cat,dog\na.png,1,1\nb.png,0,1\nc.png,0,0\n",
    ],
    ids=["rows", "semicolons", "bars", "tabs", "columns"],
)
def test_several_classes_of_an_image_are_read_where_that_is_asked_and_refused_else(table, text):
    """F92: none of them is taken for the class, and no two words for one."""
    names, present, named, notes = several_by_file(ANIMALS, table(text), None)
    assert names == ("cat", "dog") and named == [0, 1, 2]
    found = {ANIMALS[i]: {names[k] for k in np.flatnonzero(row)} for i, row in enumerate(present.of(range(3)))}
    assert found == EXPECTED
    assert any("does not name 1 of 4 images, which are left out, e.g. 'd.png'" in note for note in notes)
    assert any("gives 1 of 3 images no class: they have none" in note for note in notes)
    with pytest.raises(UserError, match=r"an image has one, or with dataset.target=present several$"):
        by_file(ANIMALS, table(text), None)


def test_several_classes_by_index_or_name_of_a_table_of_classes(table):
    names = table("0,n0,ant\n1,n1,bee\n2,n2,cat\n", "names.csv")
    found, present, _, _ = several_by_file(ANIMALS[:2], table("a.png,2;bee\nb.png,n0\n"), names)
    assert found == ("ant", "bee", "cat") and present.of([0, 1]).tolist() == [[0, 1, 1], [1, 0, 0]]


def test_a_name_that_holds_a_bar_is_one_class(table):
    classes, labels, _ = by_file(ANIMALS[:3], table("a.png,coat|jacket\nb.png,shoe\nc.png,coat|jacket\n"), None)
    assert classes == ("coat|jacket", "shoe") and labels.tolist() == [0, 1, 0]
