"""A network of one convolution that is pooled evenly and read by one linear layer: every map of it is known."""

import torch
from torch import Tensor, nn


class Pooled(nn.Module):
    """conv, ReLU, mean over positions, linear."""

    def __init__(self, classes: int = 4, channels: int = 6):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.out = nn.Linear(channels, classes)

    def maps(self, images: Tensor) -> Tensor:
        """Return what is pooled."""
        return self.conv(images).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.maps(images).mean((2, 3)))


class Deep(Pooled):
    """The same with a head of two linear layers and pooling in the base."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.out = nn.Linear(5, 4)

    def maps(self, images: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.conv(images).relu(), 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.hidden(self.maps(images).mean((2, 3))).relu())


def pictures(count: int = 5, side: int = 12) -> Tensor:
    """Return noise images."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))
