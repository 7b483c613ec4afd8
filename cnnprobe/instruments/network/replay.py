"""Repeat single calls of a traced pass on other tensors, for one image or for a whole batch."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cnnprobe.instruments.network.layer import Tap
from cnnprobe.instruments.network.tracing import CONSTANT, IN_PLACE, Call, Trace, Value, leaves, replaced
from cnnprobe.machine.memory import is_short

BATCHED = re.compile(
    r"conv[12]d|linear|relu6?|leaky_relu|elu|selu|gelu|silu|sigmoid|tanh|hardswish|hardsigmoid|mish|softplus|hardtanh|"
    r"batch_norm|dropout([123]d)?|(adaptive_)?(max|avg)_pool2d(_with_indices)?|local_response_norm|prelu|layer_norm|"
    r"add|sub|mul|div|__i?(add|sub|mul|truediv)__|__r(add|sub|mul)__|interpolate|contiguous|scaled_dot_product_attention"
)
"""Functions that do to each image of a batch what they do to one alone, whatever their arguments."""


class Unrepeatable(Exception):  # noqa: N818 (never seen by a user)
    """A call cannot be repeated on its own."""


def value_at(trace: Trace, tap: Tap) -> Value:
    """Return the value that a tap reads.

    Raises:
        Unrepeatable: it was not seen in the trace.
    """
    if tap.function:
        place = (tap.module, tap.call, tap.function, tap.nth)
        for call in trace.calls:
            if (call.module, call.number, call.name, call.nth) == place:
                return call.outputs[tap.part or 0]
    for module in trace.modules:
        if (module.path, module.number) == (tap.module, tap.call) and not tap.function:
            found = module.output if tap.part is None else module.output[tap.part]
            if isinstance(found, Value) and found.call >= 0:
                return found
    raise Unrepeatable(f"{tap} was not seen in the pass")


def refuse_handed_out(trace: Trace, target: Value, tap: Tap) -> None:
    """Refuse to repeat what Python may do otherwise for another image.

    Args:
        trace: of a pass.
        target: the value that was seen at `tap`.
        tap: where it is read; a module that has made a value may still decide to return another.

    Raises:
        Unrepeatable: values that depend on the image left torch before that.
    """
    for name in trace.decided(target, None if tap.function else (tap.module, tap.call)):
        raise Unrepeatable(f"it does something in Python with values from {name}(), which may differ by image")


def ancestors(trace: Trace, target: Value) -> list[Call]:
    """Return the calls that a value is made by, in order."""
    needed, kept = {target}, []
    for call in reversed(trace.calls):
        if needed & set(call.outputs):
            needed |= set(call.inputs)
            kept.append(call)
    return kept[::-1]


def is_in_place(call: Call) -> bool:
    """Say whether a call writes into what it is given."""
    named = bool(IN_PLACE.fullmatch(call.name)) or call.keywords.get("out") is not None
    return named or bool(call.keywords.get("inplace")) or _inplace_argument(call)


def _inplace_argument(call: Call) -> bool:
    return any(argument is True for argument in call.arguments) and "relu" in call.name


def repeat(call: Call, known: dict[Value, Tensor]) -> list[Tensor]:
    """Run a call again with other tensors for the values it read; nothing that is given is written to.

    Args:
        known: by value, each of the value's shape.

    Returns:
        one tensor per output of the call.

    Raises:
        Unrepeatable: it does not give the same kind of result.
    """
    found = run(call, known)
    if [tuple(tensor.shape) for tensor in found] != [out.shape for out in call.outputs]:
        raise Unrepeatable(f"{call.name} gave other shapes when it was repeated")
    return found


def repeat_batch(call: Call, known: dict[Value, Tensor]) -> list[Tensor]:
    """Run a call for many images at once: (image, …) in place of a value (1, …), (image, a, …) in place of (a, …).

    Raises:
        Unrepeatable: it cannot be run for several images together.
    """
    count = len(next(iter(known.values())))
    if BATCHED.fullmatch(call.name.rstrip("_") or call.name) and all(value.shape[:1] == (1,) for value in call.inputs):
        return _checked(call, run(call, known), count)
    if call.name == "multi_head_attention_forward" and all(value.shape[1:2] == (1,) for value in call.inputs):
        found = run(call, {value: tensor.squeeze(2).transpose(0, 1) for value, tensor in known.items()})
        return [found[0].transpose(0, 1).unsqueeze(2), *found[1:]]  # (token, image, width) is its own order
    given = list(dict.fromkeys(call.inputs))

    def single(*tensors: Tensor) -> list[Tensor]:
        return run(call, dict(zip(given, (tensor[None] if _led(v) else tensor for v, tensor in zip(given, tensors)))))

    try:
        with without_fallback_warnings():
            found = torch.func.vmap(single)(*(known[value] for value in given))
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        if is_short(error):
            raise
        raise Unrepeatable(f"{call.name} cannot be run for several images at once") from error
    return [tensor.squeeze(1) if _led(out) else tensor for out, tensor in zip(call.outputs, found)]


@contextmanager
def without_fallback_warnings() -> Iterator[None]:
    """Keep torch from telling which functions it runs one image after the other in a `vmap`, which are many.

    Outside of torch's own functions it writes that itself, past Python's warnings.
    """
    switch = getattr(torch._C._functorch, "_set_vmap_fallback_warning_enabled", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        switch(False)
        try:
            yield
        finally:
            switch(True)


def _led(value: Value) -> bool:
    """Say whether the first axis of a value is that of the images."""
    return value.shape[:1] == (1,)


def _checked(call: Call, found: list[Tensor], count: int) -> list[Tensor]:
    if [tuple(tensor.shape[1:]) for tensor in found] != [out.shape[1:] for out in call.outputs] or any(
        len(tensor) != count for tensor in found
    ):
        raise Unrepeatable(f"{call.name} gave other shapes for several images")
    return found


def run(call: Call, known: dict[Value, Tensor]) -> list[Tensor]:
    """Run a call on other tensors, of any shape; copies of them where it writes into them."""
    if call.function is torch.autograd.grad:  # the graph it needs is that of the pass it was seen in
        raise Unrepeatable("gradients in the network's own forward cannot be repeated call by call")
    writes = is_in_place(call)
    tensors: dict[Value, Tensor] = {}

    def real(value: Value) -> Tensor:
        if value not in tensors or value.call == CONSTANT:
            tensor = value.held if value.call == CONSTANT else known[value]
            tensors[value] = tensor.clone() if writes else tensor
        return tensors[value]

    arguments, keywords = replaced((call.arguments, call.keywords), Value, real)
    result = call.function(*arguments, **keywords)
    found = leaves(result, Tensor)
    if writes and len(found) < len(call.outputs):
        target = leaves(arguments, Tensor)[:1]
        found += [tensor for tensor in target if all(tensor is not other for other in found)]
    if len(found) > len(call.outputs) and not writes:  # no-ops return what they got
        found = found[: len(call.outputs)]
    if len(found) != len(call.outputs):
        raise Unrepeatable(f"{call.name} cannot be repeated on its own")
    return found
