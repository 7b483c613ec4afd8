"""Values put into columns of a smaller type: one that cannot hold them ends the run, and what becomes 0 is counted."""

import logging
from dataclasses import dataclass, field

import numpy as np

from cnnprobe.errors import UserError

LOG = logging.getLogger("cnnprobe")
FEW = 1e-3
"""Share of the values other than 0 that may become 0 without a word: in most maps some are that near to it."""


@dataclass
class Narrowing:
    """Puts values into columns, and remembers how many of those other than 0 became 0.

    Args:
        counts: by column, values other than 0 that became 0, and all of them.
        types: by column, type of the values as they were handed over, and of the column.
    """

    counts: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, tuple[np.dtype, np.dtype]] = field(default_factory=dict)

    def put(self, column: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return values as a column of a type holds them, contiguous.

        Args:
            column: with its table, for people.
            values: of any type.
            dtype: of the column.

        Raises:
            UserError: a number is too large for it, or would become another whole number.
        """
        if np.can_cast(values.dtype, dtype):
            return np.ascontiguousarray(values, dtype)
        with np.errstate(all="ignore"):
            found = np.ascontiguousarray(values, dtype)
        if values.dtype.kind not in "iuf" or dtype.kind not in "iuf":
            return found
        wrong = np.isinf(found) if dtype.kind == "f" else found != values
        if wrong.any() and (lost := wrong & np.isfinite(values) if dtype.kind == "f" else wrong).any():
            raise _too_large(column, values, lost, dtype)
        if dtype.kind == "f":
            bits = found.view(f"u{dtype.itemsize}") << 1  # without the sign; float16 itself is compared very slowly
            there = np.count_nonzero(values != 0)
            self.counts[column] = self.counts.get(column, 0) + np.array([there - np.count_nonzero(bits), there])
            self.types[column] = values.dtype, dtype
        return found

    def tell(self) -> None:
        """Warn of the columns in which more than a few values became 0."""
        for column, (lost, there) in self.counts.items():
            if lost > FEW * there:
                own, dtype = self.types[column]
                least = np.finfo(dtype).smallest_subnormal
                LOG.warning(
                    f"{column}: {100 * lost / there:.3g} % of the values other than 0 are stored as 0: "
                    f"{dtype.name} holds none below {least:.2g}; dtype={own.name} stores them"
                )


def _too_large(column: str, values: np.ndarray, wrong: np.ndarray, dtype: np.dtype) -> UserError:
    """Build the error for values that a column cannot hold."""
    known = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    kind = "whole numbers " if dtype.kind in "iu" else ""
    ends = f"{kind}{known.min} to {known.max}" if kind else f"numbers up to {known.max:g}"
    largest = values[wrong][np.abs(values[wrong].astype(np.float64)).argmax()]
    return UserError(
        f"{column} is stored as {dtype.name}, which holds {ends}; got {largest:.6g} "
        f"({100 * wrong.mean():.3g} % of the values do not fit); dtype={values.dtype.name} stores them"
    )
