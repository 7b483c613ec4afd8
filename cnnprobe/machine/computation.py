"""Computation: the device a network runs on, the size of its batches, the processes that load images, and the seed."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Computation:
    """What an experiment is computed with; it changes rounding and pace, and with the seed the random numbers.

    Args:
        device: where the network is, e.g. "cpu", "cuda:0".
        workers: processes that load images; 0: this one does.
        batch_size: images that pass through the network together, and are saved together.
        seed: of every random number that is drawn.
    """

    device: str = "cpu"
    workers: int = 0
    batch_size: int = 64
    seed: int = 0

    @property
    def loading(self) -> dict[str, Any]:
        """What `instruments.images.batches.batches` takes of it, by keyword."""
        return {"batch_size": self.batch_size, "device": self.device, "workers": self.workers}
