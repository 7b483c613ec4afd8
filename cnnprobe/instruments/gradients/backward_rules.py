"""Backward rules of rectifiers: the gradient, or what guided backpropagation and the deconvnet make of it.

With the input z of a rectifier and the signal R that arrives from above:

    gradient    R [z > 0]          Simonyan, Vedaldi, Zisserman 2014
    deconvnet   R [R > 0]          Zeiler, Fergus 2014
    guided      R [z > 0] [R > 0]  Springenberg, Dosovitskiy, Brox, Riedmiller 2015, section 3
    redirected  R [z > 0], and where that is 0 for a whole image, R [R > 0]: so that ascent can wake a silent unit

ReLU6, and any clamp that begins at 0, lets through where it lets through forwards: [0 < z < 6] in place of [z > 0].
Everything else (convolution, BatchNorm, pooling by its switches) keeps its gradient.

What is a rectifier is found out once for a network by what it does (`nonlinearities`). In each pass the places where
one begins and ends are noted as they are made, and the rule acts there on the graph that autograd has written down,
however many operations lie between. No module gets a hook.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.gradients.nonlinearities import Gate, Plan
from cnnprobe.instruments.network.activations import FOLLOWERS
from cnnprobe.instruments.network.tracing import IMAGE, Value, leaves

Rule = Literal["gradient", "guided", "deconvnet", "redirected"]
WIDE = 64
"""Operations between beginning and end of one nonlinearity at most."""


class Rules(TorchFunctionMode):
    """Applies a rule to the rectifiers of passes that run inside `with rules:`.

    Example:
        rules = Rules(plan_of(network, [layer], size), "guided")
        with rules.show(images):
            value = network(images).sum()
        rules.watch()
        (maps,) = torch.autograd.grad(value, images)

    Args:
        plan: of the network below what the signal starts from.
        rule: see the head of this file; may be changed between two backward passes over one graph.
        extend: apply the rule at nonlinearities that are no rectifiers as well: the signal that arrives is clamped at
            0, then goes on by their own derivative (guided) or as it is (deconvnet).

    Raises:
        UserError: the rule has no meaning for a nonlinearity of the network, and it is not to be extended.
    """

    def __init__(self, plan: Plan, rule: Rule = "gradient", extend: bool = False):
        super().__init__()
        if rule not in get_args(Rule):
            raise UserError(f"no backward rule {rule!r}; there are {listing(get_args(Rule))}")
        if rule in ("guided", "deconvnet") and plan.strange and not extend:
            raise UserError(
                f"rule={rule} is defined for rectifiers (ReLU, ReLU6), and the network has {listing(plan.strange)}; "
                f"rule=gradient, or extend=true, which clamps the signal there too"
            )
        parts = [gate.name for gate in plan.gates if gate.partial]
        if rule in ("guided", "deconvnet") and parts:
            raise UserError(
                f"rule={rule} cannot act where the network writes {listing(dict.fromkeys(parts))} into a part of a "
                "value (as y[:, :4].relu_() does): rule=gradient, or join the parts by torch.cat in its forward"
            )
        self.plan, self.rule, self.extend = plan, rule, extend
        self.counts: Counter = Counter()
        self.places: dict[Value, GradientEdge | Tensor] = {}
        self.given: dict[Value, GradientEdge] = {}
        self.apart = False  # images have passed one by one, and the rule is on the graph of each

    def __enter__(self) -> "Rules":
        FOLLOWERS.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        FOLLOWERS.remove(self)
        super().__exit__(*error)

    def __torch_function__(
        self, function: Callable, types: Any, arguments: tuple = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        wanted = self.plan.wanted.get(function)
        if wanted is None:
            return function(*arguments, **(keywords or {}))
        values = wanted.get(self.counts[function], ())
        self.counts[function] += 1
        for value in values:
            for tensor in leaves((arguments, keywords), Tensor):
                self.note_given(value, tensor)
        result = function(*arguments, **(keywords or {}))
        for value in values:
            made = leaves(arguments[0] if result is None else result, Tensor)
            self.note(value, made[min(value.part, len(made) - 1)])
        return result

    def show(self, images: Tensor) -> "Rules":
        """Be told what the network is about to be shown."""
        for value in self.plan.ends:
            if value.call == IMAGE:
                self.note(value, images)
        return self

    def note(self, value: Value, tensor: Tensor) -> None:
        """Be told what stands in a pass for a value of the plan.

        What is made inside a `torch.autograd.Function` has its place in the graph only when that has returned.
        """
        if value in self.plan.ends:
            self.places[value] = get_gradient_edge(tensor) if tensor.requires_grad else tensor

    def note_given(self, made: Value, tensor: Tensor) -> None:
        """Be told what the operation that makes a value was given, before it writes into that."""
        if made in self.plan.ends and tensor.requires_grad:
            self.given[made] = get_gradient_edge(tensor)

    def watch(self) -> None:
        """Put the rule on the graph of the pass.

        Raises:
            UserError: the pass was another one than that of the plan.
        """
        if not self.apart:
            self._put(whole=True)
        self.apart = False

    def _put(self, whole: bool) -> None:
        """Put the rule on the graph of a pass; one that is not whole may lack some of what the plan has."""
        for gate in self.plan.gates:
            end, start = self._edge(gate.exit), self.given.get(gate.exit) if gate.single else self._edge(gate.entry)
            if end is None and gate.exit not in self.places and self.rule != "redirected" and whole:
                raise UserError(f"rule={self.rule} needs a network that does the same with every image; rule=gradient")
            if end is not None and (gate.rectifies or self.extend):
                _Acting(self, gate, end, start)
        self.places, self.given = {}, {}
        self.counts.clear()

    def passed(self, whole: bool) -> None:
        """Be told that one of several passes of one image each has ended: the rule acts on the graph of each."""
        self._put(whole)
        self.apart = True

    def _edge(self, value: Value | None) -> GradientEdge | None:
        place = None if value is None else self.places.get(value)
        if isinstance(place, Tensor):
            return get_gradient_edge(place) if place.requires_grad else None
        return place


class _Acting:
    """A rule on one nonlinearity of one graph.

    The graph holds it, so it must not hold a part of the graph: Python frees no circle that leads through autograd.
    """

    def __init__(self, rules: Rules, gate: Gate, end: GradientEdge, start: GradientEdge | None):
        self.rules, self.slope, self.part = rules, gate.slope, end.output_nr
        entering = [] if start is None else _entering(end.node, start)
        self.ways = len(entering)
        end.node.register_prehook(self._before)
        for node, place in entering:
            node.register_hook(self._leaving(place))

    def _before(self, arriving: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
        signal = arriving[self.part]
        if self.rules.rule == "gradient" or signal is None:
            return None
        self.signal, self.total, self.left = signal, None, self.ways
        if self.rules.rule != "guided":
            return None
        positive = signal.clamp(min=0)
        return tuple(positive if place == self.part else one for place, one in enumerate(arriving))

    def _leaving(self, place: int) -> Callable:
        """Return a hook that makes the sum of what leaves, at the last of the places where it does, what it has to be.

        Each place leaves what it left without the rule; the last one makes up for the difference.
        """

        def hook(leaving: tuple[Tensor | None, ...], _: Any) -> tuple[Tensor | None, ...] | None:
            if self.rules.rule not in ("deconvnet", "redirected") or leaving[place] is None:
                return None
            self.total = leaving[place] if self.total is None else self.total + leaving[place]
            self.left -= 1
            if self.left:
                return None
            silent = None if self.rules.rule == "deconvnet" else _silent(self.total)
            if silent is not None and not silent.any():  # mostly, and the maps are large
                return None
            wanted = self.signal.clamp(min=0) * self.slope
            if silent is not None:
                wanted = torch.where(silent, wanted, self.total)
            if self.ways > 1:
                wanted = wanted - self.total + leaving[place]
            return tuple(wanted if one == place else other for one, other in enumerate(leaving))

        return hook


def _entering(end: Any, start: GradientEdge) -> list[tuple[Any, int]]:
    """Return the nodes, and which of their inputs, by which the signal leaves a nonlinearity to where it begins."""
    found, seen, waiting = [], {end}, [end]
    while waiting and len(seen) <= WIDE:
        node = waiting.pop()
        for place, (before, number) in enumerate(node.next_functions):
            if before is start.node and number == start.output_nr:
                found.append((node, place))
            elif before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)
    return found


def _silent(signal: Tensor) -> Tensor:
    """Say of which images nothing is left in a signal (image, …); (image, 1, …)."""
    return (signal.flatten(1).abs().amax(1) == 0).view(-1, *[1] * (signal.dim() - 1))
