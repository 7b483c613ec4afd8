"""A network's treatment of the images it is handed: whether it writes into them, and where it keeps them apart.

Found once per network and size of image, from two passes: one noise image alone, and the same image between two others.
A value of the pass belongs to images if one axis is as long as there are images and the values of an image are the same
in both passes. Where they are not (kernels made per image, statistics over the batch), or where the network takes one
image only, images pass one by one. Where one image alone loses its axis (`squeeze`), it gets it back. Where some value
belongs to the batch, the image is shown between extremes too: a statistic may count from a threshold on only.
"""

import logging
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.network.findings import state_of
from cnnprobe.instruments.network.image_places import (
    AGREE,
    AGREE_LOW,
    ONE_BY_ONE,
    Place,
    Seen,
    alike,
    axis_of,
    only_alone,
    place_of,
    sample,
)
from cnnprobe.instruments.network.layer import Tap
from cnnprobe.instruments.network.tracing import Watch, noise_image, trace
from cnnprobe.instruments.network.untouched import OF_TORCH, untouched
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

LOG = logging.getLogger("cnnprobe")


@dataclass
class Conduct:
    """What was found of a network.

    Args:
        copies: it may write into what it is given: it gets a copy.
        places: by where a value is read; every output of a module or function seen in the pass of one image.
        told: what was said already.
        folds: some value of a pass holds several images without an axis of their own (tokens of all, a statistic).
        batches: of more images than were tried, that passed so far; of some of them images were shown alone as well.
        decides: functions by which its Python code reads values of the images: in a batch one may decide for another.
        differentiates: it does not work, or answers otherwise, in torch's inference mode: its forward uses gradients.
        remembers: what it keeps from pass to pass, where that is another thing after the same image; "" for nothing.
    """

    copies: bool
    places: dict[Tap, Place]
    told: set[str] = field(default_factory=set)
    folds: bool = False
    batches: int = 0
    decides: str = ""
    remembers: str = ""
    differentiates: bool = False

    def own(self, images: Tensor) -> Tensor:
        """Return images that the network may do with as it likes."""
        return images.clone() if self.copies or (self.differentiates and images.is_inference()) else images

    def mode(self) -> ExitStack:
        """Leave torch's inference mode, until the `with` ends, if the network needs gradients inside of its forward."""
        stack = ExitStack()
        if self.differentiates and torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        return stack

    def is_due(self) -> bool:
        """Count a batch, and say whether images of it are to be shown alone as well: of the 1st, 2nd, 4th, 8th …"""
        if self.batches and torch.is_grad_enabled():  # of images that were shown before, and a graph is in the making
            return False
        self.batches += 1
        return self.batches.bit_count() == 1

    def say(self, words: str) -> None:
        """Warn, once for the network."""
        if words not in self.told:
            self.told.add(words)
            LOG.warning(words)

    def place(self, tap: Tap) -> Place:
        """Return where the images are in a value; the first axis, together, where it was not seen."""
        return self.places.get(tap) or self.places.get(Tap(tap.module, tap.call, tap.function, tap.nth)) or Place()

    @property
    def output(self) -> Place:
        """What holds for what the network returns; of several tensors, whether any needs images one by one."""
        if (whole := self.places.get(Tap(""))) is not None:
            return whole
        parts = [place for tap, place in self.places.items() if not tap.module and not tap.function]
        return next((place for place in parts if place.handing == "one by one"), Place())


_KNOWN: dict[tuple[int, tuple[int, ...]], tuple[weakref.ref, tuple, Conduct]] = {}


def conduct_of(model: nn.Module, size: tuple[int, ...], anew: bool = False) -> Conduct:
    """Return how a network treats images (channel, y, x) or (channel, time) of a size; tried at the first call.

    Args:
        model: any network; it is given back as it was.
        size: of the images.
        anew: try again where its modules or their settings are others than they were.

    Raises:
        UserError: the network cannot take such an image.
    """
    key = (id(model), tuple(size))
    known, settings, conduct = _KNOWN.get(key, (None, (), None))
    now = state_of(model)[0] if anew or conduct is None else settings
    if known is None or conduct is None or known() is not model or settings != now:
        conduct = _tried(model, tuple(size))
        _KNOWN[key] = weakref.ref(model, lambda _: _KNOWN.pop(key, None)), now, conduct
    return conduct


def handed(model: nn.Module, images: Tensor) -> Any:
    """Return what a network in the mode it has returns to images (n, …), which are left as they are.

    In eval mode images pass one by one where they must.
    """
    conduct = conduct_of(model, tuple(images.shape[1:]))
    place = conduct.output
    with conduct.mode():
        if (place.handing == "one by one" or conduct.decides) and len(images) > 1 and not model.training:
            return joined([place.restored(apart(model(conduct.own(one))), 1) for one in images.split(1)], place.axis)
        return place.restored(model(conduct.own(images)), len(images))


def apart(returned: Any) -> Any:
    """Return a copy of what a network returned, which its next pass may write over (a buffer for its output)."""
    if isinstance(returned, Tensor):
        return returned.clone()
    if isinstance(returned, dict):
        return {key: apart(part) for key, part in returned.items()}
    if isinstance(returned, (tuple, list)):
        whole = [apart(part) for part in returned]
        return type(returned)(*whole) if hasattr(returned, "_fields") else type(returned)(whole)
    return returned


def joined(parts: list[Any], axis: int) -> Any:
    """Put what a network returned to single images together; None where that is no tensor and holds none."""
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(parts, axis) if parts[0].dim() > axis else torch.stack(parts)
    if all(isinstance(part, dict) for part in parts):
        return {key: joined([part[key] for part in parts], axis) for key in parts[0]}
    if all(isinstance(part, (tuple, list)) for part in parts):
        whole = [joined(list(own), axis) for own in zip(*parts)]
        return type(parts[0])(*whole) if hasattr(parts[0], "_fields") else type(parts[0])(whole)
    return None


# ---- trying --------------------------------------------------------------------------------------------------------


class _Looking(Watch):
    """Looks at what every module and function of a pass returns.

    Args:
        model: that runs.
        images: how many pass; of the middle one values are kept.
    """

    def __init__(self, model: nn.Module, images: int):
        super().__init__(model)
        self.images = images
        self.seen: dict[Tap, Seen] = {}

    def left(self, module: nn.Module, path: str, number: int, output: Any) -> None:
        self._look(Tap(path, number), output)

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        result = function(*arguments, **keywords)
        name = getattr(function, "__name__", "")
        if self.stack:
            self._look(Tap(*self.stack[-1], name, self.nth(name)), result)
        return result

    def _look(self, where: Tap, output: Any) -> None:
        if isinstance(output, Tensor):
            self._keep(where, output)
        elif isinstance(output, (tuple, list, dict)):
            for part, own in enumerate(output.values() if isinstance(output, dict) else output):
                if isinstance(own, Tensor):
                    self._keep(Tap(where.module, where.call, where.function, where.nth, part), own)

    def _keep(self, where: Tap, tensor: Tensor) -> None:
        with torch._C.DisableTorchFunction(), torch.inference_mode(False), torch.no_grad():  # no part of the pass
            if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
                return
            if torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # of one image, inside of vmap
                return
            shape = tuple(tensor.shape)
            axes = [axis for axis, length in enumerate(shape) if length == self.images]
            samples = {axis: sample(tensor.select(axis, self.images // 2)) for axis in axes if self.images > 1}
            coarse = tensor.dtype in (torch.float16, torch.bfloat16) or tensor.device.type != "cpu"
            self.seen[where] = Seen(shape, sample(tensor), samples, AGREE_LOW if coarse else AGREE)


def _tried(model: nn.Module, size: tuple[int, ...]) -> Conduct:
    """Run a network on one image and on several, and compare; what it remembers of a pass is there in the next."""
    with untouched(model):
        before = _memory(model)
        conduct = _compared(model, size)
        after = _memory(model)
        if after != before:
            with torch.inference_mode(False), torch.no_grad():
                alone = 0.1 + 0.7 * noise_image(model, size)
            _looked(model, alone, seed=0)
            once = _memory(model)
            _looked(model, alone, seed=0)
            conduct.remembers = listing([name for name, value in _memory(model).items() if once.get(name) != value], 4)
        conduct.decides = listing(f"{name}()" for name in trace(model, size).readers)
    if conduct.decides:
        conduct.copies = True  # and it may write into some of them only
        conduct.say(
            f"the forward of the network reads values of its images ({conduct.decides}), by which one image may decide "
            f"for others: {ONE_BY_ONE}"
        )
    if conduct.remembers:
        conduct.say(
            f"the forward of the network changes {conduct.remembers} with every image it is shown: if its outputs "
            "depend on that, they depend on the order of the images"
        )
    return conduct


def _memory(model: nn.Module) -> dict[str, Any]:
    """Return what a network keeps beside its parameters, by name: numbers, sizes of containers, samples of tensors."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        own = chain(vars(module).items(), module._buffers.items())
        for name, value in own:
            if name in OF_TORCH:
                continue
            if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
                found[f"{path}.{name}".lstrip(".")] = tuple(sample(value.detach()).tolist())
            elif isinstance(value, (list, dict, set, deque)):
                found[f"{path}.{name}".lstrip(".")] = len(value)
            elif isinstance(value, (int, float, str)):
                found[f"{path}.{name}".lstrip(".")] = value
    return found


def _compared(model: nn.Module, size: tuple[int, ...]) -> Conduct:
    with torch.inference_mode(False), torch.no_grad():
        alone = 0.1 + 0.7 * noise_image(model, size)
        several = torch.cat([1 - 0.5 * alone.flip(-1), alone, 0.3 * alone.flip(1)])
        several[0].flatten()[0], several[2].flatten()[0] = 1, 0  # so that neither extreme is that of the one alone
    one, changed, error = _looked(model, alone, seed=0)
    differentiates = error is None and _is_other_in_inference_mode(model, alone, one)
    if error is not None:
        shape = "x".join(map(str, size))
        raise UserError(f"the network cannot take an image of {shape} (channels x side): {_words(error)}") from error
    many, also, error = _looked(model, several, seed=0)
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    copies = changed or also or scripted  # what a script asks of values is not seen
    if error is not None and is_short(error):
        return Conduct(copies, {}, differentiates=differentiates)
    if error is not None:
        words = f"the network takes one image at a time ({_words(error)}): {ONE_BY_ONE}"
        again, *_ = _looked(model, alone, seed=0)
        if _differ(one, again):
            words += "; its outputs differ from pass to pass (a memory in forward)"
        places = {tap: only_alone(seen, words) for tap, seen in one.seen.items()}
        return Conduct(copies, places, differentiates=differentiates)
    places = {tap: place_of(seen, many.seen.get(tap)) for tap, seen in one.seen.items()}
    shared = scripted or any(place.problem or place.handing == "one by one" for place in places.values())
    for other in _extremes(alone) if shared else ():
        beside, _, error = _looked(model, torch.cat([other, alone, other.flip(-1)]), seed=0)
        for tap, seen in one.seen.items() if error is None else ():
            if places[tap] == Place(axis=places[tap].axis) and seen.shape != many.seen[tap].shape:
                places[tap] = place_of(seen, beside.seen.get(tap))
    axes = {tap: axis_of(seen.shape, many.seen[tap].shape) for tap, seen in one.seen.items() if tap in many.seen}
    sure = {tap: axis for tap, axis in axes.items() if axis is not None}
    doubtful = [tap for tap in sure if places[tap].told or places[tap].problem]
    if doubtful:  # or do its answers differ anyway, by dropout that is always on?
        again, *_ = _looked(model, alone, seed=1)
        for tap in doubtful:
            repeated = again.seen.get(tap)
            if repeated is None or alike(one.seen[tap].whole, repeated.whole, one.seen[tap].agree):
                break  # it depends on its batch, and so may all that follows
            lost = len(one.seen[tap].shape) < len(many.seen[tap].shape)
            words = "outputs for the same image differ from pass to pass (randomness, or a memory, in forward)"
            places[tap] = Place("restored" if lost else "together", sure[tap], told=words)
    return Conduct(copies, places, differentiates=differentiates, folds=shared)


def _extremes(image: Tensor) -> list[Tensor]:
    """Return images of the largest and smallest means and of the largest spread."""
    return [torch.ones_like(image), torch.zeros_like(image), (image > image.median()).to(image.dtype)]


def _is_other_in_inference_mode(model: nn.Module, image: Tensor, before: _Looking) -> bool:
    """Say whether the network raises, or answers otherwise, where torch keeps no graph even if it is asked to."""
    again, _, error = _looked(model, image, seed=0, fast=True)
    return error is not None or _differ(before, again)


def _differ(one: _Looking, other: _Looking) -> bool:
    pairs = [(seen, other.seen[tap]) for tap, seen in one.seen.items() if tap in other.seen]
    return any(not alike(mine.whole, theirs.whole, mine.agree) for mine, theirs in pairs)


def _looked(model: nn.Module, images: Tensor, seed: int, fast: bool = False) -> tuple[_Looking, bool, Exception | None]:
    """Run a network on images; returns what was seen, whether it wrote into them, and what it raised."""
    looking, error = _Looking(model, len(images)), None
    with ExitStack() as stack:
        for one in (chance.forked(), torch.inference_mode(fast), torch.no_grad()):
            stack.enter_context(one)
        chance.seed(seed)
        given = images.clone()
        stack.enter_context(looking)
        try:
            model(given)
        except Exception as raised:  # a network may raise anything: shapes, assertions, its author's own
            error = raised
    if error is not None and len(images) == 1 and is_short(error):
        vars(error)["single"] = True
        raise error
    return looking, not torch.equal(given, images), error


def _words(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
