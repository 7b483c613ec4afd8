"""Peak latencies: when a brain's responses are most similar to each layer, and whether deeper layers peak later.

Cichy, Khosla, Pantazis, Torralba and Oliva 2016, Scientific Reports 6:27755.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.methods.rsa.comparing.uncertainty import resampled_interval

FEWEST = 3
"""Layers without which there is no order of latencies."""


@dataclass(frozen=True)
class Latencies:
    """When each layer's curve peaks.

    Args:
        latency: (layer,) in the unit of the times; NaN for a curve without values.
        low, high: (layer,) ends of the 95 % interval over the draws; NaN where none was drawn.
        peak: (layer,) similarity there.
        order: Spearman's correlation of latency and depth; NaN for fewer than three layers or equal latencies.
        order_low, order_high: ends of its 95 % interval over the draws.
    """

    latency: np.ndarray
    low: np.ndarray
    high: np.ndarray
    peak: np.ndarray
    order: float
    order_low: float
    order_high: float


def latencies(
    curves: np.ndarray, drawn: np.ndarray, times: np.ndarray, sample: int, ordered: np.ndarray | None = None
) -> Latencies:
    """Find the peaks of curves, and how sure they are.

    Args:
        curves: (layer, time) similarity; NaN where it is not known.
        drawn: (draw, layer) `peak_times` of the curves after subjects or conditions were drawn again; (0, layer): none.
        times: (time,), any unit.
        sample: how many subjects or conditions were drawn.
        ordered: (layer,) bool, the layers that are in order of depth; None: all.
    """
    own = np.ones(len(curves), bool) if ordered is None else ordered
    found = peak_times(curves, times)
    correlation, orders = order(found[own]), np.array([order(one[own]) for one in drawn])
    low, high = resampled_interval(found, drawn, sample, np.min(times), np.max(times))
    ends = resampled_interval(np.array(correlation), orders, sample, -1, 1)
    peak = np.max(np.where(np.isfinite(curves), curves, -np.inf), -1, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, np.nan)
    return Latencies(found, low, high, peak, correlation, float(ends[0]), float(ends[1]))


def peak_times(curves: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the time of the largest value of (…, time), the first of equal ones; NaN where there is none."""
    known = np.isfinite(curves)
    at = np.where(known, curves, -np.inf).argmax(-1)
    return np.where(known.any(-1), np.asarray(times, float)[at], np.nan)


def order(latency: np.ndarray) -> float:
    """Return Spearman's correlation of the latencies (layer,) with depth; NaN where it is not defined."""
    from scipy.stats import rankdata

    known = np.isfinite(latency)
    if known.sum() < FEWEST or np.ptp(latency[known]) == 0:
        return np.nan
    return float(np.corrcoef(rankdata(latency[known]), np.arange(known.sum()))[0, 1])
