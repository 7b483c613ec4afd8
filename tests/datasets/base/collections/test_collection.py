import numpy as np
import pytest
import torch
from PIL import Image

from cnnprobe.datasets.base.collections.collection import Collection, in_order, leads_out
from cnnprobe.datasets.base.collections.objects import Objects
from cnnprobe.datasets.base.imageset import limited
from cnnprobe.datasets.base.names import Names
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from tests.support.images.made_collections import picture

OPTIONS = {"size": 8, "resize": None, "strict": False, "name": "made"}


def build(root, *names, objects=None, sizes=None, **options):
    files, _ = in_order([name.encode() for name in names], root)
    labels = np.arange(len(names)) % 2
    return Collection(root, files, labels, ("a", "b"), objects=objects, sizes=sizes, **OPTIONS | options)


def test_images_are_those_of_the_list_in_order_of_their_names(tmp_path):
    for level, name in enumerate(("b.png", "sub/a é.png", "not listed.png")):
        (tmp_path / "sub").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (level,) * 3).save(tmp_path / name)
    dataset = build(tmp_path, "sub/a é.png", "b.png")
    assert list(dataset.names) == ["b.png", "sub/a é.png"] and dataset.labels.tolist() == [0, 1]
    images, readable = dataset.load([1, 0])
    assert readable.all() and images[:, 0, 0, 0].tolist() == [1, 0]
    assert limited(dataset, "first:1").names == ["b.png"]
    assert dataset.names is dataset.files and isinstance(dataset.names, Names)  # a million of strings are 75 MB


def test_missing_and_damaged_images_keep_their_rows_and_are_reported(tmp_path, caplog):
    """F32: as in a folder."""
    picture(tmp_path / "a.png", 9, 9)
    (tmp_path / "c.png").write_text("hello")
    dataset = build(tmp_path, "a.png", "b.png", "c.png")
    (batch,) = batches(dataset, batch_size=4)
    assert batch.readable.tolist() == [True, False, False] and not batch.images[1:].any()
    assert dataset.problems == {"b.png": "gone", "c.png": "not an image but text"}
    assert [r.skipped for r in caplog.records if hasattr(r, "skipped")] == ["b.png", "c.png"]
    with pytest.raises(UserError, match=r"b\.png cannot be read \(gone\); dataset\.strict=false skips it"):
        build(tmp_path, "a.png", "b.png", strict=True).load([0, 1])


def test_a_collection_without_images_is_refused(tmp_path):
    """F33: after a thousand tries, not two million."""
    names = [f"{number:06d}.png" for number in range(5000)]
    with pytest.raises(UserError, match=r"made: none of 1\d\d\d images tried .* can be read; 000000\.png: gone"):
        build(tmp_path, *names)
    picture(tmp_path / names[99], 9, 9)
    assert len(build(tmp_path, *names)) == 5000


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    """F35."""
    picture(tmp_path / "private" / "secret.png", 9, 9)
    root = tmp_path / "images"
    picture(root / "a.png", 9, 9)
    (root / "b.png").symlink_to("../private/secret.png")
    (root / "c.png").symlink_to("a.png")
    (root / "d").symlink_to("../private")
    dataset = build(root, "a.png", "b.png", "c.png", "d/secret.png")
    assert dataset.load(range(4))[1].tolist() == [True, False, True, False]
    assert set(dataset.problems.values()) == {"leads out of the folder"}
    assert dataset.original_size(1) is None and dataset.original_size(2) == (9, 9)
    whole = dataset.fingerprint
    picture(tmp_path / "private" / "secret.png", 5, 5)
    again = build(root, "a.png", "b.png", "c.png", "d/secret.png")
    assert again.fingerprint == whole  # what lies outside is not even read for its checksum


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x.png", "a/../../x.png", "a/..", "..", "nul\0.png", "n" * 256 + ".png", "//x.png"]
)
def test_paths_that_lead_out_are_known(name):
    """F40, F45."""
    assert leads_out(name.encode())


@pytest.mark.parametrize(
    "name", ["a.png", "a/b.png", "a..b/c..png", "...png", "-rf.png", "$(x).png", "日本.png", "new\nline"]
)
def test_odd_names_stay_inside(name):
    """F40."""
    assert not leads_out(name.encode())


def test_names_are_put_in_order_and_stand_there_once(tmp_path):
    names, order = in_order([b"b", b"a", b"\xc3\xa9", b"c"], tmp_path / "list.txt")
    assert list(names) == ["a", "b", "c", "é"] and order.tolist() == [1, 0, 3, 2]
    with pytest.raises(UserError, match=r"list\.txt names 'b' twice"):
        in_order([b"b", b"a", b"b"], tmp_path / "list.txt")


def test_truth_is_where_the_object_is_in_the_picture_that_is_shown(tmp_path):
    """Against the pixels themselves: the object is red, all else grey."""
    boxes = [(10, 40, 60, 90), (0, 0, 30, 20), (20, 5, 80, 100)]
    for number, box in enumerate(boxes):
        picture(tmp_path / f"{number}.png", (80, 100, 90)[number], (120, 60, 110)[number], (box,))
    values = np.array(boxes, float)
    objects = Objects(np.arange(3), np.array([0, 1, 0]), values, np.ones(3))
    for size, resize in ((64, None), (64, 80), (90, None), (None, None)):
        dataset = build(tmp_path, "0.png", "1.png", "2.png", objects=objects, size=size, resize=resize)
        for index in range(3):
            image = dataset.load([index])[0][0] if size else dataset.original(index)
            red = (image[0].float() - image[1] > 60).numpy()
            ((top, left, bottom, right),) = np.round(dataset.truth(index)["boxes"]).astype(int)
            y, x = np.nonzero(red)
            assert (
                np.abs(np.array([y.min(), x.min(), y.max() + 1, x.max() + 1]) - (top, left, bottom, right)).max() <= 1
            )


def test_truth_is_empty_where_it_does_not_fit(tmp_path):
    picture(tmp_path / "a.png", 20, 30)
    one = Objects(np.array([0]), np.array([0]), np.array([[0.0, 0, 9, 9]]), np.ones(1))
    assert build(tmp_path, "a.png").truth(0) == {}
    assert len(build(tmp_path, "a.png", objects=one, sizes=np.array([[20, 30]])).truth(0)["boxes"]) == 1
    assert len(build(tmp_path, "a.png", objects=one, sizes=np.array([[30, 20]])).truth(0)["boxes"]) == 0
    dataset = build(tmp_path, "a.png", objects=one)
    (tmp_path / "a.png").unlink()
    assert len(dataset.truth(0)["boxes"]) == 0


def test_images_without_a_class_are_left_out_where_a_class_is_asked_for(tmp_path, caplog):
    for number in range(4):
        picture(tmp_path / f"{number}.png", 9, 20 + number)
    files, _ = in_order([f"{number}.png".encode() for number in range(4)], tmp_path)
    values = np.array([[0.0, 0, 4, 4], [1, 1, 5, 5], [2, 2, 6, 6]])
    objects = Objects(np.array([1, 3, 1]), np.array([0, 1, 0]), values, np.ones(3))
    sizes = np.array([[9, 20 + number] for number in range(4)])
    given = OPTIONS | {"size": None, "objects": objects, "sizes": sizes, "labelled": True}
    dataset = Collection(tmp_path, files, objects.largest(4), ("a", "b"), **given)
    assert list(dataset.names) == ["1.png", "3.png"] and dataset.labels.tolist() == [0, 1]
    assert dataset.truth(0)["boxes"].tolist() == [[0, 0, 4, 4], [2, 2, 6, 6]]
    assert dataset.truth(1)["boxes"].tolist() == [[1, 1, 5, 5]]
    assert caplog.messages == ["made: 2 of 4 images have no class and are left out"]
    with pytest.raises(UserError, match="made: none of 4 images has a class"):
        Collection(tmp_path, files, np.full(4, -1), ("a", "b"), **given)


def test_loader_processes_know_the_names(tmp_path):
    for number in range(4):
        picture(tmp_path / f"{number}.png", 9 + number, 9)
    dataset = build(tmp_path, "0.png", "1.png", "2.png", "3.png", "none.png")
    alone = [batch.images for batch in batches(dataset, batch_size=2)]
    aside = [batch.images for batch in batches(dataset, batch_size=2, workers=1)]
    assert torch.equal(torch.cat(alone), torch.cat(aside)) and dataset.problems == {"none.png": "gone"}
