"""ShallowNet: the logarithm of band power, as a network for signals (Schirrmeister et al. 2017).

One filter over time and one over channels, the square, a mean over 75 samples, the logarithm, and a linear readout: the
steps of filter bank common spatial patterns, learned together (Hum Brain Mapp 38:5391, section "Shallow ConvNet";
sizes as in braindecode's ShallowFBCSPNet for 250 Hz).
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.signal_filters import OverTime, glorot

SMALLEST_POWER = 1e-6  # below it the logarithm is cut off


def needs(
    *,
    input_size: Annotated[int, Range(2)],
    channels: Annotated[int, Range(1, 4096)],
    filters: Annotated[int, Range(1)],
    filter_size: Annotated[int, Range(1)],
    pool_size: Annotated[int, Range(1)],
    pool_stride: Annotated[int, Range(1)],
    dropout: Annotated[float, Range(0, below=1)],
) -> Input:
    """Say which signals the network was made for."""
    return Input(channels=channels, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    input_size: Annotated[int, Range(2)],
    channels: Annotated[int, Range(1, 4096)],
    filters: Annotated[int, Range(1)],
    filter_size: Annotated[int, Range(1)],
    pool_size: Annotated[int, Range(1)],
    pool_stride: Annotated[int, Range(1)],
    dropout: Annotated[float, Range(0, below=1)],
) -> nn.Module:
    """Build the network in eval() mode.

    Args:
        num_classes: of the readout; None: 4.
        input_size: samples of a signal.
        channels: of a signal.
        filters: over time, and over channels.
        filter_size: samples of a filter over time.
        pool_size, pool_stride: samples over which power is averaged, and between two averages.
        dropout: share of averages left out in training.

    Returns:
        A network of (signal, channel, time) to (signal, class).

    Raises:
        UserError: the signals are too short.
    """
    steps = input_size - filter_size + 1
    if steps < pool_size:
        raise UserError(
            f"input_size must be {filter_size + pool_size - 1} or more for shallownet "
            f"(filters of {filter_size}, means of {pool_size}), got {input_size}"
        )
    averages = (steps - pool_size) // pool_stride + 1
    model = ShallowNet(
        conv_time=OverTime(channels, filters, filter_size),
        conv_space=nn.Conv1d(channels * filters, filters, 1, bias=False),
        norm=nn.BatchNorm1d(filters),
        square=Square(),
        pool=nn.AvgPool1d(pool_size, pool_stride),
        log=Logarithm(),
        drop=nn.Dropout(dropout),
        readout=nn.Conv1d(filters, num_classes or 4, averages),
    )
    glorot(model)
    model.cnnprobe = About(input_size=(channels, input_size), aliases={"power": "log"})
    return model.eval()


class ShallowNet(nn.Sequential):
    """Its modules in a row, by name."""

    def __init__(self, **modules: nn.Module):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, signals: Tensor) -> Tensor:
        """Return the logits (signal, class) of signals (signal, channel, time)."""
        return super().forward(signals).flatten(1)


class Square(nn.Module):
    """The square of each value: with the mean behind it, power."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the squares."""
        return torch.square(values)


class Logarithm(nn.Module):
    """The natural logarithm of power, of at least 1e-6."""

    def forward(self, power: Tensor) -> Tensor:
        """Return the logarithms."""
        return torch.log(torch.clamp(power.float(), min=SMALLEST_POWER))
