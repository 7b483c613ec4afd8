"""Networks that return maps or courses: small ones with random weights, and ones whose answer is known."""

import torch
from torch import nn
from torch.nn import functional


class Segmenting(nn.Module):
    """Two scales and a 1 x 1 readout; `unpadded`: maps are 4 px smaller along each axis."""

    def __init__(self, classes: int = 2, unpadded: bool = False, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        pad = 0 if unpadded else 1
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=pad), nn.Conv2d(6, 6, 3, padding=pad)
        self.rise = nn.Conv2d(6, 6, 3, padding=1)
        self.readout = nn.Conv2d(12, classes, 1)

    def forward(self, images):
        first = torch.relu(self.conv2(torch.relu(self.conv1(images))))
        below = torch.relu(self.rise(functional.max_pool2d(first, 2)))
        above = functional.interpolate(below, first.shape[-2:])
        return self.readout(torch.cat([first, above], 1))


class Bright(nn.Module):
    """The score of class 1 is by how much the first channel is brighter than a threshold; cut by some px each side."""

    def __init__(self, threshold: float = 0.5, cut: int = 0):
        super().__init__()
        self.readout, self.cut = nn.Conv2d(3, 2, 1), cut
        with torch.no_grad():
            self.readout.weight.zero_()
            self.readout.weight[1, 0] = 1
            self.readout.bias.copy_(torch.tensor([0.0, -threshold]))

    def forward(self, images):
        side = images.shape[-1]
        return self.readout(images[..., self.cut : side - self.cut, self.cut : side - self.cut])


class Pooled(nn.Module):
    """Classes from the means of maps."""

    def __init__(self, outputs: int = 3, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.readout = nn.Linear(6, outputs)

    def forward(self, images):
        return self.readout(torch.relu(self.conv2(torch.relu(self.conv1(images)))).mean((2, 3)))


class Coursing(Pooled):
    """Courses (channel, time) from the means of maps."""

    def __init__(self, channels: int = 2, time: int = 12, seed: int = 0):
        super().__init__(channels * time, seed)
        self.size = channels, time

    def forward(self, images):
        return super().forward(images).unflatten(1, self.size)


class Filtering(nn.Module):
    """Courses from signals, as long as these: one convolution along time, and a readout for each sample."""

    def __init__(self, channels: int = 2, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.readout = nn.Conv1d(3, 8, 5, padding=2), nn.Conv1d(8, channels, 1)

    def forward(self, signals):
        return self.readout(torch.relu(self.conv1(signals)))
