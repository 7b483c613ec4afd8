"""Spatial frequencies of images and maps: where their power lies, in cycles per px.

The mean of every channel is removed, and a Hann window laid over it, before the Fourier transform. An image is not
periodic: without the window the step between its opposite borders counts as high frequencies, with a power that falls
only with the square of the frequency, so that an even rise of grey, or a grating that does not fit the image, looks far
finer than it is. The window's samples lie in the middle of the px, sin²(π (i + ½) / n), so that no px is lost, not even
of 2. What the window costs: each frequency is smeared over ±1 cycle per image, and what lies in the middle counts more.
"""

from collections.abc import Iterator

import numpy as np

RINGS = 3
"""Fewest rings of frequencies through which a slope is laid."""


def power(image: np.ndarray, axes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the power spectrum of one image, summed over channels.

    Args:
        image: (channel, y, x), or (channel, time) with axes=1; what is not finite counts as the mean.
        axes: how many of the last axes are space (or time).

    Returns:
        (frequency,) cycles per px, in whatever direction, of the entries of the transform; (frequency,) their power,
        all 0 for an image of one value.
    """
    image = np.asarray(image, np.float64)
    window = np.ones(())
    squares = np.zeros(())
    for size in image.shape[-axes:]:
        window = window[..., None] * np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
        squares = squares[..., None] + np.fft.fftfreq(size) ** 2
    total = np.zeros(image.shape[-axes:])
    for channel in image:
        known = np.isfinite(channel)
        if not known.any() or np.ptp(channel[known]) == 0:
            continue
        weights = window * known
        mean = (weights * np.where(known, channel, 0)).sum() / weights.sum()  # as the window sees it: no power at 0
        total += np.abs(np.fft.fftn(np.where(known, channel - mean, 0) * window)) ** 2
    total.flat[0] = 0
    return np.sqrt(squares).ravel(), total.ravel()


def centroid(images: np.ndarray, axes: int = 2) -> np.ndarray:
    """Return the radial centroid of the power spectrum: the mean frequency, each weighted by its power.

    Args:
        images: (…, channel, y, x), or (…, channel, time) with axes=1.
        axes: how many of the last axes are space (or time).

    Returns:
        (…) cycles per px; white noise of two axes has 0.383. NaN for an image of one value, or of none.
    """
    found = [(frequency * share).sum() if share is not None else np.nan for frequency, share in _shares(images, axes)]
    return np.reshape(found, np.shape(images)[: -axes - 1])


def low_share(images: np.ndarray, below: float, axes: int = 2) -> np.ndarray:
    """Return which share of the power lies under a frequency.

    Args:
        images: (…, channel, y, x), or (…, channel, time) with axes=1.
        below: cycles per px.
        axes: how many of the last axes are space (or time).

    Returns:
        (…) 0 to 1; NaN for an image of one value, or of none.
    """
    found = [
        share[frequency < below].sum() if share is not None else np.nan for frequency, share in _shares(images, axes)
    ]
    return np.reshape(found, np.shape(images)[: -axes - 1])


def slope(images: np.ndarray, axes: int = 2) -> np.ndarray:
    """Return the slope of log amplitude against log frequency: about -1 for photographs (Field 1987), 0 for noise.

    The amplitude of a ring is the root of the mean power in it. Rings are one cycle per image wide (of its shorter
    side) and go from 2 cycles per image, below which the window changes too much, to half a cycle per px; each weighs
    the same.

    Args:
        images: (…, channel, y, x), or (…, channel, time) with axes=1.
        axes: how many of the last axes are space (or time).

    Returns:
        (…) NaN for an image of one value, of none, or too small for three rings.
    """
    side = min(np.shape(images)[-axes:])
    found = []
    for frequency, share in _shares(images, axes):
        if share is None:
            found.append(np.nan)
            continue
        ring = np.rint(frequency * side).astype(int)
        ring[frequency > 0.5] = 0
        sums, counts = np.bincount(ring, share), np.bincount(ring)
        rings = np.arange(2, len(sums))
        rings = rings[sums[2:] > 0]
        if len(rings) < RINGS:
            found.append(np.nan)
            continue
        amplitude = np.sqrt(sums[rings] / counts[rings])
        found.append(np.polyfit(np.log(rings), np.log(amplitude), 1)[0])
    return np.reshape(found, np.shape(images)[: -axes - 1])


def _shares(images: np.ndarray, axes: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Give of each image the frequencies and the share of the power at each, None for an image without any.

    Raises:
        ValueError: there is no axis of channels.
    """
    images = np.asarray(images)
    if images.ndim <= axes:
        raise ValueError(f"images need channels and {axes} axes of px, got shape {images.shape}")
    count = int(np.prod(images.shape[: -axes - 1]))
    for image in images.reshape(count, *images.shape[-axes - 1 :]):
        frequency, amount = power(image, axes)
        total = amount.sum()
        yield frequency, amount / total if total > 0 else None
