"""Networks that write into their own activations and outputs, read their images, have hooks of their own.

All compute `by_hand`, which does nothing of that.
"""

import torch
from torch import Tensor, nn

SIDE = 12


class Rewriting(nn.Module):
    """A residual block before a readout.

    Args:
        does: any of "writes" (into what is read before), "reads" (its images, so that they pass one by one), "hooked"
            (the layer `b` has a forward hook that changes what it returns).
        ends: of itself, "", "softmax" or "sigmoid".
    """

    def __init__(self, does: str = "", ends: str = "", classes: int = 4):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.out, self.does, self.ends = nn.Linear(6, classes), does, ends
        self.out.weight.data *= 20
        with torch.no_grad():
            if "hooked" in does:
                self.b.register_forward_hook(_changes)
            self.out.bias -= self.by_hand(shown())[0].mean(0)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if "reads" in self.does and images.max() > 9:
            images = images / 9
        before = self.a(images).relu()
        maps = self.b(before)
        if "writes" not in self.does:
            return self._ended(self.out((maps + before).relu().mean((2, 3))))
        maps += before
        return self._ended(self.out(maps.relu_().mean((2, 3))))

    def _ended(self, scores: Tensor) -> Tensor:
        if self.ends == "softmax":
            return scores.copy_(scores.softmax(1)) if "writes" in self.does else scores.softmax(1)
        if self.ends == "sigmoid":
            return scores.sigmoid_() if "writes" in self.does else scores.sigmoid()
        return scores

    def by_hand(self, images: Tensor, instead: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return scores, before a softmax or sigmoid, and what `b` gives, or what stands `instead` of that."""
        before = torch.conv2d(images, self.a.weight, self.a.bias, padding=1).relu()
        maps = torch.conv2d(before, self.b.weight, self.b.bias, padding=1)
        maps = maps * 2 + 1 if "hooked" in self.does else maps
        maps = maps if instead is None else instead
        return (maps + before).relu().mean((2, 3)) @ self.out.weight.T + self.out.bias, maps


def _changes(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return output * 2 + 1


def shown(count: int = 7) -> Tensor:
    """Return (image, channel, y, x), 0 to 1."""
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


EVERY = [
    (does, ends)
    for ends in ("", "softmax", "sigmoid")
    for does in ("writes", "reads", "reads writes", "hooked", "hooked writes", "reads hooked writes")
]
