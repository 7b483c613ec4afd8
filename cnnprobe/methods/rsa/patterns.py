"""Response patterns of every layer to every stimulus, kept only until their dissimilarities are known.

One pass over the images serves all layers. Where memory does not hold the patterns of all layers at once, there are
several passes, and of a large layer only some features in each: products of patterns add up over features.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.images.batches import Batch, batches
from cnnprobe.instruments.images.passes import passing
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.statistics.dissimilarity import Products, ranks, step
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.memory import free_memory
from cnnprobe.store.tables import Advance, Phase
from cnnprobe.store.unfinished import State, Unfinished

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
        computation: device of the network and the patterns, loaders, batch size.
        memory: bytes that patterns may take; None: half of what is free.

    Attributes:
        skipped: (image,) bool, true where an image could not be read.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: list[Layer],
        dataset: ImageSet,
        *,
        ranked: bool,
        pixels: bool,
        computation: Computation,
        memory: int | None = None,
    ):
        self.model, self.dataset, self.ranked = model, dataset, ranked
        self.layers = {layer.name: layer for layer in layers}
        self.computation = computation
        self.memory = memory
        self.skipped = np.zeros(len(dataset), bool)
        self.features = {layer.name: layer.channels * prod(layer.map_size) for layer in layers}
        if pixels:
            self.features[IMAGES] = prod(dataset.size)

    def passes(self) -> list[list[Piece]]:
        """Decide what is recorded in each pass over the images; a warning says so where it takes several."""
        count = len(self.dataset)
        room = self.memory or int(SHARE * free_memory(torch.device(self.computation.device)))
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

    def record(
        self, name: str = "recording", unfinished: Unfinished | None = None
    ) -> Generator[Advance | Phase, None, dict[str, Products]]:
        """Record; returns the products by name, (image, image) each. Rows of images that cannot be read are NaN.

        Args:
            name: of the work, for people.
            unfinished: keeps what was recorded so far.
        """
        passes = self.passes()
        yield Phase(name, len(passes) * len(self.dataset), "images")
        products, done = {layer: Products() for layer in self.features}, 0
        unfinished = unfinished or Unfinished()
        whole = [[vars(piece) for piece in pieces] for pieces in passes]  # another machine may cut them otherwise

        def take() -> State:
            every = {layer: vars(one) for layer, one in products.items()}
            return {"passes": whole, "done": done, "skipped": self.skipped, "products": every}

        def restore(state: State) -> None:
            nonlocal done
            if state["passes"] == whole:
                for layer, one in products.items():
                    one.restore(state["products"][layer], self.computation.device)
                done, self.skipped[:] = state["done"], state["skipped"]

        unfinished.begin(name, take, restore)
        for number, pieces in enumerate(passes):
            if number < done:
                yield Advance(len(self.dataset))
                continue
            kept = yield from self._pass(pieces, f"{name}/{number} {pieces}", unfinished)
            for piece in pieces:
                patterns = kept.pop(piece)  # not longer than needed
                products[piece.name].add(ranks(patterns) if self.ranked else patterns)
            unfinished.drop(f"{name}/{number} {pieces}")
            done = number + 1
        unfinished.end(name)
        return products

    def _pass(
        self, pieces: list[Piece], name: str, unfinished: Unfinished
    ) -> Generator[Advance, None, dict[Piece, Tensor]]:
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

            def use(part: Batch, _: None) -> None:
                self.skipped[part.indices] = ~part.readable
                for piece in pieces:
                    kept[piece][torch.from_numpy(part.indices[~part.readable])] = torch.nan
                    finite = kept[piece][torch.from_numpy(part.indices)].isfinite().all(1).cpu().numpy()
                    bad.setdefault(piece.name, []).extend(part.indices[~finite & part.readable].tolist())

            def take() -> State:
                return {"patterns": [kept.get(piece) for piece in pieces], "bad": bad, "skipped": self.skipped}

            def restore(state: State) -> None:
                device = self.computation.device
                there = {piece: one for piece, one in zip(pieces, state["patterns"], strict=True) if one is not None}
                if any(one.shape != (len(self.dataset), piece.stop - piece.start) for piece, one in there.items()):
                    raise ValueError("patterns of other layers")
                kept.update({piece: torch.from_numpy(one).to(device) for piece, one in there.items()})
                bad.update(state["bad"])
                self.skipped[:] = state["skipped"]

            def loaded(start: int) -> Iterator[Batch]:
                return batches(self.dataset, start=start, **self.computation.loading)

            count = len(self.dataset)
            yield from passing(name, count, loaded, show, use, take=take, restore=restore, unfinished=unfinished)
        for layer, images in bad.items():
            if images:
                LOG.warning(f"{layer}: not finite for {len(set(images))} images, first image {min(images)}")
        return kept
