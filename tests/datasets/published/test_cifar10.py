import gzip
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from cnnprobe.datasets.published import cifar10
from cnnprobe.datasets.published.cifar10 import CLASSES
from cnnprobe.errors import UserError
from cnnprobe.store.containers import stored
from tests.support.faults.hostile import noise
from tests.support.images.real_data import needs_real_data, unpack

OPTIONS = {"split": None, "size": None, "resize": None, "download": False, "strict": False}
PIXELS = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
LABELS = [3, 0, 9, 3]


def build(root, **options):
    return cifar10.build(root=str(root), **OPTIONS | options)


def python_batch(protocol=2):
    names = [f"thing_{i}.png" for i in range(4)]
    batch = {"batch_label": "1", "labels": LABELS, "data": PIXELS.reshape(4, -1), "filenames": names}
    return pickle.dumps(batch, protocol=protocol)


def binary_batch():
    return b"".join(bytes([label]) + pixels.tobytes() for label, pixels in zip(LABELS, PIXELS))


def pack(path, members):
    """Write a tar of (name, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def check(dataset):
    images, readable = dataset.load([0, 1, 2, 3])
    assert np.array_equal(images, PIXELS) and images.dtype == torch.uint8 and readable.all()
    assert dataset.labels.tolist() == LABELS and dataset.classes == CLASSES
    assert dataset.source_size == dataset.size == (3, 32, 32) and dataset.in_memory


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_python_version_is_read(tmp_path, protocol):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(python_batch(protocol))
    check(build(tmp_path))
    check(build(tmp_path / "cifar-10-batches-py", split="test"))
    assert build(tmp_path).names[:2] == ["test/cat/thing_0.png", "test/airplane/thing_1.png"]


def test_the_binary_version_is_read_and_batches_follow_each_other(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(binary_batch())
    check(build(tmp_path))
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(bytes([i]) + bytes(3072))
    train = build(tmp_path, split="train")
    assert train.labels.tolist() == [1, 2, 3, 4, 5] and len(set(train.names)) == 5


def test_packed_archives_are_read_without_extracting(tmp_path):
    """F45: members outside the folder and links are never written nor followed."""
    members = [("../escaped", b"x"), ("cifar-10-batches-py/test_batch", python_batch())]
    pack(tmp_path / "cifar-10-python.tar.gz", members)
    check(build(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]
    assert not (tmp_path.parent / "escaped").exists()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes((tmp_path / "cifar-10-python.tar.gz").read_bytes()[:400])
    with pytest.raises(UserError, match="is cut off or no archive"):
        build(tmp_path)


def header(kind: bytes, size: int) -> bytes:
    """Return what begins a member of a tar, of a kind ("x": more about the next one), with what it says of its size."""
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


HOSTILE = {
    "more": (header(b"x", 2**23) + bytes(2**23), "the headers in it take more than 4 MB"),
    "a long name": (header(b"L", 2**23) + bytes(2**23), "the headers in it take more than 4 MB"),
    "much": (header(b"0", 2**23) + bytes(2**23), "a member of it would begin at byte 8389119"),
    "back": (header(b"0", -2048), "a member of it would begin at byte -1537"),
    "in each other": (header(b"x", 0) * 2000, ".*recursion.*"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_stranger_s_archive_takes_no_more_than_its_bytes_stand_for(tmp_path, kind, monkeypatch):
    """F102."""
    monkeypatch.setattr(stored, "FLOOR", 2**20)
    content, words = HOSTILE[kind]
    with gzip.open(tmp_path / "cifar-10-python.tar.gz", "wb") as file:
        file.write(content + bytes(1024))
    with pytest.raises(UserError, match=rf"cifar-10-python.tar.gz is cut off or no archive \({words}\)"):
        build(tmp_path)


def test_an_archive_that_a_browser_has_unzipped_is_read(tmp_path):
    pack(tmp_path / "packed", [("cifar-10-batches-py/readme.html", b"x" * 5000), ("test_batch", python_batch())])
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.decompress((tmp_path / "packed").read_bytes()))
    check(build(tmp_path))


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Evil()), pickle.dumps({"data": Evil()}), b"", b"text", python_batch()[:500], binary_batch()],
)
def test_a_stranger_s_pickle_runs_nothing(tmp_path, monkeypatch, content):
    """F45."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match="test_batch is damaged or no batch of CIFAR-10"):
        build(tmp_path)
    assert not (tmp_path / "PWNED").exists()


def with_names(steps: bytes) -> bytes:
    """Return a batch of one image that has as its filenames what some steps make."""
    head = pickle.dumps({"labels": [3], "data": PIXELS[:1].reshape(1, -1)}, protocol=2)[:-1]
    return head + b"X\x09\0\0\0filenames" + steps + b"s."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02K\x01r\x80\xd1\xf0\x08.", "it keeps place for 150000000 values that are named, after 3 steps"),
        (b"\x80\x02})" + b"\x85" * 2000 + b"K\x01s.", "it holds things more than 1000 deep in each other"),
        (with_names(b"]]a"), "its filenames are no texts"),
    ],
)
def test_a_stranger_s_pickle_takes_no_more_than_its_bytes_stand_for(tmp_path, content, words):
    """F102."""
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=rf"test_batch is damaged or no batch of CIFAR-10 \({words}\)"):
        build(tmp_path)
    (tmp_path / "test_batch").write_bytes(with_names(b"]X\x05\0\0\0a.pnga"))
    assert build(tmp_path).names == ["test/cat/a.png"]


def test_class_folders_are_decoded_and_unreadable_images_keep_their_row(tmp_path):
    for name in CLASSES:
        (tmp_path / "train" / name).mkdir(parents=True)
    Image.fromarray(noise(32, 32)).save(tmp_path / "train" / "frog" / "0.png")
    (tmp_path / "train" / "bird" / "0.png").write_bytes(b"")
    dataset = build(tmp_path, split="train")
    images, readable = dataset.load([0, 1])
    assert dataset.names == ["train/bird/0.png", "train/frog/0.png"] and dataset.labels.tolist() == [2, 6]
    assert readable.tolist() == [False, True] and np.array_equal(images[1].permute(1, 2, 0), noise(32, 32))
    assert dataset.problems == {"train/bird/0.png": "empty file"} and not images[0].any()
    with pytest.raises(UserError, match=r"train/bird/0.png cannot be read"):
        build(tmp_path, split="train", strict=True)
    (tmp_path / "train" / "zebra").mkdir()
    with pytest.raises(UserError, match="is not CIFAR-10: class folders airplane"):
        build(tmp_path, split="train")


def test_images_are_scaled_to_the_network_s_size(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(binary_batch())
    images, _ = build(tmp_path, size=64).load([2])
    expected = torch.nn.functional.interpolate(torch.from_numpy(PIXELS[2:3]) / 255, (64, 64), mode="bilinear")
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)


def test_the_fingerprint_follows_the_pixels(tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(binary_batch())
    first = build(tmp_path).fingerprint
    assert build(tmp_path, size=64).fingerprint == first
    (tmp_path / "test_batch.bin").write_bytes(binary_batch()[:-1] + b"\0")
    assert build(tmp_path).fingerprint != first


def test_a_folder_without_it_says_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no test_batch of CIFAR-10 in .*dataset.download=true fetches it"):
        build(tmp_path)


def test_without_a_network_the_download_ends_in_one_line(tmp_path, monkeypatch):
    from urllib.error import URLError

    def unreachable(*ignored, **also):
        raise URLError("no route to host")

    pytest.importorskip("torchvision")
    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", unreachable)
    with pytest.raises(UserError, match=r"no network to fetch CIFAR-10 \(.*no route to host.*\); put cifar-10-python"):
        build(tmp_path / "new", download=True)


@needs_real_data
def test_the_real_test_set_has_a_thousand_images_of_each_class(tmp_path):
    unpack("cifar10.tar.gz", tmp_path, lambda name: "/test/" in name, most=10_000)
    dataset = build(tmp_path / "cifar10")
    assert np.bincount(dataset.labels).tolist() == [1000] * 10
    mean = dataset.load(range(0, 10000, 7))[0].float().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.494, 0.485, 0.450]), atol=0.01, rtol=0)  # of the original pixels
