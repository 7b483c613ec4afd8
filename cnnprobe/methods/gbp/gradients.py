"""Maps of what drives units: the gradient of a response at the image, and what rules and averages make of it.

gradient          d response / d pixel (Simonyan, Vedaldi, Zisserman 2014)
guided, deconvnet the same with another rule at rectifiers, see `backward_rules`
input-x-gradient  pixel times gradient
smoothgrad        mean gradient over noisy copies of the image (Smilkov et al. 2017); `squares`: mean of the squared
                  gradients
integrated        (pixel - 0) times the mean gradient on the way from a black image (Sundararajan, Taly, Yan 2017),
                  midpoint rule; the sum over pixels is response(image) - response(black) but for `residual`
"""

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.gradients.arrival import slope
from cnnprobe.instruments.gradients.backward_rules import Rule, Rules
from cnnprobe.instruments.gradients.graph_size import graph_bytes
from cnnprobe.instruments.gradients.nonlinearities import plan_of
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable
from cnnprobe.instruments.network.tracing import noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine.memory import Carried, is_short
from cnnprobe.methods.gbp.crops import WORTH, FieldCrops

LOG = logging.getLogger("cnnprobe")
Attribution = Literal["guided", "deconvnet", "gradient", "input-x-gradient", "smoothgrad", "integrated"]
Target = Literal["neuron", "channel", "channel-abs", "group"]
HELD = 192 * 2**20
"""Bytes that the activations of the images which pass together may take, about."""
AGREE = 1e-3
"""Largest relative difference (r.m.s.) between maps from crops and from whole images; rounding stays far below."""


@dataclass(frozen=True)
class Recipe:
    """How maps are made.

    Args:
        rule: see the head of this file.
        target: what the signal starts from: the `neuron` at a position, the mean of the unit's map (`channel`), the sum
            of its |activations| (`channel-abs`, as in pytorch-cnn-visualizations), or the weighted sum of the means of
            several channels (`group`).
        groups: of target=group: the weight of each member by channel; a group's number stands for a unit.
        plain: also the plain gradient, from the same pass.
        extend: see `gradients.backward_rules.Rules`.
        samples, level, squares: smoothgrad: how many noisy copies, standard deviation of the noise as a share of
            max - min of the image, and whether gradients are squared before they are averaged.
        steps: integrated: points on the way.
        seed: of the noise.
    """

    rule: Attribution = "guided"
    target: Target = "neuron"
    groups: tuple[dict[int, float], ...] = ()
    plain: bool = False
    extend: bool = False
    samples: int = 25
    level: float = 0.15
    squares: bool = False
    steps: int = 64
    seed: int = 0

    @property
    def backward(self) -> Rule:
        """The rule at rectifiers."""
        return self.rule if self.rule in ("guided", "deconvnet") else "gradient"


@dataclass(frozen=True)
class Maps:
    """Maps of n pairs of image and unit.

    Args:
        values: (n, channel, y, x) float32, response per unit of pixel value (squared for squares; response for
            input-x-gradient and integrated); of the crop that the position sees, or of the image. 0 beyond the image.
        plain: the same of the plain gradient, or None.
        corners: (n, yx) where the crops begin in the image.
        responses: (n,) activation, mean, or whatever the target is.
        residual: (n,) integrated: what the sum of the map lacks of response(image) - response(black), signed, as a
            share of the latter's size; else None.
    """

    values: np.ndarray
    plain: np.ndarray | None
    corners: np.ndarray
    responses: np.ndarray
    residual: np.ndarray | None


class Gradients:
    """Makes maps for the units of one layer, of many images and units at a time; a context manager.

    Where a neuron sees only part of the image, that crop alone runs (`field_crops`): the maps are the same. Crops and
    whole images are compared before they are believed.

    Args:
        model: any network; given back as it was when the context ends.
        layer: whose units.
        size: (channel, y, x) of the images.
        recipe: how.
        whole: never run crops.

    Attributes:
        engine: "crops", or "whole images" with the reason.
        rectifiers: how many nonlinearities below the layer there are by name.

    Raises:
        UserError: the rule has no meaning for this network.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...], recipe: Recipe, whole: bool = False):
        self.model, self.layer, self.size, self.recipe = model, layer, size, recipe
        self.crops, self.engine = None, "whole images"
        self.carried = Carried(512, "batch of gradients")
        self.stack = ExitStack()
        self.rectifiers = self._count()
        if recipe.target == "neuron" and not whole:
            self.crops, self.engine = self._crops()
        held = self._bytes()
        self.carried.most = int(np.clip(HELD / max(held, 1), 1, 512))

    def __enter__(self) -> "Gradients":
        values: list[Tensor] = []
        self.received = values
        self.stack.enter_context(untouched(self.model))
        self.pass_whole = self.stack.enter_context(tap(self.model, [self.layer], lambda _, a: values.append(a)))
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()
        self.stack = ExitStack()

    def maps(self, images: Tensor, indices: np.ndarray, units: np.ndarray, positions: np.ndarray) -> Maps:
        """Make the maps of n pairs of image and unit.

        Args:
            images: (n, channel, y, x); views of one image (`expand`) cost nothing.
            indices: (n,) of the images in their dataset; the noise of an image depends on it.
            units: (n,) channels of the layer.
            positions: (n, map axis) of the neurons.
        """
        parts, start = [], 0
        while start < len(images):
            some = slice(start, min(start + self.carried.most, len(images)))
            work = partial(self._maps, images[some], indices[some], units[some], positions[some])
            done = self.carried.attempt(some.stop - start, work)
            if done is not None:
                parts.append(done)
                start = some.stop
        return joined(parts)

    def _maps(self, images: Tensor, indices: np.ndarray, units: np.ndarray, positions: np.ndarray) -> Maps:
        recipe = self.recipe
        corners = np.zeros((len(images), len(self.size) - 1), np.int64)
        seen = images
        if self.crops is not None:
            seen, corners = self.crops.cut(images, positions), self.crops.corners(positions)
        plain: Tensor | None = None
        residual: np.ndarray | None = None
        if recipe.rule in ("smoothgrad", "integrated"):
            own, responses = self._gradient(seen, units, positions, ["gradient"] if recipe.plain else [])
            plain = own[0] if own else None
        if recipe.rule == "smoothgrad":
            values = self._smooth(images, indices, units, positions)
        elif recipe.rule == "integrated":
            _, black = self._gradient(torch.zeros_like(seen), units, positions, [])
            values = self._integrated(seen, units, positions)
            gained = (responses - black).double()
            lacks = gained - values.flatten(1).double().sum(1)
            residual = (lacks / gained.abs().clamp(min=1e-30)).cpu().numpy()
        else:
            rules: list[Rule] = [recipe.backward]
            rules += ["gradient"] if recipe.plain and recipe.backward != "gradient" else []
            (values, *more), responses = self._gradient(seen, units, positions, rules)
            plain = more[0] if more else values if recipe.plain else None
            if recipe.rule == "input-x-gradient":
                values = values * seen
        return Maps(_array(values), None if plain is None else _array(plain), corners, _array(responses), residual)

    def _gradient(
        self, seen: Tensor, units: np.ndarray, positions: np.ndarray, rules: list[Rule]
    ) -> tuple[list[Tensor], Tensor]:
        """Return the gradients by each rule, from one pass, and the responses (n,)."""
        if not rules:
            with torch.no_grad():
                return [], self._responses(seen, units, positions)
        with torch.enable_grad():
            pixels = seen.detach().clone().requires_grad_()
            plan = self.plan if self.crops is None else self.crops.plan
            ruling = Rules(plan, rules[0], self.recipe.extend) if rules != ["gradient"] else None
            given = pixels * 1  # what is written to must not be a leaf
            with ruling.show(given) if ruling else nullcontext():
                responses = self._responses(given, units, positions, ruling)
            if not responses.requires_grad:  # the unit is a constant
                return [torch.zeros_like(seen) for _ in rules], responses.detach()
            if ruling is not None:
                ruling.watch()
            found = []
            for place, rule in enumerate(rules):
                if ruling is not None:
                    ruling.rule = rule
                found.append(slope(responses, pixels, again=place + 1 < len(rules)))
        return found, responses.detach()

    def _responses(self, seen: Tensor, units: np.ndarray, positions: np.ndarray, ruling: Rules | None = None) -> Tensor:
        """Run the network and return what the signal starts from, (n,)."""
        channels = torch.as_tensor(units, device=seen.device)
        rows = torch.arange(len(seen), device=seen.device)
        if self.crops is not None:
            return self.crops.run(seen, positions, ruling)[rows, channels]
        self.received.clear()
        self.pass_whole(seen)
        activation = self.received.pop()
        recipe = self.recipe
        if recipe.target == "neuron":
            places = torch.as_tensor(positions, device=seen.device)
            return activation[(rows, channels, *places.unbind(1))]
        flat = activation.flatten(2) if activation.dim() > 2 else activation[..., None]
        if recipe.target == "group":
            weights = group_weights(recipe.groups, flat)
            return (flat.mean(2) * weights[channels]).sum(1)
        own = flat[rows, channels]
        return own.abs().sum(1) if recipe.target == "channel-abs" else own.mean(1)

    def _smooth(self, images: Tensor, indices: np.ndarray, units: np.ndarray, positions: np.ndarray) -> Tensor:
        recipe, total = self.recipe, 0
        spread = (images.flatten(1).amax(1) - images.flatten(1).amin(1)) * recipe.level
        for sample in range(recipe.samples):
            noise = torch.stack([self._noise(int(index), sample) for index in indices]).to(images)
            noisy = images + noise * spread.view(-1, *[1] * (images.dim() - 1))
            seen = noisy if self.crops is None else self.crops.cut(noisy, positions)
            (gradient,), _ = self._gradient(seen, units, positions, ["gradient"])
            total = total + (gradient.square() if recipe.squares else gradient)
        return total / recipe.samples

    def _noise(self, index: int, sample: int) -> Tensor:
        """Return the noise of one copy of an image: the same whatever is computed beside it."""
        seeds = np.random.SeedSequence([self.recipe.seed, index, sample]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seeds[0] >> np.uint64(1)))
        return torch.randn(self.size, generator=generator)

    def _integrated(self, seen: Tensor, units: np.ndarray, positions: np.ndarray) -> Tensor:
        steps, total = self.recipe.steps, 0
        for step in range(steps):
            (gradient,), _ = self._gradient(seen * ((step + 0.5) / steps), units, positions, ["gradient"])
            total = total + gradient
        return seen * total / steps

    # ---- set-up ------------------------------------------------------------------------------------------------------

    def _count(self) -> dict[str, int]:
        """Count the nonlinearities below the layer, and refuse a rule that one of them does not have."""
        self.plan = plan_of(self.model, [self.layer], self.size)
        Rules(self.plan, self.recipe.backward, self.recipe.extend)
        return self.plan.counts

    def _crops(self) -> tuple[FieldCrops | None, str]:
        try:
            crops = FieldCrops(self.model, self.layer, self.size)
        except Unrepeatable as reason:
            return None, f"whole images: {reason}"
        if crops.share > WORTH:
            return None, f"whole images: a crop takes {100 * crops.share:.0f} % of their arithmetic"
        if self.recipe.backward == "deconvnet" and not all(gate.single for gate in crops.plan.gates):
            return None, "whole images: rectifiers are written in several operations"
        try:
            with self:
                difference = self._difference(crops)
        except RuntimeError as error:
            if is_short(error):
                raise
            return None, f"whole images: {str(error).splitlines()[0]}"
        if not difference <= AGREE:
            LOG.warning(f"{self.layer.name}: crops differ from whole images by {difference:.1g}; whole images run")
            return None, f"whole images: crops differ by {difference:.1g}"
        return crops, "crops"

    def _difference(self, crops: FieldCrops) -> float:
        """Compare gradients from crops with those of whole noise images at corners, edges and the middle of the map."""
        high, wide = self.layer.map_size
        places = {(y, x) for y in (0, high // 2, high - 1) for x in (0, wide // 2, wide - 1)}
        positions = np.array(sorted(places))
        units = np.arange(len(positions)) % self.layer.channels
        images = torch.cat([noise_image(self.model, self.size, seed) for seed in range(len(positions))])
        whole = self._in_parts(images, units, positions)
        self.crops = crops
        try:
            cut = self._in_parts(crops.cut(images, positions), units, positions)
        finally:
            self.crops = None
        back = torch.zeros_like(whole)
        for place, (top, left) in enumerate(crops.corners(positions).tolist()):
            piece = cut[place]
            y, x = slice(max(0, top), top + piece.shape[1]), slice(max(0, left), left + piece.shape[2])
            there = back[place, :, y, x]
            first = y.start - top, x.start - left
            there.copy_(piece[:, first[0] : first[0] + there.shape[1], first[1] : first[1] + there.shape[2]])
        scale = whole.double().square().mean().sqrt()
        return float((whole - back).double().square().mean().sqrt() / scale) if scale > 0 else 0.0

    def _in_parts(self, pixels: Tensor, units: np.ndarray, positions: np.ndarray) -> Tensor:
        """Return the gradient of each neuron's own pixels, as many at once as fit."""
        carried, parts, start = Carried(len(units)), [], 0
        while start < len(units):
            some = slice(start, start + carried.most)
            work = partial(self._gradient, pixels[some], units[some], positions[some], ["gradient"])
            found = carried.attempt(len(units[some]), work)
            if found is not None:
                (gradient,), _ = found
                parts.append(gradient)
                start += len(gradient)
        return torch.cat(parts)

    def _bytes(self) -> float:
        """Return the bytes of activations that one image (or crop) leaves behind for its backward pass, about."""
        if self.crops is not None:
            windows = self.crops.windows.items()
            return 8.0 * sum(value.shape[1] * math.prod(w.length for w in pair) for value, pair in windows)
        with self, torch.enable_grad():
            image = noise_image(self.model, self.size).requires_grad_()
            saved = graph_bytes(self.model, self.size, lambda: self.pass_whole(image * 1))
            self.received.clear()
        return float(max(saved, 4 * math.prod(self.size)))


def group_weights(groups: Sequence[dict[int, float]], activation: Tensor) -> Tensor:
    """Return the weight of every channel of an activation (n, channel, …) in every group, (group, channel)."""
    weights = activation.new_zeros((len(groups), activation.shape[1]))
    for row, group in zip(weights, groups):
        row[list(group)] = row.new_tensor(list(group.values()))
    return weights


def joined(parts: list[Maps]) -> Maps:
    """Put the maps of several batches of pairs together."""

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    plain = None if parts[0].plain is None else together("plain")
    residual = None if parts[0].residual is None else together("residual")
    return Maps(together("values"), plain, together("corners"), together("responses"), residual)


def _array(numbers: Tensor) -> np.ndarray:
    return numbers.float().cpu().numpy()
