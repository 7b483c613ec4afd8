"""White shapes on black in known poses: shifted, scaled, turned and sheared; one of them per image, or two.

What a capsule is to tell apart (Sabour, Frosst, Hinton 2017): which shape it is, and how it lies. How much of a pixel
a shape covers is counted on 3 x 3 points. `grid` shows each shape in one pose after the other, one factor at a time.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.targets import Target
from cnnprobe.datasets.base.varied import Varied
from cnnprobe.datasets.rendering.drawn import Drawn, sensor_noise, stream
from cnnprobe.datasets.shapes import CLASSES, SHAPES, SPLITS, SUBPIXELS
from cnnprobe.errors import UserError

DRAWING_VERSION = 1
RADIUS = 0.25
"""Of a shape that is not scaled, in parts of the image's side: 7 px of 28."""
FACTORS = {"x": "px", "y": "px", "scale": "natural logarithm", "turn": "degrees", "shear": "1"}
"""What a pose is, with units; x to the right and y downwards from the middle, turns clockwise."""
ROUND = ("disc", "ring")
"""Shapes that a turn leaves as they are."""
NEAR = 4
"""Largest distance between the middles of two shapes, px of 28."""


def build(
    *,
    size: Annotated[int, Range(12, 1024)] | None,
    channels: Annotated[int, Range(1, 4096)] | None,
    count: Annotated[int, Range(1)] | None,
    split: Literal["train", "test"] | None,
    seed: Annotated[int, Range(0)],
    shift: Annotated[float, Range(0)],
    turn: Annotated[float, Range(0, 180)],
    scale: Annotated[float, Range(0, 1)],
    shear: Annotated[float, Range(0, 2)],
    noise: Annotated[float, Range(0, 1)],
    shapes: Annotated[int, Range(1, 2)],
    grid: Annotated[int, Range(2, 1001)] | None,
) -> "Poses":
    """Return the dataset.

    Args:
        size: height and width, px; None: 28.
        channels: of the images, all the same; None: 3.
        count: images; None: 4000 to train with, 1000 to test with. Not of a grid, which has its own number.
        split: no image is in both; None: test.
        seed: another one, other images.
        shift, turn, scale, shear: largest of each, either way: px, degrees, natural logarithm, and px sideways per px.
        noise: standard deviation of the sensor noise, of a range of 0 to 1.
        shapes: per image; two are of different classes, their middles at most 4 px of 28 apart.
        grid: steps of every factor, the others resting at 0; None: poses at random.

    Raises:
        UserError: a grid of two shapes, or of nothing that varies; a shape would not fit into the image.
    """
    split, side = split or "test", size or 28
    ranges = {"x": shift, "y": shift, "scale": scale, "turn": turn, "shear": shear}
    if shift + RADIUS * side > side / 2:
        raise UserError(
            f"dataset.shift must be at most {side / 2 - RADIUS * side:g} px for images of {side} px, got {shift:g}"
        )
    if grid and shapes == 2:
        raise UserError("dataset.grid shows one shape at a time, got dataset.shapes=2")
    if grid and not any(ranges.values()):
        raise UserError("dataset.grid steps through what varies: say dataset.shift, turn, scale or shear above 0")
    count = count or {"train": 4000, "test": 1000}[split]
    options: dict[str, Any] = {"size": side, "channels": channels or 3, "count": count, "split": split, "seed": seed}
    options |= {"ranges": tuple(ranges.values()), "noise": noise, "shapes": shapes, "grid": grid}
    return Poses(options)


class Poses(Drawn):
    """Shapes in poses; image i has class i modulo 8, in a grid one class after the other.

    Args:
        options: see `build`, all given; `ranges` in the order of `FACTORS`.

    Attributes:
        classes_of: (image, shape) index of each shape's class.
        poses: (image, shape, factor) float64, in the order of `FACTORS`.
        varied: the factors of images of one shape, those that vary; NaN for the turn of shapes that are round.
    """

    def __init__(self, options: dict[str, Any]):
        self.split, self.seed, self.noise = options["split"], options["seed"], options["noise"]
        self.ranges, self.several = np.array(options["ranges"], float), options["shapes"]
        self.unit = options["size"] / 28
        stepped = None
        if options["grid"]:
            stepped = self._lay_out(options["grid"])
            names = [f"poses/grid/{number:06d}" for number in range(len(self.poses))]
        else:
            self._draw_lots(options["count"])
            names = [f"poses/{self.split}/{number:06d}" for number in range(len(self.poses))]
        super().__init__(
            version=DRAWING_VERSION,
            options=options,
            side=options["size"],
            channels=options["channels"],
            name="poses",
            names=names,
            labels=self.classes_of[:, 0] if self.several == 1 else np.full(len(names), -1),
            classes=CLASSES,
        )
        self.varied = self._varied(stepped) if self.several == 1 else None

    def _varied(self, stepped: np.ndarray | None) -> Varied:
        """Return what is varied; the turn of a shape that is round is none."""
        values = {name: self.poses[:, 0, place].copy() for place, name in enumerate(FACTORS) if self.ranges[place]}
        if "turn" in values:
            values["turn"][np.isin(self.classes_of[:, 0], [CLASSES.index(name) for name in ROUND])] = np.nan
        return Varied(values, {name: FACTORS[name] for name in values}, stepped)

    def _draw_lots(self, count: int) -> None:
        """Draw the poses of images at random, each from a stream of its own."""
        self.classes_of = np.zeros((count, self.several), np.int64)
        self.poses = np.zeros((count, self.several, len(FACTORS)))
        for index in range(count):
            random = self._stream(index, 0)
            self.classes_of[index, 0] = index % len(CLASSES)
            self.poses[index, 0] = random.uniform(-1, 1, len(FACTORS)) * self.ranges
            if self.several == 2:
                other = int(random.integers(1, len(CLASSES)))
                self.classes_of[index, 1] = (index + other) % len(CLASSES)
                self.poses[index, 1] = random.uniform(-1, 1, len(FACTORS)) * self.ranges
                near = NEAR * self.unit * np.sqrt(random.uniform()) * _direction(random.uniform(0, 2 * np.pi))
                self.poses[index, 1, :2] = self.poses[index, 0, :2] + near

    def _lay_out(self, steps: int) -> np.ndarray:
        """Lay out a grid: every class along each factor that varies; return the name of the factor (image,)."""
        varied = [place for place, most in enumerate(self.ranges) if most]
        rows: list[tuple[int, int, float]] = []
        for label in range(len(CLASSES)):
            rows += [(label, place, value) for place in varied
                     for value in np.linspace(-self.ranges[place], self.ranges[place], steps)]  # fmt: skip
        self.classes_of = np.array([[label] for label, _, _ in rows])
        self.poses = np.zeros((len(rows), 1, len(FACTORS)))
        for index, (_, place, value) in enumerate(rows):
            self.poses[index, 0, place] = value
        return np.array(list(FACTORS))[[place for _, place, _ in rows]]

    def _stream(self, index: int, purpose: int) -> np.random.Generator:
        return stream(self.seed, SPLITS.index(self.split), index, purpose)

    @property
    def target(self) -> Target:
        """The class of the image; of two shapes, which classes there are."""
        return Target("present", CLASSES) if self.several == 2 else super().target

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the class, or 1 for each class that is there."""
        if self.several == 1:
            return super().targets(indices)
        present = np.zeros((len(indices), len(CLASSES)), np.uint8)
        for row, index in zip(present, indices):
            row[self.classes_of[index]] = 1
        return torch.from_numpy(present), np.ones(len(indices), bool)

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1."""
        image = self._alone(index).max(0)
        image = image + np.float32(self.noise) * sensor_noise(image.shape, self._stream(index, 1))
        return np.broadcast_to(image.clip(0, 1), self.size).copy()

    def _alone(self, index: int) -> np.ndarray:
        """Return each shape by itself, (shape, y, x) float32 0 to 1, without noise."""
        every = zip(self.classes_of[index], self.poses[index])
        return np.stack([covered(CLASSES[label], pose, self.side) for label, pose in every])

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return what is known about an image.

        Returns:
            cue: (y, x) bool, the pixels that a shape covers by half or more.
            classes: (shape,) index of the class of each shape.
            pose: (shape, 5) float64: x, y (px from the middle), scale (natural logarithm), turn (degrees), shear.
            alone: (shape, y, x) float32 0 to 1, each shape by itself, without noise.
        """
        alone = self._alone(index)
        found = {"cue": alone.max(0) >= 0.5, "classes": self.classes_of[index], "pose": self.poses[index]}
        return found | {"alone": alone}


def covered(shape: str, pose: np.ndarray, side: int) -> np.ndarray:
    """Return how much of each pixel a shape covers in a pose, (y, x) float32 0 to 1.

    A point p of the shape, in its radii, stands at the middle + (x, y) + R(turn) (1 shear; 0 1) e^scale radius p.

    Args:
        shape: of `shapes.CLASSES`.
        pose: in the order of `FACTORS`.
        side: of the image, px.
    """
    right, down, scale, turn, shear = pose
    points = (np.arange(side * SUBPIXELS) + 0.5) / SUBPIXELS - side / 2
    x, y = points[None, :] - right, points[:, None] - down
    angle, radius = np.radians(turn), RADIUS * side * np.exp(scale)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    inside = SHAPES[shape]((x - shear * y) / radius, y / radius)
    return inside.reshape(side, SUBPIXELS, side, SUBPIXELS).mean(axis=(1, 3), dtype=np.float32)


def _direction(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])
