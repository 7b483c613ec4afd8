"""The similarity of two representations of the same images as a whole: linear centred kernel alignment.

Kornblith, Norouzi, Lee, Hinton (ICML 2019), section 3: the normalised Hilbert-Schmidt independence criterion of two
linear kernels. It does not change when either side is rotated or scaled, so it cannot see which unit is which. With
fewer images than features its plain form is large even between independent noise; the debiased one uses the unbiased
estimate of the criterion (Song et al. 2012, Journal of Machine Learning Research 13, equation 5).
"""

import math

import torch
from torch import Tensor

LEAST = 4
"""Images the unbiased estimate needs."""
RESOLUTION = 1e-12
"""A feature whose variance is less than this share of its mean square is constant: single precision shows no less."""


def linear_cka(first: Tensor, second: Tensor, *, debiased: bool = True) -> float:
    """Compare two representations of the same images.

    Plain: ||YᵀX||² / (||XᵀX|| ||YᵀY||), Frobenius norms, columns centred; from 0 to 1. Debiased: 0 on average for
    independent ones, so it can be negative.

    Args:
        first, second: (image, feature), as many images; features may differ in number.
        debiased: which form.

    Returns:
        1 for the same up to rotation and scale; NaN where one does not change from image to image, or where there are
        fewer than 4 images (plain: 2).

    Raises:
        ValueError: not as many images.
    """
    if len(first) != len(second):
        raise ValueError(f"representations of {len(first)} and of {len(second)} images cannot be compared")
    return alignment(gram(first), gram(second), debiased=debiased)


def gram(patterns: Tensor) -> Tensor:
    """Return the products of patterns less their mean over images, (image, image) float64, from (image, feature)."""
    values = patterns.double()
    centred = values - values.mean(0)
    varies = centred.square().mean(0) > RESOLUTION * values.square().mean(0)
    centred = centred * varies
    return centred @ centred.T


def alignment(first: Tensor, second: Tensor, *, debiased: bool = True) -> float:
    """Return what `linear_cka` does, from two matrices of `gram`."""
    images = len(first)
    if images < (LEAST if debiased else 2):
        return math.nan
    kernels = [_off_diagonal(one) if debiased else one for one in (first, second)]
    own = [float(kernel.square().sum()) for kernel in kernels]
    if not min(own) > 0:
        return math.nan
    return float((kernels[0] * kernels[1]).sum()) / math.sqrt(own[0]) / math.sqrt(own[1])


def _off_diagonal(kernel: Tensor) -> Tensor:
    """Centre a kernel without its diagonal, (image, image): rows then sum to 0 and the diagonal is 0.

    The mean product of two such matrices over n (n - 3) is the unbiased criterion (Székely and Rizzo 2014, Annals of
    Statistics 42, section 3); that factor is the same above and below.
    """
    images = len(kernel)
    bare = kernel - torch.diag(kernel.diagonal())
    rows = bare.sum(0)
    made = bare - (rows[:, None] + rows) / (images - 2) + rows.sum() / ((images - 1) * (images - 2))
    return made.fill_diagonal_(0)
