"""Activations of named layers, read at the moment they are computed, in one pass for all of them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.conduct import Conduct, apart, conduct_of, joined
from cnnprobe.instruments.network.image_places import SEVERAL, Place, sample
from cnnprobe.instruments.network.layer import Layer, Tap
from cnnprobe.instruments.network.tracing import Watch
from cnnprobe.instruments.network.untouched import untouched

LOG = logging.getLogger("cnnprobe")
FOLDED = 16
"""Images of the first batch that are shown alone to a network in which some value belongs to the batch."""
OTHERWISE = 1e-3
"""Difference between an image in a batch and the same one alone that is no rounding, as a share of its largest
value; in 16 bits, and on a GPU, whose products may have 10 bits, `OTHERWISE_LOW`."""
OTHERWISE_LOW = 0.1
Receive = Callable[[Layer, Tensor], Tensor | None]
"""Told a layer and its activation, (image, channel, *map), which may be overwritten after the call but where it is
replaced; returns what stands in for it, None for nothing."""
_Samples = dict[int, dict[str, tuple[Tensor, float]]]
"""By place of an image and name: some of its values, and the largest."""


@contextmanager
def tap(
    model: nn.Module, layers: list[Layer], receive: Receive, *, complete: bool = False, replace: bool = False
) -> Iterator[Callable[..., Tensor | None]]:
    """Hand out a function that runs the network on images and calls `receive(layer, activation)` at every layer.

    The activation is (image, channel, *map), whatever the layout inside; with its gradient graph if the caller has
    gradients on. It is valid during the call only: an in-place rectifier may overwrite it afterwards, so reduce or copy
    it there. The pass ends after the deepest layer and returns None, or goes on to the logits with `complete=True`,
    which the function also takes for a single pass. With `replace=True` `receive` is handed a copy, to keep, and the
    pass goes on with a copy of what it returns, of the same axes; where that is None, with the network's own values.
    Inside, the network is in eval mode, its parameters need no gradient; outside nothing has changed. The images stay
    as they are, whatever the network does with them, and pass one by one where what it answers would else depend on
    their batch (see `conduct`); `receive` is called once all the same.

    Example:
        with tap(model, find(model, "conv*", (3, 64, 64)), receive) as run:
            for batch in batches(dataset, batch_size=64):
                run(batch.images)
    """
    reading = _Pass(model, layers, receive, complete, replace)
    with untouched(model):
        handles = reading.hook()
        try:
            yield reading.run
        finally:
            for handle in handles:
                handle.remove()


def activations(model: nn.Module, layers: list[Layer], images: Tensor) -> dict[str, Tensor]:
    """Return copies of the activations of layers, by name: (image, channel, *map)."""
    copies: dict[str, Tensor] = {}
    with tap(model, layers, lambda layer, activation: copies.update({layer.name: activation.clone()})) as run:
        run(images)
    return copies


def warn_of_nan(layer: str, responses: Tensor, indices: np.ndarray, readable: np.ndarray | None = None) -> None:
    """Say which of some images a layer answers with NaN or infinity.

    Args:
        layer: its name.
        responses: (image, unit).
        indices: (image,) of the images in the dataset.
        readable: (image,) bool; the others are known not to have been seen. None: all were.
    """
    wrong = ~responses.isfinite().cpu().numpy()
    bad = np.flatnonzero(wrong.any(1) & (True if readable is None else readable))
    if len(bad):
        LOG.warning(
            f"{layer}: not finite in {int(wrong[bad].any(0).sum())} of {wrong.shape[1]} units for {len(bad)} images, "
            f"first image {indices[bad[0]]}"
        )


class Follower(Protocol):
    """What follows passes: the images themselves that the network is given, and each where they pass one by one."""

    def show(self, images: Tensor) -> Any:
        """Be told what the network is about to be shown."""

    def passed(self, whole: bool) -> None:
        """Be told that this pass has ended, perhaps before its end, as it is run once more from there on."""


FOLLOWERS: list[Follower] = []


class _Enough(Exception):  # noqa: N818 (not an error)
    """The deepest layer has been read."""


class _Pass:
    """The taps of one network, and which of them have been read in the present pass."""

    def __init__(self, model: nn.Module, layers: list[Layer], receive: Receive, complete: bool, replace: bool = False):
        self.model, self.receive, self.complete, self.replace = model, receive, complete, replace
        self.to_the_end = complete
        self.waiting: dict[Tap, list[Layer]] = defaultdict(list)
        for layer in layers:
            self.waiting[layer.tap].append(layer)
        self.in_functions = any(layer.tap.function for layer in layers)
        self.alone = any(layer.handing == "one by one" for layer in layers)
        self.images: int | None = None  # in the present pass; None outside of one
        self.grad = False  # whether the present pass keeps its graph
        self.calls: Counter = Counter()
        self.unread: set[Tap] = set()
        self.receiving = False  # what is called meanwhile is not of the network
        self.kept: _Samples = {}  # samples of some images, while they are wanted

    def hook(self) -> list:
        """Put a forward hook on every module whose output is read; return the handles."""
        paths = {where.module for where in self.waiting if not where.function}
        return [self.model.get_submodule(path).register_forward_hook(self._hook_of(path)) for path in paths]

    def _hook_of(self, path: str) -> Callable:
        wanted = {where for where in self.waiting if where.module == path and not where.function}

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if self.images is None:  # another's pass
                return output
            number = self.calls[path]
            self.calls[path] += 1
            for where in wanted:
                if where.call == number:
                    output = self.read(where, output)
            return output

        return hook

    def read(self, where: Tap, output: Any) -> Any:
        """Hand the value at a tap on; end the pass if it was the last one. Return what the pass goes on with."""
        assert self.images is not None  # there is no other reading than in a pass
        value = output if where.part is None else output[where.part]
        grad = self.grad and torch.is_grad_enabled()  # a forward may keep a graph for itself, or none
        self.receiving = True
        try:
            with torch.set_grad_enabled(grad):
                for layer in self.waiting[where]:
                    activation = layer.activation(value, self.images)
                    self._keep(layer.name, activation)
                    answer = self.receive(layer, activation.clone() if self.replace else activation)
                    if self.replace and answer is not None:  # what the network writes into is its own
                        value = layer.tapped(answer.clone(), self.images)
        finally:
            self.receiving = False
        self.unread.discard(where)
        if not self.unread and not self.to_the_end:
            raise _Enough
        if not self.replace or where.part is None:
            return value if self.replace else output
        parts = [value if place == where.part else part for place, part in enumerate(output)]
        return type(output)(parts) if type(output) in (tuple, list) else type(output)(*parts)

    def run(self, images: Tensor, complete: bool | None = None) -> Tensor | None:
        """Run one pass over (image, channel, y, x); return the logits if they are wanted, this time or always."""
        self.to_the_end = self.complete if complete is None else complete
        conduct = conduct_of(self.model, tuple(images.shape[1:]))
        ends = conduct.output
        handing = ends.handing if self.to_the_end else "together"
        if self.alone or conduct.decides or handing == "one by one":
            single = len(images) == 1
            output = apart(self._pass(images, conduct)) if single else self._one_by_one(images, conduct)
        elif len(images) > SEVERAL and not self.replace and conduct.is_due():
            output = self._held(images, conduct)
        else:
            output = self._pass(images, conduct)
        if self.to_the_end and ends.problem:
            conduct.say(f"what the network returns is left out: {ends.problem}")
            return None
        if self.to_the_end and ends.told:
            conduct.say(f"what the network returns: {ends.told}")
        return output

    def _pass(self, images: Tensor, conduct: Conduct, followed: bool = True) -> Any:
        """Run one pass over images together; `followed`: whether the followers are shown what passes."""
        self.calls.clear()
        self.unread, self.images = set(self.waiting), len(images)
        try:
            self.grad = torch.is_grad_enabled()
            with conduct.mode(), _Listening(self.model, self) if self.in_functions else nullcontext():
                given = conduct.own(images)
                for one in FOLLOWERS if followed else ():
                    one.show(given)
                output = self.model(given)
        except _Enough:
            return None
        finally:
            self.images = None
        if self.unread:
            layer = self.waiting[next(iter(self.unread))][0]
            raise UserError(f"layer {layer.name!r} is not used for this input (it was, for a noise image)")
        return conduct.output.restored(output, len(images))

    def _followed(self, image: Tensor, conduct: Conduct, whole: bool = True) -> Any:
        """Run one of several passes of one image each; `whole`: see `Follower`."""
        output = apart(self._pass(image, conduct))
        for one in FOLLOWERS:
            one.passed(whole)
        return output

    def _keep(self, name: str, values: Any) -> None:
        """Keep some values of the images that are requested, and the largest of each."""
        for place, found in self.kept.items():
            if isinstance(values, Tensor) and values.dim() and values.numel() and len(values) > place:
                own = values.detach()[place : place + 1]
                found[name] = sample(own), float(own.abs().nan_to_num(0, 0, 0).amax())

    def _held(self, images: Tensor, conduct: Conduct) -> Any:
        """Run a pass over more images than the network was tried with; some of them once more, alone.

        These are the first, middle and last one of the first batch (more where images are folded into each other, by
        which one may push another out), and the middle one of later batches.

        Raises:
            UserError: the network does something else with so many images.
        """
        receive, count = self.receive, FOLDED if conduct.folds else SEVERAL
        places = sorted(set(np.linspace(0, len(images) - 1, count).round().astype(int).tolist()))
        places = places if conduct.batches == 1 else [len(images) // 2]
        among: _Samples = {place: {} for place in places}
        alone: _Samples = {}
        self.kept = among
        try:
            output = self._pass(images, conduct)
            if conduct.output == Place():
                self._keep("logits", output)
            self.receive = lambda *_: None
            for place in places:
                self.kept = {0: alone.setdefault(place, {})}
                with torch.no_grad():
                    answer = self._pass(images[place : place + 1], conduct, followed=False)
                if conduct.output == Place():
                    self._keep("logits", answer)
        finally:
            self.receive, self.kept = receive, {}
        random = {layer.name for tap, layers in self.waiting.items() for layer in layers if conduct.place(tap).told}
        low = images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        for place, name in ((place, name) for place, found in among.items() for name in found):
            (values, largest), other = among[place][name], alone[place].get(name)
            if name not in random and (other is None or _is_other(values, other[0], max(largest, other[1]), low)):
                way = "" if conduct.remembers else "; give batch_size=1"
                raise UserError(
                    f"{name}: the network responds to an image alone otherwise than in a batch of {len(images)}: "
                    f"what it does depends on the number of images, or on the others among them{way}"
                )
        return output

    def _one_by_one(self, images: Tensor, conduct: Conduct) -> Any:
        """Run a pass for each image; what is read is handed on when all have passed.

        What stands in for it is put in place in further passes, in which what is read behind it is read again.
        """
        receive, to_the_end = self.receive, self.to_the_end
        layers = {layer.name: layer for layers in self.waiting.values() for layer in layers}
        handed: set[str] = set()
        answers: dict[str, Tensor] = {}
        kept: dict[str, list[Tensor]] = defaultdict(list)

        def keep(number: int, layer: Layer, activation: Tensor) -> Tensor | None:
            if layer.name in handed:
                return answers[layer.name][number : number + 1] if layer.name in answers else None
            kept[layer.name].append(activation if self.replace else activation.clone())
            return None

        def hand_on() -> bool:
            """Hand on what was read, up to the first that something stands in for; say whether there is such."""
            for name in [name for name in kept if name not in handed]:
                handed.add(name)
                answer = receive(layers[name], torch.cat(kept[name]))
                if self.replace and answer is not None:
                    answers[name] = answer
                    return True
            return False

        self.to_the_end = to_the_end and not (self.replace and layers)
        try:
            while True:
                kept.clear()
                whole, outputs = self.to_the_end == to_the_end, []
                for number, one in enumerate(images.split(1)):
                    self.receive = partial(keep, number)
                    outputs.append(self._followed(one, conduct, whole))
                if not hand_on() and whole:
                    break
                self.to_the_end = to_the_end
        finally:
            self.receive, self.to_the_end = receive, to_the_end
        return joined(outputs, conduct.output.axis) if to_the_end else None


def _is_other(one: Tensor, other: Tensor, largest: float, low: bool) -> bool:
    """Say whether samples of an image differ by more than rounding."""
    if one.shape != other.shape:
        return True
    difference = (one.nan_to_num(0, 0, 0) - other.nan_to_num(0, 0, 0)).abs().max()
    return float(difference) > (OTHERWISE_LOW if low else OTHERWISE) * largest


class _Listening(Watch):
    """Reads the values of functions that are called outside modules of their own."""

    def __init__(self, model: nn.Module, reading: _Pass):
        super().__init__(model)
        self.reading = reading
        self.names = {where.function for where in reading.waiting}

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        result = function(*arguments, **keywords)
        name = getattr(function, "__name__", "")
        if self.stack and name in self.names and not self.reading.receiving:
            path, number = self.stack[-1]
            where = Tap(path, number, name, self.nth(name))
            for wanted in self.reading.waiting:
                if (wanted.module, wanted.call, wanted.function, wanted.nth) == (path, number, name, where.nth):
                    result = self.reading.read(wanted, result)
        return result
