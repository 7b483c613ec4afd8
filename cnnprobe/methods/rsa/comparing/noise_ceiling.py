"""Noise ceiling: how similar a model's dissimilarity matrix can be to those of noisy subjects (Nili et al. 2014)."""

import numpy as np

from cnnprobe.instruments.statistics.dissimilarity import single
from cnnprobe.methods.rsa.comparing.comparison import Comparison, compare


def noise_ceiling(subjects: np.ndarray, comparison: Comparison) -> tuple[float, float]:
    """Return the range in which the comparison of the true model with the subjects lies, on average.

    Upper end: mean over subjects of the comparison with all of them pooled, itself included: no model can be better.
    Lower end: the same with the others pooled. Subjects are pooled as the measure sees them: mean of ranks for
    spearman, kendall and rho-a, of standardised values for pearson, of values of length 1 for cosine.

    A subject that lacks pairs is compared, and pooled, over those that it has, as it is with a model.

    Args:
        subjects: (subject, pair), NaN where one has no value.
        comparison: which.

    Returns:
        lower and upper end; NaN for a single subject, or where one has no pairs with the others in common.
    """
    if len(subjects) < 2:
        return np.nan, np.nan
    known = np.isfinite(subjects)
    seen = np.where(known, as_seen(subjects, comparison), 0.0)
    total, count = seen.sum(0), known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # pairs that nobody has, or nobody else
        upper = compare(subjects, (total / count)[None], comparison)[:, 0]
        others = (total - seen) / np.where(count > known, count - known, np.nan)
    lower = [compare(own[None], rest[None], comparison)[0, 0] for own, rest in zip(subjects, others)]
    ends = float(np.mean(lower)), float(np.mean(upper))
    return ends if np.isfinite(ends).all() else (np.nan, np.nan)


def as_seen(values: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Return matrices (subject, pair) in the form whose mean is the pooled one, NaN where they are.

    The mean is the best single matrix for the subjects: the upper end cannot be passed (with kendall: hardly). Forms of
    subjects with fewer pairs are on the same scale: of mean square 1, or ranks stretched to those of
    the most pairs (and left as they are where nothing is missing, so that equal means stay equal).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if comparison == "cosine":
            return values / np.sqrt(np.nanmean(values**2, 1, keepdims=True))
        if comparison == "pearson":
            return (values - np.nanmean(values, 1, keepdims=True)) / np.nanstd(values, 1, keepdims=True)
    from scipy.stats import rankdata

    ranks = rankdata(single(values), axis=1, nan_policy="omit")
    count = np.isfinite(values).sum(1, keepdims=True)
    return (ranks - (count + 1) / 2) * (count.max() / np.maximum(count, 1))
