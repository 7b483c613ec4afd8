"""Types, choices and ranges of options, read from annotations without importing the module.

A method's `compute`, a model's or dataset's `build` states what each option may be:

    def compute(*, model, dataset, k: Annotated[int, Range(1)], criterion: Literal["max", "mean"]): ...

`declared` reads that from the source text, so that a command line is checked, and its help written,
before torch is imported. Defaults and the words of the help stand in the YAML of the same name.
"""

import ast
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError, listing, nearest

Run = str
"""Annotation of an option that names a finished run; the runner resolves and opens it."""


@dataclass(frozen=True)
class Range:
    """Which numbers an option takes: from `minimum` to `maximum`, or strictly `above` / `below`."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        low = f"{self.minimum} or more" if self.minimum is not None else ""
        low = f"above {self.above}" if self.above is not None else low
        if self.maximum is not None:
            return (
                f"from {self.minimum} to {self.maximum}"
                if self.minimum is not None
                else (f"{low} and at most {self.maximum}" if low else f"{self.maximum} or less")
            )
        if self.below is not None:
            lowest = f"{self.minimum} or more" if self.minimum is not None else low
            return f"{lowest} and below {self.below}" if lowest else f"below {self.below}"
        return low
