"""Layers whose maps run along time, and the time of each step."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from cnnprobe.datasets.base.imageset import ImageSet
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.outputs.kinds import Outputs

LEAST_STEPS = 5
"""Fewer are no trajectory."""


@dataclass(frozen=True)
class TimeAxis:
    """The time along the map of a layer.

    Args:
        layer: whose.
        axis: of the map.
        times: (step,) in s, or 0, 1, … where the step is not known.
        step: s, NaN where it is not known.
    """

    layer: Layer
    axis: int
    times: np.ndarray
    step: float

    @property
    def features(self) -> int:
        """Courses that it has: units, at each position of the map's other axes."""
        return self.layer.channels * int(np.prod(self.layer.map_size)) // len(self.times)

    def courses(self, maps: np.ndarray) -> np.ndarray:
        """Return (image, feature, time) of maps (image, channel, *map)."""
        return np.moveaxis(maps, 2 + self.axis, -1).reshape(len(maps), -1, len(self.times))


def time_axes(layers: list[Layer], model: nn.Module, dataset: ImageSet, known: Outputs) -> list[TimeAxis]:
    """Return those layers that run along time for 5 steps or more.

    Of a signal it is the axis along it. Of an image it is the one axis of a map, of which none runs along the image's
    sides, if the network returns courses or says how long its steps are (`About.time_step`).

    Args:
        layers: of the network.
        model: the network.
        dataset: what it is shown.
        known: what it returns.
    """
    if len(dataset.size) == 2:
        found = [_of_signal(layer, dataset) for layer in layers]
    else:
        step = about(model).time_step
        within = step is not None or known.form == "course"
        found = [_of_trial(layer, step) if within else None for layer in layers]
    return [one for one in found if one is not None and len(one.times) >= LEAST_STEPS]


def _of_signal(layer: Layer, dataset: ImageSet) -> TimeAxis | None:
    """Return the time axis of a layer of a network for signals."""
    sizes, field, samples = layer.map_size, layer.field, dataset.size[1]
    along = field.along or ((0,) if len(sizes) == 1 else (None,))
    stride, first = float(field.stride[0]), field.start[0] + (field.size[0] - 1) / 2
    axis = along[0]
    if stride <= 0 and sizes == (samples,):  # a recurrence: every step may see the whole signal, and each is a sample
        axis, stride, first = 0, 1.0, 0.0
    if axis is None:
        return None
    count = np.arange(sizes[axis], dtype=float)
    if not dataset.rate or stride <= 0:
        return TimeAxis(layer, axis, count, np.nan)
    return TimeAxis(layer, axis, (first + stride * count) / dataset.rate, stride / dataset.rate)


def _of_trial(layer: Layer, step: float | None) -> TimeAxis | None:
    """Return the time axis of a layer of a network that makes time itself."""
    if len(layer.map_size) != 1 or any(axis is not None for axis in layer.field.along):
        return None
    count = np.arange(layer.map_size[0], dtype=float)
    return TimeAxis(layer, 0, count * (step or 1.0), step or np.nan)
