"""Deep4Net: four blocks of convolution and maximum, as a network for signals (Schirrmeister et al. 2017).

The first block filters over time and then over channels, with nothing between them; each block ends in BatchNorm, ELU
and the maximum of three samples (Hum Brain Mapp 38:5391, section "Deep ConvNet"; sizes as in braindecode's Deep4Net).
"""

from itertools import pairwise
from typing import Annotated

from torch import Tensor, nn

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.signal_filters import OverTime, glorot

POOL = 3  # samples of which the largest goes on
BLOCKS = 4


def needs(
    *,
    input_size: Annotated[int, Range(2)],
    channels: Annotated[int, Range(1, 4096)],
    filters: Annotated[int, Range(1)],
    filter_size: Annotated[int, Range(1)],
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
    dropout: Annotated[float, Range(0, below=1)],
) -> nn.Module:
    """Build the network in eval() mode.

    Args:
        num_classes: of the readout; None: 4.
        input_size: samples of a signal.
        channels: of a signal.
        filters: of the first block; each further block has twice as many.
        filter_size: samples of every filter over time.
        dropout: share of values left out before the later blocks in training.

    Returns:
        A network of (signal, channel, time) to (signal, class).

    Raises:
        UserError: the signals are too short.
    """
    length = left(input_size, filter_size)
    if length < 1:
        least = next(size for size in range(input_size, 10**7) if left(size, filter_size) > 0)
        raise UserError(
            f"input_size must be {least} or more for deep4net (4 filters of {filter_size}), got {input_size}"
        )
    model = Deep4Net(channels, filters, filter_size, dropout, num_classes or 4, length)
    glorot(model)
    model.cnnprobe = About(input_size=(channels, input_size))
    return model.eval()


def left(samples: int, filter_size: int) -> int:
    """Return how many samples are left behind the four blocks, 0 or less where there are too few."""
    for _ in range(BLOCKS):
        samples = (samples - filter_size + 1) // POOL
    return samples


class Deep4Net(nn.Module):
    """The four blocks and the readout.

    Args:
        channels: of the signal.
        filters: of the first block.
        filter_size: samples.
        dropout: before blocks 2 to 4.
        classes: of the readout.
        length: samples behind the last block.
    """

    def __init__(self, channels: int, filters: int, filter_size: int, dropout: float, classes: int, length: int):
        super().__init__()
        first = (
            OverTime(channels, filters, filter_size),
            nn.Conv1d(channels * filters, filters, 1, bias=False),
        )
        self.block1 = nn.Sequential(*first, *_ending(filters))
        wide = [filters * 2**power for power in range(BLOCKS)]
        self.block2, self.block3, self.block4 = (
            nn.Sequential(nn.Dropout(dropout), nn.Conv1d(before, after, filter_size, bias=False), *_ending(after))
            for before, after in pairwise(wide)
        )
        self.readout = nn.Conv1d(wide[-1], classes, length)

    def forward(self, signals: Tensor) -> Tensor:
        """Return the logits (signal, class) of signals (signal, channel, time)."""
        features = self.block4(self.block3(self.block2(self.block1(signals))))
        return self.readout(features).flatten(1)


def _ending(channels: int) -> tuple[nn.Module, ...]:
    return nn.BatchNorm1d(channels), nn.ELU(), nn.MaxPool1d(POOL)
