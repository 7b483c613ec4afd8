"""Steps of a batch of rows along its gradient: Adam and NAdam, and the plain steps of published ascents.

Each row's step hangs on its own gradient alone.
"""

import numpy as np
import torch
from torch import Tensor

from cnnprobe.methods.optimize.ascent.presets import Settings


def stepper(settings: Settings, values: Tensor) -> "Moments | Plain":
    """Return what the settings ask for, for values (row, …) that need a gradient."""
    return Moments(settings, values) if settings.optimiser in ("adam", "nadam") else Plain(settings)


class Moments:
    """Adam (Kingma, Ba 2015) or NAdam (Dozat 2016), as torch has them, for all rows at once.

    Args:
        settings: optimiser, lr, weight_decay.
        values: (row, …).
    """

    def __init__(self, settings: Settings, values: Tensor):
        self.settings = settings
        self.optimiser = self._made(values)

    def _made(self, values: Tensor) -> torch.optim.Optimizer:
        given = {"lr": self.settings.lr, "weight_decay": self.settings.weight_decay, "maximize": True}
        if self.settings.optimiser == "adam":
            return torch.optim.Adam([values], fused=True, **given)
        return torch.optim.NAdam([values], **given)

    def step(self, values: Tensor, gradient: Tensor, _: Tensor) -> None:
        """Change the values in place."""
        values.grad = gradient.contiguous()
        self.optimiser.step()
        values.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return what is remembered of the steps so far, for `restore`."""
        return dict(next(iter(self.optimiser.state.values()), {}))

    def restore(self, values: Tensor, state: dict[str, np.ndarray]) -> None:
        """Go on with values that another stepper has brought so far."""
        self.optimiser = self._made(values)
        on_device = self.settings.optimiser == "adam"  # the fused one counts its steps there
        kept = {name: torch.from_numpy(np.array(item)) for name, item in state.items()}
        kept = {name: item.to(values.device) if item.dim() or on_device else item for name, item in kept.items()}
        if kept:
            self.optimiser.state[values] = kept

    def keep(self, values: Tensor, rows: Tensor) -> None:
        """Go on with some rows, whose values are handed over."""
        ((old, state),) = self.optimiser.state.items()
        kept = {
            key: item[rows] if isinstance(item, Tensor) and item.shape == old.shape and item.dim() else item
            for key, item in state.items()
        }
        self.optimiser = self._made(values)
        self.optimiser.state[values] = kept


class Plain:
    """The gradient times a number: constant, or chosen by the gradient's norm (Yosinski et al. 2015).

    Args:
        settings: optimiser, lr, desired, late.
    """

    def __init__(self, settings: Settings):
        self.settings = settings

    def step(self, values: Tensor, gradient: Tensor, value: Tensor) -> None:
        """Change the values in place.

        Args:
            values, gradient: (row, …).
            value: (row,) of the objective.
        """
        size = self._size(gradient, value)
        values.addcmul_(gradient, size.expand_as(gradient)) if isinstance(size, Tensor) else values.add_(
            gradient * size
        )

    def _size(self, gradient: Tensor, value: Tensor) -> Tensor | float:
        settings, kind = self.settings, self.settings.optimiser
        if kind == "constant":
            return settings.lr
        square = gradient.flatten(1).square()
        shape = (-1, *[1] * (gradient.dim() - 1))
        if kind == "normalised":
            return (settings.lr / square.mean(1).sqrt().clamp(min=1e-30)).view(shape)
        gain = torch.full_like(value, settings.desired)
        if kind == "progress01":
            gain = torch.minimum(gain, settings.late * (1 - value)).clamp(min=0)
        return (gain / square.sum(1).clamp(min=1e-30)).clamp(max=settings.lr).view(shape)

    def state(self) -> dict[str, Tensor]:
        """Return nothing: no step is remembered."""
        return {}

    def restore(self, values: Tensor, state: dict[str, np.ndarray]) -> None:
        """Go on; nothing is remembered."""

    def keep(self, values: Tensor, rows: Tensor) -> None:
        """Go on with some rows; nothing is remembered of any."""
