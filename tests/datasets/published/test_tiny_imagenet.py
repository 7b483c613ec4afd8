import numpy as np
import pytest
from PIL import Image

from cnnprobe.datasets.published import tiny_imagenet
from cnnprobe.errors import UserError

OPTIONS = {"split": None, "size": 64, "resize": None, "strict": False}


def build(root, **options):
    return tiny_imagenet.build(root=str(root), **OPTIONS | options)


@pytest.fixture
def archive(tmp_path):
    """Lay out two classes as the official archive does; grey levels tell the images apart."""
    root = tmp_path / "tiny-imagenet-200"
    files = ["train/n02/images/n02_0.JPEG", "train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG"]
    files += ["val/images/val_0.JPEG", "val/images/val_1.JPEG", "test/images/test_0.JPEG"]
    for level, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (10 * level,) * 3).save(root / name, quality=95)
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tEuropean fire salamander\nn09\tother\n")
    (root / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    (root / "train/n01/n01_boxes.txt").write_text("n01_0.JPEG\t0\t0\t9\t9\n")
    return root


def test_classes_are_in_the_order_of_their_wnids_with_their_first_word(archive):
    assert build(archive).classes == ("goldfish", "European fire salamander")


def test_each_part_has_its_images_and_labels(archive):
    train, val, test = (build(archive.parent, split=split) for split in ("train", "val", "test"))
    assert train.names == ["train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG", "train/n02/images/n02_0.JPEG"]
    assert train.labels.tolist() == [0, 0, 1] and val.labels.tolist() == [1, 0] and test.labels.tolist() == [-1]
    assert build(archive).names == val.names
    images, readable = train.load([0, 1, 2])
    assert np.abs(images[:, 0, 30, 30].numpy().astype(int) - [10, 20, 0]).max() <= 1 and readable.all()


def test_a_val_folder_that_was_sorted_into_classes_is_read(archive):
    (archive / "val/val_annotations.txt").unlink()
    (archive / "val/n02/images").mkdir(parents=True)
    (archive / "val/images/val_0.JPEG").rename(archive / "val/n02/images/val_0.JPEG")
    (archive / "val/images/val_1.JPEG").unlink()
    assert build(archive).labels.tolist() == [1]


def test_what_is_not_the_archive_is_refused(archive, tmp_path):
    with pytest.raises(UserError, match=r"is not Tiny ImageNet: wnids.txt: No such file"):
        build(archive / "train")
    (archive / "wnids.txt").write_text("n01\n")
    with pytest.raises(UserError, match=r"has the class 'n02', wnids.txt has not"):
        build(archive)
    with pytest.raises(UserError, match=r"dataset tiny-imagenet needs dataset.root=FOLDER"):
        tiny_imagenet.build(root=None, **OPTIONS)
