"""A layer, and the place in a forward pass where it is read."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cnnprobe.instruments.network.receptive_field import Field
from cnnprobe.machine import files


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
        kind: convolution, linear, nonlinearity, norm, pool, attention, dropout, area, block or other.
        tap: where it is read, for `recording`.
        channels: number of units.
        map_size: positions: (y, x), (time,), (token,), or () for a dense layer.
        channel_axis: of the tapped tensor (image, …).
        parameters: of the module.
        macs: multiply-accumulate operations of convolutions, dense layers and attention, one image.
        field: theoretical receptive field.
        rectified: True where no value can be negative.
        image_axis: of the tapped tensor.
        handing: how images pass for it to be right, see `conduct.Handing`.
        note: what the field owes to operations without a formula, and to a comparison with the network.
        measured_whole: True where the computed field did not hold, so that it is the whole image.
        lone: True where what is tapped is one number for each image, (image,), without an axis of units.
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
    image_axis: int = 0
    handing: str = "together"

    @property
    def plain(self) -> bool:
        """Say whether the tapped tensor is (image, …), of many images that pass together."""
        return self.image_axis == 0 and self.handing == "together" and not self.lone

    def activation(self, tapped: Tensor, images: int) -> Tensor:
        """Return (image, channel, *map) of what was tapped in a pass of so many images."""
        if self.handing == "restored" and images == 1:
            tapped = tapped.unsqueeze(self.image_axis)
        tapped = tapped.unsqueeze(1) if self.lone else tapped
        axes = self.image_axis, self.channel_axis
        return tapped if axes == (0, 1) else tapped.movedim(axes, (0, 1))

    def tapped(self, activation: Tensor, images: int) -> Tensor:
        """Return what `activation` was made from."""
        axes = self.image_axis, self.channel_axis
        tapped = activation if axes == (0, 1) else activation.movedim((0, 1), axes)
        tapped = tapped.squeeze(1) if self.lone else tapped
        return tapped.squeeze(self.image_axis) if self.handing == "restored" and images == 1 else tapped

    note: str = ""
    measured_whole: bool = False
    lone: bool = False

    @property
    def group(self) -> str:
        """Its name in a store and of a file, without slashes: "VISp23" for "VISp2/3"."""
        return files.plain(self.name)

    @property
    def attributes(self) -> dict[str, Any]:
        """What a store says of it: where it is read, its map and its theoretical field, px of the input.

        `field_axes`: see `Field.along`, where the axes of the map are not those of the image; -1 for none.
        """
        axes = [-1 if axis is None else axis for axis in self.field.along]
        return {
            "layer": self.name,
            "module": self.module,
            "reads": self.reads,
            "map_size": list(self.map_size),
            "field_size": list(self.field.size),
            "field_stride": list(self.field.stride),
            "field_start": list(self.field.start),
            "field_note": self.note,
        } | ({"field_axes": axes} if axes else {})
