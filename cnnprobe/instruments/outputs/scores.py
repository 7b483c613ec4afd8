"""Scores that a network's own softmax or sigmoid is made from, and where on the way to its output they are.

What is returned may be clamped behind that (softmax(1).clamp(0.001, 0.999)), scaled (divided by a sum and a little) or
shifted (a little added before a logarithm). Its probabilities are those of the scores, which are found all the same:
values that are not at either end are `scale * probability + shift`, those at an end have a probability beyond it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import before_output
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.layer import Layer

Kind = Literal["softmax", "log-softmax", "sigmoid"]
AGREE = 1e-5
"""Largest difference of probabilities that are the same."""
LEAST, LEAST_COARSE = 1e-30, 1e-5
"""Probabilities above these are compared as shares of themselves; below, numbers of 32 and 16 bits have few digits."""
END = 1e-6
"""How far a value may be from the largest or smallest one to be at that end."""
PILE = 3
"""Values at one end, or between the ends, from which on they say something."""
SCALES = 0.8, 1.25
"""Between these probabilities may be scaled: of a softmax of probabilities it would be their number and more."""


@dataclass(frozen=True)
class Scores:
    """Scores on the way.

    Args:
        layer: where they are read.
        kind: what is made from them.
        altered: whether that is clamped, scaled or shifted before it is returned.
    """

    layer: Layer
    kind: Kind
    altered: bool


def scores_before(
    model: nn.Module, size: tuple[int, ...], kind: Kind, images: list[Tensor], table: Tensor, near: int
) -> Scores | None:
    """Return the first scores on the way whose softmax (sigmoid, …) is returned, altered or not; None: there are none.

    Args:
        model: any network; it is given back as it was.
        size: of the images.
        kind: what the outputs look like; others are tried.
        images: that were shown, each (1, …).
        table: (image, output) of them.
        near: how many of them are no stronger than images are; the others may overflow on the way.
    """
    try:
        candidates = before_output(model, size, table.shape[1])
        passes = [activations(model, candidates, image) for image in images] if candidates else []
    except UserError:
        return None
    for layer in candidates:
        values = torch.cat([one[layer.name].reshape(1, -1) for one in passes]).float()
        found = _match(values, table, kind, near) if values.shape == table.shape else None
        if found is not None:
            return Scores(layer, *found)
    return None


def is_coarse(values: Tensor) -> bool:
    """Say whether values are of 16 bits, or made from such."""
    return any(torch.equal(values.to(coarse).to(values.dtype), values) for coarse in (torch.float16, torch.bfloat16))


def is_piled(table: Tensor) -> bool:
    """Say whether values lie at both their ends, which are not 0 and 1: they are clamped."""
    low, high = _ends(table)
    return bool(low.any()) and bool(high.any())


def _match(values: Tensor, table: Tensor, kind: Kind, near: int) -> tuple[Kind, bool] | None:
    """Say what is made from scores (image, output) where it is what was returned."""
    links = {"softmax": lambda v: v.softmax(1), "log-softmax": lambda v: v.log_softmax(1), "sigmoid": torch.sigmoid}
    coarse = is_coarse(table)
    exact = torch.allclose(links[kind](values[:near]), table[:near], atol=AGREE)
    exact &= kind == "log-softmax" or _same_shares(links[kind](values[:near]), table[:near], coarse)
    finite = values.isfinite().all(1) & table.isfinite().all(1)
    values, shares = values[finite], (table.exp() if kind == "log-softmax" else table)[finite]
    others: tuple[Kind, ...] = ("softmax", "sigmoid") if kind == "sigmoid" else (kind,)
    for other in (kind,) if exact else others:
        made = links["sigmoid" if other == "sigmoid" else "softmax"](values)
        if torch.allclose(made, shares, rtol=0, atol=AGREE) and _same_shares(made, shares, coarse):
            return other, False
        if _is_altered(made, shares):
            return other, True
    return (kind, False) if exact else None


def _same_shares(made: Tensor, shares: Tensor, coarse: bool) -> bool:
    """Say whether probabilities are the same as shares of themselves: all that are near 0 are otherwise alike."""
    large = shares > (LEAST_COARSE if coarse else LEAST)
    return torch.allclose(made[large], shares[large], rtol=0.1 if coarse else 1e-3, atol=0)


def _is_altered(made: Tensor, shares: Tensor) -> bool:
    """Say whether values are probabilities that are clamped, scaled or shifted."""
    low, high = _ends(shares)
    inner = ~(low | high)
    if int(inner.sum()) < PILE:
        return False
    own = made[inner].double()
    equations = torch.stack([own, torch.ones_like(own)], 1)
    scale, shift = torch.linalg.lstsq(equations.cpu(), shares[inner].double().cpu()[:, None]).solution[:, 0].tolist()
    if not SCALES[0] <= scale <= SCALES[1]:
        return False
    expected = (scale * made + shift).clamp(
        float(shares.min()) if bool(low.any()) else None, float(shares.max()) if bool(high.any()) else None
    ) if bool((low | high).any()) else scale * made + shift  # fmt: skip
    return torch.allclose(expected, shares, rtol=0, atol=AGREE)


def _ends(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return which values lie together at the lower end, and at the upper, of ends that are not 0 and 1."""
    shares = torch.where(shares.isfinite(), shares, 0.5)
    low, high = shares < shares.min() + END, shares > shares.max() - END
    none = torch.zeros_like(low)
    low = low if int(low.sum()) >= PILE and float(shares.min()) > END else none
    return low, high if int(high.sum()) >= PILE - 1 and float(shares.max()) < 1 - END else none
