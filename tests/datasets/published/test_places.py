import ast
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cnnprobe.datasets.published import places
from cnnprobe.errors import UserError
from tests.support.images import made_collections as made

OPTIONS = {"split": None, "images": None, "size": None, "resize": None, "download": False, "strict": False}


def build(root, **options):
    return places.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def root(tmp_path):
    """A small copy of the collection."""
    made.places(tmp_path / "places")
    return tmp_path / "places"


def test_train_and_held_out_images_with_their_classes(root):
    held = build(root)
    assert held.classes == ("airfield", "swimming_pool/indoor", "zen_garden")
    assert list(held.names) == [f"Places365_val_0000000{i}.jpg" for i in (1, 2, 3)] and held.labels.tolist() == [
        2,
        1,
        0,
    ]
    assert held.original_size(0) == (32, 32) and build(root, split="test").labels.tolist() == [2, 1, 0]
    train = build(root, split="train", size=8)
    assert list(train.names) == ["a/airfield/00000001.jpg", "a/airfield/00000002.jpg",
                                 "s/swimming_pool/indoor/00000001.jpg", "z/zen_garden/00000001.jpg"]  # fmt: skip
    assert train.labels.tolist() == [0, 0, 1, 2] and train.load(range(4))[1].all()


def test_large_images_are_used_where_they_are_asked_for_or_alone(root):
    assert build(root, images="large").original_size(0) == (60, 64)
    (root / "val_256").rename(root / "elsewhere")
    assert build(root).original_size(0) == (60, 64)
    with pytest.raises(UserError, match="no val_256/ in "):
        build(root, images="small")


def test_the_name_of_the_folder_inside_the_archive_will_do(root):
    (root / "data_256_standard").rename(root / "data_256")
    assert len(build(root, split="train")) == 4


@pytest.mark.parametrize(
    "path", ["../../secret.jpg", "/../secret.jpg", "//etc/passwd", "a/../../../x.jpg", "", "nul\0.jpg", "n" * 256]
)
def test_paths_that_lead_out_are_refused(root, path):
    """F40, F45; one slash before a path is how the official list writes it."""
    (root / "places365_val.txt").write_text(f"Places365_val_00000001.jpg 2\n{path} 0\n")
    with pytest.raises(UserError, match=r"places365_val\.txt line 2: .* is no path inside the folder"):
        build(root)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("places365_val.txt", "a.jpg\n", r"line 1: "),
        ("places365_val.txt", "a.jpg 0\nb.jpg 3\n", "line 2: expected path and class 0 to 2, got 'b.jpg 3'"),
        ("places365_val.txt", "a.jpg -1\n", "line 1: expected path and class 0 to 2"),
        ("places365_val.txt", "b.jpg 0\na.jpg 1\nb.jpg 0\n", r"names 'b\.jpg' twice"),
        ("places365_val.txt", b"\xff\xfe", "is not Places365: places365_val.txt: no text"),
        ("categories_places365.txt", "/a/b 0\n/a/c 2\n", "the 2 classes are not numbered from 0"),
        ("categories_places365.txt", "/a/b 0\n/a/c 0\n", "line 2: expected /letter/name number, got '/a/c 0'"),
        ("categories_places365.txt", "<html>\n", "line 1: expected /letter/name number"),
        ("categories_places365.txt", "", "the 0 classes"),
    ],
)
def test_a_damaged_list_is_refused_with_its_line(root, file, text, why):
    (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=why) as error:
        build(root)
    assert "\n" not in str(error.value)


def test_a_pipe_is_no_list(root):
    """F35: reading it would wait for ever."""
    (root / "places365_val.txt").unlink()
    os.mkfifo(root / "places365_val.txt")
    with pytest.raises(UserError, match=r"is not Places365: places365_val\.txt: no such file"):
        build(root)


def test_a_list_takes_little_more_memory_than_its_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"/a/airfield/{i:08d}.jpg 1\n" for i in range(20_000)))
    names, labels = places._listed(path, 2)
    assert names.values.nbytes + labels.nbytes < path.stat().st_size and names[19_999] == "a/airfield/00019999.jpg"


class Server(ModuleType):
    """Stands for torchvision.datasets, with a small copy of the collection; what is there it too takes for whole."""

    def __init__(self, fails_at=None):
        super().__init__("torchvision.datasets")
        self.fails_at, self.asked = fails_at, []

    def Places365(self, root, split, *, small, download):  # noqa: N802
        assert download
        self.asked.append((split, small))
        if self.fails_at == "start":
            raise OSError("no route to host")
        made.places(root / "fetched")
        for path in (root / "fetched").iterdir():
            if not (root / path.name).exists():
                path.rename(root / path.name)
        shutil.rmtree(root / "fetched")
        if self.fails_at == "end":
            (root / "val_256" / "Places365_val_00000002.jpg").unlink()
            raise RuntimeError("cut off")


@pytest.fixture
def server(monkeypatch):
    """Put a server in torchvision's place."""

    def put(fails_at=None):
        stand_in = Server(fails_at)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", stand_in)
        return stand_in

    return put


def test_nothing_is_fetched_unless_it_is_asked_for(tmp_path, server):
    asked = server().asked
    with pytest.raises(UserError, match=r"categories_places365\.txt: no such file.*dataset\.download=true fetches it"):
        build(tmp_path)
    assert asked == []


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path, server):
    """F67."""
    server()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot make the folder '.*file/new' for dataset places: Not a directory"):
        build(tmp_path / "file" / "new", download=True)


def test_what_is_fetched_lies_where_it_belongs_and_is_not_fetched_twice(tmp_path, server):
    asked = server().asked
    fetched = build(tmp_path / "new", download=True)
    assert np.array_equal(fetched.labels, [2, 1, 0]) and asked == [("val", True)]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        ["categories_places365.txt", "places365_train_standard.txt", "places365_val.txt", "val_256"]
    )
    build(tmp_path / "new", download=True)
    assert len(asked) == 1
    build(tmp_path / "new", download=True, split="train")
    assert asked[1:] == [("train-standard", True)]
    build(tmp_path / "new", download=True, images="large")
    assert asked[2:] == [("val", False)]


def test_a_download_that_was_cut_off_is_never_taken_for_one(tmp_path, server):
    server(fails_at="start")
    with pytest.raises(
        UserError, match=r"cannot fetch Places365 \(no route to host\); put categories_places365\.txt, "
    ):
        build(tmp_path, download=True)
    server(fails_at="end")
    with pytest.raises(UserError, match="cut off"):
        build(tmp_path, download=True)
    assert [path.name for path in tmp_path.iterdir()] == [places.UNFINISHED]
    with pytest.raises(UserError, match="is not Places365"):
        build(tmp_path)
    server()
    assert build(tmp_path, download=True, size=8).load(range(3))[1].all()
    assert places.UNFINISHED not in [path.name for path in tmp_path.iterdir()]


def test_torchvision_still_takes_what_it_is_given():
    """By its text: importing it takes seconds."""
    found = importlib.util.find_spec("torchvision")
    if found is None:
        pytest.skip("no torchvision")
    text = (Path(found.submodule_search_locations[0]) / "datasets" / "places365.py").read_text()
    (reader,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    (build,) = (node for node in reader.body if getattr(node, "name", "") == "__init__")
    assert {"root", "split", "small", "download"} <= {argument.arg for argument in build.args.args}
    words = {node.value for node in ast.walk(reader) if isinstance(node, ast.Constant)}
    assert {"train-standard", "val", places.CATEGORIES, *places.LISTS.values()} <= words
