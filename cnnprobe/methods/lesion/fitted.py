"""What maps of classes and courses have in common: outputs that fit what is true of an image more or less well."""

import numpy as np
import torch
from torch import Tensor


class Fitted:
    """Outputs of a network that gives more than one score a class, read as `kinds.Outputs` reads those of classes.

    Attributes:
        shape: of the output, (class, y, x) or (channel, time).
        names: of the classes or channels, () where unknown.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of scores of an image."""
        return int(np.prod(self.shape))

    @property
    def counted(self) -> int:
        """Number of classes of a pixel, or of channels."""
        return self.shape[0]

    @property
    def all_names(self) -> list[str]:
        """Names of the classes or channels, their numbers where these are unknown."""
        return list(self.names) or [str(place) for place in range(self.counted)]

    def scores(self, returned: Tensor, before: Tensor | None = None) -> Tensor:
        """Return what a network returned as (image, score)."""
        return returned.flatten(1)

    def chosen(self, scores: Tensor) -> Tensor:
        """Return -1 for every image: it is no class that is decided for."""
        return torch.full((len(scores),), -1, device=scores.device)
