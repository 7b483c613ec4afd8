"""Names by the million: an array of short values, each spelled out when it is requested."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np

from cnnprobe.errors import UserError

MOST = 10_000_000
"""Images that are made, and not found: the tables of a run have a row for each."""


def must_be_few(count: int, made_by: str, most: int = MOST) -> None:
    """Refuse more images than a run can hold the names of.

    Args:
        count: how many there would be.
        made_by: the options that say so, for people.
        most: at most.

    Raises:
        UserError: there would be more.
    """
    if count > most:
        raise UserError(f"{made_by} make {count} images; at most {most} are possible")


class Names(Sequence[str]):
    """Strings that are made from the values of an array: nine million ids take 72 MB this way, as strings 700 MB.

    Args:
        values: (name,) what a name is made from, such as bytes or numbers.
        spell: makes a name from a value; a function of a module or a `partial` of one, so that processes can share it.
    """

    def __init__(self, values: np.ndarray, spell: Callable[[Any], str]):
        self.values = values
        self.spell = spell

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: SupportsIndex) -> str:  # type: ignore[override]  # nobody asks for slices
        return self.spell(self.values[index])
