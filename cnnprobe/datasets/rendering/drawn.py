"""Datasets that are drawn: every image is a function of the options and of its own number alone."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnprobe.datasets.base.imageset import ImageSet, sha256
from cnnprobe.errors import UserError


class Drawn(ImageSet):
    """Images made on request. A dataset overrides `draw`, and `truth` where it knows more than the label.

    Args:
        version: of the drawing; raised whenever the same options give other pixels.
        options: everything the pixels, labels and names follow from.
        side: height and width, px.
        channels: of the images.
        others: as in ImageSet.
    """

    def __init__(self, *, version: int, options: dict[str, Any], side: int, channels: int = 3, **others: Any):
        super().__init__(size=(channels, side, side), source_size=(channels, side, side), **others)
        self.version = version
        self.options = options

    @property
    def side(self) -> int:
        """Height and width, px."""
        return self.size[-1]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the name, the version of the drawing and all options; nothing is drawn."""
        pairs = (f"{name}={value!r}" for name, value in sorted(self.options.items()))
        return sha256(self.name, str(self.version), *pairs)

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1."""
        raise NotImplementedError(f"{type(self).__name__} draws nothing")

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Draw images one by one: none of them depends on its batch."""
        images = np.empty((len(indices), *self.size), np.float32)
        for row, index in enumerate(indices):
            images[row] = self.draw(int(index))
        return torch.from_numpy(images), np.ones(len(indices), bool)


def must_differ(option: str, values: Sequence[Any]) -> None:
    """Refuse a list of values in which one is twice: two images would be the same, under one name."""
    if len(set(values)) < len(values):
        raise UserError(f"dataset.{option} must differ from each other, got {list(values)}")


def stream(*keys: int) -> np.random.Generator:
    """Return the random numbers of one image, told apart by keys (seed, split, image, ...), none negative."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(keys)))


def sensor_noise(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Return nearly normal noise, mean 0, standard deviation 1, float32.

    Each value is the sum of four random bytes: three times quicker than normal deviates, and made of raw bits,
    which numpy promises to keep the same in all versions.
    """
    count = int(np.prod(shape))
    bits = random.bit_generator.random_raw((count + 1) // 2)
    quarters = bits.view(np.uint8).reshape(4, -1)[:, :count]
    total = quarters.sum(axis=0, dtype=np.uint16).astype(np.float32)
    total -= 4 * 127.5
    total /= np.float32(np.sqrt(4 * (256**2 - 1) / 12))  # four uniform variables of 256 steps
    return total.reshape(shape)
