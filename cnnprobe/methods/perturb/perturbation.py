"""Images with their spectrum perturbed, shown to a network: how the mean or the shape of every unit's map changes.

Hartmann, Schirrmeister and Ball (2018, Hierarchical internal representation of spectral features in deep convolutional
networks trained for EEG decoding) perturb amplitudes or phases of the Fourier transform at random and correlate, over
trials, the perturbation of each frequency with the change it makes. Noise is a function of (seed, kind, draw, image)
alone, so that it depends on no batch.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.instruments.images.augmentation import uniform
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.passes import Source
from cnnprobe.instruments.network.activations import tap, warn_of_nan
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import Outputs
from cnnprobe.machine.memory import UNBOUNDED, Carried
from cnnprobe.methods.perturb.bands import Bands, opponent, raised, scaled, turned
from cnnprobe.store.tables import Advance
from cnnprobe.store.unfinished import State, Unfinished, put

Kind = Literal["amplitude", "phase"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FLAT = 1e-8
"""A map whose variance is below this share of its mean square has one value, but for rounding."""


@dataclass(frozen=True)
class Noise:
    """How spectra are perturbed.

    Args:
        bands: of the images.
        kinds: any of `KINDS`.
        groups: channels with amplitude noise of their own: 1 for all together.
        gain: amplitudes are multiplied by e^noise instead of having it added.
        scale: standard deviation of the amplitude noise.
        colour: groups are luminance, red-green and yellow-blue.
        draws: how often every image is perturbed in each way.
        seed: of all noise.
    """

    bands: Bands
    kinds: tuple[Kind, ...]
    groups: int
    gain: bool
    scale: float
    colour: bool
    draws: int
    seed: int

    def passes(self) -> list[tuple[Kind, int]]:
        """Return every perturbation of an image: its kind and draw."""
        return [(kind, draw) for draw in range(self.draws) for kind in self.kinds]

    def amplitude(self, draw: int, indices: Tensor) -> Tensor:
        """Return normal noise, (image, group, band)."""
        count = self.groups * len(self.bands)
        flat = uniform(self.seed, 2 * draw, indices, count) * 2 + (2**-24 - 1)  # never -1 or 1, exact in float32
        return (self.scale * 2**0.5 * torch.erfinv(flat)).view(len(indices), self.groups, -1)

    def phase(self, draw: int, indices: Tensor) -> Tensor:
        """Return angles, uniform from -pi to pi, (image, band)."""
        return (uniform(self.seed, 2 * draw + 1, indices, len(self.bands)) * 2 - 1) * torch.pi

    def spectrum(self, images: Tensor) -> Tensor:
        """Return the transform of images, of opponent colours where those are perturbed."""
        return self.bands.spectrum(opponent(images) if self.colour else images)

    def image(self, spectrum: Tensor) -> Tensor:
        """Return the images that have this transform."""
        made = self.bands.image(spectrum)
        return opponent(made, back=True) if self.colour else made

    def amplified(self, spectrum: Tensor, noise: Tensor) -> Tensor:
        """Return the images with amplitudes perturbed by noise (image, group, band)."""
        return self.image((scaled if self.gain else raised)(spectrum, noise, self.bands))

    def perturbed(self, kind: Kind, draw: int, spectrum: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return perturbed images, and by how much: (image, group, band), of phases |angle| with one group.

        Of added noise that is what was drawn, not what is left of it where an amplitude would fall below 0: that is
        larger in quiet images, whatever a unit listens to, and images could not be permuted.
        """
        if kind == "amplitude":
            noise = self.amplitude(draw, indices)
            return self.amplified(spectrum, noise), noise
        angles = self.phase(draw, indices)
        return self.image(turned(spectrum, angles, self.bands)), angles.abs()[:, None]


@dataclass
class Trials:
    """What came of all perturbations.

    Attributes:
        perturbation: by kind, (draw, image, cell) float32, cells being groups times bands, bands counted quickest.
        response: by kind and layer, (draw, image, unit) float32, NaN where there is none: the change of the mean of the
            unit's map, perturbed minus original; of phases the correlation of the two maps over positions.
        size: by layer, (unit,) root of the mean square of the original maps, of those that are finite.
        decisions: by kind, and "none": (image,) class with the largest output, in the first draw; -1 where there is
            none.
        skipped: (image,) bool, could not be read.
        outputs: among how many classes the network decides, 0 where it does not.
        known: what the network returns; None: nothing is decided.
    """

    perturbation: dict[Kind, np.ndarray] = field(default_factory=dict)
    response: dict[tuple[Kind, str], np.ndarray] = field(default_factory=dict)
    size: dict[str, np.ndarray] = field(default_factory=dict)
    decisions: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    outputs: int = 0
    known: Outputs | None = None

    def decide(self, outputs: Any, kind: str, places: np.ndarray, readable: np.ndarray) -> None:
        """Note the decisions for some images where `outputs` are those of a classifier."""
        if self.known is None:
            return
        scores = self.known.scores(outputs)
        if scores is not None:
            self.outputs = scores.shape[1]
            if kind == "none":
                warn_of_nan("logits", scores, places, readable)
            decided = self.known.chosen(scores.float())
            self.decisions[kind][places] = np.where(readable, decided.cpu().numpy(), -1)

    def state(self) -> State:
        """Return everything, for `restore`."""
        found = {name: dict(getattr(self, name)) for name in ("perturbation", "size", "decisions")}
        return found | {"skipped": self.skipped, "outputs": self.outputs, "response": list(self.response.values())}

    def restore(self, state: State) -> None:
        """Take over everything from trials of the same noise and units."""
        for name in ("perturbation", "size", "decisions"):
            put(getattr(self, name), state[name])
        every = (self.response.values(), state["response"])
        put(*({str(place): one for place, one in enumerate(responses)} for responses in every))
        self.skipped[:], self.outputs = state["skipped"], state["outputs"]

    @classmethod
    def empty(cls, noise: Noise, units: dict[str, np.ndarray], images: int, known: Outputs | None = None) -> "Trials":
        """Return the place for everything."""
        made = cls(skipped=np.zeros(images, bool), known=known)
        made.decisions = {kind: np.full(images, -1, np.int64) for kind in ("none", *noise.kinds)}
        for kind in noise.kinds:
            groups = noise.groups if kind == "amplitude" else 1
            made.perturbation[kind] = np.zeros((noise.draws, images, groups * len(noise.bands)), np.float32)
            for layer, own in units.items():
                made.response[kind, layer] = np.full((noise.draws, images, len(own)), np.nan, np.float32)
        made.size = {layer: np.zeros(len(own)) for layer, own in units.items()}
        return made


class Original:
    """The original maps of some images in one layer, and what a perturbed map is compared with.

    Args:
        maps: (image, unit, position).
        whole: the maps themselves are needed, not only their means.
    """

    def __init__(self, maps: Tensor, whole: bool):
        self.mean = maps.mean(-1)
        self.square = maps.square().mean(-1)
        self.maps = maps - self.mean[..., None] if whole else None

    def change(self, maps: Tensor) -> Tensor:
        """Return the change of the mean, perturbed minus original, (image, unit)."""
        return maps.mean(-1) - self.mean

    def likeness(self, maps: Tensor) -> Tensor:
        """Return the correlation over positions with the original map, (image, unit).

        Two maps of one value each, not 0, are alike: 1. NaN where only one of them has one value, where the unit is
        silent, and of layers without positions.
        """
        if maps.shape[-1] < 2:
            return torch.full_like(self.mean, torch.nan)
        assert self.maps is not None  # phases are perturbed: the whole maps were requested
        mean, square = maps.mean(-1), maps.square().mean(-1)
        centred = maps - mean[..., None]
        first, second = self.maps.square().mean(-1), centred.square().mean(-1)
        flat, flat_too = first <= FLAT * self.square, second <= FLAT * square
        found = (self.maps * centred).mean(-1) / (first * second).sqrt()
        found = torch.where(flat | flat_too, torch.nan, found)
        return torch.where(flat & flat_too & (self.square > 0), 1.0, found)


class Showing:
    """Shows every image, and every perturbation of it, in one pass for all layers.

    Args:
        model: any network; it is given back as it was.
        layers: of it; nothing deeper is computed, but for the decisions of the first draw.
        units: channels by name of layer.
        noise: what is done to images.
        decide: whether the decisions of the network are wanted.
    """

    def __init__(self, model: nn.Module, layers: list[Layer], units: dict[str, np.ndarray], noise: Noise, decide: bool):
        self.model, self.layers, self.units, self.noise, self.decide = model, layers, units, noise, decide
        self.whole = "phase" in noise.kinds
        self.maps: dict[str, Tensor] = {}
        self.use: Callable[[str, Tensor], None] = self.maps.__setitem__

    def run(self, loaded: Source, trials: Trials, unfinished: Unfinished | None = None) -> Iterator[Advance]:
        """Do it for all images; `trials` is filled. Counts passes of images through the network.

        Args:
            loaded: the images, see `images.passes.passing`.
            trials: empty.
            unfinished: keeps them so far.
        """
        counted = {layer: np.zeros_like(sums) for layer, sums in trials.size.items()}
        at, unfinished = {"shown": 0, "start": 0, "passes": 0, "most": UNBOUNDED}, unfinished or Unfinished()

        def restore(state: State) -> None:
            put(counted, state["counted"])
            trials.restore(state["trials"])
            at.update(state["at"])

        unfinished.begin("trials", lambda: {"at": at, "counted": counted, "trials": trials.state()}, restore)
        if at["shown"] < len(trials.skipped):
            if at["shown"]:
                yield Advance(at["shown"] * (1 + len(self.noise.passes())))
            with torch.inference_mode(), tap(self.model, self.layers, self._receive) as run:
                for batch in loaded(at["shown"]) if callable(loaded) else loaded:
                    yield from self._batch(run, batch, trials, counted, at)
            unfinished.end("trials")
        for layer, squares in trials.size.items():
            known = np.where(counted[layer] > 0, counted[layer], 1 if trials.skipped.all() else np.nan)
            trials.size[layer] = np.sqrt(squares / known)

    def _receive(self, layer: Layer, activation: Tensor) -> None:
        own = self.units[layer.name]
        chosen = activation if len(own) == layer.channels else activation[:, torch.from_numpy(own)]
        maps = chosen.reshape(*chosen.shape[:2], -1).float()
        self.use(layer.name, maps)

    def _batch(
        self,
        run: Callable[..., Any],
        batch: Batch,
        trials: Trials,
        counted: dict[str, np.ndarray],
        at: dict[str, int],
    ) -> Iterator[Advance]:
        """Show a batch as it is and in all perturbations, in parts that fit into memory.

        Args:
            counted: by layer, the maps behind `size`, (unit,).
            at: how far the work has come: batches `shown` whole, of this one all images before `start`, and of the next
                ones, `most` at a time, so many `passes`.
        """
        carried = Carried(at["most"])
        while at["start"] < len(batch):
            part = batch.part(at["start"], at["start"] + carried.most)
            lost = yield from self._show(run, part, trials, counted, carried, at)
            at["start"] += len(part) if lost is None else 0
            at["passes"], at["most"] = 0, carried.most
            if lost:
                yield Advance(-lost)
        trials.skipped[batch.indices] = ~batch.readable
        at["shown"], at["start"] = at["shown"] + len(batch), 0

    def _show(
        self,
        run: Callable[..., Any],
        part: Batch,
        trials: Trials,
        counted: dict[str, np.ndarray],
        carried: Carried,
        at: dict[str, int],
    ) -> Generator[Advance, None, int | None]:
        """Show some images in all perturbations; returns None, or, if they do not fit, what was counted in vain."""
        seen: dict[str, Original] = {}

        def attempted(work: Callable[[], Any]) -> bool:
            return carried.attempt(len(part), lambda: (work(), True)[1]) is not None

        if not attempted(lambda: self._originals(run, part, trials, seen)):
            return 0
        yield Advance(len(part) * (1 + at["passes"]))
        spectrum = self.noise.spectrum(part.images)
        for number, (kind, draw) in enumerate(self.noise.passes()):
            if number < at["passes"]:
                continue
            if not attempted(partial(self._perturbed, run, part, trials, seen, spectrum, kind, draw)):
                return len(part) * (1 + at["passes"])
            at["passes"] = number + 1
            yield Advance(len(part))
        for layer, original in seen.items():
            warn_of_nan(layer, original.square, part.indices, part.readable)
            squares = original.square[torch.from_numpy(part.readable)]
            finite = squares.isfinite()
            trials.size[layer] += torch.where(finite, squares, 0.0).sum(0).double().cpu().numpy()
            counted[layer] += finite.sum(0).cpu().numpy()
        return None

    def _originals(self, run: Callable[..., Any], part: Batch, trials: Trials, seen: dict[str, Original]) -> None:
        """Show some images as they are; `seen` is filled by layer."""
        self.use = lambda layer, maps: seen.update({layer: Original(maps, self.whole)})
        trials.decide(run(part.images, complete=self.decide), "none", part.indices, part.readable)

    def _perturbed(
        self,
        run: Callable[..., Any],
        part: Batch,
        trials: Trials,
        seen: dict[str, Original],
        spectrum: Tensor,
        kind: Kind,
        draw: int,
    ) -> None:
        """Show some images in one perturbation."""
        indices = torch.from_numpy(part.indices).to(part.images.device)
        made, changed = self.noise.perturbed(kind, draw, spectrum, indices)
        found: dict[str, Tensor] = {}
        compare = Original.change if kind == "amplitude" else Original.likeness
        self.use = lambda layer, maps: found.update({layer: compare(seen[layer], maps)})
        outputs = run(made, complete=self.decide and draw == 0)
        if draw == 0:
            trials.decide(outputs, kind, part.indices, part.readable)
        trials.perturbation[kind][draw, part.indices] = changed.flatten(1).cpu().numpy()
        for layer, values in found.items():
            values[~torch.from_numpy(part.readable)] = torch.nan
            trials.response[kind, layer][draw, part.indices] = values.cpu().numpy()


def deviation(loaded: Iterable[Batch]) -> float:
    """Return the standard deviation of signals about the mean of each channel of each; 1 if there is none."""
    squares = [batch.images[torch.from_numpy(batch.readable)].var(-1, correction=0).double() for batch in loaded]
    found = torch.cat(squares).mean().sqrt().item() if squares else 0.0
    return found if np.isfinite(found) and found > 0 else 1.0


def slopes(
    model: nn.Module, layer: Layer, units: np.ndarray, noise: Noise, images: Tensor
) -> Iterator[tuple[int, np.ndarray]]:
    """Give by unit how its mean response grows with the amplitude of each band, by one backward pass each.

    The gradient of the mean of the unit's map at no perturbation, through the inverse transform: what the correlation
    measures, up to a factor, where the network is locally linear.

    Args:
        images: (image, channel, y, x) or (image, channel, time).

    Yields:
        the unit, and (band, group) mean over the images; NaN where there are none.
    """
    if not len(images):
        yield from ((int(unit), np.full((len(noise.bands), noise.groups), np.nan, np.float32)) for unit in units)
        return
    held: list[Tensor] = []

    def receive(_: Layer, activation: Tensor) -> None:
        held.append(activation.reshape(*activation.shape[:2], -1).mean(-1))

    with torch.enable_grad(), tap(model, [layer], receive) as run:

        def shown(some: Tensor) -> tuple[Tensor, Tensor]:
            held.clear()
            changes = torch.zeros(len(some), noise.groups, len(noise.bands), device=some.device, requires_grad=True)
            run(noise.amplified(noise.spectrum(some), changes))
            return held.pop().sum(0), changes

        carried = Carried(len(images), "batch of slopes")
        whole = carried.attempt(len(images), lambda: shown(images))
        if whole is not None:
            sums, changes = whole
            yield from ((int(unit), _slope(sums, changes, unit) / len(images)) for unit in units)
            return
        start, total = 0, np.zeros((len(units), len(noise.bands), noise.groups), np.float32)
        while start < len(images):
            some = images[start : start + carried.most]
            found = carried.attempt(len(some), partial(lambda some: _all_slopes(*shown(some), units), some))
            if found is not None:
                total += found
                start += len(some)
        yield from zip(map(int, units), total / len(images))


def _all_slopes(sums: Tensor, changes: Tensor, units: np.ndarray) -> np.ndarray:
    return np.stack([_slope(sums, changes, unit) for unit in units])


def _slope(sums: Tensor, changes: Tensor, unit: int) -> np.ndarray:
    """Return the gradient of one unit's sum over images, summed over them, (band, group)."""
    (slope,) = torch.autograd.grad(sums[int(unit)], changes, retain_graph=True)
    return slope.sum(0).mT.float().cpu().numpy()
