"""Square occluders: their places, and what is seen instead of the image.

An occluder shows a *filling image* through a square hole: noise, the mean colour, zero, or the image itself blurred.
So every occluded image is the image outside the square and the filling inside, at the same pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnprobe.errors import UserError

BLUR = 0.05
"""Standard deviation of the blur as a share of the image's shorter side."""


@dataclass(frozen=True)
class Grid:
    """The places of a square occluder, row by row from the upper left corner; it never leaves the image.

    Args:
        sides: (y, x) of the image, px.
        patch: side of the occluder, px.
        stride: step between two places, px; larger than the image: one place.

    Raises:
        UserError: the occluder is larger than the image, or a size below 1.

    Example:
        Grid((224, 224), 11, 3).shape is (72, 72): 5184 places.
    """

    sides: tuple[int, int]
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= min(self.sides):
            raise UserError(f"patch_size must be from 1 to {min(self.sides)} (the image's side), got {self.patch}")
        if self.stride < 1:
            raise UserError(f"stride must be at least 1, got {self.stride}")

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many (rows, columns) of places there are."""
        rows, columns = ((side - self.patch) // self.stride + 1 for side in self.sides)
        return rows, columns

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first pixel of each row and of each column of places, int64."""
        rows, columns = (np.arange(count, dtype=np.int64) * self.stride for count in self.shape)
        return rows, columns


def grid_of(sides: tuple[int, int], patch_size: int | None = None, stride: int | None = None) -> Grid:
    """Return the places of the occluder: 11 px every 3 px in an image of 224 px, in proportion in others."""
    patch = patch_size or max(1, round(11 / 224 * min(sides)))
    y, x = sides
    return Grid((y, x), patch, stride or max(1, round(patch * 3 / 11)))


def fillings(kind: str, image: Tensor, draws: int, mean: Tensor, sd: Tensor, seed: int) -> Tensor:
    """Return what is seen through the occluder.

    Args:
        kind: "noise" (each pixel and channel normal with the dataset's mean and sd, not clipped, the same for every
            image), "mean", "zero" or "blur" (Gaussian, see `BLUR`: the filling that makes the weakest edges).
        image: (channel, y, x), 0 to 1.
        draws: of noise; the other kinds have one.
        mean, sd: (channel,) of the pixels of the dataset.
        seed: of the noise; draw n is the same whatever `draws` is.

    Returns:
        (draw, channel, y, x), where and in the type the image is.
    """
    if kind == "zero":
        return torch.zeros_like(image)[None]
    if kind == "mean":
        return mean.to(image)[:, None, None].expand_as(image)[None]
    if kind == "blur":
        return blurred(image, BLUR * min(image.shape[1:]))[None]
    if kind != "noise":
        raise ValueError(f"filling must be noise, mean, zero or blur, got {kind!r}")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randn(image.shape, generator=generator) for _ in range(draws)]).to(image)
    return drawn * sd.to(image)[:, None, None] + mean.to(image)[:, None, None]


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return (channel, y, x) under a Gaussian of `sigma` px, mirrored at the border."""
    for axis in (1, 2):
        length = image.shape[axis]
        reach = min(int(np.ceil(3 * sigma)), length - 1)
        steps = torch.arange(-reach, reach + 1)
        weight = torch.exp(-0.5 * (steps / max(sigma, 1e-6)) ** 2).to(image)
        places = torch.arange(length)[:, None] + steps  # (place, step)
        places = places.abs()
        places = (length - 1 - (length - 1 - places).abs()).to(image.device)
        taken = image.index_select(axis, places.reshape(-1)).unflatten(axis, places.shape)
        image = (taken.movedim(axis + 1, -1) * (weight / weight.sum())).sum(-1)
    return image
