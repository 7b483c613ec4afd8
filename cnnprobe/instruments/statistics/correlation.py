"""Correlations over trials of many perturbations with many responses, also given the others, and their chance level."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor


def correlation(perturbation: Tensor, response: Tensor) -> Tensor:
    """Return Pearson's correlation over trials of every perturbation with every response.

    Args:
        perturbation: (trial, cell) float64.
        response: (trial, unit) float64; NaN: that trial does not count for that unit.

    Returns:
        (cell, unit); NaN where either does not vary, or fewer than three trials count.
    """
    known = torch.isfinite(response)
    if bool(known.all()):
        return standard(perturbation).mT @ standard(response) / len(response)
    weight = known.double()
    count = weight.sum(0)
    filled = torch.where(known, response, 0.0)
    filled = torch.where(known, filled - filled.sum(0) / count.clamp(min=1), 0.0)
    centred = perturbation - perturbation.mean(0)
    first, second = centred.mT @ weight / count, centred.square().mT @ weight / count
    spread = ((second - first.square()).clamp(min=0) * (filled.square().sum(0) / count)).sqrt()
    found = centred.mT @ filled / count / spread
    return torch.where((count >= 3) & (spread > 0), found, torch.nan)


def standard(values: Tensor) -> Tensor:
    """Return columns of mean 0 and standard deviation 1, (trial, column); NaN where one does not vary."""
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return centred / torch.where(deviation > 0, deviation, torch.nan)


def over_draws(perturbation: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over draws of the correlations of each, and its standard error (NaN for one draw).

    Args:
        perturbation: (draw, trial, cell) float64.
        response: (draw, trial, unit) float64.

    Returns:
        (cell, unit) and (cell, unit).
    """
    each = torch.stack([correlation(*pair) for pair in zip(perturbation, response)])
    error = each.std(0) / len(each) ** 0.5 if len(each) > 1 else torch.full_like(each[0], torch.nan)
    return each.mean(0), error


def partial(perturbation: Tensor, found: Tensor) -> Tensor:
    """Return the partial correlations given all other perturbations, over the trials of all draws together.

    From the correlations r of the perturbations with a response and C among the perturbations: with b = C^-1 r, the
    partial correlation of cell j is b_j / sqrt(b_j^2 + (C^-1)_jj (1 - r'b)), which is t / sqrt(t^2 + df) of multiple
    regression.

    Args:
        perturbation: (draw, trial, cell) float64.
        found: (cell, unit) mean correlation, see `over_draws`.

    Returns:
        (cell, unit); NaN where there are not more trials than cells, and where `found` is.
    """
    known = torch.isfinite(found).any(1)
    answer = torch.full_like(found, torch.nan)
    columns = torch.cat([standard(one[:, known]) for one in perturbation])
    if not bool(known.any()) or len(columns) <= int(known.sum()) + 2 or not bool(torch.isfinite(columns).all()):
        return answer
    among = columns.mT @ columns / len(columns)
    factor, failed = torch.linalg.cholesky_ex(among)
    if int(failed):
        return answer
    inverse = torch.cholesky_inverse(factor)
    slopes = inverse @ found[known]
    rest = (1 - (found[known] * slopes).sum(0)).clamp(min=0)
    answer[known] = slopes / (slopes.square() + torch.diagonal(inverse)[:, None] * rest).sqrt()
    return answer


def chance(perturbation: Tensor, response: Tensor, orders: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Give the mean correlations over draws when the responses are given to other trials, once for each order.

    Args:
        perturbation: (draw, trial, cell) float64.
        response: (draw, trial, unit) float64.
        orders: (trial,) which trial's response each trial gets, the same in all draws.

    Yields:
        (cell, unit).
    """
    if not bool(torch.isfinite(response).all()):
        for order in orders:
            moved = response[:, torch.from_numpy(order)]
            yield torch.stack([correlation(*pair) for pair in zip(perturbation, moved)]).mean(0)
        return
    first = torch.cat([standard(one) for one in perturbation]).float().mT.contiguous()
    second = torch.stack([standard(one) for one in response]).float()
    for order in orders:
        yield first @ second[:, torch.from_numpy(order)].flatten(0, 1) / first.shape[1]


def orders(trials: int, permutations: int, seed: int) -> list[np.ndarray]:
    """Return permutations of the trials, each a function of the seed and its own number."""
    return [np.random.Generator(np.random.Philox(key=seed, counter=k << 128)).permutation(trials)
            for k in range(permutations)]  # fmt: skip
