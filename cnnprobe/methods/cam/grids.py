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
from cnnprobe.methods.cam.localisation import TOLERANCE
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


def displacement(layer: Layer, size: tuple[int, ...]) -> str:
    """Say where a map lies whose edge looks further inside the image than it is drawn; "" where it lies as it is drawn.

    A map is drawn over the whole image, (k + 1/2) / n of its side for the k-th of n places. Without padding the middles
    of the fields of the first and the last place are further inside; less than a step of the map, or than the pointing
    game allows, is left unsaid.

    Args:
        layer: with a map (y, x).
        size: (channel, y, x) of the images.
    """
    if layer.field.along or len(layer.map_size) != 2:
        return ""
    parts = []
    for span, count, side in zip(layer.field.spans, layer.map_size, size[1:]):
        first, last = sorted(sum(span.region(place)) / 2 + 0.5 for place in (0, count - 1))
        step = side / count
        if not span.stride or max(first - step / 2, side - step / 2 - last) <= max(step, TOLERANCE * side):
            return ""
        parts.append(f"{first:g} to {last:g}")
    sides = " x ".join(str(side) for side in size[1:])
    where = f"px {parts[0]} down and {parts[1]} across (the middles of its fields, of {sides})"
    return f"the map of {layer.name} belongs to {where}, and is drawn over the whole image: its edge is displaced"


def upsampled(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return maps (a, b, y, x) at the size (y, x) of an image: bilinear, each value in the middle of its share."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
