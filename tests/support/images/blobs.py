"""Images whose class is the colour channel that holds a bright square: a task any small network learns."""

import numpy as np
import torch
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.train.recipe import Recipe

OPTIONS = {
    "seed": 0,
    "batch_size": 16,
    "epochs": 2,
    "lr": 0.05,
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "schedule": "cosine",
    "warmup": 0.0,
    "step_epochs": 1,
    "step_factor": 0.1,
    "loss": "cross-entropy",
    "label_smoothing": 0.0,
    "balance": "none",
    "clip": None,
    "augment": ["crop", "flip"],
    "crop_padding": 2,
    "crop_scale": 0.5,
    "colour": 0.2,
    "precision": "float32",
    "channels_last": "auto",
    "preload": "auto",
    "checkpoints": "log",
    "save_minutes": 10.0,
}


COMPUTATION = Computation("cpu", 0, OPTIONS["batch_size"], OPTIONS["seed"])


class Blobs(ImageSet):
    """`count` images of `side` px, of which every `broken`-th cannot be read; shown at `size` px."""

    in_memory = True

    def __init__(self, count: int, seed: int, *, side: int = 8, size: int = 8, broken: int = 0, classes: int = 3):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(count) % classes)
        pixels = rng.integers(0, 120, (count, 3, side, side))
        for image, label in zip(pixels, labels):
            image[label % 3, 2:6, 2:6] += 60
        self.pixels = torch.from_numpy(pixels.astype(np.uint8))
        self.can_read = np.ones(count, dtype=bool)
        if broken:
            self.can_read[broken - 1 :: broken] = False
        names = [f"blob {number}" for number in range(count)]
        shapes = {"size": (3, size, size), "source_size": (3, side, side)}
        super().__init__(name="blobs", names=names, labels=labels, classes=map(str, range(classes)), **shapes)

    def load_source(self, indices):
        indices = np.asarray(indices)
        readable = self.can_read[indices]
        return self.pixels[torch.from_numpy(indices)] * torch.from_numpy(readable)[:, None, None, None], readable


def network(classes: int = 3) -> nn.Module:
    """A small network with everything that makes a resume hard: BatchNorm and dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)),
    ).eval()


def recipe(**changes) -> Recipe:
    return Recipe(**{name: value for name, value in (OPTIONS | changes).items() if name not in vars(COMPUTATION)})
