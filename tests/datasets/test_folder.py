import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from cnnprobe.datasets import folder
from cnnprobe.datasets.base.imageset import limited
from cnnprobe.errors import UserError
from tests.support.faults.hostile import COLOUR, NAMES, corpus, noise
from tests.support.images.real_data import data_folder, needs_real_data, unpack

OPTIONS = {"split": None, "classes": None, "labels": None, "size": 8, "resize": None, "strict": False}


def build(root, **options):
    return folder.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def pictures(tmp_path):
    """Write plain pictures of a grey level each below a folder, return it."""

    def write(*names):
        for level, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 10), (level,) * 3).save(path)
        return tmp_path

    return write


def test_a_flat_folder_has_no_classes(pictures):
    dataset = build(pictures("b.png", "a.png"))
    assert dataset.names == ["a.png", "b.png"] and dataset.classes == () and dataset.labels.tolist() == [-1, -1]
    images, readable = dataset.load([0, 1])
    assert images.dtype == torch.uint8 and images.shape == (2, 3, 8, 8) and readable.all()
    assert images[:, 0, 0, 0].tolist() == [1, 0]


def test_class_folders_give_labels_and_stray_entries_are_left_out(pictures, caplog):
    """F41."""
    root = pictures("dog/1.png", "cat/x/2.png", "cat/1.png", "beside.png", "cat/._1.png", ".ipynb_checkpoints/1.png")
    (root / "ant").mkdir()
    (root / "cat" / "Thumbs.db").touch()
    with caplog.at_level(logging.WARNING, "cnnprobe"):
        dataset = build(root)
    assert dataset.names == ["cat/1.png", "cat/x/2.png", "dog/1.png"]
    assert dataset.classes == ("ant", "cat", "dog") and dataset.labels.tolist() == [1, 1, 2]
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert said == ["class folders without images here: ant", "1 images beside the class folders are left out"]


def test_splits_are_subfolders_and_share_their_class_indices(pictures):
    root = pictures("train/cat/1.png", "train/dog/1.png", "val/dog/1.png", "train/ant/1.png")
    assert build(root).names == ["val/dog/1.png"] and build(root).labels.tolist() == [2]
    assert build(root, split="train").labels.tolist() == [0, 1, 2]
    assert build(root, split="test").names == ["val/dog/1.png"]
    assert build(root, split="val").classes == build(root, split="train").classes == ("ant", "cat", "dog")


def test_without_splits_a_fifth_is_held_out_by_name_alone(pictures):
    root = pictures(*(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(60)))
    train, held = build(root, split="train"), build(root, split="val")
    assert sorted(train.names + held.names) == sorted(build(root).names) and 12 <= len(held) <= 36
    kept = set(train.names)
    pictures("cat/more.png")
    assert kept <= set(build(root, split="train").names)


def test_a_table_is_about_both_halves_and_classes_without_images_are_told(pictures, caplog):
    """F92: no row counts as left over because its image is in the other half."""
    root = pictures(*(f"{i}.png" for i in range(30)))
    held = {image for image in range(30) if folder._held_out(f"{image}.png")}
    rows = [f"{i}.png,{'held' if i in held else 'kept'}" for i in range(30)]
    (root / "table.csv").write_text("file,class\n" + "\n".join(rows))
    for split, kind, other in (("train", "kept", "held"), ("val", "held", "kept")):
        caplog.clear()
        dataset = build(root, split=split, labels=str(root / "table.csv"))
        assert dataset.classes == ("held", "kept") and {dataset.classes[i] for i in dataset.labels} == {kind}
        said = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
        assert said == [f"classes without images here: {other}"]


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "Validation", "TEST"), ("train", "dev", "test")]
)
def test_a_column_of_the_table_says_the_split(pictures, caplog, words):
    """F92: a laboratory's own held-out images are never trained on."""
    root = pictures(*(f"{i}.png" for i in range(12)))
    rows = [f"{i}.png,{'ab'[i % 2]},{words[0 if i < 7 else 1 + (i > 8)]}" for i in range(11)]
    (root / "table.csv").write_text("file,class,split\n" + "\n".join(rows))
    asked = {"labels": f"{root / 'table.csv'}:class"}
    for split, expected in (("train", range(7)), ("val", (7, 8)), ("test", (9, 10))):
        caplog.clear()
        dataset = build(root, split=split, **asked)
        assert sorted(dataset.names) == sorted(f"{i}.png" for i in expected)
        assert [dataset.classes[i] for i in dataset.labels] == ["ab"[int(name[:-4]) % 2] for name in dataset.names]
        said = f"split {split}: the {len(expected)} images of which 'split' in the table of labels says so (1 of 12 "
        assert said in caplog.text
    caplog.clear()
    assert sorted(build(root, **asked).names) == ["7.png", "8.png"] and "split val: the 2 images" in caplog.text
    assert len(build(root, labels=f"{root / 'table.csv'}:split")) == 12
    by_split = build(root, split="train", labels=f"{root / 'table.csv'}:split")  # as the class it says no split
    assert sorted(by_split.names) == sorted(f"{i}.png" for i in range(12) if not folder._held_out(f"{i}.png"))


def test_a_table_without_test_images_gives_those_for_validation(pictures):
    """F92."""
    root = pictures(*(f"{i}.png" for i in range(6)))
    (root / "t.csv").write_text("file,class,subset\n" + "\n".join(f"{i}.png,x,{'tv'[i > 3]}" for i in range(6)))
    text = (root / "t.csv").read_text().replace(",t\n", ",train\n").replace(",v", ",val")
    (root / "t.csv").write_text(text)
    assert build(root, split="test", labels=f"{root / 't.csv'}:class").names == ["4.png", "5.png"]


def test_a_held_out_folder_alone_is_no_training_set(pictures):
    with pytest.raises(UserError, match="has no train/; it has val"):
        build(pictures("val/cat/1.png"), split="train")


def test_a_subset_made_of_links_is_taken_or_refused_with_the_option(pictures, caplog):
    """F92: class folders that are links, and folders full of links; what leads out is asked for, never lost."""
    root = pictures(*(f"store/{kind}/{i}.png" for kind in ("ant", "bee") for i in range(3)), "few/bee/0.png")
    (root / "few/ant").symlink_to("../store/ant")
    with pytest.raises(
        UserError, match=r"links to folders elsewhere \(ant → .*/store/ant\): dataset.links=all follows"
    ):
        build(root / "few")
    assert build(root / "few", links="all").labels.tolist() == [0, 0, 0, 1]
    assert build(root / "few", links="inside").classes == ("bee",)
    (root / "flat/ant").mkdir(parents=True)
    for i in range(3):
        (root / f"flat/ant/{i}.png").symlink_to(root / f"store/ant/{i}.png")
    with pytest.raises(
        UserError, match=r"no images in .* \(0 files\); links that lead out .*; dataset.links=all follows"
    ):
        build(root / "flat")
    assert len(build(root / "flat", links="all")) == 3
    (root / "splits/train").mkdir(parents=True)
    (root / "splits/all").mkdir()
    (root / "store").rename(root / "splits/all/store")
    for kind in ("ant", "bee"):
        (root / f"splits/train/{kind}").symlink_to(f"../all/store/{kind}")
    part = build(root / "splits", split="train")
    assert len(part) > 1 and set(part.classes) == {"ant", "bee"}  # though the files lie in all/ as well


def test_tables_of_classes_and_labels_are_used(pictures, tmp_path):
    root = pictures("data/n2/1.png", "data/n1/1.png", "flat/1.png", "flat/2.png")
    (root / "classes.csv").write_text("5,n1,tench\n7,n2,shark\n")
    dataset = build(root / "data", classes=str(root / "classes.csv"))
    assert dataset.labels.tolist() == [5, 7] and dataset.classes[5] == "tench" and len(dataset.classes) == 8
    (root / "labels.csv").write_text("1.png,dog\n2.png,cat\n")
    assert build(root / "flat", labels=str(root / "labels.csv")).labels.tolist() == [1, 0]


def test_no_images_is_told_with_their_number_and_the_first_reason(tmp_path):
    """F33."""
    with pytest.raises(UserError, match=r"no images in .* \(0 files\)"):
        build(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match=r"no images in .* \(1 files, none readable: a.txt: not an image but text\)"):
        build(tmp_path)
    for i in range(12):
        (tmp_path / f"{i:02d}.png").write_text("hello")
    with pytest.raises(UserError, match=r"\(12 files, none readable: 00.png: not an image but text\)"):
        build(tmp_path)


def test_every_file_of_the_corpus_keeps_index_and_name(tmp_path):
    """F32, F34, F35, F37 to F41: rows of unreadable images are zero, no neighbour takes their place."""
    expected = corpus(tmp_path)
    dataset = build(tmp_path)
    images, readable = dataset.load(range(len(dataset)))
    assert len(dataset) == len(expected) == len(set(dataset.names))
    for name, image, read in zip(dataset.files, images, readable):
        assert read == (expected[name] == ""), name
        assert image.any() == read or name in ("half_grey.png",)
        if name in NAMES:
            assert np.abs(image.numpy().T.astype(int) - COLOUR).max() <= 1
    assert set(dataset.remarks) == {"frames", "depth"}
    assert "the first of several frames is shown, as of every such file" in dataset.remarks["frames"]


@pytest.mark.parametrize("ending", ["gif", "png", "tif", "webp"])
def test_the_first_frame_of_any_format_is_shown_with_a_warning(tmp_path, ending):
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (40, 200))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    dataset = build(tmp_path)
    images, _ = dataset.load([0])
    assert abs(float(images.float().mean()) - (40 if images.max() > 1 else 40 / 255)) < 1
    assert set(dataset.remarks) == {"frames"}


def test_strict_names_the_file(tmp_path):
    """F32."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b\x1b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\\x1b.png cannot be read \(empty file\); dataset\.strict=false skips it"):
        build(tmp_path, strict=True).load([0, 1])


def test_names_that_are_not_utf8_are_stored_escaped_and_found_again(tmp_path):
    """F40."""
    Image.new("RGB", (4, 4), COLOUR).save(tmp_path / os.fsdecode(b"bad\xff.png"))
    dataset = build(tmp_path)
    assert dataset.names == ["bad\\xff.png"] and dataset.load([0])[1].all()


def test_the_fingerprint_follows_names_and_contents_and_nothing_else(pictures):
    root = pictures("a.png", "b.png", "c.png")
    first = build(root).fingerprint
    assert build(root, size=16).fingerprint == first and len(first) == 64
    os.utime(root / "a.png", (1, 1))
    assert build(root).fingerprint == first
    part = limited(build(root), "first:2").fingerprint
    (root / "c.png").rename(root / "d.png")
    renamed = build(root).fingerprint
    pictures("b.png")
    assert len({first, renamed, build(root).fingerprint, part}) == 4
    assert limited(build(root), "first:2").fingerprint != part


@pytest.mark.parametrize("how", ["written", "replaced", "cut", "unlocked"])
def test_a_file_that_changes_after_its_digest_was_taken_is_not_shown(pictures, how):
    """F100: names, checksums and fingerprint that are stored with a run are those of the images it was shown."""
    root = pictures("a.png", "b.png", "c.png")
    path, kept = root / "b.png", (root / "b.png").read_bytes()
    if how == "unlocked":
        path.write_bytes(b"")
    dataset = build(root)
    dataset.load([0, 1, 2])
    before = dataset.fingerprint
    dataset.load([0, 1, 2])
    if how == "replaced":
        (root / "other").write_bytes(kept[:-1] + b"x")
        os.utime(root / "other", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        (root / "other").replace(path)
    else:
        path.write_bytes({"written": (root / "c.png").read_bytes(), "cut": kept[:40], "unlocked": kept}[how])
    with pytest.raises(UserError, match=r"b\.png changed while it was being used; a run over it can go on once"):
        dataset.load([0, 1, 2])
    path.write_bytes(b"" if how == "unlocked" else kept)
    dataset.load([0, 1, 2])
    assert build(root).fingerprint == before


def test_a_vanished_file_is_skipped_with_its_reason(pictures):
    """F32."""
    root = pictures("a.png", "b.png")
    dataset = build(root)
    (root / "b.png").unlink()
    assert dataset.load([0, 1])[1].tolist() == [True, False]
    assert dataset.problems == {"b.png": "gone"}


def test_images_at_their_own_size(tmp_path):
    Image.fromarray(noise(10, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    dataset = build(tmp_path, size=None)
    assert dataset.original_size(0) == (10, 20) and dataset.original_size(1) is None
    assert np.array_equal(dataset.original(0).permute(1, 2, 0), noise(10, 20)) and dataset.original(1) is None


@needs_real_data
def test_real_photographs_of_imagenet_load(tmp_path):
    unpack("imagenet-samples.tar", tmp_path, most=20)
    table = str(data_folder() / "imagenet-classes.csv")
    dataset = build(tmp_path / "imagenet-samples", classes=table, size=227, resize=256)
    images, readable = dataset.load(range(20))
    assert images.shape == (20, 3, 227, 227) and readable.all()
    assert len(dataset.classes) == 1000 and dataset.classes[0] == "tench" and dataset.labels[0] == 0
    assert 60 < images.float().mean() < 180 and images.float().std(dim=(1, 2, 3)).min() > 10


def test_images_with_several_classes_of_a_table(pictures, tmp_path):
    """F92: those that the table does not name are left out, also in parts and splits."""
    root = pictures("train/a.png", "train/b.png", "train/c.png", "val/d.png", "val/e.png")
    table = tmp_path / "labels.csv"
    table.write_text("file,class\na.png,cat;dog\nc.png,\nd.png,dog\ne.png,cat|owl\n")
    train = build(root, split="train", labels=str(table), target="present")
    held = build(root, split="val", labels=str(table), target="present")
    assert train.names == ["train/a.png", "train/c.png"] and train.target == held.target
    assert train.target.names == ("cat", "dog", "owl") and train.labels.tolist() == [-1, -1]
    assert train.targets([0, 1])[0].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert held.labels.tolist() == [1, -1] and held.part([1]).targets([0])[0].tolist() == [[1, 0, 1]]
    with pytest.raises(UserError, match=r"^dataset.target=present needs dataset.labels=FILE$"):
        build(root, target="present")
