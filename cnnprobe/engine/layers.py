"""Layers by name: what is in a network, where a name is read, how large it is, what it costs, where its units look.

Names:
    conv1 … convN   the convolutions in the order in which they run, module or function. Read after the BatchNorm and
                    the rectifier that follow the convolution, where they follow it alone; else its own output. A network
                    that numbers its convolutions itself (`model.aliases`) keeps its numbers.
    VISp23          areas, and other names of `model.aliases`: the output of the module they stand for.
    features.6      module path: the module's own output. `relu#2`: the output of its second call in the pass, `rnn[0]`:
                    part of a tuple. `conv1#1` is the module `conv1` where a short name has the same word.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
from torch import nn

from cnnprobe.engine.field_rules import geometries
from cnnprobe.engine.receptive_field import Field, Geometry
from cnnprobe.engine.tracing import Call, ModuleCall, Trace, Value, leaves, trace
from cnnprobe.errors import UserError, unknown


@dataclass(frozen=True)
class Tap:
    """Where a value is read during a forward pass.

    Args:
        module: module path; "" is the network itself.
        call: which call of that module in the pass, 0 the first.
        function: "" for the module's output; else the name of a torch function called directly in that module.
        nth: which call of that function there, 0 the first.
        part: index into a tuple that is returned; None where a tensor is returned.
    """

    module: str
    call: int = 0
    function: str = ""
    nth: int = 0
    part: int | None = None

    def __str__(self) -> str:
        times = f" (call {self.call + 1})" if self.call else ""
        part = f"[{self.part}]" if self.part is not None else ""
        if not self.function:
            return f"{self.module or 'the output'}{part}{times}"
        again = f" {self.nth + 1}" if self.nth else ""
        return f"{self.module + ': ' if self.module else ''}{self.function}(){again}{part}{times}"


@dataclass(frozen=True)
class Layer:
    """A place in a network where units are recorded.

    Args:
        name: as asked: "conv3", "features.6", "VISp23".
        module: path of the convolution, or of the module itself.
        reads: where it is read, for people: "features.7", "block: relu()".
        kind: convolution, linear, rectifier, norm, pool, attention, dropout, area, block or other.
        tap: where it is read, for `recording`.
        channels: number of units.
        map_size: positions: (y, x), (time,), (token,), or () for a dense layer.
        channel_axis: of the tapped tensor (image, …).
        parameters: of the module.
        macs: multiply-accumulate operations of convolutions, dense layers and attention, one image.
        field: theoretical receptive field.
        rectified: True where no value can be negative.
    """

    name: str
    module: str
    reads: str
    kind: str
    tap: Tap
    channels: int
    map_size: tuple[int, ...]
    channel_axis: int
    parameters: int
    macs: int
    field: Field
    rectified: bool


def layers_of(model: nn.Module, input_size: tuple[int, ...]) -> list[Layer]:
    """Return every layer in the order in which they are computed: short names, areas, and the output of every module.

    Args:
        input_size: (channel, y, x) or (channel, time) of the images.

    Raises:
        UserError: the network cannot take such an image.
    """


def main_layers(model: nn.Module, input_size: tuple[int, ...]) -> list[Layer]:
    """Return the convolutions by their short names, the dense layers and the areas, in order."""


def find(
    model: nn.Module, spec: str | Iterable[str], input_size: tuple[int, ...], of: str = "the model"
) -> list[Layer]:
    """Return the layers with these names, in the order asked; each place in the network once.

    Args:
        spec: a name, a list of names, a glob ("conv*", "VISp*", "features.*"), or "all": every convolution by its short
            name, every dense layer and every area that is not one of those.
        input_size: (channel, y, x) or (channel, time) of the images.
        of: name of the network in messages.

    Raises:
        UserError: no such layer, a glob that matches none, a module that is not used, is called several times, or
            returns no tensor of units.
    """


def units_of(layer: Layer, spec: str | int | Iterable[int | str]) -> np.ndarray:
    """Return unit numbers, int64, in the order asked, each once.

    Args:
        spec: "all", a number, a range "0:32" (the last one is not in it), or a list of those.

    Raises:
        UserError: no such unit, or not a number.
    """
