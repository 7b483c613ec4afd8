"""Ranking of responses that were recorded before: a full sort, and the area criterion from stored maps."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from cnnprobe.instruments.ranking.areas import Largest
from cnnprobe.instruments.ranking.top_k import Ranked


def ranked(
    responses: np.ndarray, places: np.ndarray, map_size: tuple[int, ...], k: int, dead: np.ndarray, least: bool = False
) -> Ranked:
    """Sort images by response, of equal ones the smaller index first.

    Args:
        responses: (image, unit); an image that is not finite ranks nowhere.
        places: (image, unit) flat index of the maximum on the map.
        map_size: of the map.
        k: images per unit; what is missing is -1 and NaN.
        dead: (unit,) bool; these get no images.
        least: the smallest responses first.
    """
    valid = np.flatnonzero(np.isfinite(responses).all(1))
    signed = responses[valid] if least else -responses[valid]
    order = np.argsort(signed, axis=0, kind="stable")[:k]  # (k, unit); stable keeps the smaller index first
    images = np.full((responses.shape[1], k), -1)
    images[:, : len(order)] = valid[order].T
    images[dead] = -1
    units = np.arange(len(images))[:, None]
    none = images < 0
    values = np.where(none, np.nan, responses[images, units]).astype(np.float32)
    spots = (
        np.stack(np.unravel_index(places[images, units], map_size), -1) if map_size else np.zeros((*images.shape, 0))
    )
    return Ranked(images, values, np.where(none[:, :, None], -1, spots).astype(np.int64))


def dead_units(largest: np.ndarray) -> np.ndarray:
    """Say which units no image drives, from the maxima (image, unit): all equal, and 0 or less."""
    finite = largest[np.isfinite(largest).all(1)]
    return (finite.max(0, initial=-np.inf) <= 0) & (finite.max(0, initial=-np.inf) == finite.min(0, initial=np.inf))


def areas(
    batches: Callable[[], Iterable[np.ndarray]], images: int, positions: int, quantile: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each map above its unit's threshold, and the thresholds.

    Args:
        batches: gives the maps (image, unit, …) from the first image on; NaN rows for images that were not seen.
        images: how many.
        positions: of a map.
        quantile: the threshold is this quantile of all positions of all images.

    Returns:
        (image, unit) share, NaN where not seen; (unit,) threshold.
    """
    start = 0
    largest: Largest | None = None
    for maps in batches():
        flat = torch.from_numpy(maps).float().flatten(2)
        largest = largest or Largest(flat.shape[1], images, positions, quantile)
        largest.add(flat, np.arange(start, start := start + len(flat)), flat.isfinite().all(2).all(1).numpy())
    assert largest is not None  # nobody ranks no images
    return largest.result()
