"""The map of a layer as rows and columns, also where it is tokens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.engine.layers import main_layers
from cnnprobe.engine.taps import Layer
from cnnprobe.engine.tokens import token_order
from cnnprobe.errors import UserError

EXTRA = 16
"""Tokens beside those of the grid at most: a class token, registers."""


class Grid:
    """The map of a layer, (image, channel, y, x), also where it is tokens.

    Which token shows which place is measured (`tokens`): class token and registers may stand at either end.

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
        self.order: Tensor | None = None  # of the tokens, by place, row by row
        self.shape = tuple(layer.map_size)
        if len(self.shape) == 1:
            (tokens,) = layer.map_size
            maps = [one for one in main_layers(model, size) if one.kind == "convolution" and len(one.map_size) == 2]
            fitting = [one for one in maps if 0 <= tokens - math.prod(one.map_size) <= EXTRA]
            if not fitting:
                raise UserError(
                    f"{layer.name} has {tokens} tokens, which are no grid of a patch convolution; say layer=…"
                )
            self.shape = fitting[-1].map_size
            order = token_order(model, layer, fitting[-1], size)
            if order is None:
                raise UserError(
                    f"which of the {tokens} tokens of {layer.name} shows which place of {fitting[-1].name} "
                    f"({self.shape[0]} x {self.shape[1]}) cannot be told; say layer=…"
                )
            self.order = torch.from_numpy(order)
        if len(self.shape) != 2 or math.prod(self.shape) == 1:
            positions = " x ".join(map(str, layer.map_size)) or "none"
            raise UserError(f"cam needs a layer with a map (y, x); {layer.name} has positions: {positions}")

    def of(self, activation: Tensor) -> Tensor:
        """Return (…, channel, y, x) of an activation (…, channel, *map)."""
        if self.order is None:
            return activation
        return activation.index_select(-1, self.order.to(activation.device)).unflatten(-1, self.shape)


def upsampled(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (a, b, y, x) at the size (y, x) of an image: bilinear, each value in the middle of its share."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
