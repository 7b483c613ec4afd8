"""Activations of named layers, read at the moment they are computed, in one pass for all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from cnnprobe.engine.layers import Layer

Receive = Callable[[Layer, Tensor], None]
"""Told a layer and its activation, (image, channel, *map). The activation may be overwritten after the call."""


@contextmanager
def tap(
    model: nn.Module, layers: list[Layer], receive: Receive, *, complete: bool = False
) -> Iterator[Callable[[Tensor], Tensor | None]]:
    """Hand out a function that runs the network on images and calls `receive(layer, activation)` at every layer.

    The activation is (image, channel, *map), whatever the layout inside; with the gradient graph if the caller has
    gradients on. It is valid during the call only: an in-place rectifier may overwrite it afterwards, so reduce or copy it
    there. The pass ends after the deepest layer, returning None, or goes on to the logits with `complete=True`.
    Inside, the network is in eval mode and its parameters need no gradient; outside nothing has changed.
    """
    yield


def activations(model: nn.Module, layers: list[Layer], images: Tensor) -> dict[str, Tensor]:
    """Return copies of the activations of layers, by name: (image, channel, *map)."""
