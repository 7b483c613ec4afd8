"""A network's statements about itself, under one marked attribute: `network.cnnprobe = About(...)`.

A network keeps numbers, lists and modules under any names it likes (`classes`, `input_size`, `aliases`, …): they are
its own business and none of them is read. What is read is the attribute `cnnprobe` alone, and only an `About`.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cnnprobe.errors import UserError

ATTRIBUTE = "cnnprobe"
Output = Literal["classes", "existence", "map", "course"]
"""
classes    (image, class), scores of classes that exclude each other
existence  (image, class), log-odds of classes that stand each for itself: lengths of capsules, or classes of which an
           image may have several
map        (image, class, y, x), scores of classes for every pixel
course     (image, channel, time)
"""


@dataclass(frozen=True)
class About:
    """What a network may say about itself; each is optional.

    Args:
        input_size: (channel, y, x) or (channel, time) of the images it was made for; () where any will do.
        classes: names of its outputs, in their order; () where unknown.
        aliases: further names of its modules, name to module path: {"V1": "features.3"}.
        output: what it returns, where the axes do not say it: "existence", log-odds of classes that stand each for
            itself (lengths of capsules), see `Output`; None where nothing is to be said.
        capsules: name of the layer whose units are the numbers of its class capsules, class by class; "" of a network
            that has none.
        time_step: seconds from one step to the next along the one axis of its layers (image, unit, time), of a network
            for images that makes time itself; None where it has none, or none in seconds.
        lesions: what `lesion` may take out beside layers, name to buffer: {"AIP-F5": "F5.spared_AIP"}. A buffer has one
            axis, of units or connections, and holds ones by which the network multiplies them, as a recurrence does
            at each of its steps.

    Raises:
        UserError: one of them is something else.

    Example:
        net.cnnprobe = cnnprobe.About(classes=["cat", "dog"], aliases={"V1": "features.3"})
    """

    input_size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    output: Output | None = None
    capsules: str = ""
    time_step: float | None = None
    lesions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sides = self.input_size
        if not isinstance(sides, tuple | list) or len(sides) not in (0, 2, 3) or not all(map(_is_count, sides)):
            raise UserError(f"About.input_size must be (channel, y, x) or (channel, time), got {sides!r}")
        if isinstance(self.classes, str) or not _are_texts(self.classes):
            raise UserError(f"About.classes must be a list of names, got {self.classes!r}")
        if not isinstance(self.aliases, Mapping) or not _are_texts([*self.aliases, *self.aliases.values()]):
            raise UserError(f"About.aliases must map names to module paths, got {self.aliases!r}")
        if self.output is not None and self.output not in get_args(Output):
            raise UserError(f"About.output must be classes, existence, map or course, got {self.output!r}")
        if not isinstance(self.capsules, str):
            raise UserError(f"About.capsules must be the name of a layer, got {self.capsules!r}")
        step = self.time_step
        if step is not None and not (isinstance(step, int | float) and 0 < step < math.inf):
            raise UserError(f"About.time_step must be a number of seconds above 0, got {step!r}")
        if not isinstance(self.lesions, Mapping) or not _are_texts([*self.lesions, *self.lesions.values()]):
            raise UserError(f"About.lesions must map names to buffers, got {self.lesions!r}")
        for name in ("input_size", "classes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


def about(network: Any) -> About:
    """Return what a network says about itself; an empty `About` where it says nothing in this protocol.

    Nothing of the network is called: what a `__getattr__` would make up, or hand through from within, is not its own.
    """
    found = inspect.getattr_static(network, ATTRIBUTE, None)
    return found if isinstance(found, About) else About()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_texts(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, str) for value in values)
