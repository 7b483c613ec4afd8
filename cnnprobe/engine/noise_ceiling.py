"""How alike a model's dissimilarity matrix can be to those of noisy subjects (Nili et al. 2014)."""

import numpy as np

from cnnprobe.engine.matrix_comparison import Comparison, compare


def noise_ceiling(subjects: np.ndarray, comparison: Comparison) -> tuple[float, float]:
    """Return the range in which the comparison of the true model with the subjects lies, on average.

    Upper end: mean over subjects of the comparison with all of them pooled, itself included: no model can be better.
    Lower end: the same with the others pooled. Subjects are pooled as the measure sees them: mean of ranks for
    spearman, kendall and rho-a, of standardised values for pearson, of values of length 1 for cosine.

    Args:
        subjects: (subject, pair); pairs that are NaN in any of them are left out.
        comparison: which.

    Returns:
        lower and upper end; NaN for a single subject.
    """
    if len(subjects) < 2:
        return np.nan, np.nan
    known = subjects[:, np.isfinite(subjects).all(0)]
    if not known.shape[1]:
        return np.nan, np.nan
    seen = as_seen(known, comparison)
    every = seen.sum(0)
    upper = compare(known, every[None], comparison)[:, 0]
    lower = [compare(known[[one]], (every - seen[one])[None], comparison)[0, 0] for one in range(len(known))]
    return float(np.mean(lower)), float(np.mean(upper))


def as_seen(values: np.ndarray, comparison: Comparison) -> np.ndarray:
    """Return matrices (subject, pair) in the form whose mean is the pooled one.

    The mean is the best single matrix for the subjects: the upper end cannot be passed (with kendall: hardly).
    """
    if comparison == "cosine":
        return values / np.linalg.norm(values, axis=1, keepdims=True)
    if comparison == "pearson":
        return (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    from scipy.stats import rankdata

    return rankdata(values, axis=1)
