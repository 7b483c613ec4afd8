"""Class activation maps: where on a layer's map the evidence for a class lies.

With the activation A_u(i, j) of unit u of the layer and the logit y_c of class c:

cam              sum_u W_cu A_u, where the head pools A evenly and reads it with one linear layer W, b
                 (Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, section 2); mean over the map + b_c = y_c
gradcam          sum_u alpha_cu A_u, alpha_cu = mean over positions of dy_c / dA_u (Selvaraju et al. 2017, section 3)
guided-gradcam   the same, and its positive part times guided backpropagation of y_c to the pixels (same source)
layercam         sum_u max(dy_c / dA_u(i, j), 0) A_u(i, j) (Jiang, Zhang, Hou, Cheng, Wei 2021, section III)
scorecam         sum_u s_cu A_u, s_c the softmax over units of y_c when the image is seen through the map of u
                 (Wang et al. 2020, algorithm 1)
votes            what the capsules at each place add to |s_c|, of which y_c is made, see `votes`

The published maps of gradcam, layercam and scorecam end with max(., 0); here the sign is kept.
"""

import logging
import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.gradients.arrival import AGREE, CUTS, arrival, in_part, must_arrive
from cnnprobe.instruments.gradients.backward_rules import Rules
from cnnprobe.instruments.gradients.graph_size import graph_bytes
from cnnprobe.instruments.gradients.nonlinearities import plan_of
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.cam.class_choice import Choose, class_count
from cnnprobe.methods.cam.grids import Grid, upsampled
from cnnprobe.methods.cam.regions import Regions
from cnnprobe.methods.cam.votes import laid, votes_of
from cnnprobe.methods.cam.weighing import per_class, to_leaf, weighed
from cnnprobe.store.unfinished import State

LOG = logging.getLogger("cnnprobe")
Kind = Literal["cam", "gradcam", "guided-gradcam", "layercam", "scorecam", "votes"]
Filling = Literal["mean", "zero"]
HELD = 192 * 2**20
"""Bytes that what the backward pass needs of the images that pass together may take, about."""
AFFINE = 1e-4
"""Largest departure of a head from pooling and one linear layer, as a share of its largest logit, by rounding."""


@dataclass(frozen=True)
class Found:
    """Maps of n images for k classes each; NaN where there is no class.

    Args:
        logits: (n, class) float32.
        classes: (n, k) int64, -1 for none.
        maps: (n, k, y, x) float32, signed, at the layer's resolution.
        evidence: (n, k) mean of the map, for cam plus the bias of the class: then it is the logit; for votes the sum.
        guided: (n, k, channel, y, x) guided Grad-CAM at the resolution of the image, or None.
        order: (n, class) by which classes are ranked where a class is given for every pixel, see `regions`; or None.
        pixels: (n, class) pixels of the region whose scores are summed; or None.
    """

    logits: np.ndarray
    classes: np.ndarray
    maps: np.ndarray
    evidence: np.ndarray
    guided: np.ndarray | None = None
    order: np.ndarray | None = None
    pixels: np.ndarray | None = None


class ClassMaps:
    """Makes class activation maps of one layer, of many images at a time; a context manager.

    One forward pass for an image; from the layer on it is remembered, and goes back once for all classes together.

    Args:
        model: any classifier; given back as it was when the context ends.
        layer: whose activations are weighed.
        size: (channel, y, x) of the images.
        kind: see the head of this file.
        extend: guided-gradcam: see `gradients.backward_rules.Rules`.
        filling: scorecam: what stands where the map of a unit is lowest: the image's mean colour, or 0.
        known: what the network returns; None: logits. Maps are of the scores before its own softmax or sigmoid; or,
            where a class is given for every pixel, of their sums over regions.

    Attributes:
        grid: the map.
        bias: (class,) of the head, for cam; else None.

    Raises:
        UserError: the network is no classifier, the layer has no map, or the kind has no meaning for this network.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        size: tuple[int, ...],
        kind: Kind = "gradcam",
        extend: bool = False,
        filling: Filling = "mean",
        known: Outputs | Regions | None = None,
    ):
        if kind not in get_args(Kind):
            raise UserError(f"no kind of map {kind!r}; there are {', '.join(get_args(Kind))}")
        self.model, self.layer, self.size, self.kind = model, layer, size, kind
        self.extend, self.filling = extend, filling
        own = known or Outputs("logits", class_count(model, size))
        self.outputs = own.everywhere() if isinstance(own, Regions) else own  # a region that changes has no derivative
        self.classes = self.outputs.classes
        self.votes = votes_of(model) if kind == "votes" else None
        self.grid = Grid(model, layer, size)
        self.stack = ExitStack()
        self.bias = None
        if self.votes:
            laid(model, layer, noise_image(model, size))
        if kind == "guided-gradcam":
            self.plan = plan_of(model, [self.outputs.before or find(model, "logits", size)[0]], size)
        with self:
            if kind == "cam":
                self.bias = self._bias()
            if kind == "guided-gradcam":
                self._graph(noise_image(model, size), lambda logits: logits[:, :1].argmax(1, keepdim=True))
            if kind not in ("scorecam", "votes"):
                self._check()
            held = self._bytes()
        self.outputs = own
        self.carried = Carried(int(np.clip(HELD / held, 1, 512)), "batch of class maps")
        self.masked = Carried(32, "batch of masked images")

    def __enter__(self) -> "ClassMaps":
        self.kept: list[Tensor] = []
        self.given: Tensor | None = None
        self.stack.enter_context(untouched(self.model))
        read = [self.layer] if self.outputs.before is None else [self.layer, self.outputs.before]
        self.shown = self.stack.enter_context(tap(self.model, read, self._receive, complete=True, replace=True))
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()
        self.stack = ExitStack()
        self.kept = []

    def _receive(self, layer: Layer, activation: Tensor) -> Tensor | None:
        """Keep the activation as the beginning of a graph, and go on from there."""
        if layer is not self.layer:
            self.before = activation
            return None
        if self.given is not None:
            return self.given
        if torch.is_grad_enabled() and not activation.requires_grad:
            activation = activation.detach().requires_grad_()
        self.kept = [activation]
        return activation

    def run(self, images: Tensor) -> Tensor:
        """Show images to the network; return the scores of the classes (image, class)."""
        self.before = None
        return self.outputs.scores(self.shown(images), self.before)

    def maps(self, images: Tensor, labels: Tensor, choose: Choose) -> Found:
        """Map images.

        Args:
            images: (n, channel, y, x), 0 to 1.
            labels: (n,) int64, -1 for unknown.
            choose: which classes.
        """
        steps = self.steps(images, labels, choose, {})
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(
        self, images: Tensor, labels: Tensor, choose: Choose, at: State, masks: Tensor | None = None
    ) -> Generator[None, None, Found]:
        """Map images; gives None wherever the work can be stopped, and returns what `maps` does.

        Args:
            images, labels, choose: see `maps`.
            at: empty, or as a stopped call for the same images has left it: `parts` that are done, and of the image
                under way the `scores` seen through units so far.
            masks: (n, y, x) true classes of the pixels, for regions of these.
        """
        parts = at.setdefault("parts", [])
        start = sum(len(part["logits"]) for part in parts)
        while start < len(images):
            most = 1 if self.kind == "scorecam" else self.carried.most
            some = slice(start, min(start + most, len(images)))
            chosen = partial(lambda own, logits: choose(logits, own), labels[some])
            work = partial(self._voted if self.votes else self._graph, images[some], chosen)
            if isinstance(self.outputs, Regions):
                self.outputs.masks = None if masks is None else masks[some]
            if self.kind == "scorecam":
                done: Found | None = self._found(*(yield from self._scores(images[start], chosen, at)), None)
            else:
                done = self.carried.attempt(some.stop - start, partial(lambda work: self._found(*work()), work))
            if done is not None:
                parts.append(vars(done))
                start = some.stop
            yield
        arrays = {name: [part[name] for part in parts] for name in Found.__dataclass_fields__}
        joined: dict[str, Any] = {name: None if own[0] is None else np.concatenate(own) for name, own in arrays.items()}
        return Found(**joined)

    def _found(self, logits: Tensor, classes: Tensor, maps: Tensor, guided: Tensor | None) -> Found:
        none = classes < 0
        maps = maps.float().masked_fill(none[:, :, None, None], float("nan"))
        evidence = maps.flatten(2).double().sum(2) if self.votes else maps.flatten(2).double().mean(2)
        if self.bias is not None:
            evidence = evidence + self.bias[classes.clamp(min=0)].double()
        if guided is not None:
            guided = guided.masked_fill(none[:, :, None, None, None], float("nan"))
        arrays = (logits.float(), classes, maps, evidence.float())
        logits, classes, maps, evidence = (one.cpu().numpy() for one in arrays)
        found = Found(logits, classes, maps, evidence, None if guided is None else guided.cpu().numpy())
        return replace(found, **self.outputs.told) if isinstance(self.outputs, Regions) else found

    # ---- from gradients ----------------------------------------------------------------------------------------------

    def _graph(
        self, images: Tensor, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return logits, classes, maps and, for guided-gradcam, what it shows."""
        guided = self.kind == "guided-gradcam"
        with torch.inference_mode(False), torch.enable_grad():
            pixels = images.detach().clone().requires_grad_(guided)
            ruling = Rules(self.plan, "guided", self.extend) if guided else None
            given = pixels * 1
            with ruling.show(given) if ruling else nullcontext():
                logits = self.run(given)
            if not logits.requires_grad:
                raise UserError(
                    f"no gradient gets from the logits to {self.layer.name}: they do not depend on it, or {CUTS}"
                )
            classes = choose(self.outputs.order if isinstance(self.outputs, Regions) else logits.detach())
            rows = logits.gather(1, classes.clamp(min=0))  # (n, k)
            if ruling:
                ruling.watch()
                ruling.rule = "gradient"
            gradients = self.grid.of(per_class(rows, self.kept[0], again=guided))  # (k, n, channel, y, x)
            shown = None
            if ruling:
                ruling.rule = "guided"
                each = [to_leaf(rows[:, place], pixels, place + 1 < rows.shape[1]) for place in range(rows.shape[1])]
                shown = torch.stack(each, 1)  # (n, k, channel, y, x)
        activation = self.grid.of(self.kept.pop().detach())
        with torch.no_grad():
            maps = weighed(self.kind, gradients, activation)
            if shown is not None:
                shown *= upsampled(maps.clamp(min=0), images.shape[-2:])[:, :, None]
        return logits.detach(), classes, maps, shown

    def _voted(self, images: Tensor, choose: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return logits, classes, maps, and nothing."""
        assert self.votes is not None
        with torch.inference_mode():
            logits, maps = self.votes(images)
            classes = choose(logits)
            self.kept = []
            chosen = classes.clamp(min=0)[:, :, None, None].expand(-1, -1, *maps.shape[2:])
            return logits, classes, self.grid.of(maps.gather(1, chosen)), None

    # ---- from masked images ------------------------------------------------------------------------------------------

    def _scores(
        self, image: Tensor, choose: Callable[[Tensor], Tensor], at: State
    ) -> Generator[None, None, tuple[Tensor, Tensor, Tensor]]:
        """Return logits, classes and maps (1, …) of Score-CAM: what the image, seen through each unit's map, scores."""
        with torch.inference_mode():
            logits = self.run(image[None])
            activation = self.grid.of(self.kept.pop())  # (1, channel, y, x)
            classes = choose(logits)
        scores = yield from self._seen_through(image, activation[0], classes[0].clamp(min=0), at)  # (channel, k)
        with torch.inference_mode():
            return logits, classes, torch.einsum("ck,cyx->kyx", scores.softmax(0), activation[0])[None]

    def _seen_through(
        self, image: Tensor, activation: Tensor, wanted: Tensor, at: State
    ) -> Generator[None, None, Tensor]:
        """Return the logits (channel, k) of an image seen through the map of each unit.

        A unit whose map is all one value lets nothing through; all such are one image.
        """
        base = image.mean((1, 2), keepdim=True) if self.filling == "mean" else torch.zeros_like(image[:, :1, :1])
        low, high = activation.amin((1, 2)), activation.amax((1, 2))
        seen = torch.nonzero(high > low)[:, 0]
        scores = activation.new_empty((len(activation), len(wanted)))
        start = 0
        if at.get("scores") is not None:
            scores, start = torch.as_tensor(at["scores"]).to(scores), at["seen"]
        elif len(seen) < len(activation):
            with torch.inference_mode():
                scores[:] = self.run(base.expand(1, *image.shape))[0, wanted]
        while start < len(seen):
            some = seen[start : start + self.masked.most]

            def score(some: Tensor = some) -> Tensor:
                with torch.inference_mode():
                    maps = upsampled(activation[some][None], image.shape[-2:])[0]  # (unit, y, x)
                    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
                    masks = (maps - least) / (most - least).clamp(min=1e-30)
                    return self.run(torch.lerp(base.expand_as(image), image, masks[:, None]))[:, wanted]

            done = self.masked.attempt(len(some), score)
            if done is not None:
                with torch.inference_mode():
                    scores[some] = done
                start += len(some)
            at |= {"scores": scores, "seen": start}
            yield
        at["scores"], self.kept = None, []
        return scores

    # ---- set-up ------------------------------------------------------------------------------------------------------

    def _bias(self) -> Tensor:
        """Return what the head makes of nothing (class,), and refuse one that does more than pool and weigh.

        On noise it must be additive, and must not tell an activation from its mean over positions.
        """
        with torch.inference_mode():
            noise = noise_image(self.model, self.size)
            self.run(noise)
            like = self.kept.pop()
            shape = (2, *like.shape[1:])
            one, other = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(like)
            positions = tuple(range(1, like.dim() - 1))
            even = one.mean(positions, keepdim=True).expand_as(one)
            self.given = torch.stack([torch.zeros_like(one), one, other, one + other, even])
            try:
                nothing, first, second, both, pooled = self.run(noise.expand(5, *self.size))
            finally:
                self.given = None
        scale = torch.stack([first - nothing, second - nothing]).abs().max()
        departure = torch.stack([first + second - nothing - both, first - pooled]).abs().max()
        if not float(scale) > 0 or float(departure) > AFFINE * float(scale):
            raise UserError(
                f"kind=cam needs a layer that is pooled evenly and read by one linear layer, and there is more behind "
                f"{self.layer.name}; take kind=gradcam, or give the layer that is pooled"
            )
        return nothing

    def _check(self) -> None:
        """Refuse gradients that do not arrive at the layer, warn of those that are no derivatives."""
        noise = noise_image(self.model, self.size)
        images = [noise, 1 - 0.7 * noise.flip(-1)]
        activations = []
        with torch.inference_mode(False), torch.no_grad():
            for image in images:
                self.run(image)
                activations.append(self.kept.pop().detach().clone())

        def answer(activation: Tensor) -> Tensor:
            self.given = activation * 1
            try:
                return self.run(noise) * 1
            finally:
                self.given = None

        found = arrival(answer, activations)
        if found.problem or found.all_cut:
            why = found.problem or CUTS
            raise UserError(f"no gradient gets from the logits to {self.layer.name}: {why}; take kind=scorecam")
        if found.gap > AGREE:
            LOG.warning(in_part("the logits", self.layer.name, found.gap))
        if self.kind == "guided-gradcam":
            must_arrive(self.model, find(self.model, "logits", self.size)[0], self.size)

    def _bytes(self) -> float:
        """Return the bytes that one image leaves behind for the backward pass, about."""
        with torch.inference_mode(False), torch.enable_grad():
            images = noise_image(self.model, self.size).requires_grad_(self.kind == "guided-gradcam")
            saved = graph_bytes(self.model, self.size, lambda: self.run(images * 1))
        kept = self.kept.pop()
        return float(saved + 12 * kept.numel() * kept.element_size() + 4 * math.prod(self.size))
