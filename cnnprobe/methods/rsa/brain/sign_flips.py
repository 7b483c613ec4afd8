"""Tests of whether maps of several subjects are above zero: sign flips, and the largest value of each flipped group.

Nichols and Holmes 2002. Under the null hypothesis a subject's map is as likely as its negative; the largest statistic
anywhere in a flipped group bounds what chance gives at any voxel of any layer, so p values hold for all of them
together.
"""

import numpy as np
import torch

from cnnprobe.errors import UserError

TOGETHER = 2**24
"""Numbers of flipped groups that are held at once."""


def sign_flips(maps: np.ndarray, *, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Test the mean of maps over subjects against zero, one-sided.

    The statistic is the mean over its standard error. The variance behind that is half the variance of the place,
    which grows where a strong effect is flipped, so that it does not hide weaker ones elsewhere, and half the mean
    variance of all places, so that it is not small by chance where subjects are few. Where there are no more flips than
    draws, each is done once; else they are drawn, and the maps as they are count as one more.

    Args:
        maps: (subject, layer, x, y, z), correlations are best given as Fisher's z; NaN: not measured. A place counts
            where every subject has a value.
        draws: flips at most.
        seed: of the flips.

    Returns:
        mean (layer, x, y, z); p of the same shape, corrected for all places and layers; and how many flips there were,
        that of no subject included. NaN where a subject has no value.

    Raises:
        UserError: there is one subject.
    """
    subjects = len(maps)
    if subjects < 2:
        raise UserError("a test over subjects needs the volumes of 2 or more, got those of 1")
    flat = torch.from_numpy(maps.reshape(subjects, -1))
    places = torch.isfinite(flat).all(0).nonzero()[:, 0]
    values = flat[:, places].double()
    squares = values.square().mean(0)

    def statistic(means: torch.Tensor) -> torch.Tensor:
        variance = (squares - means.square()).clamp(min=0) * subjects / (subjects - 1)
        pooled = (variance + variance.mean(-1, keepdim=True)) / 2
        return means / (pooled / subjects).clamp(min=1e-300).sqrt()

    mean = values.mean(0)
    own = statistic(mean)
    whole = 2**subjects <= draws
    signs = every_flip(subjects) if whole else drawn_flips(subjects, draws, seed)
    largest = torch.full((len(signs),), -torch.inf, dtype=torch.float64)
    step = max(1, TOGETHER // max(1, len(places)))
    for start in range(0, len(signs) if len(places) else 0, step):
        some = slice(start, start + step)
        largest[some] = statistic(signs[some] @ values / subjects).amax(1)
    ordered = largest.sort().values
    # a flip that gives the same but for rounding counts as the same
    beaten = torch.searchsorted(ordered, own - 1e-9 * own.abs())
    count = len(signs) - beaten
    p = (count / len(signs)) if whole else (count + 1) / (len(signs) + 1)
    found = torch.full((2, flat.shape[1]), torch.nan, dtype=torch.float64)
    found[0, places], found[1, places] = mean, p.double()
    found_mean, corrected = found.reshape(2, *maps.shape[1:]).numpy()
    return found_mean, corrected, len(signs) + (not whole)


def every_flip(subjects: int) -> torch.Tensor:
    """Return all patterns of signs, (flip, subject), first the one that flips nobody."""
    bits = np.arange(2**subjects)[:, None] >> np.arange(subjects) & 1
    return torch.from_numpy(1.0 - 2.0 * bits)


def drawn_flips(subjects: int, draws: int, seed: int) -> torch.Tensor:
    """Return patterns of signs drawn at random, (flip, subject)."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (draws, subjects)) * 2.0 - 1.0)
