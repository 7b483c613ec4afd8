"""Gratings: every orientation with every spatial frequency, phase and contrast; the class is the orientation.

The brightness of a pixel is 0.5 + 0.5 c cos(2 pi f (x cos a + y sin a) / side + p), with x to the right and y downwards
in px from the image's middle, and angle a from 0 to 180 degrees. The bars of the grating with a = 0 stand upright.
"""

from itertools import product
from typing import Annotated

import numpy as np

from cnnprobe.config.options import Range
from cnnprobe.datasets.base.names import must_be_few
from cnnprobe.datasets.rendering.drawn import Drawn, must_differ
from cnnprobe.errors import UserError

DRAWING_VERSION = 1


def build(
    *,
    size: Annotated[int, Range(8, 1024)] | None,
    orientations: Annotated[int, Range(1, 360)],
    frequencies: list[Annotated[float, Range(above=0)]],
    phases: Annotated[int, Range(1, 360)],
    contrasts: list[Annotated[float, Range(above=0, maximum=1)]],
) -> "Gratings":
    """Return the dataset.

    Args:
        size: height and width, px; None: 64.
        orientations: how many, in equal steps over 180 degrees from 0.
        frequencies: cycles per image, at most half the size.
        phases: how many, in equal steps over 360 degrees from 0.
        contrasts: 1: from black to white.

    Raises:
        UserError: a frequency is above half the size and would look like a lower one, a value is there twice, or there
            would be too many images.
    """
    side = size or 64
    must_differ("frequencies", frequencies)
    must_differ("contrasts", contrasts)
    for frequency in frequencies:
        if frequency > side / 2:
            raise UserError(
                f"frequencies must be at most {side / 2:g} cycles per image (half of size {side}), got {frequency}"
            )
    count = orientations * len(frequencies) * phases * len(contrasts)
    must_be_few(count, "dataset.orientations, frequencies, phases and contrasts")
    return Gratings(side=side, orientations=orientations, frequencies=frequencies, phases=phases, contrasts=contrasts)


class Gratings(Drawn):
    """All combinations; the phase changes quickest, then contrast, frequency, orientation.

    Attributes:
        factors: (image, 4) float64: orientation (degrees), frequency (cycles per image), contrast, phase (degrees).
    """

    def __init__(self, *, side: int, orientations: int, frequencies: list[float], phases: int, contrasts: list[float]):
        angles = [180 * step / orientations for step in range(orientations)]
        turns = [360 * step / phases for step in range(phases)]
        self.factors = np.array(list(product(angles, frequencies, contrasts, turns)), float)
        super().__init__(
            version=DRAWING_VERSION,
            options={
                "size": side,
                "orientations": orientations,
                "frequencies": list(frequencies),
                "phases": phases,
                "contrasts": list(contrasts),
            },
            side=side,
            name="gratings",
            names=[
                f"gratings/{angle:g}-degrees/{frequency:g}-cycles/contrast-{contrast:g}/phase-{turn:g}"
                for angle, frequency, contrast, turn in self.factors
            ],
            labels=np.arange(len(self.factors)) // (len(self.factors) // orientations),
            classes=tuple(f"{angle:g} degrees" for angle in angles),
        )

    def draw(self, index: int) -> np.ndarray:
        """Return one image, (channel, y, x) float32 0 to 1, the same in all channels."""
        angle, frequency, contrast, turn = self.factors[index]
        brightness = 0.5 + 0.5 * contrast * wave(self.side, angle, frequency, turn)
        return np.broadcast_to(brightness.astype(np.float32), self.size).copy()

    def truth(self, index: int) -> dict[str, np.ndarray]:
        """Return the factors: orientation and phase (degrees), frequency (cycles per image), contrast (0 to 1)."""
        names = ("orientation", "frequency", "contrast", "phase")
        return {name: np.array(value) for name, value in zip(names, self.factors[index])}


def wave(side: int, orientation: float, cycles: float, phase: float) -> np.ndarray:
    """Return a cosine wave about the image's middle, (y, x) float64 -1 to 1.

    Args:
        side: of the image, px.
        orientation: of the direction in which it runs, degrees from x (right) to y (down).
        cycles: per side of the image.
        phase: in the middle, degrees.
    """
    place = np.arange(side) - (side - 1) / 2
    along = place * np.cos(np.radians(orientation)) + place[:, None] * np.sin(np.radians(orientation))
    return np.cos(2 * np.pi * cycles / side * along + np.radians(phase))
