"""Names by the million: an array of short values, each spelled out when it is requested."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np


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
