"""Ridge regression from responses to numbers of the same images, and how well it predicts what is held out.

With X (image, f) and y (image,), both less their means over images, and a penalty p:

    w(p) = (X'X + p I)^-1 X'y                                       (Hoerl, Kennard 1970)

The penalty is chosen on folds of the images: each fold is predicted from the others with every penalty of a grid, and
the one with the smallest squared errors is taken. Generalised cross-validation (Golub, Heath, Wahba 1979) costs less,
but rectified responses have images that are like no others, of which it knows too little: R² of -47 was seen for
numbers that can be predicted. All in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cnnprobe.errors import UserError

PENALTIES = np.logspace(-9, 2, 45)
"""Tried for each unit, as shares of the largest squared singular value of X."""
FOLDS = 5
"""Parts of the images on which a penalty is chosen."""
FLAT = 1e-6
"""A unit whose standard deviation is below this share of its largest |response| counts as constant (float32 noise)."""


@dataclass(frozen=True)
class Readout:
    """A linear readout: response = features @ weights + bias.

    Args:
        weights: (f, unit).
        bias: (unit,).
        penalty: (unit,) chosen, in units of squared features.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return responses (image, unit) to features (image, f)."""
        return features @ self.weights + self.bias


@dataclass(frozen=True)
class Mapping(Readout):
    """A readout with weights 0 for a constant unit, and how well it predicts.

    Args:
        r2: (unit,) share of the variance that is predicted in images held out; 0 is what the mean of the others
            predicts, NaN of a constant unit.
        constant: (unit,) bool, the unit answers all images alike and cannot be mapped.
    """

    r2: np.ndarray
    constant: np.ndarray


def ridge(
    features: np.ndarray,
    responses: np.ndarray,
    *,
    penalties: np.ndarray = PENALTIES,
    folds: int = 5,
    seed: int = 0,
) -> Mapping:
    """Fit a readout of every unit, and predict images that it is not fitted to.

    Args:
        features: (image, f).
        responses: (image, unit).
        penalties: to choose from, as shares of the largest squared singular value of the features.
        folds: parts of the images; each is predicted from all others, with a penalty chosen on those.
        seed: of the partitions.

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
    found, turned = readout(features, responses, penalties=penalties, seed=seed), coordinates(features)[0]
    found.weights[:, constant], found.bias[constant] = 0, responses.mean(0)[constant]
    r2 = _held_out(turned, responses, penalties, folds, seed)
    return Mapping(found.weights, found.bias, found.penalty, np.where(constant, np.nan, r2), constant)


def readout(
    features: np.ndarray, responses: np.ndarray, *, penalties: np.ndarray = PENALTIES, seed: int = 0
) -> Readout:
    """Fit a readout of every unit to all images.

    Args:
        features: (image, f).
        responses: (image, unit).
        penalties: to choose from, as shares of the largest squared singular value of the features.
        seed: of the folds on which each unit's penalty is chosen.
    """
    turned, axes = coordinates(np.asarray(features, np.float64))
    order = np.random.default_rng(seed).permutation(len(turned))
    weights, penalty = _fit(turned[order], responses[order], penalties)
    weights = weights if axes is None else axes @ weights
    return Readout(weights, responses.mean(0) - features.mean(0) @ weights, penalty)


def coordinates(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images in no more coordinates than there are images: regression with this penalty is the same in them.

    Args:
        features: (image, f).

    Returns:
        coordinates (image, r), and axes (f, r), orthonormal, that turn features less their mean into them; or the
        features themselves and None where they are no more than the images.
    """
    if features.shape[1] <= len(features):
        return features, None
    x = features - features.mean(0)
    squares, vectors = _spectrum(x @ x.T)
    axes = x.T @ (vectors / np.sqrt(squares))
    return vectors * np.sqrt(squares), axes


def errors_within(features: np.ndarray, values: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Return squared errors (penalty, number) of images predicted from those of other folds.

    Args:
        features: (image, f), the images in an order drawn by lots: the folds are stretches of it.
        values: (image, number).
        penalties: as shares of the largest squared singular value.
    """
    errors = np.zeros((len(penalties), values.shape[1]))
    every = np.arange(len(features))
    for own in np.array_split(every, min(FOLDS, len(features))):
        rest = np.setdiff1d(every, own)
        predicted = path(features[rest], values[rest], features[own], penalties)
        for place, found in enumerate(predicted):
            errors[place] += ((found - values[own]) ** 2).sum(0)
    return errors


def path(known: np.ndarray, values: np.ndarray, new: np.ndarray, penalties: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what is predicted for other images with each of the penalties in turn, (other image, number).

    Args:
        known: (image, f) that is learned from.
        values: (image, number) of these.
        new: (other image, f).
        penalties: as shares of the largest squared singular value of `known` less its mean.
    """
    centre, level = known.mean(0), values.mean(0)
    x = known - centre
    squares, vectors = _spectrum(x.T @ x)
    along, projected = (new - centre) @ vectors, vectors.T @ (x.T @ (values - level))
    largest = squares[-1] if len(squares) else 1.0
    for penalty in penalties:
        yield level + along @ (projected / (squares[:, None] + penalty * largest))


def _spectrum(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues above 0, ascending, and their eigenvectors."""
    squares, vectors = np.linalg.eigh(products)
    kept = squares > max(squares[-1], 0) * len(squares) * np.finfo(float).eps
    return squares[kept], vectors[:, kept]


def _varying(values: np.ndarray) -> np.ndarray:
    """Return which columns are not the same in all rows."""
    return values.std(0) > FLAT * np.abs(values).max(0)


def _fit(features: np.ndarray, responses: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (f, unit) and penalty (unit,) of images in an order drawn by lots."""
    best = errors_within(features, responses, penalties).argmin(0)
    x = features - features.mean(0)
    squares, vectors = _spectrum(x.T @ x)
    penalty = np.asarray(penalties, float)[best] * (squares[-1] if len(squares) else 1.0)
    projected = vectors.T @ (x.T @ (responses - responses.mean(0)))
    return vectors @ (projected / (squares[:, None] + penalty)), penalty


def _held_out(features: np.ndarray, responses: np.ndarray, penalties: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return r2 (unit,) = 1 - squared errors over held-out images / those of the mean of the other images."""
    order = np.random.default_rng(seed).permutation(len(features))
    errors, spread = np.zeros(responses.shape[1]), np.zeros(responses.shape[1])
    for part in np.array_split(order, folds):
        others = order[~np.isin(order, part)]
        known, level = features[others], responses[others].mean(0)
        weights, _ = _fit(known, responses[others], penalties)
        errors += ((responses[part] - level - (features[part] - known.mean(0)) @ weights) ** 2).sum(0)
        spread += ((responses[part] - level) ** 2).sum(0)
    return 1 - np.divide(errors, spread, out=np.full(len(errors), np.nan), where=spread > 0)
