"""From what an object looks like to how a hand moves: three recurrent modules in a row, AIP, F5 and M1.

Michaels, Schaffelhofer, Agudelo-Toro, Scherberger 2020 (PNAS 117:32124). An eye turns the image into features, which
reach AIP alone; a hold signal reaches all units; a linear readout of M1 gives the courses. Modules are full inside, and
sparse between neighbours, both ways. A trial is made inside the network: fixation, object, a delay in the dark, and the
movement after the hold signal has gone.

    x(t + dt) = x + dt / tau (-x + J r + I u + S h + b),    r = tanh(max(x, 0))
"""

from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnnprobe.config.options import Range
from cnnprobe.datasets.rendering.graspable import fixation_image
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.models.parts.inputs import Input

AREAS = ("AIP", "F5", "M1")
EPOCHS = ("visual", "memory", "movement")
"""Over which the mean rate of each module is a layer of its own."""
FIXATION, OBJECT, DELAY, MOVEMENT = 0.2, 0.4, 0.3, 0.9
"""How long each part of a trial takes, s."""
SHORTEST, LONGEST = 0.1, 0.4
"""Delays that are drawn in training, s."""
BEFORE = 0.2
"""From when on before the hold signal goes the courses are read, s."""
INSIDE, ACROSS = 1.2, 1.0
"""Deviation of connections times the root of how many arrive at a unit, on average: within a module, from another one.
Where few of the latter exist this is larger than in the paper's code, which divides by the root of all units; what AIP
knows reaches M1 sooner, and Adam learns in fewer updates."""
WIDTHS = (8, 16, 32)
"""Channels of the three convolutions of the eye."""
CONTRAST = 10.0
"""Deviation of the first weights of features, times the root of their inputs: an object on black fills few of these."""
OUTPUTS = 8

Side = Annotated[int, Range(8, 1024)]
Channels = Annotated[int, Range(1, 4096)]
Count = Annotated[int, Range(1, 4096)]
Arrangement = Literal["modular", "forward", "homogeneous"]
Activation = Literal["retanh", "relu"]


def needs(
    *,
    input_size: Side,
    channels: Channels,
    features: Count,
    units: Count,
    between: Annotated[float, Range(above=0, maximum=1)],
    arrangement: Arrangement,
    activation: Activation,
    tau: Annotated[float, Range(above=0)],
    step: Annotated[float, Range(above=0)],
    rates: Annotated[float, Range(0)],
    weights: Annotated[float, Range(0)],
) -> Input:
    """Say which images the network was made for."""
    return Input(channels=channels, size=input_size, resize=input_size)


def build(
    *,
    num_classes: Annotated[int, Range(1)] | None,
    input_size: Side,
    channels: Channels,
    features: Count,
    units: Count,
    between: Annotated[float, Range(above=0, maximum=1)],
    arrangement: Arrangement,
    activation: Activation,
    tau: Annotated[float, Range(above=0)],
    step: Annotated[float, Range(above=0)],
    rates: Annotated[float, Range(0)],
    weights: Annotated[float, Range(0)],
) -> "Grasp":
    """Build the network in eval() mode.

    Args:
        num_classes: channels of the courses; None: 8.
        input_size: side of the images, px.
        channels: of the images.
        features: numbers that the eye hands to AIP.
        units: of each module.
        between: share of the connections between two neighbours that exist.
        arrangement: modular: AIP, F5 and M1, both ways, as published; forward: without the ways back; homogeneous:
            every unit to every other; features still reach AIP alone, and M1 alone is read.
        activation: retanh, tanh(max(x, 0)), or relu.
        tau: time constant of the units, s.
        step: of time, s.
        rates: weight of the mean squared rate in the loss.
        weights: weight of the squared weights of features and readout in the loss.

    Returns:
        A network of (image, channel, y, x), 0 to 1, to courses (image, channel, time), from 0.2 s before the hold
        signal goes to 0.9 s after; sample k is the end of step k.

    Raises:
        UserError: the parts of a trial are no whole steps, or the steps are too long to follow the units.

    Example:
        model = build(num_classes=50, input_size=32, channels=3, features=20, units=100, between=0.1,
                      arrangement="modular", activation="retanh", tau=0.1, step=0.01, rates=0.001, weights=1e-5)
        # as published, without the eye: 41,950 free parameters
    """
    if step >= tau:
        raise UserError(f"model.step must be below model.tau ({tau:g} s), got {step:g}")
    if abs(round(SHORTEST / step) * step - SHORTEST) > 1e-6:
        raise UserError(f"model.step must divide {SHORTEST:g} s, as 0.01, 0.02 and 0.05 do, got {step:g}")
    image = (channels, input_size, input_size)
    density = 1.0 if arrangement == "homogeneous" else between
    recurrence = Recurrence(tau, step, activation)
    model = Grasp(image, features, units, ways(arrangement), density, recurrence, num_classes or OUTPUTS)
    model.rates, model.weights = rates, weights
    means = {f"{area}.{epoch}": f"{area}.{epoch}" for area in AREAS for epoch in EPOCHS}
    parts = {area: f"{area}.spared" for area in AREAS}
    parts |= {f"{source}-{target}": f"{target}.spared_{source}" for source, target in ways(arrangement)}
    aliases = {area: area for area in AREAS} | means
    model.cnnprobe = About(input_size=image, aliases=aliases, output="course", time_step=step, lesions=parts)
    return model.eval()


def ways(arrangement: Arrangement) -> list[tuple[str, str]]:
    """Return which modules are connected, from which to which."""
    if arrangement == "homogeneous":
        return list(permutations(AREAS, 2))
    forward = list(pairwise(AREAS))
    return forward if arrangement == "forward" else forward + [(after, before) for before, after in forward]


@dataclass(frozen=True)
class Recurrence:
    """How units go on from one step to the next.

    Args:
        tau, step, activation: see `build`.
    """

    tau: float
    step: float
    activation: Activation

    def steps(self, seconds: float) -> int:
        """Return how many steps a time takes."""
        return round(seconds / self.step)

    def rate(self, states: Tensor) -> Tensor:
        """Return the rates of states."""
        return states.clamp(min=0).tanh() if self.activation == "retanh" else states.clamp(min=0)

    def evolve(self, start: Tensor, connections: Tensor, drives: list[Tensor], spared: Tensor) -> tuple[Tensor, Tensor]:
        """Follow the units through time.

        Args:
            start: (unit,) state before the first step.
            connections: (to unit, from unit).
            drives: of each step, (image, unit): what comes from outside, and the bias.
            spared: (unit,) 1, or 0 for units that are silent.

        Returns:
            states and rates (image, unit, time), at the end of each step.
        """
        share, x = self.step / self.tau, start.expand(len(drives[0]), -1)
        r = self.rate(x) * spared
        states, rates = [], []
        for drive in drives:
            x = x + share * (r @ connections.T + drive - x)
            r = self.rate(x) * spared
            states.append(x)
            rates.append(r)
        return torch.stack(states, 2), torch.stack(rates, 2)


class Area(nn.Module):
    """One module: its units, and the connections that arrive at them. Its layer is its rates, (image, unit, time).

    Args:
        units: of it.
        features: that reach it; 0: none.
        sources: names of the other modules that reach it.
        density: share of the connections from them that exist.
    """

    def __init__(self, units: int, features: int, sources: list[str], density: float):
        super().__init__()
        self.units, self.sources = units, sources
        self.within = nn.Parameter(torch.randn(units, units) * INSIDE / units**0.5)
        self.seen = nn.Parameter(torch.randn(units, features) / features**0.5) if features else None
        self.hold = nn.Parameter(torch.randn(units))
        self.bias = nn.Parameter(torch.zeros(units))
        self.start = nn.Parameter(0.1 * torch.rand(units))
        self.register_buffer("spared", torch.ones(units), persistent=False)
        count = max(1, round(density * units * units))
        for source in sources:
            places = torch.randperm(units * units)[:count].sort().values
            deviation = ACROSS / (count / units) ** 0.5
            setattr(self, f"from_{source}", nn.Parameter(torch.randn(count) * deviation))
            self.register_buffer(f"places_{source}", places)
            self.register_buffer(f"spared_{source}", torch.ones(count), persistent=False)
        for epoch in EPOCHS:
            setattr(self, epoch, nn.Identity())

    def row(self, areas: tuple[str, ...], own: str) -> Tensor:
        """Return the connections (unit, unit of all modules) that arrive, 0 where there are none."""
        blocks = {own: self.within}
        for source in self.sources:
            values = getattr(self, f"from_{source}") * getattr(self, f"spared_{source}")
            flat = values.new_zeros(self.units**2).index_copy(0, getattr(self, f"places_{source}"), values)
            blocks[source] = flat.view(self.units, self.units)
        return torch.cat([blocks[area] if area in blocks else torch.zeros_like(self.within) for area in areas], 1)

    def forward(self, rates: Tensor, epochs: dict[str, slice]) -> Tensor:
        """Return its rates (image, unit, time) as they are; the mean of each epoch passes by on the way."""
        for epoch, part in epochs.items():
            getattr(self, epoch)(rates[:, :, part].mean(2))
        return rates


class Grasp(nn.Module):
    """The network.

    Args:
        image: (channel, y, x).
        features, units: see `build`.
        connected: modules, from which to which.
        density: share of the connections between two of them that exist.
        recurrence: how units go on.
        outputs: channels of the courses.
    """

    rates = weights = 0.0

    def __init__(
        self,
        image: tuple[int, int, int],
        features: int,
        units: int,
        connected: list[tuple[str, str]],
        density: float,
        recurrence: Recurrence,
        outputs: int,
    ):
        super().__init__()
        self.recurrence = recurrence
        before = (image[0], *WIDTHS)
        self.eye = nn.Sequential(
            *(part for one in pairwise(before) for part in (nn.Conv2d(*one, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))),
            nn.Flatten(),
        )
        self.features = nn.Linear(WIDTHS[-1] * (image[1] // 8) ** 2, features)
        for layer in self.eye:
            if isinstance(layer, nn.Conv2d):  # He et al. 2015
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.features.weight, std=CONTRAST / self.features.in_features**0.5)
        nn.init.zeros_(self.features.bias)
        for area in AREAS:
            sources = [source for source, target in connected if target == area]
            setattr(self, area, Area(units, features if area == AREAS[0] else 0, sources, density))
        self.readout = nn.Linear(units, outputs)
        self.register_buffer("dark", torch.from_numpy(fixation_image(image)), persistent=False)
        self.shown: Tensor | None = None  # rates of the last pass, for `penalties`

    @property
    def areas(self) -> list[Area]:
        """The modules, in the order of `AREAS`."""
        return [getattr(self, name) for name in AREAS]

    def connections(self) -> Tensor:
        """Return all connections, (to unit, from unit)."""
        return torch.cat([area.row(AREAS, name) for name, area in zip(AREAS, self.areas)])

    def forward(self, images: Tensor) -> Tensor:
        """Return the courses (image, channel, time) of images (image, channel, y, x)."""
        seen = self.features(self.eye(images))
        with torch.autocast(seen.device.type, enabled=False):  # many small steps
            wide = torch.promote_types(seen.dtype, torch.float32)
            seen, dark = seen.to(wide), self._in_the_dark().to(wide)
            delay = self._delay()
            rates = self._trial(seen, dark, delay)[1]
            self.shown = rates
            go, begin, end = self._epochs(delay)
            epochs = dict(zip(EPOCHS, (slice(begin, end), slice(end, go), slice(go, rates.shape[2]))))
            parts = rates.split(self.readout.in_features, 1)
            *_, last = (area(part, epochs) for area, part in zip(self.areas, parts))
            first = go - self.recurrence.steps(BEFORE)
            return self.readout(last[:, :, first:].transpose(1, 2)).transpose(1, 2)

    def _in_the_dark(self) -> Tensor:
        """Return the features (1, feature) of the fixation point alone; the eye's layers are those of the object."""
        x = self.dark[None]
        for layer in self.eye:
            if isinstance(layer, nn.Conv2d):
                x = functional.max_pool2d(functional.conv2d(x, layer.weight, layer.bias, padding=1).relu(), 2)
        return functional.linear(x.flatten(1), self.features.weight, self.features.bias)

    def _delay(self) -> int:
        """Return the steps between object and movement: one draw for all images in training, else always the same."""
        if not self.training:
            return self.recurrence.steps(DELAY)
        ends = self.recurrence.steps(SHORTEST), self.recurrence.steps(LONGEST) + 1
        return int(torch.randint(*ends, ()))

    def _epochs(self, delay: int) -> tuple[int, int, int]:
        """Return the steps at which the hold signal goes, and at which the object comes and goes."""
        begin = self.recurrence.steps(FIXATION)
        end = begin + self.recurrence.steps(OBJECT)
        return end + delay, begin, end

    def _trial(self, seen: Tensor, dark: Tensor, delay: int) -> tuple[Tensor, Tensor]:
        """Return states and rates (image, unit of all modules, time) of a trial.

        Args:
            seen: (image, feature) of the object.
            dark: (1, feature) of the fixation point.
            delay: steps between the object and the movement.
        """
        first, *others = self.areas
        assert first.seen is not None
        bias, hold, start, spared = (
            torch.cat([getattr(area, name) for area in self.areas]) for name in ("bias", "hold", "start", "spared")
        )
        rest = sum(area.units for area in others)
        shown, blank = (functional.pad(one @ first.seen.T, (0, rest)) + bias for one in (seen, dark))
        blank = blank.expand(len(seen), -1)
        go, begin, end = self._epochs(delay)
        drives = [(shown if begin <= place < end else blank) + (hold if place < go else 0.0)
                  for place in range(go + self.recurrence.steps(MOVEMENT))]  # fmt: skip
        return self.recurrence.evolve(start, self.connections(), drives, spared)

    def penalties(self, images: Tensor, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted squared rates of the last pass, and squared weights of features and readout."""
        if self.shown is None:
            return {}
        first = self.areas[0].seen
        assert first is not None
        squares = first.square().sum() + self.readout.weight.square().sum()
        return {"rates": self.rates * self.shown.square().mean(), "weights": self.weights * squares}
