"""What a rectifier hands back: the gradient, or what guided backpropagation and the deconvnet make of it.

With the input z of a rectifier and the signal R that arrives from above:

    gradient    R [z > 0]          Simonyan, Vedaldi, Zisserman 2014
    deconvnet   R [R > 0]          Zeiler, Fergus 2014
    guided      R [z > 0] [R > 0]  Springenberg, Dosovitskiy, Brox, Riedmiller 2015, section 3
    redirected  R [z > 0], and where that is 0 for a whole image, R [R > 0]: so that ascent can wake a silent unit

ReLU6, and any clamp that begins at 0, lets through where it lets through forwards: [0 < z < 6] in place of [z > 0].
Everything else (convolution, BatchNorm, pooling by its switches) keeps its gradient.

The rule acts on the graph that autograd has written down, at each rectifying operation, however it was called: a
module, a function, a method of the tensor, in place, one module several times. No module gets a hook.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cnnprobe.errors import UserError, listing

Rule = Literal["gradient", "guided", "deconvnet", "redirected"]
BY_HAND = "cnnprobe rectifier"
SMOOTH = {
    "CeluBackward0": "CELU",
    "EluBackward0": "ELU or SELU",
    "GeluBackward0": "GELU",
    "GluBackward0": "GLU",
    "HardsigmoidBackward0": "hard sigmoid",
    "HardswishBackward0": "hard swish",
    "LeakyReluBackward0": "leaky ReLU",
    "LogSigmoidBackward0": "log-sigmoid",
    "MishBackward0": "Mish",
    "PreluKernelBackward0": "PReLU",
    "RreluWithNoiseBackward0": "RReLU",
    "SigmoidBackward0": "sigmoid",
    "SiluBackward0": "SiLU",
    "SoftplusBackward0": "softplus",
    "TanhBackward0": "tanh",
    "HardtanhBackward0": "hard tanh",
}
"""Nonlinearities for which the rules of guided backpropagation and the deconvnet are not defined."""


class Rules(TorchFunctionMode):
    """Applies a rule to the rectifiers of passes that run inside `with rules:`.

    Example:
        with Rules("guided") as rules:
            value = network(images).sum()
        rules.watch(value)
        (maps,) = torch.autograd.grad(value, images)

    Args:
        rule: see the head of this file; may be changed between two backward passes over one graph.
        extend: apply the rule at nonlinearities that are no rectifiers as well: the signal that arrives is clamped at
            0, then goes on by their own derivative (guided) or as it is (deconvnet).
    """

    def __init__(self, rule: Rule = "gradient", extend: bool = False):
        super().__init__()
        if rule not in get_args(Rule):
            raise UserError(f"no backward rule {rule!r}; there are {listing(get_args(Rule))}")
        self.rule, self.extend = rule, extend

    def watch(self, *results: Tensor) -> dict[str, int]:
        """Put the rule on everything that some results were made by.

        Args:
            results: of a pass, with their graph.

        Returns:
            how many rectifiers, and nonlinearities without a rule, there are by name: {"ReLU": 7, "GELU": 2}.

        Raises:
            UserError: the rule has no meaning for one of them, and it is not to be extended.
        """
        found: Counter = Counter()
        for node in nodes(*results):
            name = rectifier(node)
            smooth = None if name else SMOOTH.get(node.name())
            if name is None and smooth is None:
                continue
            found[name or smooth] += 1
            if name or self.extend:
                node.register_prehook(self._before)
                node.register_hook(self._after)
            elif self.rule in ("guided", "deconvnet"):
                raise UserError(
                    f"rule={self.rule} is defined for rectifiers (ReLU, ReLU6), and the network has {smooth}; "
                    f"rule=gradient, or extend=true, which clamps the signal there too"
                )
        return dict(found)

    def _before(self, arriving: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self.rule != "guided":
            return None
        return tuple(None if signal is None else signal.clamp(min=0) for signal in arriving)

    def _after(self, leaving: tuple[Tensor | None, ...], arriving: tuple[Tensor, ...]) -> tuple | None:
        if self.rule not in ("deconvnet", "redirected") or arriving[0] is None:
            return None
        positive = arriving[0].clamp(min=0)
        if self.rule == "deconvnet":
            return tuple(None if signal is None else positive for signal in leaving)
        return tuple(None if signal is None else _redirected(signal, positive) for signal in leaving)

    def __torch_function__(self, function: Callable, types: Any, arguments: tuple = (), keywords: dict | None = None):
        given = (*arguments, *(keywords or {}).values())
        name = getattr(function, "__name__", "").strip("_")
        name = name if name in WRITTEN else name[1:]  # imul, rmul
        by_hand = name in WRITTEN and len(given) > 1 and WRITTEN[name](*given)  # before it writes into what it is given
        result = function(*arguments, **(keywords or {}))
        if by_hand:
            made = arguments[0] if result is None else result
            made.grad_fn.metadata[BY_HAND] = True
        return result


def _redirected(signal: Tensor, positive: Tensor) -> Tensor:
    """Give each image its signal, or the positive part of what arrived where nothing is left of it."""
    silent = signal.flatten(1).abs().amax(1) == 0
    return torch.where(silent.view(-1, *[1] * (signal.dim() - 1)), positive, signal)


def nodes(*results: Tensor) -> list[Any]:
    """Return every node of the graphs that made some tensors, each once."""
    seen: dict[Any, None] = {}
    waiting = [result.grad_fn for result in results if result.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen[node] = None
            waiting += [before for before, _ in node.next_functions if before is not None]
    return list(seen)


def rectifier(node: Any) -> str | None:
    """Return what a node of the graph is called if it is a rectifier: ReLU, ReLU6 (any clamp from 0 up), else None."""
    name = node.name()
    if name == "ReluBackward0" or node.metadata.get(BY_HAND):
        return "ReLU"
    if name == "HardtanhBackward0":
        return _clamp(node._saved_min_val, node._saved_max_val)
    if name == "ClampBackward1":
        return _clamp(node._saved_min, node._saved_max)
    if name == "ClampMinBackward0":
        return _clamp(node._saved_min, None)
    if name == "ThresholdBackward0":
        return _clamp(node._saved_threshold, None)
    if name == "LeakyReluBackward0":
        return _clamp(node._saved_negative_slope, None)
    if name in ("ClampBackward0", "ClampMinBackward1"):
        upper = node._saved_max if name == "ClampBackward0" else None
        return "ReLU" if upper is None and _zero(node._saved_min) else None
    if name in ("MaximumBackward0", "FmaxBackward0"):
        constant = [place for place, (before, _) in enumerate(node.next_functions) if before is None]
        return "ReLU" if constant and _zero((node._saved_self, node._saved_other)[constant[0]]) else None
    return None


def _clamp(low: float | None, high: float | None) -> str | None:
    if low != 0:
        return None
    return "ReLU" if high is None or math.isinf(high) else "ReLU6"


def _zero(constant: Tensor | None) -> bool:
    return constant is not None and not bool(constant.any())


# ---- rectifiers written by hand: products with, and choices by, the sign of a tensor ---------------------------------


def _is_mask_of(mask: Any, values: Any) -> bool:
    """Say whether a tensor of 0 and 1 says where `values` are positive."""
    if not isinstance(mask, Tensor) or not isinstance(values, Tensor) or mask.shape != values.shape:
        return False
    if mask.requires_grad or not values.requires_grad:
        return False
    mask = mask.detach()
    return any(bool((mask == positive).all()) for positive in (values.detach() > 0, values.detach() >= 0))


def _is_zero(value: Any) -> bool:
    return value == 0 if isinstance(value, (int, float)) else isinstance(value, Tensor) and _zero(value)


def _product(one: Any, other: Any, *_: Any) -> bool:
    return _is_mask_of(other, one) or _is_mask_of(one, other)


def _choice(condition: Any, one: Any, other: Any = None, *_: Any) -> bool:
    if isinstance(one, Tensor) and one.dtype == torch.bool:  # values.where(condition, other)
        condition, one = one, condition
    return _is_zero(other) and _is_mask_of(condition, one)


def _filled(values: Any, mask: Any, filling: Any = None, *_: Any) -> bool:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        return False
    return _is_zero(filling) and _is_mask_of(~mask, values)


WRITTEN = {"mul": _product, "multiply": _product, "where": _choice, "masked_fill": _filled, "setitem": _filled}
