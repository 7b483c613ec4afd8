"""Recordings of several channels: a 1 / f background, and in each class an oscillation of its own in one channel.

Class k has its oscillation near frequency k of the list, in channel 2 k (counted round where there are fewer): what a
network must listen to is known, and every other channel and frequency is the same in all classes.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.imageset import ImageSet, sha256
from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.errors import UserError

DRAWING_VERSION = 1
SPLITS = ("train", "test")
COUNTS = {"train": 2000, "test": 500}


def build(
    *,
    size: Annotated[int, Range(16, 2**20)] | None,
    channels: Annotated[int, Range(1, 4096)],
    rate: Annotated[float, Range(above=0)],
    frequencies: list[Annotated[float, Range(above=0)]],
    strength: Annotated[float, Range(0)],
    spread: Annotated[float, Range(0)],
    slope: Annotated[float, Range(0, 4)],
    count: Annotated[int, Range(1, 10_000_000)] | None,
    split: Literal["train", "test"] | None,
    seed: Annotated[int, Range(0)],
) -> "Signals":
    """Return the dataset.

    Args:
        size: samples of a signal; None: 500.
        channels: of a signal.
        rate: samples per second, Hz.
        frequencies: of the oscillation of each class, Hz, below half the rate.
        strength: mean amplitude of the oscillations; the background of each channel has a standard deviation of 1.
        spread: an oscillation lies at most so far from its frequency, Hz.
        slope: power of the background falls with frequency to minus this.
        count: signals; None: 2000 to train with, 500 to test with.
        split: no signal is in both; None: test.
        seed: another one, other signals.

    Raises:
        UserError: a frequency does not lie, with its spread, between 0 and half the rate.
    """
    for frequency in frequencies:
        if not spread < frequency < rate / 2 - spread:
            raise UserError(
                f"frequencies must be above {spread:g} and below {rate / 2 - spread:g} Hz "
                f"(half of rate {rate:g}, less the spread), got {frequency:g}"
            )
    split = split or "test"
    options = {"size": size or 500, "channels": channels, "rate": rate, "frequencies": list(frequencies)}
    options |= {"strength": strength, "spread": spread, "slope": slope}
    return Signals(**options, count=count or COUNTS[split], split=split, seed=seed)


class Signals(ImageSet):
    """Signals (channel, time); signal i has class i modulo the number of frequencies. See `build`.

    Attributes:
        rate: Hz.
        planted: (class, channel, frequency in Hz) of each oscillation.
    """

    rate: float

    def __init__(self, *, count: int, split: str, seed: int, **options: Any):
        self.split, self.seed, self.options = split, seed, options
        self.channels, self.length = options["channels"], options["size"]
        self.rate = float(options["rate"])
        frequencies = options["frequencies"]
        self.planted = tuple((k, 2 * k % self.channels, float(hertz)) for k, hertz in enumerate(frequencies))
        size = (self.channels, self.length)
        super().__init__(
            name="signals",
            names=[f"signals/{split}/{number:06d}" for number in range(count)],
            labels=np.arange(count) % len(frequencies),
            classes=tuple(f"{hertz:g} Hz in channel {channel}" for _, channel, hertz in self.planted),
            size=size,
            source_size=size,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the version of the drawing and all options; nothing is drawn."""
        told = {**self.options, "count": len(self), "split": self.split, "seed": self.seed}
        return sha256("signals", str(DRAWING_VERSION), *(f"{name}={value!r}" for name, value in sorted(told.items())))

    def load_source(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Draw signals one by one: none of them depends on its batch."""
        signals = np.empty((len(indices), *self.size), np.float32)
        for row, index in enumerate(indices):
            signals[row] = self.draw(int(index))
        return torch.from_numpy(signals), np.ones(len(indices), bool)

    def draw(self, index: int) -> np.ndarray:
        """Return one signal, (channel, time) float32."""
        truth = {name: float(value) for name, value in self.truth(index).items()}
        signal = background(self.channels, self.length, self.options["slope"], self._stream(index, 1))
        turns = truth["frequency"] * np.arange(self.length) / self.rate + truth["phase"] / 360
        signal[int(truth["channel"])] += truth["amplitude"] * np.cos(2 * np.pi * turns)
        return signal.astype(np.float32)

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return channel, frequency (Hz), amplitude and phase (degrees, at the first sample) of the oscillation."""
        _, channel, hertz = self.planted[int(self.labels[index])]
        random = self._stream(index, 0)
        found = {
            "channel": channel,
            "frequency": hertz + self.options["spread"] * random.uniform(-1, 1),
            "amplitude": self.options["strength"] * random.uniform(0.5, 1.5),
            "phase": random.uniform(0, 360),
        }
        return {name: np.array(value) for name, value in found.items()}

    def _stream(self, index: int, purpose: int) -> np.random.Generator:
        return stream(self.seed, SPLITS.index(self.split), index, purpose)


def background(channels: int, length: int, slope: float, random: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls with frequency to minus `slope`, (channel, time), standard deviation 1, mean 0.

    The standard deviation is that of many signals; a single one has more or less.
    """
    frequency = np.arange(length // 2 + 1)
    amplitude = np.zeros(len(frequency))
    amplitude[1:] = frequency[1:] ** (-slope / 2)
    normal = random.standard_normal((2, channels, len(frequency)))
    spectrum = amplitude * (normal[0] + 1j * normal[1])
    share = np.full(len(frequency), 4.0)  # of the variance: two parts, at plus and minus the frequency
    if length % 2 == 0:
        spectrum[:, -1] = spectrum[:, -1].real  # at half the rate there is one part only
        share[-1] = 1.0
    deviation = np.sqrt((share * amplitude**2).sum()) / length
    return np.fft.irfft(spectrum, length) / deviation
