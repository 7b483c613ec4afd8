"""The classes a network tells apart: how many there are, and which of them are examined for an image."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError, place_of, unknown
from cnnprobe.instruments.layers.naming import find

LOG = logging.getLogger("cnnprobe")
Choose = Callable[[Tensor, Tensor], Tensor]
"""From logits (n, class) and labels (n,), -1 for unknown, to the classes that are mapped, (n, k) int64, -1 for none."""


def class_count(model: nn.Module, size: tuple[int, ...]) -> int:
    """Return the number of classes; UserError where the network returns no (image, class)."""
    try:
        output = find(model, "logits", size)[0]
    except UserError:
        raise UserError("cam needs a classifier, a network that returns one tensor (image, class)") from None
    if output.map_size:
        shape = " x ".join(map(str, (output.channels, *output.map_size)))
        raise UserError(f"cam needs a classifier, which returns (image, class); this network returns {shape} per image")
    return output.channels


@dataclass(frozen=True)
class Choice:
    """Which classes are mapped for each image.

    Args:
        top: the classes with the largest logits, largest first; of equal ones the smaller index first.
        fixed: these instead, for every image.
        own: also the class of the label, where it is not among the top.
    """

    top: int = 5
    fixed: tuple[int, ...] = ()
    own: bool = False

    @property
    def count(self) -> int:
        """Classes per image."""
        return len(self.fixed) or self.top + self.own

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return classes (n, count), -1 for none."""
        if self.fixed:
            return torch.tensor(self.fixed, device=logits.device).expand(len(logits), -1)
        best = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, : self.top]
        if not self.own:
            return best
        labels = labels.to(logits.device)
        extra = torch.where((best == labels[:, None]).any(1), -1, labels)
        return torch.cat([best, extra[:, None]], 1)


def asked_classes(asked: Any, names: tuple[str, ...], count: int) -> tuple[int, ...]:
    """Return indices of the classes requested, each once; where names are numbers, a number is a name.

    Raises:
        UserError: there is no such class, or several have the name.
    """
    found, numbers = [], any(re.fullmatch(r"\d+", name) for name in names)
    for word in [] if asked is None else asked if isinstance(asked, list) else [asked]:
        if str(word) in names:
            instead = "give each a name of its own" if numbers else "write the index of one"
            found.append(place_of(str(word), names, "class", plural="classes", instead=instead))
            if re.fullmatch(r"\d+", str(word)) and found[-1] != int(word):
                LOG.warning(f"class={word} is the class called {word}, output {found[-1]} of the network")
        elif not numbers and (isinstance(word, int) or re.fullmatch(r"\d+", str(word))):
            if not 0 <= int(word) < count:
                raise UserError(f"the network has classes 0 to {count - 1}, got class={word}")
            found.append(int(word))
        else:
            raise unknown("class", str(word), names or [f"0 to {count - 1}"], plural="classes")
    return tuple(dict.fromkeys(found))
