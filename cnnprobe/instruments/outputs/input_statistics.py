"""Images a network has learned from, inferred from the statistics of its first BatchNorm: those of 0 to 1, or others?

Values from 0 to 1 with the mean e have a variance of at most e (1 - e), 0.25 in any case. A BatchNorm that reads the
image itself keeps both. One behind the first convolution keeps them filtered: with kernels w and biases b its mean is
b + e sum(w), and its variance a sum(w)^2 + r sum(w^2), where a is what pixels beside each other share and r what they
do not. Least squares over the channels give e and a. What is told is impossible for images of 0 to 1: it is no question
of contrast. Photographs have a deviation of about 0.25; normalised they have 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.network.calls import KINDS
from cnnprobe.instruments.network.tracing import IMAGE, Call, Trace, Value, trace

KEEPING = ("pad", "contiguous", "to", "float", "clone")
"""Functions that hand the values of an image on."""
WAY = "e.g. model.mean=[0.485,0.456,0.406] model.std=[0.229,0.224,0.225] for ImageNet"
START = 0.01  # share of its first values in a running average that is told from none
LOOSE = 0.1  # how far the mean may be off: borders are padded with zeros, colours differ


@dataclass(frozen=True)
class Seen:
    """The values of the images that a network has learned from.

    Args:
        mean: of the pixels.
        deviation: of the pixels, about; of what neighbours share.
        path: of the BatchNorm that says so.
    """

    mean: float
    deviation: float
    path: str

    @property
    def possible(self) -> bool:
        """Whether images of 0 to 1 can have been these."""
        low, high = max(0.0, self.mean - LOOSE), min(1.0, self.mean + LOOSE)
        middle = min(max(0.5, low), high)
        return low <= high and self.deviation**2 <= middle * (1 - middle)


def is_unknown(model: nn.Module, size: tuple[int, ...]) -> bool:
    """Say whether a network reads the image as it is, and no BatchNorm says from what images it has learned."""
    return _first(trace(model, size)) is not None and seen(model, size) is None


def reads_images(model: nn.Module, size: tuple[int, ...]) -> bool:
    """Say whether a network takes a signal (channel, time) for one grey image: a convolution over images reads it."""
    written = trace(model, size)
    reader = _reader(written, Value(IMAGE, 0, (1, *size)))
    return len(size) == 2 and reader is not None and reader.name == "conv2d"


def seen(model: nn.Module, size: tuple[int, ...]) -> Seen | None:
    """Return what a network has learned from, where a BatchNorm tells; None where none does, or none has learned yet.

    Args:
        model: any network.
        size: (channel, y, x) of its images.
    """
    written = trace(model, size)
    first = _first(written)
    if first is None:
        return None
    call = first if first.name == "batch_norm" else _reader(written, first.outputs[0])
    if call is None or call.name != "batch_norm":
        return None
    norm = dict(model.named_modules()).get(call.module)
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
        return None
    mean, variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu()
    if (not mean.any() and bool((variance == 1).all())) or not _has_learned(norm):
        return None
    if call is first:
        return Seen(float(mean.mean()), float(variance.max().sqrt()), call.module)
    return _behind(first, mean, variance, call.module)


def _has_learned(norm: nn.Module) -> bool:
    """Say whether the start has faded from running statistics; a counter of 0 beside them was left out of a file."""
    count = 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked)
    return not count or norm.momentum is None or (1 - norm.momentum) ** count < START


def _behind(convolution: Call, mean: Tensor, variance: Tensor, path: str) -> Seen | None:
    """Return what the statistics behind a convolution, (channel,) each, say of its input."""
    weight, bias = (_constant(convolution, name, place) for name, place in (("weight", 1), ("bias", 2)))
    if weight is None or len(weight) != len(mean):  # a transposed or grouped one
        return None
    kernels = weight.flatten(1)
    sums = kernels.sum(1)
    alive = (kernels.abs().sum(1) > 0) & (variance > 0)
    if not sums[alive].any():
        return None
    level = (sums @ (mean - (0 if bias is None else bias))) / sums.square().sum()
    energies = torch.stack([sums.square(), kernels.square().sum(1)], 1)[alive] / variance[alive, None]  # as shares
    shared, own = torch.linalg.lstsq(energies, torch.ones(len(energies), 1, dtype=torch.float64)).solution[:, 0]
    if own < 0:  # no less than none
        shared = energies[:, 0].sum() / energies[:, 0].square().sum()
    return Seen(float(level), float(shared.clamp(min=0).sqrt()), path)


def _constant(call: Call, name: str, place: int) -> Tensor | None:
    value = call.argument(name, place)
    tensor = value.constant if isinstance(value, Value) else None
    return None if tensor is None else tensor.detach().double().cpu()


def _first(written: Trace) -> Call | None:
    """Return the convolution, dense layer or BatchNorm that alone reads the image as it is."""
    value = Value(IMAGE, 0, (1, *written.size))
    while (call := _reader(written, value)) is not None and call.name in KEEPING:
        value = call.outputs[0]
    known = call is not None and (KINDS.get(call.name) in ("convolution", "linear") or call.name == "batch_norm")
    return call if known else None


def _reader(written: Trace, value: Value) -> Call | None:
    readers = written.consumers.get(value, [])
    return written.calls[readers[0]] if len(readers) == 1 and readers[0] < len(written.calls) else None


def remark(model: nn.Module, images: ImageSet) -> str | None:
    """Say that a network has learned from other values than the 0 to 1 it is shown; None where nothing says so.

    Args:
        model: any network.
        images: an image set.
    """
    if len(images.size) != 3 or not len(images):
        return None
    found = seen(model, images.size)
    if found is None or found.possible:
        return None
    pixels = torch.stack([images[place][0] for place in range(min(4, len(images)))])
    if pixels.min() < 0 or pixels.max() > 1:  # recordings, maps: in units of their own
        return None
    return (
        f"images of 0 to 1 meet a network that learned from others: by the statistics of {found.path} they had a mean "
        f"of {found.mean:.2g} and a deviation of about {found.deviation:.2g}; {WAY}"
    )
