"""What a dataset varies from image to image, as numbers: where a thing lies, how large it is, how it is turned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Varied:
    """Factors of images, from which tuning is read and which are decoded.

    Args:
        values: by name of the factor (image,) float64, NaN where an image has no such factor: the turn of a disc.
        units: of each, by name.
        stepped: (image,) name of the factor that is stepped through while the others rest; None where all vary at once.
    """

    values: dict[str, np.ndarray]
    units: dict[str, str]
    stepped: np.ndarray | None = None

    def part(self, indices: Sequence[int] | np.ndarray) -> "Varied":
        """Return the factors of some of the images, in a given order."""
        chosen = np.asarray(indices, np.int64)
        values = {name: values[chosen] for name, values in self.values.items()}
        return Varied(values, self.units, None if self.stepped is None else self.stepped[chosen])
