"""The map of a layer as rows and columns arranged as those of the image, even where it consists of tokens."""

import logging
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import main_layers
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.methods.cam.orientation import Orientation, orientation_of
from cnnprobe.methods.cam.tokens import token_order

LOG = logging.getLogger("cnnprobe")
EXTRA = 16
"""Tokens beside those of the grid at most: a class token, registers."""


class Grid:
    """The map of a layer, (image, channel, y, x), laid as the image is, also where it is tokens.

    Which token shows which place is measured (`tokens`): class token and registers may stand at either end. So is
    whether the network mirrors the map or exchanges its axes (`orientation`); a warning says that it is turned back.

    Args:
        model: any network.
        layer: whose map.
        size: (channel, y, x) of the images.

    Attributes:
        shape: (y, x).

    Raises:
        UserError: the layer has no map, or one in another order than the image.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...]):
        self.order: Tensor | None = None  # of the tokens, by place, row by row
        self.orientation = Orientation()
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
        self.orientation = orientation_of(model, layer, size, self.of)
        if str(self.orientation):
            LOG.warning(f"the map of {layer.name} lies over the image {self.orientation}: it is turned back")
        self.shape = self.shape[::-1] if self.orientation.exchanged else self.shape
        self.layer = layer

    @property
    def attributes(self) -> dict[str, Any]:
        """What a store says of the layer, see `Layer.attributes`, of the map as it is laid here."""
        start, stride = list(self.layer.field.start), list(self.layer.field.stride)
        for axis in self.orientation.mirrored:
            start[axis] += (self.shape[axis] - 1) * stride[axis]
            stride[axis] = -stride[axis]
        laid = {"map_size": list(self.shape), "field_start": start, "field_stride": stride}
        return self.layer.attributes | laid

    def of(self, activation: Tensor) -> Tensor:
        """Return (…, channel, y, x) of an activation (…, channel, *map)."""
        if self.order is not None:
            side = self.shape[::-1] if self.orientation.exchanged else self.shape
            activation = activation.index_select(-1, self.order.to(activation.device)).unflatten(-1, side)
        return self.orientation.turned(activation)


def upsampled(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (a, b, y, x) at the size (y, x) of an image: bilinear, each value in the middle of its share."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
