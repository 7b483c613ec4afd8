"""Objects to be grasped, and how arm and hand move for each: kinds, sizes, and bars at angles.

What a network of the grasping circuit learns (Michaels et al. 2020, from tracked hands): the image shows an object
below a fixation point, the target is how eight joints move around the go signal. They are kinematics that are planted
here, and no muscles: each movement is of minimum jerk (Flash, Hogan 1985), from 80 ms after the go signal on for 0.5 s.
The grip opens wider than the object, to 0.3 + 0.8 size at 70 % of the movement, and closes to its size. The arm reaches
for every object alike.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.targets import Target
from cnnprobe.datasets.base.varied import Varied
from cnnprobe.datasets.rendering import graspable
from cnnprobe.datasets.rendering.drawn import Drawn, sensor_noise, stream
from cnnprobe.datasets.rendering.graspable import KINDS
from cnnprobe.errors import UserError

DRAWING_VERSION = 1
SPLITS = ("train", "val", "test")
COUNTS = {"train": 3000, "val": 600, "test": 600}
CHANNELS = ("reach/shoulder", "reach/elbow", "hand/wrist", "hand/aperture", "hand/thumb", "hand/index", "hand/fingers",
            "hand/opposition")  # fmt: skip
"""Of the courses; what stands before the stroke is the group."""
SIZES, ANGLES = (0.2, 1.0), 60.0
"""Range of sizes; largest angle of a bar from upright, degrees."""
BAND, TURNS, KIND = (0.5, 0.7), (20.0, 40.0), "ring"
"""What is held out: sizes and angles of bars in between, either way, and one kind."""
BEFORE, AFTER = 0.2, 0.9
"""Of the go signal, s: when courses begin and end."""
LATENCY, DURATION, OPEN = 0.08, 0.5, 0.7
"""Of the movement, s, and the share of it after which the grip is widest."""
REACHES = (1.0, 0.7)
"""How far shoulder and elbow go."""
GRIPS = {"precision": (1.0, -0.6, -0.9, 1.0), "power": (-0.6, 0.8, 0.7, -0.3), "hook": (-0.4, -1.0, 0.4, -1.0)}
"""How far thumb, index and other fingers bend (stretch, below 0) from rest around an object of no size, and how far the
thumb is opposed. Their means over kinds are near 0, so that little is known of a hand without its object."""
GRIP_OF = {"sphere": "power", "cube": "precision", "ring": "hook", "upright": "power", "lying": "power",
           "bar": "precision"}  # fmt: skip
SHIFT = 0.06
"""How far an object lies beside its place, in halves of the image's side."""


def build(
    *,
    size: Annotated[int, Range(8, 1024)] | None,
    channels: Annotated[int, Range(1, 4096)] | None,
    count: Annotated[int, Range(1)] | None,
    split: Literal["train", "val", "test"] | None,
    seed: Annotated[int, Range(0)],
    hold_out: Literal["sizes", "kinds", "angles"] | None,
    show: Literal["objects", "labels"],
    courses: Literal["velocity", "position"],
    step: Annotated[float, Range(above=0, maximum=0.1)],
    noise: Annotated[float, Range(0, 1)],
) -> "Grasps":
    """Return the dataset.

    Args:
        size: height and width, px; None: 32.
        channels: of the images; None: 3.
        count: objects; None: 3000 to train with, 600 in the other splits.
        split: no object is in two of them; None: test.
        seed: another one, other objects.
        hold_out: what the split test has and the others have not: sizes from 0.5 to 0.7, rings (kinds), or bars turned
            by 20 to 40 degrees either way; None: nothing, it has other objects of the same ranges.
        show: objects, or cards that say only of which kind the object is (labels).
        courses: how fast joints move, 1/s, or where they are.
        step: between two samples of a course, s.
        noise: standard deviation of the sensor noise, of a range of 0 to 1.

    Raises:
        UserError: a course is no whole number of steps long; a card would show a kind that is not learned.
    """
    split = split or "test"
    if abs(round(0.1 / step) * step - 0.1) > 1e-6:
        raise UserError(f"dataset.step must divide 0.1 s, as 0.01, 0.02 and 0.05 do, got {step:g}")
    if show == "labels" and hold_out == "kinds" and split == "test":
        raise UserError(f"dataset.show=labels says the kind of an object, and dataset.hold_out=kinds keeps {KIND}, "
                        "that of the split test, out of training: a label never learned says nothing")  # fmt: skip
    options: dict[str, Any] = {"size": size or 32, "channels": channels or 3, "count": count or COUNTS[split]}
    options |= {"split": split, "seed": seed, "hold_out": hold_out, "show": show, "courses": courses}
    return Grasps(options | {"step": step, "noise": noise})


class Grasps(Drawn):
    """Objects, one per image; the kinds take turns.

    Args:
        options: see `build`, all given.

    Attributes:
        objects: (image, 4) float64: size, angle (degrees; 0 but of bars), and how far right and down it lies.
        varied: size, and angle of bars, where objects are shown.
    """

    def __init__(self, options: dict[str, Any]):
        self.split, self.seed, self.noise = options["split"], options["seed"], options["noise"]
        self.held, self.show, self.moving = options["hold_out"], options["show"], options["courses"] == "velocity"
        self.step = options["step"]
        own = self.split == "test"
        kinds = [kind for kind in KINDS if self.held != "kinds" or (kind == KIND) == own]
        kinds = ["bar"] if self.held == "angles" and own else kinds
        labels = [KINDS.index(kinds[number % len(kinds)]) for number in range(options["count"])]
        self.objects = np.array([self._object(number, KINDS[label]) for number, label in enumerate(labels)])
        super().__init__(
            version=DRAWING_VERSION,
            options=options,
            side=options["size"],
            channels=options["channels"],
            name="grasps",
            names=[f"grasps/{self.split}/{number:06d}" for number in range(options["count"])],
            labels=labels,
            classes=KINDS,
        )
        if self.show == "objects":
            bars = self.labels == KINDS.index("bar")
            values = {"size": self.objects[:, 0].copy(), "angle": np.where(bars, self.objects[:, 1], np.nan)}
            self.varied = Varied(values, {"size": "1", "angle": "degrees"})

    def _stream(self, index: int, purpose: int) -> np.random.Generator:
        return stream(self.seed, SPLITS.index(self.split), index, purpose)

    def _object(self, index: int, kind: str) -> tuple[float, float, float, float]:
        """Return size, angle (degrees), and how far right and down an object lies."""
        random, own = self._stream(index, 0), self.split == "test"
        size = _drawn(random, SIZES, BAND, own if self.held == "sizes" else None)
        angle = _drawn(random, (0.0, ANGLES), TURNS, own if self.held == "angles" else None)
        angle *= random.choice([-1.0, 1.0])
        return size, angle if kind == "bar" else 0.0, *random.uniform(-SHIFT, SHIFT, 2)

    def _shaded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        size, angle, *place = self.objects[index]
        return graspable.shaded(KINDS[self.labels[index]], size, angle, self.side, tuple(place))

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1."""
        random, channels = self._stream(index, 1), self.size[0]
        colour = random.uniform(0.5, 1, (channels, 1, 1)).astype(np.float32)
        dot = graspable.fixation_image(self.size)  # type: ignore[arg-type]  # of three axes
        if self.show == "labels":
            seen = np.broadcast_to(graspable.card(int(self.labels[index]), len(KINDS), self.side), self.size)
        else:
            seen = colour * self._shaded(index)[0]
        image = np.maximum(seen, dot) + np.float32(self.noise) * sensor_noise(self.size, random)
        return image.clip(0, 1).astype(np.float32)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return what is known about an object.

        Returns:
            cue: (y, x) bool, the pixels that the object covers by half or more.
            size, angle: of it, 0.2 to 1, and of a bar, degrees from upright, clockwise; 0 of all else.
            course: (channel, time) float32, as in `targets`.
        """
        size, angle = self.objects[index, :2]
        seen = {"cue": self._shaded(index)[1] >= 0.5, "size": np.array(size), "angle": np.array(angle)}
        return seen | {"course": self.course(index)}

    @property
    def target(self) -> Target:
        """The courses, at the end of each step."""
        size = len(CHANNELS), round((BEFORE + AFTER) / self.step)
        return Target("course", CHANNELS, size, rate=1 / self.step, start=round(self.step - BEFORE, 9))

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the courses (image, channel, time)."""
        made = np.zeros((len(indices), *self.target.size), np.float32)
        for row, index in zip(made, indices):
            row[:] = self.course(int(index))
        return torch.from_numpy(made), np.ones(len(indices), bool)

    def course(self, index: int) -> np.ndarray:
        """Return how the joints move, (channel, time) float32."""
        size, angle = self.objects[index, :2]
        kind = KINDS[self.labels[index]]
        wrist = (90.0 if kind == "lying" else angle) / 90
        *bent, opposed = GRIPS[GRIP_OF[kind]]
        ends = np.array([*REACHES, wrist, size, *(value * (1 - 0.5 * size) for value in bent), opposed])
        times = -BEFORE + self.step * np.arange(1, self.target.size[1] + 1)
        course = ends[:, None] * stroke(times, LATENCY, DURATION, self.moving)
        widest, turns = 0.3 + 0.8 * size, OPEN * DURATION
        opens = stroke(times, LATENCY, turns, self.moving)
        closes = stroke(times, LATENCY + turns, DURATION - turns, self.moving)
        course[CHANNELS.index("hand/aperture")] = widest * opens + (size - widest) * closes
        return course.astype(np.float32)


def stroke(times: np.ndarray, begins: float, lasts: float, velocity: bool) -> np.ndarray:
    """Return a movement of minimum jerk from 0 to 1 at some times, s, or its velocity, 1/s (Flash, Hogan 1985)."""
    part = ((times - begins) / lasts).clip(0, 1)
    if velocity:
        return 30 * part**2 * (1 - part) ** 2 / lasts
    return part**3 * (10 - 15 * part + 6 * part**2)


def _drawn(
    random: np.random.Generator, whole: tuple[float, float], held: tuple[float, float], own: bool | None
) -> float:
    """Draw evenly from a range: from the held-out part of it (True), from all else (False), or from all (None)."""
    value = float(random.uniform())
    if own is None:
        return whole[0] + value * (whole[1] - whole[0])
    if own:
        return held[0] + value * (held[1] - held[0])
    below, above = held[0] - whole[0], whole[1] - held[1]
    along = value * (below + above)
    return whole[0] + along if along < below else held[1] + along - below
