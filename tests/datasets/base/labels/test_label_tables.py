"""Tables of labels as people write them: read, or refused with a row of each side."""

import time

import numpy as np
import pytest

from cnnprobe.datasets.base.labels import label_tables
from cnnprobe.datasets.base.labels.labelling import by_file
from cnnprobe.errors import UserError

FILES = [f"scan {n}.png" for n in range(6)]
KINDS = ["dog", "cat, tame"] * 3
EXPECTED = [1, 0] * 3


def lines(row, head="", end="\n"):
    """A table with a row for each image."""
    return head + "".join(row.format(n=n, name=f"scan {n}", kind=kind) + end for n, kind in enumerate(KINDS))


def one_hot(kinds, head=True):
    names = ["NV", "MEL", "BKL"]
    rows = [f"scan {n},{','.join(str(float(kind == name)) for name in names)}" for n, kind in enumerate(kinds)]
    return "\n".join(["image," + ",".join(names)] * head + rows)


WRITTEN = {
    "commas": lines('{name}.png,"{kind}"', "file,class\n"),
    "semicolons": lines('"{name}.png";"{kind}"', "\ufefffile;class\r\n", "\r\n"),
    "tabs": lines("{name}.png\t{kind}", "file\tclass\n"),
    "bars": lines("{name}.png | {kind}"),
    "spreadsheet": lines("{name}.png;{kind}", "sep=;\nfile;class\n"),
    "no heading": lines('{name}.png,"{kind}"'),
    "class first": lines('"{kind}",{name}.png', "class,file\n"),
    "running number": lines('{n},{name}.png,"{kind}"', ",file,class\n"),
    "running number without heading": lines('{n},{name}.png,"{kind}"'),
    "ids": lines('{name},"{kind}"', "id,breed\n"),
    "paths": lines('/data/train/{name}.png,"{kind}"'),
    "paths and ids": lines('./train/{name};"{kind}"'),
    "backslashes": lines('C:\\data\\{name}.png,"{kind}"'),
    "capitals": lines('{name}.PNG,"{kind}"').replace("scan", "SCAN"),
    "another ending": lines('{name}.jpg,"{kind}"'),
    "blanks": lines("  {name}.png ; {kind}  "),
    "quotes": lines("'{name}.png';'{kind}'"),
    "comments": lines('{name}.png,"{kind}"', "# made by hand\n\n#, and so on\nfile,class\n"),
    "end of lines": lines('{name}.png,"{kind}",', "file,class,\n"),
    "twice": lines('{name}.png,"{kind}"') * 2,
    "more columns": lines('{name}.png,{n}.5,"{kind}",left', "image_id,age,dx,side\n"),
    "decimal commas": lines("{name}.png;0,{n};{kind}", "file;score;label\n"),
    "rows of other images": lines('{name}.png,"{kind}"', "other.png,dog\nanother.png,dog\n"),
}


@pytest.fixture
def table(tmp_path):
    def write(content, name="table.csv"):
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_table_is_read_as_people_write_it(table, text):
    """F92."""
    classes, labels, _ = by_file(FILES, table(text), None)
    assert classes == ("cat, tame", "dog") and labels.tolist() == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_any_encoding_is_read(table, encoding):
    """F92."""
    text = "file;class\n" + "".join(f"scan {n}.png;{'Bär' if n % 2 else 'Elch'}\n" for n in range(6))
    assert by_file(FILES, table(text.encode(encoding)), None)[0] == ("Bär", "Elch")


def test_letters_are_compared_composed(table):
    """F92: a Mac writes é as e and an accent."""
    assert by_file(["cafe\u0301.png"], table("caf\u00e9.png,dog\n"), None)[1].tolist() == [0]
    assert by_file(["caf\u00e9.png"], table("cafe\u0301.png,dog\n"), None)[1].tolist() == [0]


def test_columns_of_zeros_and_ones_are_classes_and_several_ones_are_refused(table):
    """F92: as in the tables of skin lesions."""
    classes, labels, notes = by_file(FILES, table(one_hot(["NV", "MEL", "BKL", "NV", "none", "MEL"])), None)
    assert classes == ("BKL", "MEL", "NV") and labels.tolist() == [2, 1, 0, 2, -1, 1]
    assert "classes are its columns 'NV', 'MEL', 'BKL'" in notes[0]
    text = one_hot(["NV", "MEL", "BKL", "NV", "NV", "MEL"]).replace("scan 1,0.0", "scan 1,1.0")
    with pytest.raises(UserError, match="row 3 has several classes, NV, MEL; an image has one"):
        by_file(FILES, table(text), None)


@pytest.mark.parametrize(
    ("numbers", "classes", "labels"),
    [
        ([0, 2, 0, 2, 1, 1], ("0", "1", "2"), [0, 2, 0, 2, 1, 1]),
        ([1, 2, 1, 2, 3, 3], ("1", "2", "3"), [0, 1, 0, 1, 2, 2]),
        ([769, 770, 769, 770, 769, 770], ("769", "770"), [0, 1, 0, 1, 0, 1]),
        (["1.0", "0.0", "nan", "1,0", "", "0"], ("0", "1"), [1, 0, -1, 1, -1, 0]),
        (["1", "0", "NA", "1", "n/a", "0"], ("0", "1"), [1, 0, -1, 1, -1, 0]),
        ([-1, 1, 1, -1, 1, 1], ("-1", "1"), [0, 1, 1, 0, 1, 1]),
        ([-1, 1, 0, 0, 1, 1], ("0", "1"), [-1, 1, 0, 0, 1, 1]),
    ],
)
def test_numbers_are_indices_from_0_or_names(table, numbers, classes, labels):
    """F90: numbers that begin at 1, codes of events, decimals, -1 and 1."""
    text = "file;y\n" + "".join(f"scan {n}.png;{number}\n" for n, number in enumerate(numbers))
    got = by_file(FILES, table(text), None)
    assert got[0] == classes and got[1].tolist() == labels
    assert any("labels begin at" in note for note in got[2]) == (classes[0] != "0")


def test_classes_are_those_of_all_rows_so_that_parts_agree(table):
    """F92: a part without cats has the same indices."""
    for text in ("a.png,bee\nb.png,cat\nc.png,ant\n", "f,k\na,bee\nb,cat\nc,ant\n", "a,bee\nb,cat\nc,ant\nd,bee\n"):
        path = table(text)
        assert by_file(["a.png", "c.png"], path, None)[0] == by_file(["b.png"], path, None)[0] == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x.png,dog\ny.png,cat\n", r"none of the 6 images: a row of it is 'y.png \| cat', an image is called 'scan 0"),
        ("scan 0.png,dog\nscan 0.png,cat\n", r"gives 'scan 0.png' two classes: 'dog', and 'cat' in row 2"),
        ("scan 0.png,dog\nscan 1.png,cat,tame\n", "row 2 has 3 cells, the first has 2; put quotes .* commas"),
        ("scan 0.png,0.53\nscan 1.png,0.61\n", "holds 0.53, which is a number but no class"),
        ("f,a,b\nscan 0.png,x,u\nscan 1.png,y,v\n", r"which column of .* is the class: 'a', 'b'\? dataset.labels="),
        ("scan 0.png\nscan 1.png\n", "has one column only|column of images, but none|names none"),
        ("", "is empty"),
        (b"PK\x03\x04 and so on", "a workbook; save the sheet as CSV"),
        (b"\x00\x01\x02\x03\x00\x00\x00", "no text"),
    ],
)
def test_what_cannot_be_read_is_told_with_a_row_of_each_side(table, text, words):
    """F92."""
    with pytest.raises(UserError, match=words):
        by_file(FILES, table(text), None)


def test_the_column_of_the_class_can_be_named(table):
    """F92."""
    path = table("f,a,b\nscan 0.png,x,u\nscan 1.png,y,v\n")
    assert by_file(FILES[:2], f"{path}:b", None)[0] == ("u", "v")
    assert by_file(FILES[:2], f"{path}:2", None)[0] == ("x", "y")
    with pytest.raises(UserError, match="no column 'c' in"):
        by_file(FILES, f"{path}:c", None)


def test_what_is_left_over_is_shown_on_both_sides(table):
    """F92."""
    path = table("scan 0.png,dog\nscan1.png,cat\nscan 2.png,\n")
    *_, notes = by_file(FILES, path, None)
    assert notes == [
        f"{path}: rows without an image here: 1 of 3, e.g. 'scan1.png | cat'",
        f"{path} does not name 4 of 6 images, e.g. 'scan 1.png'; label -1",
        f"{path} gives 1 of 6 images no class, e.g. 'scan 2.png'; label -1",
    ]


@pytest.mark.parametrize("nothing", ["n/a", "", "NaN", "None", "-"])
def test_rows_of_no_image_bring_no_class(table, nothing):
    """F92: an events.tsv has rows for pauses too; their class would shift the others."""
    rows = [
        f"{n}\t1\t{kind}\t{name}\n{n + 1}\t2\tdelay\t{nothing}\n" for n, (kind, name) in enumerate(zip(KINDS, FILES))
    ]
    path = table("onset\tduration\ttrial_type\tstim_file\n" + "".join(rows))
    names, labels, notes = by_file(FILES, f"{path}:trial_type", None)
    assert names == ("cat, tame", "dog") and labels.tolist() == EXPECTED
    assert f"{path}: rows of no image ({nothing!r}), 6 of 12, are left out with their classes" in notes


def test_images_of_other_splits_may_be_named(table):
    """F92."""
    path = table("a/scan 0.png,dog\nb/scan 9.png,cat\nb/scan 8.png,cat\n")
    assert by_file(FILES[:1], path, None, others=["b/scan 9.png", "b/scan 8.png"])[2] == []
    (note,) = by_file(FILES[:1], path, None, others=["b/scan 9.png"])[2]
    assert note == f"{path}: rows without an image here: 1 of 3, e.g. 'b/scan 8.png | cat'"


def test_many_rows_take_little_time(table):
    """Of 5,000 rows in other order than the images."""
    import time

    files = [f"{n % 10}/im_{n:06d}.jpg" for n in range(5_000)]
    order = np.random.default_rng(0).permutation(5_000)
    text = "id,label\n" + "".join(f"im_{n:06d},c{n % 7}\n" for n in order)
    began = time.process_time()
    labels = by_file(files, table(text), None)[1]
    assert time.process_time() - began < 3 and (labels == np.arange(5_000) % 7).all()


@pytest.mark.parametrize("quoted", [False, True])
def test_one_wide_row_does_not_widen_the_others(tmp_path, monkeypatch, quoted):
    """F102: nor is each cell that they would have looked at."""
    monkeypatch.setattr(label_tables, "CELLS", 10_000)
    row = '"a",NA\n' if quoted else "a,b\n"
    (tmp_path / "a.csv").write_text("image,class" + ",x" * 500 + "\n" + row * 300)
    with pytest.raises(UserError, match=r"a\.csv has a row of 502 cells, and 301 rows that have far fewer"):
        list(label_tables.readings(str(tmp_path / "a.csv")))


def test_separators_at_the_end_of_each_line_are_taken_away_at_once(tmp_path):
    """F103."""
    (tmp_path / "a.csv").write_text(f"image,class{',' * 200_000}\na.png,{',' * 200_000}\n")
    began = time.process_time()
    (table,) = label_tables.readings(str(tmp_path / "a.csv"))
    assert time.process_time() - began < 3
    assert table.rows == [["image", "class"], ["a.png", ""]]


def test_a_row_that_fits_several_images_is_refused(table):
    """F92: labels are never given by luck."""
    files = ["cat/1.png", "dog/1.png"]
    with pytest.raises(UserError, match=r"'1.png' fits several images, 'cat/1.png' and 'dog/1.png'; write"):
        by_file(files, table("1.png,a\n"), None)
    assert by_file(files, table("cat/1.png,a\ndog/1.png,b\n"), None)[1].tolist() == [0, 1]


def test_na_without_quotes_among_quoted_words_is_missing(table):
    """F90: as R writes it; where no word has quotes it is a class, and told."""
    kinds = ["dog", "NA", "cat, tame"] * 2
    rows = [f'"{n}","scan {n}.png","{kind}"'.replace('"NA"', "NA") for n, kind in enumerate(kinds)]
    names, labels, _ = by_file(FILES, table("\n".join(['"","file","class"', *rows])), None)
    assert names == ("cat, tame", "dog") and labels.tolist() == [1, -1, 0] * 2
    rows = [row.replace(",NA", ',"NA"') for row in rows]
    assert by_file(FILES, table("\n".join(['"","file","class"', *rows])), None)[0] == ("NA", "cat, tame", "dog")
    bare = [f"scan {n}.png,{kind.partition(',')[0]}" for n, kind in enumerate(kinds)]
    names, labels, notes = by_file(FILES, table("\n".join(["file,class", *bare])), None)
    assert names == ("NA", "cat", "dog") and labels.tolist() == [2, 0, 1] * 2
    assert any("'NA' is taken for a class (2 rows)" in note for note in notes)


def test_na_without_quotes_is_missing_beside_an_empty_cell_between_tabulators(table):
    """F90: a tabulator is a blank too, and parts two cells all the same."""
    kinds = ["dog", "NA", "cat"] * 2
    rows = [f'"scan {n}.png"\t\t"{kind}"'.replace('"NA"', "NA") for n, kind in enumerate(kinds)]
    names, labels, _ = by_file(FILES, table("\n".join(['"file"\t"note"\t"class"', *rows])), None)
    assert names == ("cat", "dog") and labels.tolist() == [1, -1, 0] * 2


def test_names_of_classes_with_underscores_are_no_numbers(table):
    """F90: Python reads 1_2 as 12, and 12 would be a number that is measured."""
    rows = [f"scan {n}.png,{n % 2}_{n % 3}" for n in range(6)]
    assert by_file(FILES, table("\n".join(["file,class", *rows])), None)[0] == tuple(
        sorted(f"{a}_{b}" for a in range(2) for b in range(3))
    )


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        ("trial,prev_image,image,label", False),
        ("trial,image,prev_image,label", False),
        ("trial,left,right,label", True),
        ("trial,file,image,label", True),
    ],
)
def test_two_columns_that_name_the_images_in_different_orders(table, head, refused):
    """F92: as the image of the trial before."""
    last = ["0" if n == 0 else f"scan {n - 1}.png" for n in range(6)]
    if head == "trial,image,prev_image,label":
        rows = [f"{n},scan {n}.png,{last[n]},{kind}" for n, kind in enumerate("xyzxyz")]
    else:
        rows = [f"{n},scan {(n + 5) % 6}.png,scan {n}.png,{kind}" for n, kind in enumerate("xyzxyz")]
    path = table("\n".join([head] * bool(head) + rows))
    if refused:
        with pytest.raises(UserError, match="both name the images, in different orders; leave one out"):
            by_file(FILES, path, None)
    else:
        assert by_file(FILES, path, None)[1].tolist() == [0, 1, 2, 0, 1, 2]


def test_classes_that_are_called_as_images_are_no_second_names(table):
    rows = "\n".join(f"{n},scan {n}.png,scan {n // 2}.png" for n in range(6))
    assert by_file(FILES, table(f"n,image,class\n{rows}"), None)[1].tolist() == [0, 0, 1, 1, 2, 2]
    words = "\n".join(f"{n},scan {n}.png,scan {5 - n},{n % 2}" for n in range(6))  # less exact
    assert by_file(FILES, table(f"n,picked,like,class\n{words}"), None)[1].tolist() == [0, 1] * 3


def test_numbers_from_1_are_not_those_of_images_from_0(table):
    """F92: all but one of either side would fit, each the wrong one."""
    rows = "id,class\n" + "\n".join(f"{n},{'ab'[n % 2]}" for n in range(1, 13))
    for files in ([f"{n:03d}.png" for n in range(12)], [f"{n}.png" for n in range(12)]):
        with pytest.raises(UserError, match="numbers images 1 to 12, their files are 0 to 11: one may count from 0"):
            by_file(files, table(rows), None)
    assert by_file([f"{n:03d}.png" for n in range(1, 12)], table(rows), None)[1].tolist() == [1, 0] * 5 + [1]


@pytest.mark.parametrize("count", ["", "6\n"])
@pytest.mark.parametrize("gap", ["", "  "])
def test_a_head_without_a_name_above_the_images(table, count, gap):
    """F92: CelebA's list of attributes has the number of images on top, R's tables have no name above their rows."""
    rows = [f"{n:03}.png {gap}{1 - 2 * (n % 2)} {gap}{n}" for n in range(6)]
    path = table("\n".join([f"{count}Smiling {gap}Young ", *rows]))
    files = [f"{n:03}.png" for n in range(6)]
    classes, labels, _ = by_file(files, f"{path}:Smiling", None)
    assert classes == ("-1", "1") and labels.tolist() == [1, 0] * 3
    _, labels, notes = by_file(files, f"{path}:Young", None)
    assert notes == [f"{path}: column 1 names the images, 'Young' the class"]
    assert labels.tolist() == list(range(6))


def test_blanks_in_names_under_a_head_of_one_name_less(table):
    """F92: the head may as well be complete, and the names hold a blank."""
    path = table("file class\n" + "".join(f"{name} {'ab'[n % 2]}\n" for n, name in enumerate(FILES)))
    classes, labels, _ = by_file(FILES, path, None)
    assert classes == ("a", "b") and labels.tolist() == [0, 1] * 3


def test_boxes_of_imagenet_are_of_the_class_of_their_wnid(table):
    """F92: each cell of Kaggle's tables was a class of its own."""
    files = [f"ILSVRC2012_val_0000000{n}.JPEG" for n in range(4)]
    cells = ["n01440764 111 108 479 432 ", "n02087394 17 1 499 272 n02087394 1 2 3 4 ", "n01440764 0 0 9 9 ", ""]
    rows = "".join(f"{file[:-5]},{cell}\n" for file, cell in zip(files, cells))
    path = table(f"ImageId,PredictionString\n{rows}")
    classes, labels, notes = by_file(files, path, None)
    assert classes == ("n01440764", "n02087394") and labels.tolist() == [0, 1, 0, -1]
    assert notes[0] == f"{path}: classes are the wnids of its boxes, whose edges are left out"
    known = table("0,n01440764,tench\n1,n01443537,goldfish\n2,n02087394,ridgeback\n", "classes.csv")
    classes, labels, _ = by_file(files, path, known)
    assert classes == ("tench", "goldfish", "ridgeback") and labels.tolist() == [0, 2, 0, -1]
    path = table(f"ImageId,PredictionString\n{rows}".replace("n02087394 1 2", "n01443537 1 2"))
    with pytest.raises(UserError, match=r"row 3 has boxes of several classes, n02087394, n01443537; an image has one"):
        by_file(files, path, None)


@pytest.mark.parametrize("text", ["a," * 60_000, ",file,class\n", "file,class,more\n", "scan 0.png,dog,x\n"])
def test_a_table_of_one_row_is_read_or_refused_in_one_line(table, text):
    """F92."""
    try:
        names, *_ = by_file(FILES, f"{table(text)}:2", None)
        assert names == ("dog",)
    except UserError as error:
        assert "\n" not in str(error)
