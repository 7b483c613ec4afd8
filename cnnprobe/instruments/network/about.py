"""A network's statements about itself, under one marked attribute: `network.cnnprobe = About(...)`.

A network keeps numbers, lists and modules under any names it likes (`classes`, `input_size`, `aliases`, …): they are
its own business and none of them is read. What is read is the attribute `cnnprobe` alone, and only an `About`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnprobe.errors import UserError

ATTRIBUTE = "cnnprobe"


@dataclass(frozen=True)
class About:
    """What a network may say about itself; each is optional.

    Args:
        input_size: (channel, y, x) or (channel, time) of the images it was made for; () where any will do.
        classes: names of its outputs, in their order; () where unknown.
        aliases: further names of its modules, name to module path: {"V1": "features.3"}.

    Raises:
        UserError: one of them is something else.

    Example:
        net.cnnprobe = cnnprobe.About(classes=["cat", "dog"], aliases={"V1": "features.3"})
    """

    input_size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sides = self.input_size
        if not isinstance(sides, tuple | list) or len(sides) not in (0, 2, 3) or not all(map(_is_count, sides)):
            raise UserError(f"About.input_size must be (channel, y, x) or (channel, time), got {sides!r}")
        if isinstance(self.classes, str) or not _are_texts(self.classes):
            raise UserError(f"About.classes must be a list of names, got {self.classes!r}")
        if not isinstance(self.aliases, Mapping) or not _are_texts([*self.aliases, *self.aliases.values()]):
            raise UserError(f"About.aliases must map names to module paths, got {self.aliases!r}")
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
