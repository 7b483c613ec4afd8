"""What values become on their way to a network: divided into the range 0 to 1, and of single precision."""

import logging
from collections.abc import Iterable

import numpy as np

from cnnprobe.errors import UserError, listing

log = logging.getLogger("cnnprobe")
TOLD, GONE = 0.01, 0.1
"""Shares of the spread of a channel that rounding to single precision may take in silence, and at all."""
CONSTANT = 1e-12
"""Spread of a constant channel, as a share of its values: what sums of double precision leave."""
MEASURED = 16
"""Recordings by which it is found what rounding takes."""


def whole_of(dtype: np.dtype, low: float, high: float, what: str, otherwise: str, *, floats: bool = True) -> float:
    """Return what values are divided by: 255 or 65535 where they are integers of so many levels; 1 else.

    A warning says that they are divided, or are outside 0 to 1; bytes of more than 0 and 1 are divided without one.

    Args:
        dtype: of the values as they are kept.
        low, high: the least and the largest of them.
        what: they are, for people.
        otherwise: what to do where they are not to be divided.
        floats: those of 16 to 255 are levels too.
    """
    if dtype == np.uint8:
        if high == 1:
            log.warning("%s: bytes of 0 and 1 alone: 1 is white", what)
        return 1.0 if high == 1 else 255.0
    if dtype.kind == "b":
        return 1.0
    whole = 1.0
    if low >= 0 and 16 * (dtype.kind == "f") < high <= 255 and high > 1 and (floats or dtype.kind in "iu"):
        whole = 255.0
    elif low >= 0 and 255 < high <= 65535 and dtype.kind in "iu":
        whole = 65535.0
    if whole > 1:
        log.warning("%s: values up to %.5g: they are divided by %.0f; %s", what, high, whole, otherwise)
    elif low < 0 or high > 1:
        log.warning("%s: values from %.3g to %.3g; images are expected to be 0 to 1", what, low, high)
    return whole


def must_survive_rounding(recordings: Iterable[np.ndarray], what: str) -> None:
    """Refuse values that float32, in which networks compute, makes equal, as of a small signal on a large offset.

    How much of the spread of a channel is lost is measured: the spread of what rounding changes, as a share of it.

    Args:
        recordings: some of them, as they are kept, float64 (channel, …).
        what: they are, for people.

    Raises:
        UserError: half of the channels lose more than a tenth of their spread; a warning says what fewer of them lose.
    """
    shares = [_lost(one.reshape(len(one), -1)) for one in recordings]
    if not shares:
        return
    worst = np.max(shares, 0)
    told = np.flatnonzero(worst > TOLD)
    share = f"rounding to float32, in which networks compute, changes them by {100 * worst.max():.3g} % of their spread"
    if np.median(worst) > GONE:
        raise UserError(f"{what}: its values lie on too large an offset: {share}; subtract the mean of each channel")
    if len(told):
        log.warning("%s: channels %s lie on a large offset: %s; subtract their means", what, listing(told, 6), share)


def _lost(values: np.ndarray) -> np.ndarray:
    """Return what rounding to float32 takes of the spread of each channel, 0 of a constant one; (channel,)."""
    with np.errstate(all="ignore"):
        spread, rounded = values.std(1), (values - values.astype(np.float32)).std(1)
        varies = np.isfinite(spread) & np.isfinite(rounded) & (spread > CONSTANT * np.abs(values).max(1, initial=0.0))
        return np.where(varies, rounded / spread, 0.0)
