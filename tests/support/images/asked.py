"""Blobs of which more is asked than one class: where the square is, which colours are bright, how bright along time."""

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.targets import BACKGROUND, NOT_COUNTED, Target
from tests.support.images.blobs import Blobs


class Masked(Blobs):
    """Every pixel: background, or the class of the square, whose border of one pixel does not count."""

    in_memory = False

    @property
    def target(self) -> Target:
        return Target("map", (BACKGROUND, *self.classes), self.size[1:])

    def targets(self, indices):
        indices = np.asarray(indices)
        maps = torch.zeros(len(indices), *self.size[1:], dtype=torch.uint8)
        for one, label in zip(maps, self.labels[indices]):
            one[1:7, 1:7] = NOT_COUNTED
            one[2:6, 2:6] = int(label) + 1
        return maps, self.can_read[indices]


class Several(Blobs):
    """Each of three colours may be bright, or none."""

    def __init__(self, count: int, seed: int, **given):
        super().__init__(count, seed, **given)
        self.present = np.random.default_rng(seed + 100).integers(0, 2, (count, 3)).astype(np.uint8)
        own = np.random.default_rng(seed).integers(0, 120, (count, 3, 8, 8))
        own[:, :, 2:6, 2:6] += 90 * self.present[:, :, None, None]
        self.pixels = torch.from_numpy(own.astype(np.uint8))

    @property
    def target(self) -> Target:
        return Target("present", self.classes)

    def targets(self, indices):
        return torch.from_numpy(self.present[np.asarray(indices)]), np.ones(len(indices), bool)


class Timed(Blobs):
    """Two channels of five samples: the mean of red times the sample, and that of green at any."""

    @property
    def target(self) -> Target:
        return Target("course", ("red", "green"), (2, 5))

    def targets(self, indices):
        means = self.pixels[torch.from_numpy(np.asarray(indices))].float().div(255).mean((2, 3))
        red = means[:, :1] * torch.arange(1, 6)
        return torch.stack([red, means[:, 1:2].expand(-1, 5)], 1), np.ones(len(indices), bool)


class Courses(nn.Module):
    """A line through the mean colours for every sample."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.read(images.mean((2, 3))).view(-1, 2, 5)


def maps(classes: int = 4) -> nn.Module:
    """A network that gives a map of classes, with BatchNorm and dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        nn.Conv2d(8, classes, 3, padding=1),
    ).eval()


def courses() -> nn.Module:
    torch.manual_seed(0)
    return Courses().eval()
