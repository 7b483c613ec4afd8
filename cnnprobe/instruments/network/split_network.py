"""A network cut at a layer: its base up to there, and its head from there on, each run alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.calls import KINDS
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.replay import Unrepeatable, ancestors, refuse_handed_out, repeat_batch, run, value_at
from cnnprobe.instruments.network.tracing import IMAGE, Call, Value, noise_image, trace
from cnnprobe.machine.memory import is_short

AGREE = 1e-4
"""Largest difference between the logits of base and head and those of the network, as a share of the largest logit."""
Sides = dict[Value, Tensor]
"""What the head reads beside the layer, e.g. what a residual connection carries past it."""


class Head:
    """Base and head of a network, from the calls of a traced pass. To be used in `untouched(model)` or in eval mode.

    Args:
        model: any network that returns one tensor.
        layer: where it is cut.
        size: (channel, y, x) of the images.
        before: where the head has the scores that its own softmax or sigmoid is made from; None where it has none.

    Raises:
        Unrepeatable: the calls of this network cannot be run apart.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...], before: Layer | None = None):
        self.layer = layer
        if not layer.plain or not (before is None or before.plain):
            raise Unrepeatable("its images do not pass together along the first axis")
        written = trace(model, size)
        self.target, self.output = value_at(written, layer.tap), written.modules[-1].output
        self.image = Value(IMAGE, 0, (1, *size))
        if not isinstance(self.output, Value):
            raise Unrepeatable("the network returns no tensor")
        refuse_handed_out(written, self.output, Tap(""))
        self.before = ancestors(written, self.target)
        base, made = {id(call) for call in self.before}, {self.target}
        self.after, self.beside = [], []
        for call in ancestors(written, self.output):
            if made & set(call.inputs):
                made |= set(call.outputs)
                self.after.append(call)
            elif id(call) not in base:
                self.beside.append(call)
        read = {value for call in self.after for value in call.inputs} | {self.output}
        self.sides = read - made
        self.scores = None if before is None else value_at(written, before.tap)
        if before is not None and self.scores not in made:
            raise Unrepeatable("the scores do not depend on the layer")
        self._compare(model, size)

    def base(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Run images (n, channel, y, x) up to the layer; return (n, channel, *map), and what else the head reads."""
        keep = {self.target, *self.sides}
        known = _through([*self.before, *self.beside], {self.image: images}, keep)
        return self._channels_second(known[self.target]), {value: known[value] for value in self.sides}

    def finer(self, images: Tensor) -> Tensor:
        """Return the activation (n, channel, *finer map) of the base with its max-pooling left out.

        Raises:
            UserError: the base cannot do without it.
        """
        known = {self.image: images}
        for call in self.before:
            if KINDS.get(call.name) == "pool" and "max_pool" in call.name:
                known[call.outputs[0]] = known[call.inputs[0]]
                continue
            try:
                known.update(zip(call.outputs, run(call, known)))
            except (RuntimeError, Unrepeatable) as error:
                if is_short(error):
                    raise
                reason = str(error).splitlines()[0]
                raise UserError(f"the base cannot be run without its max-pooling ({reason}); finer=false") from error
        return self._channels_second(known[self.target])

    def ends(self, activation: Tensor, sides: Sides) -> tuple[Tensor, Tensor | None]:
        """Run the head on activations (n, channel, *map); returns the outputs (n, class), and the scores before them.

        Returns:
            The scores are None where nothing is known before the outputs.
        """
        axis = self.layer.channel_axis
        known = {self.target: activation.movedim(1, axis) if axis != 1 else activation} | sides
        keep = {self.output} | ({self.scores} if self.scores is not None else set())
        found = _through(self.after, known, keep)
        return found[self.output], None if self.scores is None else found[self.scores]

    def _channels_second(self, activation: Tensor) -> Tensor:
        axis = self.layer.channel_axis
        return activation.movedim(axis, 1) if axis != 1 else activation

    def _compare(self, model: nn.Module, size: tuple[int, ...]) -> None:
        """Compare with the network on two images."""
        noise = noise_image(model, size)
        images = torch.cat([noise, noise.flip(-1) * 0.7])
        with tap(model, [], lambda *_: None, complete=True) as whole, torch.inference_mode():
            expected: Tensor = whole(images)
            found, _ = self.ends(*self.base(images))
        if found.shape != expected.shape or not float((found - expected).abs().max()) <= AGREE * float(
            expected.abs().max()
        ):
            raise Unrepeatable("base and head give other logits than the network")


class WholeHead:
    """The same by passes of the whole network in which the activation is replaced, for networks that cannot be cut.

    Args: as of `Head`.
    """

    def __init__(self, model: nn.Module, layer: Layer, size: tuple[int, ...], before: Layer | None = None):
        self.model, self.layer, self.scores = model, layer, before

    def base(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Run the network; what the head reads beside the layer is read from the images again."""
        kept: list[Tensor] = []
        with tap(self.model, [self.layer], lambda _, activation: kept.append(activation.clone())) as run_to:
            run_to(images)
        return kept.pop(), {Value(IMAGE, 0, tuple(images[:1].shape)): images}

    def finer(self, images: Tensor) -> Tensor:
        """Refuse."""
        raise UserError("the max-pooling of this network cannot be left out; finer=false")

    def ends(self, activation: Tensor, sides: Sides) -> tuple[Tensor, Tensor | None]:
        """Run the network on the images with another activation in its place."""
        (images,) = sides.values()
        kept: list[Tensor] = []

        def receive(layer: Layer, own: Tensor) -> Tensor | None:
            if layer is self.layer:
                return activation
            kept.append(own)
            return None

        read = [self.layer] if self.scores is None else [self.layer, self.scores]
        with tap(self.model, read, receive, complete=True, replace=True) as run_on:
            return run_on(images), kept[-1] if kept else None


def cut(model: nn.Module, layer: Layer, size: tuple[int, ...], before: Layer | None = None) -> Head | WholeHead:
    """Return the base and the head of a network, cut at a layer; for the arguments see `Head`.

    The traced calls are repeated where that is possible, which is cheaper than passes of the whole network.
    """
    try:
        return Head(model, layer, size, before)
    except (Unrepeatable, RuntimeError):
        return WholeHead(model, layer, size, before)


def _through(calls: Sequence[Call], known: dict[Value, Tensor], keep: set[Value]) -> dict[Value, Tensor]:
    """Run calls in order; what is read no more is forgotten, but for `keep`."""
    last = {value: place for place, call in enumerate(calls) for value in call.inputs}
    for place, call in enumerate(calls):
        known.update(zip(call.outputs, repeat_batch(call, known)))
        for value in call.inputs:
            if last[value] == place and value not in keep:
                known.pop(value, None)
    return known
