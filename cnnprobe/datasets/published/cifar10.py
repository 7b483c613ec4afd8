"""CIFAR-10 (Krizhevsky 2009): 60,000 photographs of ten kinds of things, 32 x 32 px, held in memory."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.decoding import decode_all
from cnnprobe.datasets.base.image_files import none_in, stored
from cnnprobe.datasets.base.imageset import ImageSet, sha256
from cnnprobe.datasets.base.listing import folder_at, listed
from cnnprobe.errors import UserError, listing, printable
from cnnprobe.store.containers.pickle_steps import look_through
from cnnprobe.store.containers.stored import is_affordable

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32  # px
ROW = 3 * SIDE * SIDE  # bytes of one image, channel by channel
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
LARGEST_BATCH = 64 * 2**20  # bytes; the real ones have 31 MB
HEADERS = 2**22  # bytes that the headers of an archive may take, which tarfile keeps; the real ones have 5 kB
ARCHIVES = ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-batches-bin", "cifar-10-binary.tar.gz")


def build(
    *,
    root: str | None,
    split: Literal["train", "val", "test"] | None,
    size: Annotated[int, Range(1)] | None,
    resize: Annotated[int, Range(1)] | None,
    download: bool,
    strict: bool,
) -> ImageSet:
    """Read one part of CIFAR-10 into memory, from whichever form of it lies in `root`.

    Forms: class folders `train/<class>/*` and `test/<class>/*`; the official archive, packed or
    unpacked, in its Python or its binary version. Nothing of the archive is executed or extracted.

    Args:
        root: the folder.
        split: train (50,000 images) or test (10,000; also for val and None).
        size: side of the images as they enter the network, px; None: 32.
        resize: shorter side before the centre crop, px.
        download: fetch the official archive where `root` holds none.
        strict: an image that cannot be read ends the run.

    Raises:
        UserError: `root` holds no CIFAR-10, or it cannot be fetched.
    """
    part = "train" if split == "train" else "test"
    folder = folder_at(root, "cifar10", make=download)
    if (folder / part).is_dir():
        return _from_folders(folder, part, size=size, resize=resize, strict=strict)
    if download and not any((folder / name).exists() for name in ARCHIVES):
        _fetch(folder)
    pixels, labels, names = zip(*_batches(folder, part))
    images = torch.from_numpy(np.concatenate(pixels).reshape(-1, 3, SIDE, SIDE))
    everything = np.ones(len(images), dtype=bool)
    return Cifar10(part, list(chain(*names)), np.concatenate(labels), images, everything, size=size, resize=resize)


class Cifar10(ImageSet):
    """One part of CIFAR-10.

    Args:
        split: "train" or "test".
        names: one per image.
        labels: (image,) index of the class.
        images: (image, channel, y, x) uint8, 32 px.
        readable: (image,) bool.
        size: side as they enter the network, px, or None for 32.
        resize: shorter side before the crop, px, or None.
        strict: an image that cannot be read ends the run.
    """

    in_memory = True
    at_any_size = True

    def __init__(
        self,
        split: str,
        names: list[str],
        labels: np.ndarray,
        images: Tensor,
        readable: np.ndarray,
        *,
        size: int | None,
        resize: int | None,
        strict: bool = False,
    ):
        super().__init__(
            name="cifar10",
            names=names,
            labels=labels,
            classes=CLASSES,
            size=(3, size or SIDE, size or SIDE),
            resize=resize,
            source_size=(3, SIDE, SIDE),
            strict=strict,
        )
        self.split = split
        self.images = images
        self.readable = readable

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Pick images, uint8."""
        rows = np.asarray(indices, dtype=np.int64)
        return self.images[torch.from_numpy(rows)], self.readable[rows]

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of pixels, labels and names."""
        rows = np.asarray(list(indices), dtype=np.int64)
        pixels = self.images[torch.from_numpy(rows)].numpy()
        return sha256("cifar10", pixels.tobytes(), self.labels[rows].tobytes(), *(self.names[i] for i in rows))


def _from_folders(root: Path, part: str, *, size: int | None, resize: int | None, strict: bool) -> Cifar10:
    """Read the images of `root/part/<class>/*`.

    Raises:
        UserError: the class folders are not the ten of CIFAR-10, or no image can be read.
    """
    found = listed(root / part)
    folders = [name for name in found.folders if "/" not in name]
    if set(folders) != set(CLASSES):
        raise UserError(
            f"{root / part} is not CIFAR-10: class folders {listing(folders)}; expected {', '.join(CLASSES)}"
            + "".join(f"; {note}" for note in found.notes[:2])
        )
    files = [name for name in found.once() if "/" in name]
    images, reasons = decode_all([root / part / name for name in files], (SIDE, SIDE))
    if len(reasons) == len(files):
        raise none_in(root / part, files)
    readable = np.ones(len(files), dtype=bool)
    readable[list(reasons)] = False
    labels = np.array([CLASSES.index(name.split("/")[0]) for name in files])
    names = [stored(f"{part}/{name}") for name in files]
    held = Cifar10(part, names, labels, torch.from_numpy(images), readable, size=size, resize=resize, strict=strict)
    for index, reason in reasons.items():
        held.unreadable(index, reason)
    return held


def _batches(root: Path, part: str) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Give pixels (image, 3072), labels and names of each file of the official archive.

    Raises:
        UserError: there is none, or a file of it is damaged.
    """
    read = _members(root)
    for name in BATCHES[part]:
        for ending, parse in (("", _python_batch), (".bin", _binary_batch)):
            data = read(name + ending)
            if data is None:
                continue
            try:
                yield parse(data, part, name)
            except Exception as error:  # whatever reading a stranger's pickle raises
                raise UserError(
                    f"{root}: {name}{ending} is damaged or no batch of CIFAR-10 ({printable(error, 100)})"
                ) from None
            break
        else:
            forms = f"{part}/<class>/*, {', '.join(ARCHIVES)}"
            raise UserError(f"no {name} of CIFAR-10 in {root}; looked for {forms}; dataset.download=true fetches it")


def _members(root: Path) -> Callable[[str], bytes | None]:
    """Return a function that reads one file of the archive by its name, None where there is no such file."""
    places = [root, *(root / name for name in ARCHIVES if (root / name).is_dir())]

    def read(name: str) -> bytes | None:
        for place in places:
            path = place / name
            if path.is_file() and path.stat().st_size <= LARGEST_BATCH:
                return path.read_bytes()
        for archive in (root / name for name in ARCHIVES):
            if archive.is_file() and (data := _from_archive(archive, name)) is not None:
                return data
        return None

    return read


def _from_archive(archive: Path, name: str) -> bytes | None:
    """Read one regular member of a packed archive; nothing is extracted, so no member's path matters."""
    try:
        with archive.open("rb") as file:
            zipped = file.peek(2).startswith(b"\x1f\x8b")
            source = _Forward(gzip.GzipFile(fileobj=file) if zipped else file, archive.stat().st_size)
            with tarfile.open(fileobj=source, mode="r:") as packed:  # type: ignore[call-overload]  # nothing is written
                for member in packed:
                    if member.isreg() and Path(member.name).name == name and member.size <= LARGEST_BATCH:
                        source.left = LARGEST_BATCH
                        return packed.extractfile(member).read()
    except Exception as error:  # whatever reading a stranger's archive raises
        raise UserError(f"{archive} is cut off or no archive ({printable(error, 100)})") from None
    return None


class _Forward:
    """An archive as tarfile reads it: never back, not much at a time, nor beyond what its bytes can stand for.

    Args:
        file: the archive, unpacked.
        size: bytes of the archive as it lies there.
    """

    def __init__(self, file: gzip.GzipFile | io.BufferedReader, size: int):
        self.file, self.size, self.left = file, size, HEADERS

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, place: int) -> int:
        if place < self.file.tell() or not is_affordable(place, self.size):
            raise OSError(f"a member of it would begin at byte {place}")
        return self.file.seek(place)

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise OSError(f"the headers in it take more than {HEADERS >> 20} MB")
        return self.file.read(size)


def _binary_batch(data: bytes, part: str, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Split rows of one byte label and 3072 bytes pixels."""
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, 1 + ROW)
    return _checked(rows[:, 1:], rows[:, 0], [f"{part}/{name}/{i:05d}" for i in range(len(rows))])


def _python_batch(data: bytes, part: str, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a pickled batch without running anything it names, or building more than its bytes stand for."""
    look_through(data)
    batch = _Plain(io.BytesIO(data), encoding="latin1").load()
    array = batch["data"]
    pixels = np.frombuffer(array.raw, dtype=np.uint8).reshape(-1, ROW)
    if not all(isinstance(file, str) for file in batch["filenames"]):
        raise TypeError("its filenames are no texts")
    names = [f"{part}/{CLASSES[label]}/{file}" for label, file in zip(batch["labels"], batch["filenames"], strict=True)]
    return _checked(pixels, np.asarray(batch["labels"]), names)


def _checked(pixels: np.ndarray, labels: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    if len(pixels) != len(labels) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{len(pixels)} images, {len(labels)} labels from {labels.min()} to {labels.max()}")
    return pixels, labels.astype(np.int64), names


class _Plain(pickle.Unpickler):
    """Reads plain values; in place of a NumPy array it keeps the bytes, and it knows no other type."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype"):
            return _Array
        if (module, name) == ("_codecs", "encode"):  # how Python 3 pickles bytes for Python 2
            return _encoded
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Array:
    """Stands in for NumPy's array and dtype: remembers the raw bytes."""

    raw = b""

    def __init__(self, *ignored: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        raw = state[-1]
        self.raw = raw.encode("latin1") if isinstance(raw, str) else raw


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


def _fetch(root: Path) -> None:
    """Fetch the official archive with torchvision, which checks its sum.

    Raises:
        UserError: it cannot be reached.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    try:
        download_url(CIFAR10.url, str(root), CIFAR10.filename, CIFAR10.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise UserError(f"no network to fetch CIFAR-10 ({error}); put {CIFAR10.filename} into {root}") from None
