"""Values that a file keeps packed: netCDF's gaps, factors and offsets, and matrices of which only some are kept."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

FILLS = ("_FillValue", "missing_value")
"""Attributes that name the values that stand for gaps."""
RANGES = ("valid_range", "valid_min", "valid_max")
"""Attributes that say between which values, as they lie in the file, is no gap."""
PACKED = (*FILLS, *RANGES, "scale_factor", "add_offset", "_Unsigned")
"""Attributes that say how values are packed, by the conventions for climate and forecast (CF) and netCDF."""
DENSE = 2**26
"""Values a matrix may have of which a file keeps only those that are not 0."""


class Unpacked:
    """Reads values as they were before they were packed: gaps are NaN, then value * scale_factor + add_offset.

    Args:
        reader: takes an index and returns values as they lie in the file.
        fills: values in the file that stand for gaps, of its type.
        valid: the least and the largest value in the file that is no gap.
        scale, offset: what gives the values back.
        unsigned: signed integers in the file stand for unsigned ones.
    """

    def __init__(
        self,
        reader: Callable[[Any], np.ndarray],
        fills: np.ndarray,
        valid: tuple[float, float],
        scale: float,
        offset: float,
        unsigned: bool,
    ):
        self.reader, self.fills, self.valid = reader, fills, valid
        self.scale, self.offset, self.unsigned = scale, offset, unsigned

    def __call__(self, index: Any) -> np.ndarray:
        """Read values at an index of the array as it lies in the file."""
        packed = np.asarray(self.reader(index))
        gaps = np.isin(packed, self.fills)
        if self.unsigned:
            packed = packed.view(packed.dtype.str.replace("i", "u"))
        gaps |= (packed < self.valid[0]) | (packed > self.valid[1])
        values = packed.astype(np.float64) * self.scale + self.offset
        return np.where(gaps, np.nan, values)


def unpacked(
    reader: Callable[[Any], np.ndarray], dtype: np.dtype, attributes: Mapping[str, Any]
) -> tuple[Callable[[Any], np.ndarray], str]:
    """Return what reads an array's values by the attributes that say how they are packed, and a note of it.

    Args:
        reader: of the values as they lie in the file.
        dtype: of these.
        attributes: numbers, arrays of numbers or texts; others do not count.

    Returns:
        reader and note: the reader as it was and "" where nothing is packed.

    Raises:
        ValueError: a factor, an offset or a bound is no finite number, with the reason.
    """
    scale, offset = _number(attributes, "scale_factor", 1.0), _number(attributes, "add_offset", 0.0)
    unsigned = dtype.kind == "i" and str(attributes.get("_Unsigned", "")).lower() == "true"
    fills = [_as(dtype, one) for key in FILLS for one in _values(attributes.get(key))]
    fills = [one for one in fills if one is not None]
    low, high = _valid(attributes, dtype, unsigned)
    listed = ", ".join(f"{one:g}" for one in dict.fromkeys(fills))
    words = [f"_FillValue or missing_value {listed} is a gap"] * bool(fills)
    words += [f"values outside {low:g} to {high:g} (valid_range) are gaps"] * (low > -np.inf or high < np.inf)
    words += ["integers are unsigned"] * unsigned
    words += [f"values are multiplied by {scale:g} (scale_factor)"] * (scale != 1)
    words += [f"{offset:g} is added (add_offset)"] * (offset != 0)
    if not words:
        return reader, ""
    return Unpacked(reader, np.array(fills, dtype), (low, high), scale, offset, unsigned), ", ".join(words)


def _values(value: Any) -> list[Any]:
    """Return the numbers of an attribute; [] where it is no such."""
    if value is None or isinstance(value, str | list):
        return []
    return np.atleast_1d(value).ravel().tolist()


def _valid(attributes: Mapping[str, Any], dtype: np.dtype, unsigned: bool) -> tuple[float, float]:
    """Return the least and the largest value that is no gap, infinite where none is given; of a file's own type."""
    both = _values(attributes.get("valid_range"))
    if both and (len(both) != 2 or not np.isfinite(both).all()):
        raise ValueError("has a valid_range that is not two finite numbers")
    low, high = both or (-np.inf, np.inf)
    low = low if "valid_min" not in attributes else _number(attributes, "valid_min", low)
    high = high if "valid_max" not in attributes else _number(attributes, "valid_max", high)
    if unsigned:  # written as the signed numbers that have these bits
        steps = 2 ** (8 * dtype.itemsize)
        low, high = (one + steps if -np.inf < one < 0 else one for one in (low, high))
    return low, high


def _number(attributes: Mapping[str, Any], key: str, without: float) -> float:
    values = _values(attributes.get(key)) if key in attributes else [without]
    if len(values) != 1 or not np.isfinite(values[0]):
        raise ValueError(f"has a {key} that is no finite number")
    return float(values[0])


def _as(dtype: np.dtype, value: Any) -> Any:
    """Return a number as a type of the file holds it; None where it holds no such number, or NaN, a gap anyway."""
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return None if value != value else dtype.type(value).item()
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return int(value) if value == value and low <= value <= high and int(value) == value else None


class Sparse:
    """Reads a matrix that is kept by its values other than 0, compressed by columns or by rows.

    Args:
        read: returns the values, the row (or column) of each, and where each column (or row) begins.
        shape: (row, column).
        by_rows: compressed by rows.
    """

    def __init__(
        self, read: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int], by_rows: bool
    ):
        self.read, self.shape, self.by_rows = read, shape, by_rows

    def __call__(self, index: Any) -> np.ndarray:
        """Read values at an index of the dense matrix."""
        values, inner, begins = self.read()
        inner, begins = np.asarray(inner, np.int64), np.asarray(begins, np.int64)
        turned = self.shape if self.by_rows else self.shape[::-1]
        whole = len(begins) == turned[0] + 1 and begins[0] == 0 and begins[-1] == len(values) == len(inner)
        if not whole or (np.diff(begins) < 0).any() or (len(inner) and not 0 <= inner.min() <= inner.max() < turned[1]):
            raise ValueError("the places of its values are no sparse matrix")
        dense = np.zeros(turned, values.dtype)
        np.add.at(dense, (np.repeat(np.arange(turned[0]), np.diff(begins)), inner), values)
        return (dense if self.by_rows else dense.T)[index]
