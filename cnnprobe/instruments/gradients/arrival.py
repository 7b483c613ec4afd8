"""A check that a gradient arrives: autograd's derivative beside finite differences, before maps are made of it.

A forward pass may cut its graph (torch.no_grad, torch.inference_mode, detach, .data, NumPy), step (sign, round, argmax)
or hand back what is no derivative (straight-through estimators): autograd then gives 0, or another number, and no word.
The derivative of random sums over a layer, in random directions, is compared with differences.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.findings import kept
from cnnprobe.instruments.network.layer import Layer
from cnnprobe.instruments.network.tracing import leaves, noise_image
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.machine import chance
from cnnprobe.machine.memory import is_short

LOG = logging.getLogger("cnnprobe")
AGREE = 0.1
"""Largest difference between autograd and finite differences that passes for kinks and rounding, as a share."""
ROUGH = 0.25
"""The same where finite differences with two steps differ from each other nearly as much, see `STEADY`."""
STEADY = 3.0
"""How many times more they must differ from autograd than from each other to be believed below `ROUGH`."""
STEPS = ((2**-7, False), (2**-7, True), (2**-9, True), (2**-11, True), (2**-4, True))
"""Of finite differences, as a share of each value, and whether to both sides; the one that agrees best counts."""
FINER = ((2**-11, True), (2**-13, True), (2**-15, True), (2**-5, True))
"""Tried below `ROUGH`, or where the difference falls with the step; else they would step between jumps."""
DIRECTIONS = 5
TRIED = 128
"""Units at most of which it is found out one by one whether their own gradient arrives."""
CUTS = (
    "torch.no_grad, detach, .data, NumPy, the inside of an autograd.Function or a step such as sign, round or argmax "
    "in its forward"
)
Answer = Callable[[Tensor], Tensor]
"""From a point (1, …) to activations (1, unit, *map)."""


@dataclass(frozen=True)
class Arrival:
    """What became of a gradient.

    Args:
        cut: units that change with the point and have no gradient there.
        all_cut: whether these are all units that change.
        gap: difference between autograd and finite differences, r.m.s., as a share of the larger; NaN: not known.
        problem: why the derivative cannot be taken at all, "" where it can.
    """

    cut: tuple[int, ...] = ()
    all_cut: bool = False
    gap: float = math.nan
    problem: str = ""


def must_arrive(model: nn.Module, layer: Layer, size: tuple[int, ...], units: Iterable[int] | None = None) -> None:
    """Refuse to make maps of gradients that do not arrive; warn of those that are no derivatives.

    Args:
        model: any network; it is given back as it was.
        layer: where the gradient starts.
        size: (channel, y, x) or (channel, time) of the images, where it has to arrive.
        units: that are requested; None: all.

    Raises:
        UserError: no gradient arrives from any unit, or not from some that are requested; or the network cannot be
            differentiated.
    """
    found, place = _known(model, layer, size)
    if found.problem:
        raise UserError(f"the gradient of {layer.name} cannot be taken: {found.problem}")
    if found.all_cut:
        raise UserError(
            f"no gradient gets from {layer.name} back to the image: the network cuts it{place} ({CUTS}); "
            f"maps would be 0 everywhere"
        )
    lost = found.cut if units is None else sorted(set(found.cut) & set(map(int, units)))
    if lost:
        raise UserError(
            f"no gradient gets from {len(lost)} of the units of {layer.name} back to the image ({CUTS}): "
            f"units {listing(map(str, lost))}; name others by units=…"
        )
    if found.gap > AGREE:
        LOG.warning(in_part(layer.name, "the image", found.gap))


def arrives(model: nn.Module, layer: Layer, size: tuple[int, ...], what: str) -> bool:
    """Say whether a gradient arrives at the image, where it is one result among others; warn where it does not.

    Args:
        model, layer, size: see `must_arrive`.
        what: would be made of it, for the warning.
    """
    found, place = _known(model, layer, size)
    if found.problem or found.all_cut:
        why = found.problem or f"no gradient gets back to the image: the network cuts it{place} ({CUTS})"
        LOG.warning(f"{layer.name}: {what} cannot be taken: {why}")
        return False
    if found.cut or found.gap > AGREE:
        LOG.warning(in_part(layer.name, "the image", found.gap))
    return True


def in_part(start: str, end: str, gap: float) -> str:
    """Say that a gradient is not the derivative."""
    return (
        f"the gradient from {start} to {end} is not the derivative: it differs from finite differences by "
        f"{100 * gap:.0f} % (in forward a branch is cut by torch.no_grad or detach, a function has "
        f"a derivative of its own, as a straight-through estimator, or jumps, as threshold or round)"
    )


def _known(model: nn.Module, layer: Layer, size: tuple[int, ...]) -> tuple[Arrival, str]:
    """Return what became of the gradient from a layer to the image, and where it ends; kept with the network."""
    key = "arrival", layer.tap, layer.channel_axis, tuple(size)
    return kept(model, key, lambda: _found_out(model, layer, size))


def _found_out(model: nn.Module, layer: Layer, size: tuple[int, ...]) -> tuple[Arrival, str]:
    values: list[Tensor] = []
    with tap(model, [layer], lambda _, activation: values.append(activation)) as run:

        def answer(image: Tensor) -> Tensor:
            values.clear()
            with chance.forked():
                chance.seed(0, None)
                run(image * 1)  # what is written to must not be a leaf
            return values.pop() * 1

        noise = noise_image(model, size)
        found = arrival(answer, [noise, 1 - 0.7 * noise.flip(-1), 0.3 * noise])
    return found, _end(model, noise) if found.all_cut else ""


def arrival(answer: Answer, points: Sequence[Tensor]) -> Arrival:
    """Compare autograd's derivative of a function with finite differences.

    Args:
        answer: the function; deterministic.
        points: where; looked at in this order until one has a gradient.
    """
    generator = torch.Generator().manual_seed(0)
    seen: list[tuple[Tensor, Tensor | None]] = []  # activation and gradient of a random sum of it, at each point
    with torch.inference_mode(False):
        for point in points:
            leaf = point.detach().clone().requires_grad_()
            try:
                with torch.enable_grad():
                    activation = answer(leaf)
                    weights = torch.randn(activation.shape, generator=generator).to(activation.device)
                    gradient = slope((activation * weights).sum(), leaf, again=True)
            except Exception as error:
                if is_short(error) or isinstance(error, UserError) or _fails(answer, point):
                    raise
                return Arrival(problem=_words(error))
            if not bool(activation.isfinite().all()):
                continue  # NaN and infinity have no derivative; whoever measures them warns
            seen.append((activation, gradient))
            if gradient is not None and bool(gradient.any()):
                coarse = activation.dtype in (torch.float16, torch.bfloat16) or _casts(activation)
                gap = math.nan if coarse else _gap(answer, point, activation.detach(), weights, gradient)
                cut = _units_cut(answer, points) if gap > AGREE else ()
                return Arrival(cut=cut, gap=gap)
    if not seen:
        return Arrival()
    first = seen[0][0]
    varies = any(not torch.equal(first, other) for other, _ in seen[1:])
    return Arrival(all_cut=varies)


def slope(values: Tensor, leaf: Tensor, again: bool = False) -> Tensor | None:
    """Return the gradient of the sum of some values, None where none arrives.

    Raises:
        UserError: the network writes into values that its gradient needs.
    """
    if not values.requires_grad:
        return None
    try:
        return torch.autograd.grad(values.sum(), leaf, retain_graph=again, allow_unused=True)[0]
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise UserError(
            "the network writes in place into values that its own gradient needs: torch cannot differentiate it; "
            "make the rectifier behind another one inplace=False"
        ) from error


def _gap(answer: Answer, point: Tensor, activation: Tensor, weights: Tensor, gradient: Tensor) -> float:
    """Return by how much autograd and finite differences differ, with the step at which they differ least.

    Never more than `AGREE` where that may be due to kinks and rounding.
    """
    generator, least = torch.Generator().manual_seed(1), math.inf
    directions = [torch.randn(point.shape, generator=generator).to(point) * point for _ in range(DIRECTIONS)]
    expected = torch.stack([(gradient.double() * one).sum() for one in directions])
    tried: list[Tensor] = []
    gaps: list[float] = []
    with torch.no_grad():
        steps, finer = [*STEPS], [*FINER]
        while steps:
            (step, central), found = steps.pop(0), []
            for one in directions:
                below = answer(point - step * one) if central else activation
                rise = answer(point + step * one).double() - below.double()
                found.append((rise * weights).sum() / (step * (1 + central)))
            tried.append(torch.stack(found))
            gap = _apart(tried[-1], expected)
            gaps.append(gap)
            if gap < least:
                least, best = gap, len(tried) - 1
            if least <= AGREE:
                return least
            falls = len(gaps) == len(STEPS) and 2 * gaps[3] < gaps[1]  # with the step, as of many kinks; not of jumps
            if least <= ROUGH or falls:
                steps, finer = finer + steps, []
    if not math.isfinite(least):
        return math.nan
    steady = min(_apart(tried[best], other) for other in (*tried[:best][-1:], *tried[best + 1 :][:1]))
    return AGREE if least <= min(ROUGH, STEADY * steady) else least


def _apart(numbers: Tensor, others: Tensor) -> float:
    """Return the difference of numbers as a share of the larger, r.m.s."""
    scale = float(torch.maximum(numbers.square().sum(), others.square().sum()).sqrt())
    return float((numbers - others).square().sum().sqrt()) / scale if scale > 0 else 0.0


def _units_cut(answer: Answer, points: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the units that differ between points and have no gradient at any of them."""
    activations: list[Tensor] = []
    reached: list[np.ndarray] = []
    for point in points:
        leaf = point.detach().clone().requires_grad_()
        with torch.enable_grad():
            activation = answer(leaf)
        activations.append(activation.detach())
        if activation.shape[1] > TRIED:
            return ()
        gradients = [slope(activation[:, unit], leaf, again=True) for unit in range(activation.shape[1])]
        reached.append(np.array([one is not None and bool(one.any()) for one in gradients]))
    first = activations[0].flatten(2) if activations[0].dim() > 2 else activations[0][..., None]
    varies = torch.zeros(first.shape[1], dtype=torch.bool, device=first.device)
    for other in activations[1:]:
        varies |= (other.reshape(first.shape) != first).any(2)[0]
    return tuple(np.flatnonzero(varies.cpu().numpy() & ~np.logical_or.reduce(reached)).tolist())


def _casts(activation: Tensor) -> bool:
    """Say whether numbers of another precision are on the way: differences of few digits say nothing."""
    seen, waiting = set(), [activation.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if node.name() == "ToCopyBackward0":
                return True
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return False


def _fails(answer: Answer, point: Tensor) -> bool:
    """Say whether a network fails without gradients as well."""
    try:
        with torch.no_grad():
            answer(point)
    except Exception:
        return True
    return False


def _words(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {' '.join(text.splitlines()[0].split())[:200]}" if text else type(error).__name__


def _end(model: nn.Module, image: Tensor) -> str:
    """Return where the graph ends, " in backbone", by the first module that gives it up; "" where all keep it."""
    paths = {id(module): path for path, module in model.named_modules() if path}
    places: list[str] = []

    def left(module: nn.Module, inputs: Any, output: Any) -> None:
        given, made = (
            [one.requires_grad for one in leaves(some, Tensor) if one.is_floating_point()] for some in (inputs, output)
        )
        if id(module) in paths and made:
            if given and not any(given):
                places.append(f" before {paths[id(module)]}")
            elif any(given) and not any(made):
                places.append(f" in {paths[id(module)]}")

    handle = register_module_forward_hook(left)
    try:
        with untouched(model), torch.inference_mode(False), torch.enable_grad():
            model(image.clone().requires_grad_() * 1)
    except Exception:
        return ""  # the layer was reached before it fails
    finally:
        handle.remove()
    return places[0] if places else ""
