"""The map of a layer as rows and columns, also where it is tokens."""

import math

from torch import Tensor, nn

from cnnprobe.engine.layers import main_layers
from cnnprobe.engine.taps import Layer
from cnnprobe.errors import UserError

EXTRA = 16
"""Tokens beside those of the grid at most: a class token, registers."""


class Grid:
    """The map of a layer, (image, channel, y, x), also where it is tokens.

    Tokens stand row by row as the patch convolution put them; those beyond its grid (class token, registers) come
    first.

    Args:
        model: any network.
        layer: whose map.
        size: (channel, y, x) of the images.

    Attributes:
        shape: (y, x).

    Raises:
        UserError: the layer has no map.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...]):
        self.first = 0
        self.shape = tuple(layer.map_size)
        if len(self.shape) == 1:
            (tokens,) = layer.map_size
            maps = [one.map_size for one in main_layers(model, size) if one.kind == "convolution"]
            fitting = [one for one in maps if len(one) == 2 and 0 <= tokens - math.prod(one) <= EXTRA]
            if not fitting:
                raise UserError(
                    f"{layer.name} has {tokens} tokens, which are no grid of a patch convolution; say layer=…"
                )
            self.shape = fitting[-1]
            self.first = tokens - math.prod(self.shape)
        if len(self.shape) != 2 or math.prod(self.shape) == 1:
            positions = " x ".join(map(str, layer.map_size)) or "none"
            raise UserError(f"cam needs a layer with a map (y, x); {layer.name} has positions: {positions}")

    def of(self, activation: Tensor) -> Tensor:
        """Return (…, channel, y, x) of an activation (…, channel, *map)."""
        if not self.first and activation.shape[-2:] == self.shape:
            return activation
        return activation[..., self.first :].unflatten(-1, self.shape)
