"""Gradients of the logits of several classes in one backward pass, and the maps that are weighed by them."""

import torch
from torch import Tensor

from cnnprobe.instruments.network.replay import without_fallback_warnings

ROUNDING = 1e-5
"""Mean gradient, as a share of the mean |gradient|, that is rounding: a softmax over positions has none at its map."""


def weighed(kind: str, gradients: Tensor, activation: Tensor) -> Tensor:
    """Return maps (n, k, y, x) from gradients (k, n, channel, y, x) and the activation (n, channel, y, x)."""
    if kind == "layercam":
        return torch.einsum("kncyx,ncyx->nkyx", gradients.clamp(min=0), activation)
    if kind == "cam":
        return torch.einsum("knc,ncyx->nkyx", gradients.sum((-2, -1)), activation)
    weights, sizes = gradients.mean((-2, -1)), gradients.abs().mean((-2, -1))
    nothing = (weights.abs() <= ROUNDING * sizes).all(-1, keepdim=True)  # no unit's mean is more than rounding
    weights = weights.masked_fill(nothing, 0)
    return torch.einsum("knc,ncyx->nkyx", weights, activation)


def per_class(rows: Tensor, leaf: Tensor, again: bool = False) -> Tensor:
    """Return the gradients (k, *leaf) of the columns of rows (n, k), in one backward pass where torch can batch it.

    Args:
        again: keep the graph.
    """
    total, count = rows.sum(0), rows.shape[1]
    if count == 1:
        return to_leaf(total, leaf, again)[None]
    try:
        start = torch.eye(count, dtype=rows.dtype, device=rows.device)
        with without_fallback_warnings():
            return torch.autograd.grad(total, leaf, start, retain_graph=True, is_grads_batched=True)[0]
    except (RuntimeError, NotImplementedError) as error:
        if "batching rule" not in str(error) and "vmap" not in str(error):
            raise
    return torch.stack([to_leaf(total[place], leaf, again or place + 1 < count) for place in range(count)])


def to_leaf(values: Tensor, leaf: Tensor, again: bool) -> Tensor:
    """Return the gradient of the sum of some values; `again`: keep the graph."""
    return torch.autograd.grad(values.sum(), leaf, retain_graph=again)[0]
