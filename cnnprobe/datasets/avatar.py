"""Views of rooms through the eyes of an avatar that finds its way by geometry or by landmarks: the embedded dataset.

A geometry room has informative corners and no landmarks; a landmark room is nearly round and holds one to four
landmarks (coloured solids, panels with letters). Everything about an image follows from (seed, split, number), and the
truth is known: which pixels make the class, what they show, where the eye was, how far everything is.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.targets import BACKGROUND, Target
from cnnprobe.datasets.rendering.decals import LETTER, PANEL
from cnnprobe.datasets.rendering.drawn import Drawn, sensor_noise, stream
from cnnprobe.datasets.rendering.raycaster import trace
from cnnprobe.datasets.rendering.rooms import HEADINGS, SHAPES, Camera, Room
from cnnprobe.datasets.rendering.scenes import LANDMARKS, Scene, draw_scene
from cnnprobe.datasets.rendering.solids import OBJECT

DRAWING_VERSION = 1
KINDS = {0: "none", 1: "corner", 2: "border", OBJECT: "object", PANEL: "panel", LETTER: "letter"}
"""What the codes of truth's `kind` mean."""
CLASSES = {
    "cue": ("geometry", "landmark"),
    "landmark": tuple(kind.name for kind in LANDMARKS),
    "room": SHAPES,
    "heading": tuple(f"{sector * 360 // HEADINGS} degrees" for sector in range(HEADINGS)),
}
"""Names of the classes of each task."""
PIXEL_CLASSES = (BACKGROUND, "edge", "landmark")
"""Classes of pixels: corners and borders are edges; objects, panels and letters landmarks."""
SPLITS = ("train", "test")


def build(
    *,
    size: Annotated[int, Range(16, 1024)] | None,
    count: Annotated[int, Range(1, 10_000_000)] | None,
    split: Literal["train", "test"] | None,
    seed: Annotated[int, Range(0)],
    landmarks: Annotated[int, Range(1, 4)] | None,
    noise: Annotated[float, Range(0, 1)],
    classes: Literal["cue", "landmark", "room", "heading"],
    target: Literal["class", "cue"] = "class",
) -> "Avatar":
    """Return the dataset.

    Args:
        size: height and width, px; None: 64.
        count: images; None: 4000 to train with, 1000 to test with.
        split: no room is in both; None: test.
        seed: another one, other rooms.
        landmarks: how many stand in a landmark room; None: 1 to 4.
        noise: standard deviation of the sensor noise, of a range of 0 to 1.
        classes: what the label says.
        target: what a network is to answer: the class of the image; or, for every pixel, whether it belongs to an edge
            (an informative corner or its borders), to a landmark, or to neither (cue).
    """
    split = split or "test"
    return Avatar(
        size=size or 64,
        count=count or {"train": 4000, "test": 1000}[split],
        split=split,
        seed=seed,
        landmarks=landmarks,
        noise=noise,
        classes=classes,
        target=target,
    )


class Avatar(Drawn):
    """Rooms of one split under one task; see `build` for the arguments.

    Even numbers are geometry rooms, odd ones landmark rooms. The task "cue" has them all; "landmark" has the landmark
    rooms, "room" and "heading" the geometry rooms: the same pictures under the same names, each class equally often.
    """

    masks_by = "cue"

    def __init__(
        self,
        *,
        size: int,
        count: int,
        split: str,
        seed: int,
        landmarks: int | None,
        noise: float,
        classes: str,
        target: str = "class",
    ):
        self.of_pixels = target == "cue"
        step, first = {"cue": (1, 0), "landmark": (2, 1), "room": (2, 0), "heading": (2, 0)}[classes]
        self.numbers = first + step * np.arange(count)
        self.split, self.seed, self.landmarks, self.noise = split, seed, landmarks, noise
        names = CLASSES[classes]
        label = {
            "cue": self.numbers % 2,
            "landmark": self.numbers // 2 % len(LANDMARKS),
            "room": self.numbers // 2 % len(SHAPES),
            "heading": self.numbers // 2 % HEADINGS,
        }[classes]
        options = {
            "size": size,
            "count": count,
            "split": split,
            "seed": seed,
            "landmarks": landmarks,
            "noise": noise,
            "classes": classes,
        }
        super().__init__(
            version=DRAWING_VERSION,
            options=options,
            side=size,
            name="avatar",
            names=[f"avatar/{split}/{number:06d}" for number in self.numbers],
            labels=label,
            classes=names,
        )

    def scene(self, index: int) -> Scene:
        """Return what image `index` shows; it does not depend on the size."""
        number = int(self.numbers[index])
        geometry, pair = number % 2 == 0, number // 2
        return draw_scene(
            self._stream(number, 0),
            shape=SHAPES[pair % len(SHAPES)] if geometry else "round",
            heading=pair % HEADINGS if geometry else None,
            landmark=None if geometry else pair % len(LANDMARKS),
            landmarks=self.landmarks,
        )

    def _stream(self, number: int, purpose: int) -> np.random.Generator:
        return stream(self.seed, SPLITS.index(self.split), number, purpose)

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1: four rays per pixel, a slight blur, noise."""
        image = halved(np.sqrt(trace(self.scene(index), self.side * 2)[0]))
        image += np.float32(self.noise) * sensor_noise(image.shape, self._stream(int(self.numbers[index]), 1))
        return image.clip(0, 1, out=image)

    @property
    def target(self) -> Target:
        """The class of the image, or of every pixel."""
        return Target("map", PIXEL_CLASSES, self.size[1:]) if self.of_pixels else super().target

    def targets(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return the classes, or draw the maps."""
        if not self.of_pixels:
            return super().targets(indices)
        kinds = np.stack([self.truth(int(index))["kind"] for index in indices])
        return torch.from_numpy(np.where(kinds >= OBJECT, 2, kinds > 0).astype(np.uint8)), np.ones(len(indices), bool)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return what is known about an image.

        Returns:
            cue: (y, x) bool, the pixels that make the class: landmarks, or what is within 3 % of the image's side of an
                informative corner (the edge between two walls, and half a metre of the borders that end there).
            kind: (y, x) int8, what each cue pixel shows, by the codes in KINDS.
            distance: (y, x) float32, metres from the eye along the ray through the pixel's middle.
            pose: (6,) float64: the eye's x, y and height (metres), yaw, pitch and field of view (degrees).
            corners: (corner, xy) float64, the room in plan, metres.
        """
        scene = self.scene(index)
        camera = scene.camera
        _, distance, kind = trace(scene, self.side)
        if not scene.landmark:
            kind = corner_kinds(camera, scene.room, self.side)
        angles = np.degrees([camera.yaw, camera.pitch, camera.field])
        pose = np.array([camera.x, camera.y, camera.height, *angles])
        return {"cue": kind > 0, "kind": kind, "distance": distance, "pose": pose, "corners": scene.room.walls.corners}


def halved(image: np.ndarray) -> np.ndarray:
    """Return an image (channel, y, x) at half the size, each pixel the 1-3-3-1 mean of the rays around it."""
    for axis in (1, 2):
        before, after = np.moveaxis(image, axis, 0)[::2], np.moveaxis(image, axis, 0)[1::2]
        total = before + after
        total *= np.float32(3)
        total[1:] += after[:-1]
        total[0] += before[0]
        total[:-1] += before[1:]
        total[-1] += after[-1]
        image = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(image) / np.float32(64)


def corner_kinds(camera: Camera, room: Room, side: int) -> np.ndarray:
    """Return codes of KINDS (y, x) int8: pixels near the corners in view, and near the borders that end there."""
    focal, reach = side / 2 / camera.half_width, 0.03 * side
    kind = np.zeros((side, side), np.int8)
    corners = room.walls.corners
    for corner in np.flatnonzero(room.walls.in_view(camera, part=1.0)):
        here = corners[corner]
        for other in (corner - 1, (corner + 1) % len(corners)):
            border = corners[other] - here
            border = here + border * min(0.5 / np.hypot(*border), 1)
            for height in (0.0, room.height):
                near = beside(camera, focal, side, (here, height), (border, height)) <= reach
                kind[near & (kind == 0)] = 2
        kind[beside(camera, focal, side, (here, 0.0), (here, room.height)) <= reach] = 1
    return kind


def beside(
    camera: Camera, focal: float, side: int, start: tuple[np.ndarray, float], end: tuple[np.ndarray, float]
) -> np.ndarray:
    """Return the distance (y, x), px, of each pixel from the picture of an edge, given by plan place and height."""
    points = []
    for place, height in (start, end):
        depths, sideways = camera.seen(place[None])
        depth = max(float(depths[0]), 0.1)
        rise = np.tan(camera.pitch) - (height - camera.height) / depth
        points.append(np.array([float(sideways[0]), rise]) * focal + side / 2 - 0.5)
    pixels = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1)
    along = points[1] - points[0]
    part = ((pixels - points[0]) @ along / max(float(along @ along), 1e-9)).clip(0, 1)
    return np.linalg.norm(pixels - points[0] - part[..., None] * along, axis=-1)
