"""The divisor that brings the values of images into the range 0 to 1, by their type and the largest of them."""

import logging

import numpy as np

log = logging.getLogger("cnnprobe")


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
