"""The images every unit responds to most (or least), in one pass over the images with flat memory.

Criteria: the maximum of the unit's map, and its mean; its area needs all images before it is known, see `areas`. A
larger response goes first; of equal ones the smaller image index. The result does not depend on how images are batched.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.store.unfinished import put

CRITERIA = ("max", "mean")
CHUNK = 2_000_000
"""Values reduced at a time: what one reduction has read is still in the cache (8 MB) for the next."""


@dataclass(frozen=True)
class Ranked:
    """The k images per unit, best first.

    Args:
        images: (unit, k) int64, index of the image; -1 where there is none.
        responses: (unit, k) float32; NaN where there is none.
        positions: (unit, k, map axis) int64, where the map is largest (first of equal ones); -1 where there is none.
    """

    images: np.ndarray
    responses: np.ndarray
    positions: np.ndarray


class Ranker:
    """Ranks images for all units of several layers and by several criteria at once.

    Args:
        layers: whose activations it will receive, see `network.activations.tap`.
        k: images per unit.
        criteria: of `CRITERIA`.
        bottom: also keep the k images each unit responds to least.

    Example:
        ranker = Ranker(layers, k=9, criteria=["max"])
        with tap(model, layers, ranker.receive) as run:
            for batch in batches(dataset, batch_size=64):
                ranker.begin(batch.indices, batch.readable)
                run(batch.images)
        ranker.ranked("conv1", "max").images
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        k: int,
        criteria: Sequence[str] = ("max",),
        bottom: bool = False,
    ):
        self.criteria = tuple(criteria)
        self.layers = {layer.name: layer for layer in layers}
        self.k, self.ends = k, ("top", "bottom") if bottom else ("top",)
        self.lists = {
            (layer.name, criterion, end): _List(layer.channels, k)
            for layer in self.layers.values()
            for criterion in self.criteria
            for end in self.ends
        }
        self.highest = {layer.name: torch.full((layer.channels,), -torch.inf) for layer in self.layers.values()}
        self.lowest = {layer.name: torch.full((layer.channels,), torch.inf) for layer in self.layers.values()}
        self.unfit: dict[str, list[int]] = {}  # by layer: images with NaN or Inf
        self.indices, self.readable = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.bool)
        self.entering: list[Callable[[], None]] = []
        """Changes since `begin`; they are made when the pass through the network has come to its end."""

    def begin(self, indices: np.ndarray, readable: np.ndarray | None = None) -> None:
        """Say which images come next: index (image,), and whether each could be read (others never rank)."""
        self._enter()
        self.indices = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        everything = np.ones(len(self.indices), dtype=bool)
        self.readable = torch.as_tensor(everything if readable is None else np.asarray(readable, dtype=bool))

    def forget(self) -> None:
        """Take back what was received since `begin`: the pass through the network failed on its way."""
        self.entering.clear()

    def _enter(self) -> None:
        """Keep what was received since `begin`."""
        for change in self.entering:
            change()
        self.entering.clear()

    @torch.inference_mode()
    def receive(self, layer: Layer, activation: Tensor) -> None:
        """Take the activation (image, channel, *map) of the images announced by `begin`."""
        maps = Maps(activation)
        responses = self._responses(layer, maps)
        finite = torch.stack([response.isfinite().all(1) for response in responses.values()]).all(0)
        fit = finite & self.readable
        if not finite.all():
            self.entering.append(partial(self._tell, layer, self.indices[~finite & self.readable].tolist(), len(fit)))
        if fit.any():
            self.entering.append(partial(self._widen, layer.name, responses["max"][fit].aminmax(dim=0)))
        for (name, criterion, end), ranks in self.lists.items():
            if name == layer.name:
                sign = 1 if end == "top" else -1
                better = ranks.better(responses[criterion] * sign, self.indices, fit, maps)
                if better is not None:
                    self.entering.append(partial(ranks.put, *better))

    @torch.inference_mode()
    def _widen(self, name: str, ends: tuple[Tensor, Tensor]) -> None:
        """Remember the range of the responses of every unit."""
        torch.minimum(self.lowest[name], ends[0], out=self.lowest[name])
        torch.maximum(self.highest[name], ends[1], out=self.highest[name])

    def _responses(self, layer: Layer, maps: "Maps") -> dict[str, Tensor]:
        """Return the responses (image, unit) by criterion, on the CPU; max always."""
        parts: dict[str, list[Tensor]] = {criterion: [] for criterion in ("max", *self.criteria)}
        for chunk in maps.chunks():
            parts["max"].append(chunk.amax(maps.axis))
            if "mean" in parts:
                parts["mean"].append(chunk.sum(maps.axis, dtype=maps.precise) / maps.count)
        return {criterion: torch.cat(pieces).float().cpu() for criterion, pieces in parts.items()}

    def _tell(self, layer: Layer, images: list[int], count: int) -> None:
        """Note and tell which of `count` images have responses that are not finite."""
        self.unfit.setdefault(layer.name, []).extend(images)
        logging.getLogger("cnnprobe").warning(
            "layer %s: NaN or Inf in the activation of %d of %d images (first: image %d); they do not rank",
            *(layer.name, len(images), count, images[0] if images else -1),
        )

    def state(self) -> dict:
        """Return what is known so far, for `restore`."""
        self._enter()
        lists = [one.state() for one in self.lists.values()]
        return {"lists": lists, "highest": self.highest, "lowest": self.lowest, "unfit": self.unfit}

    def restore(self, state: dict) -> None:
        """Go on from what another ranker of the same layers knew."""
        for own, one in zip(self.lists.values(), state["lists"], strict=True):
            put(own.state(), one)
        put(self.highest, state["highest"])
        put(self.lowest, state["lowest"])
        self.unfit = dict(state["unfit"])

    def dead(self, name: str) -> np.ndarray:
        """Say which units of a layer no image drives, (unit,) bool: the same response, 0 or less, to every image."""
        self._enter()
        highest, lowest = self.highest[name], self.lowest[name]
        return ((highest <= 0) & (highest == lowest) | (highest < lowest)).numpy()

    def ranked(self, name: str, criterion: str, end: str = "top") -> Ranked:
        """Return the ranks of all units of a layer; a dead unit has none."""
        self._enter()
        ranks = self.lists[name, criterion, end]
        none = (ranks.images < 0).numpy() | self.dead(name)[:, None]
        responses = ranks.responses.numpy() * (1 if end == "top" else -1) + 0.0  # and no -0
        sides = self.layers[name].map_size
        positions = np.stack(np.unravel_index(ranks.positions.numpy(), sides), axis=-1) if sides else None
        if positions is None:
            positions = np.zeros((*none.shape, 0), dtype=np.int64)
        return Ranked(
            images=np.where(none, -1, ranks.images.numpy()),
            responses=np.where(none, np.float32(np.nan), responses).astype(np.float32),
            positions=np.where(none[:, :, None], -1, positions).astype(np.int64),
        )


class Maps:
    """An activation as (image, unit, position), or (image, position, unit) where memory is laid out so."""

    def __init__(self, activation: Tensor):
        maps = activation.detach()
        last = maps.ndim > 2 and maps.stride(1) == 1 and maps.shape[1] > 1
        self.axis = 1 if last else 2  # of the positions
        self.values = maps.movedim(1, -1).flatten(1, -2) if last else maps.reshape(*maps.shape[:2], -1)
        self.count = self.values.shape[self.axis]
        self.device = maps.device
        self.precise = torch.float64 if maps.dtype == torch.float64 else torch.float32

    def chunks(self) -> Sequence[Tensor]:
        """Return the images in pieces that fit the cache."""
        if self.device.type != "cpu":
            return [self.values]
        return self.values.split(max(1, CHUNK // max(1, self.values[0].numel())))

    def argmax(self, images: Tensor, units: Tensor) -> Tensor:
        """Return where the maps of some (image, unit) pairs are largest; the first of equal positions."""
        images, units = images.to(self.device), units.to(self.device)
        maps = self.values[images, units] if self.axis == 2 else self.values[images, :, units]
        return maps.argmax(1).cpu()


class _List:
    """The k best images of every unit so far, best first."""

    def __init__(self, units: int, k: int):
        self.responses = torch.full((units, k), -torch.inf)
        self.images = torch.full((units, k), -1)
        self.positions = torch.zeros((units, k), dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        """Return the lists themselves, by name."""
        return {"responses": self.responses, "images": self.images, "positions": self.positions}

    def better(self, responses: Tensor, indices: Tensor, fit: Tensor, maps: Maps) -> tuple[Tensor, ...] | None:
        """Return what becomes of the list with the images of a batch, for `put`; None where nothing changes.

        Args:
            responses: (image, unit).
            indices: (image,).
            fit: (image,), may it rank.
            maps: of the images.
        """
        worst, last = self.responses[:, -1], self.images[:, -1]
        enters = (responses > worst) | ((responses == worst) & (indices[:, None] < last))
        enters &= fit[:, None]
        units = enters.any(0).nonzero()[:, 0]
        if not len(units):
            return None
        k = self.responses.shape[1]
        new = torch.where(enters[:, units], responses[:, units], -torch.inf).T
        both = torch.cat([self.responses[units], new], dim=1)
        images = torch.cat([self.images[units], indices.expand(len(units), -1)], dim=1)
        by_index = images.argsort(dim=1)
        order = by_index.gather(1, both.gather(1, by_index).argsort(dim=1, descending=True, stable=True)[:, :k])
        positions = torch.cat([self.positions[units], torch.zeros_like(new, dtype=torch.int64)], dim=1).gather(1, order)
        best = both.gather(1, order)
        entered = (order >= k) & (best > -torch.inf)
        row, place = entered.nonzero(as_tuple=True)
        positions[row, place] = maps.argmax(order[row, place] - k, units[row])
        return units, best, images.gather(1, order).masked_fill(best == -torch.inf, -1), positions

    @torch.inference_mode()
    def put(self, units: Tensor, responses: Tensor, images: Tensor, positions: Tensor) -> None:
        """Replace the lists of some units."""
        self.responses[units], self.images[units], self.positions[units] = responses, images, positions
