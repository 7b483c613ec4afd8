"""Fields compared with what positions do: where pixels beyond the field of a position change, it must not.

Fields are computed from what functions are called, and that is not all a network does (values that pass through Python,
compiled parts, numbers that say where to read). So before anything relies on fields, the network runs on a noise image,
and again with a part of it replaced, at opposite corners; where a field owes anything to operations without a formula,
with noise of a second kind too. A position whose field does not meet that part has to give the same activation. It
needs no gradient, so nothing that cuts gradients hides anything from it. One set of images serves all layers.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.receptive_field import whole_image
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

ROUNDING = 64
"""Differences of the type's smallest step, relative to the layer's largest activation, that are rounding."""
SHARES = (0.5, 0.3)
"""Sides of the replaced parts, as shares of the image's, for the two kinds of noise."""
Block = tuple[tuple[int, int], ...]
"""(first, last) pixel per axis of the image."""


def checked(model: nn.Module, layers: list[Layer], size: tuple[int, ...]) -> list[Layer]:
    """Return layers with fields that hold: one whose positions see pixels beyond it becomes the whole image.

    Args:
        model: any network; it is given back as it was.
        layers: of it.
        size: (channel, y, x) or (channel, time) of the images.
    """
    doubtful = [layer for layer in layers if not layer.field.whole]
    sides = tuple(size[1:])
    known: dict[tuple, str | None] = kept(model, ("fields", tuple(size)), dict)
    missing = [layer for layer in doubtful if _key(layer) not in known]
    if missing:
        try:
            wrong = _beyond(model, missing, size)
        except (RuntimeError, ValueError, IndexError, UserError) as error:
            if is_short(error):
                raise
            wrong = {layer.name: f"not compared with noise images ({str(error).splitlines()[0]})" for layer in missing}
        known |= {_key(layer): wrong.get(layer.name) for layer in missing}
    found = []
    for layer in layers:
        if not layer.field.whole and (why := known[_key(layer)]) is not None:
            note = "; ".join(filter(None, [layer.note, why]))
            layer = replace(layer, field=whole_image(sides), note=note, measured_whole=True)
        found.append(layer)
    return found


def _key(layer: Layer) -> tuple:
    """Return what a comparison depends on, beside the network."""
    return layer.tap, layer.channel_axis, layer.field


def _beyond(model: nn.Module, layers: list[Layer], size: tuple[int, ...]) -> dict[str, str]:
    """Return by name what is said of the layers whose positions see pixels beyond their fields."""
    wrong: dict[str, str] = {}
    maps: dict[str, Tensor] = {}

    def receive(layer: Layer, activation: Tensor) -> None:
        maps[layer.name] = activation[0].detach().clone()

    with tap(model, layers, receive) as run:

        def shown(image: Tensor) -> dict[str, Tensor]:
            maps.clear()
            with chance.forked(), torch.no_grad():
                chance.seed(0)  # a network may draw numbers
                run(image.clone())
            return dict(maps)

        kinds = 2 if any(layer.note for layer in layers) else 1
        for base, changes in islice(_images(model, size), kinds):
            usual = shown(base)
            for block, image in changes:
                other = shown(image)
                for layer in layers:
                    if layer.name not in wrong and _leaks(layer, block, usual[layer.name], other[layer.name]):
                        wrong[layer.name] = "its positions see pixels beyond the computed field"
    return wrong


def _images(model: nn.Module, size: tuple[int, ...]) -> Iterator[tuple[Tensor, list[tuple[Block, Tensor]]]]:
    """Make the images: per kind of noise one, and for opposite corners of it, the same with that corner replaced."""
    first = noise_image(model, size)
    random = torch.Generator().manual_seed(1)
    cells = [max(1, side // 8) for side in size[1:]]
    coarse = torch.rand((1, size[0], *cells), generator=random).round()
    for side, cell, axis in zip(size[1:], cells, range(2, 2 + len(cells))):
        coarse = coarse.index_select(axis, torch.arange(side) * cell // side)
    for kind, (base, share) in enumerate(zip((first, coarse.to(first)), SHARES)):
        changes = []
        for end in (0, 1):
            ends = [(end + kind * axis) % 2 for axis in range(len(cells))]  # the second kind: the other two corners
            lengths = [max(1, round(side * share)) for side in size[1:]]
            block = tuple((side - n, side - 1) if at else (0, n - 1) for side, n, at in zip(size[1:], lengths, ends))
            image, where = base.clone(), (..., *(slice(low, high + 1) for low, high in block))
            fresh = torch.rand(image[where].shape, generator=random)
            image[where] = (fresh if end else fresh.round()).to(image)
            changes.append((block, image))
        yield base, changes


def _leaks(layer: Layer, block: Block, before: Tensor, after: Tensor) -> bool:
    """Say whether a position changed whose field does not meet the block."""
    if before.shape != after.shape:
        return True
    step = torch.finfo(before.dtype).eps if before.is_floating_point() else 0.0
    both = torch.stack([before, after]).double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    wrong = (both[0] - both[1]).abs() > ROUNDING * step * float(both.abs().max())
    changed = (wrong | (before.isfinite() != after.isfinite())).any(0).cpu().numpy()
    return bool((changed & ~_meets(layer, block)).any())


def _meets(layer: Layer, block: Block) -> np.ndarray:
    """Say whose fields meet a block, by position of the map."""
    field, shape = layer.field, layer.map_size
    axes = field.along or (tuple(range(len(shape))) if len(shape) == len(block) else (None,) * len(block))
    met = np.ones(shape, bool)
    for span, axis, (low, high) in zip(field.spans, axes, block):
        u = np.arange(shape[axis]) if axis is not None else np.zeros(1)
        first, last = span.region(u)
        along = (np.floor(first) <= high) & (np.ceil(last) >= low)
        met &= along.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return met
