"""One batch of images that climb together, step by step, and which of them got somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.gradients.backward_rules import Rules
from cnnprobe.instruments.gradients.nonlinearities import Plan, plan_of
from cnnprobe.instruments.images.image_statistics import Statistics
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.conduct import conduct_of
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import Call
from cnnprobe.methods.optimize.ascent.objectives import Activations, Objective, likeness
from cnnprobe.methods.optimize.ascent.optimisers import stepper
from cnnprobe.methods.optimize.ascent.parametrisations import Fourier, Maco, Pixel
from cnnprobe.methods.optimize.ascent.partial_forward import Folded, Narrowed, affine_module, narrowed_module
from cnnprobe.methods.optimize.ascent.presets import Settings
from cnnprobe.store.unfinished import State

LOOKS = 8
"""Draws of the transforms over which the response with transforms is averaged."""
SATURATED = 0.99
"""Share of the pixels at the ends of the sigmoid with which an image is lost."""
ALIKE = 0.95
"""Share of the largest likeness from which on the images of a group count as one and the same."""
JUDGED = 16
"""Steps between two looks at the images without transforms."""
PROBED = 10
"""Steps between two looks at whether its gradient is 0."""


KEPT = ("values", "alive", "trace", "best_value", "best_score", "highest", "first", "pushed", "best_step",
        "best_images")  # fmt: skip
"""What a climb changes, by the name of the attribute."""


class _Reached(Exception):  # noqa: N818 (not an error)
    """The last module is about to run."""


@dataclass(frozen=True)
class Show:
    """Shows images to a network, which may write to them.

    Args:
        run: as far as some layers.
        seen: gets their activations.
        module: the affine module that the only layer is the output of, or comes from, or None.
        layer: its name.
        tail: what stands between the module and the layer.
        plan: the nonlinearities below the layers.
    """

    run: Callable[[Tensor], Tensor | None]
    seen: dict[str, Any]
    module: nn.Module | None
    layer: str
    tail: tuple[Call, ...] = ()
    plan: Plan = field(default_factory=Plan)

    def folded(self, objective: Objective, images: Tensor) -> Folded | Narrowed | None:
        """Return an objective with the last module, or None where all of it has to run, as under autocast.

        Args:
            images: any, as many as the objective has rows.
        """
        if self.module is None or not (Narrowed.suits(objective) if self.tail else objective.linear):
            return None
        given = self.before(images)
        if given.dtype != self.module.weight.dtype:
            return None
        if self.tail and Narrowed.suits(objective):
            return Narrowed(self.module, self.tail, objective)
        return Folded.of_module(self.module, self.layer, objective, given)

    def __call__(self, images: Tensor) -> Activations:
        """Return activations by name of layer, (row, channel, *map)."""
        self.seen.clear()
        self.run(images)
        return dict(self.seen)

    def before(self, images: Tensor) -> Tensor:
        """Return the input of the module, which does not run."""
        assert self.module is not None, "there is a module wherever an objective is folded"
        self.seen.clear()
        handle = self.module.register_forward_pre_hook(self._reached)
        try:
            self.run(images)
        except _Reached:
            return self.seen[""]
        finally:
            handle.remove()
        raise RuntimeError(f"{self.layer} did not run")

    def _reached(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen[""] = inputs[0]
        raise _Reached


@contextmanager
def network(model: nn.Module, layers: Sequence[Layer], size: tuple[int, ...] | None = None) -> Iterator[Show]:
    """Hand out what shows images to a network as far as some layers; the network is given back as it was.

    Args:
        model: any network.
        layers: of it.
        size: (channel, y, x) or (channel, time) of the images, where the last convolution may be narrowed.
    """
    seen: Activations = {}
    several, layers = len(layers) > 1, list(layers)
    alone = any(layer.handing == "one by one" for layer in layers)
    if size is not None:
        alone = bool(conduct_of(model, size).decides) or alone  # and before any hook of ours is there
    module = None if alone else affine_module(model, layers)  # several passes have no input of one module
    tail: tuple[Call, ...] = ()
    plan = Plan() if size is None else plan_of(model, layers, size)
    if module is None and size is not None and not alone:
        module, tail = narrowed_module(model, layers, size)

    def receive(layer: Layer, activation: Tensor) -> None:
        seen[layer.name] = activation.clone() if several else activation  # what runs on may overwrite it

    with tap(model, layers, receive) as run:
        yield Show(run, seen, module, layers[0].name, tail, plan)


def parametrisation(settings: Settings, size: tuple[int, ...], statistics: Statistics) -> Pixel | Fourier | Maco:
    """Return what the settings ask for, for images of a size."""
    if settings.colours == "lucid" and size[0] == 3:
        statistics = replace(statistics, colours=Statistics.plain(3).colours)
    if settings.parametrisation == "pixel":
        return Pixel(size, statistics, limits(settings, statistics, during=True), settings.normal, settings.uniform)
    kinds: dict[str, type[Fourier | Maco]] = {"fourier": Fourier, "maco": Maco}
    return kinds[settings.parametrisation](size, statistics)


def limits(settings: Settings, statistics: Statistics, *, during: bool = False) -> tuple[float, float] | None:
    """Return the least and largest pixel, of the images that are kept or of those on their way."""
    if settings.box is None or (during and not settings.boxed):
        return None
    return settings.box if settings.box != (0.0, 1.0) else (statistics.low, statistics.high)


class Climb:
    """One batch of rows from one start.

    Attributes:
        alive: (live row,) places of the rows that still climb.
        verdicts: by row: "" where it went well, "silent" where it never answered, "astray" where its numbers are not
            finite, its image is all at the ends of the sigmoid, or its gradient is gone and nothing was gained; "alike"
            where diversity was requested and its group became one and the same.
    """

    def __init__(
        self,
        show: Show,
        objective: Objective,
        settings: Settings,
        made: Pixel | Fourier | Maco,
        statistics: Statistics,
    ):
        self.show, self.whole, self.settings, self.made = show, objective, settings, made
        self.statistics = statistics
        self.box = limits(settings, statistics)
        self.grey = (statistics.low + statistics.high) / 2

    def begin(self, randoms: Sequence[np.random.Generator], together: int, device: str) -> None:
        """Make the first images."""
        settings, rows = self.settings, len(randoms)
        self.objective, self.together, self.randoms = self.whole, together, list(randoms)
        self.made.to(device)
        self.mean = self.statistics.mean.to(device)
        self.values = self.made.start(randoms).to(device).requires_grad_()
        self.stepper = stepper(settings, self.values)
        sides = self.made.size[1:]
        self.maps = settings.transforms.draws(randoms, settings.steps + LOOKS, sides).to(device)  # (step, row, 2, 3)
        self.every_noise = seeds = [int(random.integers(2**62)) for random in randoms]
        self.noises = np.array(seeds)
        self.alive = torch.arange(rows, device=device)
        self.taken = 0  # steps
        self.verdicts: list[str] = [""] * rows
        self.trace = torch.full((rows, settings.steps), torch.nan, device=device)
        self.best_value = torch.full((rows,), -torch.inf, device=device)
        self.best_score, self.highest, self.first = (self.best_value.clone() for _ in range(3))
        self.pushed = torch.zeros(2, rows, dtype=torch.bool, device=device)  # in this window, at any time
        self.best_step = np.full(rows, -1, np.int64)
        with torch.no_grad():
            self.best_images = self._kept(self.made.image(self.values)).clone()
            self.folded = None if settings.diversity else self.show.folded(self.objective, self.best_images.clone())
        self._judge(0)

    def steps(self, start: int, stop: int, window: tuple[int, int] | None = None) -> None:
        """Take some steps; where they end their window, let the rows go that need no more.

        Args:
            start, stop: numbers of the steps.
            window: those between two looks at whether rows still move; None: these.
        """
        first, last = window or (start, stop)
        if start == first:
            self.pushed[0] = False
        for number in range(start, stop) if len(self.alive) else ():
            self._step(number)
            if self.settings.transforms.none or (number + 1) % JUDGED == 0 or number + 1 == self.settings.steps:
                self._judge(number + 1)
        self.taken = stop
        if stop == last and len(self.alive):
            self._sift(first, last)

    def state(self) -> State:
        """Return all that has changed since `begin`, for `restore`."""
        own = {name: getattr(self, name) for name in KEPT}
        return own | {"taken": self.taken, "verdicts": self.verdicts, "stepper": self.stepper.state()}

    def restore(self, state: State) -> None:
        """Go on from a state of a climb that began with the same random numbers; `begin` has been called."""
        device, rows = self.alive.device, state["alive"]
        for name in KEPT:
            setattr(self, name, torch.from_numpy(np.array(state[name])).to(device))
        self.best_step = np.array(state["best_step"])
        self.values = self.values.detach().clone().requires_grad_()
        self.stepper.restore(self.values, state["stepper"])
        self.taken, self.verdicts = state["taken"], list(state["verdicts"])
        if len(rows) < len(self.verdicts):
            self.objective, self.noises = self.whole.of(rows), self.noises[rows]
            self.folded = self.folded and self.folded.of(self.alive)

    def _step(self, number: int) -> None:
        settings = self.settings
        value, gradient = self._climbed(number)
        if number < settings.redirect:
            silent = gradient.flatten(1).abs().amax(1) == 0
            if silent.any():
                _, redirected = self._climbed(number, Rules(self.show.plan, "redirected"))
                gradient[silent] = redirected[silent]
        self.trace[self.alive, number] = value
        if (number + 1) % PROBED == 0 or number + 1 == settings.steps:
            self.pushed |= gradient.flatten(1).abs().amax(1) > 0
        with torch.no_grad():
            self.stepper.step(self.values, gradient, value)
            if settings.regularisers.after_steps:
                settings.regularisers.settle(self.values, gradient, number + 1)
            self.made.settle(self.values)

    def _climbed(self, number: int, rules: Rules | None = None) -> tuple[Tensor, Tensor]:
        """Return the objective of what is shown at a step, (row,), and the gradient of what is climbed."""
        with torch.enable_grad():
            images = self.made.image(self.values)
            shown = self._shown(images, number)
            with rules.show(shown) if rules else nullcontext():
                value, activations = self._value(shown)
            goal = value.sum()
            if self.settings.diversity:
                alike = sum(likeness(activation, self.together).sum() for activation in activations.values())
                goal = goal - self.settings.diversity * alike
            if self.settings.regularisers.l2 or self.settings.regularisers.tv:
                goal = goal - self._penalty(images).sum()
            if rules is not None:
                rules.watch()
            (gradient,) = torch.autograd.grad(goal, self.values)
        return value.detach(), gradient

    def _value(self, images: Tensor) -> tuple[Tensor, Activations]:
        """Return the objective of images, and the activations where they are needed for more than that."""
        if self.folded is not None:
            return self.folded(self.show.before(images)), {}
        activations = self.show(images)
        return self.objective(activations).float(), activations  # of 16 bits under autocast

    def _penalty(self, images: Tensor) -> Tensor:
        return self.settings.regularisers.penalty(images, self.mean)

    def _shown(self, images: Tensor, number: int) -> Tensor:
        transforms = self.settings.transforms
        if transforms.none:
            return images.clone()  # of which the network may not write into the original
        return transforms.apply(images, self.maps[number, self.alive], self.grey, self.noises + number)

    def _kept(self, images: Tensor) -> Tensor:
        return images if self.box is None else images.clamp(*self.box)

    def _judge(self, number: int) -> None:
        """Keep the images that are the best so far, as they would be stored."""
        with torch.no_grad():
            images = self._kept(self.made.image(self.values))
            value, activations = self._value(images.clone())
            score = self._together(value - self._penalty(images), activations)
            if number == 0:
                self.first[self.alive] = value
            self.highest[self.alive] = torch.fmax(self.highest[self.alive], value)
            better = score > self.best_score[self.alive]
            places = self.alive[better]
            if len(places):
                self.best_score[places], self.best_value[places] = score[better], value[better]
                self.best_images[places] = images[better]
                self.best_step[places.cpu().numpy()] = number

    def _together(self, score: Tensor, activations: Activations) -> Tensor:
        """Return the score by which rows are kept, (row,): with diversity, that of the whole group."""
        if not self.settings.diversity:
            return score
        alike = sum(likeness(activation, self.together) for activation in activations.values())
        group = score.unflatten(0, (-1, self.together)).sum(1) - self.settings.diversity * alike
        return group.repeat_interleave(self.together)

    def _sift(self, start: int, stop: int) -> None:
        """Judge the rows by what they did last, and go on with those that still move."""
        recent, whole = self.trace[self.alive, start:stop], self.trace[self.alive, :stop]
        better = self.highest[self.alive] > self.first[self.alive]
        lost = ~torch.isfinite(recent).all(1) | ~torch.isfinite(self.values.detach().flatten(1)).all(1)
        still = (recent.amax(1) == recent.amin(1)) | ~self.pushed[0]
        silent = still & ~better & ((whole.amax(1) == whole.amin(1)) | ~self.pushed[1]) & ~lost
        saturated = self._saturated()
        astray = lost | (~silent & (saturated | (still & ~better)))
        for place, is_silent, is_astray in zip(*(flags.tolist() for flags in (self.alive, silent, astray))):
            self.verdicts[place] = "silent" if is_silent else "astray" if is_astray else ""
        done = (still | lost | saturated).unflatten(0, (-1, self.together)).all(1).repeat_interleave(self.together)
        if done.any():
            self._go_on(torch.nonzero(~done)[:, 0])

    def _saturated(self) -> Tensor:
        """Say which images are at the ends of the sigmoid, where no gradient passes, (live row,)."""
        if isinstance(self.made, Pixel):
            return torch.zeros(len(self.alive), dtype=torch.bool, device=self.alive.device)
        with torch.no_grad():
            images = self.made.image(self.values).flatten(1)
        low, high = self.statistics.low, self.statistics.high
        ended = torch.minimum(images - low, high - images) < 1e-6 * (high - low)
        return ended.float().mean(1) > SATURATED

    def _go_on(self, some: Tensor) -> None:
        """Go on with some of the live rows only."""
        self.values = self.values.detach()[some].requires_grad_()
        self.stepper.keep(self.values, some)
        self.alive, self.pushed = self.alive[some], self.pushed[:, some]
        rows = some.cpu().numpy()
        self.objective = self.objective.of(rows)
        self.folded = self.folded and self.folded.of(some)
        self.noises = self.noises[rows]

    def end(self) -> None:
        """Show the best images once more, as they are and through transforms drawn anew."""
        transforms, settings = self.settings.transforms, self.settings
        self.objective, self.alive = self.whole, torch.arange(len(self.verdicts), device=self.alive.device)
        self.noises = np.array(self.every_noise)
        with torch.no_grad():
            activations = self.show(self.best_images.clone())
            self.response = self.objective.response(activations).diagonal()
            if settings.diversity:
                alike = sum(likeness(activation, self.together) for activation in activations.values()) / len(
                    activations
                )
                for group in torch.nonzero(alike > ALIKE * (self.together - 1))[:, 0].tolist():
                    for place in range(group * self.together, (group + 1) * self.together):
                        self.verdicts[place] = self.verdicts[place] or "alike"
            looks = [] if transforms.none else range(settings.steps, settings.steps + LOOKS)
            shown = (self.show(self._shown(self.best_images, look)) for look in looks)
            answers = [self.objective.response(activations).diagonal() for activations in shown]
            self.transformed = torch.stack(answers).mean(0) if answers else self.response
