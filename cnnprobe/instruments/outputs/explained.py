"""Explained share of courses (R²): 1 - sum of (y - ŷ)² / sum of (y - mean of its channel)², from sums over images."""

import numpy as np
import torch
from torch import Tensor

COUNT, SUM, SQUARES, ERRORS = range(4)
"""What is summed: values, y, y², (y - ŷ)²."""


def sums_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (image, channel, 4) float64 sums over the time of each course; those of several images may be added.

    Args:
        outputs, targets: (image, channel, time).
    """
    outputs, targets = outputs.double(), targets.double()
    parts = torch.ones_like(targets), targets, targets.square(), (targets - outputs).square()
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def explained_by_channel(sums: np.ndarray) -> np.ndarray:
    """Return (…, channel) explained shares from (…, channel, 4) sums; NaN for a channel that is constant."""
    spread = _spread(sums)
    return 1 - np.divide(sums[..., ERRORS], spread, out=np.full(spread.shape, np.nan), where=spread > 0)


def explained(sums: np.ndarray) -> float:
    """Return the explained share of all channels together from (channel, 4) sums; NaN where all are constant."""
    return float(explained_together(sums))


def explained_together(sums: np.ndarray) -> np.ndarray:
    """Return (…) explained shares of all channels together from (…, channel, 4) sums; NaN where all are constant."""
    spread = _spread(sums).sum(-1)
    return 1 - np.divide(sums[..., ERRORS].sum(-1), spread, out=np.full(spread.shape, np.nan), where=spread > 0)


def _spread(sums: np.ndarray) -> np.ndarray:
    """Return the sums of squared differences from the mean; 0 where they are within what rounding leaves."""
    count = np.maximum(sums[..., COUNT], 1)
    spread = sums[..., SQUARES] - sums[..., SUM] ** 2 / count
    return np.where(spread > 1e-12 * sums[..., SQUARES], spread, 0.0)
