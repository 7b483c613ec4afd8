"""Which layers read which: a network as a graph of its layers, what lies between them left out."""

from collections.abc import Sequence

from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, value_at
from cnnprobe.instruments.network.tracing import IMAGE, Trace, Value

FROM_IMAGE = -1
"""Stands for the image among the layers that are read."""


def values_of(trace: Trace, layers: Sequence[Layer]) -> list[Value | None]:
    """Return the value that each layer is in a traced pass; None where it was not seen there."""
    found: list[Value | None] = []
    for layer in layers:
        try:
            found.append(value_at(trace, layer.tap))
        except Unrepeatable:
            found.append(None)
    return found


def connections(trace: Trace, values: Sequence[Value | None]) -> list[tuple[int, int]]:
    """Return (read, reader) pairs of layers, each once: what a layer is made from without another layer in between.

    Args:
        trace: of a network.
        values: of its layers, in the order of the pass, see `values_of`. Of several names for one value the first
            stands for all.

    Returns:
        places of layers, in the order of the readers; `FROM_IMAGE` where the image is read.
    """
    places: dict[Value, int] = {}
    for place, value in enumerate(values):
        if value is not None:
            places.setdefault(value, place)
    found = []
    for value, place in places.items():
        waiting, seen, read = list(trace.calls[value.call].inputs), set[Value](), set[int]()
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if one in places or one.call == IMAGE:
                read.add(places.get(one, FROM_IMAGE))
            else:
                waiting += trace.calls[one.call].inputs
        found += [(other, place) for other in sorted(read)]
    return sorted(found, key=lambda pair: (pair[1], pair[0]))
