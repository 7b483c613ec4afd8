"""Bands of the Fourier transform of signals and images, and what is done to amplitudes and phases in them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnnprobe.errors import UserError

OPPONENT = ("luminance", "red-green", "yellow-blue")
_OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])  # orthonormal: its inverse is .T


@dataclass(frozen=True)
class Bands:
    """Which entries of a real Fourier transform (`rfft`, `rfft2`) belong together.

    The offset (frequency 0) belongs to none. An image's frequency and its negative are one: their orientations are the
    same modulo 180 degrees, so that whatever is done to a band leaves the image real.

    Args:
        frequency: (band,) centre, in `unit`.
        orientation: (band,) degrees of the wave's normal, x to the right and y downwards; NaN for signals.
        low, high: (band,) edges, low included.
        index: (y, x) or (time,) of the transform: band of each entry, -1 for none.
        sign: the same axes: -1 or 1, on which side of its band's direction an entry lies; 0 where it has no phase to
            turn (the offset, half the sampling rate).
        size: (y, x) or (time,) of what is transformed.
        unit: "cycles per px", "cycles per sample" or "Hz".
    """

    frequency: np.ndarray
    orientation: np.ndarray
    low: np.ndarray
    high: np.ndarray
    index: Tensor
    sign: Tensor
    size: tuple[int, ...]
    unit: str

    def __len__(self) -> int:
        return len(self.frequency)

    @property
    def entries(self) -> np.ndarray:
        """(band,) how many entries of the transform each band has."""
        return np.bincount(self.index[self.index >= 0].cpu().numpy(), minlength=len(self))

    @property
    def turned(self) -> np.ndarray:
        """(band,) how many of them have a phase that can be turned."""
        return np.bincount(self.index[(self.index >= 0) & (self.sign != 0)].cpu().numpy(), minlength=len(self))

    def to(self, device: str) -> "Bands":
        """Return the same with its maps on a device."""
        fixed = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Bands(**fixed | {"index": self.index.to(device), "sign": self.sign.to(device)})

    def spread(self, values: Tensor) -> Tensor:
        """Give every entry of the transform the value of its band, (…, band) to (…, *transform); 0 in no band."""
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded[..., self.index]  # -1 is the 0 behind the last band

    def spectrum(self, images: Tensor) -> Tensor:
        """Return the transform over space or time."""
        return torch.fft.rfftn(images, dim=self.axes)

    def image(self, spectrum: Tensor) -> Tensor:
        """Return what has this transform."""
        return torch.fft.irfftn(spectrum, s=self.size, dim=self.axes)

    @property
    def axes(self) -> tuple[int, ...]:
        """The last axes, those that are transformed."""
        return tuple(range(-len(self.size), 0))


def signal_bands(length: int, rate: float | None, bands: int | list[float] | None) -> Bands:
    """Return the bands of signals.

    Args:
        length: samples.
        rate: samples per second; None: frequencies are in cycles per sample.
        bands: None: every frequency of the transform is one; a number: so many of equal width from the lowest
            frequency to half the rate; a list: their edges.

    Raises:
        UserError: edges do not rise, or lie beyond half the rate.
    """
    rate, unit = (rate, "Hz") if rate else (1.0, "cycles per sample")
    frequency = np.fft.rfftfreq(length, 1 / rate)
    if bands is None:
        index = np.arange(len(frequency)) - 1
        low, high = frequency[1:] - rate / length / 2, frequency[1:] + rate / length / 2
        centre = frequency[1:]
    else:
        edges = _edges(bands, rate / length, rate / 2, "linear", unit)
        index = _between(frequency, edges)
        low, high = edges[:-1], edges[1:]
        centre = (low + high) / 2
    index[0] = -1
    sign = np.ones(len(frequency))
    sign[0] = 0
    if length % 2 == 0:
        sign[-1] = 0  # at half the rate a real signal has no phase
    nothing = np.full(len(centre), np.nan)
    return Bands(centre, nothing, low, high, torch.from_numpy(index), torch.from_numpy(sign).float(), (length,), unit)


def image_bands(size: tuple[int, int], bands: int | list[float], orientations: int, spacing: str) -> Bands:
    """Return the bands of images: rings of frequency, each cut into orientations.

    Args:
        size: (y, x) px.
        bands: how many rings between 1 cycle per image (of its longer side) and half a cycle per px, or their edges.
        orientations: how many, in equal steps over 180 degrees; the first is centred at 0 (an upright grating).
        spacing: "linear" or "octave" (logarithmic) steps of the rings.

    Raises:
        UserError: edges do not rise, or lie beyond half a cycle per px.
    """
    edges = _edges(bands, 1 / max(size), 0.5, spacing, "cycles per px")
    y, x = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    radius, step = np.hypot(y, x), 180 / orientations
    turn = np.degrees(np.arctan2(y, x)) % 180
    part = np.floor((turn + step / 2) % 180 / step).astype(np.int64).clip(max=orientations - 1)
    ring = _between(radius, edges)
    index = np.where(ring >= 0, ring * orientations + part, -1)
    normal = np.radians(part * step)
    along = x * np.cos(normal) + y * np.sin(normal)
    sign = np.where(np.abs(along) > 1e-9, np.sign(along), 0)
    sign[(np.abs(y) == 0.5) | (x == 0.5)] = 0
    low, high = (np.repeat(part, orientations) for part in (edges[:-1], edges[1:]))
    orientation = np.tile(np.arange(orientations) * step, len(edges) - 1)
    centre = np.sqrt(low * high) if spacing == "octave" else (low + high) / 2
    maps = torch.from_numpy(index), torch.from_numpy(sign).float()
    return Bands(centre, orientation, low, high, *maps, tuple(size), "cycles per px")


def _edges(bands: int | list[float], lowest: float, highest: float, spacing: str, unit: str) -> np.ndarray:
    if isinstance(bands, int):
        steps = np.linspace(0, 1, bands + 1)
        return lowest * (highest / lowest) ** steps if spacing == "octave" else lowest + (highest - lowest) * steps
    edges = np.asarray(bands, float)
    if len(edges) < 2 or (np.diff(edges) <= 0).any() or edges[0] < 0 or edges[-1] > highest * (1 + 1e-9):
        hint = "; for Hz say dataset.rate, samples per second" if unit == "cycles per sample" else ""
        raise UserError(
            f"bands must be edges that rise from 0 or more to at most {highest:g} {unit}, got {bands}{hint}"
        )
    return edges


def _between(frequency: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return between which edges each frequency lies, -1 for none; an edge belongs to the band above it, but the last.

    Edges are moved down by a trifle: the lowest is a frequency of the transform, computed in another way.
    """
    trifle = 1e-9 * edges[-1]
    found = np.searchsorted(edges - trifle, frequency, side="right") - 1
    found[found == len(edges) - 1] = -1
    found[np.abs(frequency - edges[-1]) <= trifle] = len(edges) - 2
    return found.astype(np.int64)


def scaled(spectrum: Tensor, gains: Tensor, bands: Bands) -> Tensor:
    """Multiply the amplitudes of each band, A e^gain.

    Args:
        spectrum: (image, channel, *transform).
        gains: (image, channel or 1, band), logarithms.
    """
    return spectrum * bands.spread(gains).exp()


def raised(spectrum: Tensor, noise: Tensor, bands: Bands) -> Tensor:
    """Add to the amplitudes of each band, max(A + noise, 0), phases as they are.

    Args:
        spectrum: (signal, channel, *transform).
        noise: (signal, channel, band).
    """
    amplitude = spectrum.abs()
    new = (amplitude + bands.spread(noise)).clamp(min=0)
    direction = torch.where(amplitude == 0, torch.ones_like(spectrum), spectrum / amplitude.clamp(min=1e-30))
    return direction * new


def turned(spectrum: Tensor, angles: Tensor, bands: Bands) -> Tensor:
    """Turn the phases of each band, the same in all channels.

    Args:
        spectrum: (image, channel, *transform).
        angles: (image, band), radians.
    """
    shift = bands.spread(angles)[:, None] * bands.sign
    return spectrum * torch.polar(torch.ones_like(shift), shift)


def opponent(images: Tensor, back: bool = False) -> Tensor:
    """Turn red, green, blue into luminance, red-green and yellow-blue (an orthonormal basis), or back."""
    basis = torch.as_tensor(_OPPONENT.T if back else _OPPONENT, dtype=images.dtype, device=images.device)
    return torch.einsum("oc,nc...->no...", basis, images)
