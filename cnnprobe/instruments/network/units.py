"""Units of a layer by their numbers: all, lists and ranges."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.layer import Layer


def units_of(layer: Layer, spec: str | int | Iterable[int | str]) -> np.ndarray:
    """Return unit numbers, int64, in the order asked, each once.

    Args:
        spec: "all", a number, a range "0:32" (the last one is not in it), or a list of those.

    Raises:
        UserError: no such unit, or not a number.
    """
    words = [spec] if isinstance(spec, (str, int)) else list(spec)
    every = range(layer.channels)
    chosen: list[int] = []
    for word in words:
        text = str(word)
        if text == "all":
            chosen += every
        elif match := re.fullmatch(r"(\d*):(\d*)", text):
            first, stop = (int(part) if part else default for part, default in zip(match.groups(), (0, len(every))))
            if stop <= first < len(every):
                raise UserError(f"units={text} of {layer.name} is empty: its end is not behind its start")
            if not first < stop <= len(every):
                raise UserError(f"{layer.name} has units 0 to {len(every) - 1}, got {text}")
            chosen += range(first, stop)
        elif not re.fullmatch(r"-?\d+", text):
            raise UserError(f"units must be all, numbers, a range such as 0:32 or a list of those, got {text!r}")
        elif int(text) not in every:
            raise UserError(f"{layer.name} has units 0 to {len(every) - 1}, got {text}")
        else:
            chosen.append(int(text))
    if not chosen:
        raise UserError(f"units of {layer.name} must be at least one of 0 to {len(every) - 1}, got none")
    return np.array(list(dict.fromkeys(chosen)), dtype=np.int64)


def place_on(layer: Layer, position: Sequence[int]) -> tuple[int, ...]:
    """Return a position of a layer's map as it was asked for.

    Args:
        layer: whose map.
        position: (y, x), as many numbers as the map has axes, from 0.

    Raises:
        UserError: it is not on the map.
    """
    if len(position) != len(layer.map_size) or any(p >= side for p, side in zip(position, layer.map_size)):
        shown = " x ".join(map(str, layer.map_size)) or "a single value"
        raise UserError(f"position={list(position)} is not on the map of {layer.name}, which is {shown}")
    return tuple(position)
