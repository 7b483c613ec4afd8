"""Ridge regression from activations to the responses of many units at once, and how well it predicts what is held out.

With X (image, f) and y (image,), both less their means over images, and a penalty p:

    w(p) = (X'X + p I)^-1 X'y = X'(XX' + p I)^-1 y               the second form where f exceeds the images
    GCV(p) = n |y - Xw(p)|^2 / (n - d(p))^2,  d(p) = 1 + sum_k s_k^2 / (s_k^2 + p)

s_k are the singular values of X, d is the number of parameters in effect, the 1 is the mean's (Hoerl, Kennard 1970;
Golub, Heath, Wahba 1979). Each unit has the penalty with the smallest generalised cross-validation GCV. All in float64.
"""

from dataclasses import dataclass

import numpy as np

from cnnprobe.errors import UserError

PENALTIES = np.logspace(-9, 2, 45)
"""Tried for each unit, as shares of the largest s_k^2."""
FLAT = 1e-6
"""A unit whose standard deviation is below this share of its largest |response| counts as constant (float32 noise)."""


@dataclass(frozen=True)
class Mapping:
    """A linear readout: response = features @ weights + bias.

    Args:
        weights: (f, unit), 0 for a constant unit.
        bias: (unit,).
        penalty: (unit,) chosen, in units of squared features.
        r2: (unit,) share of the variance that is predicted in images held out; 0 is what the mean of the others
            predicts, NaN of a constant unit.
        constant: (unit,) bool, the unit answers all images alike and cannot be mapped.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: np.ndarray
    r2: np.ndarray
    constant: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return responses (image, unit) to features (image, f)."""
        return features @ self.weights + self.bias


def ridge(
    features: np.ndarray,
    responses: np.ndarray,
    *,
    penalties: np.ndarray = PENALTIES,
    folds: int = 5,
    seed: int = 0,
) -> Mapping:
    """Fit a readout of every unit, the penalty by generalised cross-validation, r2 over folds of held-out images.

    Args:
        features: (image, f).
        responses: (image, unit).
        penalties: to choose from, as shares of the largest squared singular value of the features.
        folds: parts of the images; each is predicted from all others, with a penalty chosen on those.
        seed: of the partition.

    Raises:
        UserError: fewer than two images per fold, features that are the same for all images, or numbers that are
            not finite.
    """
    features, responses = np.asarray(features, np.float64), np.asarray(responses, np.float64)
    images = len(features)
    if images < 2 * folds:
        raise UserError(f"a mapping over {folds} folds needs at least {2 * folds} readable images, got {images}")
    for name, values in (("activations", features), ("responses", responses)):
        if not np.isfinite(values).all():
            raise UserError(f"{name} are not finite for {np.count_nonzero(~np.isfinite(values).all(1))} images")
    if not _varying(features).any():
        raise UserError(f"all {features.shape[1]} features are the same for all {images} images: nothing to map from")
    constant = ~_varying(responses)
    weights, bias, penalty = _fit(features, responses, penalties)
    weights[:, constant], bias[constant] = 0, responses.mean(0)[constant]
    r2 = _held_out(features, responses, penalties, folds, seed)
    return Mapping(weights, bias, penalty, np.where(constant, np.nan, r2), constant)


def _varying(values: np.ndarray) -> np.ndarray:
    """Return which columns are not the same in all rows."""
    return values.std(0) > FLAT * np.abs(values).max(0)


def _fit(
    features: np.ndarray, responses: np.ndarray, penalties: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (f, unit), bias (unit,) and penalty (unit,)."""
    centre, level = features.mean(0), responses.mean(0)
    x, y = features - centre, responses - level
    dual = x.shape[1] > x.shape[0]
    squares, vectors = np.linalg.eigh(x @ x.T if dual else x.T @ x)
    kept = squares > squares[-1] * len(squares) * np.finfo(float).eps
    squares, vectors = squares[kept], vectors[:, kept]
    # projections of y on the left singular vectors of x
    projected = vectors.T @ y if dual else (vectors.T @ (x.T @ y)) / np.sqrt(squares)[:, None]  # (k, unit)
    grid = np.asarray(penalties, float) * (squares[-1] if len(squares) else 1.0)
    penalty = grid[np.argmin(_cross_validation(squares, projected, y, grid), axis=0)]
    if dual:
        weights = x.T @ (vectors @ (projected / (squares[:, None] + penalty)))
    else:
        weights = vectors @ (projected * np.sqrt(squares)[:, None] / (squares[:, None] + penalty))
    return weights, level - centre @ weights, penalty


def _cross_validation(squares: np.ndarray, projected: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return GCV (penalty, unit); written with p / (s^2 + p), so that nothing cancels where all images are fitted.

    Args:
        squares: (k,) s_k^2, the zeros left out.
        projected: (k, unit) of y on the left singular vectors.
        y: (image, unit) less its mean.
        grid: (penalty,).
    """
    images = len(y)
    energy = projected**2
    beyond = np.maximum((y**2).sum(0) - energy.sum(0), 0) if images - 1 > len(squares) else np.zeros(y.shape[1])
    remains = grid[:, None] / (squares + grid[:, None])  # (penalty, k)
    free = images - 1 - len(squares) + remains.sum(1)  # n - d(p)
    return images * (beyond + remains**2 @ energy) / free[:, None] ** 2


def _held_out(features: np.ndarray, responses: np.ndarray, penalties: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return r2 (unit,) = 1 - squared errors over held-out images / those of the mean of the other images."""
    order = np.random.default_rng(seed).permutation(len(features))
    errors, spread = np.zeros(responses.shape[1]), np.zeros(responses.shape[1])
    for part in np.array_split(order, folds):
        others = np.setdiff1d(order, part)
        weights, bias, _ = _fit(features[others], responses[others], penalties)
        errors += ((responses[part] - features[part] @ weights - bias) ** 2).sum(0)
        spread += ((responses[part] - responses[others].mean(0)) ** 2).sum(0)
    return 1 - np.divide(errors, spread, out=np.full(len(errors), np.nan), where=spread > 0)
