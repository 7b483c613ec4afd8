"""Lesions: which units of which layers are taken out, how, and the random ones of equal size beside them."""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.units import units_of
from cnnprobe.methods.lesion.parts import is_part

How = Literal["swap", "mean", "zero"]
"""What stands in for the activation of a unit: that of another image, its mean over images, or 0."""
HOW: tuple[How, ...] = get_args(How)
Spec = str | int | list[int | str | list[int | str]]
"""Units as they are asked for, see `groups_of`."""
BEST = re.compile(r"best:([1-9]\d*)(%?)")


@dataclass(frozen=True)
class Group:
    """Units of a layer that are taken out together.

    Args:
        name: as asked: "all", "7", "0:8", "best:8".
        count: how many they are.
        units: channels; None: those that a localizer finds.
    """

    name: str
    count: int
    units: np.ndarray | None = None


@dataclass(frozen=True)
class Lesion:
    """One way to lesion a network.

    Args:
        layer: whose units.
        group: of which units.
        how: what stands in for their activation.
        share: of the units.
        draw: which random choice of that share, 0 the first.
        control: number of a random lesion of as many other units; -1: the lesion itself.
    """

    layer: Layer
    group: Group
    how: How
    share: float = 1.0
    draw: int = 0
    control: int = -1

    @property
    def count(self) -> int:
        """How many units are taken out: the share, rounded, and one at least unless it is 0."""
        return max(1, int(self.share * self.group.count + 0.5)) if self.share else 0

    @property
    def target(self) -> str:
        """What is taken out, for people: "conv2", "conv2 units 0:8"."""
        if self.group.name == "all":
            return self.layer.name
        return f"{self.layer.name} unit{'s' * (self.group.count > 1)} {self.group.name}"

    def units(self, of_group: np.ndarray, seed: int) -> np.ndarray:
        """Return the channels that are taken out, int64, rising.

        Those of a larger share of the same draw hold those of a smaller one. Controls are drawn from the units of the
        layer that are not in the group; they are the same whatever stands in for them.

        Args:
            of_group: channels of the group.
            seed: of all random choices.
        """
        among = of_group
        if self.control >= 0:
            among = np.setdiff1d(np.arange(self.layer.channels), of_group)
        words = [seed, zlib.crc32(self.layer.name.encode()), self.draw, self.control + 1]
        return np.sort(np.random.default_rng(words).permutation(among)[: self.count])


def groups_of(layer: Layer, spec: Spec) -> list[Group]:
    """Return the groups of units of a layer that are taken out one after the other.

    Args:
        layer: of the network.
        spec: "all" or a list or range of units (one group, see `units.units_of`), "each" (as many groups as units),
            "best:8" or "best:5%" (those that a localizer finds), or a list of lists (a group each).

    Raises:
        UserError: no such unit, or more than the layer has.
    """
    if spec == "each":
        return [Group(str(unit), 1, np.array([unit])) for unit in range(layer.channels)]
    if isinstance(spec, str) and (match := BEST.fullmatch(spec)):
        count = int(match[1])
        if match[2]:
            count = max(1, int(count / 100 * layer.channels + 0.5))
        if count > layer.channels:
            raise UserError(f"units={spec} asks for {count} units, {layer.name} has {layer.channels}")
        return [Group(spec, count)]
    if isinstance(spec, list) and any(isinstance(one, list) for one in spec):
        return [_group(layer, one) for one in spec]
    return [_group(layer, [one for one in spec if not isinstance(one, list)] if isinstance(spec, list) else spec)]


def _group(layer: Layer, spec: str | int | list[int | str]) -> Group:
    units = units_of(layer, spec)
    words = [spec] if isinstance(spec, str | int) else spec
    return Group("all" if "all" in words else listing(words, 6), len(units), units)


def lesions_of(
    layers: Sequence[Layer], spec: Spec, how: Sequence[How], shares: Sequence[float], draws: int, controls: int
) -> list[Lesion]:
    """Return all lesions, in the order in which they are made; controls follow the lesion whose size they have.

    Args:
        layers: of the network.
        spec: units of each, see `groups_of`.
        how: what stands in, one after the other; of parts of a recurrence it is 0.
        shares: of the units of a group.
        draws: random choices of each share between 0 and 1.
        controls: random lesions beside each.

    Raises:
        UserError: no such units, or too few others for controls.
    """
    made = [one for layer in layers for group in groups_of(layer, spec)
            for one in _of_group(layer, group, how, shares, draws, controls)]  # fmt: skip
    if controls and all(one.group.count == one.layer.channels for one in made):
        raise UserError(f"controls={controls} are lesions of as many other units; units={spec} leaves none")
    return made


def _of_group(
    layer: Layer, group: Group, how: Sequence[How], shares: Sequence[float], draws: int, controls: int
) -> Iterator[Lesion]:
    ways: Sequence[How] = ["zero"] if is_part(layer) else how
    for share in shares:
        for draw in range(draws if 0 < share < 1 else 1):
            for way in ways:
                lesion = Lesion(layer, group, way, share, draw)
                yield lesion
                if controls and lesion.count > layer.channels - group.count:
                    raise UserError(
                        f"controls={controls} are lesions of as many other units: {lesion.target} are {lesion.count} "
                        f"of {layer.channels}, {layer.channels - group.count} others are left"
                    )
                yield from (Lesion(layer, group, way, share, draw, control) for control in range(controls))


def ways_of(asked: Literal["auto"] | How | Sequence[How], layers: Sequence[Layer]) -> list[How]:
    """Return what stands in for the units of layers, each once, in the order of `HOW`.

    Args:
        asked: auto: the activation to another image, and 0 for parts of a recurrence.
        layers: that are lesioned.

    Raises:
        UserError: there is none; a part of a recurrence can be set to 0 alone.
    """
    if asked == "auto":
        return ["zero"] if all(map(is_part, layers)) else ["swap"]
    ways = [asked] if isinstance(asked, str) else list(asked)
    if not ways:
        raise UserError(f"how must be {', '.join(HOW[:-1])} or {HOW[-1]}, or several, got none")
    parts = [one.name for one in layers if is_part(one)]
    if parts and (other := [way for way in HOW if way in ways and way != "zero"]):
        why = f"{parts[0]} acts at every step of a recurrence: how=zero"
        raise UserError(f"how={other[0]} needs a layer of a single pass; {why}")
    return [way for way in HOW if way in ways]


def derangement(count: int, seed: int) -> np.ndarray:
    """Return a random order of `count` images in which each has the place of another one, int64.

    All lie on one cycle, whatever batches they are shown in.
    """
    order = np.random.default_rng([seed, count]).permutation(count)
    partner = np.empty(count, np.int64)
    partner[order] = np.roll(order, 1)
    return partner
