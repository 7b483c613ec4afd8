"""Images shown to a network with units taken out: what it decides then, and how far its outputs move.

The part of the network before a lesioned layer runs once for all lesions of that layer; each lesion costs a pass from
the layer on. What stands in for the activation of a unit is that of another image (`swap`), which keeps whatever the
later layers expect of it, its mean over images (`mean`), or 0 (`zero`), which it may never have otherwise (Morcos et
al. 2018, On the importance of single directions for generalization, compare the last two).
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source, passing
from cnnprobe.instruments.network.activations import tap, warn_of_nan
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.split_network import Head, Sides, WholeHead, cut
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine.memory import UNBOUNDED, Carried
from cnnprobe.methods.lesion.lesions import How, Lesion
from cnnprobe.methods.lesion.parts import PartHead, is_part
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished, put

BOTH, TRUE, PREDICTED, OTHER, NEAR_BOTH, NEAR = range(6)
"""Of a class, pixels that are true and predicted, true, predicted, and true and decided otherwise than intact; of those
near an edge of the true map, true and predicted, and true."""
COUNTS = 6
Pairs = Callable[[int], Iterator[tuple[Batch, Batch]]]
"""Given a place where a batch begins: the batches from there on, each with the images whose activations stand in."""


class Returned(Protocol):
    """What a network returns, as `kinds.Outputs` has it for classes, `pixels.Maps` for maps, `courses.Courses`."""

    @property
    def before(self) -> Layer | None:
        """Where scores are read."""

    def scores(self, returned: Any, before: Tensor | None = None) -> Tensor | None:
        """Return (image, score)."""

    def chosen(self, scores: Tensor) -> Tensor:
        """Return (image,) decisions."""


@dataclass
class Answers:
    """What the network does with every image, intact and with every lesion.

    Images are in the order in which they are shown.

    Attributes:
        intact: (layer, image) int32 decision without a lesion, by the same passes as with one; -1 where there is none.
        decided: (lesion, image) int32 decision.
        moved: (lesion, image) float32 squared change of the scores of the classes, summed over them.
        read: (image,) bool, could be read.
        partner_read: (image,) bool, so could the image whose activation stands in.
        moments: (3, class) of the intact scores: their number, sum, and sum of squares.
        intact_pixels: (layer, image, class, 6) int32 pixels, see `BOTH`; no class where none is decided for each pixel.
            Of courses (layer, image, channel, 4) float64 sums, see `explained.sums_of`.
        pixels: (lesion, image, class, 6) int32, or (lesion, image, channel, 4) float64.
        kept: (1 + lesion, image, score) float32 scores of the first few images, intact and with every lesion.
    """

    intact: np.ndarray
    decided: np.ndarray
    moved: np.ndarray
    read: np.ndarray
    partner_read: np.ndarray
    moments: np.ndarray
    intact_pixels: np.ndarray
    pixels: np.ndarray
    kept: np.ndarray

    @classmethod
    def empty(
        cls,
        layers: int,
        lesions: int,
        images: int,
        classes: int,
        counted: tuple[int, int] = (0, COUNTS),
        dtype: str = "int32",
        kept: int = 0,
    ) -> "Answers":
        """Return the place for everything.

        Args:
            layers, lesions, images, classes: how many.
            counted: classes of a pixel, or channels of courses, and what is counted of each.
            dtype: of that.
            kept: images whose scores are kept.
        """
        return cls(
            np.full((layers, images), -1, np.int32),
            np.full((lesions, images), -1, np.int32),
            np.full((lesions, images), np.nan, np.float32),
            np.zeros(images, bool),
            np.zeros(images, bool),
            np.zeros((3, classes)),
            np.zeros((layers, images, *counted), dtype),
            np.zeros((lesions, images, *counted), dtype),
            np.zeros((1 + lesions, min(kept, images), classes), np.float32),
        )

    def counted(self, how: How) -> np.ndarray:
        """Return (image,) bool: which images count for lesions of a kind."""
        return self.read & self.partner_read if how == "swap" else self.read

    @property
    def variance(self) -> float:
        """Variance over images of the intact scores, summed over the classes."""
        count, total, squares = self.moments
        with np.errstate(invalid="ignore", divide="ignore"):
            return float((squares / count - np.square(total / count)).clip(0).sum())


@dataclass
class _Held:
    """What the lesions of a layer start from, for some images: all that was computed before it."""

    activation: Tensor
    sides: Sides
    other: Tensor | None
    scores: Tensor


@dataclass
class Lesioning:
    """Shows images with every lesion.

    Args:
        model: any network; it is given back as it was.
        size: (channel, y, x) or (channel, time) of the images.
        known: what the network returns; of maps and courses it has `counts` as well.
        lesions: in the order of `Answers`; those of a layer stand together.
        units: (lesion,) the channels of each.
        means: by layer, (channel, *map) mean activation; of the layers that have lesions by it.
    """

    model: nn.Module
    size: tuple[int, ...]
    known: Returned
    lesions: list[Lesion]
    units: list[np.ndarray]
    means: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = list({one.layer.name: one.layer for one in self.lesions}.values())
        self.places = {layer.name: [place for place, one in enumerate(self.lesions) if one.layer.name == layer.name]
                       for layer in self.layers}  # fmt: skip
        self.cuts: dict[str, Head | WholeHead | PartHead] = {}
        self.held: list[_Held] = []

    def run(self, loaded: Pairs, answers: Answers, unfinished: Unfinished | None = None) -> Iterator[Advance]:
        """Do it for all images; `answers` is filled. Counts images times lesions.

        Args:
            loaded: the images.
            answers: empty.
            unfinished: keeps them so far.
        """
        at, unfinished = (
            {"shown": 0, "start": 0, "layer": 0, "lesion": 0, "most": UNBOUNDED},
            unfinished or Unfinished(),
        )

        def restore(state: State) -> None:
            put(vars(answers), state["answers"])
            at.update(state["at"])

        unfinished.begin("lesions", lambda: {"at": at, "answers": dict(vars(answers))}, restore)
        if at["shown"]:
            yield Advance(at["shown"] * len(self.lesions))
        if at["shown"] < len(answers.read):
            with torch.inference_mode(), untouched(self.model):
                self.cuts = {one.name: self._cut(one) for one in self.layers}
                place = at["shown"]
                for batch, partners in loaded(at["shown"]):
                    yield from self._batch(batch, partners, place, answers, at)
                    place += len(batch)
            unfinished.end("lesions")

    def again(self, place: int, part: Batch, partners: Batch) -> tuple[Tensor, Tensor]:
        """Return the scores (image, score) of some images once more, intact and with the lesion of that place."""
        layer = self.lesions[place].layer
        with torch.inference_mode(), untouched(self.model):
            if layer.name not in self.cuts:
                self.cuts[layer.name] = self._cut(layer)
            self._intact(layer, part, partners)
            held = self.held.pop()
            return held.scores, self._lesioned(place, held)

    def _cut(self, layer: Layer) -> Head | WholeHead | PartHead:
        if is_part(layer):
            return PartHead(self.model, layer, self.known.before)
        return cut(self.model, layer, self.size, self.known.before)

    def _batch(
        self, batch: Batch, partners: Batch, place: int, answers: Answers, at: dict[str, int]
    ) -> Iterator[Advance]:
        """Show a batch, in parts that fit into memory.

        Args:
            place: of its first image.
            at: how far the work has come: so many images `shown` in whole batches, of this one all before `start`, and
                of the next ones, `most` at a time, so many layers and lesions of the next layer.
        """
        carried = Carried(at["most"])
        while at["start"] < len(batch):
            start, stop = at["start"], min(at["start"] + carried.most, len(batch))
            part = batch.part(start, stop), partners.part(start, stop)
            lost = yield from self._part(*part, slice(place + start, place + stop), answers, carried, at)
            at["start"] = stop if lost is None else start
            at["layer"], at["lesion"], at["most"] = 0, 0, carried.most
            if lost:
                yield Advance(-lost)
        at["shown"], at["start"] = at["shown"] + len(batch), 0

    def _part(
        self, part: Batch, partners: Batch, own: slice, answers: Answers, carried: Carried, at: dict[str, int]
    ) -> Generator[Advance, None, int | None]:
        """Show some images, intact and with every lesion.

        Nothing is added up before all of them are done: what does not fit in the end is shown once more.

        Returns:
            None, or, of images that do not fit into memory, how many were counted in vain.
        """
        counted = 0
        answers.read[own], answers.partner_read[own] = part.readable, partners.readable
        for number in range(at["layer"], len(self.layers)):
            layer = self.layers[number]
            if carried.attempt(len(part), partial(self._intact, layer, part, partners)) is None:
                return counted
            (held,) = self.held
            answers.intact[number, own] = self._chosen(held.scores, part.readable)
            self._count(answers.intact_pixels[number, own], held.scores, held.scores, part)
            for place in self.places[layer.name][at["lesion"] :]:
                found = carried.attempt(len(part), partial(self._lesioned, place, held))
                if found is None:
                    return counted
                moved = (found - held.scores).square().sum(1).cpu().numpy()
                answers.moved[place, own] = np.where(part.readable, moved, np.nan)
                answers.decided[place, own] = self._chosen(found, part.readable)
                self._count(answers.pixels[place, own], found, held.scores, part)
                self._keep(answers.kept[place + 1, own], found)
                at["lesion"], counted = at["lesion"] + 1, counted + len(part)
                yield Advance(len(part))
            at["layer"], at["lesion"] = number + 1, 0
        self._measure(self.held[0].scores, part, answers)
        self._keep(answers.kept[0, own], self.held[0].scores)
        return None

    def _intact(self, layer: Layer, part: Batch, partners: Batch) -> bool:
        """Run a network up to a layer, and on from there."""
        self.held.clear()
        cutting = self.cuts[layer.name]
        activation, sides = cutting.base(part.images)
        swaps = any(self.lesions[place].how == "swap" for place in self.places[layer.name])
        other = cutting.base(partners.images)[0] if swaps else None
        self.held.append(_Held(activation, sides, other, self._scores(*cutting.ends(activation, sides))))
        return True

    def _lesioned(self, place: int, held: _Held) -> Tensor:
        """Return the scores of the classes with a lesion."""
        lesion, cutting = self.lesions[place], self.cuts[self.lesions[place].layer.name]
        if isinstance(cutting, PartHead):
            with cutting.without(self.units[place]):
                return self._scores(*cutting.ends(held.activation, held.sides))
        mean = self.means.get(lesion.layer.name)
        activation = silenced(held.activation, self.units[place], lesion.how, held.other, mean)
        return self._scores(*cutting.ends(activation, held.sides))

    def _scores(self, outputs: Any, before: Tensor | None) -> Tensor:
        found = self.known.scores(outputs, before)
        assert found is not None  # a network without a row of outputs was refused
        return found.float()

    def _chosen(self, scores: Tensor, readable: np.ndarray) -> np.ndarray:
        return np.where(readable, self.known.chosen(scores).cpu().numpy(), -1)

    def _count(self, pixels: np.ndarray, scores: Tensor, intact: Tensor, part: Batch) -> None:
        """Count the pixels (image, class, 6) of each class, where the network decides for each."""
        if pixels.shape[1]:
            pixels[:] = self.known.counts(scores, intact, part.targets) * part.readable[:, None, None]  # type: ignore

    def _keep(self, kept: np.ndarray, scores: Tensor) -> None:
        """Keep the scores of as many images as there is room for."""
        if len(kept):
            kept[:] = scores[: len(kept)].cpu().numpy()

    def _measure(self, scores: Tensor, part: Batch, answers: Answers) -> None:
        """Take in the intact scores."""
        warn_of_nan("logits", scores, part.indices, part.readable)
        values = scores.cpu().double().numpy()
        values = values[part.readable & np.isfinite(values).all(1)]
        answers.moments += np.stack([np.full(values.shape[1], len(values)), values.sum(0), np.square(values).sum(0)])


def silenced(activation: Tensor, units: np.ndarray, how: How, other: Tensor | None, mean: Tensor | None) -> Tensor:
    """Return an activation (image, channel, *map) in which something stands in for that of some units.

    Args:
        activation: of some images.
        units: channels.
        how: what stands in.
        other: (image, channel, *map) activation of other images, for `swap`.
        mean: (channel, *map) mean activation, for `mean`.
    """
    made, chosen = activation.clone(), torch.from_numpy(units).to(activation.device)
    if how == "zero":
        return made.index_fill_(1, chosen, 0)
    source = other if how == "swap" else mean
    assert source is not None
    made[:, chosen] = (source[:, chosen] if how == "swap" else source[chosen]).to(made.dtype)
    return made


class Means:
    """Mean activation of layers over images, each unit and place by itself.

    Args:
        model: any network; it is given back as it was.
        layers: of it.
    """

    def __init__(self, model: nn.Module, layers: list[Layer]):
        self.model, self.layers = model, layers
        self.sums = {one.name: np.zeros((one.channels, *one.map_size)) for one in layers}
        self.count = np.zeros(1)

    def run(self, images: int, loaded: Source, unfinished: Unfinished | None = None) -> Iterator[Advance]:
        """Show all images, see `images.passes.passing`."""
        found: dict[str, np.ndarray] = {}
        readable: list[Tensor] = []

        def receive(layer: Layer, activation: Tensor) -> None:
            found[layer.name] = activation[readable[0].to(activation.device)].float().sum(0).cpu().double().numpy()

        def use(part: Batch, sums: dict[str, np.ndarray]) -> None:
            for name, values in sums.items():
                self.sums[name] += values
            self.count += part.readable.sum()

        with torch.inference_mode(), tap(self.model, self.layers, receive) as run:

            def show(part: Batch) -> dict[str, np.ndarray]:
                readable[:] = [torch.from_numpy(part.readable)]
                run(part.images)
                return dict(found)

            def restore(state: State) -> None:
                put(self.sums | {"": self.count}, state["sums"])

            yield from passing("means", images, loaded, show, use, take=lambda: {"sums": self.sums | {"": self.count}},
                               restore=restore, unfinished=unfinished)  # fmt: skip

    def of(self, device: torch.device | str) -> dict[str, Tensor]:
        """Return by layer (channel, *map) float32, on a device."""
        count = max(float(self.count[0]), 1.0)
        return {
            name: torch.from_numpy((sums / count).astype(np.float32)).to(device) for name, sums in self.sums.items()
        }
