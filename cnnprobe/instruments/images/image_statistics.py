"""Average statistics of the images of a dataset: their colours, their range, the amplitudes of their frequencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cnnprobe.instruments.images.batches import Batch

LUCID = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Root of the covariance of red, green and blue over ImageNet (lucid, `optvis/param/color.py`)."""
LEAST = 1e-4
"""Share of the largest colour variance that every direction of colour keeps: a grey dataset has no other."""


@dataclass(frozen=True)
class Statistics:
    """Averages over images, from which pictures are built.

    Args:
        mean: (channel,) of the pixels.
        colours: (channel, channel): decorrelated colours c make the colours M c; its largest column has norm 1.
        low, high: range of the pixels; 0 and 1 for images.
        magnitude: (channel, y, x // 2 + 1), mean |Fourier coefficient| of the decorrelated colours about the mean; or
            None. Of a signal: (channel, time // 2 + 1).
    """

    mean: Tensor
    colours: Tensor
    low: float = 0.0
    high: float = 1.0
    magnitude: Tensor | None = None

    @classmethod
    def plain(cls, channels: int) -> Statistics:
        """Return those of no dataset: middle grey; lucid's colours where there are three channels."""
        colours = torch.tensor(LUCID) if channels == 3 else torch.eye(channels)
        return cls(torch.full((channels,), 0.5), unit_columns(colours))


def unit_columns(root: Tensor) -> Tensor:
    """Divide a root of a covariance matrix by the largest norm of its columns, as lucid does."""
    return root / root.norm(dim=0).max().clamp(min=1e-12)


def root_of(covariance: Tensor) -> Tensor:
    """Return U sqrt(S) for a covariance U S Uᵀ, (channel, channel); the largest entry of a column is positive."""
    values, vectors = torch.linalg.eigh(covariance)
    order = values.argsort(descending=True)
    values, vectors = values[order], vectors[:, order]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    floor = LEAST * values.max().clamp(min=1e-12)
    return vectors * largest.sign() * values.clamp(min=floor).sqrt()


def measured(load: Callable[[], Iterable[Batch]], size: tuple[int, ...], *, amplitudes: bool) -> Statistics:
    """Measure them.

    Args:
        load: gives the batches of images anew each time it is called; unreadable images are left out.
        size: (channel, y, x) or (channel, time).
        amplitudes: also measure `magnitude`, in a second round.
    """
    channels = size[0]
    count, total, products = 0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels).double()
    low, high = torch.inf, -torch.inf
    for images in _readable(load()):
        pixels = images.double().transpose(0, 1).flatten(1)  # (channel, pixel)
        count, total, products = count + pixels.shape[1], total + pixels.sum(1), products + pixels @ pixels.T
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    if not count:
        return Statistics.plain(channels)
    mean = total / count
    colours = unit_columns(root_of(products / count - torch.outer(mean, mean)))
    if len(size) == 3 or not low < high:
        low, high = 0.0, 1.0
    found = Statistics(mean.float(), colours.float(), low, high)
    return _with_magnitude(found, load) if amplitudes else found


def _with_magnitude(found: Statistics, load: Callable[[], Iterable[Batch]]) -> Statistics:
    inverse = torch.linalg.inv(found.colours)
    count = 0
    total: Tensor | int = 0
    for images in _readable(load()):
        centred = images - found.mean.view(-1, *[1] * (images.dim() - 2))
        plain = torch.einsum("ij,bj...->bi...", inverse, centred)
        total = total + torch.fft.rfftn(plain, dim=tuple(range(2, images.dim()))).abs().double().sum(0)
        count += len(images)
    return Statistics(found.mean, found.colours, found.low, found.high, torch.as_tensor(total / count).float())


def _readable(batches: Iterable[Batch]) -> Iterable[Tensor]:
    for batch in batches:
        images = batch.images.cpu()[torch.from_numpy(batch.readable)]
        if len(images):
            yield images
