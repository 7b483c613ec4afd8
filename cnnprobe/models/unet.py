"""U-Net: a class for every pixel, by a path that contracts, one that expands, and skips between them.

Ronneberger, Fischer, Brox 2015 (arXiv:1505.04597, section 2 and figure 1): at every level two 3x3 convolutions, each
with a rectifier; 2x2 maxima on the way down, where channels double, 2x2 up-convolutions on the way up, where they are
halved; what a level computed on the way down, cut to size, is joined to what comes up. Levels count from the image.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnprobe.config.options import Range
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input
from cnnprobe.models.parts.normalisation import normalise

Side = Annotated[int, Range(2)]
Channels = Annotated[int, Range(1, 4096)]
Width = Annotated[int, Range(1, 1024)]
Depth = Annotated[int, Range(1, 8)]
Padding = Literal["same", "valid", "mirror"]
Rise = Literal["transposed", "resize"]


def needs(*, input_size: Side, channels: Channels, width: Width, depth: Depth, padding: Padding, rise: Rise) -> Input:
    """Say which images the network was made for."""
    return Input(channels=channels, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    input_size: Side,
    channels: Channels,
    width: Width,
    depth: Depth,
    padding: Padding,
    rise: Rise,
) -> nn.Module:
    """Build the network in eval() mode.

    Args:
        num_classes: of every pixel; None: 2.
        input_size: side of the images, px.
        channels: of the images.
        width: channels of level 1; every further level has twice as many.
        depth: levels, beside the bottom.
        padding: same: zeros around every map, which keeps its size; valid: none, as published: the output is the
            middle of the image; mirror: the image is reflected at its borders by what is lost, then as valid.
        rise: how maps grow: an up-convolution of 2x2, or repeated pixels and a 3x3 convolution (Odena et al. 2016).

    Returns:
        A network of (image, channel, y, x), 0 to 1, to (image, class, y, x).

    Raises:
        UserError: maps of such images cannot be halved so often, or are too small.

    Example:
        model = build(num_classes=2, input_size=572, channels=1, width=64, depth=4, padding="valid", rise="transposed")
        model(torch.rand(1, 1, 572, 572)).shape  # (1, 2, 388, 388), as published
    """
    sides = Sides(depth, padding, rise)
    sides.check(input_size)
    model = UNet(channels, num_classes or 2, width, depth, padding, rise, sides.border if padding == "mirror" else 0)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            # He et al. 2015: deviation sqrt(2 / fan-in). Of an up-convolution each output has one tap per channel.
            fan = layer.in_channels * (9 if layer.kernel_size == (3, 3) else 1)
            nn.init.normal_(layer.weight, std=(2 / fan) ** 0.5)
            nn.init.zeros_(layer.bias)
    normalise(model, (0.5,) * channels, (0.25,) * channels)
    levels = range(1, depth + 1)
    paths = {
        f"{part}{level}": f"{part}.{level - 1}" for part in ("contract", "skip", "rise", "expand") for level in levels
    }
    aliases = paths | {"bottom": "bottom"}
    model.cnnprobe = About(input_size=(channels, input_size, input_size), aliases=aliases, output="map")
    return model.eval()


@dataclass(frozen=True)
class Sides:
    """Which images a network takes, and how large its maps are.

    Args:
        depth, padding, rise: see `build`.
    """

    depth: int
    padding: Padding
    rise: Rise

    def left(self, side: int) -> int | None:
        """Return the side of the output of an image that is not reflected, px; None where maps cannot be halved."""
        lost = 0 if self.padding == "same" else 4  # of two convolutions
        for _ in range(self.depth):
            side -= lost
            if side < 2 or side % 2:
                return None
            side //= 2
        for _ in range(self.depth + 1):  # the bottom, and the levels on the way up
            side -= lost
            if side < 1:
                return None
            output, side = side, 2 * side - (lost // 2 if self.rise == "resize" else 0)
        return output

    @property
    def border(self) -> int:
        """Half of what the output is smaller than an image, px."""
        side = next(side for side in range(1, 10**6) if self.left(side))
        return (side - (self.left(side) or 0)) // 2

    def takes(self, side: int) -> bool:
        """Say whether images of a side can be shown."""
        if self.padding == "mirror":  # a reflection repeats no pixel of the border
            return side > self.border and self.left(side + 2 * self.border) is not None
        return self.left(side) is not None

    def check(self, side: int) -> None:
        """Refuse images that cannot be shown.

        Raises:
            UserError: names what sides can be, and the nearest ones.
        """
        if self.takes(side):
            return
        step = 2**self.depth
        least = next(one for one in range(1, 10**6) if self.takes(one))
        sides = f"a multiple of {step}" + (f" plus {least % step}" if least % step else "")
        below, above = (next((one for one in range(side, end, way) if self.takes(one)), None)
                        for end, way in ((0, -1), (side + least + step, 1)))  # fmt: skip
        near = " or ".join(str(one) for one in (below, above) if one is not None)
        options = f"depth={self.depth}" + ("" if self.padding == "same" else f" padding={self.padding}")
        raise UserError(f"input_size must be {sides} for unet with {options}, such as {near}, got {side}")


class UNet(nn.Module):
    """The network; level 1 is that of the image.

    Args:
        channels: of the images.
        classes: of every pixel.
        width, depth, padding, rise: see `build`.
        border: px by which images are reflected on each side.
    """

    def __init__(
        self, channels: int, classes: int, width: int, depth: int, padding: Padding, rise: Rise, border: int = 0
    ):
        super().__init__()
        self.border = border
        own = int(padding == "same")
        wide = [width * 2**level for level in range(depth + 1)]
        self.contract = nn.ModuleList(_two(before, after, own) for before, after in zip([channels, *wide], wide[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.bottom = _two(wide[-2], wide[-1], own)
        self.rise = nn.ModuleList(_rise(2 * one, one, own, rise) for one in wide[:-1])
        self.skip = nn.ModuleList(Skip() for _ in wide[:-1])
        self.expand = nn.ModuleList(_two(2 * one, one, own) for one in wide[:-1])
        self.readout = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (image, class, y, x) of images (image, channel, y, x)."""
        x = functional.pad(images, (self.border,) * 4, mode="reflect") if self.border else images
        kept = []
        for level in self.contract:
            kept.append(level(x))
            x = self.pool(kept[-1])
        x = self.bottom(x)
        for skip, rise, expand in zip(self.skip[::-1], self.rise[::-1], self.expand[::-1]):
            x = rise(x)
            x = expand(torch.cat([skip(kept.pop(), x.shape[-2:]), x], dim=1))
        return self.readout(x)


class Skip(nn.Module):
    """What a level hands across: the middle of its map. It is a place of its own, apart from what goes down."""

    def forward(self, maps: Tensor, size: torch.Size) -> Tensor:
        """Return the middle of maps (image, channel, y, x), of a size (y, x)."""
        top, left = ((whole - part) // 2 for whole, part in zip(maps.shape[-2:], size))
        return maps[..., top : top + size[0], left : left + size[1]]


def _two(before: int, after: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(before, after, 3, padding=padding), nn.ReLU()),
        *(nn.Conv2d(after, after, 3, padding=padding), nn.ReLU()),
    )


def _rise(before: int, after: int, padding: int, rise: Rise) -> nn.Module:
    if rise == "transposed":
        return nn.ConvTranspose2d(before, after, 2, stride=2)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=padding))
