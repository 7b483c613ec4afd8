"""Images with targets beyond one class each: several classes, maps and courses, that any small network can learn."""

import numpy as np
import torch

from cnnprobe.datasets.base.given import Given
from cnnprobe.datasets.base.imageset import sha256
from cnnprobe.datasets.base.targets import BACKGROUND, Target

NAMES = ("red", "green", "blue")


class Targeted(Given):
    """Images handed over as one array with their targets.

    Args:
        images: (image, channel, y, x), or signals (image, channel, time).
        target: what they ask.
        asked: (image, …) targets.
        missing: images that have none.
    """

    def __init__(self, images: torch.Tensor, target: Target, asked: torch.Tensor, missing: tuple[int, ...] = ()):
        super().__init__(images)
        self.asked, self._target, self.missing = asked, target, missing
        if target.kind in ("class", "present"):
            self.classes = target.names

    @property
    def target(self) -> Target:
        return self._target

    def targets(self, indices):
        indices = np.asarray(indices, np.int64)
        return self.asked[torch.from_numpy(indices)], ~np.isin(indices, self.missing)

    def targets_digest(self):
        return sha256(self.asked.numpy().tobytes())


def squares(count: int = 12, seed: int = 0, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images with a square of 4 px in some of their channels, and (image, channel) which ones."""
    rng = np.random.default_rng(seed)
    pixels = rng.random((count, 3, side, side)) * 0.4
    there = rng.random((count, 3)) < 0.5
    for image, own in zip(pixels, there):
        for channel in np.flatnonzero(own):
            y, x = rng.integers(0, side - 3, 2)
            image[channel, y : y + 4, x : x + 4] += 0.6
    return torch.from_numpy(pixels).float(), torch.from_numpy(there)


def several(count: int = 12, seed: int = 0, **more) -> Targeted:
    """Return images with the classes of the channels that hold a square; some have none."""
    pixels, there = squares(count, seed)
    return Targeted(pixels, Target("present", NAMES), there.to(torch.uint8), **more)


def masked(count: int = 12, seed: int = 0, **more) -> Targeted:
    """Return images whose pixels are 1 where the first channel is brighter than 0.6, and 255 along a border row."""
    pixels, _ = squares(count, seed)
    maps = (pixels[:, 0] > 0.6).to(torch.uint8)
    maps[:, 0] = 255
    return Targeted(pixels, Target("map", (BACKGROUND, "square"), tuple(maps.shape[1:])), maps, **more)


def moving(count: int = 12, seed: int = 0, time: int = 12, **more) -> Targeted:
    """Return images and two courses each: ramps and sines that grow with the brightness of two channels."""
    pixels, _ = squares(count, seed)
    level, along = pixels.mean((2, 3)), torch.linspace(0, 1, time)
    made = torch.stack([level[:, :1] * along, level[:, 1:2] * torch.sin(6 * along)], 1)
    return Targeted(pixels, Target("course", ("reach", "grip"), (2, time)), made, **more)


def tracked(count: int = 12, seed: int = 0, time: int = 50) -> Targeted:
    """Return signals of three channels at 100 samples per second, and two courses: the first two, smoothed."""
    signals = torch.randn(count, 3, time, generator=torch.Generator().manual_seed(seed))
    kernel = torch.ones(1, 1, 5) / 5
    smooth = torch.nn.functional.conv1d(signals.reshape(-1, 1, time), kernel, padding=2).view(count, 3, time)
    found = Targeted(signals, Target("course", ("left", "right"), (2, time)), smooth[:, :2])
    found.rate = 100.0
    return found
