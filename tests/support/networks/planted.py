"""Small networks whose layers, fields and responses are known by construction."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Functional(nn.Module):
    """Two convolutions, one rectifier as a function and one as a method of the tensor, in the network itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.dense = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.first(images))
        return self.dense(self.second(maps).relu().mean((2, 3)))


class Inline(Functional):
    """The same, both rectifiers in place."""

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.first(images), inplace=True)
        return self.dense(self.second(maps).relu_().mean((2, 3)))


class Bare(nn.Module):
    """Convolutions as functions on parameters of the network."""

    def __init__(self):
        super().__init__()
        self.kernels = nn.ParameterList([nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(2, 4, 1, 1))])

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(images, self.kernels[0]).relu(), self.kernels[1]).amax((2, 3))


class Block(nn.Module):
    """A residual block: one rectifier called twice, a BatchNorm that is followed by a sum."""

    def __init__(self, inplace: bool = True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=inplace)
        for norm in (self.bn1, self.bn2):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
            norm.running_mean.uniform_(-0.2, 0.2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(maps)) + images)


class Pair(nn.Module):
    """Returns a tuple."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.conv(images)
        return maps, maps.relu()


class Odd(nn.Module):
    """A module that returns a tuple, one that returns a dict, an unused branch, and a module that gives no tensor."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()
        self.named = Named()
        self.aux = nn.Conv2d(2, 2, 1)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        _, maps = self.pair(images)
        return self.relu(-self.relu(self.named(maps)["maps"]))


class Named(nn.Module):
    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        return {"maps": maps}


class Twice(nn.Module):
    """One convolution used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.conv(images).relu())


def signals() -> nn.Sequential:
    """A network of signals (2 channels, time)."""
    return nn.Sequential(
        nn.Conv1d(2, 4, 5, stride=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 3, 3, dilation=2), nn.Flatten()
    )


def grey() -> nn.Sequential:
    """A network of grey images that are not square."""
    return nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(0, 2)), nn.ReLU(inplace=True), nn.Flatten())


def identity(channels: int = 1) -> nn.Sequential:
    """A 1x1 convolution that returns what it gets, so that responses are known pixel by pixel."""
    model = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False))
    nn.init.dirac_(model[0].weight)
    return model.eval()
