"""The image set that every dataset is: images in sequence at one size, with labels and names, loaded in batches."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.fitting import as_float, resized
from cnnprobe.datasets.base.names import Names
from cnnprobe.datasets.base.targets import Present, Target
from cnnprobe.datasets.base.varied import Varied
from cnnprobe.errors import UserError, escaped

log = logging.getLogger("cnnprobe")


class ImageSet:
    """Images as they enter a network. A dataset overrides `load`, or `load_source` where all images share a size.

    Args:
        name: the dataset's name, e.g. "avatar".
        names: one per image, unique, as stored.
        labels: (image,) index of the class, -1 where unknown.
        classes: name of each class; () where unlabelled.
        size: (channel, height, width) as an image enters the network; (channel, time) of signals.
        resize: the shorter side before the centre crop, px; None: no more is cut off than the shape demands.
        source_size: (channel, height, width) before fitting, where all images share it.
        strict: an image that cannot be read ends the run instead of being skipped.
    """

    in_memory = False
    """Loading only picks images that are there already; loader processes would not help."""
    at_any_size = False
    """Its fingerprint is the same whatever the size at which its images enter a network."""
    rate: float | None = None
    """Of signals: samples per second, where that is known."""
    channel_names: list[str] | None = None
    """Of signals: names of the channels, where they are known."""
    sample: str = ""
    """Which part of a larger set it is, in words; "" for the whole."""
    present: Present | None = None
    """Which of its classes each image has, where that is what a network is to answer."""
    varied: Varied | None = None
    """What differs from image to image, where it is known as numbers."""
    root: Path | None = None
    """The folder in which its names are paths; None where they are none."""
    masks_by: str = ""
    """The word of its option `target` that gives a class for every pixel; "" where it has no such maps."""
    planted: tuple[tuple[int, int, float], ...] = ()
    """Of signals that were made: class, channel and frequency (Hz) of what was put into them."""

    def __init__(
        self,
        *,
        name: str,
        names: Sequence[str],
        labels: Iterable[int],
        classes: Iterable[str] = (),
        size: tuple[int, ...],
        resize: int | None = None,
        source_size: tuple[int, ...] | None = None,
        strict: bool = False,
    ):
        self.name = name
        self.names = names if isinstance(names, Names) else list(names)
        self.labels = np.asarray(labels, dtype=np.int64).reshape(-1)
        self.classes = tuple(classes)
        self.size = tuple(size)
        self.resize = resize
        self.source_size = source_size
        self.strict = strict
        self.problems: dict[str, str] = {}  # image's name -> why it cannot be read, as far as was seen
        self.remarks: dict[str, str] = {}  # kind of remark -> the first one of this kind
        self.reported: set[str] = set()  # names and kinds that the user was told of
        self.about: dict[str, str | float] = {}  # what else was read or assumed, stored with the stimuli
        if len(self.names) != len(self.labels):
            raise ValueError(f"{len(self.names)} names but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def target(self) -> Target:
        """What a network is to answer: the class of each image, unless the dataset gives something else."""
        return Target("class" if self.present is None else "present", self.classes)

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return what a network is to answer for images, as `target` says.

        Returns:
            targets: one per image, see `targets.Target`; of a map at the size at which the image enters.
            known: (image,) bool; the other rows mean nothing, and `problems` says why.
        """
        chosen, known = np.asarray(indices, np.int64), np.ones(len(indices), bool)
        return torch.from_numpy(self.labels[chosen]) if self.present is None else self.present.of(chosen), known

    def targets_digest(self) -> str | None:
        """Return the sha256 (hex) of the targets, where neither labels nor options of the dataset tell them."""
        return None if self.present is None else self.present.digest()

    def objects_digest(self) -> str | None:
        """Return the sha256 (hex) of where objects are in the images; None where that is not known."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) that changes when any image, its name, or their order changes."""
        return self.fingerprint_of(range(len(self)))

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of a part of the images, by default from the fingerprint of the whole."""
        return sha256(self.fingerprint, *(str(int(index)) for index in indices))

    def checksums_of(self, indices: Iterable[int]) -> np.ndarray | None:
        """Return (image,) uint32 that tell which image changed; None where images are no files of their own."""
        return None

    def load(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return images at `size`.

        Returns:
            images: (image, channel, height, width), float32 0 to 1 or uint8 0 to 255.
            readable: (image,) bool; the other rows are 0, and `problems` says why.

        Raises:
            UserError: `strict`, and an image cannot be read.
        """
        images, readable = self.load_source(indices)
        return self.fit(images), readable

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return images before fitting, as `load` does; only where `source_size` is not None."""
        raise NotImplementedError(f"the images of {self.name} do not share one size")

    def original(self, index: int) -> Tensor | None:
        """Return one image before fitting, (channel, height, width), or None where it cannot be read."""
        images, readable = self.load_source([index])
        return images[0] if readable[0] else None

    def original_size(self, index: int) -> tuple[int, int] | None:
        """Return (height, width) of one image before fitting, or None where it cannot be read."""
        if self.source_size is None:
            return None
        height, width = self.source_size[-2:]
        return height, width

    def fit(self, images: Tensor) -> Tensor:
        """Scale and crop images to `size`: antialiased bilinear, shorter side to `resize`, centre crop.

        Args:
            images: (image, channel, height, width), float 0 to 1 or uint8; on any device.

        Returns:
            The same tensor where it fits already, else float32 0 to 1.
        """
        if tuple(images.shape[-2:]) == self.size[-2:]:
            return images
        return resized(images, self.size[-2:], self.resize)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return what is known about an image apart from its label, by name; {} unless it was drawn by us."""
        return {}

    def part(self, indices: Sequence[int] | np.ndarray) -> "Part":
        """Return some of the images, in a given order, as a set of their own."""
        return Part(self, indices)

    def unreadable(self, index: int, reason: str) -> None:
        """Note that an image cannot be read.

        Raises:
            UserError: `strict`.
        """
        if self.strict:
            raise UserError(f"{shown(self.names[index])} cannot be read ({reason}); dataset.strict=false skips it")
        self.problems[self.names[index]] = reason

    def report(self, problems: dict[str, str], remarks: dict[str, str]) -> None:
        """Warn of images that cannot be read and of other remarks, of each once.

        Args:
            problems: reason by image's name, as in `problems`; perhaps from a loader process.
            remarks: as in `remarks`.
        """
        for name in [name for name in problems if name not in self.reported]:
            log.warning("%s: skipped (%s)", shown(name), shown(problems[name]), extra={"skipped": name})
        for kind in [kind for kind in remarks if kind not in self.reported]:
            log.warning("%s", remarks[kind])
        self.problems |= problems
        self.reported |= problems.keys() | remarks.keys()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, (channel, height, width) float32 0 to 1, and its label."""
        index = range(len(self))[index]
        images, readable = self.load([index])
        if not readable[0]:
            name = self.names[index]
            raise UserError(f"{shown(name)} cannot be read ({self.problems.get(name, 'unreadable')})")
        return as_float(images)[0], int(self.labels[index])


def tell_once(sets: Iterable[ImageSet | None]) -> None:
    """Let sets of images below the same folder warn of a file once, whichever of them shows it."""
    told: dict[Path, set[str]] = {}
    for one in sets:
        if one is not None and one.root is not None:
            told.setdefault(one.root, set()).update(one.reported)
            one.reported = told[one.root]


class Part(ImageSet):
    """Some images of another set, in a given order."""

    def __init__(self, whole: ImageSet, indices: Sequence[int] | np.ndarray):
        self.whole = whole
        self.indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        super().__init__(
            name=whole.name,
            names=[whole.names[i] for i in self.indices],
            labels=whole.labels[self.indices],
            classes=whole.classes,
            size=whole.size,
            resize=whole.resize,
            source_size=whole.source_size,
            strict=whole.strict,
        )
        self.in_memory, self.rate, self.planted = whole.in_memory, whole.rate, whole.planted
        self.at_any_size, self.root, self.masks_by = whole.at_any_size, whole.root, whole.masks_by
        self.about, self.channel_names = whole.about, whole.channel_names
        self.varied = None if whole.varied is None else whole.varied.part(self.indices)
        self.problems, self.remarks, self.reported = whole.problems, whole.remarks, whole.reported

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of some of these images."""
        return self.whole.fingerprint_of(self.indices[list(indices)])

    @property
    def target(self) -> Target:
        """That of the whole."""
        return self.whole.target

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Those of the whole."""
        return self.whole.targets(self.indices[np.asarray(indices)])

    def targets_digest(self) -> str | None:
        """That of the whole, with which images these are."""
        whole = self.whole.targets_digest()
        return None if whole is None else sha256(whole, str(self.indices.tolist()))

    def objects_digest(self) -> str | None:
        """Return that of the whole."""
        return self.whole.objects_digest()

    def checksums_of(self, indices: Iterable[int]) -> np.ndarray | None:
        """Those of the whole."""
        return self.whole.checksums_of(self.indices[list(indices)])

    def load(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Load from the whole."""
        return self.whole.load(self.indices[np.asarray(indices)])

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Load from the whole, before fitting."""
        return self.whole.load_source(self.indices[np.asarray(indices)])

    def original(self, index: int) -> Tensor | None:
        """One image before fitting."""
        return self.whole.original(int(self.indices[index]))

    def original_size(self, index: int) -> tuple[int, int] | None:
        """(height, width) of one image before fitting."""
        return self.whole.original_size(int(self.indices[index]))

    def fit(self, images: Tensor) -> Tensor:
        """Scale and crop as the whole does."""
        return self.whole.fit(images)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """What the whole knows about an image."""
        return self.whole.truth(int(self.indices[index]))


def limited(dataset: ImageSet, limit: int | str | None, seed: int = 0) -> ImageSet:
    """Return a part of a dataset, in its order; all of it where it has no more images than that.

    Args:
        dataset: any.
        limit: how many images, the same share of each class, see `even_share`; "first:n": the first n; None: all.
        seed: of the shares.
    """
    first = isinstance(limit, str)
    count = None if limit is None else int(str(limit).removeprefix("first:"))
    if count is None or count >= len(dataset):
        return dataset
    part = Part(dataset, np.arange(count) if first else even_share(dataset.labels, count, seed))
    classes = len(np.unique(dataset.labels[dataset.labels >= 0]))
    there = len(np.unique(part.labels[part.labels >= 0]))
    of = f", {there} of {classes} classes" if classes > 1 else ""
    how = f"the first {count}" if first else f"{count} drawn in proportion to the classes (seed {seed})"
    part.sample = f"{how} of {len(dataset)}{of}"
    return part


def even_share(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw images so that every class gives the same share of its own, and at least one where that can be.

    The shares are rounded to whole images, those with the largest remainders upwards; which of equal ones, and which
    images of a class, is drawn by the seed. Images without a class (-1) are as one more.

    Args:
        labels: (image,) index of the class.
        count: how many, at most all.
        seed: another one, other images.

    Returns:
        (count,) indices, rising.
    """
    groups, sizes = np.unique(labels, return_counts=True)
    exact = count * sizes / len(labels)
    taken = np.floor(exact).astype(np.int64)
    if count >= len(groups):
        taken = np.maximum(taken, 1)
    ties = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 2, 0])).permutation(len(groups))
    while taken.sum() != count:
        step = 1 if taken.sum() < count else -1
        may = taken < sizes if step > 0 else taken > 1
        wanted = np.where(may, step * (exact - taken), -np.inf)
        taken[np.lexsort((ties, wanted))[-1]] += step
    chosen = []
    for label, some in zip(groups, taken):
        random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 3, int(label) + 1]))
        chosen.append(random.permutation(np.flatnonzero(labels == label))[:some])
    return np.sort(np.concatenate(chosen))


def sha256(*parts: str | bytes) -> str:
    """Return the sha256 (hex) of several parts, each with its length, so that no two lists look alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def shown(name: str) -> str:
    """Return a name as one printable line: control characters and broken bytes are escaped."""
    return escaped(name)
