"""What every layer answers to every stimulus, kept only until it is known how unlike the answers are.

One pass over the images serves all layers. Where memory does not hold the patterns of all layers at once, there are
several passes, and of a large layer only some features in each: products of patterns add up over features.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.engine.dissimilarity import Products, ranks, step
from cnnprobe.engine.loading import Batch, batches
from cnnprobe.engine.memory import UNBOUNDED, Carried, free_memory, in_parts
from cnnprobe.engine.recording import tap
from cnnprobe.engine.taps import Layer
from cnnprobe.records import Advance, Phase

LOG = logging.getLogger("cnnprobe")
IMAGES = "pixels"
"""Name under which the images themselves are recorded."""
SHARE = 0.5
"""Of free memory that patterns may take."""


@dataclass(frozen=True)
class Piece:
    """Features of one layer that are recorded in one pass: from `start` to before `stop`."""

    name: str
    start: int
    stop: int


class Patterns:
    """Records layers and the images themselves.

    Args:
        model: any network; it is given back as it was.
        layers: to be recorded.
        dataset: an image set.
        ranked: patterns are replaced by the ranks of their features: a layer is taken whole.
        pixels: record the images as well.
        batch_size: images that pass through the network together.
        device: where the network is, and the patterns are.
        workers: processes that load images.
        memory: bytes that patterns may take; None: half of what is free.

    Attributes:
        skipped: (image,) bool, true where an image could not be read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: list[Layer],
        dataset: Any,
        *,
        ranked: bool,
        pixels: bool,
        batch_size: int,
        device: str,
        workers: int,
        memory: int | None = None,
    ):
        self.model, self.dataset, self.ranked = model, dataset, ranked
        self.layers = {layer.name: layer for layer in layers}
        self.loading = {"batch_size": batch_size, "device": device, "workers": workers}
        self.memory = memory
        self.skipped = np.zeros(len(dataset), bool)
        self.features = {layer.name: layer.channels * prod(layer.map_size) for layer in layers}
        if pixels:
            self.features[IMAGES] = prod(dataset.size)

    def passes(self) -> list[list[Piece]]:
        """Decide what is recorded in each pass over the images; a warning says so where it takes several."""
        count = len(self.dataset)
        room = self.memory or int(SHARE * free_memory(torch.device(self.loading["device"])))
        most = max(step(count), room // (4 * count) // step(count) * step(count))  # features
        found: list[list[Piece]] = [[]]
        left = most
        for name, features in self.features.items():
            start = 0
            while start < features:
                wanted = features - start
                if wanted > left and found[-1] and (self.ranked or left < step(count)):
                    found.append([])
                    left = most
                taken = wanted if self.ranked or wanted <= left else left
                found[-1].append(Piece(name, start, start + taken))
                start, left = start + taken, left - taken
                left = max(0, left // step(count) * step(count))
        if len(found) > 1:
            whole = 4 * count * sum(self.features.values())
            LOG.warning(
                f"memory is short: the patterns of all layers take {whole / 1e9:.3g} GB, {room / 1e9:.3g} GB may be "
                f"used; {len(found)} passes over the images instead of one"
            )
        return found

    def record(self, name: str = "recording") -> Iterator[Advance | Phase]:
        """Record; returns the products by name, (image, image) each. Rows of images that cannot be read are NaN.

        Args:
            name: of the work, for people.
        """
        passes = self.passes()
        yield Phase(name, len(passes) * len(self.dataset), "images")
        products = {layer: Products() for layer in self.features}
        for pieces in passes:
            kept = yield from self._pass(pieces)
            for piece in pieces:
                patterns = kept.pop(piece)  # not longer than needed
                products[piece.name].add(ranks(patterns) if self.ranked else patterns)
        return products

    def _pass(self, pieces: list[Piece]) -> Iterator[Advance]:
        """Show every image once; returns the patterns, (image, feature) by piece."""
        kept: dict[Piece, Tensor] = {}
        names = {piece.name for piece in pieces}
        layers = [layer for name, layer in self.layers.items() if name in names]
        indices = np.zeros(0, np.int64)
        bad: dict[str, list[int]] = {}

        def keep(name: str, activation: Tensor) -> None:
            flat = activation.reshape(len(activation), -1)
            for piece in pieces:
                if piece.name == name:
                    part = flat[:, piece.start : piece.stop]
                    if piece not in kept:
                        kept[piece] = part.new_full((len(self.dataset), part.shape[1]), torch.nan)
                    kept[piece][torch.from_numpy(indices).to(part.device)] = part

        with torch.inference_mode(), tap(self.model, layers, lambda layer, a: keep(layer.name, a)) as run:

            def show(part: Batch) -> None:
                nonlocal indices
                indices = part.indices
                if IMAGES in names:
                    keep(IMAGES, part.images)
                if layers:
                    run(part.images)

            carried = Carried(UNBOUNDED)
            for batch in batches(self.dataset, **self.loading):
                for part, _ in in_parts(batch, carried, show):
                    self.skipped[indices] = ~part.readable
                    for piece in pieces:
                        kept[piece][torch.from_numpy(indices[~part.readable])] = torch.nan
                        finite = kept[piece][torch.from_numpy(indices)].isfinite().all(1).cpu().numpy()
                        bad.setdefault(piece.name, []).extend(indices[~finite & part.readable].tolist())
                    yield Advance(len(part))
        for name, images in bad.items():
            if images:
                LOG.warning(f"{name}: not finite for {len(set(images))} images, first image {min(images)}")
        return kept
