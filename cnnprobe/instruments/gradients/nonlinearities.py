"""The nonlinearities on the way to a value of a traced pass, by what they do, not by their names.

Calls are repeated on a grid of numbers. What gives s max(z, 0), s > 0, from one value z is a rectifier, however many
calls it is written in: relu, clamp(min=0), maximum(z, 0), z * (z > 0), (z + |z|) / 2, z + relu(-z), an assignment; with
an upper end (ReLU6) too. What is linear is passed over. Convolution, pooling, normalisation, attention, softmax and the
like mix positions and keep their gradient. Everything else is a nonlinearity without a rule, and is named.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnprobe.instruments.network.calls import KINDS
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.replay import Unrepeatable, is_in_place, run, value_at
from cnnprobe.instruments.network.tracing import CONSTANT, Call, Trace, Value, _Tracer, leaves, noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

Profile = Literal["affine", "ReLU", "ReLU6", "other"]
GRID = torch.arange(-160, 161, dtype=torch.float64) / 16
"""Numbers that half precision has, too."""
MOST = 50_000
"""Numbers that are looked at in one tensor, at most."""
MIXING = re.compile(
    r"(log_)?softmax|softmin|normalize|cosine_similarity|(linalg_)?(vector_|matrix_)?norm|std|var|std_mean|var_mean|"
    r"a?max|a?min|topk|sort|median|quantile|maximum|minimum|fmax|fmin|aminmax|cummax|cummin|"
    r"(__r?)?matmul(__)?|bmm|mm|einsum|baddbmm|tensordot"
)
"""Functions that mix positions, or choose among values, and keep their gradient, as pooling does by its switches."""
NAMES = {
    "celu": "CELU", "elu": "ELU", "selu": "SELU", "gelu": "GELU", "glu": "GLU", "hardsigmoid": "hard sigmoid",
    "hardswish": "hard swish", "leaky_relu": "leaky ReLU", "logsigmoid": "log-sigmoid", "log_sigmoid": "log-sigmoid",
    "mish": "Mish", "prelu": "PReLU", "rrelu": "RReLU", "silu": "SiLU", "hardtanh": "hard tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """One nonlinearity.

    Args:
        name: "ReLU", "ReLU6", or that of one without a rule.
        rectifies: whether it is one of the first two.
        entry, exit: values it is a function from and to; no entry where that is not one.
        slope: s.
        single: whether it is one call, which gets the entry.
        partial: whether it writes into a part of a value (`y[:, :4].relu_()`), where no rule can act.
    """

    name: str
    rectifies: bool
    entry: Value | None
    exit: Value
    slope: float = 1.0
    single: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Plan:
    """The nonlinearities below a value.

    Args:
        gates: from the value down.
        unseen: names of what made values out of the trace's sight.
        keys: by number of a call, the function and which of its calls in the pass it is.
    """

    gates: tuple[Gate, ...] = ()
    unseen: tuple[str, ...] = ()
    keys: dict[int, tuple[Callable, int]] = field(default_factory=dict)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many there are by name, in the order of the pass."""
        return dict(Counter([gate.name for gate in reversed(self.gates)] + list(self.unseen)))

    @cached_property
    def strange(self) -> list[str]:
        """Names of those without a rule."""
        return list(dict.fromkeys([gate.name for gate in self.gates if not gate.rectifies] + list(self.unseen)))

    @cached_property
    def ends(self) -> frozenset[Value]:
        """The values to be noted: where each ends, and where those of several calls begin."""
        starts = {gate.entry for gate in self.gates if gate.entry and not gate.single}
        return frozenset({gate.exit for gate in self.gates} | starts)

    @cached_property
    def wanted(self) -> dict[Callable, dict[int, list[Value]]]:
        """By function and which of its calls: the values among the ends that it makes."""
        found: dict[Callable, dict[int, list[Value]]] = defaultdict(lambda: defaultdict(list))
        for value in self.ends:
            if value.call in self.keys:
                function, nth = self.keys[value.call]
                found[function][nth].append(value)
        return {function: dict(own) for function, own in found.items()}


class _Counting(_Tracer):
    """Notes of each call also which call of its function it was."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__(model, image)
        self.numbers: Counter = Counter()
        self.keys: dict[int, tuple[Callable, int]] = {}

    def called(self, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> Any:
        before, nth = len(self.trace.calls), self.numbers[function]
        self.numbers[function] += 1
        result = super().called(function, arguments, keywords)
        if len(self.trace.calls) > before:
            self.keys[before] = function, nth
        return result


def plan_of(model: nn.Module, layers: Sequence[Layer], size: tuple[int, ...]) -> Plan:
    """Return the nonlinearities below layers, kept with the network; no tap may be on it."""
    key = "plan", tuple(layer.tap for layer in layers), tuple(size)
    return kept(model, key, lambda: _plan(model, layers, size))


def _plan(model: nn.Module, layers: Sequence[Layer], size: tuple[int, ...]) -> Plan:
    """Return them from a pass with gradients on: what is called may depend on that."""
    with untouched(model), chance.forked(), torch.inference_mode(False), torch.enable_grad():
        given = noise_image(model, size).requires_grad_() * 1
        tracer = _Counting(model, given)
        with tracer:
            model(given)
    targets = []
    for layer in layers:
        try:
            targets.append(value_at(tracer.trace, layer.tap))
        except Unrepeatable:
            continue
    return planned(tracer.trace, targets, tracer.keys)


def planned(trace: Trace, targets: Sequence[Value], keys: dict[int, tuple[Callable, int]] | None = None) -> Plan:
    """Return the nonlinearities below some values of a trace."""
    return _Search(trace).plan(targets, keys or {})


_PROFILES: dict[Any, tuple[Profile | None, float]] = {}
_LINEAR: dict[Any, bool] = {}
"""What is known of functions of torch with the same settings."""


class _Search:
    """Goes from values down to the image."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.origins: dict[Value, Value] = {}
        for call in trace.calls:  # the value that another one is made from alone, without mixing
            sources = {self.origins.get(value, value) for value in call.inputs}
            alone = len(sources) == 1 and KINDS.get(call.name) in (None, "nonlinearity", "dropout")
            self.origins |= {value: sources.copy().pop() if alone else value for value in call.outputs}

    def plan(self, targets: Sequence[Value], keys: dict[int, tuple[Callable, int]]) -> Plan:
        """Return the nonlinearities below some values."""
        gates: list[Gate] = []
        unseen: list[str] = []
        waiting, seen = list(targets), set()
        while waiting:
            value = waiting.pop()
            if value in seen or value.call < 0:
                continue
            seen.add(value)
            for given in leaves((self._call(value).arguments, self._call(value).keywords), Value):
                made = given.constant if given.call == CONSTANT else None
                if made is not None and made.grad_fn is not None and made.grad_fn.name() not in unseen:
                    unseen.append(made.grad_fn.name())
            with torch.no_grad():
                gate, below = self._explained(value)
            gates += [gate] if gate else []
            waiting += below
        return Plan(tuple(sorted(gates, key=lambda gate: -gate.exit.call)), tuple(unseen), keys)

    def _call(self, value: Value) -> Call:
        return self.trace.calls[value.call]

    def _explained(self, value: Value) -> tuple[Gate | None, list[Value]]:
        """Return what stands between a value and others below it, and those."""
        call, origin = self._call(value), self.origins[value]
        if value.part and is_in_place(call) and value.shape != call.outputs[0].shape:  # what a view is a part of
            gate, below = self._explained(call.outputs[0])
            return (replace(gate, partial=True) if gate else None), below
        kind = KINDS.get(call.name)
        if kind is not None and kind not in ("nonlinearity", "dropout"):
            return None, list(call.inputs)
        whole: Profile | None = None
        between = self._between(origin, value) if origin != value and value.shape == origin.shape else []
        if len(between) > 1 or (between and call.inputs == (origin,)):
            whole, slope = self._profile(between, origin, value)
            if whole == "affine":
                return None, [origin]
            if whole in ("ReLU", "ReLU6") and self._closed(between, value):
                return Gate(whole, True, origin, value, slope, len(between) == 1), [origin]
        if self._is_linear(call, value):
            return None, list(call.inputs)
        single = set(call.inputs)
        if len(single) == 1:
            (given,) = single
            alone, slope = self._profile([call], given, value) if given.shape == value.shape else (None, 1.0)
            if alone in ("ReLU", "ReLU6"):
                return Gate(alone, True, given, value, slope, True), [given]
            if alone == "other":
                return Gate(_name(call), False, given, value, single=True), [given]
        if whole == "other":
            return Gate(self._naming(between), False, origin, value), [origin]
        chooses = re.search(r"(?<!soft)(max|min)", call.name)  # one value and a constant: a clamp
        if MIXING.fullmatch(call.name) and (not chooses or len(single) > 1 or value.shape != call.inputs[0].shape):
            return None, list(call.inputs)
        return Gate(_name(call), False, None, value), list(call.inputs)

    def _between(self, origin: Value, value: Value) -> list[Call]:
        """Return the calls that make a value of its origin, in order."""
        needed, found = {value}, []
        for call in reversed(self.trace.calls[max(0, origin.call + 1) : value.call + 1]):
            if needed & set(call.outputs):
                found.append(call)
                needed |= set(call.inputs) - {origin}
        return found[::-1]

    def _closed(self, between: list[Call], value: Value) -> bool:
        """Say whether nothing else reads what is made on the way."""
        inside = {call.index for call in between}
        made = [one for call in between for one in call.outputs if one != value]
        return all(set(self.trace.consumers.get(one, ())) <= inside for one in made)

    def _profile(self, calls: list[Call], given: Value, made: Value) -> tuple[Profile | None, float]:
        """Return what some calls do to each number, None where that depends on where it stands, and a slope."""
        key = _key(calls[0]) if len(calls) == 1 else None
        if key is None or key not in _PROFILES:

            def function(numbers: Tensor) -> Tensor:
                known = {given: numbers.to(given.device)}  # where the constants are that it meets
                for call in map(_alone, calls):
                    known.update(zip(call.outputs, run(call, known)))
                return known[made].cpu()

            found = profile(function, given.shape)
            if key is None:
                return found
            _PROFILES[key] = found
        return _PROFILES[key]

    def _is_linear(self, call: Call, made: Value) -> bool:
        """Say whether a call is linear, but for a constant, in all that depends on the image together."""
        key = _key(call)
        key = None if key is None else (key, tuple(value.shape for value in call.inputs), made.part)
        if key is None or key not in _LINEAR:
            found = self._tried(call, made)
            if key is None:
                return found
            _LINEAR[key] = found
        return _LINEAR[key]

    def _tried(self, call: Call, made: Value) -> bool:
        call = _alone(call)
        generator, inputs = torch.Generator().manual_seed(0), list(dict.fromkeys(call.inputs))
        one, other = ({value: _random(value, generator) for value in inputs} for _ in range(2))
        middle = {value: (one[value] + 3 * other[value]) / 4 for value in inputs}
        try:
            first, second, between = (dict(zip(call.outputs, run(call, known)))[made] for known in (one, other, middle))
            expected = (first + 3 * second) / 4
            scale = float(max(first.abs().max(), second.abs().max()))
            low = first.dtype in (torch.float16, torch.bfloat16)
            return float((between - expected).abs().max()) <= (3e-2 if low else 1e-4) * scale
        except Exception as error:
            if is_short(error):
                raise
            return False

    def _naming(self, calls: list[Call]) -> str:
        """Return the name of the first of some calls that is a nonlinearity by itself."""
        for call in calls:
            alone = len(set(call.inputs)) == 1 and call.inputs[0].shape == call.outputs[0].shape
            if alone and not _compares(call) and self._profile([call], call.inputs[0], call.outputs[0])[0] == "other":
                return _name(call)
        return _name(calls[-1])


def profile(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Profile | None, float]:
    """Return what a function of tensors does to each number, and the slope of a rectifier.

    Args:
        function: from a tensor of this shape to another.
        shape: (1, …).

    Returns:
        None where it changes the shape, or where equal numbers do not become equal ones: then it mixes positions, or
        differs between them.
    """
    count, generator = math.prod(shape), torch.Generator().manual_seed(0)
    inputs, outputs = [], []
    try:
        for _ in range(min(max(2, -(-4 * len(GRID) // max(count, 1))), 400)):
            places = torch.randint(len(GRID), shape, generator=generator)
            made = function(GRID[places].float())
            if tuple(made.shape) != tuple(shape):
                return None, 1.0
            inputs.append(places.flatten()[:MOST])
            outputs.append(made.flatten()[:MOST])
    except Exception as error:
        if is_short(error):
            raise
        return None, 1.0
    low = outputs[0].dtype in (torch.float16, torch.bfloat16)
    at, values = torch.cat(inputs), torch.cat(outputs).double()
    if not bool(values.isfinite().all()):
        return "other", 1.0
    least, most = (
        torch.full((len(GRID),), fill, dtype=torch.float64).scatter_reduce(0, at, values, way, include_self=False)
        for fill, way in ((math.nan, "amin"), (math.nan, "amax"))
    )
    there = ~least.isnan()
    x, y = GRID[there], least[there]
    bound = (2e-2 if low else 2e-5) * max(float(values.abs().max()), 1e-30)
    if float((most - least)[there].max()) > bound:
        return None, 1.0
    line = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None])
    fitted = torch.stack([x, torch.ones_like(x)], 1) @ line.solution
    if float((fitted[:, 0] - y).abs().max()) <= bound:
        return "affine", 1.0
    slope = float(y[x > 0][0] / x[x > 0][0])
    if slope <= 0:
        return "other", 1.0
    top = float(y.max()) / slope
    if int(((x > 0) & (x < top)).sum()) < 2:  # a step rises at once
        return "other", 1.0
    if float((slope * x.clamp(0, top) - y).abs().max()) > bound:
        return "other", 1.0
    return "ReLU" if top >= float(x.max()) * 0.999 else "ReLU6", slope


def _alone(call: Call) -> Call:
    """Return a call that writes into a part of a value without that value, which it cannot make by itself."""
    parts = is_in_place(call) and call.outputs[-1].shape != call.outputs[0].shape
    return replace(call, outputs=call.outputs[:1]) if parts else call


def _random(value: Value, generator: Tensor) -> Tensor:
    made = torch.randn(value.shape, generator=generator)
    made = made if value.real else torch.complex(made, torch.randn(value.shape, generator=generator))
    return made.to(value.device)


def _key(call: Call) -> Any:
    """Return what a call of the same function with the same settings has in common; None where it gets constants."""
    if any(value.call == CONSTANT for value in leaves((call.arguments, call.keywords), Value)):
        return None
    return call.function, repr(_settings(call.arguments)), repr(_settings(call.keywords))


def _settings(given: Any) -> Any:
    if isinstance(given, Value):
        return "value"
    if isinstance(given, (tuple, list)):
        return [_settings(one) for one in given]
    return {key: _settings(one) for key, one in given.items()} if isinstance(given, dict) else given


def _compares(call: Call) -> bool:
    return re.fullmatch(r"_*(gt|ge|lt|le|eq|ne|sign|heaviside|greater|less|detach)_*", call.name) is not None


def _name(call: Call) -> str:
    plain = call.name.strip("_")
    step = _compares(call) and plain not in ("detach", "sign", "heaviside")
    return f"a step ({plain})" if step else NAMES.get(plain, plain)
