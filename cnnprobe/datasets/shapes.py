"""Textured shapes on backgrounds with the statistics of natural images: one shape per image, which is the class.

Place, size, turn, colour and texture of the shape say nothing about the class. The background's amplitude falls as
1 / frequency, as in natural scenes (Field 1987).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.targets import BACKGROUND, Target
from cnnprobe.datasets.rendering.drawn import Drawn, sensor_noise, stream
from cnnprobe.datasets.rendering.textures import LEVELS, PATTERNS, TILE, atlas, natural_noise

DRAWING_VERSION = 1
CLASSES = ("disc", "ring", "crescent", "triangle", "square", "star", "cross", "bar")
SPLITS = ("train", "test")
SUBPIXELS = 3
"""A pixel's share of the shape is counted on this many points along each side."""


def build(
    *,
    size: Annotated[int, Range(16, 1024)] | None,
    count: Annotated[int, Range(1, 10_000_000)] | None,
    split: Literal["train", "test"] | None,
    seed: Annotated[int, Range(0)],
    contrast: Annotated[float, Range(0, 1)],
    noise: Annotated[float, Range(0, 1)],
    target: Literal["class", "mask", "classes"] = "class",
) -> "Shapes":
    """Return the dataset.

    Args:
        size: height and width, px; None: 64.
        count: images; None: 4000 to train with, 1000 to test with.
        split: no image is in both; None: test.
        seed: another one, other images.
        contrast: standard deviation of the background's brightness, of a range of 0 to 1.
        noise: standard deviation of the sensor noise, of a range of 0 to 1.
        target: what a network is to answer: the class of the image; for every pixel, whether the shape covers it
            (mask), or which shape does (classes).
    """
    split = split or "test"
    count = count or {"train": 4000, "test": 1000}[split]
    return Shapes(size=size or 64, count=count, split=split, seed=seed, contrast=contrast, noise=noise, target=target)


class Shapes(Drawn):
    """One shape per image; image i has class i modulo 8. See `build` for the arguments."""

    masks_by = "mask"

    def __init__(
        self, *, size: int, count: int, split: str, seed: int, contrast: float, noise: float, target: str = "class"
    ):
        self.of_pixels = {"class": (), "mask": ("shape",), "classes": CLASSES}[target]
        self.split, self.seed, self.contrast, self.noise = split, seed, contrast, noise
        super().__init__(
            version=DRAWING_VERSION,
            options={"size": size, "count": count, "split": split, "seed": seed, "contrast": contrast, "noise": noise},
            side=size,
            name="shapes",
            names=[f"shapes/{split}/{number:06d}" for number in range(count)],
            labels=np.arange(count) % len(CLASSES),
            classes=CLASSES,
        )

    def _stream(self, index: int, purpose: int) -> np.random.Generator:
        return stream(self.seed, SPLITS.index(self.split), index, purpose)

    def _place(self, index: int) -> np.ndarray:
        """Return x, y and radius of the shape in parts of the image's side, and its turn in radians."""
        random = self._stream(index, 0)
        radius = random.uniform(0.13, 0.24)
        return np.array([*random.uniform(radius, 1 - radius, 2), radius, random.uniform(0, 2 * np.pi)])

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1."""
        random = self._stream(index, 1)
        cover = coverage(CLASSES[int(self.labels[index])], self._place(index), self.side)
        image = background(self.side, self.contrast, random)
        image += cover * (texture(self._place(index), self.side, random) - image)
        image += np.float32(self.noise) * sensor_noise(image.shape, random)
        return image.clip(0, 1, out=image)

    @property
    def target(self) -> Target:
        """The class of the image, or of every pixel."""
        return Target("map", (BACKGROUND, *self.of_pixels), self.size[1:]) if self.of_pixels else super().target

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the classes, or draw the maps."""
        if not self.of_pixels:
            return super().targets(indices)
        labels = self.labels[np.asarray(indices, np.int64)] if len(self.of_pixels) > 1 else np.zeros(len(indices))
        maps = [np.uint8(label + 1) * self.truth(int(index))["cue"] for index, label in zip(indices, labels)]
        return torch.from_numpy(np.stack(maps).astype(np.uint8)), np.ones(len(indices), bool)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return what is known about an image.

        Returns:
            cue: (y, x) bool, the pixels that the shape covers by half or more.
            place: (4,) float64: x, y and radius of the circle around the shape, px; its turn, degrees clockwise.
        """
        place = self._place(index)
        cover = coverage(CLASSES[int(self.labels[index])], place, self.side)
        return {"cue": cover >= 0.5, "place": place * [self.side, self.side, self.side, 180 / np.pi]}


def coverage(shape: str, place: np.ndarray, side: int) -> np.ndarray:
    """Return how much of each pixel a shape covers, (y, x) float32 0 to 1."""
    x, y = own_axes(place, side * SUBPIXELS)
    inside = SHAPES[shape](x, y).reshape(side, SUBPIXELS, side, SUBPIXELS)
    return inside.mean(axis=(1, 3), dtype=np.float32)


def own_axes(place: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each point's coordinates (y, x) along the axes of a shape, in its radii."""
    centre_x, centre_y, radius, turn = place
    points = (np.arange(side) + 0.5) / side
    x, y = (points - centre_x) / radius, (points[:, None] - centre_y) / radius
    return np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: between two rays at 36 degrees the outline is a straight line from radius 1 to radius 0.42."""
    sector = np.pi / 5
    angle = np.abs((np.arctan2(y, x) + sector) % (2 * sector) - sector)  # from the nearest point
    inner = 0.42 * np.array([np.cos(sector), np.sin(sector)])
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    return across * (1 - inner[0]) < (1 - along) * inner[1]


SHAPES = {
    "disc": lambda x, y: np.hypot(x, y) < 0.85,
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.55),
    "crescent": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x - 0.5, y) > 0.75),
    "triangle": lambda x, y: (y > -0.5) & (y + np.sqrt(3) * np.abs(x) < 1),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < np.sqrt(0.5),
    "star": _star,
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 0.95),
    "bar": lambda x, y: (np.abs(x) < 0.95) & (np.abs(y) < 0.3),
}
"""Which points (in radii from the centre) a shape covers; each lies within its radius."""


def background(side: int, contrast: float, random: np.random.Generator) -> np.ndarray:
    """Return 1 / f noise around grey, (channel, y, x) float32: mostly brightness, a third as much colour."""
    bright = natural_noise(side, random)
    tint = natural_noise(side, random)
    sway = random.standard_normal(3)
    sway -= sway.mean()
    sway /= max(float(np.abs(sway).max()), 1e-6)
    return (0.5 + contrast * (bright + 0.33 * sway.astype(np.float32)[:, None, None] * tint)).astype(np.float32)


def texture(place: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """Return a pattern in two colours that turns with the shape, (channel, y, x) float32."""
    x, y = own_axes(place, side)
    period = random.uniform(1.0, 2.0)  # radii per tile, which holds four stripes
    level = int(np.clip(np.round(np.log2(TILE / (period * place[2] * side))), 0, LEVELS - 1))
    shift = random.integers(0, TILE, 2)
    row, column = (((axis / period + 64) * TILE + s).astype(np.int32) % TILE for axis, s in zip((y, x), shift))
    value = atlas()[int(random.integers(len(PATTERNS))), level, row, column] / np.float32(255)
    colour = random.uniform(0, 1, (2, 3, 1, 1)).astype(np.float32)
    return colour[0] + value * (colour[1] - colour[0])
