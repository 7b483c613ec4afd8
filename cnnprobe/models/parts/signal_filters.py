"""Filters over time that all channels of a signal share, and how networks for signals begin to learn."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class OverTime(nn.Module):
    """The same filters over the time of each channel of a signal.

    Output channel e * filters + k is filter k at channel e of the signal, so that a filter at an electrode is a unit.

    Args:
        channels: of the signal.
        filters: how many.
        size: samples of a filter; no padding.
    """

    def __init__(self, channels: int, filters: int, size: int):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.zeros(filters, 1, size))
        self.bias = nn.Parameter(torch.zeros(filters))

    def forward(self, signals: Tensor) -> Tensor:
        """Return (signal, channel * filter, time) of (signal, channel, time)."""
        weight, bias = self.weight.repeat(self.channels, 1, 1), self.bias.repeat(self.channels)
        return functional.conv1d(signals, weight, bias, groups=self.channels)

    def extra_repr(self) -> str:
        """Say how many filters of which size."""
        filters, _, size = self.weight.shape
        return f"channels={self.channels}, filters={filters}, size={size}"


def glorot(model: nn.Module) -> None:
    """Draw weights of filters and readouts as Glorot and Bengio 2010 (equation 16), biases 0."""
    for module in model.modules():
        if isinstance(module, OverTime | nn.Conv1d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
