"""One forward pass written down as a graph: which torch function ran in which module, on what, giving what.

Names of layers, their geometry and their cost are all read from this graph, so a rectifier that is a module, a
function, a method of the tensor or in place is the same thing here. Nothing is patched: functions are seen by a
`TorchFunctionMode`, modules by torch's global hooks and a hook behind those that they have, all gone after the pass.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from cnnprobe.errors import UserError
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.handing_out import HANDED_OUT, Reading, is_shaped_as_first, makes_shape, tells_shape
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

IMAGE, CONSTANT = -1, -2  # `Value.call` of the network's input, and of what does not depend on it

SHAPED = re.compile(r"new_(tensor|zeros|ones|full|empty|empty_strided)|(zeros|ones|full|empty|rand|randn|randint)_like")
"""Functions that read of a tensor its shape, type and device only: what they return does not depend on its values."""
LIKE = frozenset({"view_as", "expand_as", "reshape_as", "type_as"})
"""Functions that read of their second tensor no more than that."""
IN_PLACE = re.compile(r"(?!__).*[a-z0-9]_|__i\w+__|__setitem__")
"""Functions that write into their first argument, by name."""


@dataclass(frozen=True)
class Value:
    """A tensor of the pass: output number `part` of call number `call`, of this shape (batch of one).

    What does not depend on the image keeps its `constant`, so that calls can be repeated. Of complex numbers is what is
    not `real`: no unit responds with these. `sized` names the function by which its shape depends on values of the
    image, "" where it does not.
    """

    call: int
    part: int
    shape: tuple[int, ...]
    constant: Tensor | None = field(default=None, compare=False, repr=False)
    real: bool = field(default=True, compare=False, repr=False)
    dtype: torch.dtype = field(default=torch.float32, compare=False, repr=False)
    device: torch.device = field(default=torch.device("cpu"), compare=False, repr=False)
    sized: str = field(default="", compare=False, repr=False)

    @property
    def held(self) -> Tensor:
        """The constant, of a value that has one."""
        assert self.constant is not None
        return self.constant


@dataclass(frozen=True)
class Call:
    """One torch function called in Python.

    Args:
        index: its place in the pass.
        name: of the function ("conv2d", "relu_", "add").
        function: the function itself.
        module: path of the innermost module it ran in ("" for the network itself).
        number: which call of that module this was.
        nth: which call of this function, directly in that call of the module.
        arguments, keywords: what it got, every tensor replaced by its `Value`.
        outputs: tensors it returned, then tensors it changed in place.
        hidden: from autograd: in a `no_grad`, or in the forward of a `torch.autograd.Function`.
    """

    index: int
    name: str
    function: Callable
    module: str
    number: int
    nth: int
    arguments: tuple
    keywords: dict[str, Any]
    outputs: tuple[Value, ...]
    hidden: bool = False

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """The values it got that depend on the image, in order."""
        given = leaves((self.arguments, self.keywords), Value)
        return tuple(value for value in given if value.call != CONSTANT)

    def argument(self, name: str, place: int, default: Any = None) -> Any:
        """Return the argument called `name`, or the one at `place`, or `default`."""
        if name in self.keywords:
            return self.keywords[name]
        return self.arguments[place] if place < len(self.arguments) else default


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module: calls[start:stop] ran in it; `output` is what it returned, tensors as `Value`.

    `hooked`: it has forward hooks of its own, which may make something else of what it returns.
    """

    path: str
    number: int
    type: str
    start: int
    stop: int
    output: Any
    hooked: bool = False


@dataclass
class Trace:
    """A whole pass. `modules` stand in the order in which they finished.

    `handed_out`: which functions gave values that depend on the image to Python, or whose shape was, and how many calls
    came, and modules finished, before.
    """

    size: tuple[int, ...]
    calls: list[Call] = field(default_factory=list)
    modules: list[ModuleCall] = field(default_factory=list)
    handed_out: list[tuple[str, int, int]] = field(default_factory=list)

    @cached_property
    def consumers(self) -> dict[Value, list[int]]:
        """By value: the calls that read it, once per reading; what the network returns is read by call len(calls)."""
        readers = defaultdict(list)
        for call in self.calls:
            for value in call.inputs:
                readers[value].append(call.index)
        for value in leaves(self.modules[-1].output, Value):
            readers[value].append(len(self.calls))
        return readers

    @cached_property
    def _by_place(self) -> dict[tuple[str, int], ModuleCall]:
        return {(module.path, module.number): module for module in self.modules}

    @property
    def readers(self) -> list[str]:
        """The functions by which Python reads values of the image."""
        return list(dict.fromkeys(name for name, *_ in self.handed_out))

    def decided(self, value: Value, returned: tuple[str, int] | None = None) -> list[str]:
        """Return the functions by which Python may have decided what stands at a place of the pass.

        Args:
            value: that was seen there.
            returned: path and number of the call of a module that returns it; None: it is what its function made.
        """
        if returned is None:
            found = [name for name, calls, _ in self.handed_out if calls <= value.call]
        else:
            place = self.modules.index(self._by_place[returned])
            found = [name for name, _, finished in self.handed_out if finished <= place]
        return list(dict.fromkeys(found))

    def around(self, call: Call) -> ModuleCall:
        """Return the call of the innermost module that `call` ran in."""
        return self._by_place[call.module, call.number]


class Watch(TorchFunctionMode):
    """Follows a forward pass: knows at any moment which module is running; to be subclassed.

    `called` is run in place of every torch function, `left` after every call of a module and of its forward hooks.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.stack: list[tuple[str, int]] = []
        self.functions: Counter = Counter()
        self.calls_of: Counter = Counter()

    def __enter__(self) -> Self:
        hooked = [module for module in self.model.modules() if module._forward_hooks]
        self.hooked = set(map(id, hooked))
        self.handles = [module.register_forward_hook(self._leave_module) for module in hooked]  # behind its own
        self.handles.append(register_module_forward_pre_hook(self._enter_module))
        self.handles.append(register_module_forward_hook(self._returned))  # before a module's own
        return super().__enter__()

    def __exit__(self, *exception: Any) -> Any:
        for handle in self.handles:
            handle.remove()
        return super().__exit__(*exception)

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        if (path := self.paths.get(id(module))) is not None:
            self.stack.append((path, self.calls_of[path]))
            self.calls_of[path] += 1
            self.entered()

    def _returned(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if id(module) not in self.hooked:
            self._leave_module(module, inputs, output)

    def _leave_module(self, module: nn.Module, _: Any, output: Any) -> None:
        if id(module) in self.paths:
            self.left(module, *self.stack.pop(), output)

    def __torch_function__(
        self, function: Callable, types: Any, arguments: tuple = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        return self.called(function, arguments, keywords or {})

    def nth(self, name: str) -> int:
        """Count a call of the function `name` in the running module; return how many came before it there."""
        place = (*self.stack[-1], name)
        self.functions[place] += 1
        return self.functions[place] - 1

    def entered(self) -> None:
        """Be told that the module at the top of `stack` starts."""

    def left(self, module: nn.Module, path: str, number: int, output: Any) -> None:
        """Be told that a module returned `output`."""

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        """Run a torch function and return its result."""
        return function(*arguments, **keywords)


class _Tracer(Watch):
    """Writes a `Trace`. Tensors are kept alive meanwhile, so that an `id` names one tensor only."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__(model)
        self.trace = Trace(tuple(image.shape[1:]))
        self.values: dict[int, Value] = {id(image): _made(image, IMAGE, 0)}
        self.alive: list[Tensor] = [image]
        self.starts: list[int] = []

    def value(self, tensor: Tensor) -> Value:
        return self.values.get(id(tensor)) or Value(CONSTANT, 0, tuple(tensor.shape), tensor)

    def entered(self) -> None:
        self.starts.append(len(self.trace.calls))

    def left(self, module: nn.Module, path: str, number: int, output: Any) -> None:
        start, stop = self.starts.pop(), len(self.trace.calls)
        described = replaced(output, Tensor, self.value)
        hooked = id(module) in self.hooked
        self.trace.modules.append(ModuleCall(path, number, type(module).__name__, start, stop, described, hooked))

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        name = getattr(function, "__name__", str(function))
        nth = self.nth(name) if self.stack else 0  # whatever it is called on: readers count so
        given = leaves((arguments, keywords), Tensor)
        seen = replaced((arguments, keywords), Tensor, self.value)
        if IN_PLACE.fullmatch(name) and arguments:
            seen = (replaced(seen[0][:1], Value, _kept) + seen[0][1:], seen[1])
        before = [_version(tensor) for tensor in given]
        with Reading({id(tensor) for tensor in given if self.value(tensor).call == CONSTANT}) as reading:
            result = function(*arguments, **keywords)
        if not self.stack or not any(value.call != CONSTANT for value in leaves(seen, Value)):
            return result
        sized = _sized(name, seen, reading)
        if not sized and (SHAPED.fullmatch(name) or (name in LIKE and seen[0][0].call == CONSTANT)):
            return result
        if name in HANDED_OUT or (reading.numbers and result is not None and not leaves(result, Tensor)):
            self._hand_out(name)
        elif sized and tells_shape(function, name, result, sized.startswith("squeeze")):
            self._hand_out(f"the shape of {sized}")
        changed = [tensor for tensor, version in zip(given, before) if _version(tensor) != version]
        same = {id(tensor) for tensor in given} - {id(tensor) for tensor in changed}
        made = [tensor for tensor in leaves(result, Tensor) if id(tensor) not in same]  # no-ops return what they got
        made += [tensor for tensor in changed if all(tensor is not other for other in made)]
        made += [tensor._base for tensor in changed if tensor._base is not None]  # a view changed: so did its owner
        if made:
            self._write(function, name, nth, seen, made, sized)
        return result

    def _hand_out(self, name: str) -> None:
        self.trace.handed_out.append((name, len(self.trace.calls), len(self.trace.modules)))

    def _write(
        self, function: Callable, name: str, nth: int, seen: tuple[tuple, dict], made: list[Tensor], sized: str
    ) -> None:
        index = len(self.trace.calls)
        outputs = tuple(_made(tensor, index, part, sized) for part, tensor in enumerate(made))
        hidden = not torch.is_grad_enabled()
        self.trace.calls.append(Call(index, name, function, *self.stack[-1], nth, *seen, outputs, hidden))
        self.values.update({id(tensor): value for tensor, value in zip(made, outputs)})
        self.alive.extend(made)


def _made(tensor: Tensor, call: int, part: int, sized: str = "") -> Value:
    real, sized = not tensor.is_complex(), sized if tensor.dim() or sized.startswith("squeeze") else ""
    return Value(call, part, tuple(tensor.shape), real=real, dtype=tensor.dtype, device=tensor.device, sized=sized)


def _sized(name: str, seen: tuple[tuple, dict], reading: Reading) -> str:
    """Return the name of the function by which the shape of what a call returned depends on values, "" for none."""
    name = name.partition(".")[0]  # of an operator: without that of its overload
    slices = [index for index in leaves(seen[0][1:], slice) if name == "__getitem__"]
    lengths = any(value.call != CONSTANT for value in leaves([[s.start, s.stop, s.step] for s in slices], Value))
    in_place = IN_PLACE.fullmatch(name) or is_shaped_as_first(name)
    given = leaves(seen[0][:1] if in_place else seen, Value)
    before = next((value.sized for value in given if value.sized), "")
    if not before and not in_place and makes_shape(name, reading, lengths):
        return name
    return f"squeeze() of {before}" if before and name.startswith("squeeze") and "squeeze" not in before else before


def _kept(value: Value) -> Value:
    """Return a constant as it is now: it is about to be written into."""
    return value if value.constant is None else replace(value, constant=value.constant.clone())


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place."""
    return -1 if tensor.is_inference() else tensor._version


def leaves(structure: Any, kind: type) -> list:
    """Return every instance of `kind` in nested tuples, lists, dicts and slices, in order."""
    return list(_leaves(structure, kind))


def _leaves(structure: Any, kind: type) -> Iterator:
    if isinstance(structure, kind):
        yield structure
    elif isinstance(structure, slice):
        yield from _leaves((structure.start, structure.stop, structure.step), kind)
    elif isinstance(structure, (tuple, list, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from _leaves(item, kind)


def replaced(structure: Any, kind: type, change: Callable) -> Any:
    """Return nested tuples, lists, dicts and slices with every instance of `kind` changed."""
    if isinstance(structure, kind):
        return change(structure)
    if isinstance(structure, dict):
        return {key: replaced(item, kind, change) for key, item in structure.items()}
    if isinstance(structure, slice):
        return slice(*(replaced(bound, kind, change) for bound in (structure.start, structure.stop, structure.step)))
    if isinstance(structure, (tuple, list)):  # a torch.Size, a namedtuple: plain ones do
        return (tuple if isinstance(structure, tuple) else list)(replaced(item, kind, change) for item in structure)
    return structure


def noise_image(model: nn.Module, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Return one image (1, *size) of noise, 0 to 1, the same for a seed, where and in the type the parameters are."""
    like = next(model.parameters(), torch.empty(0))
    noise = torch.rand((1, *size), generator=torch.Generator().manual_seed(seed))
    return noise.to(like.device, like.dtype if like.is_floating_point() else torch.float32)


def trace(model: nn.Module, size: tuple[int, ...]) -> Trace:
    """Run a network once on a noise image of `size` (channel, y, x) and return what happened; kept with it.

    Raises:
        UserError: the network cannot take an image of this size.
    """
    return kept(model, ("trace", tuple(size)), lambda: trace_anew(model, size))


def trace_anew(model: nn.Module, size: tuple[int, ...], learning: bool = False) -> Trace:
    """Return what `trace` does, kept nowhere.

    Args:
        model, size: see `trace`.
        learning: let all parameters learn in the pass: constants know by autograd from which of them they are made.
    """
    with torch.inference_mode(False):
        image = noise_image(model, size)
    tracer = _Tracer(model, image)
    # Not in inference mode: its tensors do not say whether they were changed in place. Nothing here needs a gradient.
    with untouched(model), chance.forked(), torch.inference_mode(False), torch.enable_grad(), tracer:
        for parameter in model.parameters() if learning else ():
            parameter.requires_grad_(parameter.is_floating_point())
        try:
            model(image)
        except (RuntimeError, ValueError) as error:
            if is_short(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            shape = "x".join(map(str, size))
            raise UserError(f"the network cannot take an image of {shape} (channels x side): {reason}") from error
    return tracer.trace
