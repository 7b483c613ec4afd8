"""Images handed over as one array, as Python's users have them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.imageset import ImageSet, sha256
from cnnprobe.datasets.base.value_ranges import MEASURED, must_survive_rounding, whole_of
from cnnprobe.errors import UserError


class Given(ImageSet):
    """Images handed over as one array. One that holds NaN or infinite values cannot be read.

    Args:
        images: (image, channel, y, x), float 0 to 1 or uint8.
    """

    in_memory = True

    def __init__(self, images: Tensor):
        self.images = images
        size = tuple(images.shape[1:])
        names = [f"{number:06d}" for number in range(len(images))]
        super().__init__(name="given", names=names, labels=[-1] * len(images), size=size, source_size=size)

    def fingerprint_of(self, indices: Iterable[int]) -> str:
        """sha256 (hex) of the values."""
        return sha256("given", str(self.size), self.images[list(indices)].contiguous().numpy().tobytes())

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Pick images."""
        indices = np.asarray(indices, dtype=np.int64)
        images = self.images[torch.from_numpy(indices)]
        bad = (~images.isfinite()).flatten(1).sum(1).numpy()
        for place in np.flatnonzero(bad):
            self.unreadable(int(indices[place]), f"{bad[place]} values are not finite")
            images[place] = 0
        return images, bad == 0


def given_images(images: Any) -> ImageSet:
    """Return an image set: itself, or one made from an array or tensor (image, channel, y, x).

    Images of integers up to 255 or 65535 are divided by these, with a warning unless they are bytes; floats are taken
    as they are, with a warning where they are beyond 0 to 1.

    Raises:
        UserError: it is neither, or its values are no plain numbers.
    """
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, np.ndarray | Tensor) and images.ndim in (3, 4):
        return Given(_plain(images))
    raise UserError(
        "dataset must be an image set, such as cnnprobe.datasets.shapes.build(...), or an array "
        f"(image, channel, y, x), got {type(images).__name__}"
    )


def _plain(images: np.ndarray | Tensor) -> Tensor:
    """Return images as a tensor of bytes or of float32, 0 to 1, whatever type, order of bytes and strides they have."""
    if isinstance(images, Tensor):
        images = images.detach().cpu().resolve_conj().resolve_neg()
        images = (images.float() if images.is_floating_point() and images.itemsize < 4 else images).numpy()
    if images.dtype.kind not in "iufb":
        raise UserError(f"dataset must be an array of plain numbers, got {images.dtype}")
    if images.dtype == np.longdouble:
        images = images.astype(np.float64)
    images = np.ascontiguousarray(images, dtype=images.dtype.newbyteorder("="))
    if not np.can_cast(images.dtype, np.float32):
        some = np.unique(np.linspace(0, len(images) - 1, MEASURED).astype(int)) if len(images) else ()
        must_survive_rounding((images[index].astype(np.float64) for index in some), "dataset")
    if images.ndim == 4 and images.size:  # signals (recording, channel, time) have any range
        low, high = float(images.min()), float(images.max())
        if not np.isfinite([low, high]).all():  # rare: it takes as long as several passes over all
            known = images[np.isfinite(images)]
            low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        otherwise = "floats are taken as they are"
        whole = whole_of(images.dtype, low, high, "dataset", otherwise, floats=False)
        if images.dtype != np.uint8 or whole == 1:
            images = images.astype(np.float32, copy=False)
            images = images / np.float32(whole) if whole != 1 else images
    return torch.from_numpy(images if images.dtype == np.uint8 else images.astype(np.float32, copy=False))
