import pytest

from cnnprobe.datasets.base.labels.labelling import by_file, by_subfolder, class_table
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


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("x.csv", "y.csv"):
        with pytest.raises(UserError, match=f"cannot read the table .*{name}"):
            class_table(str(tmp_path / name))


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
