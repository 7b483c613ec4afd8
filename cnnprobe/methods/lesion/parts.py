"""Parts of a network that it takes out itself: the units and the connections of a recurrence, which act at every step.

A layer whose activation is replaced has to act once in a pass. What acts at each step of a recurrence the network
declares (`About.lesions`): a buffer of ones by which it multiplies units or connections, silent where it is 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.about import about
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.receptive_field import whole_image
from cnnprobe.instruments.network.split_network import Sides

KIND = "part"
"""Kind of the `Layer` that stands for a part; its channels are units, or connections."""


def layers_and_parts(model: nn.Module, spec: str | list[str], size: tuple[int, ...]) -> list[Layer]:
    """Return what is lesioned: layers, see `naming.find`, then parts, each in the order asked.

    Args:
        model: any network.
        spec: names or patterns; a part goes before a layer of the same name.
        size: (channel, y, x) or (channel, time) of the images.

    Raises:
        UserError: there is nothing of that name, or what the network declares is no such buffer.
    """
    declared, words = about(model).lesions, [spec] if isinstance(spec, str) else [str(word) for word in spec]
    meant = {word: [word] if word in declared else [one for one in declared if fnmatchcase(one, word)]
             for word in words}  # fmt: skip
    others = [word for word in words if not meant[word]]
    parts = dict.fromkeys(name for names in meant.values() for name in names)
    try:
        layers = find(model, others, size) if others or not parts else []
    except UserError as error:
        raise UserError(f"{error}; parts: {listing(declared)}" if declared else str(error)) from None
    return [*layers, *(_part(model, name, size) for name in parts)]


def is_part(layer: Layer) -> bool:
    """Say whether what is lesioned is a part that the network takes out itself."""
    return layer.kind == KIND


def _part(model: nn.Module, name: str, size: tuple[int, ...]) -> Layer:
    path = about(model).lesions[name]
    buffer = _buffer(model, name)
    tap, field = Tap(path.rpartition(".")[0]), whole_image(size[1:])
    return Layer(name, tap.module, path, KIND, tap, len(buffer), (), 1, 0, 0, field, rectified=False)


def _buffer(model: nn.Module, name: str) -> Tensor:
    path = about(model).lesions[name]
    try:
        buffer = model.get_buffer(path)
    except AttributeError:
        raise UserError(f"About.lesions: {name!r} is {path}, and the network has no buffer of that name") from None
    if buffer.ndim != 1 or not len(buffer) or not buffer.is_floating_point() or not bool((buffer == 1).all()):
        raise UserError(f"About.lesions: {name!r} is {path}, which is no row of ones, of units or connections")
    return buffer


class PartHead:
    """A network with a part: the images take the place of the activation that `split_network.Head` starts from.

    Args:
        model: any network.
        part: of it.
        before: where its scores are read; None: they are what it returns.
    """

    def __init__(self, model: nn.Module, part: Layer, before: Layer | None = None):
        self.model, self.scores, self.buffer = model, before, _buffer(model, part.name)

    def base(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Return the images, from which each pass begins."""
        return images, {}

    def ends(self, images: Tensor, sides: Sides) -> tuple[Tensor, Tensor | None]:
        """Return the outputs, and the scores before them."""
        kept: list[Tensor] = []

        def receive(_: Layer, activation: Tensor) -> None:
            kept.append(activation.clone())

        with tap(self.model, [] if self.scores is None else [self.scores], receive, complete=True) as run:
            return run(images), kept[-1] if kept else None

    @contextmanager
    def without(self, units: np.ndarray) -> Iterator[None]:
        """Silence some units or connections."""
        chosen = torch.from_numpy(units).to(self.buffer.device)
        try:
            self.buffer.index_fill_(0, chosen, 0)
            yield
        finally:
            self.buffer.fill_(1)
