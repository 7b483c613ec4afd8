"""Parametrisations that an ascent changes: the numbers behind an image, and the image they make.

    pixel    the pixels themselves, as differences from the mean colour
    fourier  coefficients of the image's frequencies in decorrelated colours, low frequencies weighted more, then a
             sigmoid (Olah, Mordvintsev, Schubert 2017)
    maco     the phases of those frequencies only; their amplitudes are those of natural images (Fel et al. 2023)

All take images (channel, y, x) and signals (channel, time) of any size.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cnnprobe.instruments.images.image_statistics import Statistics

DEVIATION = 0.01
"""Of the coefficients that a Fourier image starts from (lucid)."""


class Pixel:
    """Pixels, as differences from the mean colour.

    Args:
        size: (channel, y, x) or (channel, time).
        statistics: the mean colour.
        box: least and largest pixel after each step; None: any.
        normal: standard deviation of normal noise to start from.
        uniform: or the range of uniform noise to start from, around no mean; None: normal noise.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        statistics: Statistics,
        box: tuple[float, float] | None,
        normal: float,
        uniform: tuple[float, float] | None = None,
    ):
        self.size, self.box, self.normal, self.uniform = tuple(size), box, normal, uniform
        self.mean = statistics.mean.view(-1, *[1] * (len(size) - 1))

    def start(self, randoms: Sequence[np.random.Generator]) -> Tensor:
        """Return the numbers to begin with, (row, channel, y, x), by one source of random numbers per row."""
        if self.uniform is not None:
            low, high = self.uniform
            drawn = np.stack([low + (high - low) * random.random(self.size) for random in randoms])
            return torch.from_numpy(drawn).float() - self.mean.cpu()
        drawn = np.stack([self.normal * random.standard_normal(self.size) for random in randoms])
        return self.settle(torch.from_numpy(drawn).float().to(self.mean.device)).cpu()

    def image(self, values: Tensor) -> Tensor:
        """Return the images, (row, channel, y, x)."""
        return values + self.mean

    def settle(self, values: Tensor) -> Tensor:
        """Bring values that a step has changed back into the box, in place."""
        if self.box is not None:
            torch.maximum(values, self.box[0] - self.mean, out=values)
            torch.minimum(values, self.box[1] - self.mean, out=values)
        return values

    def to(self, device: torch.device | str) -> "Pixel":
        """Move what belongs to it, in place."""
        self.mean = self.mean.to(device)
        return self


class _Frequencies:
    """What Fourier and Maco have in common: the frequencies of an image, and colours behind a sigmoid."""

    def __init__(self, size: tuple[int, ...], statistics: Statistics):
        self.size, self.sides = tuple(size), tuple(size[1:])
        self.axes = tuple(range(-len(self.sides), 0))
        self.shape = (size[0], *self.sides[:-1], self.sides[-1] // 2 + 1)  # of the coefficients
        self.colours = statistics.colours
        self.low, self.high = statistics.low, statistics.high

    def shown(self, plain: Tensor) -> Tensor:
        """Return images from decorrelated colours, (row, channel, y, x): mixed, then through a sigmoid."""
        mixed = torch.matmul(self.colours, plain.flatten(2)).view_as(plain)  # einsum takes ten times as long
        image = torch.sigmoid(mixed)
        return image if (self.low, self.high) == (0.0, 1.0) else self.low + (self.high - self.low) * image

    def settle(self, values: Tensor) -> Tensor:
        """Leave values as they are."""
        return values

    def to(self, device: torch.device | str) -> "_Frequencies":
        """Move what belongs to it, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self


class Fourier(_Frequencies):
    """Coefficients of frequencies; the amplitude of frequency f is weighted by 1 / f.

    Args:
        size: (channel, y, x) or (channel, time).
        statistics: the colours.
    """

    def __init__(self, size: tuple[int, ...], statistics: Statistics):
        super().__init__(size, statistics)
        self.weights = 1 / frequencies(self.sides).clamp(min=1 / max(self.sides)) / 4

    def start(self, randoms: Sequence[np.random.Generator]) -> Tensor:
        """Return coefficients to begin with, (row, channel, y, x // 2 + 1, 2), normal, by random source."""
        return torch.stack([_normal(random, (*self.shape, 2), DEVIATION) for random in randoms])

    def plain(self, values: Tensor) -> Tensor:
        """Return the images in decorrelated colours, before the sigmoid."""
        spectrum = torch.view_as_complex(values) * self.weights
        return torch.fft.irfftn(spectrum, s=self.sides, dim=self.axes, norm="ortho")

    def image(self, values: Tensor) -> Tensor:
        """Return the images, (row, channel, y, x)."""
        return self.shown(self.plain(values))


class Maco(_Frequencies):
    """Phases of frequencies.

    Args:
        size: (channel, y, x) or (channel, time).
        statistics: the colours, and the amplitudes, which are kept; None there: 1 / f.
    """

    def __init__(self, size: tuple[int, ...], statistics: Statistics):
        super().__init__(size, statistics)
        amplitudes = statistics.magnitude
        if amplitudes is None:
            amplitudes = (1 / frequencies(self.sides).clamp(min=1 / max(self.sides))).expand(self.shape)
        self.amplitudes = amplitudes.clone()
        self.amplitudes[(slice(None), *[0] * len(self.sides))] = 0  # the mean is that of the dataset's colours: grey

    def start(self, randoms: Sequence[np.random.Generator]) -> Tensor:
        """Return phases to begin with, (row, channel, y, x // 2 + 1), normal, by random source."""
        return torch.stack([_normal(random, self.shape, 1.0) for random in randoms])

    def plain(self, values: Tensor) -> Tensor:
        """Return the images in decorrelated colours, of exactly the amplitudes, before they are brought to size."""
        phases = odd(_standard(values), self.sides)
        return torch.fft.irfftn(torch.polar(self.amplitudes.expand_as(phases), phases), s=self.sides, dim=self.axes)

    def image(self, values: Tensor) -> Tensor:
        """Return the images, (row, channel, y, x)."""
        return self.shown(_standard(self.plain(values)))


def frequencies(sides: tuple[int, ...]) -> Tensor:
    """Return the frequency of each coefficient of `rfftn`, cycles per px, (y, x // 2 + 1) or (time // 2 + 1,)."""
    square = torch.fft.rfftfreq(sides[-1]).square()
    for side in sides[-2::-1]:
        square = torch.fft.fftfreq(side).square()[:, None] + square
    return square.sqrt()


def odd(phases: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Make the phases those of a real image, so that `irfftn` keeps every amplitude.

    Coefficients of the first column, and of the last one where the side is even, come in conjugate pairs along y;
    their phases must be odd there. In the other columns the other half is not stored, and any phase will do.

    Args:
        phases: (…, y, x // 2 + 1) or (…, time // 2 + 1).
        sides: (y, x) or (time,).
    """
    last = phases.shape[-1]
    single = torch.zeros(last, dtype=torch.bool, device=phases.device)
    single[0] = True
    single[last - 1] |= sides[-1] % 2 == 0
    if len(sides) == 1:
        return torch.where(single, 0.0, phases)
    opposite = phases.flip(-2).roll(1, -2)  # the phase at -ky
    return torch.where(single, (phases - opposite) / 2, phases)


def _standard(values: Tensor) -> Tensor:
    """Bring each row to mean 0 and standard deviation 1."""
    flat = values.flatten(1)
    deviation, mean = torch.std_mean(flat, dim=1, keepdim=True)
    return ((flat - mean) / (deviation + 1e-4)).view_as(values)


def _normal(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Tensor:
    drawn = random.standard_normal(math.prod(shape), dtype=np.float32)
    return torch.from_numpy(drawn).view(shape) * deviation
