"""Images of any shape to the shape a network takes: scale, then crop, in two products."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def resized(images: Tensor, size: Sequence[int], resize: int | None = None) -> Tensor:
    """Scale images so that the shorter side is `resize`, then cut `size` out of the centre.

    Bilinear with a triangle as wide as the reduction (antialiased), as Pillow does, but never rounded
    to whole numbers in between. Both steps are one product per axis: rows that are cut off are not computed.

    Args:
        images: (image, channel, height, width), float 0 to 1 or uint8.
        size: (height, width) wanted, px.
        resize: shorter side before the crop, px; None: as little as covers `size`.

    Returns:
        (image, channel, *size), float32 0 to 1.
    """
    height, width = images.shape[-2:]
    scaled, start = geometry((height, width), size, resize)
    down = _weights(height, scaled[0], start[0], size[0]).to(images.device)
    across = _weights(width, scaled[1], start[1], size[1]).to(images.device)
    return down @ (as_float(images) @ across.T)


def geometry(source: Sequence[int], size: Sequence[int], resize: int | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((height, width) after scaling, (y, x) where the crop starts), px; torchvision's Resize and CenterCrop.

    A `resize` smaller than `size` needs is raised to it: an image is never padded.
    """
    short = min(source)
    target = max(resize or 0, *(-(-wanted * short // side) for side, wanted in zip(source, size)))
    height, width = (target if side == short else target * side // short for side in source)
    return (height, width), (round((height - size[0]) / 2), round((width - size[1]) / 2))


def nearest(source: Sequence[int], size: Sequence[int], resize: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (y,) and columns (x,) of a source image whose px hold the centres of those shown.

    What stands beside an image pixel by pixel is fitted by them as the image is by `resized`, and stays aligned to it.

    Args:
        source, size, resize: see `geometry`.
    """
    scaled, start = geometry(source, size, resize)
    y, x = (
        np.floor((first + np.arange(count) + 0.5) * side / length).astype(np.int64)
        for first, count, side, length in zip(start, size, source, scaled)
    )
    return y, x


@lru_cache(maxsize=64)
def _weights(source: int, scaled: int, start: int, wanted: int) -> Tensor:
    """Return the matrix (wanted, source) that scales an axis to `scaled` px and keeps `wanted` from `start` on."""
    step = source / scaled
    support = max(step, 1.0)  # half the triangle's base, px of the source
    centers = (np.arange(start, start + wanted) + 0.5) * step
    distance = np.abs(np.arange(source) + 0.5 - centers[:, None])  # (wanted, source)
    weights = np.clip(1 - distance / support, 0, None)
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def as_float(images: Tensor) -> Tensor:
    """Return images as float32 0 to 1; uint8 is divided by 255."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()
